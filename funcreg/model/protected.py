"""What a call may write into, and is lent as copies: what comes back in the state, and what nobody may change."""

from collections.abc import Set

from torch import Tensor

from .._functorch import bare
from .members import MadeByMembers
from .rehearsal import Plan, same_values

_NOTHING: frozenset[str] = frozenset()


class Protected:
    """The tensors of a call that its plan has copies of; these are lent from when this is made.

    Args:
        plan: of the call's kind.
        tensors: all that are lent, by name.
        state: what comes back in it, where a call of any code is to have a copy of everything; else None.
        members: in a vmap whose members write into what they share, what gives each its own.

    >>> import torch
    >>> zeros = torch.zeros(1)
    >>> tensors = {"scale": zeros, "mean": zeros}
    >>> protected = Protected(Plan(written=frozenset(["mean"]), touched=frozenset(["scale"])), tensors)
    >>> _ = tensors["mean"].add_(1)
    >>> protected.put_back(tensors), tensors["mean"], tensors["scale"] is zeros
    (None, tensor([1.]), True)
    """

    def __init__(
        self,
        plan: Plan,
        tensors: dict[str, Tensor],
        state: frozenset[str] | None = None,
        members: MadeByMembers | None = None,
    ) -> None:
        written = plan.written if state is None else plan.written | state
        self.touched = plan.touched if state is None else tensors.keys() - written
        self.names: Set[str] = written | self.touched if written or self.touched else _NOTHING
        self.resets = plan.resets
        self.before = {name: tensors[name] for name in (*plan.resets, *self.names)}
        for name in self.names:
            tensors[name] = tensors[name].clone() if members is None else members.own(tensors[name])

    def put_back(self, tensors: dict[str, Tensor]) -> str | None:
        """Lend all but the new state no longer; give the name of what was changed and should not have been."""
        changed = [name for name in self.touched if _differ(tensors[name], self.before[name])]
        for name in (*self.resets, *self.touched):
            tensors[name] = self.before[name]
        return min(changed, default=None)


def _differ(one: Tensor, other: Tensor) -> bool:
    """Whether values do; nobody knows while a program is traced, which has none."""
    try:
        return not same_values(bare(one), bare(other))
    except RuntimeError:
        return False
