"""Small dropout layers draw together: one call of a kernel for all masks of one shape and rate.

To ask for a small mask takes longer than to draw it. Which layers a forward calls, on what shapes, is
known from one before that began with the same layer on the same shape. The bits are those that each
layer draws alone; a layer that is called otherwise than expected does.
"""

from typing import Any, NamedTuple

import torch
from torch import Size, Tensor

from ..noise.elements import dropout_masks

_MOST = 2**14  # elements of a mask; drawing a larger one takes longer than asking for it
_FORWARDS = 16  # of different shapes that are remembered


class _Group(NamedTuple):
    """Layers that are called on one shape with one rate."""

    names: list[str]
    places: list[int]  # of their keys
    shape: Size
    rate: float


class Masks:
    """The masks of a call.

    places: of each layer's key among the call's.
    """

    def __init__(self, places: dict[str, int]) -> None:
        self.places = places
        self.known: dict[Any, list[_Group]] = {}  # by the first layer of a forward and what it was called on
        self.drawn: dict[str, tuple[Tensor, float]] = {}
        self.met: dict[tuple[Size, float], list[str]] = {}
        self.first: tuple[str, Size] | None = None
        self.keys: Tensor | None = None

    def begin(self, keys: Tensor | None) -> None:
        """Begin a call in which each layer has one of these keys, (layers, 2), or one that a transform has wrapped."""
        if self.first is not None and self.first not in self.known and len(self.known) < _FORWARDS:
            self.known[self.first] = [
                _Group(names, [self.places[name] for name in names], *alike)
                for alike, names in self.met.items()
                if len(names) > 1
            ]
        self.keys, self.first, self.drawn, self.met = keys, None, {}, {}

    def of(self, name: str, x: Tensor, rate: float) -> Tensor | None:
        """What a layer multiplies x by, if it was drawn with others'; asked once a forward."""
        if self.keys is None or x.dtype != torch.float32 or x.numel() > _MOST or not 0 < rate < 1:
            return None
        if self.first is None:
            self.first = (name, x.shape)
            for group in self.known.get(self.first, ()):
                self._draw(group, x)
        mask, drawn_at = self.drawn.pop(name, (None, rate))
        if mask is not None and mask.shape == x.shape and drawn_at == rate and mask.device == x.device:
            return mask
        self.met.setdefault((x.shape, rate), []).append(name)
        return None

    def _draw(self, group: _Group, x: Tensor) -> None:
        assert self.keys is not None
        masks = dropout_masks(self.keys[group.places], group.shape, group.rate)
        if masks is not None:
            self.drawn.update((name, (mask, group.rate)) for name, mask in zip(group.names, masks, strict=True))
