"""When should training stop, and is what it comes back to better than where it would have ended?

Part: D
Command: python -m experiments run early-stopping --data-root DATA
Runtime: smoke 1 s, quick 10 s, full 15 min (2 CPU cores)
Answer: in loss yes, in accuracy no. On 200 MNIST images the test loss is 0.697 where patience 3 restores and 1.008
    at epoch 100 (difference 0.311, 95% 0.286 to 0.336, n = 32), but the accuracy 78.1% against 79.7% (-1.55 points,
    -2.11 to -1.00): an overconfident network is not a less accurate one. The table stops at epoch 8; what is restored
    is a fit of that many epochs, bit for bit; the 32 stop by themselves (26.3 ± 2.3 epochs), each as when alone.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import vmap

import funcreg as fr

from ..data import Images, mnist
from ..harness.context import Context
from ..parts.arms import own
from ..parts.classifiers import loss_of, scores_of
from ..parts.networks import mlp
from ..report import plots
from ..report.claims import is_larger
from ..report.estimates import curve, estimate, number
from ..report.result import Claim, Result, Table


@dataclass(frozen=True)
class Settings:
    """The table's rule; and MLPs 784-hidden-hidden-10, each on `train` images of its own, Adam, full batch."""

    patience: int = 3
    min_delta: float = 0.01
    losses: tuple[float, ...] = (2.5, 2.0, 1.5, 1.2, 1.1, 1.15, 1.18, 1.20, 1.22)
    members: int = 32
    train: int = 200
    validation: int = 200
    test: int = 1_000
    hidden: int = 64
    learning_rate: float = 3e-3
    epochs: int = 100
    alone: int = 3
    patiences: tuple[int, ...] = (1, 2, 3, 5, 10, 20, 40)


PRESETS = {
    "smoke": Settings(
        members=4,
        train=60,
        validation=100,
        test=200,
        hidden=32,
        learning_rate=1e-2,
        epochs=15,
        alone=1,
        patiences=(1, 3, 10),
    ),
    "quick": Settings(),
    "full": Settings(members=256, test=5_000, hidden=256, epochs=400, alone=8),
}


def main(settings: Settings, context: Context) -> Result:
    """The table; all members to the end, and each until it stops; some of them alone."""
    choice_key, init_key, start_key, fit_key = context.keys(4)
    images = mnist(context.data).to(context.device)
    model = fr.from_module(lambda: mlp(784, settings.hidden, settings.hidden, 10))
    members = _Members(settings, context, model, images, choice_key, init_key, start_key, fit_key)
    whole, stopped = members.fit(None), members.fit(settings.patience)
    values = {
        "table": _table(settings),
        "members": settings.members,
        "epochs": settings.epochs,
        "patience": settings.patience,
        "curves": {name: curve(whole.history[name].T) for name in _METRICS},
        "drawn": {name: whole.history[name].T[:4].float() for name in ("train_loss", "validation_loss")},
        "ends": {
            name: {"stopped": _at(whole, name, stopped.best_epoch), "end": whole.history[name][-1]} for name in _METRICS
        },
        "best_epoch": stopped.best_epoch,
        "stopped_epoch": stopped.stopped_epoch,
        "frozen": _frozen(whole, stopped),
        "alone": members.alone(stopped),
        "restored": members.restored(),
        "by_patience": _by_patience(settings, whole),
    }
    source = (
        f"{images.source}; of the training images {settings.train} drawn for each member to train and "
        f"{settings.validation} others to validate, {settings.test:,} test images"
    )
    return Result(values, _claims(values, settings), _tables(values, settings), [source])


_METRICS = ("train_loss", "validation_loss", "test_loss", "validation_accuracy", "test_accuracy")


def _table(settings: Settings) -> list[dict[str, Any]]:
    """The rule on given losses, a row a loss; it stops at the first whose `stopped` is true."""
    stopping = fr.train.early_stopping(settings.patience, settings.min_delta)
    state, rows = stopping.init(), []
    for epoch, loss in enumerate(settings.losses, start=1):
        state = stopping.update(state, torch.tensor(loss, dtype=torch.float64))
        rows.append(
            {
                "epoch": epoch,
                "loss": loss,
                "best": float(state.best),
                "improved": bool(state.improved),
                "counter": int(state.counter),
                "stopped": bool(state.stopped),
            }
        )
    return rows


