"""What `fit` is called with: checked, and made into what it works on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _checks, tree
from ..tree.stacking import members_of
from ..tree.structure import entry
from .alone import Alone
from .arrays import as_tensors
from .feed import Passes
from .fingerprint import fingerprint
from .shuffling import Shuffled
from .sources import Sourced, check_resumable, described, is_source
from .step import Metrics, TrainState, check_members, check_train_state
from .stopping import NEVER, EarlyStopping

Monitor = str | Callable[[Metrics], Tensor]


def check(step: Any, train_state: Any, counts: dict[str, int | None]) -> None:
    """Refuse a step or a train state that is none, and counts that are neither None nor at least 1."""
    _checks.check_callable("step", step, "a function (train_state, batch, hparams), from make_step")
    check_train_state(train_state)
    for name, value in counts.items():
        if value is not None or name in ("epochs", "checkpoint_every"):
            _checks.check_count(name, value)


def check_shuffling(*, key: Any, members: int | None, batches: str) -> None:
    """Refuse what is not one key; nor, where members shuffle on their own, one for each."""
    _checks.check_choice("batches", batches, ("shared", "own"))
    each = isinstance(key, Tensor) and key.dtype == torch.int64 and key.ndim == 2
    if each and key.shape == (members, 2):
        if batches != "own":
            got, allowed = f"a key for each of {members} members", "one, as all members see the same batches"
            _checks.fail("key", got, allowed, 'A key each goes with batches="own".')
        return
    _checks.check_key(key)


def check_callbacks(stopping: Any, monitor: Any, version: Any, evaluate: Any, on_epoch: Any) -> None:
    """Refuse what decides over training, or hears of it, and is of another kind."""
    if stopping is not None and not (isinstance(stopping, EarlyStopping) and all(map(callable, stopping[:2]))):
        remedy = "Make one: fr.train.early_stopping(patience)."
        _checks.fail("early_stopping", _checks.describe(stopping), "an EarlyStopping", remedy)
    if stopping is not None:
        _checks.check_choice("early_stopping.mode", stopping.mode, ("min", "max"))
    if not isinstance(monitor, str):
        _checks.check_callable("monitor", monitor, "the name of a metric, or a function of the metrics")
    if version is not None and not isinstance(version, str | int):
        _checks.fail("version", _checks.describe(version), "a string or an integer")
    if evaluate is not None:
        _checks.check_callable("evaluate", evaluate, "a function (params, state) -> name -> tensor")
    if on_epoch is not None:
        _checks.check_callable("on_epoch", on_epoch, "a function of an Epoch")


def check_others(progress: Any, processes: Any) -> None:
    """Refuse what says whether there is a bar, and other processes, and does not."""
    if progress is not None:
        _checks.check_choice("progress", progress, (True, False))
    if processes is not None and not isinstance(processes, Alone):
        remedy = "Call fr.distributed.fit, which gives them."
        _checks.fail("processes", _checks.describe(processes), "None", remedy)


def check_many(members: int | None, batches: str, chunk_size: Any, train_state: TrainState, hparams: Any) -> None:
    """Refuse what does not fit the number of members."""
    _checks.check_chunk_size(chunk_size)
    if members is not None:
        _checks.check_count("members", members)
        check_members("train_state", train_state, members)
        check_members("hparams", hparams, members)
        return
    if train_state.step.ndim:
        remedy = f"Pass members={len(train_state.step)}."
        _checks.fail("members", None, "the length of the train state's leading axis", remedy)
    if batches == "own":
        _checks.fail("batches", "'own' for one model", "'shared'", "Pass members=K for K models.")


def passes_of(
    data: Any,
    *,
    key: Tensor,
    batch_size: int | None,
    members: int | None,
    batches: str,
    one_shape: bool,
    resumable: bool,
    device: torch.device,
) -> Passes:
    """Passes over a tree of tensors, or over a source.

    Raises:
        FuncregError: for data of another kind, or arguments that do not go with it.
    """
    if is_source(data):
        if batch_size is not None:
            _checks.fail("batch_size", f"{batch_size} with a source", "none: it gives whole batches", "Leave it out.")
        if batches == "own":
            remedy = "Give tensors, or stack K batches in the source and take each member's in loss_fn."
            _checks.fail("batches", "'own' for a source", "'shared': all members see its batches", remedy)
        if resumable:
            check_resumable(data)
        return Sourced(data, key=key, one_shape=one_shape, device=device)
    data = as_tensors("data", data)
    if not tree.leaves(data):
        allowed = "a tree of tensors with a shared first axis, such as Batch(x, y), or a source of batches"
        _checks.fail("data", "no tensors", allowed)
    for name, leaf in zip(tree.names(data), tree.leaves(data), strict=True):
        if isinstance(leaf, Tensor) and leaf.is_nested:
            _checks.fail(entry("data", name), "a nested tensor", "a dense one", "Pad it, or give batches: a source.")
    samples = members_of("data", data)
    if not samples:
        _checks.fail("data", "tensors without a sample", "at least one")
    size = samples if batch_size is None else min(batch_size, samples)
    own = members if batches == "own" and size < samples else None
    return Shuffled(data, key=key, size=size, own=own, device=device)


def facts_of(data: Any) -> dict[str, Any]:
    """What can be compared of data: of tensors, names, shapes and bits."""
    return described(data) if is_source(data) else fingerprint("data", as_tensors("data", data))


def facts(
    passes: Passes, train_state: TrainState, hparams: Any, stopping: EarlyStopping, *, key: Tensor, **others: Any
) -> dict[str, Any]:
    """What a run depends on, for a checkpoint to hold and for other processes to compare."""
    never = isinstance(stopping.patience, int) and stopping.patience == NEVER
    return {
        **others,
        "key": key.tolist(),
        "mode": stopping.mode,
        **{
            f"early_stopping's {name}": _plain(getattr(stopping, name))
            for name in (() if never else ("patience", "min_delta"))
        },
        **fingerprint("hparams", hparams),
        **passes.described(),
        **fingerprint("train_state", train_state),
    }


def monitored(row: Metrics, monitor: Monitor, shape: tuple[int, ...]) -> tuple[Metrics, str]:
    """An epoch's metrics, with the one that is monitored, and its name: "monitor" where it is a function of them."""
    if isinstance(monitor, str):
        if monitor not in row:
            _checks.fail("monitor", repr(monitor), "one of " + ", ".join(map(repr, row)) + ", or a function of them")
        return row, monitor
    value = monitor(dict(row))
    if "monitor" in row:
        _checks.fail("monitor", "a function, and a metric of that name", "one of them", "Rename the metric.")
    if isinstance(value, int | float):
        value = torch.tensor(float(value), dtype=torch.float64)
    if not isinstance(value, Tensor) or value.shape != shape:
        _checks.fail("monitor", f"a return of {_checks.describe(value)}", f"a tensor of shape {tuple(shape)}")
    return row | {"monitor": value.to("cpu", torch.float64)}, "monitor"


