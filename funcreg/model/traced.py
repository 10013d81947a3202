"""Calls in a program that is being traced, where tensors have no values: what they are like, and examples of them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .. import random
from .._functorch import plain
from .lending import Rates

_TENSOR = "a tensor"


def description(leaf: Any) -> Any:
    """What a tensor is like; any other leaf as it is."""
    if not isinstance(leaf, Tensor):
        return leaf
    return (_TENSOR, tuple(leaf.shape), leaf.dtype, leaf.device)


def is_description(value: Any) -> bool:
    """Whether this is what a tensor is like."""
    return isinstance(value, tuple) and len(value) == 4 and isinstance(value[0], str) and value[0] == _TENSOR


def example(leaf: Any) -> Any:
    """A tensor that is like this; any other leaf as it is."""
    if not is_description(leaf):
        return leaf
    _, shape, dtype, _ = leaf
    return example_values({"": (shape, dtype)})[""]


def concrete(leaf: Any) -> Any:
    """A tensor without a transform's wrappers, with example values if it has none; any other leaf as it is.

    >>> concrete(torch.empty(2, device="meta")).device
    device(type='cpu')
    """
    if not isinstance(leaf, Tensor):
        return leaf
    leaf = plain(leaf)
    return example(description(leaf)) if leaf.is_meta or type(leaf).__name__ == "FakeTensor" else leaf


def example_values(kinds: Mapping[str, tuple[Any, torch.dtype]]) -> dict[str, Tensor]:
    """Tensors of these shapes and dtypes: small floating-point numbers, True, and zeros.

    >>> example_values({"mask": ((2,), torch.bool)})
    {'mask': tensor([True, True])}
    """
    values: dict[str, Tensor] = {}
    for place, (name, (shape, dtype)) in enumerate(kinds.items()):
        if dtype.is_floating_point:
            values[name] = random.uniform(random.key(place), tuple(shape), low=0.01, high=0.1).to(dtype)
        else:
            values[name] = torch.full(tuple(shape), dtype == torch.bool, dtype=dtype)
    return values


def described_rates(rates: Rates) -> Any:
    """Rates as a rehearsal needs them: which layers have one."""
    return tuple((name, 0.5) for name in rates) if isinstance(rates, Mapping) else 0.5


def sees_random_functions() -> None:
    """Let a mode of torch see `torch.randn_like` and its kin in a program that is being traced, as it does eagerly."""
    try:
        from torch._dynamo.variables import torch as dynamo

        dynamo.get_overridable_functions().update((torch.rand_like, torch.randn_like, torch.randint_like, torch.normal))
    except (ImportError, AttributeError):  # private, and another version's: those functions are refused by vmap there
        pass
