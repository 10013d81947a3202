"""A batch in shards, one rank after the other or side by side: the gradient of the whole, in fixed order."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .. import _checks, random, tree
from .._functorch import constant, gradients
from ..train.returns import refuse_constant
from ..train.step import LossFn
from ..tree.checks import check_floating, check_tensors, check_values
from ..tree.stacking import members_of
from .processes import Group, answered, check_group, rank, ranks

_groups: dict[str, Group] = {"": None}
_apart = False


def data_parallel(loss_fn: LossFn, *, shards: int | None = None, group: Group = None) -> LossFn:
    """A loss whose batch is shared out among ranks; its value, gradient, metrics and state are averages.

    Every rank calls it with the same arguments, the whole batch among them, which is cut into shards
    of consecutive samples. Rank r of R takes the shards `[r * shards // R, (r + 1) * shards // R)`,
    one after the other, and all ranks get the same result: the mean over shards, added up in their
    order. So for a given `shards` the number of ranks changes no bit (a compiled program: nothing
    but rounding), and one process gives what many give. Shard i draws with `random.fold_in(key, i)`.

    What is not a mean over samples is that of a shard: batch norm normalises each shard by itself, a
    contrastive loss compares within it. Integers in the state, such as batch counters, are the first
    shard's. One shard is loss_fn itself.

    Args:
        loss_fn: (params, state, batch, *, key, hparams) -> (loss of shape (), (state, metrics)), means
            over the batch, as `fr.train.make_step` takes it, but not for its per_example.
        shards: a multiple of the number of ranks, and a divisor of every batch's samples; more of them
            also take less memory at a time. Default: one for each rank.
        group: ranks of torch.distributed. Default: all.

    Returns:
        A loss_fn of the same signature, for `make_step`. Its gradient is taken while it is called; to
        be differentiated twice, as through `fr.train.unroll`, is for one process only.

    Raises:
        FuncregError: when loss_fn cannot be called or returns something else, for shards that do not
            divide the batch or are not the same number on every rank, and when a rank ends.

    >>> def loss_fn(params, state, batch, *, key, hparams):
    ...     return (params["w"] * batch).mean(), (state, {"largest": batch.max()})
    >>> halves = data_parallel(loss_fn, shards=2)
    >>> halves({"w": torch.ones(())}, {}, torch.tensor([1.0, 3.0, 5.0, 7.0]), key=random.key(0), hparams=None)
    (tensor(4.), ({}, {'largest': tensor(5.)}))

    Li et al., "PyTorch distributed: experiences on accelerating data parallel training", VLDB 2020.
    """
    _checks.check_callable("loss_fn", loss_fn, "a function (params, state, batch, *, key, hparams)")
    if shards is not None:
        _checks.check_count("shards", shards)
    name = ""  # of the group, as a compiled program can hold it
    check_group(group)
    if group is not None:
        name = group.group_name
        _groups[name] = group

    def parallel(params: tree.Tree, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        check_floating("params", params)
        check_values("params", params)
        check_tensors("state", state)
        size = ranks(group)
        count, samples = size if shards is None else shards, members_of("batch", batch)
        if count == 1:
            return loss_fn(params, state, batch, key=key, hparams=hparams)
        if count % size:
            _checks.fail("shards", count, f"a multiple of {size}, the number of ranks")
        if samples % count:
            remedy = "Pick another batch_size; fit leaves out a last smaller batch."
            _checks.fail("batch", f"{samples} samples", f"a multiple of {count}, the number of shards", remedy)
        here, rows, local = tree.map(constant, params), samples // count, count // size
        parts: list[Any] = []
        for shard in range(rank(group) * local, (rank(group) + 1) * local):
            own = tree.map(lambda leaf, first=shard * rows: leaf[first : first + rows], batch)
            call = _call(loss_fn, state, own, random.fold_in(key, shard), hparams)
            parts.append(gradients(call, here, watched=False, unrelated=refuse_constant))
        if size == 1:
            grads, (value, aux) = tree.map(lambda *each: _mean(each), *parts)
        else:
            grads, (value, aux) = _exchanged(parts, count, name)
        # Adds 0 with the gradient that was found.
        slopes = tree.map(lambda g, p: (constant(g) * (p - constant(p))).sum().to(value.dtype), grads, params)
        return constant(value) + torch.stack(tree.leaves(slopes)).sum(), aux

    return parallel


@contextmanager
def each_for_itself() -> Iterator[None]:
    """Inside, ranks do different things, and an average over them is an error."""
    global _apart
    _apart = True
    try:
        yield
    finally:
        _apart = False


def _call(loss_fn: LossFn, state: Any, batch: Any, key: Tensor, hparams: Any) -> Callable[[Any], Any]:
    def loss(params: tree.Tree) -> Any:
        output = loss_fn(params, state, batch, key=key, hparams=hparams)
        two = isinstance(output, tuple) and len(output) == 2 and isinstance(output[1], tuple) and len(output[1]) == 2
        if not two or not isinstance(output[0], Tensor) or output[0].ndim:
            got = _checks.describe(output[0] if isinstance(output, tuple) and output else output)
            _checks.fail("loss_fn", f"a return of {got}", "(loss of shape (), (state, metrics))")
        value, (state_after, metrics) = output
        wide = tree.map(lambda m: m.to(torch.promote_types(m.dtype, torch.float32)), metrics)  # counts have a mean too
        return value, (state_after, wide)

    return loss


def _exchanged(parts: list[Any], shards: int, group: str) -> Any:
    """The mean of this rank's trees and all others', by one exchange for each dtype."""
    flat = [_leaves(part) for part in parts]
    like = flat[0]
    found: dict[int, Tensor] = {}
    for dtype in dict.fromkeys(leaf.dtype for leaf in like):
        places = [place for place, leaf in enumerate(like) if leaf.dtype == dtype]
        each = [torch.cat([leaves[place].reshape(-1) for place in places]) for leaves in flat]
        rows = torch.stack(each) if len(each) > 1 else each[0].unsqueeze(0)
        try:
            mean = _average_over_ranks(rows, shards, group)
        except RuntimeError as error:
            if "functorch transforms" in str(error):
                _checks.fail("data_parallel", "a second derivative over several ranks", "one process", "Run one.")
            raise
        pieces = mean.split([like[place].numel() for place in places])
        found |= {place: piece.reshape(like[place].shape) for place, piece in zip(places, pieces, strict=True)}
    left = iter([found[place] for place in range(len(like))])
    return tree.map(lambda _: next(left), parts[0])


def _leaves(part: Any) -> list[Tensor]:
    """The leaves in the order of `tree.map`. optree's own cannot be compiled where a dict is empty."""
    leaves: list[Tensor] = []

    def keep(leaf: Tensor) -> Tensor:
        leaves.append(leaf)
        return leaf

    tree.map(keep, part)
    return leaves


