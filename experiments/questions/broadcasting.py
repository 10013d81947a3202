"""Adding a row to a table of numbers: what does copying it first (`repeat`) cost against a view of it (`expand`)?

Part: C
Command: python -m experiments run broadcasting
Runtime: smoke 1 s, quick 1 s, full 15 s (2 CPU cores)
Answer: the copy, and nothing else: 5,000,000 sums are equal to the bit, from 4,000 bytes and from 20,000,000.
    Building and adding takes repeat 2.6 times as long (95% 2.5 to 2.7, n = 30 rounds), adding alone, once built, 1.8
    times (1.7 to 1.8). The rule of shapes holds for all 1,600 pairs tried.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.func import grad

import funcreg as fr

from ..harness.context import Context
from ..harness.stopwatch import interleaved, ratio
from ..report import plots
from ..report.estimates import estimate, number
from ..report.result import Claim, Result, Table

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    """A table of rows x columns, to which one row is added; shapes of up to `axes` axes of 1, 2 or 3 are all tried."""

    rows: int = 5_000
    columns: int = 1_000
    rounds: int = 30
    axes: int = 3


PRESETS = {"smoke": Settings(rounds=5, axes=2), "quick": Settings(), "full": Settings(rounds=100, axes=4)}
_EXAMPLES: tuple[tuple[Shape, Shape], ...] = (
    ((5000, 1000), (1000,)),
    ((5000, 1000), (1, 1000)),
    ((5000, 1000), (5000, 1)),
    ((5000, 1000), (5000,)),
    ((5000, 1000), ()),
    ((5000, 1), (1, 1000)),
    ((32, 3, 28, 28), (3, 1, 1)),
    ((32, 3, 28, 28), (3,)),
    ((8, 1, 6, 1), (7, 1, 5)),
    ((2, 3), (3, 2)),
    ((0, 4), (1, 4)),
    ((0, 4), (2, 4)),
)


def main(settings: Settings, context: Context) -> Result:
    """Compare results, storage and times of both; then try the rule of shapes on all small ones."""
    table_key, row_key, target_key = context.keys(3)
    table = fr.random.normal(table_key, (settings.rows, settings.columns))
    row = fr.random.normal(row_key, (settings.columns,))
    values = {
        "shape": [settings.rows, settings.columns],
        "same": _same(table, row, fr.random.normal(target_key, table.shape)),
        "storage": {name: _storage(build(row, table), row) for name, build in _WAYS.items()},
        "shapes": _shapes(settings.axes),
        "examples": [_example(*pair) for pair in _EXAMPLES],
        "trap": _trap(row),
        "timing": _times(table, row, settings, context.device),
    }
    source = f"generated: a table of {settings.rows:,} x {settings.columns:,} numbers and one row, N(0, 1), float32"
    return Result(values, _claims(values), _tables(values), [source])


# Each way to bring the row to the table's shape before the addition.
_WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "broadcasting": lambda row, table: row,
    "expand": lambda row, table: row.expand(table.shape),
    "repeat": lambda row, table: row.repeat(len(table), 1),
}


def _same(table: Tensor, row: Tensor, target: Tensor) -> dict[str, Any]:
    """Whether all ways give the same sum, to the bit, and how far their gradients for the row are apart."""
    sums = {name: table + build(row, table) for name, build in _WAYS.items()}
    gradients = {
        name: grad(lambda r, build=build: fr.losses.mse(table + build(r, table), target))(row)
        for name, build in _WAYS.items()
    }
    largest = max(float((gradients[name] - gradients["repeat"]).abs().max()) for name in _WAYS)
    return {
        "equal": all(torch.equal(sums["repeat"], each) for each in sums.values()),
        "numbers": table.numel(),
        "gradient_difference": largest,
        "gradient": float(gradients["repeat"].abs().max()),
    }


def _storage(built: Tensor, row: Tensor) -> dict[str, Any]:
    """The memory behind a tensor, and whether it is the row's own."""
    return {
        "shape": list(built.shape),
        "strides": list(built.stride()),
        "shares": built.untyped_storage().data_ptr() == row.untyped_storage().data_ptr(),
        "bytes": built.untyped_storage().nbytes(),
        "numbers": built.numel(),
    }


