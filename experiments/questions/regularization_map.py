"""Where on the map of dropout rate x weight decay does a small network generalise best, and do the two add up?

Part: B
Command: python -m experiments run regularization-map
Runtime: smoke 1 s, quick 28 s, full 90 s (2 CPU cores)
Answer: nowhere better than without by half a point (n = 1,024 seeds, --members 1024 --at-once, taken after 128 had left
    two claims undecided): the best point, chosen on half of the seeds, changes validation accuracy on the others by
    0.04 points (95% -0.10 to 0.18, undecided), and dropout and decay together cost 0.49 (0.23 to 0.74) against the best
    of either alone; but the validation loss falls by 0.055 (0.037 to 0.073) with decay 0.003. The gap shrinks with the
    rate and with the decay, and where it is smallest accuracy is 2.18 points lower (1.82 to 2.55). One compiled program
    trains the 36,864 models in 276 s of one core, while others ran on the second; a loop of plain PyTorch would have
    taken 7.6 times as long (2092 s, 2028 to 2156), extrapolated from 16 runs.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ..benchmarks import stateful
from ..data import quadratic
from ..harness.context import Context
from ..parts import toy_tasks
from ..parts.arms import Arms
from ..parts.toy_tasks import Task
from ..report import plots
from ..report.claims import is_larger
from ..report.estimates import Estimate, estimate, number
from ..report.result import Claim, Result, Table

Cell = tuple[int, int]


@dataclass(frozen=True)
class Settings:
    """Every rate x every decay, the first of each being none, on the same `seeds`; `timed` runs of the loop's body."""

    seeds: int = 32
    rates: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
    decays: tuple[float, ...] = (0.0, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    task: Task = toy_tasks.DEEP
    timed: int = 16
    jit: bool = True


PRESETS = {
    "smoke": Settings(
        seeds=4, rates=(0.0, 0.5), decays=(0.0, 1e-2), task=replace(toy_tasks.DEEP, epochs=5), timed=2, jit=False
    ),
    "quick": Settings(),
    "full": Settings(
        seeds=128,
        rates=tuple(i / 10 for i in range(9)),
        decays=(0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    ),
}


def main(settings: Settings, context: Context) -> Result:
    """Train the map and its seeds as the members of one program; time what it replaces."""
    (key,) = context.keys(1)
    grid = itertools.product(settings.rates, settings.decays)
    arms = Arms({f"{rate:g}, {decay:g}": {"rate": rate, "decay": decay} for rate, decay in grid}, settings.seeds)
    start = time.perf_counter()
    ends = toy_tasks.at_end(toy_tasks.train(settings.task, arms, key, context, jit=settings.jit))
    validation = ends["validation_accuracy"].cpu()  # read here: a GPU has done its work
    seconds = time.perf_counter() - start
    shape = (len(settings.rates), len(settings.decays), settings.seeds)
    measured = {
        "validation_accuracy": 100 * validation.double().reshape(shape),
        "gap": toy_tasks.gap(ends).cpu().double().reshape(shape),
        "validation_loss": ends["validation_loss"].cpu().double().reshape(shape),
    }
    values = {
        "rates": settings.rates,
        "decays": settings.decays,
        "seeds": settings.seeds,
        **toy_tasks.counts(ends, settings.task),
        "validation_loss": [estimate(seeds.tolist()) for seeds in measured["validation_loss"].flatten(0, 1)],
        "timing": {
            "models": arms.members,
            "program": seconds,
            "runs": _single_runs(settings, key, context),
        },
    }
    claims = [*_claims(measured, settings), _timing_claim(values["timing"], settings)]
    tables = [_table(measured, settings), _timing_table(values["timing"], settings)]
    return Result(values, claims, tables, [settings.task.source])


def _single_runs(settings: Settings, key: Tensor, context: Context) -> list[float]:
    """Seconds that plain, stateful PyTorch takes to train one model of the map, a few times; evaluation not counted."""
    task, seconds = settings.task, []
    x, y = quadratic(key, task.train, tilt=task.tilt, threshold=task.threshold)
    decay = settings.decays[-1]
    with torch.random.fork_rng():
        for _ in range(settings.timed + 1):
            start = time.perf_counter()
            module = stateful.mlp(task.widths, settings.rates[-1]).to(context.device)
            step = stateful.training_step(module, x, y, lr=task.learning_rate, decay=decay)
            losses = [step() for _ in itertools.repeat(None, task.epochs)]
            torch.stack(losses).tolist()  # waits for a GPU
            seconds.append(time.perf_counter() - start)
    return seconds[1:]  # the first warms up


def _claims(measured: dict[str, Tensor], settings: Settings) -> list[Claim]:
    """Cells are chosen by one half of the seeds and compared on the other: the best of many flatters itself."""
    validation, gap = measured["validation_accuracy"], measured["gap"]
    half = settings.seeds // 2
    means = validation[..., :half].mean(dim=-1)
    together = _best(means, lambda i, j: i > 0 and j > 0)
    alone = _best(means, lambda i, j: (i > 0) != (j > 0))
    any_ = max(together, alone, key=lambda cell: float(means[cell]))
    loss = measured["validation_loss"]
    sure = _best(-loss[..., :half].mean(dim=-1), lambda i, j: (i, j) != (0, 0))
    narrow = _best(-gap[..., :half].mean(dim=-1), lambda i, j: True)

    def held(cell: Cell) -> Tensor:
        return validation[cell][half:]

    gains = {
        "loss": estimate((loss[sure][half:] - loss[0, 0][half:]).tolist()),
        "narrow": estimate((held(narrow) - held((0, 0))).tolist()),
    }
    rate_slopes = estimate(toy_tasks.slopes(torch.tensor(settings.rates), gap.mean(dim=1)).tolist())
    decay_slopes = estimate(toy_tasks.slopes(torch.arange(len(settings.decays)), gap.mean(dim=0)).tolist())
    other = f"seeds {half + 1}-{settings.seeds}"
    return [
        is_larger(
            "Dropout and decay together give a higher validation accuracy than the best of either alone",
            *(held(together), held(alone)),
            f"{_name(together, settings)} against {_name(alone, settings)}: {{difference.signed}}",
            smallest=0.5,
            cells=[together, alone],
        ),
        is_larger(
            "Some point of the map has a higher validation accuracy than no regularization",
            *(held(any_), held((0, 0))),
            f"{_name(any_, settings)}, chosen on the first {half} seeds, against none on {other}: "
            "{difference.signed}",
            smallest=0.5,
            cell=any_,
        ),
        Claim(
            "Some point of the map has a lower validation loss than no regularization",
            f"{_name(sure, settings)}, chosen on the first {half} seeds, against none on {other}: {gains['loss']}",
            gains["loss"].below(smallest=0.02),
            {"difference": gains["loss"]._asdict(), "cell": sure},
        ),
        Claim(
            "The generalisation gap shrinks as the rate grows, over all decays",
            f"slope in points for a rate of 1: {rate_slopes.signed}",
            rate_slopes.below(smallest=0.5),
            {"slope": rate_slopes._asdict()},
        ),
        Claim(
            "The gap shrinks as the decay grows, over all rates",
            f"slope in points for a step of the map: {decay_slopes.signed}",
            decay_slopes.below(smallest=0.1),
            {"slope": decay_slopes._asdict()},
        ),
        Claim(
            "Where the gap is smallest, validation accuracy is lower than without regularization",
            f"{_name(narrow, settings)}, chosen on the first {half} seeds, against none on {other}: "
            f"{gains['narrow'].signed}",
            gains["narrow"].below(),
            {"difference": gains["narrow"]._asdict(), "cell": narrow},
        ),
    ]


def _best(scores: Tensor, where: Any) -> Cell:
    """The cell of the highest score among some."""
    rows, columns = scores.shape
    cells = [cell for cell in itertools.product(range(rows), range(columns)) if where(*cell)]
    return max(cells, key=lambda cell: float(scores[cell]))


def _name(cell: Cell, settings: Settings) -> str:
    return f"({settings.rates[cell[0]]:g}, {settings.decays[cell[1]]:g})"


def _loop(timing: dict[str, Any]) -> Estimate:
    """Seconds of the loop over all models, from a few single runs of its body."""
    return estimate([timing["models"] * seconds for seconds in timing["runs"]])


def _timing_claim(timing: dict[str, Any], settings: Settings) -> Claim:
    loop, program = _loop(timing), timing["program"]
    how = "compiled program, compilation included," if settings.jit else "program"
    return Claim(
        f"One {how} trains the map faster than a loop of plain PyTorch",
        f"{timing['models']:,} models in {program:.1f} s; the loop {loop.mean:.0f} s (95% {loop.low:.0f} to "
        f"{loop.high:.0f}), extrapolated from {loop.n} single runs: {number(loop.mean / program)} times as long",
        loop.above(program),
        {"timing": {"program": program, "loop": loop._asdict()}},
    )


def _table(measured: dict[str, Tensor], settings: Settings) -> Table:
    validation, gap = measured["validation_accuracy"], measured["gap"]
    rows = []
    for i, rate in enumerate(settings.rates):
        each = [(estimate(v.tolist()), estimate(g.tolist())) for v, g in zip(validation[i], gap[i], strict=True)]
        rows.append((rate, *(f"{v.fixed(2)}; {g.fixed(2)}" for v, g in each)))
    title = f"Validation accuracy (%); gap (points): mean ± sd over {settings.seeds} seeds"
    return Table(title, ("rate", *(f"decay {decay:g}" for decay in settings.decays)), rows)


def _timing_table(timing: dict[str, Any], settings: Settings) -> Table:
    loop, single = _loop(timing), estimate(timing["runs"])
    program = f"{timing['models']:,} models, one {'compiled ' if settings.jit else ''}program"
    rows = [
        (program, f"{timing['program']:.1f}", f"{1e3 * timing['program'] / timing['models']:.2f}", "measured"),
        ("a loop of plain PyTorch", f"{loop.mean:.0f}", f"{1e3 * single.mean:.1f}", f"from {single.n} single runs"),
    ]
    return Table("Wall time", ("how", "seconds", "ms a model", ""), rows)


def figures(result: Result) -> dict[str, Figure]:
    """The map: validation accuracy and gap; validation loss."""
    values = result.values
    n = values["seeds"]
    figure, axes = plots.canvas(
        1,
        2,
        height=4.6,
        caption=f"Validation accuracy and generalisation gap after the last epoch, by dropout rate and weight decay: "
        f"means over {n} seeds, each with its own data. Darker is better; the frames are the highest accuracy and the "
        "smallest gap.",
    )
    ends = toy_tasks.accuracies(values)
    accuracy, gap = 100 * ends["validation_accuracy"].mean(dim=1), toy_tasks.gap(ends).mean(dim=1)
    _heatmap(axes[0, 0], values, accuracy.tolist(), "Validation accuracy (%)", 1, ".1f")
    _heatmap(axes[0, 1], values, gap.tolist(), "Gap (points of accuracy)", -1, ".1f")
    loss, loss_axes = plots.canvas(
        height=4.2,
        width=6.0,
        caption=f"Validation loss on the same map, mean over {n} seeds: what accuracy does not show, how sure the "
        "network is where it is wrong. Darker is better; the frame is the smallest.",
    )
    losses = [each["mean"] for each in values["validation_loss"]]
    _heatmap(loss_axes[0, 0], values, losses, "Validation loss (nats)", -1, ".3f")
    return {"map": figure, "loss": loss}


def _heatmap(axes: Axes, values: dict[str, Any], cells: Sequence[float], title: str, sign: int, shown: str) -> None:
    """Means of each cell as colours and numbers; the best cell framed. Darker is better."""
    means = torch.tensor(cells).reshape(len(values["rates"]), -1)
    plots.picture(axes, -sign * means, cmap=plots.SEQUENTIAL, aspect="auto")
    middle = float(means.min() + means.max()) / 2
    for i, j in itertools.product(*map(range, means.shape)):
        value = float(means[i, j])
        color = "white" if sign * (value - middle) > 0 else "black"
        axes.text(j, i, format(value, shown), ha="center", va="center", color=color)
    best = divmod(int((sign * means).argmax()), means.shape[1])
    axes.add_patch(Rectangle((best[1] - 0.5, best[0] - 0.5), 1, 1, fill=False, edgecolor=plots.VERMILLION, linewidth=3))
    axes.set_xticks(range(means.shape[1]), [f"{decay:g}" for decay in values["decays"]])
    axes.set_yticks(range(means.shape[0]), [f"{rate:g}" for rate in values["rates"]])
    axes.set(xlabel="weight decay", ylabel="dropout rate")
    axes.set_title(title, fontsize=12)
