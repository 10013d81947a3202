"""Claims that one thing is larger than another, member by member: the verdict is that of the paired interval."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .estimates import number, paired
from .result import Claim

Members = Tensor | np.ndarray | Sequence[float]


def is_larger(
    text: str,
    larger: Members,
    smaller: Members,
    measured: str,
    /,
    *,
    under: str = "difference",
    smallest: float | None = None,
    **numbers: Any,
) -> Claim:
    """A claim that is confirmed where the 95% interval of the paired difference lies above 0, refuted where below.

    Args:
        text: the claim.
        larger, smaller: what it says is larger and smaller, (n,): of each member both.
        measured: how that is told, with {larger} and {smaller}, the means, and {difference}, an `Estimate`.
        under: the name that the difference has among the claim's numbers; "": it is all of them.
        smallest: the smallest difference of interest.
        numbers: what the record keeps beside it.

    >>> is_larger("a > b", [3.0, 4.0, 5.0], [1.0, 2.5, 3.0], "{larger:g} against {smaller:.2f}").measured
    '4 against 2.17'
    """
    first, second = (torch.as_tensor(each, dtype=torch.float64) for each in (larger, smaller))
    difference = paired(first, second)
    shown = measured.format(larger=float(first.mean()), smaller=float(second.mean()), difference=difference)
    kept = {under: difference._asdict()} if under else difference._asdict()
    return Claim(text, shown, difference.above(smallest=smallest), {**kept, **numbers})


def compare_means(
    text: str, larger: Tensor, smaller: Tensor, unit: str = "", *, smallest: float | None = None
) -> Claim:
    """`is_larger`, told by both means, which the record keeps too, and the paired difference.

    >>> compare_means("a > b", torch.tensor([3.0, 4.0]), torch.tensor([1.0, 1.0]), "points").measured
    '3.5 points against 1 points; paired difference 2.5 ± 0.707 (n = 2; 95% -3.85 to 8.85)'
    """
    unit = unit if unit in ("", "%") else f" {unit}"
    means = {"larger": float(larger.mean()), "smaller": float(smaller.mean())}
    told = " against ".join(f"{number(mean)}{unit}" for mean in means.values())
    return is_larger(
        text, larger, smaller, f"{told}; paired difference {{difference}}", under="", smallest=smallest, **means
    )
