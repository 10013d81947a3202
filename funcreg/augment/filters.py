"""Sharpness and Gaussian blur: each pixel mixed with its neighbours, each image by its own amount."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _checks, random
from . import core
from .core import Number


def apply_sharpness(images: Tensor, factor: Number) -> Tensor:
    """Blend each image with a smoothed one: `factor * x + (1 - factor) * smooth(x)`, clamped to the images' range.

    smooth weighs a pixel by 5/13 and each of its eight neighbours by 1/13, as torchvision and PIL do;
    the pixels at the border stay as they are, and all those of an image of less than 3 pixels a side.

    Args:
        images: floating-point in [0, 1], or uint8 (N, C, H, W).
        factor: at least 0: 0 smooths, 1 changes nothing, more sharpens; a number, or a tensor of shape () or (N,).

    Returns:
        The images' shape and dtype; uint8 rounded down.

    Raises:
        FuncregError: for wrong images or factor.

    >>> dot = F.pad(torch.ones(1, 1, 1, 1), (1,) * 4)
    >>> apply_sharpness(dot, 0.0)[0, 0, 1]
    tensor([0.0000, 0.3846, 0.0000])
    """
    images = core.check_levels(images)
    factor = core.spread(core.per_image("factor", factor, images, 0.0))
    if min(images.shape[2:]) < 3:
        return _checks.spoilt(images, factor)
    x = core.widened(images)
    inner = x[:, :, 1:-1, 1:-1]
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    smooth = core.rounded((rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inner) / 13, images)
    changed = torch.addcmul(x, F.pad(smooth - inner, (1,) * 4), (1 - factor).to(x.dtype))
    return changed.clamp(0.0, core.top(images)).to(images.dtype)


def gaussian_blur(
    images: Tensor, kernel_size: int, sigma: tuple[Number, Number] = (0.1, 2.0), *, key: Tensor
) -> Tensor:
    """Blur each image by a Gaussian whose deviation is uniform over sigma.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        kernel_size: as in `apply_gaussian_blur`.
        sigma: (low, high), above 0, in pixels; numbers or tensors of shape ().
        key: int64 (2,).

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, kernel_size or sigma.

    >>> gaussian_blur(torch.ones(2, 3, 32, 32), 5, key=random.key(0)).shape
    torch.Size([2, 3, 32, 32])

    Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020.
    """
    core.check_drawn(images, key=key)
    low, high = core.as_range("sigma", sigma, images)
    drawn = low + (high - low) * random.uniform(key, (images.shape[0],), dtype=torch.float64)
    return apply_gaussian_blur(images, kernel_size, drawn)


def apply_gaussian_blur(images: Tensor, kernel_size: int, sigma: Number) -> Tensor:
    """Blur each image by its own Gaussian, `exp(-d^2 / (2 sigma^2))` normalised, of the images reflected at the border.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        kernel_size: how many pixels it reaches over, each way; odd, less than twice the sides.
        sigma: the deviation in pixels, above 0; a number, or a tensor of shape () or (N,).

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, kernel_size or sigma.

    >>> apply_gaussian_blur(torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]).expand(1, 1, 3, 5), 3, 1.0)[0, 0, 1]
    tensor([0.0000, 0.2741, 0.4519, 0.2741, 0.0000])
    """
    core.check(images)
    _checks.check_count("kernel_size", kernel_size)
    reach = kernel_size // 2
    if kernel_size % 2 == 0 or reach >= min(images.shape[2:]):
        _checks.fail("kernel_size", kernel_size, f"an odd integer below {2 * min(images.shape[2:])}")
    sigma = core.per_image("sigma", sigma, images, 0.0, exclusive="low")
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64, device=images.device)
    weights = torch.softmax(-((offsets / sigma.unsqueeze(1)) ** 2) / 2, dim=1).to(core.widened(images).dtype)
    x = F.pad(core.widened(images), (reach,) * 4, mode="reflect")
    for dim in (2, 3):
        # A sum of few shifted images, where a convolution with other weights for each image is slow.
        shifted = [x.narrow(dim, shift, images.shape[dim]) for shift in range(kernel_size)]
        parts = (core.spread(weight) * each for weight, each in zip(weights.unbind(dim=1), shifted, strict=True))
        x = sum(parts, start=x.new_zeros(()))
    return core.narrowed(x, images)
