"""Batch statistics in eager training: copies of the running ones, which torch's own kernels move in place.

The formulas of `norm.batch_norm`, and the mode of torch that puts them in place of `F.batch_norm`, take as
long as a small layer itself. Where nothing but their speed would differ, layers run as they are: in eager
code, outside of transforms, where values can be read. An overflow shows in the running variances afterwards.
"""

from collections.abc import Mapping
from operator import attrgetter

import torch
from torch import Tensor

from .. import _jit
from .._functorch import needs_formulas

_is_cpu = attrgetter("is_cpu")


class Moving:
    """The buffers of a module's batch statistics.

    names: of all, with counts; variances: of those of the running variances.
    natively: whether those that a call has lent are copies, for torch's kernels to move: inside of a block, which
    no error leaves.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.variances: list[str] = []
        self.natively, self.failed, self.able = False, False, True

    def add(self, owner: str, mean: str, var: str, *others: str) -> None:
        """Add those of a layer."""
        prefix = f"{owner}." if owner else ""
        if f"{prefix}{var}" not in self.variances:
            self.variances.append(f"{prefix}{var}")
        self.names.update(f"{prefix}{name}" for name in (mean, var, *others))

    def __enter__(self) -> None:
        self.natively, self.failed = True, False

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self.natively, self.failed = False, kind is not None
        return kind is not None and issubclass(kind, Exception)

    def settle(self) -> None:
        """Note that formulas have done what the kernels, tried before, may have failed at."""
        self.able = self.able and not self.failed

    def can_natively(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether torch's kernels may move these, of which there are some."""
        if not self.able or needs_formulas():
            return False
        variances = [tensors[name] for name in self.variances]
        return _jit.known(variances[0]) is not None and all(map(_is_cpu, variances))

    def copied(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors with copies of these among them."""
        return {**tensors, **{name: tensors[name].clone() for name in self.names if name in tensors}}

    def overflowed(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether a variance was infinite, of which the kernel makes zeros, and the formula NaN."""
        variances = torch.cat([tensors[name] for name in self.variances])
        return not bool(torch.isfinite(variances).all())
