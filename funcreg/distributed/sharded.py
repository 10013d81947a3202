"""K members over ranks: each trains its own, and all get the whole result."""

import itertools
import re
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from .. import _checks, tree
from ..train import EarlyStopping, FitResult, StoppingState
from .processes import Group, answered, gathered, rank, ranks


def share(members: int, group: Group = None) -> range:
    """The members that this rank trains, in order and as even as can be: the first K % R ranks have one more.

    Args:
        members: K, at least the number of ranks.
        group: ranks of torch.distributed. Default: all.

    Returns:
        A range of members.

    Raises:
        FuncregError: for fewer members than ranks.

    >>> share(5)  # without torchrun
    range(0, 5)
    """
    _checks.check_count("members", members)
    size, own = ranks(group), rank(group)
    if members < size:
        _checks.fail("members", members, f"at least {size}, one for each rank", "Start fewer ranks.")
    return _shares(members, size)[own]


def file_of(checkpoint: str | Path, group: Group) -> Path:
    """This rank's own checkpoint, beside where one process would have its only one."""
    path, size = _checks.check_path("checkpoint", checkpoint, writes=True), ranks(group)
    for other in [path, *path.parent.glob(f"{path.name}.*")]:
        number = re.fullmatch(r"\.\d+-of-(\d+)", other.name.removeprefix(path.name))
        count = int(number[1]) if number else 1 if other == path else size
        if count != size and other.exists():
            remedy = f"Start {count} to go on, or use another path to start again."
            _checks.fail("checkpoint", f"{other}, of a fit by {count} rank(s)", f"one by {size}", remedy)
    return path if size == 1 else path.with_name(f"{path.name}.{rank(group)}-of-{size}")


def stopping_of(stopping: EarlyStopping, members: int, own: range) -> EarlyStopping:
    """Early stopping, whose patience may be a tensor (K,), for some of the members."""

    def spread(leaf: Tensor) -> Tensor:
        return leaf[(torch.arange(members, device=leaf.device) - own.start).clamp(0, len(own) - 1)]

    def update(state: StoppingState, value: Tensor) -> StoppingState:
        whole = stopping.update(tree.map(spread, state), spread(value))
        return tree.map(lambda leaf: leaf[own.start : own.stop], whole)

    return stopping._replace(update=update)


def joined(result: FitResult, members: int, room: Group) -> FitResult:
    """The result of all members, from those of each rank."""
    everyone = gathered((list(result.history), _epochs(result.history), result.interrupted), room)
    names = next((names for names, epochs, _ in everyone if epochs), [])
    epochs = max(epochs for _, epochs, _ in everyone)
    ended = (result.stopped_epoch > 0) | (result.diverged_epoch > 0)
    history = {name: _lengthened(result.history.get(name), epochs, ended).T for name in names}
    whole = tree.map(
        lambda leaf: _gathered(leaf, members, room), result._replace(history=history, interrupted=None, chunk_size=None)
    )
    history = {name: values.T for name, values in whole.history.items()}
    interrupted = any(interrupted for *_, interrupted in everyone)
    return whole._replace(history=history, interrupted=interrupted, chunk_size=result.chunk_size)


def _shares(members: int, size: int) -> list[range]:
    starts = [number * (members // size) + min(number, members % size) for number in range(size + 1)]
    return [range(*each) for each in itertools.pairwise(starts)]


def _epochs(history: dict[str, Tensor]) -> int:
    return len(next(iter(history.values()))) if history else 0


def _lengthened(values: Tensor | None, epochs: int, ended: Tensor) -> Tensor:
    """(epochs, K): who ended repeats its last value, as in a fit of all; who was interrupted has none, NaN."""
    if values is None:
        return torch.full((epochs, len(ended)), torch.nan, dtype=torch.float64)
    rest = torch.where(ended, values[-1], torch.nan).expand(epochs - len(values), -1)
    return torch.cat((values, rest))


def _gathered(leaf: Tensor, members: int, room: Group) -> Tensor:
    """(K, ...) from each rank's (k, ...); as bytes, which gloo has for every dtype."""
    size = ranks(room)
    own = leaf.cpu().contiguous()
    given = own.new_zeros((-(-members // size), *own.shape[1:]))
    given = torch.cat((own, given[len(own) :]))
    got = own.new_empty((size, *given.shape))
    with answered(room):
        dist.all_gather_into_tensor(got.reshape(-1).view(torch.uint8), given.reshape(-1).view(torch.uint8), room)
    own_rows = [rows[: len(share)] for rows, share in zip(got, _shares(members, size), strict=True)]
    return torch.cat(own_rows).to(leaf.device)
