"""Brightness, contrast, saturation and hue, each image under its own factors; grey images and normal ones."""

import math

import torch
from torch import Tensor

from .. import _checks, random
from . import core
from .core import Number


def color_jitter(
    images: Tensor,
    *,
    key: Tensor,
    brightness: Number = 0.0,
    contrast: Number = 0.0,
    saturation: Number = 0.0,
    hue: Number = 0.0,
) -> Tensor:
    """Change each image's brightness, contrast, saturation and hue, in this order, by random amounts.

    The factors of the first three are uniform over [max(0, 1 - setting), 1 + setting], the turn of
    the hue over [-hue, hue]. torchvision's `ColorJitter` also draws the order.

    Args:
        images: (N, C, H, W) of 1 or 3 channels; floating-point in [0, 1], or uint8.
        key: int64 (2,).
        brightness, contrast, saturation: at least 0; numbers or tensors of shape ().
        hue: in [0, 0.5], a share of the circle; a number or a tensor of shape ().

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images or settings.

    >>> color_jitter(torch.full((2, 1, 1, 1), 0.5), key=random.key(0), brightness=0.4).flatten()
    tensor([0.3624, 0.4653])

    Howard, "Some improvements on deep convolutional neural network based image classification", 2013
    (arXiv:1312.5402).
    """
    core.check_drawn(images, key=key)
    check_channels(images)
    factors: dict[str, Number] = {}
    draws = random.uniform(key, (4, images.shape[0]), dtype=torch.float64)
    settings = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    for (name, setting), draw in zip(settings.items(), draws, strict=True):
        setting = _checks.check_setting(name, setting, 0.0, 0.5 if name == "hue" else math.inf)
        if core.is_number(setting, 0.0):
            continue
        width = core.as_setting(setting, images)
        low, high = (-width, width) if name == "hue" else ((1 - width).clamp(min=0.0), 1 + width)
        factors[name] = low + (high - low) * draw
    return apply_color(images, **factors)


def apply_color(
    images: Tensor,
    *,
    brightness: Number = 1.0,
    contrast: Number = 1.0,
    saturation: Number = 1.0,
    hue: Number = 0.0,
) -> Tensor:
    """Change brightness, contrast, saturation and hue, in this order, as torchvision's `adjust_*`.

    Each of the first three is `factor * x + (1 - factor) * y`, clamped to the images' range, with y
    black, the mean of the grey image, and the grey image. A turn of the hue moves each colour round
    the HSV cone; 0.5 gives the complement. Images of one channel have no saturation and no hue. uint8
    images are rounded down after each change, as torchvision's are.

    Args:
        images: (N, C, H, W) of 1 or 3 channels; floating-point in [0, 1], or uint8.
        brightness, contrast, saturation: factors of at least 0; numbers, or tensors of shape () or (N,).
        hue: in [-0.5, 0.5], a share of the circle; a number, or a tensor of shape () or (N,).

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, factors or hue.

    >>> red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    >>> apply_color(red, hue=1 / 3).flatten()
    tensor([0., 1., 0.])
    """
    images = core.check_levels(images)
    check_channels(images)
    top, x, colored = core.top(images), core.widened(images), images.shape[1] == 3

    def ended(x: Tensor) -> Tensor:
        return _whole(x.clamp(0.0, top), images)

    factor = core.per_image("brightness", brightness, images, 0.0)
    if not core.is_number(brightness, 1.0):
        x = ended(x * core.spread(factor).to(x.dtype))
    factor = core.per_image("contrast", contrast, images, 0.0)
    if not core.is_number(contrast, 1.0):
        mean = _grey(x, images).mean(dim=(1, 2, 3), keepdim=True)
        factor = core.spread(factor)
        x = ended(x * factor.to(x.dtype) + mean * (1 - factor).to(x.dtype))
    factor = core.per_image("saturation", saturation, images, 0.0)
    if colored and not core.is_number(saturation, 1.0):
        factor = core.spread(factor)
        x = ended(torch.addcmul(x * factor.to(x.dtype), _grey(x, images), (1 - factor).to(x.dtype)))
    turn = core.per_image("hue", hue, images, -0.5, 0.5)
    if colored and not core.is_number(hue, 0.0):
        # torchvision spreads [0, 1] over 256 levels of nearly equal width.
        turned = _turned(x, turn) if top == 1.0 else _whole(_turned(x / top, turn) * 255.999, images)
        x = torch.where(core.spread(turn == 0), x, turned)
    return x.to(images.dtype)