@dataclass(frozen=True)
class _Members:
    """What the fits share: each member's data and first weights, and the keys."""

    settings: Settings
    context: Context
    model: fr.Model
    images: Images
    choice_key: Tensor
    init_key: Tensor
    start_key: Tensor
    fit_key: Tensor

    @property
    def chosen(self) -> Tensor:
        """The images of each member, (members, train + validation), without repetition."""
        size = self.settings.train + self.settings.validation
        pool = min(len(self.images.x), max(10 * size, 2_000))
        keys = fr.random.split(self.choice_key, self.settings.members)
        return torch.stack([fr.random.permutation(key, pool)[:size] for key in keys])

    @property
    def start(self) -> tuple[Any, Any, Tensor]:
        """First parameters, state and key of each."""
        members = self.settings.members
        params, state = fr.tree.to(fr.model_members(self.model, self.init_key, members), self.context.device)
        return params, state, fr.random.split(self.start_key, members)

    def _batch(self, chosen: Tensor) -> fr.train.Batch:
        return fr.train.Batch(self.images.x[chosen], self.images.y[chosen])

    def _stopping(self, patience: int | None) -> dict[str, Any]:
        if patience is None:
            return {"monitor": "validation_loss"}
        rule = fr.train.early_stopping(patience, self.settings.min_delta)
        return {"monitor": "validation_loss", "early_stopping": rule}

    def _scores(self, params: Any, state: Any, train: fr.train.Batch, held_out: fr.train.Batch) -> dict[str, Tensor]:
        """One model's losses and accuracies: its own two sets', and the shared test set's."""
        test = fr.train.Batch(self.images.test_x[: self.settings.test], self.images.test_y[: self.settings.test])
        found: dict[str, Tensor] = {}
        for prefix, batch in (("train", train), ("validation", held_out), ("test", test)):
            found |= {n: v.float().mean() for n, v in scores_of(self.model, prefix)(params, state, batch).items()}
        return found

    def fit(self, patience: int | None) -> fr.train.FitResult:
        """All members as one fit: to the end, or each until its validation loss stops improving."""
        settings, train = self.settings, self.settings.train
        params, state, keys = self.start
        sets = self._batch(self.chosen[:, :train]), self._batch(self.chosen[:, train:])
        loss = loss_of(self.model)
        optimizer = fr.optim.adam(settings.learning_rate)
        hparams = {"member": torch.arange(settings.members, device=self.context.device)}
        return self.context.fit(
            fr.train.make_step(
                lambda p, s, batch, *, key, hparams: loss(p, s, own(batch, hparams["member"]), key=key, hparams=None),
                optimizer,
            ),
            fr.train.init(params, state, optimizer, key=keys, members=settings.members),
            fr.tree.map(lambda leaf: leaf.transpose(0, 1), sets[0]),
            key=self.fit_key,
            epochs=settings.epochs,
            hparams=hparams,
            members=settings.members,
            jit=False,
            evaluate=lambda p, s: vmap(self._scores)(p, s, *sets),
            **self._stopping(patience),
        )

    def one(self, member: int, epochs: int, patience: int | None) -> fr.train.FitResult:
        """A member in a fit of its own."""
        chosen, train = self.chosen[member], self.settings.train
        sets = self._batch(chosen[:train]), self._batch(chosen[train:])
        params, state, key = fr.tree.index(self.start, member)
        optimizer = fr.optim.adam(self.settings.learning_rate)
        return self.context.fit(
            fr.train.make_step(loss_of(self.model), optimizer),
            fr.train.init(params, state, optimizer, key=key),
            sets[0],
            key=self.fit_key,
            epochs=epochs,
            jit=False,
            evaluate=lambda p, s: self._scores(p, s, *sets),
            progress=False,
            **self._stopping(patience),
        )

    def alone(self, together: fr.train.FitResult) -> dict[str, Any]:
        """Some members trained by themselves: epochs, and how far their best parameters are from those under vmap."""
        numbers = list(range(self.settings.alone))
        found = [self.one(member, self.settings.epochs, self.settings.patience) for member in numbers]
        return {
            "members": numbers,
            "stopped_epoch": [each.stopped_epoch for each in found],
            "best_epoch": [each.best_epoch for each in found],
            "together": [[int(e[m]) for m in numbers] for e in (together.stopped_epoch, together.best_epoch)],
            "difference": [
                _largest(each.best.params, fr.tree.index(together.best.params, member))
                for member, each in zip(numbers, found, strict=True)
            ],
            "moved": [_largest(each.best.params, fr.tree.index(self.start[0], m)) for m, each in enumerate(found)],
        }

    def restored(self) -> dict[str, Any]:
        """The first member: what a fit restores, against a fit of just so many epochs; and through a file."""
        stopped = self.one(0, self.settings.epochs, self.settings.patience)
        again = self.one(0, stopped.best_epoch, None)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "best.safetensors"
            fr.checkpoint.save(path, stopped.best)
            loaded = fr.checkpoint.load(path, stopped.best)
        return {
            "best_epoch": stopped.best_epoch,
            "stopped_epoch": stopped.stopped_epoch,
            "numbers": fr.tree.count(stopped.best.params),
            "equal": _equal(stopped.best.params, again.train_state.params),
            "file": _equal(stopped.best, loaded),
            "last_differs": not _equal(stopped.best.params, stopped.train_state.params),
        }


