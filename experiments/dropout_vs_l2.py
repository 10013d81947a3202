"""On two small tables, does dropout close the generalisation gap, and does weight decay add to it?

Part: B
Command: python -m experiments run dropout-vs-l2
Runtime: smoke 1 s, quick 3 s, full 33 s (2 CPU cores)
Answer: decay does, dropout not surely. On 140 points dropout 0.5 takes the gap from 1.91 to 1.42 points (difference
    0.49, 95% -0.09 to 1.07, n = 64 seeds), decay 0.02 from there to 0.46 (0.96, 0.22 to 1.71); on 108 points decay
    takes it from 2.65 to 1.68 (0.97, 0.25 to 1.69). Neither raises validation accuracy: decay costs 1.22 and 2.47
    points. With 512 seeds (full) dropout's own effect shows too: 0.36 points, 0.16 to 0.55.
"""

from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import vmap

import funcreg as fr

from . import plots
from .context import Context
from .data import quadratic
from .estimates import Estimate, estimate
from .results import Claim, Result, Table


@dataclass(frozen=True)
class Task:
    """One table and network: y = [x0^2 + tilt x1 > threshold]; arms are (rate, decay)."""

    name: str
    samples: int
    train: int
    tilt: float
    threshold: float
    widths: tuple[int, ...]
    learning_rate: float
    epochs: int
    arms: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Settings:
    """Every arm of every task on the same `seeds`: a data set, an initialisation, a key each."""

    seeds: int = 64
    tasks: tuple[Task, ...] = (
        Task(
            "2-32-32-2 on 140 points",
            samples=200,
            train=140,
            tilt=0.8,
            threshold=0.5,
            widths=(32, 32),
            learning_rate=0.08,
            epochs=80,
            arms={"plain": (0.0, 0.0), "dropout 0.5": (0.5, 0.0), "dropout 0.5 + decay 0.02": (0.5, 0.02)},
        ),
        Task(
            "2-28-2 on 108 points",
            samples=180,
            train=108,
            tilt=-0.7,
            threshold=0.3,
            widths=(28,),
            learning_rate=0.07,
            epochs=60,
            arms={"dropout 0.4": (0.4, 0.0), "dropout 0.4 + decay 0.02": (0.4, 0.02)},
        ),
    )


PRESETS = {"smoke": Settings(seeds=4), "quick": Settings(), "full": Settings(seeds=512)}
_METRICS = ("train_accuracy", "validation_accuracy", "train_loss", "validation_loss")


def main(settings: Settings, context: Context) -> Result:
    """Train all arms and seeds of a task as the members of one fit."""
    keys = context.keys(len(settings.tasks))
    runs = [
        _run(task, settings, key, context)
        for task, key in zip(settings.tasks, context.track(keys, "task"), strict=True)
    ]
    claims = [claim for run in runs for claim in _claims(run, settings)]
    tables = [_table(run, settings) for run in runs]
    sources = [
        f"generated: {task.samples} points of N(0, I_2) with class [x0^2 {task.tilt:+g} x1 > {task.threshold:g}], "
        f"{task.train} to train, drawn anew for each seed"
        for task in settings.tasks
    ]
    return Result({"tasks": runs, "seeds": settings.seeds}, claims, tables, sources)


def _run(task: Task, settings: Settings, key: Tensor, context: Context) -> dict[str, Any]:
    data_key, init_key, train_key, fit_key = fr.random.split(key, 4)
    seeds, arms = settings.seeds, len(task.arms)
    x, y = vmap(lambda k: quadratic(k, task.samples, tilt=task.tilt, threshold=task.threshold))(
        fr.random.split(data_key, seeds)
    )
    model = fr.from_module(lambda: _network(task))
    # Member arm * seeds + seed: arms of one seed share its data and its first weights.
    params = fr.tree.map(
        lambda leaf: leaf.repeat(arms, *(1 for _ in leaf.shape[1:])),
        fr.tree.to(fr.model_members(model, init_key, seeds)[0], context.device),
    )
    rates, decays = zip(*task.arms.values(), strict=True)
    hparams = {
        "rate": torch.tensor(rates).repeat_interleave(seeds),
        "decay": torch.tensor(decays).repeat_interleave(seeds),
        "seed": torch.arange(seeds).repeat(arms),
    }
    hparams = fr.tree.to(hparams, context.device)

    def loss_fn(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        # A batch has every seed's points, (samples, seeds, 2); a member takes its own.
        own = [value.index_select(1, hparams["seed"].reshape(1)).squeeze(1) for value in batch]
        logits, state = model.apply(params, state, own[0], key=key, train=True, rates=hparams["rate"])
        return fr.losses.cross_entropy(logits, own[1]), (state, {})

    def optimizer(hparams: Any) -> fr.transforms.Transform:
        return fr.optim.adam(task.learning_rate, weight_decay=hparams["decay"])

    def measure(params: Any, seed: Tensor) -> dict[str, Tensor]:
        own_x, own_y = (value.index_select(0, seed.reshape(1)).squeeze(0) for value in (x, y))
        logits, _ = model.apply(params, {}, own_x)
        losses = fr.losses.cross_entropy(logits, own_y, reduction="none")
        hits = fr.losses.accuracy(logits, own_y, reduction="none")
        means = (hits[: task.train], hits[task.train :], losses[: task.train], losses[task.train :])
        return {name: value.float().mean() for name, value in zip(_METRICS, means, strict=True)}

    step = fr.train.make_step(loss_fn, optimizer)
    members = seeds * arms
    result = context.fit(
        step,
        fr.train.init(params, {}, optimizer, key=train_key, hparams=hparams, members=members),
        fr.train.Batch(x[:, : task.train].movedim(0, 1), y[:, : task.train].movedim(0, 1)),
        key=fit_key,
        epochs=task.epochs,
        batch_size=task.train,
        hparams=hparams,
        members=members,
        jit=False,
        evaluate=lambda params, state: vmap(measure)(params, hparams["seed"]),
    )
    return {"name": task.name, "arms": list(task.arms), "curves": _curves(result.history, arms, seeds)}


def _network(task: Task) -> nn.Module:
    layers: list[nn.Module] = []
    inputs = 2
    for width in task.widths:
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(0.5)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 2))


