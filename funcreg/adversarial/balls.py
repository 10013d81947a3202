"""Balls of a radius around each example, in two norms: a uniform point of one, the way up, the way back."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .. import random
from ..tree.norms import length, over_norm, without_scale
from ..tree.values import sign


class Ball(NamedTuple):
    """A norm's unit ball, of each example."""

    draw: Callable[[Tensor, Tensor], Tensor]  # (key, x) -> a uniform point of it, for each example of x
    direction: Callable[[Tensor], Tensor]  # a gradient -> the point of it that is furthest up
    project: Callable[[Tensor, Tensor], Tensor]  # (offset, radius) -> the nearest point of radius * ball


def _in_cube(key: Tensor, x: Tensor) -> Tensor:
    return random.uniform(key, tuple(x.shape), low=-1.0, high=1.0, dtype=x.dtype)


def _in_ball(key: Tensor, x: Tensor) -> Tensor:
    # A uniform point on the sphere of two dimensions more, without two coordinates, is uniform in the ball.
    rows = random.normal(key, (x.shape[0], math.prod(x.shape[1:]) + 2), dtype=x.dtype)
    return (rows / _lengths(rows))[:, :-2].reshape(x.shape)


def unit(direction: Tensor) -> Tensor:
    """Each example's direction in length 1; 0 where it is 0.

    >>> unit(torch.tensor([[3e-30, 4e-30], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    rows = without_scale(_rows(direction), 1)
    return over_norm(rows, _lengths(rows)).reshape(direction.shape)


def _shorten(offset: Tensor, radius: Tensor) -> Tensor:
    rows = _rows(offset)
    return (rows * over_norm(radius, _lengths(rows)).clamp(max=1.0)).reshape(offset.shape)


def _rows(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def _lengths(rows: Tensor) -> Tensor:
    return length(rows, 1)


BALLS = {
    "linf": Ball(_in_cube, sign, lambda offset, radius: torch.clamp(offset, -radius, radius)),
    "l2": Ball(_in_ball, unit, _shorten),
}
