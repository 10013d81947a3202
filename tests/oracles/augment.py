"""`augment` against torchvision.transforms.v2 image by image, scipy's distributions, and counted pixels."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.stats
import torch
import torchvision.transforms.v2 as transforms
import torchvision.transforms.v2.functional as F
from torch import Tensor
from torch.func import vmap
from torchvision.transforms import InterpolationMode

import funcreg as fr
from funcreg import augment
from tests.oracles import Pair, oracle

KEY = fr.random.key(0)
BILINEAR, NEAREST = InterpolationMode.BILINEAR, InterpolationMode.NEAREST
N = 7
COLOR = fr.random.uniform(fr.random.key(1), (N, 3, 12, 17), dtype=torch.float64)
GREY = fr.random.uniform(fr.random.key(2), (N, 1, 15, 10), dtype=torch.float64)
TORCHVISION = "torchvision.transforms.v2.functional."
ROUNDED = "float64; products in another order"


def _bytes(images: Tensor) -> Tensor:
    return (255 * images).round().to(torch.uint8)


BATCHES = (COLOR, GREY, COLOR.float(), _bytes(COLOR), _bytes(GREY))


def _between(seed: int, low: float, high: float) -> Tensor:
    return fr.random.uniform(fr.random.key(100 + seed), (N,), low=low, high=high, dtype=torch.float64)


def _each(images: Tensor, change: Callable[..., Tensor], *parameters: Sequence[float] | Tensor) -> Tensor:
    """One image after the other, each with its own parameters."""
    values = [torch.as_tensor(each).tolist() for each in parameters]
    return torch.stack([change(image, *own) for image, *own in zip(images, *values, strict=True)])


def _places(images: Tensor) -> Tensor:
    """Images whose one channel is the number of each pixel, from 1."""
    height, width = images.shape[2:]
    numbers = torch.arange(1.0, height * width + 1, dtype=torch.float64).reshape(1, 1, height, width)
    return numbers.expand(images.shape[0], 1, height, width)


@oracle("augment.flip", against=TORCHVISION + "horizontal_flip, vertical_flip", tolerance=0, because="pixels are moved")
def flip() -> Pair:
    ours = [augment.flip(x, 1.0, key=KEY, direction=way) for x in BATCHES for way in ("horizontal", "vertical")]
    return ours, [function(x) for x in BATCHES for function in (F.horizontal_flip, F.vertical_flip)]


@oracle(
    "augment.crop", against=TORCHVISION + "pad and crop, where each image went", tolerance=0, because="pixels are moved"
)
def crop() -> Pair:
    ours, theirs = [], []
    for images in BATCHES:
        height, width = images.shape[2:]
        # Where the pixel at (5, 5), which no move by 3 takes out, is after a crop of the numbers of pixels.
        moved = augment.crop(_places(images), 3, key=KEY).flatten(1) == 5 * width + 6
        at = moved.to(torch.int8).argmax(dim=1)
        top, left = 3 + 5 - at // width, 3 + 5 - at % width
        for mode in ("constant", "edge", "reflect"):
            fill = 7.0 if mode == "constant" else 0.0
            ours.append(augment.crop(images, 3, key=KEY, mode=mode, fill=fill))
            padded = F.pad(images, [3], fill=fill, padding_mode=mode)
            theirs.append(_each(padded, lambda x, i, j, h=height, w=width: F.crop(x, i, j, h, w), top, left))
    return ours, theirs


@oracle("augment.apply_crop", against=TORCHVISION + "crop", tolerance=0, because="pixels are moved")
def apply_crop() -> Pair:
    top, left = _between(0, 0, 7).long(), _between(1, 0, 5).long()
    ours = [augment.apply_crop(x, top, left, size=(6, 5)) for x in BATCHES]
    return ours, [_each(x, lambda x, i, j: F.crop(x, i, j, 6, 5), top, left) for x in BATCHES]


@oracle("augment.apply_cutout", against=TORCHVISION + "erase, clipped", tolerance=0, because="pixels are replaced")
def apply_cutout() -> Pair:
    top, left, height, width = (_between(seed, low, 9).long() for seed, low in ((2, -3), (3, -3), (4, 0), (5, 0)))

    def erased(image: Tensor, i: int, j: int, h: int, w: int) -> Tensor:
        i, h, j, w = max(i, 0), max(i + h, 0) - max(i, 0), max(j, 0), max(j + w, 0) - max(j, 0)
        return F.erase(image, i, j, max(h, 0), max(w, 0), torch.tensor(7))

    ours = [augment.apply_cutout(x, top, left, height, width, fill=7.0) for x in BATCHES]
    return ours, [_each(x, erased, top, left, height, width) for x in BATCHES]


@oracle(
    "augment.cutout",
    against="the mean area of a square of 6 cut at borders, counted",
    tolerance=0.01,
    because="a mean of 20,000 squares, whose standard error is 0.002 of the image",
)
def cutout() -> Pair:
    covered = augment.cutout(torch.zeros(20_000, 1, 12, 17), 6, key=KEY, fill=1.0)

    def share(length: int) -> float:
        return sum(len(range(max(c - 3, 0), min(c + 3, length))) for c in range(length)) / length**2

    # Centres are uniform along both axes, and independent.
    profile = [sum(abs(r - c + 0.5) < 3 for c in range(12)) / 12 * share(17) for r in range(12)]
    return covered.mean(dim=(0, 1, 3)), torch.tensor(profile)


def _erased(count: int, shape: tuple[int, int], **settings: Any) -> Tensor:
    """Top, left, height and width of what is covered: (4, count)."""
    covered = augment.erase(torch.zeros(count, 1, *shape), 1.0, key=KEY, fill=1.0, **settings)[:, 0] == 1
    sides = covered.any(dim=2), covered.any(dim=1)
    return torch.stack([side.int().argmax(dim=1) for side in sides] + [side.sum(dim=1) for side in sides])


@oracle("augment.erase", against=TORCHVISION + "erase of the boxes drawn", tolerance=0, because="pixels are replaced")
def erase() -> Pair:
    ours = [augment.erase(x, 1.0, key=KEY, fill=7.0) for x in BATCHES]
    drawn = [_erased(len(x), (x.shape[2], x.shape[3])) for x in BATCHES]
    erased = lambda x, i, j, h, w: F.erase(x, i, j, h, w, torch.tensor(7))  # noqa: E731
    return ours, [_each(x, erased, *own) for x, own in zip(BATCHES, drawn, strict=True)]


@oracle(
    "augment.erase",
    against="torchvision.transforms.v2.RandomErasing's own boxes: means and deviations; how many are erased",
    tolerance=0.03,
    because="4,000 boxes each: five standard errors of 0.006, sides and places as shares of the image's",
)
def erase_boxes() -> Pair:
    ours, theirs = [], []
    generator = torch.get_rng_state()
    torch.manual_seed(0)
    # The last often finds no box that fits.
    cases: tuple[tuple[tuple[int, int], dict[str, Any]], ...] = (
        ((24, 30), {}),
        ((20, 40), {"scale": (0.3, 0.6), "ratio": (0.5, 2.0)}),
        ((20, 30), {"scale": (0.8, 1.0), "ratio": (0.5, 4.0)}),
    )
    for shape, settings in cases:
        sampler = transforms.RandomErasing(p=1.0, **settings)
        image = torch.zeros(1, *shape)
        drawn = [sampler.make_params([image]) for _ in range(4000)]
        other = torch.tensor([[0.0 if box["v"] is None else float(box[name]) for box in drawn] for name in "ijhw"])
        sides = torch.tensor([*shape, *shape]).reshape(4, 1)
        for boxes, into in ((_erased(4000, shape, **settings), ours), (other, theirs)):
            shares = boxes / sides
            into.extend((shares.mean(dim=1), shares.std(dim=1)))
    torch.set_rng_state(generator)
    half = augment.erase(torch.ones(4000, 1, 8, 8), 0.3, key=KEY, scale=(0.2, 0.3))
    return [*ours, (half == 0).flatten(1).any(dim=1).double().mean()], [*theirs, torch.tensor(0.3)]


@oracle("augment.apply_affine", against=TORCHVISION + "affine, bilinear", tolerance=1e-13, because=ROUNDED)
def apply_affine() -> Pair:
    return _affine((COLOR, GREY), "bilinear", 0.0)


@oracle(
    "augment.apply_affine",
    against=TORCHVISION + "affine, bilinear, float32",
    tolerance=5e-6,
    because="places are rounded to 1e-6 of a pixel",
)
def apply_affine_float32() -> Pair:
    return _affine((COLOR.float(), GREY.float()), "bilinear", 0.0)


@oracle(
    "augment.apply_affine", against=TORCHVISION + "affine, uint8", tolerance=0, because="rounded to the nearest level"
)
def apply_affine_uint8() -> Pair:
    return _affine((_bytes(COLOR), _bytes(GREY)), "bilinear", 0.0)


@oracle(
    "augment.apply_affine", against=TORCHVISION + "affine, nearest, filled", tolerance=0, because="pixels are moved"
)
def apply_affine_nearest() -> Pair:
    return _affine(BATCHES, "nearest", 7.0)


@oracle(
    "augment.apply_affine",
    against=TORCHVISION + "affine of images less the fill, plus the fill: see its docstring",
    tolerance=1e-13,
    because=ROUNDED,
)
def apply_affine_filled() -> Pair:
    ours, _ = _affine((COLOR, GREY), "bilinear", 0.3)
    _, theirs = _affine((COLOR - 0.3, GREY - 0.3), "bilinear", 0.0)
    return ours, [each + 0.3 for each in theirs]


def _affine(batches: Sequence[Tensor], interpolation: str, fill: float) -> tuple[list[Tensor], list[Tensor]]:
    angle, across, down = _between(6, -180, 180), _between(7, -4, 4), _between(8, -4, 4)
    scale, along_x, along_y = _between(9, 0.5, 2), _between(10, -30, 30), _between(11, -30, 30)

    def mapped(image: Tensor, angle: float, x: float, y: float, scale: float, sx: float, sy: float) -> Tensor:
        mode = InterpolationMode(interpolation)
        return F.affine(image, angle, [x, y], scale, [sx, sy], interpolation=mode, fill=[fill] if fill else None)

    parameters = {"angle": angle, "translate": (across, down), "scale": scale, "shear": (along_x, along_y)}
    ours = [augment.apply_affine(x, **parameters, interpolation=interpolation, fill=fill) for x in batches]
    return ours, [_each(x, mapped, angle, across, down, scale, along_x, along_y) for x in batches]


@oracle("augment.rotate", against=TORCHVISION + "rotate by the angles drawn", tolerance=1e-13, because=ROUNDED)
def rotate() -> Pair:
    angles = 30 * fr.random.uniform(KEY, (N,), low=-1.0, dtype=torch.float64)
    ours = [augment.rotate(x, 30.0, key=KEY) for x in (COLOR, GREY)]
    return ours, [_each(x, lambda x, angle: F.rotate(x, -angle, BILINEAR), angles) for x in (COLOR, GREY)]


@oracle(
    "augment.rotate", against=TORCHVISION + "rotate, nearest, uint8, filled", tolerance=0, because="pixels are moved"
)
def rotate_nearest() -> Pair:
    angles = 30 * fr.random.uniform(KEY, (N,), low=-1.0, dtype=torch.float64)
    ours = [augment.rotate(_bytes(x), 30.0, key=KEY, interpolation="nearest", fill=9.0) for x in (COLOR, GREY)]
    theirs = [_each(_bytes(x), lambda x, angle: F.rotate(x, -angle, NEAREST, fill=[9]), angles) for x in (COLOR, GREY)]
    return ours, theirs


@oracle("augment.affine", against=TORCHVISION + "affine by the amounts drawn", tolerance=1e-13, because=ROUNDED)
def affine() -> Pair:
    draws = fr.random.uniform(KEY, (5, N), low=-1.0, dtype=torch.float64)
    ours, theirs = [], []
    for images in (COLOR, GREY):
        height, width = images.shape[2:]
        settings = {"degrees": 20.0, "translate": 0.2, "scale": (0.8, 1.4), "shear": 10.0}
        ours.append(augment.affine(images, key=KEY, **settings))
        amounts = (20 * draws[0], 0.2 * width * draws[1], 0.2 * height * draws[2], 1.1 + 0.3 * draws[3], 10 * draws[4])
        theirs.append(
            _each(images, lambda x, turn, i, j, zoom, s: F.affine(x, turn, [i, j], zoom, [s, 0], BILINEAR), *amounts)
        )
    return ours, theirs


SIZES = ((12, 17), (5, 4), (30, 31), (25, 6))


def _resized(batches: Sequence[Tensor], antialias: bool) -> tuple[list[Tensor], list[Tensor]]:
    height, width = _between(12, 1, 12.9).long(), _between(13, 1, 10.9).long()
    top, left = (
        (_between(seed, 0, 1) * (limit - side)).long() for seed, limit, side in ((14, 13, height), (15, 11, width))
    )
    ours, theirs = [], []
    for images in batches:
        for size in SIZES:
            ours.append(augment.apply_resized_crop(images, top, left, height, width, size=size, antialias=antialias))
            theirs.append(
                _each(
                    images,
                    lambda x, i, j, h, w, size=size: F.resized_crop(x, i, j, h, w, list(size), antialias=antialias),
                    top, left, height, width,
                )
            )  # fmt: skip
    return ours, theirs


@oracle("augment.apply_resized_crop", against=TORCHVISION + "resized_crop", tolerance=1e-14, because=ROUNDED)
def apply_resized_crop() -> Pair:
    smooth, plain = (_resized((COLOR, GREY), antialias) for antialias in (True, False))
    return (smooth[0], plain[0]), (smooth[1], plain[1])


@oracle(
    "augment.apply_resized_crop",
    against=TORCHVISION + "resized_crop, uint8",
    tolerance=1,
    because="torchvision rounds after each axis, this once",
)
def apply_resized_crop_uint8() -> Pair:
    return _resized((_bytes(COLOR), _bytes(GREY)), True)


@oracle(
    "augment.apply_resized_crop",
    against=TORCHVISION + "resized_crop of the levels in float64",
    tolerance=0.5001,
    because="rounded once: half a level, and the rounding of float32",
)
def apply_resized_crop_rounded_once() -> Pair:
    ours, _ = _resized((_bytes(COLOR), _bytes(GREY)), True)
    _, theirs = _resized((_bytes(COLOR).double(), _bytes(GREY).double()), True)
    return ours, theirs


def _boxes(count: int, shape: tuple[int, int], **settings: Any) -> Tensor:
    """Top, left, height and width of boxes, read off ramps: (4, count)."""
    height, width = shape
    ramps = torch.stack(
        (torch.arange(height).double().reshape(-1, 1).expand(shape), torch.arange(width).double().expand(shape))
    )
    corners = augment.resized_crop(ramps.expand(count, 2, *shape), key=KEY, **settings)
    first, last = corners[:, :, 0, 0].T, corners[:, :, -1, -1].T
    return torch.cat((first, last - first + 1)).round()


@oracle(
    "augment.resized_crop", against=TORCHVISION + "resized_crop of the boxes drawn", tolerance=1e-14, because=ROUNDED
)
def resized_crop() -> Pair:
    boxes = _boxes(N, (12, 17)).long()
    theirs = _each(COLOR, lambda x, i, j, h, w: F.resized_crop(x, i, j, h, w, [9, 20]), *boxes)
    return augment.resized_crop(COLOR, key=KEY, size=(9, 20)), theirs


@oracle(
    "augment.resized_crop",
    against="torchvision.transforms.v2.RandomResizedCrop's own boxes: means and deviations",
    tolerance=0.03,
    because="4,000 boxes each: five standard errors of 0.005, sides and places as shares of the image's",
)
def resized_crop_boxes() -> Pair:
    ours, theirs = [], []
    generator = torch.get_rng_state()
    torch.manual_seed(0)
    # The last two seldom or never find a box that fits.
    cases: tuple[tuple[tuple[int, int], dict[str, Any]], ...] = (
        ((24, 30), {}),
        ((20, 20), {"scale": (0.3, 0.6), "ratio": (0.5, 2.0)}),
        ((20, 40), {"scale": (0.9, 1.0)}),
        ((20, 30), {"scale": (0.9, 1.0), "ratio": (0.2, 0.3)}),
    )
    for shape, settings in cases:
        sampler = transforms.RandomResizedCrop(shape, **settings)
        image = torch.zeros(1, *shape)
        drawn = [sampler.make_params([image]) for _ in range(4000)]
        other = torch.tensor([[float(box[name]) for box in drawn] for name in ("top", "left", "height", "width")])
        sides = torch.tensor([*shape, *shape]).reshape(4, 1)
        for boxes, into in ((_boxes(4000, shape, **settings), ours), (other, theirs)):
            shares = boxes / sides
            into.extend((shares.mean(dim=1), shares.std(dim=1)))
    torch.set_rng_state(generator)
    return ours, theirs


ADJUSTMENTS = {
    "brightness": (F.adjust_brightness, _between(16, 0, 2)),
    "contrast": (F.adjust_contrast, _between(17, 0, 2)),
    "saturation": (F.adjust_saturation, _between(18, 0, 2)),
    "hue": (F.adjust_hue, _between(19, -0.5, 0.5)),
}


def _adjusted(batches: Sequence[Tensor], names: Sequence[str]) -> tuple[list[Tensor], list[Tensor]]:
    ours = [augment.apply_color(x, **{name: ADJUSTMENTS[name][1]}) for x in batches for name in names]
    return ours, [_each(x, *ADJUSTMENTS[name]) for x in batches for name in names]


@oracle(
    "augment.apply_color",
    against=TORCHVISION + "adjust_brightness, adjust_contrast, adjust_saturation",
    tolerance=1e-15,
    because="float64, up to one rounding of a product and a sum",
)
def apply_color() -> Pair:
    return _adjusted((COLOR, GREY), ("brightness", "contrast", "saturation"))


@oracle(
    "augment.apply_color", against=TORCHVISION + "adjust_hue", tolerance=2e-6, because="torchvision computes in float32"
)
def apply_color_hue() -> Pair:
    return _adjusted((COLOR, GREY), ("hue",))


@oracle("augment.apply_color", against=TORCHVISION + "adjust_*, uint8", tolerance=0, because="rounded down after each")
def apply_color_uint8() -> Pair:
    return _adjusted((_bytes(COLOR), _bytes(GREY)), tuple(ADJUSTMENTS))


@oracle(
    "augment.apply_color", against=TORCHVISION + "adjust_*, one after the other, uint8", tolerance=0, because="as each"
)
def apply_color_chained() -> Pair:
    theirs = _bytes(COLOR)
    for adjust, factors in ADJUSTMENTS.values():
        theirs = _each(theirs, adjust, factors)
    return augment.apply_color(_bytes(COLOR), **{name: each for name, (_, each) in ADJUSTMENTS.items()}), theirs


@oracle(
    "augment.color_jitter",
    against=TORCHVISION + "adjust_* by the factors drawn",
    tolerance=5e-6,
    because="torchvision turns the hue in float32",
)
def color_jitter() -> Pair:
    draws = fr.random.uniform(KEY, (4, N), dtype=torch.float64)
    lows, highs = torch.tensor([0.6, 0.0, 0.5, -0.2]), torch.tensor([1.4, 2.2, 1.5, 0.2])
    theirs = COLOR
    for (adjust, _), factors in zip(ADJUSTMENTS.values(), (lows + (highs - lows) * draws.T).T, strict=True):
        theirs = _each(theirs, adjust, factors)
    return augment.color_jitter(COLOR, key=KEY, brightness=0.4, contrast=1.2, saturation=0.5, hue=0.2), theirs


@oracle("augment.mixup", against="numpy, by the shares that the targets tell", tolerance=1e-15, because=ROUNDED)
def mixup() -> Pair:
    ours, theirs = [], []
    for images in (COLOR, GREY):
        mixed, shares = augment.mixup(images, torch.eye(N, dtype=torch.float64), 0.7, key=KEY)
        ours.append(mixed)
        theirs.append(torch.as_tensor(np.einsum("ij,jchw->ichw", shares.numpy(), images.numpy())))
    return ours, theirs


def _kept(mix: Callable[..., tuple[Tensor, Tensor]], shape: tuple[int, int], alpha: float) -> Tensor:
    """What each of 20,000 images, in pairs, keeps of itself: sorted."""
    images, targets = torch.zeros(2, 1, *shape), torch.eye(2, dtype=torch.float64)
    pairs = vmap(lambda key: mix(images, targets, alpha, key=key)[1].diagonal())(fr.random.split(KEY, 10_000))
    return pairs.flatten().sort().values


@oracle(
    "augment.mixup",
    against="scipy.stats.beta: the distribution of the shares",
    tolerance=0.0138,
    because="of 20,000 draws the largest gap is that small in 999 of 1,000 samples (Kolmogorov)",
)
def mixup_shares() -> Pair:
    ours, theirs = [], []
    for alpha in (0.2, 1.0, 4.0):
        shares = _kept(augment.mixup, (1, 1), alpha)
        ours.append(torch.as_tensor(scipy.stats.beta.cdf(shares.numpy(), alpha, alpha)))
        theirs.append((torch.arange(len(shares)) + 0.5) / len(shares))
    return ours, theirs


@oracle("augment.cutmix", against="pixels of each origin, counted", tolerance=1e-15, because="float64")
def cutmix() -> Pair:
    ours, theirs = [], []
    for height, width in ((12, 17), (15, 10)):
        origin = torch.arange(N, dtype=torch.float64).reshape(N, 1, 1, 1).expand(N, 1, height, width)
        mixed, targets = augment.cutmix(origin, torch.eye(N, dtype=torch.float64), 1.0, key=KEY)
        ours.append(targets)
        theirs.append(torch.stack([(mixed == image).double().mean(dim=(1, 2, 3)) for image in range(N)], dim=1))
    return ours, theirs


@oracle(
    "augment.cutmix",
    against="torchvision.transforms.v2.CutMix's own boxes: the distribution of their areas",
    tolerance=0.034,
    because="of 4,000 and 20,000 boxes the largest gap is below 0.034 in 999 of 1,000 samples (Smirnov)",
)
def cutmix_areas() -> Pair:
    generator = torch.get_rng_state()
    torch.manual_seed(0)
    image, levels, ours, theirs = torch.zeros(2, 1, 20, 30), torch.linspace(0.01, 0.99, 50), [], []
    for alpha in (0.5, 1.0):
        sampler = transforms.CutMix(alpha=alpha, num_classes=2)
        kept = torch.tensor([sampler.make_params([image])["lam_adjusted"] for _ in range(4000)])
        for values, into in ((_kept(augment.cutmix, (20, 30), alpha), ours), (kept, theirs)):
            into.append((values.reshape(-1, 1) <= levels).double().mean(dim=0))
    torch.set_rng_state(generator)
    return ours, theirs


@oracle(
    "augment.compose", against="torchvision.transforms.v2.Compose, of flips", tolerance=0, because="pixels are moved"
)
def compose() -> Pair:
    together = augment.compose(
        lambda images, *, key: augment.flip(images, 1.0, key=key),
        lambda images, *, key: augment.flip(images, 1.0, key=key, direction="vertical"),
    )
    theirs = transforms.Compose([transforms.RandomHorizontalFlip(1.0), transforms.RandomVerticalFlip(1.0)])
    return together(COLOR, key=KEY), theirs(COLOR)
