"""How much memory a call takes, counted operator by operator as it runs."""

import weakref
from collections.abc import Callable
from typing import Any

import optree
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def peak_bytes(call: Callable[[], Any]) -> int:
    """The most bytes that the tensors which a call makes take at one time.

    >>> peak_bytes(lambda: (torch.ones(1000) + 1).sum())  # two tensors of 4000 bytes
    8000
    """
    with _Count() as count:
        call()
    return count.peak


class _Count(TorchDispatchMode):
    """Counts the bytes of tensors that operators return, for as long as one with the same memory is there."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.now = 0
        self.holders: dict[int, int] = {}  # how many tensors there are of each storage that was made here

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """To keep the compiler away torch would import it; nothing is compiled here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {leaf.untyped_storage()._cdata for leaf in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for leaf in _tensors(result):
            storage = leaf.untyped_storage()
            if storage._cdata in self.holders:
                self.holders[storage._cdata] += 1
            elif storage._cdata in before:
                continue  # a view of what was there
            else:
                self.holders[storage._cdata] = 1
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
            weakref.finalize(leaf, self._release, storage._cdata, storage.nbytes()).atexit = False
        return result

    def _release(self, storage: int, size: int) -> None:
        self.holders[storage] -= 1
        if not self.holders[storage]:
            del self.holders[storage]
            self.now -= size


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in optree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
