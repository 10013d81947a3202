"""How many members of a vmapped function run at a time."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from .. import _checks, _jit, tree
from .._compiling import is_compiling
from .._functorch import in_transform, innermost
from .memory import peak_bytes

ChunkSize = int | Literal["auto"]
_CACHES = 32 * 2**20
_ACCELERATOR = 2**30


class Chunking(NamedTuple):
    """What a caller asked for: a size or "auto", the bytes for a chunk, and whether to compile."""

    chunk_size: ChunkSize
    memory_budget: int | None
    jit: bool

    def size(self, members: int, owner: Any, arguments: Any, one: Callable[[], Any]) -> int:
        """The members of a chunk, in chunks that are about even; under "auto" as many as the budget allows.

        Args:
            members: how many there are.
            owner, arguments: what `one` does, and to which trees (stacked members, what they share): the
                trial is made once for a kind of them.
            one: a call for one member. Only what depends on the member counts, since the rest is there once.

        Raises:
            FuncregError: for a wrong chunk_size or memory_budget.
        """
        auto = isinstance(self.chunk_size, str) and self.chunk_size == "auto"
        if not auto:
            _checks.check_count("chunk_size", self.chunk_size)
        if self.memory_budget is not None:
            _checks.check_count("memory_budget", self.memory_budget)
            if not auto:
                remedy = 'Pass one of the two, or chunk_size="auto".'
                _checks.fail(
                    "memory_budget", f"{self.memory_budget} beside chunk_size {self.chunk_size}", "one", remedy
                )
        if isinstance(self.chunk_size, int):
            return evenly(members, self.chunk_size)
        if is_compiling():
            return members
        stacked = [innermost(leaf) for leaf in tree.leaves(arguments[0])]

        def trial() -> int:
            return peak_bytes(one, of=stacked)

        # In a transform tensors are larger than their shapes say.
        taken = trial() if in_transform() else _jit.remembered(owner, ("bytes", _jit.kind_of(arguments)), trial)
        budget = self.memory_budget or (_CACHES if stacked[0].device.type == "cpu" else _ACCELERATOR)
        return evenly(members, max(1, budget // max(1, taken)))


def evenly(count: int, most: int) -> int:
    """How many of some go together, at most so many, when the groups are as few as can be and about even.

    >>> evenly(100, 99), evenly(10, 3), evenly(10, 50)
    (50, 3, 10)
    """
    return -(-count // -(-count // most))
