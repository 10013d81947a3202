"""`train.fit` on all ranks: one model by data-parallel steps, or K members in shards."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import random, train, tree
from ..train import EarlyStopping, FitResult, TrainState, console
from ..train.arguments import check_shuffling, facts_of
from ..train.fingerprint import fingerprint
from ..train.step import Metrics, Step, as_hparams, check_members
from .parallel import each_for_itself
from .processes import Group, check_alike, rank, ranks, room
from .sharded import file_of, joined, share, stopping_of
from .together import Together

_PATIENCE = timedelta(days=365)  # a rank whose members stop early waits for the others


def fit(
    step: Step,
    train_state: TrainState,
    data: Any,
    *,
    key: Tensor,
    epochs: int,
    hparams: Any = None,
    members: int | None = None,
    batches: str = "shared",
    evaluate: Callable[[Any, Any], Metrics] | None = None,
    early_stopping: EarlyStopping | None = None,
    checkpoint: str | Path | None = None,
    progress: bool | None = None,
    group: Group = None,
    **settings: Any,
) -> FitResult:
    """`train.fit` on all ranks, each of which calls it with the same arguments and gets the same result.

    One model: every rank makes every step, whose loss_fn is a `data_parallel` one, else all would do
    the same work. Rank 0 reads and writes the checkpoint, which any number of ranks can go on from
    that divides the step's shards. After Ctrl-C all stop at the same step.

    With members=K each rank trains its own, `share(K)`, by a step that is not data-parallel, and
    needs the others at the end only. The numbers are those of one `train.fit` with all members, and
    to rounding only where a kernel of torch's depends on how many it computes. Each rank has a
    checkpoint of its own, `<checkpoint>.<rank>-of-<ranks>`, for as many ranks. After Ctrl-C ranks
    may be at different epochs: history is NaN for epochs that a member did not come to.

    When a rank ends before its time the others end with an error, and the same command goes on from
    the checkpoint: `torchrun --max-restarts 3` gives it itself.

    Args:
        step, train_state, data, key, epochs, hparams, members, batches, checkpoint: as for `train.fit`.
            data is all of the data, on every rank: of a source every rank takes the same whole
            batches, which is looked at at the first of each epoch.
        evaluate: as for `train.fit`, called by every rank; with members, for those of its share:
            `make_evaluate(metric_fn, members=len(share(K)))`.
        early_stopping: as for `train.fit`, of all members.
        progress: as for `train.fit`, on rank 0.
        group: ranks of torch.distributed. Default: all; where there is no group, one.
        settings: other arguments of `train.fit`. on_epoch is called by every rank, with members of
            its share.

    Returns:
        A FitResult, of all members; its chunk_size is this rank's.

    Raises:
        FuncregError: as `train.fit` does; for arguments that are not the same on every rank, fewer
            members than ranks, a checkpoint by another number of ranks, and when a rank ends.

    >>> import torch
    >>> from funcreg import distributed, optim
    >>> def loss_fn(params, state, batch, *, key, hparams):
    ...     return ((params["w"] * batch.x - batch.y) ** 2).mean(), (state, {})
    >>> optimizer = optim.sgd(0.25)
    >>> train_state = train.init({"w": torch.zeros(())}, {}, optimizer, key=random.key(0))
    >>> data = train.Batch(torch.ones(8), torch.ones(8))
    >>> step = train.make_step(distributed.data_parallel(loss_fn, shards=2), optimizer)
    >>> fit(step, train_state, data, key=random.key(1), epochs=2, batch_size=4, jit=False).train_state.params["w"]
    tensor(0.9375)
    """
    given = {"hparams": hparams, "members": members, "batches": batches, "evaluate": evaluate}
    given |= {"early_stopping": early_stopping, "progress": progress, **settings}
    if ranks(group) == 1:
        path = None if checkpoint is None else file_of(checkpoint, group)
        return train.fit(step, train_state, data, key=key, epochs=epochs, checkpoint=path, **given)
    if members is None:
        with room(group) as own:
            together = Together(own)
            return train.fit(
                step, train_state, data, key=key, epochs=epochs, checkpoint=checkpoint, processes=together, **given
            )
    with room(group, _PATIENCE) as own:
        return _sharded(step, train_state, data, key=key, epochs=epochs, checkpoint=checkpoint, room=own, given=given)


def _sharded(
    step: Step,
    train_state: TrainState,
    data: Any,
    *,
    key: Tensor,
    epochs: int,
    checkpoint: str | Path | None,
    room: Group,
    given: dict[str, Any],
) -> FitResult:
    members, stopping = given["members"], given["early_stopping"]
    own = share(members, room)
    given["hparams"] = as_hparams(given["hparams"], train_state.step.device)
    trees = {"train_state": train_state, "hparams": given["hparams"]}
    for name, stacked in trees.items():
        check_members(name, stacked, members)
    check_shuffling(key=key, members=members, batches=given["batches"])
    plain = {name: value for name, value in given.items() if isinstance(value, int | str)}
    prints = {name: text for argument, value in trees.items() for name, text in fingerprint(argument, value).items()}
    facts = {**plain, **prints, **facts_of(data), "key": key.tolist()}
    check_alike({**facts, "epochs": epochs, "checkpoint": checkpoint and "a path"}, room)

    mine = tree.map(lambda leaf: leaf[own.start : own.stop], trees)
    given |= {"members": len(own), "hparams": mine["hparams"]}
    if stopping is not None:
        given["early_stopping"] = stopping_of(stopping, members, own)
    if given["batches"] == "own":
        # One key's split gives the keys of this rank's members.
        key = key[own.start : own.stop] if key.ndim == 2 else random.skip(key, 4 * own.start)
    if rank(room) > 0:
        given["progress"] = False
    path = None if checkpoint is None else file_of(checkpoint, room)
    with each_for_itself():
        result = train.fit(step, mine["train_state"], data, key=key, epochs=epochs, checkpoint=path, **given)
    with console.interruptible():
        return joined(result, members, room)
