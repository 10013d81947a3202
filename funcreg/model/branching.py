"""`torch.cond`, which runs the branch that it takes: of eager code torch would make a program of both first.

Under `vmap`, where members may take either, both run and each member keeps its own. A rehearsal runs both, too, so
that it sees what either draws and writes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .. import _checks
from .._functorch import levels_of_vmap
from .standing import StandIns

_stand_ins = StandIns()
_noting: ContextVar["Noted | None"] = ContextVar("what a rehearsal notes", default=None)
_moving: ContextVar[bool] = ContextVar("whether a branch moves batch statistics", default=False)


class Noted:
    """What a rehearsal has seen of branches: whether there were any, and whether one moved what is counted.

    Args:
        count: of batch statistics that were moved so far.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        self.count, self.any, self.moving = count, False, False


def branch(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], operands: Sequence[Any] = ()) -> Any:
    """As `torch.cond`.

    >>> branch(torch.tensor(True), torch.neg, torch.abs, (torch.tensor(-1.0),))
    tensor(1.)
    >>> torch.func.vmap(lambda x: branch(x > 0, torch.neg, torch.abs, (x,)))(torch.tensor([2.0, -1.0]))
    tensor([-2.,  1.])
    """
    noted = _noting.get()
    before = 0 if noted is None else noted.count()
    each = isinstance(pred, Tensor) and bool(levels_of_vmap(pred))
    if not each and noted is None:
        return (true_fn if pred else false_fn)(*operands)
    if each and _moving.get():
        got = "one in which a branch of torch.cond moves batch statistics, and members take either"
        _checks.fail("module", got, "one whose branches move none", "Call it outside of vmap.")
    if_true, if_false = true_fn(*operands), false_fn(*operands)
    if noted is not None:
        noted.any, noted.moving = True, noted.moving or noted.count() > before
    if not each:
        return if_true if pred else if_false
    return pytree.tree_map(lambda one, other: torch.where(pred.reshape(()), one, other), if_true, if_false)


@contextmanager
def branching(*, moving: bool = False) -> Iterator[None]:
    """Inside the block `torch.cond` is `branch`: other threads', too.

    Args:
        moving: a branch moves batch statistics, so that not both may run.

    >>> with branching():
    ...     torch.cond(torch.tensor(True), torch.neg, torch.abs, (torch.tensor(1.0),))
    tensor(-1.)
    """
    token = _moving.set(moving)
    try:
        with _stand_ins.standing([(torch, "cond", branch)]):
            yield
    finally:
        _moving.reset(token)


@contextmanager
def noting(count: Callable[[], int]) -> Iterator[Noted]:
    """The same, where both branches run, and are noted.

    >>> with noting(lambda: 0) as noted:
    ...     _ = torch.cond(torch.tensor(True), torch.neg, torch.abs, (torch.ones(1),))
    >>> noted.any, noted.moving
    (True, False)
    """
    noted = Noted(count)
    token = _noting.set(noted)
    try:
        with branching():
            yield noted
    finally:
        _noting.reset(token)
