"""The pictures of the benchmarks, drawn from their record."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..report import plots
from .tables import shown

Record = dict[str, Any]
TICKS = (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
COLORS = {
    "stateful": plots.VERMILLION,
    "torch.func": plots.ORANGE,
    "JAX": plots.GREEN,
    "matrix": plots.BLACK,
}
OURS = {"funcreg jit": plots.BLUE, "funcreg vmap": plots.SKY, "funcreg eager": plots.SKY}


def draw(record: Record) -> dict[str, Figure]:
    """By the name of its file."""
    drawn = {"bench": _ratios(record["workloads"])} if record["workloads"] else {}
    return {**drawn, "growth": _growth(record["growth"])} if record["growth"] else drawn


def _ratios(workloads: list[Record]) -> Figure:
    """How many times as fast as each other contender funcreg is, with quartiles and targets."""
    rows = [(workload, each) for workload in workloads for each in shown(workload)]
    figure, grid = plots.canvas(caption="", width=9.0, height=0.26 * len(rows) + 1.2)
    axes, labels, above = grid[0, 0], [], None
    for row, (workload, each) in enumerate(rows):
        families = (family for family in COLORS if family in each["against"] or family in each["baseline"])
        color = COLORS[next(families, "stateful")]  # a step alone is plain PyTorch
        # From 1, as fast: on a log scale only a bar from there has a length that means something.
        axes.barh(row, each["median"] - 1, left=1.0, color=color, height=0.62)
        axes.plot([each["low"], each["high"]], [row, row], color="black", linewidth=1.5)
        right = max(each["median"], each["high"], each["target"] or 0, 1)
        axes.text(right * 1.06, row, f"{each['median']:.3g}", va="center", fontsize=8)
        if each["target"] is not None:
            axes.plot([each["target"]] * 2, [row - 0.45, row + 0.45], color="black", linewidth=2.5)
        if workload is not above:
            axes.axhline(row - 0.5, color="#bbbbbb", linewidth=0.8)
        mine = each["contender"].removeprefix("funcreg ")
        labels.append(f"{workload['name'] if workload is not above else ''}  {mine} / {each['baseline']}")
        above = workload
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(right=1.25 * axes.get_xlim()[1])
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS], minor=False)
    axes.minorticks_off()
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("times as fast (log scale; thin line: quartiles, thick tick: target)")
    return figure


def _growth(rows: list[Record]) -> Figure:
    """Time above, memory below, a column an axis."""
    names = list(dict.fromkeys(row["axis"] for row in rows))
    figure, grid = plots.canvas(2, len(names), caption="", width=3.6 * len(names), height=6.4, sharex="col")
    for column, name in enumerate(names):
        mine = [row for row in rows if row["axis"] == name]
        for axes, quantity, scale in ((grid[0, column], "seconds", 1e3), (grid[1, column], "mib", 1.0)):
            _lines(axes, mine, quantity, scale)
        grid[0, column].set_title(mine[0]["question"].replace(", ", ",\n", 1), fontsize=9)
        grid[1, column].set_xlabel(name)
    grid[0, 0].set_ylabel("milliseconds a call")
    grid[1, 0].set_ylabel("MiB that a call adds")
    return figure


def _lines(axes: Axes, rows: list[Record], quantity: str, scale: float) -> None:
    ends: list[tuple[float, float, str, str]] = []
    for index, row in enumerate(rows):
        points = [(point["value"], scale * point[quantity]) for point in row["points"] if point[quantity]]
        if not points:
            continue
        name = row["contender"]
        family = next(family for family in (*OURS, *COLORS) if name.startswith(family))
        color = OURS.get(family) or COLORS[family]
        axes.plot(*zip(*points, strict=True), color=color, linestyle=plots.LINES[index % 6], marker="o", markersize=3.5)
        ends.append((*points[-1], name, color))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks([point["value"] for point in rows[0]["points"]])
    plots.counting(axes.xaxis)
    plots.counting(axes.yaxis)
    _label(axes, ends)


def _label(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Each line's name at its end, moved up where the one below is too near; the axis leaves room for the highest."""
    if not ends:
        return
    low, high = axes.get_ylim()
    gap = (high / low) ** 0.065
    at = 0.0
    axes.set_xlim(right=max(x for x, *_ in ends) * (axes.get_xlim()[1] / axes.get_xlim()[0]) ** 0.5)
    for x, y, name, color in sorted(ends, key=lambda end: end[1]):
        at = max(y, at * gap)
        axes.text(x * 1.15, at, name, color=color, fontsize=8, va="center")
    axes.set_ylim(top=max(high, at * gap**0.6))
