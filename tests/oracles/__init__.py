"""What each public function is compared with, how closely, and why not more closely: one table, one file a module.

A row is a function that returns what funcreg gives and what something not written here gives;
`python -m tests.oracles` prints the table with the differences that it measures.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import optree
import torch

Pair = tuple[Any, Any]  # ours and theirs: trees of tensors and numbers, of the same structure


class Oracle(NamedTuple):
    """One row: `compare()` gives ours and theirs, whose largest difference is at most `tolerance`."""

    function: str
    against: str
    tolerance: float
    because: str
    compare: Callable[[], Pair]
    constant: bool  # theirs may be all one number, which otherwise means that nothing was tested


ORACLES: list[Oracle] = []


def oracle(
    function: str, *, against: str, tolerance: float, because: str, constant: bool = False
) -> Callable[[Callable[[], Pair]], Callable[[], Pair]]:
    """Put a comparison in the table.

    Args:
        function: the public function, `module.name`.
        against: what it is compared with.
        tolerance: of the largest absolute difference; 0 means the same bits.
        because: where a difference comes from.
        constant: whether theirs may be all one number.
    """

    def add(compare: Callable[[], Pair]) -> Callable[[], Pair]:
        ORACLES.append(Oracle(function, against, tolerance, because, compare, constant))
        return compare

    return add


def difference(row: Oracle) -> float:
    """The largest difference between ours and theirs; infinite where one of them is not finite or has another shape."""
    ours, theirs = (
        [torch.as_tensor(leaf, dtype=torch.float64).detach() for leaf in optree.tree_leaves(side)]  # pyright: ignore
        for side in row.compare()
    )
    assert theirs, "the oracle gives nothing"
    assert row.constant or any(leaf.numel() and leaf.min() < leaf.max() for leaf in (*theirs, _joined(theirs))), (
        "the oracle gives one number only: nothing was compared"
    )
    if [leaf.shape for leaf in ours] != [leaf.shape for leaf in theirs]:
        return math.inf
    gaps = [float((one - other).abs().max()) for one, other in zip(ours, theirs, strict=True) if other.numel()]
    return max(gaps) if all(math.isfinite(gap) for gap in gaps) else math.inf


def _joined(leaves: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([leaf.flatten() for leaf in leaves])
