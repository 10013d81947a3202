"""How many members of a vmapped function run at a time."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch

from .. import _checks, _jit, tree
from .._functorch import in_transform
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
        """The members of a chunk; under "auto" as many as the budget allows, in chunks that are about even.

        Args:
            members: how many there are.
            owner, arguments: what `one` does, and to which trees: the trial is made once for a kind of them.
            one: a call for one member. What it makes for all members together counts for each.

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
            return min(self.chunk_size, members)
        if torch.compiler.is_compiling():
            return members
        # In a transform tensors are larger than their shapes say.
        if in_transform():
            taken = peak_bytes(one)
        else:
            taken = _jit.remembered(owner, ("bytes", _jit.kind_of(arguments)), lambda: peak_bytes(one))
        on_cpu = tree.leaves(arguments)[0].device.type == "cpu"
        budget = self.memory_budget or (_CACHES if on_cpu else _ACCELERATOR)
        fit = max(1, min(members, budget // max(1, taken)))
        return -(-members // -(-members // fit))
