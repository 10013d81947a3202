"""What `fit` knows at the end of an epoch, and how one more epoch changes it.

One model and K members are the same here: its records are tensors of shape (), theirs (K,).
They lie on the CPU, where reading them costs nothing.
"""

import warnings
from typing import Any, NamedTuple

import optree
import torch
from torch import Tensor

from .. import transforms, tree
from .._checks import FuncregError
from .feed import Place
from .step import Metrics, TrainState
from .stopping import EarlyStopping

# Another metric that is not finite, the monitored one too, is worth a warning; one of these is the end.
_VITAL = ("loss", "param_norm")
_REMEDY = "Lower the learning rate, clip gradients (fr.transforms.clip_by_global_norm), or look for NaN in the data."


class DivergenceWarning(RuntimeWarning):
    """A member of a sweep diverged, or a metric is not finite; training goes on."""


class Run(NamedTuple):
    """The state of a fit at the end of an epoch; epochs count from 1, and 0 means never."""

    train_state: TrainState
    best: TrainState
    best_epoch: Tensor
    stopped_epoch: Tensor
    diverged_epoch: Tensor
    stopping: Any
    epoch: int
    history: tuple[Metrics, ...]
    place: Place

    @property
    def active(self) -> Tensor:
        """Whether each model still trains: bool () or (K,)."""
        return (self.stopped_epoch == 0) & (self.diverged_epoch == 0)


def start(train_state: TrainState, members: int | None, stopping: EarlyStopping) -> Run:
    """Before the first epoch."""
    never = torch.zeros(() if members is None else (members,), dtype=torch.int64)
    return Run(train_state, train_state, never, never, never, stopping.init(members), 0, (), Place())


def advance(
    run: Run,
    train_state: TrainState,
    row: Metrics,
    place: Place,
    *,
    stopping: EarlyStopping,
    monitor: str,
) -> Run:
    """One epoch later.

    A member that stopped or diverged before keeps its state, and its last row. One that diverged
    in this epoch keeps the row that shows it, and is put back to the epoch's start.

    Args:
        run: at the end of the epoch before.
        train_state: what this epoch's steps made of it.
        row: name -> float64 () or (K,), on the CPU.
        place: where the next epoch begins.
        stopping: which also says what is best.
        monitor: the row's name that it watches.

    Raises:
        FuncregError: when the one model diverged.
    """
    epoch, active = run.epoch + 1, run.active
    if run.history and not active.all():
        row = {name: torch.where(active, value, run.history[-1][name]) for name, value in row.items()}
    moved, diverged = active, torch.zeros_like(active)
    if not torch.isfinite(torch.stack(list(row.values()))).all():
        vital = {name: torch.isfinite(row[name]) for name in _VITAL if name in row}
        if "loss" in vital:
            vital["loss"] = vital["loss"] | _left_out(run.train_state, train_state)
        finite = torch.stack(list(vital.values())).all(0)
        moved, diverged = active & finite, active & ~finite
        _report_divergence(row, train_state, epoch, diverged)
        _report_metrics(row, run.history, epoch, moved, monitor)
    train_state = choose(moved, train_state, run.train_state)
    state = stopping.update(run.stopping, row[monitor])
    improved, stopped = moved & torch.isfinite(row[monitor]) & state.improved, moved & state.stopped
    return Run(
        train_state,
        choose(improved, train_state, run.best),
        torch.where(improved, epoch, run.best_epoch),
        torch.where(stopped, epoch, run.stopped_epoch),
        torch.where(diverged, epoch, run.diverged_epoch),
        state,
        epoch,
        (*run.history, row),
        place,
    )


def end(run: Run, ended: Tensor) -> Run:
    """Models that someone else ended after this epoch: bool () or (K,)."""
    return run._replace(stopped_epoch=torch.where(ended & run.active, run.epoch, run.stopped_epoch))


def choose(condition: Tensor, true: tree.Tree, false: tree.Tree) -> tree.Tree:
    """`tree.where` for a condition (), or (K,) on stacked leaves; without work where all are alike."""
    if condition.all():
        return true
    if not condition.any():
        return false

    def pick(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(condition.to(new.device).reshape(-1, *(1 for _ in new.shape[1:])), new, old)

    return tree.map(pick, true, false)


def _left_out(before: TrainState, after: TrainState) -> Tensor:
    """Whether `skip_nonfinite` left out an update of an epoch, and what the model keeps beside parameters is finite."""
    was, now = (
        [node.skipped for node in optree.tree_leaves(each.opt_state, is_leaf=_is_skip) if _is_skip(node)]
        for each in (before, after)
    )
    members = after.step.shape
    skipped = [(new > old).cpu() for old, new in zip(was, now, strict=True)]
    kept = [leaf for leaf in tree.leaves(after.state) if leaf.is_floating_point()]
    intact = [leaf.isfinite().reshape(*members, -1).all(-1).cpu() for leaf in kept]
    never, always = torch.zeros(members, dtype=torch.bool), torch.ones(members, dtype=torch.bool)
    return torch.stack([never, *skipped]).any(0) & torch.stack([always, *intact]).all(0)


def _is_skip(node: object) -> bool:
    return isinstance(node, transforms.SkipState)


def _report_divergence(row: Metrics, train_state: TrainState, epoch: int, diverged: Tensor) -> None:
    if not diverged.any():
        return
    metrics = [name for name, value in row.items() if not torch.isfinite(value[diverged]).all()]
    if diverged.ndim == 0:
        parameters = zip(tree.names(train_state.params), tree.leaves(train_state.params), strict=True)
        broken = [name for name, leaf in parameters if not torch.isfinite(leaf).all()]
        values = ", ".join(f"{name} = {float(row[name]):g}" for name in metrics)
        where = f"; parameters that are not finite: {_listed(broken)}" if broken else ""
        raise FuncregError(f"epoch {epoch}: training diverged: {values}{where}. {_REMEDY}")
    members = diverged.nonzero().flatten().tolist()
    warnings.warn(
        f"epoch {epoch}: {len(members)} of {len(diverged)} members diverged (not finite: {_listed(metrics)}): "
        f"{_listed(members)}. They are put back to the end of epoch {epoch - 1} and train no more; "
        f"see diverged_epoch. {_REMEDY}",
        DivergenceWarning,
        stacklevel=5,
    )


def _report_metrics(row: Metrics, history: tuple[Metrics, ...], epoch: int, moved: Tensor, monitor: str) -> None:
    """A metric that is not vital: one warning when it stops being finite."""
    for name, value in row.items():
        was = torch.isfinite(history[-1][name]) if history else torch.ones_like(moved)
        lost = moved & was & ~torch.isfinite(value)
        if lost.any():
            whose = "" if lost.ndim == 0 else f" of members {_listed(lost.nonzero().flatten().tolist())}"
            end = ", which is no improvement." if name == monitor else "."
            message = f"epoch {epoch}: the metric {name!r}{whose} is not finite; training goes on{end}"
            warnings.warn(message, DivergenceWarning, stacklevel=5)


def _listed(items: list[Any]) -> str:
    more = f" and {len(items) - 8} more" if len(items) > 8 else ""
    return ", ".join(str(item) for item in items[:8]) + more
