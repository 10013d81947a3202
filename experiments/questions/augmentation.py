"""What does each augmentation do to a picture, and is it the same picture whenever the key is the same?

Part: D
Command: python -m experiments run augmentation --data-root DATA
Runtime: smoke 1 s, quick 2 s, full 40 s (2 CPU cores)
Answer: yes, to the bit, for all eleven, and under vmap over keys as well (n = 2,048 images each: 32 keys on 64
    of CIFAR-10's). Another key draws another picture for 99.7 to 100% of the images, for a flip 48%. Pixels stay in
    [0, 1], labels that are mixed sum to 1 within 3e-8, settings that mean nothing change nothing to the bit.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import vmap

import funcreg as fr

from ..data import cifar10
from ..harness.context import Context
from ..report import plots
from ..report.estimates import estimate
from ..report.result import Claim, Result, Table


@dataclass(frozen=True)
class Settings:
    """A batch of `images`, augmented with each of `keys` keys; `rows` of them are in the gallery."""

    images: int = 64
    keys: int = 32
    rows: int = 4
    shown: int = 4


PRESETS = {"smoke": Settings(images=16, keys=4), "quick": Settings(), "full": Settings(images=512, keys=256)}

_TOGETHER = fr.augment.compose(
    fr.augment.flip, partial(fr.augment.crop, padding=4), partial(fr.augment.cutmix, alpha=1.0)
)
# Each with the settings of the gallery; `neutral` ones change nothing.
DRAWN: dict[str, Callable[..., Any]] = {
    "flip": fr.augment.flip,
    "flip, vertical": partial(fr.augment.flip, direction="vertical"),
    "crop": partial(fr.augment.crop, padding=6),
    "cutout": partial(fr.augment.cutout, size=14),
    "rotate": partial(fr.augment.rotate, degrees=45.0),
    "affine": partial(fr.augment.affine, degrees=20.0, translate=0.2, scale=(0.7, 1.3), shear=20.0),
    "resized_crop": partial(fr.augment.resized_crop, scale=(0.2, 1.0)),
    "color_jitter": partial(fr.augment.color_jitter, brightness=0.5, contrast=0.5, saturation=0.8, hue=0.3),
    "mixup": partial(fr.augment.mixup, alpha=1.0),
    "cutmix": partial(fr.augment.cutmix, alpha=1.0),
    "compose": _TOGETHER,
}
NEUTRAL: dict[str, Callable[..., Any]] = {
    "flip": partial(fr.augment.flip, rate=0.0),
    "crop": partial(fr.augment.crop, padding=0),
    "cutout": partial(fr.augment.cutout, size=0),
    "rotate": partial(fr.augment.rotate, degrees=0.0),
    "affine": fr.augment.affine,
    "resized_crop": partial(fr.augment.resized_crop, scale=(1.0, 1.0), ratio=(1.0, 1.0)),
    "color_jitter": fr.augment.color_jitter,
    "mixup": partial(fr.augment.mixup, alpha=0.0),
    "cutmix": partial(fr.augment.cutmix, alpha=0.0),
}
# Those that take each image's parameters instead of a key, from nothing to much.
GIVEN: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "apply_crop (left, size 20)": [
        partial(fr.augment.apply_crop, top=6, left=left, size=20) for left in (0, 3, 6, 9, 12)
    ],
    "apply_cutout (width)": [
        partial(fr.augment.apply_cutout, top=8, left=4, height=12, width=width) for width in (0, 6, 12, 18, 24)
    ],
    "apply_affine (angle)": [partial(fr.augment.apply_affine, angle=float(a)) for a in (0, 30, 60, 90, 120)],
    "apply_resized_crop (width)": [
        partial(fr.augment.apply_resized_crop, top=0, left=0, height=32, width=width) for width in (32, 26, 20, 14, 8)
    ],
    "apply_color (hue)": [partial(fr.augment.apply_color, hue=turn) for turn in (0.0, 0.1, 0.2, 0.3, 0.4)],
}


def main(settings: Settings, context: Context) -> Result:
    """Go through every augmentation with every key, and note what holds."""
    (key,) = context.keys(1)
    images = cifar10(context.data).to(context.device)
    x = images.x[: settings.images]
    targets = fr.labels.one_hot(images.y[: settings.images], len(images.classes))
    keys = fr.random.split(key, settings.keys)
    tracked = zip(DRAWN, context.track(DRAWN.values(), "augmentations"), strict=True)
    seen = {name: _invariants(function, x, targets, keys) for name, function in tracked}
    values = {
        "images": len(x),
        "keys": settings.keys,
        "seen": seen,
        "neutral": {name: torch.equal(_picture(f, x, targets, key), x) for name, f in NEUTRAL.items()},
        "twice": torch.equal(fr.augment.flip(fr.augment.flip(x, 1.0, key=key), 1.0, key=key), x),
        "gallery": {
            "pixels": x[1 : settings.shown + 1].mul(255).round().to(torch.int64),
            "keys": keys[: settings.rows],
        },
    }
    return Result(values, _claims(values), _tables(values), [images.source])


def _mixes(function: Callable[..., Any]) -> bool:
    return "targets" in inspect.signature(function).parameters


def _outputs(function: Callable[..., Any], x: Tensor, targets: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    return function(x, targets=targets, key=key) if _mixes(function) else (function(x, key=key), targets)


def _picture(function: Callable[..., Any], x: Tensor, targets: Tensor, key: Tensor) -> Tensor:
    return _outputs(function, x, targets, key)[0]


def _invariants(function: Callable[..., Any], x: Tensor, targets: Tensor, keys: Tensor) -> dict[str, Any]:
    """What holds of one augmentation over all keys."""
    every, labels = vmap(lambda key: _outputs(function, x, targets, key))(keys)
    bytes_ = x.mul(255).round().to(torch.uint8)
    again = torch.stack([_picture(function, x, targets, key) for key in keys])
    distinct = torch.stack([(every[0] - other).abs().amax(dim=(1, 2, 3)) > 0 for other in every[1:]])
    changed = (every - x).abs().amax(dim=(2, 3, 4)) > 0
    small = _picture(function, bytes_, targets, keys[0])
    return {
        "low": float(every.min()),
        "high": float(every.max()),
        "shape": tuple(every.shape[1:]) == tuple(x.shape),
        "finite": bool(every.isfinite().all()),
        "label_sums": float((labels.double().sum(dim=-1) - 1).abs().max()),
        "label_low": float(labels.min()),
        "mixes": _mixes(function),
        "again": torch.equal(_picture(function, x, targets, keys[0]), _picture(function, x, targets, keys[0])),
        "vmap": float((every - again).abs().max()),
        "other_key": distinct.double().mean(dim=1),
        "changed": changed.double().mean(dim=1),
        "uint8": small.dtype == torch.uint8 and tuple(small.shape) == tuple(x.shape),
        "images": len(x),
    }


def _claims(values: dict[str, Any]) -> list[Claim]:
    seen = values["seen"]
    n = values["images"] * values["keys"]
    count = len(seen)
    worst = max(each["vmap"] for each in seen.values())
    low, high = min(each["low"] for each in seen.values()), max(each["high"] for each in seen.values())
    mixing = {name: each for name, each in seen.items() if each["mixes"]}
    sums = max(each["label_sums"] for each in mixing.values())
    other = {name: float(each["other_key"].mean()) for name, each in seen.items()}
    least = min(other, key=lambda name: other[name])  # a flip: half of all pairs of keys draw one picture
    sound = sum(each["shape"] and each["uint8"] and each["finite"] for each in seen.values())
    flips = estimate(seen["flip"]["changed"].tolist())
    return [
        Claim(
            "The same key draws the same picture, to the bit, and another key another",
            f"{sum(each['again'] for each in seen.values())} of {count} repeat to the bit; with another key "
            f"{100 * other[least]:.0f}% ({least}) to {100 * max(other.values()):.0f}% of the images differ (n = {n:,})",
            all(each["again"] for each in seen.values()) and other[least] > 0.25,
            {"other": other, "n": n},
        ),
        Claim(
            "Under vmap over keys each key draws what it draws alone, to rounding",
            f"largest difference of a pixel in [0, 1]: {worst:.1g} ({count} augmentations, n = {n:,} images each)",
            worst < 1e-5,
            {"largest": worst, "n": n},
        ),
        Claim(
            "Pixels stay in [0, 1], shapes as they were, bytes remain bytes",
            f"lowest {low:.3g}, highest {high:.7g}; all shapes and uint8 kept in {sound} of {count} (n = {n:,})",
            low >= -1e-6 and high <= 1 + 1e-6 and sound == count,
            {"low": low, "high": high, "n": n},
        ),
        Claim(
            "Mixed labels sum to 1 for every image",
            f"largest difference {sums:.1g} over {', '.join(mixing)} (n = {n:,} images each, float32)",
            sums < 1e-6 and all(each["label_low"] >= 0 for each in mixing.values()),
            {"largest": sums, "n": n},
        ),
        Claim(
            "A setting that means nothing changes nothing, to the bit, and two flips undo each other",
            f"{sum(values['neutral'].values())} of {len(values['neutral'])} leave {values['images']} images alone; "
            f"flipping twice: {'equal' if values['twice'] else 'not equal'}",
            all(values["neutral"].values()) and values["twice"],
            {"neutral": values["neutral"], "n": values["images"]},
        ),
        Claim(
            "Each image has a draw of its own: a flip at rate 0.5 mirrors half of them",
            f"share of a batch that is mirrored: {flips}",
            flips.low <= 0.5 <= flips.high and flips.sd > 0,
            flips._asdict(),
        ),
    ]


def _tables(values: dict[str, Any]) -> list[Table]:
    rows = [
        (
            name,
            f"{each['low']:.3f} to {each['high']:.3f}",
            f"{100 * float(each['changed'].mean()):.1f}",
            f"{100 * float(each['other_key'].mean()):.1f}",
            f"{each['label_sums']:.1g}" if each["mixes"] else "",
            f"{each['vmap']:.1g}",
            each["images"] * values["keys"],
        )
        for name, each in values["seen"].items()
    ]
    columns = (
        "augmentation",
        "pixels",
        "images changed (%)",
        "differ with another key (%)",
        "labels' sums less 1",
        "vmap and alone apart",
        "n",
    )
    return [Table(f"{values['keys']} keys on {values['images']} images", columns, rows)]


def figures(result: Result) -> dict[str, Figure]:
    """Galleries, drawn from the record's images and keys: augmenting again is how the pictures are kept."""
    gallery = result.values["gallery"]
    x = torch.tensor(gallery["pixels"], dtype=torch.float32) / 255
    keys = torch.tensor(gallery["keys"], dtype=torch.int64)
    names = list(DRAWN)
    return {
        "moved": _draw_gallery(x, keys, names[:6], "moved or covered"),
        "changed": _draw_gallery(x, keys, names[6:], "resized, coloured or mixed"),
        "given": _draw_given(x),
    }


