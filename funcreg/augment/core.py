"""What the augmentations share: checks of images and settings, one value for each image, dtypes."""

import math
from typing import Any

import torch
from torch import Tensor

from .. import _checks, _jit

Number = float | Tensor
_SLACK = 1e-2  # more than resampling in 16 bits is off by


def check(images: Tensor) -> None:
    """Refuse what is no batch of images."""
    _checks.check_tensor("images", images)
    if images.ndim != 4:
        remedy = "Add the batch: images[None]." if images.ndim == 3 else ""
        _checks.fail("images", _checks.describe(images), "a floating-point or uint8 tensor (N, C, H, W)", remedy)
    check_batch(images, "a floating-point or uint8 tensor (N, C, H, W)")


def check_batch(images: Tensor, allowed: str = "a floating-point or uint8 tensor (N, ...)") -> None:
    """Refuse what has not a row of numbers for each example."""
    _checks.check_tensor("images", images)
    if images.ndim == 0 or not (images.dtype in _checks.FLOATING or images.dtype == torch.uint8):
        _checks.fail("images", _checks.describe(images), allowed)
    if images.is_meta:
        _checks.fail("images", "one on meta", "images with values")
    if 0 in images.shape[1:]:
        _checks.fail("images", _checks.describe(images), "images of at least one channel, row and column")


def check_levels(images: Tensor) -> Tensor:
    """Images as `check`, refused where a floating-point number is outside of [0, 1]; NaN where that cannot be read."""
    check(images)
    if images.dtype == torch.uint8:
        return images
    values = _jit.known(images)
    if values is None:
        return torch.where((images < -_SLACK) | (images > 1 + _SLACK), torch.nan, images)
    low, high = torch.aminmax(values) if values.numel() else (0.0, 1.0)
    if low < -_SLACK or high > 1 + _SLACK:  # which no NaN is
        remedy = (
            "Of 0 to 255: images / 255. Of normalized ones: normalize them last. Of overshoots: images.clamp(0, 1)."
        )
        _checks.fail("images", f"numbers from {float(low):.4g} to {float(high):.4g}", "numbers in [0, 1]", remedy)
    return images


def check_drawn(images: Tensor, *, key: Tensor) -> None:
    """Refuse what is no batch of images, no key, or a key elsewhere than they are."""
    check(images)
    _checks.check_key(key, images)


def check_fill(fill: Number, images: Tensor) -> Number:
    """The fill, checked: one number or one for each channel, which of uint8 images is a grey level."""
    info = torch.finfo(images.dtype) if images.is_floating_point() else torch.iinfo(images.dtype)
    return check_channelled("fill", fill, images, info.min, info.max)


def check_channelled(
    argument: str, value: Number, images: Tensor, low: float = -math.inf, high: float = math.inf, exclusive: str = ""
) -> Number:
    """One number or one for each channel, in [low, high]."""
    _check_length(argument, value, images.shape[1], "channel")
    return _checks.check_number(argument, value, low, high, exclusive=exclusive)


def per_image(
    argument: str, value: Number, images: Tensor, low: float = -math.inf, high: float = math.inf, exclusive: str = ""
) -> Tensor:
    """A parameter of each image, float64 (N,), from a number or a tensor of shape () or (N,)."""
    _check_length(argument, value, images.shape[0], "image")
    value = _checks.check_number(argument, value, low, high, exclusive=exclusive)
    return as_setting(value, images).expand(images.shape[0])


def _check_length(argument: str, value: object, length: int, each: str) -> None:
    several = isinstance(value, tuple | list)
    if several or (isinstance(value, Tensor) and value.shape not in ((), (length,))):
        allowed = f"a number, or a tensor of shape () or ({length},), one for each {each}"
        remedy = "Make it a tensor: torch.tensor(...)." if several else ""
        _checks.fail(argument, _checks.describe(value), allowed, remedy)


def place(argument: str, value: Number, images: Tensor, low: float, high: float) -> Tensor:
    """As `per_image`, in whole pixels; a number outside is refused, and a tensor's are moved inside."""
    if not isinstance(value, Tensor) and _checks.check_number(argument, value, low, high) % 1:
        _checks.fail(argument, value, "whole pixels")
    places = per_image(argument, value, images).clamp(low, high)
    return torch.where(places == places.round(), places, math.nan)


def as_range(argument: str, value: tuple[Number, Number], images: Tensor) -> tuple[Tensor, Tensor]:
    """A pair (low, high) of numbers above 0 as two float64 tensors of shape ()."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        _checks.fail(argument, _checks.describe(value), "a pair (low, high)")
    low, high = (_checks.check_setting(argument, end, exclusive="low") for end in value)
    low = _checks.check_order(argument, low, high, "high")
    return as_setting(low, images), as_setting(high, images)


def as_setting(value: Number, images: Tensor) -> Tensor:
    """A number or a tensor as a float64 tensor, where the images are."""
    if isinstance(value, Tensor):
        return value.to(images.device, torch.float64)
    # Not a copy from the CPU, for which it would wait until a GPU is done.
    return torch.full((), float(value), dtype=torch.float64, device=images.device)


def as_size(size: int | tuple[int, int] | None, images: Tensor, *, at_most: bool = False) -> tuple[int, int]:
    """(height, width) from a pair, an integer for both, or None for those of the images."""
    if size is None and not at_most:
        return images.shape[2], images.shape[3]
    pair: Any = size if isinstance(size, tuple | list) else (size, size)
    if len(pair) != 2:
        _checks.fail("size", _checks.describe(size), "an integer, or a pair (height, width)")
    for length, old in zip(pair, images.shape[2:], strict=True):
        _checks.check_count("size", length, 1, old if at_most else None)
    return pair[0], pair[1]


def is_number(value: Number, neutral: float) -> bool:
    """Whether a value is a Python number, and the one that changes nothing; a tensor is never read."""
    return not isinstance(value, Tensor) and value == neutral


def top(images: Tensor) -> float:
    """The highest value of a pixel."""
    return 255.0 if images.dtype == torch.uint8 else 1.0


def spread(values: Tensor) -> Tensor:
    """One value for each image, (N,), with axes of length 1 for C, H and W."""
    return values.reshape(-1, 1, 1, 1)


def channelled(fill: Number, images: Tensor, dtype: torch.dtype) -> Tensor:
    """A fill as a tensor that broadcasts with (N, C, H, W)."""
    return as_setting(fill, images).to(dtype).reshape(-1, 1, 1)


def widened(images: Tensor) -> Tensor:
    """Images in the dtype they are computed in: float64 when they are, float32 otherwise."""
    return images.to(torch.float64 if images.dtype == torch.float64 else torch.float32)


def narrowed(result: Tensor, images: Tensor) -> Tensor:
    """A result in the dtype of the images, rounded when they are uint8."""
    return rounded(result, images).to(images.dtype)


def rounded(result: Tensor, images: Tensor) -> Tensor:
    """A result, to whole numbers when the images are uint8."""
    return result.round() if images.dtype == torch.uint8 else result
