"""What is being made into a program."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .._functorch import readable

_recording = False


def compiling() -> bool:
    """Whether what runs is being made into a program: traced by `jit`, or recorded for it.

    >>> compiling()
    False
    """
    return torch.compiler.is_compiling() or _recording


def known(tensor: Tensor) -> Tensor | None:
    """A tensor's values, of all members of a vmap; None where a look would wait, or a program is being made.

    >>> known(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    return None if compiling() else readable(tensor)


@contextmanager
def recording() -> Iterator[None]:
    """While a function is recorded operator by operator, to be compiled afterwards.

    >>> with recording():
    ...     compiling()
    True
    """
    global _recording
    previous, _recording = _recording, True
    try:
        yield
    finally:
        _recording = previous
