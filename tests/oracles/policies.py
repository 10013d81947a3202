"""The operations of `augment`'s policies, and the policies, against torchvision.transforms.v2 image by image."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torchvision.transforms.v2 as transforms
import torchvision.transforms.v2.functional as F
from torch import Tensor

import funcreg as fr
from funcreg import augment
from tests.oracles import Pair, oracle
from tests.oracles.augment import BATCHES, COLOR, GREY, ROUNDED, TORCHVISION, _between, _bytes, _each

KEY = fr.random.key(5)
BYTES = _bytes(fr.random.uniform(fr.random.key(3), (400, 3, 12, 17)))  # of any level, any strength
SMOOTH = BYTES.sort(dim=3).values[..., ::2, :] // 3 + 40  # as a photo's, which has not all levels
STRENGTHS = fr.random.uniform(fr.random.key(4), (400,), dtype=torch.float64)
# Ours, in the order of `augment.OPERATIONS`, by torchvision's names.
THEIRS = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert",
)  # fmt: skip
BINS = {"RandAugment": 31, "TrivialAugmentWide": 31, "AutoAugment": 10}


def _levels(apply: Callable[..., Tensor], theirs: Callable[..., Tensor], **amounts: float) -> Pair:
    """Ours and torchvision's, of uint8 and of floating point, each image with an amount of up to some, or the top."""
    ours, other = [], []
    for images in (BYTES, SMOOTH, *BATCHES):
        top = 255.0 if images.dtype == torch.uint8 else 1.0
        highs = (top if high == 1.0 else high for high in amounts.values())
        given = [high * STRENGTHS[: len(images)] for high in highs]
        ours.append(apply(images, *given))
        other.append(_each(images, theirs, *given))
    return ours, other


@oracle("augment.apply_invert", against=TORCHVISION + "invert", tolerance=0, because="one subtraction")
def apply_invert() -> Pair:
    return _levels(augment.apply_invert, F.invert)


@oracle("augment.apply_solarize", against=TORCHVISION + "solarize", tolerance=0, because="one subtraction")
def apply_solarize() -> Pair:
    return _levels(augment.apply_solarize, F.solarize, threshold=1.0)


@oracle("augment.apply_posterize", against=TORCHVISION + "posterize", tolerance=0, because="powers of two")
def apply_posterize() -> Pair:
    return _levels(augment.apply_posterize, lambda x, bits: F.posterize(x, int(bits)), bits=8.0)


@oracle("augment.apply_autocontrast", against=TORCHVISION + "autocontrast", tolerance=0, because="the same operations")
def apply_autocontrast() -> Pair:
    return _levels(augment.apply_autocontrast, F.autocontrast)


@oracle(
    "augment.apply_equalize",
    against=TORCHVISION + "equalize",
    tolerance=1e-7,
    because="floating-point levels are divided in float32 there; uint8 is exact",
)
def apply_equalize() -> Pair:
    return _levels(augment.apply_equalize, F.equalize)


@oracle("augment.apply_equalize", against=TORCHVISION + "equalize, uint8", tolerance=0, because="integers")
def apply_equalize_uint8() -> Pair:
    small = (SMOOTH[..., :4, :5], SMOOTH[..., :1, :1], torch.zeros(2, 3, 40, 40, dtype=torch.uint8))
    photos = (BYTES, SMOOTH, SMOOTH.repeat(1, 1, 5, 5)[:20], *small)
    return [augment.apply_equalize(x) for x in photos], [_each(x, F.equalize) for x in photos]


@oracle("augment.apply_sharpness", against=TORCHVISION + "adjust_sharpness", tolerance=1e-6, because="float32")
def apply_sharpness() -> Pair:
    return _levels(augment.apply_sharpness, F.adjust_sharpness, factor=3.0)


@oracle("augment.apply_sharpness", against=TORCHVISION + "adjust_sharpness", tolerance=1e-14, because=ROUNDED)
def apply_sharpness_float64() -> Pair:
    theirs = [_each(x, F.adjust_sharpness, 2 * STRENGTHS[: len(x)]) for x in (COLOR, GREY)]
    return [augment.apply_sharpness(x, 2 * STRENGTHS[: len(x)]) for x in (COLOR, GREY)], theirs