def _curves(history: dict[str, Tensor], arms: int, seeds: int) -> dict[str, Tensor]:
    """Each metric as (arms, seeds, epochs); in float32, as it was measured."""
    return {name: history[name].float().T.reshape(arms, seeds, -1) for name in _METRICS}


def _at_end(run: dict[str, Any], metric: str) -> Tensor:
    """A metric after the last epoch, (arms, seeds)."""
    return run["curves"][metric][:, :, -1]


def _gap(run: dict[str, Any], unit: str) -> Tensor:
    """How much worse validation is than training, (arms, seeds): in points of accuracy, or in loss."""
    sign = 1 if unit == "accuracy" else -1
    return sign * (_at_end(run, f"train_{unit}") - _at_end(run, f"validation_{unit}"))


def _claims(run: dict[str, Any], settings: Settings) -> list[Claim]:
    """Each arm against the one before it, seed by seed: the gap, and validation accuracy itself."""
    claims = []
    gap, validation = 100 * _gap(run, "accuracy"), 100 * _at_end(run, "validation_accuracy")
    for i in range(1, len(run["arms"])):
        before, arm = run["arms"][i - 1], run["arms"][i]
        closed = estimate((gap[i - 1] - gap[i]).tolist())
        gained = estimate((validation[i] - validation[i - 1]).tolist())
        gaps = [estimate(gap[j].tolist()) for j in (i - 1, i)]
        claims += [
            Claim(
                f"{run['name']}: {arm} has a smaller generalisation gap than {before}",
                f"{gaps[0].mean:.2f} to {gaps[1].mean:.2f} points of accuracy; paired difference {_points(closed)}",
                closed.low > 0,
                {"difference": closed._asdict(), before: gaps[0]._asdict(), arm: gaps[1]._asdict()},
            ),
            Claim(
                f"{run['name']}: {arm} has a higher validation accuracy than {before}",
                f"{validation[i - 1].mean():.2f}% to {validation[i].mean():.2f}%; paired difference {_points(gained)}",
                gained.low > 0,
                {"difference": gained._asdict()},
            ),
        ]
    return claims


def _points(each: Estimate) -> str:
    return f"{each.mean:+.2f} ± {each.sd:.2f} (n = {each.n}; 95% {each.low:+.2f} to {each.high:+.2f})"


def _table(run: dict[str, Any], settings: Settings) -> Table:
    rows = []
    for i, arm in enumerate(run["arms"]):
        columns = (
            100 * _at_end(run, "train_accuracy"),
            100 * _at_end(run, "validation_accuracy"),
            100 * _gap(run, "accuracy"),
            _gap(run, "loss"),
        )
        each = [estimate(column[i].tolist()) for column in columns]
        rows.append((arm, *(f"{e.mean:.2f} ± {e.sd:.2f}" for e in each), settings.seeds))
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
    for axis, arm, train, validation in zip(
        axes[0], run["arms"], run["curves"]["train_accuracy"], run["curves"]["validation_accuracy"], strict=True
    ):
        epochs = range(1, len(train[0]) + 1)
        for i, (label, curve) in enumerate((("training", train), ("validation", validation))):
            plots.band(axis, epochs, 100 * torch.tensor(curve), label, i)
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
        curves = {name: torch.tensor(values) for name, values in run["curves"].items()}
        gap = 100 * _gap({"curves": curves}, "accuracy")
        plots.strip(axis, run["arms"], gap.tolist())
        axis.axvline(0, color="#999999", linewidth=1)
        axis.set_title(run["name"])
    axes[-1, 0].set_xlabel("generalisation gap (points of accuracy)")
    return figure
