"""Shear and translation: the single moves of which policies are made."""

import torch
from torch import Tensor

from .. import _checks, random
from . import core
from .core import Number
from .geometry import affine, apply_affine, filled, inverse_map


def shear(
    images: Tensor, amount: Number, *, key: Tensor, interpolation: str = "bilinear", fill: Number = 0.0
) -> Tensor:
    """Slant each image along x and along y by amounts uniform over [-amount, amount], as `apply_shear`.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        amount: at least 0; a number or a tensor of shape ().
        key: int64 (2,).
        interpolation, fill: as in `apply_affine`.

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, amount, interpolation or fill.

    >>> shear(torch.ones(2, 3, 32, 32), 0.3, key=random.key(0)).shape
    torch.Size([2, 3, 32, 32])
    """
    core.check_drawn(images, key=key)
    amount = _checks.check_setting("amount", amount)
    along_x, along_y = amount * random.uniform(key, (2, images.shape[0]), low=-1.0, dtype=torch.float64)
    return apply_shear(images, along_x, along_y, interpolation=interpolation, fill=fill)


def apply_shear(
    images: Tensor,
    along_x: Number = 0.0,
    along_y: Number = 0.0,
    *,
    interpolation: str = "bilinear",
    fill: Number = 0.0,
) -> Tensor:
    """Slant each image, its top left corner at rest: along x first, then along y.

    What is y pixels below the corner moves to the left by `along_x * y`; what is x pixels to the right of
    it moves up by `along_y * x`. As in AutoAugment.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        along_x, along_y: numbers, or tensors of shape () or (N,).
        interpolation, fill: as in `apply_affine`.

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, amounts, interpolation or fill.

    >>> apply_shear(torch.arange(4.0).expand(1, 1, 2, 4), 1.0)[0, 0]
    tensor([[0.5000, 1.5000, 2.5000, 1.5000],
            [1.5000, 2.5000, 1.5000, 0.0000]])
    """
    core.check(images)
    slants = core.per_image("along_x", along_x, images), core.per_image("along_y", along_y, images)
    inverse = inverse_map(images, slants=slants, translate=corner_moves(images, *slants))
    return filled(images, inverse, interpolation, fill)


def translate(
    images: Tensor, share: Number, *, key: Tensor, interpolation: str = "bilinear", fill: Number = 0.0
) -> Tensor:
    """Move each image by amounts uniform over [-share, share] times the width and the height.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        share: at least 0; a number or a tensor of shape ().
        key: int64 (2,).
        interpolation, fill: as in `apply_affine`.

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, share, interpolation or fill.

    >>> translate(torch.ones(2, 3, 32, 32), 0.1, key=random.key(0)).shape
    torch.Size([2, 3, 32, 32])
    """
    share = _checks.check_setting("share", share)
    return affine(images, key=key, translate=share, interpolation=interpolation, fill=fill)


def apply_translate(
    images: Tensor,
    across: Number = 0.0,
    down: Number = 0.0,
    *,
    interpolation: str = "bilinear",
    fill: Number = 0.0,
) -> Tensor:
    """Move each image to the right and down.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        across, down: pixels; numbers, or tensors of shape () or (N,).
        interpolation, fill: as in `apply_affine`.

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, amounts, interpolation or fill.

    >>> apply_translate(torch.arange(4.0).expand(1, 1, 1, 4), 1.0).flatten()
    tensor([0., 0., 1., 2.])
    """
    core.check(images)
    moves = core.per_image("across", across, images), core.per_image("down", down, images)
    return apply_affine(images, translate=moves, interpolation=interpolation, fill=fill)


def corner_moves(images: Tensor, along_x: Tensor, along_y: Tensor) -> tuple[Tensor, Tensor]:
    """The translation that, after a slant about the centre, puts the top left corner back."""
    height, width = images.shape[2:]
    return -along_x * (height / 2), along_y * (along_x * (height / 2) - width / 2)
