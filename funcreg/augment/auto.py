"""AutoAugment: the policies that were found for CIFAR-10, SVHN and ImageNet."""

import torch
from torch import Tensor

from .. import _checks, random
from . import policies
from .core import Number


def auto_augment(
    images: Tensor, policy: str, *, key: Tensor, interpolation: str = "nearest", fill: Number = 0.0
) -> Tensor:
    """AutoAugment: one of the 25 pairs of operations of a published policy for each image, drawn uniformly.

    Each operation of a pair is applied with its own probability, at its own strength of 0 to 9; the
    amounts at no and at full strength are those of `rand_augment`, and a sign is drawn.

    Args:
        images: (N, C, H, W) of 1 or 3 channels; floating-point in [0, 1], or uint8.
        policy: "cifar10", "svhn" or "imagenet".
        key: int64 (2,).
        interpolation, fill: as in `apply_affine`.

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, policy, interpolation or fill.

    >>> auto_augment(torch.ones(2, 3, 32, 32), "cifar10", key=random.key(0)).shape
    torch.Size([2, 3, 32, 32])

    Cubuk et al., "AutoAugment: learning augmentation strategies from data", CVPR 2019.
    """
    images, fill = policies.check(images, interpolation, fill, key=key)
    _checks.check_choice("policy", policy, _POLICIES)
    draws = random.uniform(key, (5, images.shape[0]), dtype=torch.float64)
    pairs = torch.tensor(_POLICIES[policy], dtype=torch.float64, device=images.device)
    own = pairs[policies.chosen(draws[0], len(pairs))]
    x = policies.unrounded(images)
    for place in range(2):
        operation, probability, strength = own[:, place].unbind(dim=1)
        # What is not applied is the identity, the first of the operations.
        operation = torch.where(draws[1 + place] < probability, operation, 0.0).to(torch.int64)
        amount = policies.draw_amount(operation, strength / 9, draws[3 + place], policies.narrow(images))
        x = policies.operated(x, operation, amount, interpolation, fill)
    return x.to(images.dtype)


def _read(table: str) -> list[list[list[float]]]:
    """Pairs of (operation, probability, strength), a line each."""
    words = [line.split() for line in table.strip().splitlines()]
    return [
        [[policies.OPERATIONS.index(name), float(probability), float(strength)] for name, probability, strength in pair]
        for pair in ((line[:3], line[3:]) for line in words)
    ]


# From the paper's appendix; a strength of 0 where there is none.
_POLICIES = {
    "cifar10": _read("""
        invert 0.1 0   contrast 0.2 6
        rotate 0.7 2   translate_x 0.3 9
        sharpness 0.8 1   sharpness 0.9 3
        shear_y 0.5 8   translate_y 0.7 9
        autocontrast 0.5 0   equalize 0.9 0
        shear_y 0.2 7   posterize 0.3 7
        saturation 0.4 3   brightness 0.6 7
        sharpness 0.3 9   brightness 0.7 9
        equalize 0.6 0   equalize 0.5 0
        contrast 0.6 7   sharpness 0.6 5
        saturation 0.7 7   translate_x 0.5 8
        equalize 0.3 0   autocontrast 0.4 0
        translate_y 0.4 3   sharpness 0.2 6
        brightness 0.9 6   saturation 0.2 8
        solarize 0.5 2   invert 0.0 0
        equalize 0.2 0   autocontrast 0.6 0
        equalize 0.2 0   equalize 0.6 0
        saturation 0.9 9   equalize 0.6 0
        autocontrast 0.8 0   solarize 0.2 8
        brightness 0.1 3   saturation 0.7 0
        solarize 0.4 5   autocontrast 0.9 0
        translate_y 0.9 9   translate_y 0.7 9
        autocontrast 0.9 0   solarize 0.8 3
        equalize 0.8 0   invert 0.1 0
        translate_y 0.7 9   autocontrast 0.9 0
    """),
    "svhn": _read("""
        shear_x 0.9 4   invert 0.2 0
        shear_y 0.9 8   invert 0.7 0
        equalize 0.6 0   solarize 0.6 6
        invert 0.9 0   equalize 0.6 0
        equalize 0.6 0   rotate 0.9 3
        shear_x 0.9 4   autocontrast 0.8 0
        shear_y 0.9 8   invert 0.4 0
        shear_y 0.9 5   solarize 0.2 6
        invert 0.9 0   autocontrast 0.8 0
        equalize 0.6 0   rotate 0.9 3
        shear_x 0.9 4   solarize 0.3 3
        shear_y 0.8 8   invert 0.7 0
        equalize 0.9 0   translate_y 0.6 6
        invert 0.9 0   equalize 0.6 0
        contrast 0.3 3   rotate 0.8 4
        invert 0.8 0   translate_y 0.0 2
        shear_y 0.7 6   solarize 0.4 8
        invert 0.6 0   rotate 0.8 4
        shear_y 0.3 7   translate_x 0.9 3
        shear_x 0.1 6   invert 0.6 0
        solarize 0.7 2   translate_y 0.6 7
        shear_y 0.8 4   invert 0.8 0
        shear_x 0.7 9   translate_y 0.8 3
        shear_y 0.8 5   autocontrast 0.7 0
        shear_x 0.7 2   invert 0.1 0
    """),
    "imagenet": _read("""
        posterize 0.4 8   rotate 0.6 9
        solarize 0.6 5   autocontrast 0.6 0
        equalize 0.8 0   equalize 0.6 0
        posterize 0.6 7   posterize 0.6 6
        equalize 0.4 0   solarize 0.2 4
        equalize 0.4 0   rotate 0.8 8
        solarize 0.6 3   equalize 0.6 0
        posterize 0.8 5   equalize 1.0 0
        rotate 0.2 3   solarize 0.6 8
        equalize 0.6 0   posterize 0.4 6
        rotate 0.8 8   saturation 0.4 0
        rotate 0.4 9   equalize 0.6 0
        equalize 0.0 0   equalize 0.8 0
        invert 0.6 0   equalize 1.0 0
        saturation 0.6 4   contrast 1.0 8
        rotate 0.8 8   saturation 1.0 2
        saturation 0.8 8   solarize 0.8 7
        sharpness 0.4 7   invert 0.6 0
        shear_x 0.6 5   equalize 1.0 0
        saturation 0.4 0   equalize 0.6 0
        equalize 0.4 0   solarize 0.2 4
        solarize 0.6 5   autocontrast 0.6 0
        invert 0.6 0   equalize 1.0 0
        saturation 0.6 4   contrast 1.0 8
        equalize 0.8 0   equalize 0.6 0
    """),
}