def _mean(each: Any) -> Tensor:
    """The mean of some tensors, added one by one, in float32 at least; the first where they agree, or are integers."""
    first, *rest = each
    if not (first.is_floating_point() or first.is_complex()):
        return first
    total, agree = first.to(torch.promote_types(first.dtype, torch.float32)), torch.ones_like(first, dtype=torch.bool)
    for other in rest:
        total, agree = total + other, agree & (other == first)
    return torch.where(agree, first, (total / len(each)).to(first.dtype))  # what is constant stays so, to the bit


@torch.library.custom_op("funcreg::average_over_ranks", mutates_args=())
def _average_over_ranks(rows: Tensor, shards: int, group: str) -> Tensor:
    """The mean, as `_mean` takes it, of all shards' rows (shards of this rank, n): (n,), on every rank the same.

    Each rank gets every shard's part of 1/R of the columns, adds, and sends it round: what an
    all-reduce moves, for one shard a rank. As bytes, which every backend moves.
    """
    ours, size, (local, length) = _groups[group], ranks(_groups[group]), rows.shape
    if _apart:
        got = "one of data_parallel, with members that are sharded over ranks"
        _checks.fail("step", got, "one of a plain loss_fn", "Ranks share out the members or the batch, not both.")
    if local * size != shards:
        _checks.fail("shards", f"{local} on each of {size} ranks", f"{shards} in all", "Make the step anew.")
    with answered(ours):
        if not (rows.is_floating_point() or rows.is_complex()):
            first = rows[0].contiguous().clone()
            dist.broadcast(first.view(torch.uint8), group=ours, group_src=0)
            return first
        spare = -length % size
        padded = torch.nn.functional.pad(rows, (0, spare)) if spare else rows
        given = padded.reshape(local, size, -1).transpose(0, 1).contiguous()
        got = torch.empty_like(given)
        dist.all_to_all_single(got.view(torch.uint8), given.view(torch.uint8), group=ours)
        mean = _mean(got.reshape(shards, -1).unbind())
        whole = rows.new_empty(length + spare)
        dist.all_gather_into_tensor(whole.view(torch.uint8), mean.view(torch.uint8), group=ours)
        return whole[:length]


@_average_over_ranks.register_fake
def _(rows: Tensor, shards: int, group: str) -> Tensor:
    return rows.new_empty(rows.shape[1])


@_average_over_ranks.register_vmap
def _(info: Any, in_dims: tuple[int, None, None], rows: Tensor, shards: int, group: str) -> tuple[Tensor, int]:
    members = rows.movedim(in_dims[0], -1)
    whole = _average_over_ranks(members.reshape(len(members), -1), shards, group)
    return whole.reshape(members.shape[1:]), 1
