"""On two small tables, does dropout close the generalisation gap, and does weight decay add to it?

Part: B
Command: python -m experiments run dropout-vs-l2
Runtime: smoke 1 s, quick 3 s, full 33 s (2 CPU cores)
Answer: both narrow the gap, by little, and cost validation accuracy (n = 1,024 seeds, --members 1024). On 140 points
    dropout 0.5 takes the gap from 2.25 to 1.99 points (difference 0.26, 95% 0.08 to 0.44), decay 0.02 from there to
    1.61 (0.38, 0.15 to 0.61); on 108 points decay takes it from 2.67 to 2.00 (0.67, 0.43 to 0.91). The three cost
    0.75 points of validation accuracy (0.58 to 0.92), 1.62 (1.38 to 1.85) and 2.90 (2.66 to 3.14). An earlier run had
    stopped at 512 seeds with one claim open; the intervals hold at that look too.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..harness.context import Context
from ..parts import toy_tasks
from ..parts.arms import Arms
from ..parts.toy_tasks import Task
from ..report import plots
from ..report.claims import is_larger
from ..report.estimates import curve, estimate
from ..report.result import Claim, Result, Table


@dataclass(frozen=True)
class Study:
    """One task and its arms, each to be compared with the one before it."""

    task: Task
    arms: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Settings:
    """Every arm of every task on the same `seeds`: a table, first weights, a key each."""

    seeds: int = 64
    studies: tuple[Study, ...] = (
        Study(
            toy_tasks.DEEP,
            {
                "plain": {"rate": 0.0, "decay": 0.0},
                "dropout 0.5": {"rate": 0.5, "decay": 0.0},
                "dropout 0.5 + decay 0.02": {"rate": 0.5, "decay": 0.02},
            },
        ),
        Study(
            toy_tasks.SHALLOW,
            {
                "dropout 0.4": {"rate": 0.4, "decay": 0.0},
                "dropout 0.4 + decay 0.02": {"rate": 0.4, "decay": 0.02},
            },
        ),
    )


PRESETS = {
    "smoke": Settings(
        seeds=4, studies=tuple(replace(each, task=replace(each.task, epochs=5)) for each in Settings.studies)
    ),
    "quick": Settings(),
    "full": Settings(seeds=512),
}
_SMALLEST = 0.5  # points: a difference below it is of no interest


def main(settings: Settings, context: Context) -> Result:
    """Train all arms and seeds of a task as the members of one fit."""
    keys = context.keys(len(settings.studies))
    runs = [_run(study, settings, key, context) for study, key in zip(settings.studies, keys, strict=True)]
    claims = [claim for run in runs for claim in _claims(run)]
    tables = [_table(run, settings) for run in runs]
    sources = [study.task.source for study in settings.studies]
    return Result({"tasks": runs, "seeds": settings.seeds}, claims, tables, sources)


def _run(study: Study, settings: Settings, key: Tensor, context: Context) -> dict[str, Any]:
    arms = Arms(study.arms, settings.seeds)
    measured = toy_tasks.train(study.task, arms, key, context, each_epoch=True)
    return {
        "name": study.task.name,
        "arms": arms.names,
        "curves": {name: [curve(seeds) for seeds in measured[name]] for name in toy_tasks.METRICS[:2]},
        "ends": toy_tasks.at_end(measured),
    }


def _claims(run: dict[str, Any]) -> list[Claim]:
    """Each arm against the one before it, seed by seed: the gap, and validation accuracy itself."""
    claims = []
    gap, validation = toy_tasks.gap(run["ends"]), 100 * run["ends"]["validation_accuracy"]
    for i in range(1, len(run["arms"])):
        before, arm = run["arms"][i - 1 : i + 1]
        gaps: dict[str, Any] = {name: estimate(gap[j].tolist())._asdict() for name, j in ((before, i - 1), (arm, i))}
        claims += [
            is_larger(
                f"{run['name']}: {arm} has a smaller generalisation gap than {before}",
                *(gap[i - 1], gap[i]),
                "{larger:.2f} to {smaller:.2f} points; paired difference {difference.signed}",
                smallest=_SMALLEST,
                **gaps,
            ),
            is_larger(
                f"{run['name']}: {arm} has a higher validation accuracy than {before}",
                *(validation[i], validation[i - 1]),
                "{smaller:.2f}% to {larger:.2f}%; paired difference {difference.signed}",
                smallest=_SMALLEST,
            ),
        ]
    return claims


def _table(run: dict[str, Any], settings: Settings) -> Table:
    ends = run["ends"]
    measures = (
        100 * ends["train_accuracy"],
        100 * ends["validation_accuracy"],
        toy_tasks.gap(ends),
        toy_tasks.gap(ends, "loss"),
    )
    rows = []
    for i, arm in enumerate(run["arms"]):
        each = [estimate(measure[i].tolist()) for measure in measures]
        rows.append((arm, *(e.fixed(2) for e in each), settings.seeds))
    columns = ("arm", "training accuracy (%)", "validation accuracy (%)", "gap (points)", "gap in loss", "n")
    return Table(f"{run['name']}, after the last epoch: mean ± sd", columns, rows)


def figures(result: Result) -> dict[str, Figure]:
    """Accuracy curves of each task, and the gaps with their intervals."""
    tasks, seeds = result.values["tasks"], result.values["seeds"]
    drawn = {f"curves-{i + 1}": _draw_curves(run, seeds) for i, run in enumerate(tasks)}
    return {**drawn, "gaps": _draw_gaps(tasks, seeds)}


def _draw_curves(run: dict[str, Any], seeds: int) -> Figure:
    figure, axes = plots.canvas(
        1,
        len(run["arms"]),
        sharey=True,
        caption=f"{run['name']}: accuracy without noise on training and validation points (mean over {seeds} seeds, "
        "band: one sd over seeds, each with its own data).",
    )
    for i, (axis, arm) in enumerate(zip(axes[0], run["arms"], strict=True)):
        for j, label in enumerate(("training", "validation")):
            each = run["curves"][toy_tasks.METRICS[j]][i]
            percent = {**each, **{name: [100 * value for value in each[name]] for name in ("mean", "sd")}}
            plots.band(axis, range(1, len(each["mean"]) + 1), percent, label, j)
        axis.set(xlabel="epoch", ylim=(45, 101))
        axis.set_title(arm, fontsize=11)
    axes[0, 0].set_ylabel("accuracy (%)")
    axes[0, 0].legend(loc="lower right")
    return figure


def _draw_gaps(tasks: list[dict[str, Any]], seeds: int) -> Figure:
    arms = max(len(run["arms"]) for run in tasks)
    figure, axes = plots.canvas(
        len(tasks),
        1,
        height=0.75 * arms * len(tasks) + 0.9,
        sharex=True,
        caption=f"The generalisation gap after the last epoch: training less validation accuracy. A dot a seed (n = "
        f"{seeds}), the diamond is the mean with its 95% interval.",
    )
    for axis, run in zip(axes[:, 0], tasks, strict=True):
        ends = {name: torch.tensor(values) for name, values in run["ends"].items()}
        plots.strip(axis, run["arms"], toy_tasks.gap(ends).tolist())
        axis.axvline(0, color="#999999", linewidth=1)
        axis.set_title(run["name"])
    axes[-1, 0].set_xlabel("generalisation gap (points of accuracy)")
    return figure
