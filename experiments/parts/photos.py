"""CIFAR-10 as the networks of the experiments get it: standardised, smaller where a CPU needs it, in three parts."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import funcreg as fr

from ..data import Images, cifar10
from ..harness.context import Context


class Photos(NamedTuple):
    """Standardised images (N, 3, size, size) and their classes, to train, to validate and to test.

    `images` are those that they were made of, in [0, 1], and `mean` and `sd` what they were standardised by,
    (1, 3, 1, 1); `source` says which and how many.
    """

    train: fr.train.Batch
    validation: fr.train.Batch
    test: fr.train.Batch
    images: Images
    mean: Tensor
    sd: Tensor
    source: str


def photos(context: Context, *, train: int, validation: int, test: int, size: int = 32) -> Photos:
    """Shuffled images of CIFAR-10, or of what stands in for it; validation is taken from its training set.

    Args:
        train, validation, test: images of each; fewer where there are fewer, at most a fifth to validate.
        size: 32, or a divisor of it: the side after averaging squares of pixels.
    """
    images = cifar10(context.data)
    held_out = min(validation, len(images.x) // 5)
    images = images.take(held_out + train, test).to(context.device)
    small, small_test = (F.avg_pool2d(each, 32 // size) for each in (images.x, images.test_x))
    mean, sd = (getattr(small, name)(dim=(0, 2, 3), keepdim=True) for name in ("mean", "std"))

    def part(x: Tensor, y: Tensor) -> fr.train.Batch:
        return fr.train.Batch((x - mean) / sd, y)

    source = f"{images.source}; {len(small) - held_out:,} of them to train, {held_out:,} to validate"
    source += f", {len(small_test):,} to test" + (f", averaged to {size}x{size}" if size < 32 else "")
    return Photos(
        part(small[held_out:], images.y[held_out:]),
        part(small[:held_out], images.y[:held_out]),
        part(small_test, images.test_y),
        images,
        mean,
        sd,
        source,
    )


def move(x: Tensor, wanted: float | Tensor = 1.0, *, key: Tensor) -> Tensor:
    """Mirror half of the images, and shift each by up to an eighth of its side; nothing where `wanted` is 0.

    A tensor of shape () can be told to a compiled program, so that runs with and without share it.
    """
    flip_key, crop_key = fr.random.split(key)
    wanted = torch.as_tensor(wanted, device=x.device)
    mirrored = fr.augment.flip(x, 0.5 * wanted, key=flip_key)
    return torch.where(wanted > 0, fr.augment.crop(mirrored, x.shape[-1] // 8, key=crop_key), x)


def channels_last(x: Tensor) -> Tensor:
    """The same images, laid out as convolutions on a CPU take them fastest, by a third here."""
    return x.contiguous(memory_format=torch.channels_last)