def _largest(a: Any, b: Any) -> float:
    return max(float((x - y).abs().max()) for x, y in zip(fr.tree.leaves(a), fr.tree.leaves(b), strict=True))


def _equal(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(fr.tree.leaves(a), fr.tree.leaves(b), strict=True))


def _at(result: fr.train.FitResult, name: str, epochs: Tensor) -> Tensor:
    """A metric of each member after an epoch of its own, counted from 1."""
    return result.history[name].gather(0, epochs.unsqueeze(0) - 1).squeeze(0)


def _frozen(whole: fr.train.FitResult, stopped: fr.train.FitResult) -> dict[str, int]:
    """Members whose validation loss was that of the whole run until they stopped, and constant afterwards."""
    history, until = stopped.history["validation_loss"], stopped.stopped_epoch
    same, still = 0, 0
    for member, epoch in enumerate(until.tolist()):
        last = epoch or len(history)
        same += torch.equal(history[:last, member], whole.history["validation_loss"][:last, member])
        still += bool((history[last:, member] == history[last - 1, member]).all())
    return {"same": same, "still": still, "stopped": int((until > 0).sum()), "epochs": len(history)}


def _by_patience(settings: Settings, whole: fr.train.FitResult) -> list[dict[str, Any]]:
    """What each patience would have chosen: the rule on the recorded losses, all patiences and members at once."""
    count, members = len(settings.patiences), settings.members
    patience = torch.tensor(settings.patiences).repeat_interleave(members)
    stopping = fr.train.early_stopping(patience, settings.min_delta)
    state = stopping.init(count * members)
    best, ended = torch.zeros(count * members, dtype=torch.int64), torch.zeros(count * members, dtype=torch.int64)
    for epoch, losses in enumerate(whole.history["validation_loss"], start=1):
        state = stopping.update(state, losses.repeat(count))
        best = torch.where(state.improved, epoch, best)
        ended = torch.where(state.stopped & (ended == 0), epoch, ended)
    ended = torch.where(ended == 0, settings.epochs, ended).reshape(count, members)
    rows = []
    for index, each in enumerate(settings.patiences):
        chosen = best.reshape(count, members)[index]
        loss, accuracy = (_at(whole, f"test_{name}", chosen).tolist() for name in ("loss", "accuracy"))
        rows.append({"patience": each, "best": chosen, "ended": ended[index], "loss": loss, "accuracy": accuracy})
    return rows


