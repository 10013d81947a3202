"""What all of `norm` shares: the precision of statistics, and checks."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .. import _checks


def precise(tensor: Tensor) -> Tensor:
    """A tensor in the dtype that statistics are computed in: float32 for 16 bits, else its own.

    >>> precise(torch.ones(1, dtype=torch.bfloat16))
    tensor([1.])
    """
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.to(torch.float32)


def check_vectors(vectors: Mapping[str, Tensor | None], shape: tuple[int, ...], what: str) -> None:
    """Refuse what is neither None nor floating-point of one shape, that of `what`."""
    for name, vector in vectors.items():
        if vector is None:
            continue
        _checks.check_floating(name, vector)
        if vector.shape != shape:
            _checks.fail(name, _checks.describe(vector), f"shape {tuple(shape)}, {what}")