@oracle("augment.apply_grayscale", against=TORCHVISION + "rgb_to_grayscale", tolerance=0, because="the same operations")
def apply_grayscale() -> Pair:
    return _levels(augment.apply_grayscale, lambda x: F.rgb_to_grayscale(x, x.shape[0]))


@oracle("augment.apply_normalize", against=TORCHVISION + "normalize", tolerance=0, because="the same operations")
def apply_normalize() -> Pair:
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.1])
    theirs = F.normalize(COLOR.float(), mean.tolist(), std.tolist()), F.normalize(GREY, [0.5], [0.25])
    return (augment.apply_normalize(COLOR.float(), mean, std), augment.apply_normalize(GREY, 0.5, 0.25)), theirs


def _blurred(batches: Sequence[Tensor]) -> Pair:
    ours, theirs, sigma = [], [], _between(20, 0.2, 3.0)
    for images in batches:
        for size in (1, 3, 7):
            ours.append(augment.apply_gaussian_blur(images, size, sigma))
            theirs.append(_each(images, lambda x, s, size=size: F.gaussian_blur(x, [size, size], [s, s]), sigma))
    return ours, theirs


@oracle("augment.apply_gaussian_blur", against=TORCHVISION + "gaussian_blur", tolerance=1e-14, because=ROUNDED)
def apply_gaussian_blur() -> Pair:
    return _blurred((COLOR, GREY))


@oracle("augment.apply_gaussian_blur", against=TORCHVISION + "gaussian_blur, uint8", tolerance=0, because="rounded")
def apply_gaussian_blur_uint8() -> Pair:
    return _blurred((_bytes(COLOR), _bytes(GREY)))


@oracle("augment.gaussian_blur", against=TORCHVISION + "gaussian_blur by those drawn", tolerance=1e-14, because=ROUNDED)
def gaussian_blur() -> Pair:
    sigma = 0.1 + 1.9 * fr.random.uniform(KEY, (len(COLOR),), dtype=torch.float64)
    theirs = _each(COLOR, lambda x, s: F.gaussian_blur(x, [5, 5], [s, s]), sigma)
    return augment.gaussian_blur(COLOR, 5, key=KEY), theirs


def _slanted(x: Tensor, across: float, down: float) -> Tensor:
    """As AutoAugment: along x, then along y, each about the corner."""
    return _changed(_changed(x, "ShearX", across), "ShearY", down)


def _changed(x: Tensor, name: str, amount: float, interpolation: str = "bilinear") -> Tensor:
    policy: Any = transforms.RandAugment()  # one method of which carries out any operation
    mode = transforms.InterpolationMode(interpolation)
    return policy._apply_image_or_video_transform(x, name, amount, interpolation=mode, fill={})


@oracle("augment.apply_shear", against=TORCHVISION + "affine about the corner", tolerance=1e-13, because=ROUNDED)
def apply_shear() -> Pair:
    amount, none = _between(21, -1, 1), torch.zeros(7)
    theirs = [_each(x, _slanted, *pair) for x in (COLOR, GREY) for pair in ((amount, none), (none, amount))]
    ours = [augment.apply_shear(x, *pair) for x in (COLOR, GREY) for pair in ((amount, none), (none, amount))]
    return ours, theirs


@oracle("augment.shear", against=TORCHVISION + "affine by the angles drawn", tolerance=1e-13, because=ROUNDED)
def shear() -> Pair:
    x, y = 0.3 * fr.random.uniform(KEY, (2, 7), low=-1.0, dtype=torch.float64)
    degrees = [torch.rad2deg(torch.atan(each)) for each in (x, y)]

    def mapped(image: Tensor, along_x: float, along_y: float) -> Tensor:
        return F.affine(
            image, 0.0, [0, 0], 1.0, [along_x, along_y], transforms.InterpolationMode.BILINEAR, center=[0, 0]
        )

    return augment.shear(COLOR, 0.3, key=KEY), _each(COLOR, mapped, *degrees)


