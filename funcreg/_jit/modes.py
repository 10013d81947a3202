"""What is being made into a program, and what of it is not looked into."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

from .._compiling import is_compiling
from .._functorch import readable

F = TypeVar("F", bound=Callable[..., Any])

_recording: ContextVar[bool] = ContextVar("whether a function is recorded", default=False)
_operators: list[Callable[..., Any]] = []
_turn = threading.Lock()  # of the thread that registers them


def as_one_operator(function: F) -> F:
    """A function of tensors and numbers that `torch.compile` need not look into: to trace it takes as long as one call.

    >>> as_one_operator(lambda x: -x)(torch.ones(1))
    tensor([-1.])
    """
    _operators.append(function)
    return function


def register_operators() -> None:
    """Tell the compiler of them; with it comes its import, which takes longer than torch's.

    >>> register_operators()
    """
    with _turn:
        while _operators:
            torch.compiler.allow_in_graph(_operators.pop())


def compiling() -> bool:
    """Whether what runs is being made into a program: traced by `jit`, or recorded for it.

    >>> compiling()
    False
    """
    return is_compiling() or _recording.get()


def watched_by_torch() -> bool:
    """Whether a mode of torch's looks at each operator: traces it, counts it, or makes another of it.

    >>> watched_by_torch()
    False
    """
    inside: Any = torch._C
    return bool(inside._is_tracing() or inside._len_torch_dispatch_stack())


def known(tensor: Tensor) -> Tensor | None:
    """A tensor's values, of all members of a vmap; None where a look would wait, or a program is being made.

    >>> known(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    return None if compiling() else readable(tensor)


def known_number(tensor: Tensor) -> float | None:
    """The number of a tensor of shape (), the same for all members of a vmap; None where `known` is, or they differ.

    >>> known_number(torch.tensor(2.0)), known_number(torch.ones(1))
    (2.0, None)
    """
    values = known(tensor) if tensor.ndim == 0 else None
    return values.item() if values is not None and values.ndim == 0 else None


@contextmanager
def recording() -> Iterator[None]:
    """While a function is recorded operator by operator, to be compiled afterwards.

    >>> with recording():
    ...     compiling()
    True
    """
    token = _recording.set(True)
    try:
        yield
    finally:
        _recording.reset(token)