def _rule(first: Shape, second: Shape) -> Shape | None:
    """NumPy's rule: from the right, two lengths must be equal or one of them 1; a missing axis counts as 1."""
    pairs = list(itertools.zip_longest(reversed(first), reversed(second), fillvalue=1))
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        return None
    return tuple(b if a == 1 else a for a, b in reversed(pairs))


def _tried(first: Shape, second: Shape) -> Shape | None:
    """The shape of a sum, by adding; None where torch refuses."""
    try:
        return tuple((torch.zeros(()).expand(first) + torch.zeros(()).expand(second)).shape)
    except RuntimeError:
        return None


def _shapes(axes: int) -> dict[str, int]:
    """All pairs of shapes of up to so many axes, each of length 1, 2 or 3: the rule against torch."""
    shapes = [shape for n in range(axes + 1) for shape in itertools.product((1, 2, 3), repeat=n)]
    pairs = list(itertools.product(shapes, shapes))
    agree = sum(_rule(*pair) == _tried(*pair) for pair in pairs)
    compatible = sum(_rule(*pair) is not None for pair in pairs)
    return {"shapes": len(shapes), "pairs": len(pairs), "agree": agree, "compatible": compatible, "axes": axes}


def _example(first: Shape, second: Shape) -> dict[str, Any]:
    return {"first": first, "second": second, "rule": _rule(first, second), "torch": _tried(first, second)}


def _trap(row: Tensor) -> dict[str, Any]:
    """A column of predictions and a row of targets: what torch's arithmetic and funcreg's losses make of them."""
    predictions, targets = row.unsqueeze(1), row  # equal numbers: the right loss is 0
    silent = (predictions - targets).square()
    try:
        refused = f"gave {float(fr.losses.mse(predictions, targets)):.3g}"
    except fr.FuncregError as error:
        refused = str(error)
    return {"shape": list(silent.shape), "loss": float(silent.mean()), "funcreg": refused}


def _times(table: Tensor, row: Tensor, settings: Settings, device: torch.device) -> dict[str, Any]:
    """Milliseconds to build each tensor, to add it, and both at once."""
    built = {name: build(row, table) for name, build in _WAYS.items()}
    work: dict[str, Callable[[], object]] = {}
    for name, build in _WAYS.items():
        work[f"{name}: add"] = lambda each=built[name]: table + each
        if name != "broadcasting":  # which builds nothing
            work[f"{name}: build"] = lambda build=build: build(row, table)
            work[f"{name}: both"] = lambda build=build: table + build(row, table)
    return interleaved(work, rounds=settings.rounds, device=device)


def _claims(values: dict[str, Any]) -> list[Claim]:
    same, storage, shapes, trap = values["same"], values["storage"], values["shapes"], values["trap"]
    view, copy = storage["expand"], storage["repeat"]
    relative = same["gradient_difference"] / same["gradient"]
    rows = values["shape"][0]
    return [
        Claim(
            f"expand gives repeat's result without its copy: it shares the row's storage, 1/{rows:,} of the bytes",
            f"{same['numbers']:,} sums equal to the bit; {view['bytes']:,} against {copy['bytes']:,} bytes "
            "(n = 1 exact comparison)",
            same["equal"] and view["shares"] and not copy["shares"] and view["bytes"] * rows == copy["bytes"],
            {"expand_bytes": view["bytes"], "repeat_bytes": copy["bytes"], "n": 1},
        ),
        Claim(
            "Their gradients for the row are the same, to rounding",
            f"largest difference {relative:.1g} of the largest gradient (float32)",
            relative < 1e-5,
            {"relative": relative, "n": len(values["storage"])},
        ),
        Claim(
            "Two shapes fit exactly when, from the right, their lengths are equal or one is 1",
            f"torch agrees with the rule on {shapes['agree']:,} of all {shapes['pairs']:,} pairs of shapes of up to "
            f"{shapes['axes']} axes of 1, 2 or 3, {shapes['compatible']:,} of which fit; and on the table's "
            f"{len(values['examples'])}",
            shapes["agree"] == shapes["pairs"] and all(e["rule"] == e["torch"] for e in values["examples"]),
            shapes,
        ),
        Claim(
            "Shapes that fit by mistake give a wrong loss in silence; funcreg's losses refuse them",
            f"(N, 1) less (N,) is {_shape(trap['shape'])}: a loss of {number(trap['loss'])} for predictions without "
            f"any error; fr.losses.mse: {trap['funcreg']}",
            trap["loss"] > 0.1 and "expected" in trap["funcreg"],
            {"loss": trap["loss"], "n": trap["shape"][0]},
        ),
        *_time_claims(values["timing"]),
    ]


