"""What is put in order: scores, and conditions that are refused where they can be read."""

import torch
from torch import Tensor

from .. import _checks, _jit
from ..tree.values import precise


def as_scores(scores: Tensor, share: Tensor | None) -> tuple[Tensor, Tensor]:
    """Scores (n,) in at least float32, and whether each counts; NaN is refused where it can be read.

    Args:
        scores: floating-point (...).
        share: what each counts, as that of `losses.classes.Classes`; the ignored are 0.

    >>> as_scores(torch.tensor([0.5, torch.nan]), torch.tensor([1.0, 0.0]))
    (tensor([0.5000, 0.0000]), tensor([ True, False]))
    """
    counted = torch.ones_like(scores, dtype=torch.bool) if share is None else share != 0
    flat = torch.where(counted, precise(scores), 0.0).flatten()
    if holds(flat.isnan()):
        _checks.fail("scores", f"NaN among {flat.numel()}", "numbers, or infinities, that can be put in order")
    return flat, counted.flatten()


def holds(condition: Tensor) -> bool:
    """Whether a condition holds anywhere, in any member of a vmap; False where no value can be read at once.

    >>> holds(torch.tensor([False, True]))
    True
    """
    values = _jit.known(condition)
    return values is not None and bool(values.any())
