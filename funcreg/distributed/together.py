"""One model's fit on all ranks: the same checkpoint, the same numbers to decide by, and a common end."""

import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from .. import _checks, tree
from ..train import resume
from ..train.alone import Alone
from ..train.fingerprint import fingerprint
from ..train.run import Run
from ..train.step import Metrics
from .processes import Group, answered, check_alike, rank

_EVERY = 1.0  # seconds between two questions whether someone pressed Ctrl-C


class Together(Alone):
    """Rank 0 reads and writes; all stop at the same step, within a second or so."""

    def __init__(self, room: Group) -> None:
        self.room, self.leads = room, rank(room) == 0
        self.stop, self.left, self.period, self.since = False, 1, 1, time.monotonic()

    def begin(self, checkpoint: str | Path | None, run: Run, facts: dict[str, Any], epochs: int) -> Run:
        check_alike({**facts, "epochs": epochs, "checkpoint": checkpoint and "a path"}, self.room)
        sent: list[Any] = [None]
        if self.leads and checkpoint is not None:
            try:
                found = resume.load(checkpoint, run, facts, epochs)
                leaves = [leaf.cpu() for leaf in tree.leaves(_tensors(found))]
                sent = [(found.epoch, found.history, found.place, leaves)]
            except _checks.FuncregError as error:
                sent = [str(error)]
        with answered(self.room):
            dist.broadcast_object_list(sent, group=self.room, group_src=0)
        if isinstance(sent[0], str):
            raise _checks.FuncregError(sent[0])
        if sent[0] is None or sent[0][0] == 0:
            return run
        epoch, history, place, leaves = sent[0]
        own = iter(leaves)
        found = tree.map(lambda like: next(own).to(like.device), _tensors(run))
        return found._replace(epoch=epoch, history=history, place=place)

    def begun(self, batch: Any) -> None:
        """A source that gives each rank batches of its own would train on a part of them."""
        check_alike(fingerprint("data", batch), self.room)

    def row(self, row: Metrics) -> Metrics:
        """Rank 0's, as another machine may round an evaluation differently."""
        values = torch.stack(list(row.values()))
        with answered(self.room):
            dist.broadcast(values, group=self.room, group_src=0)
        return dict(zip(row, values.unbind(), strict=True))

    def interrupted(self, requested: bool) -> bool:
        """Whether anyone was asked to stop. All ask together, after as many steps as rank 0 makes in a second."""
        self.left -= 1
        if self.left or self.stop:
            return self.stop
        now = time.monotonic()
        wanted = self.period * _EVERY / max(now - self.since, 1e-9)
        period = int(min(max(wanted, 1), 2 * self.period)) if self.leads else 0
        told = torch.tensor([int(requested), period])
        with answered(self.room):
            dist.all_reduce(told, dist.ReduceOp.MAX, self.room)
        self.stop, self.period, self.since = bool(told[0]), int(told[1]), now
        self.left = self.period
        return self.stop


def _tensors(run: Run) -> Run:
    """What of a run is not the same on every device."""
    return run._replace(epoch=None, history=(), place=None)