def columns(records: list[Metrics]) -> Metrics:
    """The metrics of some steps, (steps, ...) each, on the CPU in float64.

    Raises:
        FuncregError: for a step with others than the first has.

    >>> columns([{"loss": torch.tensor(1.0)}, {"loss": torch.tensor(2.0)}])
    {'loss': tensor([1., 2.], dtype=torch.float64)}
    """
    names = records[0].keys()
    for record in records:
        if record.keys() != names:
            got, known = (", ".join(map(repr, each)) for each in (record, names))
            _checks.fail("loss_fn's metrics", got, f"the same in each step, {known} as in the first of the epoch")
    return {name: torch.stack([record[name] for record in records]).cpu().to(torch.float64) for name in names}


def check_columns(row: Metrics, history: tuple[Metrics, ...]) -> None:
    """Refuse other metrics than those of the epochs before."""
    if history and row.keys() != history[-1].keys():
        got, remedy = ", ".join(map(repr, row)), "A fit has the same metrics in each epoch, after a resume too."
        known = ", ".join(map(repr, history[-1]))
        _checks.fail("metrics", got, f"those of the epochs before, {known}", remedy)


def wish(told: Any, active: Tensor) -> Tensor:
    """Whether what on_epoch returned ends training: 1.0 or 0.0, for each model that trains."""
    numpys = str(getattr(told, "dtype", "")) == "bool" and getattr(told, "shape", None) == ()
    value = bool(told) if isinstance(told, bool) or numpys else False
    if isinstance(told, Tensor) and told.dtype == torch.bool:
        if told.shape not in ((), active.shape):
            allowed = f"True, False, or a tensor of them of shape {tuple(active.shape)}"
            _checks.fail("on_epoch", f"a return of {_checks.describe(told)}", allowed)
        value = told.cpu()
    return (torch.as_tensor(value) & active).to(torch.float64)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, Tensor) else value
