"""RandAugment and TrivialAugment: each image has operations and strengths of its own.

Operations and strengths are those of torchvision's `RandAugment`, `TrivialAugmentWide` and `AutoAugment`.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _checks, random
from . import color, core, filters, geometry, levels, moves, operators
from .core import Number

_MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
_FACTORS = ("brightness", "saturation", "contrast", "sharpness")
_ANY = (-math.inf, math.inf)
# The amounts that each operation takes.
_RANGES = {
    "identity": _ANY,
    **dict.fromkeys(_MOVES, _ANY),
    **dict.fromkeys(_FACTORS, (-1.0, math.inf)),
    "posterize": (0.0, 8.0),
    "solarize": (0.0, 1.0),
    "autocontrast": _ANY,
    "equalize": _ANY,
    "invert": _ANY,
}
OPERATIONS = tuple(_RANGES)
_SIGNED = (*_MOVES, *_FACTORS)  # whose amounts are drawn with a sign
_DRAWN = tuple(name for name in OPERATIONS if name != "invert")  # which AutoAugment alone has


def rand_augment(
    images: Tensor,
    *,
    key: Tensor,
    num_ops: int = 2,
    magnitude: Number = 9.0,
    interpolation: str = "nearest",
    fill: Number = 0.0,
) -> Tensor:
    """RandAugment: operations drawn uniformly for each image, one after the other, all of one strength.

    The amounts at the full magnitude of 30 are a shear by 0.3, a move by 150/331 of the side, 30 degrees,
    a change of brightness, saturation, contrast and sharpness by 0.9, 4 bits and a threshold of 0; a sign
    is drawn. Operations without an amount are identity, autocontrast and equalize.

    Args:
        images: (N, C, H, W) of 1 or 3 channels; floating-point in [0, 1], or uint8.
        key: int64 (2,).
        num_ops: how many operations, at least 0.
        magnitude: in [0, 30]; a number or a tensor of shape ().
        interpolation, fill: as in `apply_affine`.

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, num_ops, magnitude, interpolation or fill.

    >>> rand_augment(torch.ones(2, 3, 32, 32), key=random.key(0)).shape
    torch.Size([2, 3, 32, 32])

    Cubuk et al., "RandAugment: practical automated data augmentation with a reduced search space",
    NeurIPS 2020.
    """
    images, fill = check(images, interpolation, fill, key=key)
    _checks.check_count("num_ops", num_ops, 0)
    magnitude = _checks.check_setting("magnitude", magnitude, 0.0, 30.0)
    strength = core.as_setting(magnitude, images) / 30
    draws = random.uniform(key, (num_ops, 2, images.shape[0]), dtype=torch.float64)
    x, space = unrounded(images), narrow(images)
    for choice, sign in draws.unbind():
        operation = _drawn(choice)
        amount = draw_amount(operation, strength, sign, space)
        x = operated(x, operation, amount, interpolation, fill)
    return x.to(images.dtype)


def trivial_augment(images: Tensor, *, key: Tensor, interpolation: str = "nearest", fill: Number = 0.0) -> Tensor:
    """TrivialAugment (wide): one operation for each image, of one of 31 strengths, all equally likely.

    The greatest amounts are a shear by 0.99, a move by 32 pixels, 135 degrees, a change of brightness,
    saturation, contrast and sharpness by 0.99, 2 bits and a threshold of 0; otherwise as `rand_augment`.

    Args:
        images: (N, C, H, W) of 1 or 3 channels; floating-point in [0, 1], or uint8.
        key: int64 (2,).
        interpolation, fill: as in `apply_affine`.

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, interpolation or fill.

    >>> trivial_augment(torch.ones(2, 3, 32, 32), key=random.key(0)).shape
    torch.Size([2, 3, 32, 32])

    Mueller and Hutter, "TrivialAugment: tuning-free yet state-of-the-art data augmentation", ICCV 2021.
    """
    images, fill = check(images, interpolation, fill, key=key)
    choice, sign, strength = random.uniform(key, (3, images.shape[0]), dtype=torch.float64).unbind()
    operation = _drawn(choice)
    amount = draw_amount(operation, torch.floor(strength * 31) / 30, sign, _WIDE)
    return operated(images, operation, amount, interpolation, fill)


def apply_operation(
    images: Tensor, operation: str | Tensor, amount: Number = 0.0, *, interpolation: str = "nearest", fill: Number = 0.0
) -> Tensor:
    """Change each image by an operation of its own, as the policies do with those that they draw.

    Args:
        images: (N, C, H, W) of 1 or 3 channels; floating-point in [0, 1], or uint8.
        operation: a name of `OPERATIONS` for all images, or the place of one in it for each, int64 (N,).
        amount: a number, or a tensor of shape () or (N,): of shear_x and shear_y as in `apply_shear`;
            pixels to the right and down, whose whole part counts, of translate_x and translate_y; degrees
            counter-clockwise of rotate; `factor - 1` of brightness, saturation, contrast and sharpness,
            at least -1; bits of posterize, in [0, 8]; of solarize, the threshold as a share in [0, 1] of
            the highest value. The others have none.
        interpolation, fill: as in `apply_affine`.

    Returns:
        The images' shape and dtype. NaN for an operation or an amount in a tensor that is none of these.

    Raises:
        FuncregError: for wrong images, operation, amount, interpolation or fill.

    >>> image = torch.tensor([0.1, 0.6]).expand(2, 1, 1, 2)
    >>> apply_operation(image, torch.tensor([OPERATIONS.index("invert"), 6]), 0.5).squeeze()
    tensor([[0.9000, 0.4000],
            [0.1500, 0.9000]])
    """
    images, fill = check(images, interpolation, fill, key=None)
    return operated(images, *_checked(operation, amount, images), interpolation, fill)


def operated(images: Tensor, operation: Tensor, amount: Tensor, interpolation: str, fill: Number) -> Tensor:
    """As `apply_operation`, of what is known to be right."""
    filled = isinstance(fill, Tensor) or fill != 0
    fills = core.as_setting(fill, images).expand(images.shape[:2])
    return _operate(images, operation, amount, fills, interpolation, filled)


def _moved(images: Tensor, operation: Tensor, amount: Tensor, fill: Tensor, interpolation: str, filled: bool) -> Tensor:
    across, down, angle, along_x, along_y = (
        torch.where(operation == OPERATIONS.index(name), amount, 0.0)
        for name in ("translate_x", "translate_y", "rotate", "shear_x", "shear_y")
    )
    corner = moves.corner_moves(images, along_x, along_y)
    places = corner[0] + across.trunc(), corner[1] + down.trunc()
    inverse = geometry.inverse_map(images, slants=(along_x, along_y), angle=-angle, translate=places)
    return geometry.mapped(images, inverse, interpolation, fill[:, :, None, None] if filled else None)


# What the operations that move nothing do with images and the amount of each.
_CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda images, amount: images,
    "brightness": lambda images, amount: color.apply_color(images, brightness=1 + amount),
    "saturation": lambda images, amount: color.apply_color(images, saturation=1 + amount),
    "contrast": lambda images, amount: color.apply_color(images, contrast=1 + amount),
    "sharpness": lambda images, amount: filters.apply_sharpness(images, 1 + amount),
    "posterize": levels.apply_posterize,
    "solarize": lambda images, amount: levels.apply_solarize(images, core.top(images) * amount),
    "autocontrast": lambda images, amount: levels.apply_autocontrast(images),
    "equalize": lambda images, amount: levels.apply_equalize(images),
    "invert": lambda images, amount: levels.apply_invert(images),
}


def _each(images: Tensor, operation: Tensor, amount: Tensor, fill: Tensor, interpolation: str, filled: bool) -> Tensor:
    """Every operation of all images, of which each keeps its own: no choice depends on a value."""
    result = _moved(images, operation, amount, fill, interpolation, filled)
    for name, change in _CHANGES.items():
        own = operation == OPERATIONS.index(name)
        result = torch.where(core.spread(own), change(images, torch.where(own, amount, 0.0)), result)
    return result


def _grouped(
    images: Tensor, operation: Tensor, amount: Tensor, fill: Tensor, interpolation: str, filled: bool
) -> Tensor:
    """The same, of images put together by operation: a fraction of the work, but their numbers must be read."""
    if images.device.type != "cpu":
        return _each(images, operation, amount, fill, interpolation, filled)
    places = [(operation == OPERATIONS.index(name)).nonzero().squeeze(1) for name in _CHANGES]
    results = [
        change(images.index_select(0, rows), amount.index_select(0, rows))
        for rows, change in zip(places, _CHANGES.values(), strict=True)
        if len(rows) or change is _CHANGES["identity"]  # there is always a result
    ]
    rows = _among(operation, _MOVES).nonzero().squeeze(1)
    if len(rows):
        own, by, amounts, fills = (each.index_select(0, rows) for each in (images, operation, amount, fill))
        results.append(_moved(own, by, amounts, fills, interpolation, filled))
    return torch.cat(results).index_select(0, torch.cat((*places, rows)).argsort())


def _spoiling(operate: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same, and what an amount that is NaN makes of its image; in the operator, where amounts can be read."""

    def spoiling(images: Tensor, operation: Tensor, amount: Tensor, *rest: Any) -> Tensor:
        return _checks.spoilt(operate(images, operation, amount, *rest), core.spread(amount))

    return spoiling


