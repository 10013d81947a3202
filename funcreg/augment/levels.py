"""Solarize, posterize, invert, stretch and equalize: every level of an image becomes another level.

As torchvision's functions of these names, bit for bit in uint8.
"""

import torch
from torch import Tensor

from .. import _checks
from . import core
from .core import Number


def apply_invert(images: Tensor) -> Tensor:
    """The negative: `top - x`, where top is 255 in uint8 and 1 in floating point.

    Args:
        images: floating-point in [0, 1], or uint8 (N, C, H, W).

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images.

    >>> apply_invert(torch.tensor([0, 100, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)).flatten()
    tensor([255, 155,   0], dtype=torch.uint8)
    """
    images = core.check_levels(images)
    return (core.top(images) - core.widened(images)).to(images.dtype)


def apply_solarize(images: Tensor, threshold: Number) -> Tensor:
    """Invert the pixels of at least a threshold: `top - x where x >= threshold`, as a darkroom's light does.

    Args:
        images: floating-point in [0, 1], or uint8 (N, C, H, W).
        threshold: in the images' unit, in [0, 1] or [0, 255]; a number, or a tensor of shape () or (N,).

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images or threshold.

    >>> apply_solarize(torch.tensor([0, 100, 200], dtype=torch.uint8).reshape(1, 1, 1, 3), 128).flatten()
    tensor([  0, 100,  55], dtype=torch.uint8)
    """
    images = core.check_levels(images)
    top = core.top(images)
    threshold = core.spread(core.per_image("threshold", threshold, images, 0.0, top))
    x = core.widened(images)
    result = torch.where(x >= threshold.to(x.dtype), top - x, x).to(images.dtype)
    return _checks.spoilt(result, threshold)


def apply_posterize(images: Tensor, bits: Number) -> Tensor:
    """Keep the highest bits of each value: `floor(2**bits x) / 2**bits` of x in [0, 1].

    Args:
        images: floating-point in [0, 1], or uint8 (N, C, H, W).
        bits: in [0, 8], the whole part of which counts; a number, or a tensor of shape () or (N,).

    Returns:
        The images' shape and dtype. The highest floating-point value is `1 - 2**-bits`.

    Raises:
        FuncregError: for wrong images or bits.

    >>> apply_posterize(torch.tensor([0, 100, 255], dtype=torch.uint8).reshape(1, 1, 1, 3), 2).flatten()
    tensor([  0,  64, 192], dtype=torch.uint8)
    """
    images = core.check_levels(images)
    bits = core.spread(core.per_image("bits", bits, images, 0.0, 8.0))
    x, span = core.widened(images), 256.0 if images.dtype == torch.uint8 else 1.0
    levels = torch.exp2(bits.floor()).round().to(x.dtype)
    return (torch.minimum((x * (levels / span)).floor().clamp(min=0.0), levels - 1) * (span / levels)).to(images.dtype)


def apply_autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel of each image, so that its least value is 0 and its greatest the highest there is.

    `(x - min) / (max - min)`; a channel of one value is left as it is.

    Args:
        images: floating-point in [0, 1], or uint8 (N, C, H, W).

    Returns:
        The images' shape and dtype; uint8 rounded down.

    Raises:
        FuncregError: for wrong images.

    >>> apply_autocontrast(torch.tensor([0.25, 0.5, 0.75]).reshape(1, 1, 1, 3)).flatten()
    tensor([0.0000, 0.5000, 1.0000])
    """
    images = core.check_levels(images)
    top, x = core.top(images), core.widened(images)
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    flat, unit = low == high, (high - low) * (1 / top)
    return ((x - torch.where(flat, 0.0, low)) / torch.where(flat, 1.0, unit)).clamp(0.0, top).to(images.dtype)


def apply_equalize(images: Tensor) -> Tensor:
    """Make the histogram of each channel of each image as even as PIL's `ImageOps.equalize` does.

    A level becomes the share of the pixels below it. Floating-point images are taken as 256 levels of
    equal width, and the results are those levels; no gradient flows through them. A channel with NaN is NaN.

    Args:
        images: floating-point in [0, 1], or uint8 (N, C, H, W).

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images.

    >>> dark = torch.arange(0, 10, dtype=torch.uint8).repeat(52).reshape(1, 1, 10, 52)
    >>> apply_equalize(dark).unique()
    tensor([  0,  52, 104, 156, 208, 255], dtype=torch.uint8)
    """
    images = core.check_levels(images)
    levels = _as_levels(images).flatten(2).to(torch.int64)
    result = _equalizing(levels).to(images.dtype).gather(2, levels).reshape(images.shape)
    if images.dtype == torch.uint8:
        return result
    return torch.where(images.isnan().any(dim=(2, 3), keepdim=True), torch.nan, result / 255)


def _as_levels(images: Tensor) -> Tensor:
    """The level of each pixel: uint8."""
    if images.dtype == torch.uint8:
        return images
    return (core.widened(images.detach()).clamp(0.0, 1.0) * 255.999).to(torch.uint8)


def _equalizing(levels: Tensor) -> Tensor:
    """The level that each of an image's channel becomes, as PIL rounds: levels (N, C, K), result (N, C, 256), int64."""
    counts = levels.new_zeros(*levels.shape[:2], 256).scatter_add(2, levels, torch.ones_like(levels))
    up_to = counts.cumsum(dim=2)
    # The brightest level's own pixels are not counted; what has no other is left as it is.
    step = (levels.shape[2] - counts.gather(2, up_to.argmax(dim=2, keepdim=True))) // 255
    table = ((up_to - counts + step // 2) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step == 0, torch.arange(256, device=levels.device), table)
