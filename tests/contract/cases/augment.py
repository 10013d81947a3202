"""Cases of `augment`."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from funcreg import augment, random
from tests.contract.case import RATE, Case, drawn

# Members multiply by up to 1.2: still in [0, 1].
IMAGES = {"images": torch.sigmoid(drawn(70, 4, 3, 6, 5)) * 0.8}
MIXED = {**IMAGES, "targets": torch.softmax(drawn(71, 4, 3), dim=-1)}
GEOMETRY = {"fill": (0.0, 0.3, 1.0)}
SCALE = {"low": (0.5, 0.8, 1.0), "high": (0.6, 1.2, 1.0)}


def _mixed(images: Tensor, targets: Tensor, *, share: Any, key: Tensor) -> tuple[Tensor, Tensor]:
    """Each image and target with another's, drawn for all."""
    part = share * random.uniform(key, dtype=images.dtype)
    return images + part * (images.flip(0) - images), targets + part * (targets.flip(0) - targets)


CASES = [
    Case("augment.flip", augment.flip, IMAGES, RATE, keyed=True, within="augment.compose"),
    *(
        Case(
            "augment.crop",
            partial(augment.crop, padding=2, mode=mode),
            IMAGES,
            {"fill": (0.0, 0.5, 1.0)} if mode == "constant" else {},
            keyed=True,
            variant=mode,
        )
        for mode in ("constant", "edge", "reflect")
    ),
    Case(
        "augment.apply_crop",
        lambda images, top, left: augment.apply_crop(images, top, left, size=(4, 3)),
        {**IMAGES, "top": torch.tensor([0, 2, 1, 2]), "left": torch.tensor([1, 0, 2, 1])},
    ),
    Case("augment.cutout", augment.cutout, IMAGES, {"size": (0.0, 3.0, 4.0), "fill": (0.0, 0.5, 1.0)}, keyed=True),
    Case(
        "augment.apply_cutout",
        augment.apply_cutout,
        {**IMAGES, "top": 2 * drawn(72, 4), "left": 2 * drawn(73, 4)},
        {"height": (0.0, 2.0, 9.0), "width": (1.0, 3.0, 2.0)},
        constant=("top", "left"),
    ),
    Case(
        "augment.erase",
        lambda images, rate, low, high, narrow, wide, fill, key: augment.erase(
            images, rate, key=key, scale=(low, high), ratio=(narrow, wide), fill=fill
        ),
        IMAGES,
        {
            "rate": (0.0, 0.5, 1.0),
            "low": (0.02, 0.3, 0.5),
            "high": (0.33, 0.4, 0.5),
            "narrow": (0.3, 0.9, 1.0),
            "wide": (3.3, 1.2, 1.0),
            **GEOMETRY,
        },
        keyed=True,
    ),
    *(
        Case(
            "augment.rotate",
            partial(augment.rotate, interpolation=interpolation),
            IMAGES,
            {"degrees": (0.0, 30.0, 180.0), **GEOMETRY},
            keyed=True,
            variant=interpolation,
            within="" if interpolation == "nearest" else "augment.rotate[nearest]",  # interpolated as affine does
        )
        for interpolation in ("bilinear", "nearest")
    ),
    Case(
        "augment.affine",
        lambda images, degrees, translate, low, high, shear, key: augment.affine(
            images, key=key, degrees=degrees, translate=translate, scale=(low, high), shear=shear
        ),
        IMAGES,
        {"degrees": (0.0, 10.0, 90.0), "translate": (0.0, 0.1, 0.5), **SCALE, "shear": (0.0, 5.0, 30.0)},
        keyed=True,
    ),
    Case(
        "augment.apply_affine",
        lambda images, angle, across, down, scale, along_x, along_y: augment.apply_affine(
            images, angle=30 * angle, translate=(across, down), scale=scale, shear=(along_x, along_y)
        ),
        {**IMAGES, "angle": drawn(74, 4), "across": drawn(75, 4)},
        {"down": (0.0, 1.0, -2.0), "scale": (1.0, 0.7, 1.5), "along_x": (0.0, 9.0, -3.0), "along_y": (0.0, 5.0, 20.0)},
    ),
    Case(
        "augment.resized_crop",
        lambda images, low, high, narrow, wide, key: augment.resized_crop(
            images, key=key, size=(4, 7), scale=(low, high), ratio=(narrow, wide)
        ),
        IMAGES,
        {**SCALE, "narrow": (0.5, 0.9, 3.0), "wide": (0.6, 1.2, 4.0)},
        keyed=True,
    ),
    Case(
        "augment.apply_resized_crop",
        lambda images, top, left, height, width: augment.apply_resized_crop(
            images, top, left, height, width, size=(4, 7)
        ),
        {**IMAGES, "top": torch.tensor([0, 1, 2, 0]), "left": torch.tensor([1, 0, 2, 0])},
        {"height": (1.0, 3.0, 4.0), "width": (3.0, 2.0, 1.0)},
    ),
    Case(
        "augment.color_jitter",
        augment.color_jitter,
        IMAGES,
        {
            "brightness": (0.0, 0.4, 2.0),
            "contrast": (0.0, 0.5, 1.0),
            "saturation": (0.0, 0.2, 1.5),
            "hue": (0.0, 0.1, 0.5),
        },
        keyed=True,
    ),
    Case(
        "augment.apply_color",
        lambda images, factor, contrast, saturation, hue: augment.apply_color(
            images, brightness=factor.exp(), contrast=contrast, saturation=saturation, hue=hue
        ),
        {**IMAGES, "factor": 0.2 * drawn(76, 4)},
        {"contrast": (1.0, 0.0, 1.5), "saturation": (1.0, 0.3, 1.2), "hue": (0.0, -0.5, 0.2)},
        within="augment.color_jitter",
    ),
    Case("augment.mixup", augment.mixup, MIXED, {"alpha": (0.0, 0.2, 1.0)}, keyed=True, within="augment.compose"),
    Case("augment.cutmix", augment.cutmix, MIXED, {"alpha": (0.0, 0.5, 1.0)}, keyed=True),
    Case(
        "augment.compose",
        lambda images, targets, rate, alpha, key: augment.compose(
            partial(augment.flip, rate=rate), partial(augment.mixup, alpha=alpha), partial(augment.cutout, size=2)
        )(images, targets, key=key),
        MIXED,
        {**RATE, "alpha": (0.0, 0.2, 1.0)},
        keyed=True,
    ),
    Case(
        "augment.sometimes",
        lambda images, rate, threshold, key: augment.sometimes(
            partial(augment.apply_solarize, threshold=threshold), rate
        )(images, key=key),
        IMAGES,
        {**RATE, "threshold": (0.2, 0.4, 0.6)},
        keyed=True,
    ),
    Case(
        "augment.sometimes",
        lambda images, targets, rate, share, key: augment.sometimes(partial(_mixed, share=share), rate)(
            images, targets, key=key
        ),
        MIXED,
        {**RATE, "share": (0.0, 0.2, 1.0)},
        keyed=True,
        variant="targets",
    ),
    Case("augment.apply_invert", augment.apply_invert, IMAGES),
    Case("augment.apply_solarize", augment.apply_solarize, IMAGES, {"threshold": (0.0, 0.41, 1.0)},
         within="augment.sometimes"),
    Case("augment.apply_posterize", augment.apply_posterize, IMAGES, {"bits": (0.0, 3.0, 8.0)},
         within="augment.rand_augment"),
    Case("augment.apply_autocontrast", augment.apply_autocontrast, IMAGES, within="augment.rand_augment"),
    Case("augment.apply_equalize", augment.apply_equalize, {"images": torch.sigmoid(drawn(77, 2, 3, 20, 30))},
         within="augment.apply_operation"),
    Case("augment.apply_sharpness", augment.apply_sharpness, IMAGES, {"factor": (0.0, 0.5, 2.0)},
         within="augment.rand_augment"),
    Case("augment.apply_grayscale", augment.apply_grayscale, IMAGES),
    Case("augment.apply_normalize", augment.apply_normalize, IMAGES, {"mean": (0.0, 0.5, 0.9), "std": (1.0, 0.2, 3.0)}),
    Case(
        "augment.gaussian_blur",
        lambda images, low, high, key: augment.gaussian_blur(images, 3, (low, high), key=key),
        IMAGES,
        SCALE,
        keyed=True,
    ),
    Case(
        "augment.apply_gaussian_blur",
        lambda images, sigma: augment.apply_gaussian_blur(images, 5, sigma),
        IMAGES,
        {"sigma": (0.1, 1.0, 9.0)},
        within="augment.gaussian_blur",
    ),
    Case("augment.shear", augment.shear, IMAGES, {"amount": (0.0, 0.3, 1.0), **GEOMETRY}, keyed=True),
    Case(
        "augment.apply_shear",
        augment.apply_shear,
        {**IMAGES, "along_x": drawn(78, 4)},
        {"along_y": (0.0, 0.3, -1.0), **GEOMETRY},
        within="augment.shear",
    ),
    Case("augment.translate", augment.translate, IMAGES, {"share": (0.0, 0.1, 1.0), **GEOMETRY}, keyed=True),
    Case(
        "augment.apply_translate",
        augment.apply_translate,
        {**IMAGES, "across": drawn(79, 4)},
        {"down": (0.0, 0.7, -2.0), **GEOMETRY},
    ),
    Case(
        "augment.rand_augment",
        augment.rand_augment,
        IMAGES,
        {"magnitude": (0.0, 9.0, 30.0), **GEOMETRY},
        keyed=True,
    ),
    Case("augment.trivial_augment", augment.trivial_augment, IMAGES, GEOMETRY, keyed=True),
    Case(
        "augment.apply_operation",
        lambda images, amount, fill: augment.apply_operation(
            images, torch.tensor([1, 6, 10, 13], device=images.device), amount, interpolation="bilinear", fill=fill
        ),
        IMAGES,
        {"amount": (0.0, 0.3, 0.9), **GEOMETRY},
    ),
    *(
        Case(
            "augment.auto_augment",
            partial(augment.auto_augment, policy=policy),
            IMAGES,
            GEOMETRY,
            keyed=True,
            variant=policy,
            within="" if policy == "cifar10" else "augment.auto_augment[cifar10]",  # another table
        )
        for policy in ("cifar10", "svhn", "imagenet")
    ),
]  # fmt: skip
