"""Targets that are classes: which index each has, and which of them count.

A target outside of [0, C) is refused where its value can be read at once, on the CPU in eager code, also under
`vmap`. In a compiled program and on a GPU, where a look would wait for it, its example becomes NaN, in value and
gradient. A target of `ignore_index` is left out, whatever its logits are. So with probabilities outside of [0, 1].
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import _checks, _jit

_SLACK = 1e-2


class Classes(NamedTuple):
    """Indices in [0, C), int64 (...); what each counts: 1, 0 where ignored, NaN where it is no class (None: all 1)."""

    indices: Tensor
    share: Tensor | None

    def masked(self, rows: Tensor) -> Tensor:
        """Rows (..., C), those of ignored targets replaced by zeros."""
        return rows if self.share is None else torch.where(self.share.unsqueeze(-1) == 0, 0.0, rows)

    def counted(self, values: Tensor) -> Tensor:
        """One value for each target; 0 where it is ignored, NaN where it is no class."""
        if self.share is None:
            return values
        share = self.share.to(values.dtype)
        return torch.where(share == 0, 0.0, share * values)


def check_integers(targets: Tensor, logits: Tensor | None = None) -> None:
    """Refuse what is not integers, or not one for each row of logits, beside them.

    >>> check_integers(torch.tensor([0, 2]))
    """
    _checks.check_tensor("targets", targets)
    allowed = "integers" if logits is None else f"integers {tuple(logits.shape[:-1])}"
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        _checks.fail("targets", _checks.describe(targets), allowed, "Convert them: targets.long().")
    if logits is None:
        return
    if targets.shape != logits.shape[:-1]:
        _checks.fail("targets", _checks.describe(targets), allowed)
    _checks.check_beside("targets", targets, logits, "logits")


def check_ignored(ignore_index: int | None, no_classes: str = "") -> None:
    """Refuse what is neither None nor an integer, or would have no effect beside targets that are `no_classes`.

    >>> check_ignored(-100)
    """
    if ignore_index is None:
        return
    _checks.check_count("ignore_index", ignore_index, -(2**63))
    if no_classes and ignore_index != -100:
        _checks.fail("ignore_index", ignore_index, f"None or -100, as it has no effect beside {no_classes}")


def as_classes(targets: Tensor, classes: int, ignore_index: int | None = None) -> Classes:
    """Integer targets as indices that are safe to use, and what each counts.

    >>> as_classes(torch.tensor([1, -100]), 2, -100)
    Classes(indices=tensor([1, 0]), share=tensor([1., 0.]))
    """
    check_ignored(ignore_index)
    index = targets.to(torch.int64)
    values = _jit.known(index)
    if values is not None:
        if not values.numel():
            return Classes(index, None)
        least, largest = (int(end) for end in torch.aminmax(values))
        if least >= 0 and largest < classes and not least <= (-1 if ignore_index is None else ignore_index) <= largest:
            return Classes(index, None)
        _refuse(values, classes, ignore_index)
    is_class = (index >= 0) & (index < classes)
    share = torch.where(is_class, 1.0, torch.nan)
    if ignore_index is not None:
        share = torch.where(index == ignore_index, 0.0, share)
    return Classes(torch.where(is_class, index, 0), share)


def as_shares(targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Targets that are probabilities, in a dtype; what is outside of [0, 1] by more than 16 bits lose is none.

    >>> as_shares(torch.tensor([True, False]), torch.float32)
    tensor([1., 0.])
    """
    shares = targets.to(dtype)
    wrong = (shares < -_SLACK) | (shares > 1 + _SLACK)
    values = _jit.known(wrong)
    if values is None:
        return torch.where(wrong, torch.nan, shares)
    if bool(values.any()):
        got = f"{int(values.sum())} of {values.numel()} numbers outside of it"
        _checks.fail("targets", got, "probabilities in [0, 1]", "Of signs -1 and 1: (targets + 1) / 2.")
    return shares


def as_distributions(targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Targets (..., C) that are probabilities, as `as_shares`, and sum to 1 in each row.

    >>> as_distributions(torch.tensor([0.5, 0.5]), torch.float32)
    tensor([0.5000, 0.5000])
    """
    shares = as_shares(targets, dtype)
    wrong = (shares.sum(dim=-1) - 1).abs() > _SLACK
    values = _jit.known(wrong)
    if values is None:
        return torch.where(wrong.unsqueeze(-1), torch.nan, shares)
    if bool(values.any()):
        got = f"{int(values.sum())} of {values.numel()} rows that do not sum to 1"
        remedy = (
            "Of weights: targets / targets.sum(-1, keepdim=True). Of several labels: fr.losses.binary_cross_entropy."
        )
        _checks.fail("targets", got, "probabilities that do over the last axis", remedy)
    return shares


def _refuse(values: Tensor, classes: int, ignore_index: int | None) -> None:
    wrong = (values < 0) | (values >= classes)
    if ignore_index is not None:
        wrong = wrong & (values != ignore_index)
    found = values[wrong]
    if found.numel():
        allowed = f"classes in [0, {classes})" + ("" if ignore_index is None else f", or {ignore_index} (ignore_index)")
        remedy = f"Classes are counted from 0: {classes} is one too many." if int(found.max()) == classes else ""
        _checks.fail("targets", f"{int(found[0])} among {values.numel()}", allowed, remedy)