def _claims(values: dict[str, Any], settings: Settings) -> list[Claim]:
    rows, restored, alone, frozen = values["table"], values["restored"], values["alone"], values["frozen"]
    at = next((row["epoch"] for row in rows if row["stopped"]), 0)
    best = rows[-1]["best"]
    ends, n = values["ends"], values["members"]
    epochs = estimate(values["stopped_epoch"].tolist())
    agree = [alone["stopped_epoch"], alone["best_epoch"]] == alone["together"]
    worst = max(d / m for d, m in zip(alone["difference"], alone["moved"], strict=True))
    return [
        Claim(
            f"Patience {settings.patience} and min_delta {settings.min_delta:g} stop at epoch 8 of the nine losses",
            f"stops at epoch {at}; the best is {best:g} of epoch 5 (n = {len(rows)} losses)",
            at == 8 and best == 1.1,
            {"epoch": at, "best": best, "n": len(rows)},
        ),
        is_larger(
            "The run overfits: at its end the test loss is higher than at the epoch that stopping restores",
            ends["test_loss"]["end"],
            ends["test_loss"]["stopped"],
            f"{{larger:.3f}} at epoch {values['epochs']}, {{smaller:.3f}} restored; paired difference {{difference}}",
            under="",
        ),
        is_larger(
            "... and its test accuracy is lower",
            100 * ends["test_accuracy"]["stopped"],
            100 * ends["test_accuracy"]["end"],
            "{smaller:.2f}% against {larger:.2f}% restored; gained by stopping, in points: {difference}",
            under="",
        ),
        Claim(
            "What a fit restores is, bit for bit, where a fit of that many epochs ends",
            f"{restored['numbers']:,} parameters at epoch {restored['best_epoch']} of {restored['stopped_epoch']}: "
            f"{'equal' if restored['equal'] else 'not equal'}, through a file too; the last ones differ",
            restored["equal"] and restored["file"] and restored["last_differs"],
            {**restored, "n": restored["numbers"]},
        ),
        Claim(
            f"{n} members under one vmap each stop at an epoch of their own, and are still from then on",
            f"{frozen['stopped']} stopped, at {len(set(values['stopped_epoch'].tolist()))} different epochs, {epochs}; "
            f"{frozen['still']} still afterwards; {frozen['same']} as in the run to the end until then",
            frozen["same"] == frozen["still"] == n and frozen["stopped"] > n / 2,
            {**epochs._asdict(), **frozen},
        ),
        Claim(
            "Each is its own single run, to rounding",
            f"{'the same' if agree else 'other'} epochs; parameters differ by {worst:.1g} of what they moved "
            f"(n = {len(alone['members'])} members trained alone, float32)",
            agree and worst < 1e-3,
            {"largest": worst, "n": len(alone["members"])},
        ),
        _patience_claim(values["by_patience"], settings),
    ]


def _patience_claim(rows: list[dict[str, Any]], settings: Settings) -> Claim:
    short, long = rows[0], rows[-1]
    epochs = [estimate(row["ended"]).mean for row in (short, long)]
    return is_larger(
        f"A patience of {long['patience']} finds a lower test loss than one of {short['patience']}",
        short["loss"],
        long["loss"],
        f"{{larger:.3f}} with {short['patience']}, {{smaller:.3f}} with {long['patience']}, which takes "
        f"{number(epochs[1] / epochs[0])} times the epochs; paired difference {{difference}}",
        under="",
    )


