"""Whether a `torch.func` transform is running: the one place that asks torch's private module."""

from torch import Tensor
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]  (it has no stub)


def in_transform() -> bool:
    """Whether this code runs inside `vmap`, `grad`, `jvp` or another transform.

    >>> in_transform()
    False
    """
    return _functorch.peek_interpreter_stack() is not None


def is_wrapped(tensor: Tensor) -> bool:
    """Whether a tensor is a transform's own: batched by `vmap`, or tracked by a derivative.

    >>> import torch
    >>> is_wrapped(torch.zeros(2))
    False
    """
    return _functorch.is_functorch_wrapped_tensor(tensor)
