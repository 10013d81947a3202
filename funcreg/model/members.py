"""Tensors that a forward makes and then writes into, inside of vmap: each member has its own.

`h = torch.zeros(3); h[0] = x` writes the members' x into an h that all of them share, which torch refuses. Where
it has refused a call, the call is made again in a mode of torch by which what is made has an axis for members.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from .._functorch import innermost, levels_of_vmap
from .keyed import makes_anew

_WORDS = ("vmap: inplace arithmetic", "match the broadcast shape", "has more elements than `self`")


def writes_into_what_members_share(error: Exception) -> bool:
    """Whether it is what torch says there.

    >>> writes_into_what_members_share(RuntimeError("vmap: inplace arithmetic(self, *extra_args) is not possible"))
    True
    """
    return any(words in str(error) for words in _WORDS)


class MadeByMembers(TorchFunctionMode):
    """Gives new numbers, and whatever is made of no others, every axis of vmap that some tensors have.

    >>> from torch.func import vmap
    >>> def f(x):
    ...     with MadeByMembers(x):
    ...         h = torch.zeros(2)
    ...         h[0] = x
    ...         return h
    >>> vmap(f)(torch.tensor([1.0, 2.0]))
    tensor([[1., 0.],
            [2., 0.]])
    """

    def __init__(self, given: Any) -> None:
        super().__init__()
        self.zero, self.levels = torch.zeros(()), set[int]()
        for leaf in pytree.tree_leaves(given):
            levels = levels_of_vmap(leaf) if isinstance(leaf, Tensor) else set[int]()
            if not levels <= self.levels:
                self.levels |= levels
                self.zero = self.zero + torch.zeros_like(leaf.detach().flatten()[:1], dtype=torch.float32).sum()

    def own(self, shared: Tensor) -> Tensor:
        """A copy for each member."""
        return shared + self.zero.to(shared.dtype)

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if not isinstance(made, Tensor) or self.levels <= levels_of_vmap(made):
            return made
        if makes_anew(func) or (made.is_floating_point() and _is_new(made, (args, kwargs))):
            return self.own(made)
        return made


def _is_new(made: Tensor, given: Any) -> bool:
    """Whether a tensor is no view of those that it was made of."""
    if made.layout != torch.strided or made.is_meta:
        return False
    tensors = (leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, Tensor) and leaf.layout == torch.strided)
    return innermost(made).untyped_storage().data_ptr() not in {
        innermost(tensor).untyped_storage().data_ptr() for tensor in tensors
    }