_operate = operators.operator(
    "operate(Tensor images, Tensor operation, Tensor amount, Tensor fill, str interpolation, bool filled)",
    _spoiling(_grouped),
    _spoiling(_each),
    lambda images, *rest: list(images.shape),
)


def unrounded(images: Tensor) -> Tensor:
    """Images as they are between one operation and the next: those of 16 bits in float32."""
    return images if images.dtype == torch.uint8 else core.widened(images)


def chosen(draws: Tensor, count: int) -> Tensor:
    """Integers below count from numbers uniform over [0, 1)."""
    return torch.floor(draws * count).to(torch.int64)


def _drawn(draws: Tensor) -> Tensor:
    """The places of those that are drawn, from numbers uniform over [0, 1)."""
    places = torch.tensor([OPERATIONS.index(name) for name in _DRAWN], device=draws.device)
    return places[chosen(draws, len(_DRAWN))]


def _among(operation: Tensor, names: tuple[str, ...]) -> Tensor:
    """Whether each operation is one of these."""
    return torch.tensor([name in names for name in OPERATIONS], device=operation.device)[operation]


def narrow(images: Tensor) -> tuple[tuple[float, float], ...]:
    """The amounts at no and at full strength, in the order of `OPERATIONS`."""
    across, down = (150 / 331 * side for side in (images.shape[3], images.shape[2]))
    shears, factors = dict.fromkeys(("shear_x", "shear_y"), 0.3), dict.fromkeys(_FACTORS, 0.9)
    return _space(**shears, translate_x=across, translate_y=down, rotate=30.0, **factors, posterize=4.0)


