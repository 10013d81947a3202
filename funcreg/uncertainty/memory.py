"""How much memory a call takes, counted operator by operator as it runs."""

import weakref
from collections.abc import Callable
from typing import Any

import optree
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def peak_bytes(call: Callable[[], Any], of: list[Tensor] | None = None) -> int:
    """The most bytes that the tensors which a call makes take at one time, or those that depend on some.

    >>> peak_bytes(lambda: (torch.ones(1000) + 1).sum())  # two tensors of 4000 bytes
    8000
    >>> key = torch.ones(10)
    >>> peak_bytes(lambda: (torch.ones(1000) + 1).sum() + key, of=[key])
    40
    """
    with _Count(of) as count:
        call()
    return count.peak


class _Count(TorchDispatchMode):
    """Counts the bytes of tensors that operators return, for as long as one with the same memory is there."""

    def __init__(self, of: list[Tensor] | None) -> None:
        super().__init__()
        self.peak = self.now = 0
        self.some = of is not None
        # How many tensors there are of each storage that is counted; of those that one depends on, one more.
        self.holders: dict[int, int] = {storage_of(leaf): 1 for leaf in of or ()}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """To keep the compiler away torch would import it; nothing is compiled here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = set(map(storage_of, _tensors((args, kwargs))))
        result = func(*args, **(kwargs or {}))
        if self.some and before.isdisjoint(self.holders):
            return result
        for leaf in _tensors(result):
            storage = storage_of(leaf)
            size = leaf.untyped_storage().nbytes() if storage else 0
            if storage in self.holders:
                self.holders[storage] += 1
            elif storage in before and not self.some:
                continue  # a view of what was there
            else:
                self.holders[storage] = 1
                self.now += size
                self.peak = max(self.peak, self.now)
            weakref.finalize(leaf, self._release, storage, size).atexit = False
        return result

    def _release(self, storage: int, size: int) -> None:
        self.holders[storage] -= 1
        if not self.holders[storage]:
            del self.holders[storage]
            self.now -= size


def storage_of(tensor: Tensor) -> int:
    """Where a tensor's memory is known by; 0 for one that has none of its own, such as a sparse one.

    >>> x = torch.ones(2)
    >>> storage_of(x) == storage_of(x[0]) != 0 == storage_of(x.to_sparse())
    True
    """
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return 0


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in optree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
