"""Bad arguments, one file a module: `REFUSALS`, rows of (function, argument that the message names, call)."""

from collections.abc import Callable
from typing import Any

import torch

import funcreg as fr

Refusal = tuple[str, str, Callable[[], Any]]

KEY = fr.random.key(0)
KEYS = fr.random.split(KEY, 3)
X, INTEGERS = torch.ones(4, 3), torch.ones(4, 3, dtype=torch.int64)
IMAGES = torch.ones(2, 3, 4, 4)
PARAMS = {"0.weight": torch.ones(2, 3), "0.bias": torch.ones(2)}
CLASSES = torch.tensor([0, 1, 2, 0])


def bad(value: Any) -> Any:
    """A deliberate mistake, hidden from the type checker."""
    return value