def _space(**ends: float) -> tuple[tuple[float, float], ...]:
    """From no strength to these amounts; 0 for an operation that has none."""
    starts = {"posterize": 8.0, "solarize": 1.0}
    return tuple((starts.get(name, 0.0), ends.get(name, 0.0)) for name in OPERATIONS)


_WIDE = _space(
    **dict.fromkeys(("shear_x", "shear_y", *_FACTORS), 0.99),
    **dict.fromkeys(("translate_x", "translate_y"), 32.0),
    rotate=135.0,
    posterize=2.0,
)


def draw_amount(operation: Tensor, strength: Tensor, sign: Tensor, space: tuple[tuple[float, float], ...]) -> Tensor:
    """Each image's amount: float64 (N,)."""
    low, high = torch.tensor(space, dtype=torch.float64, device=sign.device)[operation].unbind(dim=-1)
    amount = low + (high - low) * strength
    amount = torch.where(_among(operation, _SIGNED) & (sign < 0.5), -amount, amount)
    return torch.where(operation == OPERATIONS.index("posterize"), amount.round(), amount)


def _checked(operation: str | Tensor, amount: Number, images: Tensor) -> tuple[Tensor, Tensor]:
    """The operation and the amount of each image, NaN for what is none: int64 and float64 (N,)."""
    count = images.shape[:1]
    if not isinstance(operation, Tensor):
        _checks.check_choice("operation", operation, OPERATIONS)
        amount = core.per_image("amount", amount, images, *_RANGES[operation])
        return torch.full(count, OPERATIONS.index(operation), device=images.device), amount
    if operation.dtype != torch.int64 or operation.shape != count:
        _checks.fail("operation", _checks.describe(operation), f"a name, or an int64 tensor ({count[0]},)")
    _checks.check_beside("operation", operation, images, "images")
    amount = core.per_image("amount", amount, images)
    known = (operation >= 0) & (operation < len(OPERATIONS))
    operation = torch.where(known, operation, 0)
    ranges = torch.tensor(tuple(_RANGES.values()), dtype=torch.float64, device=images.device)
    low, high = ranges[operation].unbind(dim=-1)
    return operation, torch.where(known & (amount >= low) & (amount <= high), amount, math.nan)


def check(images: Tensor, interpolation: str, fill: Number, *, key: Tensor | None) -> tuple[Tensor, Number]:
    """The images and the fill, checked, as is all else that the policies and their operations take."""
    images = core.check_levels(images)
    color.check_channels(images)
    if key is not None:
        _checks.check_key(key, images)
    _checks.check_choice("interpolation", interpolation, ("bilinear", "nearest"))
    return images, core.check_channelled("fill", fill, images, 0.0, core.top(images))
