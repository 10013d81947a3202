"""Pixels moved or covered, none of them interpolated: flips, padded crops, cutout."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _checks, random
from . import core, operators
from .core import Number


def flip(images: Tensor, rate: Number = 0.5, *, key: Tensor, direction: str = "horizontal") -> Tensor:
    """Mirror each image with probability rate.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        rate: the probability, in [0, 1]; a number or a tensor of shape ().
        key: int64 (2,).
        direction: "horizontal" exchanges left and right, "vertical" top and bottom.

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, a rate not in [0, 1], or another direction.

    >>> flip(torch.arange(6.0).reshape(2, 1, 1, 3), key=random.key(1)).squeeze()
    tensor([[0., 1., 2.],
            [5., 4., 3.]])
    """
    core.check_drawn(images, key=key)
    rate = _checks.check_setting("rate", rate, 0.0, 1.0)
    _checks.check_choice("direction", direction, ("horizontal", "vertical"))
    chosen = random.uniform(key, (images.shape[0],)) < rate
    dim = 3 if direction == "horizontal" else 2
    places = torch.arange(images.shape[dim], device=images.device)
    places = torch.where(chosen.unsqueeze(1), places.flip(0), places)
    shape = (-1, 1, 1, images.shape[3]) if dim == 3 else (-1, 1, images.shape[2], 1)
    return _checks.spoilt(images.gather(dim, places.reshape(shape).expand(images.shape)), rate)


def crop(images: Tensor, padding: int, *, key: Tensor, mode: str = "constant", fill: Number = 0.0) -> Tensor:
    """Pad each image on its four sides and crop it to its old size, at a place drawn uniformly.

    So each image moves by up to padding pixels along both axes. As torchvision's
    `RandomCrop(size, padding)`.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        padding: pixels, at least 0; below H and W where mode is "reflect".
        key: int64 (2,).
        mode: what is beyond the border: "constant" is fill, "edge" the nearest pixel, "reflect" the
            mirror image without the border's own pixels.
        fill: in the images' unit; a number, or a tensor of shape () or (C,).

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, padding, mode or fill.

    >>> crop(torch.arange(1.0, 5.0).reshape(1, 1, 1, 4), 1, key=random.key(1), mode="edge").squeeze()
    tensor([1., 1., 2., 3.])
    """
    core.check_drawn(images, key=key)
    _checks.check_choice("mode", mode, ("constant", "edge", "reflect"))
    _checks.check_count("padding", padding, 0, min(images.shape[2:]) - 1 if mode == "reflect" else None)
    fill = core.check_fill(fill, images)
    if not images.shape[0]:
        return images
    size = images.shape[2], images.shape[3]
    # In float64, where the product of 24 bits with a small integer is exact, so that its floor stays below.
    draws = random.uniform(key, (2, images.shape[0]), dtype=torch.float64)
    top, left = torch.floor(draws * (2 * padding + 1)).unbind()
    if isinstance(fill, Tensor) and mode == "constant":
        images, padding = _framed(images, padding, fill), 0
    value = 0.0 if isinstance(fill, Tensor) else fill
    mode = "replicate" if mode == "edge" else mode  # torch's name
    return operators.windows(images, top.to(torch.int64), left.to(torch.int64), size, padding, mode, value)


def apply_crop(images: Tensor, top: Number, left: Number, *, size: int | tuple[int, int]) -> Tensor:
    """The rows [top, top + size[0]) and columns [left, left + size[1]) of each image.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        top, left: whole pixels; numbers, or tensors of shape () or (N,). The window is moved into the image.
        size: (height, width), or one integer for both; at most (H, W).

    Returns:
        (N, C, *size), of the images' dtype.

    Raises:
        FuncregError: for wrong images, places or size.

    >>> apply_crop(torch.arange(5.0).reshape(1, 1, 1, 5), 0, 2, size=(1, 3)).squeeze()
    tensor([2., 3., 4.])
    """
    core.check(images)
    height, width = core.as_size(size, images, at_most=True)
    top = core.place("top", top, images, 0.0, images.shape[2] - height)
    left = core.place("left", left, images, 0.0, images.shape[3] - width)
    window = operators.windows(images, _whole(top), _whole(left), (height, width))
    return _checks.spoilt(window, core.spread(top), core.spread(left))


def cutout(images: Tensor, size: Number, *, key: Tensor, fill: Number = 0.0) -> Tensor:
    """Cover a square of each image, centred on a pixel drawn uniformly; what reaches beyond the border is cut off.

    The rows from centre - floor(size / 2) to centre - floor(size / 2) + size, that one excluded.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        size: the side in pixels, at least 0; a number or a tensor of shape ().
        key: int64 (2,).
        fill: in the images' unit; a number, or a tensor of shape () or (C,).

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, size or fill.

    >>> cutout(torch.ones(1, 1, 3, 4), 2, key=random.key(0)).squeeze()
    tensor([[0., 0., 1., 1.],
            [1., 1., 1., 1.],
            [1., 1., 1., 1.]])

    DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout", 2017
    (arXiv:1708.04552).
    """
    core.check_drawn(images, key=key)
    size = _checks.check_setting("size", size)
    row, column = as_pixels(random.uniform(key, (2, images.shape[0]), dtype=torch.float64), images)
    half = torch.floor(core.as_setting(size, images) / 2)
    return apply_cutout(images, row - half, column - half, size, size, fill=fill)


def apply_cutout(
    images: Tensor, top: Number, left: Number, height: Number, width: Number, *, fill: Number = 0.0
) -> Tensor:
    """Cover the rows [top, top + height) of the columns [left, left + width) of each image.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        top, left, height, width: in pixels; numbers, or tensors of shape () or (N,).
        fill: in the images' unit; a number, or a tensor of shape () or (C,).

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, places, sizes or fill.

    >>> apply_cutout(torch.ones(1, 1, 1, 4), 0, 1, 1, 2).squeeze()
    tensor([1., 0., 0., 1.])
    """
    core.check(images)
    fill = core.check_fill(fill, images)
    top, left = core.per_image("top", top, images), core.per_image("left", left, images)
    height, width = core.per_image("height", height, images, 0.0), core.per_image("width", width, images, 0.0)
    rows, columns = between(top, height, images.shape[2]), between(left, width, images.shape[3])
    covered = (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)
    result = torch.where(covered, core.channelled(fill, images, images.dtype), images)
    return _checks.spoilt(result, *(core.spread(each) for each in (top + left, height + width)))


def as_pixels(draws: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """The rows and the columns of pixels, from numbers uniform over [0, 1): float64 (2, N) to (N,) each."""
    return torch.floor(draws[0] * images.shape[2]), torch.floor(draws[1] * images.shape[3])


def between(start: Tensor, extent: Tensor, length: int) -> Tensor:
    """Which of `length` places are in [start, start + extent): bool (N, length)."""
    places = torch.arange(length, device=start.device)
    return (places >= start.unsqueeze(1)) & (places < (start + extent).unsqueeze(1))


def _whole(places: Tensor) -> Tensor:
    """As integers; NaN, of which there is no integer, as 0."""
    return places.nan_to_num(0.0).to(torch.int64)


def _framed(images: Tensor, padding: int, fill: Tensor) -> Tensor:
    """Padded by a fill that is a tensor, which `F.pad` does not take."""
    sides = (padding,) * 4
    within = F.pad(torch.ones(images.shape[2:], dtype=torch.bool, device=images.device), sides)
    return torch.where(within, F.pad(images, sides), core.channelled(fill, images, images.dtype))
