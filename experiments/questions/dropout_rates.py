"""Which dropout rate is best on the two small tables, and does the generalisation gap shrink with the rate?

Part: B
Command: python -m experiments run dropout-rates
Runtime: smoke 1 s, quick 3 s, full 30 s (2 CPU cores)
Answer: none is, on these tables (n = 4,096 seeds each, --members 4096 --at-once, taken after 512 had left the steps
    undecided): the best rate, 0.2 on both, costs 0.58 (95% 0.48 to 0.68, Bonferroni of 4) and 0.58 points of accuracy
    (0.49 to 0.66), and 0.7 costs 1.74 (1.62 to 1.85) and 1.46 (1.36 to 1.56). The gap does shrink with the rate: slopes
    of -0.81 (-0.96 to -0.66) and -0.32 points (-0.45 to -0.18) for a rate of 1, from gaps of 2.24 and 2.59 points
    without. Whether it does at every step is undecided still: 5 of the 8 steps are sure, the other three lie between
    -0.13 and 0.07 points, where 0.5 would be of interest.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..harness.context import Context
from ..parts import toy_tasks
from ..parts.arms import Arms
from ..parts.toy_tasks import Task
from ..report import plots
from ..report.decisions import every
from ..report.estimates import estimate
from ..report.result import Claim, Result, Table


@dataclass(frozen=True)
class Settings:
    """Every rate, of which the first is none, on the same `seeds`: a table, first weights, a key each."""

    seeds: int = 64
    rates: tuple[float, ...] = (0.0, 0.2, 0.3, 0.5, 0.7)
    tasks: tuple[Task, ...] = (replace(toy_tasks.DEEP, epochs=60), replace(toy_tasks.SHALLOW, epochs=40))


PRESETS = {
    "smoke": Settings(seeds=4, tasks=tuple(replace(task, epochs=5) for task in Settings.tasks)),
    "quick": Settings(),
    "full": Settings(seeds=512),
}
_SMALLEST = 0.5  # points: a difference below it is of no interest


def main(settings: Settings, context: Context) -> Result:
    """Train all rates and seeds of a task as the members of one fit."""
    arms = Arms({f"{rate:g}": {"rate": rate, "decay": 0.0} for rate in settings.rates}, settings.seeds)
    runs = []
    for task, key in zip(settings.tasks, context.keys(len(settings.tasks)), strict=True):
        ends = toy_tasks.at_end(toy_tasks.train(task, arms, key, context))
        runs.append({"name": task.name, "ends": ends})
    claims = [claim for run in runs for claim in _claims(run, settings.rates)]
    tables = [_table(run, settings) for run in runs]
    kept = [
        {"name": task.name, **toy_tasks.counts(run["ends"], task)}
        for run, task in zip(runs, settings.tasks, strict=True)
    ]
    values = {"tasks": kept, "rates": settings.rates, "seeds": settings.seeds}
    return Result(values, claims, tables, [task.source for task in settings.tasks])


def _claims(run: dict[str, Any], rates: tuple[float, ...]) -> list[Claim]:
    """The best rate against none, the gap along the rates, and the highest rate against none; seed by seed."""
    validation, gap = 100 * run["ends"]["validation_accuracy"].double(), toy_tasks.gap(run["ends"]).double()
    best = 1 + int(validation[1:].mean(dim=1).argmax())
    candidates = len(rates) - 1
    gained = estimate((validation[best] - validation[0]).tolist(), comparisons=candidates)
    cost = estimate((validation[-1] - validation[0]).tolist())
    slopes = estimate(toy_tasks.slopes(torch.tensor(rates), gap).tolist())
    steps = [estimate((after - before).tolist()) for before, after in pairwise(gap)]
    certain = sum(each.high < 0 for each in steps)
    return [
        Claim(
            f"{run['name']}: some dropout rate has a higher validation accuracy than none",
            f"best: {rates[best]:g}, {validation[0].mean():.2f}% to {validation[best].mean():.2f}%; paired "
            f"{gained.signed}, Bonferroni of {candidates}",
            gained.above(smallest=_SMALLEST),
            {"difference": gained._asdict(), "best_rate": rates[best], "comparisons": candidates},
        ),
        Claim(
            f"{run['name']}: the generalisation gap shrinks as the rate grows",
            f"{gap[0].mean():.2f} points at {rates[0]:g}, {gap[-1].mean():.2f} at {rates[-1]:g}; slope in points for a "
            f"rate of 1: {slopes.signed}",
            slopes.below(smallest=_SMALLEST),
            {"slope": slopes._asdict()},
        ),
        Claim(
            f"{run['name']}: the gap shrinks at every step of the rate",
            f"gaps {', '.join(f'{each:.2f}' for each in gap.mean(dim=1).tolist())} points; {certain} of {len(steps)} "
            f"steps below 0 by their 95% interval (n = {gap.shape[1]})",
            every(each.below(smallest=_SMALLEST) for each in steps),
            {"steps": [each._asdict() for each in steps]},
        ),
        Claim(
            f"{run['name']}: too high a rate, {rates[-1]:g}, costs validation accuracy",
            f"{validation[0].mean():.2f}% without, {validation[-1].mean():.2f}% with; paired {cost.signed}",
            cost.below(smallest=_SMALLEST),
            {"difference": cost._asdict()},
        ),
    ]


def _table(run: dict[str, Any], settings: Settings) -> Table:
    ends = run["ends"]
    measures = (
        100 * ends["train_accuracy"],
        100 * ends["validation_accuracy"],
        toy_tasks.gap(ends),
        ends["validation_loss"],
    )
    rows = []
    for i, rate in enumerate(settings.rates):
        each = [estimate(measure[i].tolist()) for measure in measures]
        rows.append((rate, *(e.fixed(2) for e in each[:3]), each[3].fixed(3), settings.seeds))
    columns = ("rate", "training accuracy (%)", "validation accuracy (%)", "gap (points)", "validation loss", "n")
    return Table(f"{run['name']}, after the last epoch: mean ± sd", columns, rows)


def figures(result: Result) -> dict[str, Figure]:
    """Validation accuracy and the gap against the rate."""
    values = result.values
    figure, axes = plots.canvas(
        1,
        2,
        height=3.9,
        caption=f"After the last epoch, without noise, by the rate in training. Mean over {values['seeds']} seeds with "
        "its 95% interval (bars); band: one sd over seeds, each with its own data.",
    )
    for i, run in enumerate(values["tasks"]):
        ends = toy_tasks.accuracies(run)
        _draw(axes[0, 0], values["rates"], 100 * ends["validation_accuracy"], run["name"], i)
        _draw(axes[0, 1], values["rates"], toy_tasks.gap(ends), run["name"], i)
    axes[0, 1].axhline(0, color="#999999", linewidth=1)
    axes[0, 0].set(ylabel="validation accuracy (%)", title="Validation accuracy")
    axes[0, 1].set(ylabel="gap (points of accuracy)", title="Generalisation gap")
    for axis in axes[0]:
        axis.set(xlabel="dropout rate", xticks=values["rates"])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return {"rates": figure}


def _draw(axes: Axes, rates: list[float], values: Tensor, label: str, index: int) -> None:
    """Each rate's mean with its interval, beside the other task's, and the band of seeds."""
    each = [estimate(seeds.tolist()) for seeds in values]
    at = [rate + 0.008 * (2 * index - 1) for rate in rates]
    plots.band(axes, at, values.T, label, index)
    axes.errorbar(
        at,
        [e.mean for e in each],
        yerr=[[e.mean - e.low for e in each], [e.high - e.mean for e in each]],
        fmt="os"[index],
        color=plots.PALETTE[index],
        markersize=5,
        capsize=3,
    )
