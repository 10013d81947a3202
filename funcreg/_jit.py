"""`jit`: a whole step, sweep or Monte Carlo loop as one compiled program."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import optree
import torch

from . import _checks

P = ParamSpec("P")
R = TypeVar("R")


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a pure function whole: `torch.compile(fullgraph=True, dynamic=False)`.

    Python numbers in the arguments become 0-dimensional tensors first, so that a new learning
    rate or step number is data, not a reason to compile again; a new shape is one. `vmap` goes
    inside: `jit(vmap(f))`, not `vmap(jit(f))`.

    Args:
        function: of trees of tensors and numbers; other leaves (strings, None) are passed as they are.

    Returns:
        A function of the same arguments and results.

    Raises:
        FuncregError: when function cannot be called.

    >>> double = jit(lambda x, factor: x * factor)
    >>> double(torch.ones(2), 2.0), double(torch.ones(2), 3.0)  # compiled once
    (tensor([2., 2.]), tensor([3., 3.]))
    """
    _checks.check_callable("function", function, "a pure function of tensors")
    compiled = torch.compile(function, fullgraph=True, dynamic=False)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        args, kwargs = optree.tree_map(as_data, (args, kwargs))  # type: ignore[assignment]
        return compiled(*args, **kwargs)

    return call


def as_data(leaf: object) -> object:
    """A Python number as a 0-d tensor; float64, which changes no tensor's dtype and loses no digit."""
    if isinstance(leaf, bool | int):
        return torch.tensor(leaf)
    return torch.tensor(leaf, dtype=torch.float64) if isinstance(leaf, float) else leaf
