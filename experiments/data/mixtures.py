"""Mixtures of Gaussians in the plane, each a function of a key."""

import math

import torch
from torch import Tensor

import funcreg as fr


def ring_centres(modes: int = 8, *, radius: float = 2.0) -> Tensor:
    """Points at even distances on a circle, (modes, 2)."""
    angles = torch.arange(modes) * (2 * math.pi / modes)
    return radius * torch.stack((torch.cos(angles), torch.sin(angles)), dim=1)


def ring(key: Tensor, n: int = 1000, *, modes: int = 8, radius: float = 2.0, sd: float = 0.1) -> Tensor:
    """Points of `modes` Gaussians, equally likely, whose centres lie at even distances on a circle.

    Returns:
        x: (n, 2).
    """
    which_key, x_key = fr.random.split(key)
    which = fr.random.randint(which_key, (n,), 0, modes)
    centres = ring_centres(modes, radius=radius).to(key.device)
    return centres[which] + fr.random.normal(x_key, (n, 2), std=sd)
