"""Rotation, translation, scaling and shear: each image under its own affine map."""

import math

import torch
from torch import Tensor

from .. import _checks, random
from . import core, operators
from .core import Number


def rotate(
    images: Tensor, degrees: Number, *, key: Tensor, interpolation: str = "bilinear", fill: Number = 0.0
) -> Tensor:
    """Turn each image about its centre by an angle uniform over [-degrees, degrees].

    Args:
        images: floating-point or uint8 (N, C, H, W).
        degrees: at least 0; a number or a tensor of shape ().
        key: int64 (2,).
        interpolation, fill: as in `apply_affine`.

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, degrees, interpolation or fill.

    >>> rotate(torch.ones(2, 3, 32, 32), 15.0, key=random.key(0)).shape
    torch.Size([2, 3, 32, 32])
    """
    core.check_drawn(images, key=key)
    degrees = _checks.check_setting("degrees", degrees)
    draws = random.uniform(key, (images.shape[0],), low=-1.0, dtype=torch.float64)
    return apply_affine(images, angle=degrees * draws, interpolation=interpolation, fill=fill)


def affine(
    images: Tensor,
    *,
    key: Tensor,
    degrees: Number = 0.0,
    translate: Number = 0.0,
    scale: tuple[Number, Number] = (1.0, 1.0),
    shear: Number = 0.0,
    interpolation: str = "bilinear",
    fill: Number = 0.0,
) -> Tensor:
    """Turn, move, scale and shear each image about its centre, each by an amount drawn uniformly.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        key: int64 (2,).
        degrees: the angle is in [-degrees, degrees]; at least 0, a number or a tensor of shape ().
        translate: the moves are in [-translate, translate] times the width and the height, not rounded
            to pixels; at least 0, a number or a tensor of shape ().
        scale: (low, high), above 0; numbers or tensors of shape ().
        shear: the angle of the horizontal shear is in [-shear, shear] degrees; in [0, 90), a number
            or a tensor of shape ().
        interpolation, fill: as in `apply_affine`.

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, settings, interpolation or fill.

    >>> affine(torch.ones(2, 3, 32, 32), key=random.key(0), degrees=15.0, translate=0.1, scale=(0.9, 1.1)).shape
    torch.Size([2, 3, 32, 32])
    """
    core.check_drawn(images, key=key)
    degrees = _checks.check_setting("degrees", degrees)
    translate = _checks.check_setting("translate", translate)
    shear = _checks.check_setting("shear", shear, 0.0, 90.0, exclusive="high")
    low, high = core.as_range("scale", scale, images)
    draws = random.uniform(key, (5, images.shape[0]), low=-1.0, dtype=torch.float64)
    return apply_affine(
        images,
        angle=degrees * draws[0],
        translate=(translate * images.shape[3] * draws[1], translate * images.shape[2] * draws[2]),
        scale=(low + high) / 2 + (high - low) / 2 * draws[3],
        shear=(shear * draws[4], 0.0),
        interpolation=interpolation,
        fill=fill,
    )


def apply_affine(
    images: Tensor,
    *,
    angle: Number = 0.0,
    translate: tuple[Number, Number] = (0.0, 0.0),
    scale: Number = 1.0,
    shear: tuple[Number, Number] = (0.0, 0.0),
    interpolation: str = "bilinear",
    fill: Number = 0.0,
) -> Tensor:
    """Map each image by its own translation * rotation * scaling * shear, about its centre.

    A pixel is read where the inverse map puts it. Beyond the border is fill, which a bilinear pixel
    across the border mixes by its share: `sum w x + (1 - sum w) fill` over the neighbours within, where
    torchvision 0.29, given a fill, weighs the first term by `sum w` once more. An image whose map is the
    identity comes back as it is; no gradient reaches the parameters of such an image.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        angle: degrees, clockwise.
        translate: (across, down), pixels.
        scale: above 0.
        shear: (along x, along y), degrees.
            Each of these is a number, or a tensor of shape () or (N,).
        interpolation: "bilinear" or "nearest".
        fill: in the images' unit; a number, or a tensor of shape () or (C,).

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, parameters, interpolation or fill.

    >>> image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> apply_affine(image, angle=90.0, interpolation="nearest").squeeze()
    tensor([[3., 1.],
            [4., 2.]])
    """
    core.check(images)
    degrees = (core.per_image("shear", each, images, -90.0, 90.0, exclusive="both") for each in _pair("shear", shear))
    along_x, along_y = (torch.tan(each * (math.pi / 180)) for each in degrees)
    inverse = inverse_map(images, slants=(along_x, along_y), angle=angle, translate=translate, scale=scale)
    return filled(images, inverse, interpolation, fill)


