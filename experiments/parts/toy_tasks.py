"""The two toy tasks of part B: a table and an MLP each, trained by all arms x seeds in one fit.

Every seed has a table of its own, drawn anew, and first weights of its own; arms of one seed share both.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

import funcreg as fr

from ..data import quadratic
from ..harness.context import Context
from .arms import Arms, own
from .classifiers import loss_of
from .networks import mlp


@dataclass(frozen=True)
class Task:
    """A table of `samples` points, y = [x0^2 + tilt x1 > threshold], the first `train` to train; a network; Adam."""

    name: str
    samples: int
    train: int
    tilt: float
    threshold: float
    widths: tuple[int, ...]
    learning_rate: float
    epochs: int

    @property
    def source(self) -> str:
        """A sentence on its data."""
        return (
            f"generated: {self.samples} points of N(0, I_2) with class [x0^2 {self.tilt:+g} x1 > {self.threshold:g}], "
            f"{self.train} to train, drawn anew for each seed"
        )


DEEP = Task("2-32-32-2 on 140 points", 200, 140, 0.8, 0.5, (2, 32, 32, 2), learning_rate=0.08, epochs=80)
SHALLOW = Task("2-28-2 on 108 points", 180, 108, -0.7, 0.3, (2, 28, 2), learning_rate=0.07, epochs=60)
METRICS = ("train_accuracy", "validation_accuracy", "train_loss", "validation_loss")


def train(
    task: Task, arms: Arms, key: Tensor, context: Context, *, each_epoch: bool = False, jit: bool = False
) -> dict[str, Tensor]:
    """Train with each arm's `rate` of dropout and `decay` of the weights, coupled, full batch.

    Args:
        each_epoch: measure after every epoch, not only after the last.

    Returns:
        name -> float32 (arms, seeds, epochs measured), of METRICS: without noise, on all points.
    """
    data_key, *start_keys, fit_key = fr.random.split(key, 4)
    x, y = vmap(lambda k: quadratic(k, task.samples, tilt=task.tilt, threshold=task.threshold))(
        fr.random.split(data_key, arms.seeds)
    )
    model = fr.from_module(lambda: mlp(*task.widths, rates=0.5))
    hparams = arms.hparams(context.device)
    loss = loss_of(model)

    def loss_fn(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        return loss(params, state, own(batch, hparams["seed"]), key=key, hparams=hparams)

    def optimizer(hparams: Any) -> fr.transforms.Transform:
        return fr.optim.adam(task.learning_rate, weight_decay=hparams["decay"])

    def measure(params: Any, seed: Tensor) -> dict[str, Tensor]:
        own_x, own_y = (value.index_select(0, seed.reshape(1)).squeeze(0) for value in (x, y))
        logits, _ = model.apply(params, {}, own_x)
        losses = fr.losses.cross_entropy(logits, own_y, reduction="none")
        hits = fr.losses.accuracy(logits, own_y, reduction="none")
        means = (hits[: task.train], hits[task.train :], losses[: task.train], losses[task.train :])
        return {name: value.float().mean() for name, value in zip(METRICS, means, strict=True)}

    def evaluate(params: Any, _: Any) -> dict[str, Tensor]:
        return vmap(measure)(params, hparams["seed"])

    result = context.fit(
        fr.train.make_step(loss_fn, optimizer),
        arms.start(model, optimizer, key=torch.stack(start_keys), device=context.device),
        fr.train.Batch(x[:, : task.train].movedim(0, 1), y[:, : task.train].movedim(0, 1)),
        key=fit_key,
        epochs=task.epochs,
        hparams=hparams,
        members=arms.members,
        jit=jit,
        evaluate=evaluate if each_epoch else None,
    )
    if each_epoch:
        return {name: arms.curves(result.history[name]) for name in METRICS}
    ends = evaluate(result.train_state.params, {})
    return {name: arms.by_arm(ends[name]).unsqueeze(-1) for name in METRICS}


def at_end(measured: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `train` measured after the last epoch, (arms, seeds)."""
    return {name: values[..., -1] for name, values in measured.items()}


def counts(ends: dict[str, Tensor], task: Task) -> dict[str, Any]:
    """What a record keeps of them: how many points of each part each seed gets wrong, (arms, seeds)."""
    points = {"train": task.train, "validation": task.samples - task.train}
    wrong = {part: (n * (1 - ends[f"{part}_accuracy"].double())).round().long() for part, n in points.items()}
    return {"points": points, "wrong": wrong}


def accuracies(record: dict[str, Any]) -> dict[str, Tensor]:
    """The accuracies that `counts` were made of."""
    return {f"{part}_accuracy": 1 - torch.tensor(record["wrong"][part]) / n for part, n in record["points"].items()}


def gap(ends: dict[str, Tensor], unit: str = "accuracy") -> Tensor:
    """How much worse validation is than training: in points of accuracy, or in loss."""
    if unit == "loss":
        return ends["validation_loss"] - ends["train_loss"]
    return 100 * (ends["train_accuracy"] - ends["validation_accuracy"])


def slopes(x: Tensor, y: Tensor) -> Tensor:
    """Each seed's least-squares slope of y (points, seeds) on x (points,)."""
    centred = x.to(y) - x.to(y).mean()
    return centred @ y / centred.square().sum()
