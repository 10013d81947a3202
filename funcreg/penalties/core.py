"""What penalties share: the leaves that they are of, and how a strength meets a sum."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _checks, tree
from ..tree import checks
from ..tree.values import precise


def selected(params: tree.Tree, mask: tree.Mask | None, *, axes: int = 0) -> list[tuple[str, Tensor]]:
    """The (name, leaf) pairs that a mask picks, by default all of so many axes, in at least float32.

    >>> selected({"weight": torch.ones(1), "bias": torch.ones(2)}, tree.is_weight)
    [('weight', tensor([1.]))]
    """
    return [(name, precise(leaf)) for name, leaf in checks.selected("params", params, mask, axes=axes)]


def scaled(argument: str, strength: float | Tensor, terms: Sequence[Tensor]) -> Tensor:
    """strength times the sum of the terms, in their dtype; 0 where there are none.

    >>> scaled("strength", 0.5, [torch.tensor(1.0), torch.tensor(3.0)])
    tensor(2.)
    """
    strength = _checks.check_setting(argument, strength, 0.0)
    total = functools.reduce(torch.add, terms) if terms else torch.zeros(())
    # Two tensors of shape () promote each other; the penalty keeps the parameters' dtype.
    return (strength * total).to(total.dtype)