def _time_claims(times: dict[str, list[float]]) -> list[Claim]:
    claims = []
    for what, text in (
        ("build", "expand is built faster than repeat"),
        ("add", "Once built, the view is added faster than the copy"),
        ("both", "Building and adding, expand is faster than repeat"),
    ):
        slower = ratio(times[f"repeat: {what}"], times[f"expand: {what}"])
        view, copy = estimate(times[f"expand: {what}"]), estimate(times[f"repeat: {what}"])
        claims.append(
            Claim(
                text,
                f"{number(view.mean)} against {number(copy.mean)} ms; repeat takes {number(slower.mean)} times as long "
                f"(geometric mean of n = {slower.n} rounds; 95% {number(slower.low)} to {number(slower.high)})",
                slower.above(1),
                {"timing": slower._asdict()},
            )
        )
    return claims


def _tables(values: dict[str, Any]) -> list[Table]:
    ways = [
        (
            name,
            _shape(each["shape"]),
            _shape(each["strides"]),
            "yes" if each["shares"] else "no",
            *(each["bytes"], each["numbers"]),
        )
        for name, each in values["storage"].items()
    ]
    examples = [
        (
            _shape(each["first"]),
            _shape(each["second"]),
            "refused" if each["torch"] is None else _shape(each["torch"]),
            "yes" if each["rule"] == each["torch"] else "no",
        )
        for each in values["examples"]
    ]
    heads = ("way", "shape", "strides", "shares the row's storage", "bytes", "numbers seen")
    return [
        Table("What is added to the table", heads, ways),
        Table("Which shapes fit", ("one", "other", "sum", "as the rule says"), examples),
    ]


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def figures(result: Result) -> dict[str, Figure]:
    """The strides of both, as memory; and the times."""
    return {"storage": _draw_storage(result.values), "times": _draw_times(result.values["timing"])}


def _draw_storage(values: dict[str, Any]) -> Figure:
    view, copy = values["storage"]["expand"], values["storage"]["repeat"]
    rows, columns = 4, 6
    figure, axes = plots.canvas(
        1,
        2,
        height=2.9,
        caption="What a tensor of rows reads in memory, drawn for 4 rows of 6 numbers. Cells of one colour are one "
        "place in memory: with expand (stride 0) all rows are one row; with repeat each has its own.",
    )
    for axis, name, each in ((axes[0, 0], "expand", view), (axes[0, 1], "repeat", copy)):
        for row, column in itertools.product(range(rows), range(columns)):
            place = column if each["strides"][0] == 0 else row * columns + column
            color = plots.PALETTE[place % columns]
            alpha = 0.85 if each["strides"][0] == 0 else 0.85 - 0.2 * row
            axis.add_patch(Rectangle((column, rows - 1 - row), 1, 1, facecolor=color, alpha=alpha, edgecolor="white"))
            axis.text(column + 0.5, rows - 0.5 - row, str(place), ha="center", va="center", fontsize=10)
        axis.set(xlim=(0, columns), ylim=(0, rows), aspect="equal", xlabel="column")
        axis.set_xticks([])
        axis.set_yticks([i + 0.5 for i in range(rows)], [str(rows - i) for i in range(rows)])
        axis.grid(False)
        axis.set_title(f"{name}: {each['bytes']:,} bytes", fontsize=11)
    axes[0, 0].set_ylabel("row")
    return figure


def _draw_times(times: dict[str, list[float]]) -> Figure:
    figure, axes = plots.canvas(
        height=4.0,
        caption=f"Milliseconds, logarithmic (n = {len(times['expand: build'])} interleaved rounds: a dot each; the "
        "diamond is the mean with its 95% interval). A view costs microseconds to build, a copy as much as the "
        "addition itself.",
    )
    axis = axes[0, 0]
    colors = {"broadcasting": plots.GREEN, "expand": plots.BLUE, "repeat": plots.VERMILLION}
    names = sorted(times, key=lambda name: ("build", "add", "both").index(name.split(": ")[1]))
    plots.strip(axis, names, [times[name] for name in names], colors=[colors[name.split(":")[0]] for name in names])
    axis.set(xscale="log", xlabel="time (ms)")
    plots.counting(axis.xaxis)
    return figure
