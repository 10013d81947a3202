"""A box of each image, resized: cropping at random scales."""

import torch
from torch import Tensor

from .. import _checks, random
from ..tree.values import in_own_precision
from . import boxes, core
from .core import Number


def resized_crop(
    images: Tensor,
    *,
    key: Tensor,
    size: int | tuple[int, int] | None = None,
    scale: tuple[Number, Number] = (0.08, 1.0),
    ratio: tuple[Number, Number] = (3 / 4, 4 / 3),
    antialias: bool = True,
) -> Tensor:
    """Crop a box of random area, shape and place from each image, and resize it.

    The area is uniform over scale, as a share of the image's; width / height is log-uniform over
    ratio; both sides are rounded to pixels. A box that does not fit is drawn again, up to ten
    times; then it is the largest at the centre whose ratio is allowed. As torchvision's
    `RandomResizedCrop`. No gradient flows to scale or ratio.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        key: int64 (2,).
        size: of the results: (height, width), or one integer for both. Default: that of the images.
        scale: (low, high), above 0; numbers or tensors of shape ().
        ratio: (low, high), above 0; numbers or tensors of shape ().
        antialias: as in `apply_resized_crop`.

    Returns:
        (N, C, *size), of the images' dtype.

    Raises:
        FuncregError: for wrong images, size, scale, ratio or antialias.

    >>> resized_crop(torch.ones(2, 3, 32, 48), key=random.key(0), size=16).shape
    torch.Size([2, 3, 16, 16])

    Szegedy et al., "Going deeper with convolutions", CVPR 2015.
    """
    core.check_drawn(images, key=key)
    top, left, height, width = _draw_box(images, scale, ratio, key)
    return apply_resized_crop(images, top, left, height, width, size=size, antialias=antialias)


def apply_resized_crop(
    images: Tensor,
    top: Number,
    left: Number,
    height: Number,
    width: Number,
    *,
    size: int | tuple[int, int] | None = None,
    antialias: bool = True,
) -> Tensor:
    """Resize the rows [top, top + height) and columns [left, left + width) of each image, bilinearly.

    Each result is `rows @ image @ columns.T` with the weights of a triangle, dense matrices that a
    GPU multiplies fast; so the time grows with the images' area times the result's side.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        top, left, height, width: a box, in whole pixels; numbers, or tensors of shape () or (N,). A box
            that reaches beyond the border is moved into the image.
        size: of the results: (height, width), or one integer for both. Default: that of the images.
        antialias: where the box shrinks, widen the triangle by as much, so that every pixel counts.

    Returns:
        (N, C, *size), of the images' dtype; uint8 rounded once, where torchvision rounds after each axis.

    Raises:
        FuncregError: for wrong images, box, size or antialias.

    >>> apply_resized_crop(torch.arange(4.0).reshape(1, 1, 1, 4), 0, 0, 1, 4, size=(1, 2)).squeeze()
    tensor([0.7143, 2.2857])
    """
    core.check(images)
    new_height, new_width = core.as_size(size, images)
    _checks.check_choice("antialias", antialias, (True, False))
    old_height, old_width = images.shape[2:]
    top, height = _side("top", top, "height", height, images, old_height)
    left, width = _side("left", left, "width", width, images, old_width)
    inputs = core.widened(images)
    rows = _weights(top, height, old_height, new_height, antialias, inputs.dtype)
    columns = _weights(left, width, old_width, new_width, antialias, inputs.dtype)
    return core.narrowed(_resized(inputs, rows, columns), images)


def _draw_box(
    images: Tensor, scale: tuple[Number, Number], ratio: tuple[Number, Number], key: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The top, left, height and width of each image's box: float64 (N,) each."""
    scales = core.as_range("scale", scale, images)
    narrowest, widest = core.as_range("ratio", ratio, images)
    height, width = images.shape[2:]
    draws = random.uniform(key, (4, images.shape[0], boxes.ATTEMPTS), dtype=torch.float64)
    heights, widths = boxes.draw_sides(images, scales, (narrowest, widest), draws[:2])
    tops, lefts = boxes.draw_place(height, heights, draws[2]), boxes.draw_place(width, widths, draws[3])
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    allowed = torch.minimum(narrowest.clamp(min=width / height), widest)
    last_height, last_width = (width / allowed).clamp(max=height).round(), (height * allowed).clamp(max=width).round()
    last = torch.floor((height - last_height) / 2), torch.floor((width - last_width) / 2), last_height, last_width
    top, left, box_height, box_width = boxes.first_that_fits(fits, (tops, lefts, heights, widths), last)
    return top, left, _checks.spoilt(box_height, *scales, narrowest, widest), box_width


@in_own_precision
def _resized(inputs: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows @ image @ columns.T, for each image: as (N, C * rows, W) the second product is one of three axes."""
    lines = torch.matmul(rows.unsqueeze(1), inputs)
    return torch.bmm(lines.flatten(1, 2), columns.mT).unflatten(1, lines.shape[1:3])


def _side(
    start_name: str, start: Number, length_name: str, length: Number, images: Tensor, old: int
) -> tuple[Tensor, Tensor]:
    """Where a box starts and how long it is along an axis, within the image."""
    lengths = core.place(length_name, length, images, 1.0, old)
    starts = core.place(start_name, start, images, 0.0, old - 1)
    return torch.minimum(starts, old - lengths), lengths


def _weights(start: Tensor, length: Tensor, old: int, new: int, antialias: bool, dtype: torch.dtype) -> Tensor:
    """What each of `old` pixels gives to each of `new` pixels of a piece of the axis: (N, new, old)."""
    start, length = start.unsqueeze(1), length.unsqueeze(1)
    step = length / new
    source = ((torch.arange(new, device=start.device) + 0.5) * step - 0.5).clamp(min=0.0)
    source = torch.minimum(source, length - 1)
    slope = 1 / step.clamp(min=1.0) if antialias else torch.ones_like(step)
    pixel = torch.arange(old, device=start.device) - start
    inside = (pixel >= 0) & (pixel < length)
    # Small vectors take the products, and a pixel outside the piece is put out of reach: one pass less each.
    pixel, source = torch.where(inside, pixel * slope, -2.0).to(dtype), (source * slope).to(dtype)
    weights = torch.relu(1 - (pixel.unsqueeze(1) - source.unsqueeze(2)).abs())
    # A piece that cannot shrink has weights that add up to 1.
    return weights / weights.sum(dim=2, keepdim=True) if antialias and old > new else weights