@oracle("augment.apply_translate", against=TORCHVISION + "affine", tolerance=1e-13, because=ROUNDED)
def apply_translate() -> Pair:
    across, down = _between(22, -5, 5), _between(23, -5, 5)
    return augment.apply_translate(COLOR, across, down), _each(COLOR, _translated, across, down)


@oracle("augment.translate", against=TORCHVISION + "affine by those drawn", tolerance=1e-13, because=ROUNDED)
def translate() -> Pair:
    _, across, down, *_ = 0.2 * fr.random.uniform(KEY, (5, 7), low=-1.0, dtype=torch.float64)
    return augment.translate(COLOR, 0.2, key=KEY), _each(COLOR, _translated, 17 * across, 12 * down)


def _translated(x: Tensor, across: float, down: float) -> Tensor:
    return F.affine(x, 0.0, [across, down], 1.0, [0, 0], transforms.InterpolationMode.BILINEAR)


def _amounts(operation: Tensor) -> Tensor:
    """Amounts of any kind that each operation takes."""
    low = torch.tensor([0, -0.9, -0.9, -9, -9, -90, -1, -1, -1, -1, 0, 0, 0, 0, 0], dtype=torch.float64)
    high = torch.tensor([0, 0.9, 0.9, 9, 9, 90, 2, 2, 2, 2, 8, 1, 0, 0, 0], dtype=torch.float64)
    return low[operation] + (high - low)[operation] * STRENGTHS


def _operated(images: Tensor, interpolation: str) -> tuple[Tensor, Tensor]:
    operation = torch.arange(400) % 15
    amount = _amounts(operation)
    theirs = _each(
        images, lambda x, place, amount: _changed(x, THEIRS[place], amount, interpolation), operation, amount
    )
    return augment.apply_operation(images, operation, amount, interpolation=interpolation), theirs


@oracle("augment.apply_operation", against="torchvision's operators, uint8", tolerance=0, because="rounded as theirs")
def apply_operation_uint8() -> Pair:
    ours, theirs = zip(*(_operated(x, "nearest") for x in (BYTES, SMOOTH)), strict=True)
    return ours, theirs


@oracle(
    "augment.apply_operation",
    against="torchvision's operators, uint8, bilinear",
    tolerance=1,
    because="places are rounded to 1e-6 of a pixel, and a few values are halfway between levels",
)
def apply_operation_bilinear() -> Pair:
    return _operated(BYTES, "bilinear")


@oracle(
    "augment.apply_operation",
    against="torchvision's operators, float64",
    tolerance=1e-7,
    because="equalize divides in float32 there",
)
def apply_operation() -> Pair:
    ours, theirs = zip(*(_operated(BYTES.double() / 255, mode) for mode in ("nearest", "bilinear")), strict=True)
    return ours, theirs


class _Drawn:
    """torchvision's policy of a name, by draws of ours."""

    def __init__(self, name: str) -> None:
        self.amounts = {}
        # In float32 its amounts are off by 1e-7 of themselves, and 16 pixels are 15.999999, of which it takes 15.
        torch.set_default_dtype(torch.float64)
        try:
            for theirs, (amounts, signed) in getattr(transforms, name)._AUGMENTATION_SPACE.items():
                self.amounts[theirs] = amounts(BINS[name], 6, 17), signed
            self.amounts["Identity"] = None, False  # which AutoAugment has not
        finally:
            torch.set_default_dtype(torch.float32)

    def __call__(self, images: Tensor, operation: Tensor, sign: Tensor, level: Tensor) -> Tensor:
        def changed(image: Tensor, place: int, sign: float, level: int) -> Tensor:
            amounts, signed = self.amounts[THEIRS[place]]
            amount = 0.0 if amounts is None else float(amounts[level])
            return _changed(image, THEIRS[place], -amount if signed and sign < 0.5 else amount, "nearest")

        return _each(images, changed, operation, sign, level)