def filled(images: Tensor, inverse: Tensor, interpolation: str, fill: Number) -> Tensor:
    """As `mapped`, by an interpolation and a fill of the user's."""
    fill = core.check_fill(fill, images)
    _checks.check_choice("interpolation", interpolation, ("bilinear", "nearest"))
    fills = isinstance(fill, Tensor) or fill != 0
    return mapped(images, inverse, interpolation, core.channelled(fill, images, torch.float64) if fills else None)


def mapped(images: Tensor, inverse: Tensor, interpolation: str, fill: Tensor | None) -> Tensor:
    """Each image under its own map; the fill, if it is not 0, broadcasts with (N, C, H, W)."""
    inputs = core.widened(images)
    grid = _grid(inverse, inputs)
    sampled = operators.sample(inputs, grid, interpolation)
    if fill is not None:
        within = operators.sample(torch.ones_like(inputs[:, :1]), grid, interpolation)
        sampled = sampled + (1 - within) * fill.to(inputs.dtype)
    # To "nearest" a place that is NaN is beyond the border.
    places = core.spread(inverse.sum(dim=(1, 2))).to(inputs.dtype)
    none = 0.0 if images.dtype == torch.uint8 else math.nan  # of float32, by which programs are quicker
    result = core.narrowed(_checks.spoilt(sampled, places, none=none), images)
    if images.dtype == torch.uint8:
        return result
    # A grid in [-1, 1] is rounded, so that even the identity's samples are not quite the pixels.
    identity = torch.eye(2, 3, dtype=inverse.dtype, device=inverse.device)
    still = (inverse == identity).flatten(1).all(dim=1)
    return torch.where(core.spread(still), images, result)


def inverse_map(
    images: Tensor,
    *,
    slants: tuple[Tensor, Tensor],
    angle: Number = 0.0,
    translate: tuple[Number, Number] = (0.0, 0.0),
    scale: Number = 1.0,
) -> Tensor:
    """From places in the result to places in the image, (x, y, 1) from the centre in pixels: float64 (N, 2, 3).

    The slants along x and y, (N,), are the tangents of the angles of the shear.
    """
    turn = core.per_image("angle", angle, images) * (math.pi / 180)
    across, down = (core.per_image("translate", each, images) for each in _pair("translate", translate))
    zoom = core.per_image("scale", scale, images, 0.0, exclusive="low")
    along_x, along_y = slants
    # rotation(turn) @ [[1, 0], [-along_y, 1]] @ [[1, -along_x], [0, 1]], whose determinant is 1
    a = torch.cos(turn) + torch.sin(turn) * along_y
    c = torch.sin(turn) - torch.cos(turn) * along_y
    b = -a * along_x - torch.sin(turn)
    d = torch.cos(turn) - c * along_x
    xx, xy, yx, yy = d / zoom, -b / zoom, -c / zoom, a / zoom
    entries = (xx, xy, -xx * across - xy * down, yx, yy, -yx * across - yy * down)
    return torch.stack(entries, dim=-1).unflatten(-1, (2, 3))


def _grid(inverse: Tensor, inputs: Tensor) -> Tensor:
    """Where each pixel of the result is read, in `grid_sample`'s unit: (N, H, W, 2)."""
    height, width = inputs.shape[2:]
    size = torch.tensor([[width], [height]], dtype=inverse.dtype, device=inverse.device)
    inverse = (inverse * (2 / size)).to(inputs.dtype).unsqueeze(3)
    x = torch.arange(width, dtype=inputs.dtype, device=inputs.device) - (width - 1) / 2
    y = torch.arange(height, dtype=inputs.dtype, device=inputs.device) - (height - 1) / 2
    across, down = inverse[:, :, 0] * x, inverse[:, :, 1] * y + inverse[:, :, 2]
    # Sums rather than a matrix product, which a GPU may round to 10 bits.
    return (across.unsqueeze(2) + down.unsqueeze(3)).movedim(1, 3)


def _pair(argument: str, value: tuple[Number, Number]) -> tuple[Number, Number]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        _checks.fail(argument, _checks.describe(value), "a pair (x, y)")
    return value[0], value[1]
