"""Small layers of dropout draw together: one call of a kernel for all masks of one shape.

To ask for a small mask takes longer than to draw it. Which layers a forward calls, on what shapes, is
known from one before that began with the same layer on the same shape. The bits are those that each
layer draws alone; a layer that is called otherwise than expected does.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..noise.elements import dropout_masks, rates_and_scales

Shape = tuple[int, ...]

_MOST = 2**14  # elements of a mask; drawing a larger one takes longer than asking for it
_FORWARDS = 16  # of different shapes that are remembered


class _Group(NamedTuple):
    """Layers whose masks have one shape."""

    names: list[str]
    places: list[int]  # of their keys
    shape: Shape
    rates: list[float]
    numbers: Tensor  # the same on their device, once


class Masks:
    """The masks of a call.

    places: of each layer's key among the call's.
    """

    def __init__(self, places: dict[str, int]) -> None:
        self.places = places
        self.known: dict[Any, list[_Group]] = {}  # by the first layer of a forward and what it was called on
        self.drawn: dict[str, tuple[Tensor, Shape, float]] = {}
        self.met: dict[Shape, dict[str, float]] = {}
        self.first: tuple[str, Shape, torch.device] | None = None
        self.keys: Tensor | None = None

    def begin(self, keys: Tensor | None) -> None:
        """Begin a call in which each layer has one of these keys, (layers, 2), or one that a transform has wrapped."""
        if self.first is not None and self.first not in self.known and len(self.known) < _FORWARDS:
            self.known[self.first] = [self._group(shape, met) for shape, met in self.met.items() if len(met) > 1]
        self.keys, self.first, self.drawn, self.met = keys, None, {}, {}

    def of(self, name: str, x: Tensor, shape: Shape, rate: float) -> Tensor | None:
        """What a layer multiplies x by, of this shape, if it was drawn with others'; asked once a forward."""
        if self.keys is None or x.dtype != torch.float32 or math.prod(shape) > _MOST or not 0 < rate < 1:
            return None
        if self.first is None:
            self.first = (name, shape, x.device)
            for group in self.known.get(self.first, ()):
                self._draw(group)
        mask, drawn_shape, drawn_at = self.drawn.pop(name, (None, shape, rate))
        if mask is not None and drawn_shape == shape and drawn_at == rate and mask.device == x.device:
            return mask
        self.met.setdefault(shape, {})[name] = rate
        return None

    def _group(self, shape: Shape, met: dict[str, float]) -> _Group:
        assert self.keys is not None
        rates, places = list(met.values()), [self.places[name] for name in met]
        return _Group(list(met), places, shape, rates, rates_and_scales(rates, len(shape), self.keys.device))

    def _draw(self, group: _Group) -> None:
        assert self.keys is not None
        masks = dropout_masks(self.keys[group.places], group.shape, group.numbers)
        if masks is not None:
            each = zip(group.names, masks, group.rates, strict=True)
            self.drawn.update((name, (mask, group.shape, rate)) for name, mask, rate in each)
