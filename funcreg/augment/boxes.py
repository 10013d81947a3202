"""Boxes of random area and shape, drawn for each image until one fits."""

from collections.abc import Sequence

import torch
from torch import Tensor

ATTEMPTS = 10  # boxes drawn for each image, the first of which that fits is taken: torchvision's number
Range = tuple[Tensor, Tensor]


def draw_sides(images: Tensor, scale: Range, ratio: Range, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Two sides in whole pixels: their product, as a share of the area, uniform over scale; second / first
    log-uniform over ratio. From numbers uniform over [0, 1): float64 (2, N, ATTEMPTS) to (N, ATTEMPTS) each.
    """
    (smallest, largest), (narrowest, widest) = scale, ratio
    area = images.shape[2] * images.shape[3] * (smallest + (largest - smallest) * draws[0])
    shape = torch.exp(narrowest.log() + (widest.log() - narrowest.log()) * draws[1])
    return torch.sqrt(area / shape).round(), torch.sqrt(area * shape).round()


def draw_place(length: int, side: Tensor, draws: Tensor) -> Tensor:
    """Where a side begins within an axis of this length, uniform over all places."""
    return torch.floor(draws * (length - side + 1))


def first_that_fits(fits: Tensor, drawn: Sequence[Tensor], otherwise: Sequence[Tensor]) -> list[Tensor]:
    """Of each image's attempts, bool and float64 (N, ATTEMPTS), the first that fits, or what is otherwise: (N,)."""
    first, found = fits.to(torch.int8).argmax(dim=1, keepdim=True), fits.any(dim=1)
    pairs = zip(drawn, otherwise, strict=True)
    return [torch.where(found, each.gather(1, first).squeeze(1), instead) for each, instead in pairs]
