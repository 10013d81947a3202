"""Functions with one fault each, and the rule that has to name it: one file a kind, `FAULTS`.

A row is (the rule, what is wrong, a call that must raise one AssertionError about that rule and no other).
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import funcreg as fr

Fault = tuple[str, str, Callable[[], None]]

KEY = fr.random.key(3)
X = torch.tensor([[0.5, -1.5, 2.0], [1.0, 0.25, -0.75]])
PARAMS = {"weight": X, "bias": torch.tensor([0.1, 0.2])}
RATE = {"rate": (0.0, 0.3, 0.9)}


def fault(rule: str, what: str, function: Callable[..., Any], *args: Any, **how: Any) -> Fault:
    """A row: `fr.testing.check` of a function, of X by default."""
    return rule, what, functools.partial(fr.testing.check, function, *(args or (X,)), **how)


def one_after_other(x: Tensor, *steps: Callable[[Tensor], object]) -> Tensor:
    """x, after things were done with it for their effect."""
    for step in steps:
        step(x)
    return x
