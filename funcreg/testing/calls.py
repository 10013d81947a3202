"""What every rule does with an example: calls on copies, results without history, and what differs in a line."""

from collections.abc import Callable
from typing import Any

import optree
import torch
from torch import Tensor

from .example import Example
from .trees import differences, fresh


def result(example: Example, dtype: torch.dtype | None = None) -> Any:
    """The call's own result, of tensors that share nothing with the arguments and carry no history.

    What has no value to compare is its type's name. In another dtype where one is given.
    """
    plain = Tensor | bool | int | float | complex | str
    of = example.call(fresh(example.member(example.base, dtype)))
    return detached(optree.tree_map(lambda leaf: leaf if isinstance(leaf, plain) else type(leaf).__name__, of))


def detached(of: Any) -> Any:
    """The same tree without history."""
    return optree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, of)


def numbers(of: Any) -> list[Tensor]:
    """The tensors of a result, without history."""
    return [leaf.detach() for leaf in optree.tree_leaves(of) if isinstance(leaf, Tensor)]


def compared(example: Example, actual: list[Tensor], expected: list[Tensor]) -> list[str]:
    """How the tensors of two results differ, but for rounding."""
    if len(actual) != len(expected):
        return [f": got {len(actual)} tensors, expected {len(expected)}"]
    lines = differences(actual, expected, tolerances_of(example))
    return [line.removeprefix("0") if len(actual) == 1 else f"tensor {line}" for line in lines]


def tolerances_of(example: Example) -> Callable[[Tensor], tuple[float, float]]:
    """By a result's dtype: rounding of sums in another order."""
    exact = is_exact(example)

    def tolerances(leaf: Tensor) -> tuple[float, float]:
        if leaf.dtype in (torch.float64, torch.complex128):
            return 1e-10, 1e-11
        if leaf.element_size() == 2:
            return 2e-2, 2e-2
        # From float64 inputs, a float32 of the function's own; else of the inputs.
        return (1e-6, 1e-7) if exact else (1e-5, 1e-5 * max(1.0, _largest(leaf)))

    return tolerances


def is_exact(example: Example) -> bool:
    """Whether all floating-point inputs are in float64."""
    return {example.leaves[place].dtype for place in example.floating} <= {torch.float64}


def first_of(lines: list[str]) -> str:
    """The first line, and how many more there are."""
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return f"{lines[0].lstrip(': ')}{more}"


def said(error: Exception) -> str:
    """An exception in one line."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def _largest(leaf: Tensor) -> float:
    return float(leaf.detach().abs().nan_to_num(0.0, 0.0, 0.0).max()) if leaf.numel() else 0.0