def _tables(values: dict[str, Any], settings: Settings) -> list[Table]:
    rows = [
        (row["epoch"], row["loss"], row["best"], _yes(row["improved"]), row["counter"], _yes(row["stopped"]))
        for row in values["table"]
    ]
    chosen = []
    for row in values["by_patience"]:
        each = (row["best"].tolist(), row["ended"].tolist(), row["loss"], [100 * a for a in row["accuracy"]])
        cells = (e.spread for e in map(estimate, each))
        chosen.append((row["patience"], *cells, len(row["loss"])))
    columns = ("patience", "best epoch", "epochs trained", "test loss (nats)", "test accuracy (%)", "n")
    return [
        Table(
            f"Patience {settings.patience}, min_delta {settings.min_delta:g}",
            ("epoch", "loss", "best so far", "improved", "without improvement", "stop"),
            rows,
        ),
        Table("What each patience restores: mean ± sd over members", columns, chosen),
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def figures(result: Result) -> dict[str, Figure]:
    """The table as a curve, the members' curves with their stops, and what patience does."""
    values = result.values
    return {
        "members": _draw_members(values),
        "rule": _draw_rule(values["table"], values["patience"]),
        "patience": _draw_patience(values["by_patience"], values["members"]),
    }


def _draw_rule(rows: list[dict[str, Any]], patience: int) -> Figure:
    figure, axes = plots.canvas(
        height=3.2,
        caption=f"The rule on nine losses: the number above each is how many went by without an improvement; at "
        f"{patience} it stops, and what is kept is the best.",
    )
    axis = axes[0, 0]
    epochs, losses = [row["epoch"] for row in rows], [row["loss"] for row in rows]
    stop = next((row for row in rows if row["stopped"]), rows[-1])
    best = next(row for row in rows if row["loss"] == rows[-1]["best"])
    axis.plot(epochs, losses, "-o", color=plots.BLUE, label="monitored loss")
    axis.plot([best["epoch"]], [best["loss"]], "*", color=plots.GREEN, markersize=16, label="best: restored")
    axis.axvline(stop["epoch"], color=plots.VERMILLION, linestyle="--", label=f"stops at epoch {stop['epoch']}")
    for row in rows[: stop["epoch"]]:
        axis.annotate(str(row["counter"]), (row["epoch"] - 0.08, row["loss"] + 0.1), ha="right", fontsize=10)
    plots.counting(axis.xaxis)
    axis.set(xlabel="epoch", ylabel="loss", ylim=(0.9, 2.8))
    axis.legend()
    return figure


def _draw_members(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        height=4.0,
        sharey=True,
        caption=f"Left: four of {values['members']} members trained to the end; the dot is where each stops, the star "
        f"what it restores. Right: all of them (mean, band: one sd).",
    )
    left, right = axes[0]
    epochs = range(1, values["epochs"] + 1)
    for i, losses in enumerate(values["drawn"]["validation_loss"]):
        color = plots.PALETTE[i]
        left.plot(epochs, losses, color=color, linestyle=plots.LINES[i], linewidth=1.5, label=f"member {i + 1}")
        best, stop = values["best_epoch"][i], values["stopped_epoch"][i] or values["epochs"]
        left.plot([best], [losses[best - 1]], "*", color=color, markersize=14, markeredgecolor="white")
        left.plot([stop], [losses[stop - 1]], "o", color=color, markersize=7, markeredgecolor="white")
    for i, (name, label) in enumerate(zip(_METRICS[:3], ("training", "validation", "test"), strict=True)):
        plots.band(right, epochs, values["curves"][name], label, i)
    mean = float(np.mean(values["best_epoch"]))
    right.axvline(mean, color=plots.BLACK, linewidth=1, linestyle="--", label="mean epoch restored")
    left.set(xlabel="epoch", ylabel="loss (nats)", title="Validation loss", ylim=(0, None))
    right.set(xlabel="epoch", title="All members")
    left.legend()
    right.legend()
    return figure


def _draw_patience(rows: list[dict[str, Any]], members: int) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        height=3.4,
        caption=f"What a patience restores and costs (mean over {members} members with its 95% interval), read off the "
        "recorded losses by the same rule.",
    )
    patiences = [row["patience"] for row in rows]
    for axis, name, color in ((axes[0, 0], "loss", plots.BLUE), (axes[0, 1], "ended", plots.VERMILLION)):
        each = [estimate(row[name]) for row in rows]
        reach = [[e.mean - e.low for e in each], [e.high - e.mean for e in each]]
        axis.errorbar(patiences, [e.mean for e in each], yerr=reach, fmt="o-", color=color, capsize=4)
        axis.set(xscale="log", xlabel="patience (epochs)")
        axis.set_xticks(patiences, [str(p) for p in patiences])
        axis.minorticks_off()
    axes[0, 0].set(ylabel="test loss restored (nats)")
    axes[0, 1].set(ylabel="epochs trained", ylim=(0, None))
    return figure
