"""What is said of a function that is compiled more often than its caller may have meant."""

import collections
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

_MANY = 9  # programs
_SAME = 3  # programs for one kind of arguments
FEWER = (
    "Each shape, and each value that it closes over, is a program of its own: give it tensors of a few shapes, and "
    "numbers as arguments. TORCH_LOGS=recompiles says what differed."
)


def noticing_kinds(function: Callable[..., Any]) -> Callable[[Sequence[Any], Any], None]:
    """What is told the leaves and structure that a program was compiled for, and says what was hardly meant.

    That is a second program for a smaller batch, a third where one size grows or only what the function closes over is
    new, and many.
    """
    shapes: list[list[torch.Size]] = []
    kinds: collections.Counter[Hashable] = collections.Counter()
    name = getattr(function, "__name__", "a function")

    def said(leaves: Sequence[Any], structure: Any) -> str | None:
        shapes.append([leaf.shape for leaf in leaves if isinstance(leaf, Tensor)])
        kind = structure, *_kind(leaves)
        kinds[kind] += 1
        if len(shapes) == 2 and (rows := _rows(*shapes)) and rows[1] < rows[0]:
            return (
                f"{name} was compiled a second time, for {rows[1]} rows after {rows[0]}: a smaller last batch? Leave "
                f"it out, or fill it up to {rows[0]} rows; each shape is a program of its own, and `compilations` "
                "counts them."
            )
        if len(shapes) == _SAME and (sizes := _grown(*shapes)):
            first, second, third = sizes
            return (
                f"{name} was compiled a third time, for a size of {third} after {first} and {second}: one that grows "
                "from call to call? Fill it up to a size that stays, and mask what is not there; each shape is a "
                "program of its own."
            )
        if len(shapes) == _MANY:
            return f"{name} was compiled {_MANY} times. {FEWER}"
        if kinds[kind] == _SAME:
            return (
                f"{name} was compiled {_SAME} times for one kind of arguments, as what it closes over changed: a "
                "number or a function of a closure, a global or an object, or a function among its arguments. Give "
                "it numbers as arguments, which are data. TORCH_LOGS=recompiles says what differed."
            )
        return None

    def compiled_for(leaves: Sequence[Any], structure: Any) -> None:
        if (words := said(leaves, structure)) is not None:
            warnings.warn(words, stacklevel=3)

    return compiled_for


def _kind(leaves: Sequence[Any]) -> tuple[Hashable, ...]:
    """What arguments are but values; of what is no tensor, the value of a setting, and of anything else the type."""
    modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()
    return *modes, torch.is_autocast_enabled("cpu"), *map(_kind_of_leaf, leaves)


def _kind_of_leaf(leaf: Any) -> Hashable:
    if isinstance(leaf, Tensor):
        strides = leaf.stride() if leaf.layout == torch.strided else leaf.layout
        return leaf.shape, strides, leaf.dtype, leaf.device, leaf.requires_grad, leaf.is_inference(), type(leaf)
    return type(leaf) if callable(leaf) or getattr(type(leaf), "__hash__", None) is None else leaf


def _rows(first: list[torch.Size], now: list[torch.Size]) -> tuple[int, int] | None:
    """How many rows some tensors had, and have, where nothing else differs."""
    sizes = _sizes(first, now)
    alike = all(old[1:] == new[1:] for old, new in zip(first, now, strict=False))
    return sizes if alike else None


def _sizes(first: list[torch.Size], now: list[torch.Size]) -> tuple[int, int] | None:
    """The one size that some tensors had, and the one that they have instead."""
    pairs = list(zip(first, now, strict=False))
    if len(first) != len(now) or any(len(old) != len(new) for old, new in pairs):
        return None
    sizes = {each for old, new in pairs for each in zip(old, new, strict=True) if each[0] != each[1]}
    return sizes.pop() if len(sizes) == 1 else None


def _grown(*shapes: list[torch.Size]) -> tuple[int, int, int] | None:
    """Three sizes that follow one another by equal steps, where nothing else differs."""
    one, two = _sizes(*shapes[:2]), _sizes(*shapes[1:])
    if one is None or two is None or one[1] != two[0] or not two[1] - two[0] == one[1] - one[0] > 0:
        return None
    return (*one, two[1])