def _draw_gallery(x: Tensor, keys: Tensor, names: list[str], what: str) -> Figure:
    figure, axes = plots.canvas(
        len(keys) + 1,
        len(names) + 1,
        height=1.22 * (len(keys) + 1),
        caption=f"Augmentations by which pixels are {what}: a column each, one key a row. The last row has the first "
        "row's key again: the same key draws the same picture.",
    )
    targets = torch.eye(len(x))
    for row, key in enumerate([*keys, keys[0]]):
        label = f"key {row + 1}" if row < len(keys) else "key 1 again"
        pictures = [x[0], *(_picture(DRAWN[name], x, targets, key)[0] for name in names)]
        for axis, picture, title in zip(axes[row], pictures, ["original", *names], strict=True):
            plots.picture(axis, picture.clamp(0, 1).movedim(0, -1), title.replace(", ", ",\n") if row == 0 else "")
        axes[row, 0].set_ylabel(label, fontsize=10)
    return figure


def _draw_given(x: Tensor) -> Figure:
    steps = len(next(iter(GIVEN.values())))
    figure, axes = plots.canvas(
        len(GIVEN),
        steps,
        height=1.35 * len(GIVEN),
        caption="The functions that take an image's parameters instead of a key: in each row the one in brackets goes "
        "from nothing to much.",
    )
    for row, (name, functions) in enumerate(GIVEN.items()):
        for axis, function in zip(axes[row], functions, strict=True):
            plots.picture(axis, function(x[:1])[0].clamp(0, 1).movedim(0, -1))
        axes[row, 0].set_ylabel(name.replace(" (", "\n("), fontsize=9, rotation=0, ha="right", va="center")
    return figure