@oracle(
    "augment.rand_augment",
    against="torchvision's RandAugment by the draws, uint8",
    tolerance=0,
    because="rounded as theirs",
)
def rand_augment() -> Pair:
    ours, theirs, policy = [], [], _Drawn("RandAugment")
    for magnitude in (0, 9, 30):
        x = SMOOTH
        for choice, sign in fr.random.uniform(KEY, (3, 2, 400), dtype=torch.float64):
            x = policy(x, (14 * choice).long(), sign, torch.full((400,), magnitude))
        theirs.append(x)
        ours.append(augment.rand_augment(SMOOTH, key=KEY, num_ops=3, magnitude=magnitude))
    return ours, theirs


@oracle(
    "augment.trivial_augment",
    against="torchvision's TrivialAugmentWide by the draws, uint8",
    tolerance=0,
    because="rounded as theirs",
)
def trivial_augment() -> Pair:
    choice, sign, strength = fr.random.uniform(KEY, (3, 400), dtype=torch.float64)
    theirs = _Drawn("TrivialAugmentWide")(SMOOTH, (14 * choice).long(), sign, (31 * strength).long())
    return augment.trivial_augment(SMOOTH, key=KEY), theirs


@oracle(
    "augment.auto_augment",
    against="torchvision's AutoAugment by the draws, its three policies, uint8",
    tolerance=0,
    because="rounded as theirs",
)
def auto_augment() -> Pair:
    ours, theirs, policy = [], [], _Drawn("AutoAugment")
    draws = fr.random.uniform(KEY, (5, 400), dtype=torch.float64)
    for name in ("cifar10", "svhn", "imagenet"):
        pairs: Any = transforms.AutoAugment(transforms.AutoAugmentPolicy(name))._policies
        own = [pairs[int(25 * draw)] for draw in draws[0].tolist()]
        x = SMOOTH
        for place in range(2):
            applied = [
                (THEIRS.index(pair[place][0]) if draw < pair[place][1] else 0, pair[place][2] or 0)
                for pair, draw in zip(own, draws[1 + place].tolist(), strict=True)
            ]
            operation, level = torch.tensor(applied).unbind(dim=1)
            x = policy(x, operation, draws[3 + place], level)
        # A shear by 0.2 reads some pixels from halfway between two, of which rounding chooses one.
        sure = torch.tensor([all(op[:5] != "Shear" or level != 6 for op, _, level in pair) for pair in own])
        theirs.append(x[sure])
        ours.append(augment.auto_augment(SMOOTH, name, key=KEY)[sure])
    return ours, theirs


@oracle(
    "augment.sometimes",
    against=TORCHVISION + "RandomGrayscale and its kin, of the images drawn",
    tolerance=0,
    because="the same operations",
)
def sometimes() -> Pair:
    """torchvision's draw of an image is one number that is below p: 0 or 1 by the same numbers."""
    kinds: list[tuple[Any, Callable[[float], Any]]] = [
        (augment.apply_grayscale, transforms.RandomGrayscale),
        (augment.apply_invert, transforms.RandomInvert),
        (augment.apply_equalize, transforms.RandomEqualize),
        (augment.apply_autocontrast, transforms.RandomAutocontrast),
        (partial(augment.apply_solarize, threshold=100), lambda p: transforms.RandomSolarize(100, p)),
        (partial(augment.apply_posterize, bits=3), lambda p: transforms.RandomPosterize(3, p)),
        (partial(augment.apply_sharpness, factor=2.0), lambda p: transforms.RandomAdjustSharpness(2.0, p)),
    ]
    images = SMOOTH[:40]
    chosen = fr.random.uniform(fr.random.split(KEY)[0], (40,)) < 0.3
    ours = [augment.sometimes(function, 0.3)(images, key=KEY) for function, _ in kinds]
    theirs = [torch.stack([make(float(own))(x) for x, own in zip(images, chosen, strict=True)]) for _, make in kinds]
    return ours, theirs
