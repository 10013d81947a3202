"""What an autograd.Function that somebody wrote says of its slope, against finite differences."""

from collections.abc import Sequence
from typing import Any

import optree
import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.func import grad

from .. import random
from .example import Example, is_floating, replaced
from .trees import fresh

_STEP = 1e-5  # between numbers in float64
_ENOUGH = 1e-3  # relative: what a wrong formula exceeds


def slopes(example: Example, places: Sequence[int]) -> list[str]:
    """A gradient that an autograd.Function in Python has a part in is the slope, in float64.

    One that stands for a slope of 0 (a straight-through estimator), or of what the function hands on as it is
    (a reversed or scaled gradient), is meant to be another.
    """
    if not places or not _written_by_hand(example, places):
        return []
    leaves = fresh(example.member(example.base, torch.float64))
    found = []
    for place in places:
        try:
            line = _line(example, leaves, place)
        except Exception:  # what it closes over has another dtype: `dtype` tells of it
            return []
        found += [f"the gradient of {example.names[place]} {line}"] if line else []
    return found


def _line(example: Example, leaves: list[Any], place: int) -> str:
    at = leaves[place]
    along = random.normal(random.key(11), tuple(at.shape), dtype=at.dtype).to(at.device)

    def height(leaf: Tensor) -> Tensor:
        return _total(example.call(replaced(leaves, [place], [leaf.clone()])))

    if any(torch.equal(leaf, at) for leaf in _inexact(example.call(replaced(leaves, [place], [at.clone()])))):
        return ""
    with torch.no_grad():
        once, twice = ((height(at + h * along) - height(at - h * along)) / (2 * h) for h in (_STEP, 2 * _STEP))
        slope = float(once)
        scale = abs(slope) + float(height(at).abs()) * 1e-9 / _STEP
    if slope == 0 or abs(slope - float(twice)) > _ENOUGH * scale / 10:  # a step, or a kink
        return ""
    own = float((grad(height)(at) * along).sum())
    return "" if abs(own - slope) <= _ENOUGH * scale else f"along a direction is {own:.6g}, the slope is {slope:.6g}"


def _written_by_hand(example: Example, places: Sequence[int]) -> bool:
    """Whether an autograd.Function that is not torch's has a part in the result."""
    leaves = fresh(example.member(example.base))
    asked = [leaves[place].requires_grad_() for place in places]
    try:
        with torch.enable_grad():
            total = _total(example.call(replaced(leaves, places, [leaf.clone() for leaf in asked])))
    except Exception:  # the other rules tell of it
        return False
    seen, nodes = set(), [total.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction) and not _is_torchs(node):
            return True
        nodes += [each for each, _ in node.next_functions]
    return False


def _is_torchs(node: Any) -> bool:
    return node._forward_cls.__module__.startswith("torch.")


def _inexact(of: Any) -> list[Tensor]:
    return [leaf for leaf in optree.tree_leaves(of) if is_floating(leaf)]  # pyright: ignore[reportReturnType]


def _total(of: Any) -> Tensor:
    """A sum in which no two elements weigh the same."""
    sums = [(leaf.double() * _weights(leaf)).sum() for leaf in _inexact(of)]
    return torch.stack(sums).sum() if sums else torch.zeros(())


def _weights(leaf: Tensor) -> Tensor:
    count = torch.arange(leaf.numel(), dtype=torch.float64, device=leaf.device)
    return (1 + count.sin() / 2).reshape(leaf.shape)