def apply_grayscale(images: Tensor) -> Tensor:
    """The luminance in every channel: `0.2989 red + 0.587 green + 0.114 blue`.

    Args:
        images: (N, C, H, W) of 1 or 3 channels; floating-point or uint8.

    Returns:
        The images' shape and dtype; uint8 rounded down.

    Raises:
        FuncregError: for wrong images.

    >>> apply_grayscale(torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)).flatten()
    tensor([0.2989, 0.2989, 0.2989])
    """
    core.check(images)
    check_channels(images)
    return _grey(core.widened(images), images).to(images.dtype).expand(images.shape)


def apply_normalize(images: Tensor, mean: Number, std: Number) -> Tensor:
    """`(x - mean) / std`, of each channel.

    Args:
        images: floating-point (N, C, H, W).
        mean: a number, or a tensor of shape () or (C,).
        std: above 0; a number, or a tensor of shape () or (C,).

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, mean or std.

    >>> apply_normalize(torch.full((1, 2, 1, 1), 0.75), 0.5, torch.tensor([0.25, 0.5])).flatten()
    tensor([1.0000, 0.5000])
    """
    core.check(images)
    if not images.is_floating_point():
        _checks.fail(
            "images", _checks.describe(images), "a floating-point tensor (N, C, H, W)", "Divide: images / 255."
        )
    x = core.widened(images)
    mean = core.channelled(core.check_channelled("mean", mean, images), images, x.dtype)
    std = core.channelled(core.check_channelled("std", std, images, 0.0, exclusive="low"), images, x.dtype)
    return ((x - mean) / std).to(images.dtype)


def _grey(x: Tensor, images: Tensor) -> Tensor:
    """The luminance, (N, 1, H, W): weights of ITU-R 601-2 in four digits, as torchvision's and PIL's."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x.unbind(dim=1)
    grey = torch.add(torch.add(red * 0.2989, green, alpha=0.587), blue, alpha=0.114)
    return _whole(grey, images).unsqueeze(1)


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    """Colours in [0, 1] after a turn of the hue: to HSV and back, without the six cases of either.

    Going there, the channels are sorted instead of asking which is the largest. Coming back, with the
    hue h in turns, a channel is `largest - range * clamp(2 - 6 |h + n|, 0, 1)` for n = 1/2, 1/6 and -1/6
    (red, green and blue), where |.| is the distance to a whole number.
    """
    red, green, blue = x.unbind(dim=1)
    larger, smaller = torch.maximum(green, blue), torch.minimum(green, blue)
    largest, middle = torch.maximum(red, larger), torch.minimum(red, larger)
    extent = largest - torch.minimum(middle, smaller)
    bluer, past = (green < blue).to(x.dtype), (red < larger).to(x.dtype)
    # past ? bluer - 1/3 : -bluer, as arithmetic: a choice that nothing predicts takes ten times as long.
    origin = torch.addcmul(-bluer, past, 2 * bluer - 1 / 3)
    within = (middle - smaller) / extent.clamp(min=torch.finfo(x.dtype).tiny)
    hue = torch.add(origin, within, alpha=1 / 6).abs() + turn.to(x.dtype).reshape(-1, 1, 1)

    def channel(offset: float) -> Tensor:
        place = hue + offset
        lost = torch.rsub((place - place.round()).abs(), 2.0, alpha=6.0).clamp(0.0, 1.0)
        return torch.addcmul(largest, extent, lost, value=-1)

    # One after the other: three times less memory at once, which the system gives and takes slowly.
    return torch.stack((channel(1 / 2), channel(1 / 6), channel(-1 / 6)), dim=1)


def _whole(x: Tensor, images: Tensor) -> Tensor:
    """Rounded down when the images are uint8."""
    return x.floor() if images.dtype == torch.uint8 else x


def check_channels(images: Tensor) -> None:
    """Refuse images that are neither grey nor red, green and blue."""
    if images.shape[1] not in (1, 3):
        _checks.fail("images", _checks.describe(images), "1 channel, or 3: red, green and blue")
