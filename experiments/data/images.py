"""Images with labels: MNIST, CIFAR-10; and what stands in for them."""

import struct
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import funcreg as fr

from ..errors import LabError
from .root import CIFAR10, MNIST, DataRoot, cache

T = TypeVar("T")


class Images(NamedTuple):
    """x: float (N, C, H, W) in [0, 1]; y: int64 (N,). A test set beside the training set."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: tuple[str, ...]
    source: str

    def take(self, train: int, test: int) -> "Images":
        """The first `train` and `test` of them, or all there are: both sets come shuffled."""
        return self._replace(x=self.x[:train], y=self.y[:train], test_x=self.test_x[:test], test_y=self.test_y[:test])

    def only(self, *names: str) -> "Images":
        """Those of some classes, in this order: the first becomes class 0."""
        numbers = [self.classes.index(name) for name in names]
        new = torch.full((len(self.classes),), -1)
        new[numbers] = torch.arange(len(numbers))
        y, test_y = new[self.y], new[self.test_y]
        mine, test = y >= 0, test_y >= 0
        return self._replace(x=self.x[mine], y=y[mine], test_x=self.test_x[test], test_y=test_y[test], classes=names)

    def to(self, device: torch.device) -> "Images":
        """On a device."""
        return self._replace(**{name: getattr(self, name).to(device) for name in ("x", "y", "test_x", "test_y")})


def mnist(root: DataRoot) -> Images:
    """MNIST's 60,000 + 10,000 digits of 28x28; without a data root, scikit-learn's 1,797 of 8x8.

    The latter are enlarged to 20x20 and framed to 28x28, as MNIST's are, so that the same
    networks and rotations fit.

    Raises:
        LabError: when the files in the data root are damaged, or cannot be downloaded.
    """
    if root.path is None or (root.find(MNIST) is None and not root.download):
        return _digits(root.absence)
    from torchvision.datasets import MNIST as Dataset

    def load(train: bool) -> tuple[Tensor, Tensor]:
        dataset = Dataset(str(root.path), train=train, download=root.download)
        return dataset.data.unsqueeze(1).float() / 255, dataset.targets.long()

    folder = root.path / MNIST
    (x, y), (test_x, test_y) = (guarded(lambda train=train: load(train), "MNIST", folder) for train in (True, False))
    if not (len(x) == len(y) > 0 and len(test_x) == len(test_y) > 0 and x.shape[1:] == test_x.shape[1:]):
        raise LabError(f"MNIST in {folder} is damaged: {len(x)} images and {len(y)} labels. Get the files again.")
    (x, y), (test_x, test_y) = shuffled(x, y), shuffled(test_x, test_y)
    source = f"MNIST: {len(x):,} training and {len(test_x):,} test images of 28x28, from the data root"
    return Images(x, y, test_x, test_y, tuple("0123456789"), source)


def cifar10(root: DataRoot) -> Images:
    """CIFAR-10's 50,000 + 10,000 images of 32x32; without a data root, generated ones.

    Reads torchvision's layout (`cifar-10-batches-py`), or `cifar10-jpg.tar.gz`, which is
    unpacked once into the user's cache.

    Raises:
        LabError: when the files in the data root are damaged, or cannot be downloaded.
    """
    found = root.find(*CIFAR10)
    if found is None and not root.download:
        return _generated(root.absence)
    if found is not None and found.suffix == ".gz":
        tensors = guarded(lambda: _jpeg_archive(found), "CIFAR-10", found)
        return Images(*tensors, _CIFAR10_CLASSES, _cifar10_source(tensors[0], tensors[2], "JPEG files"))
    from torchvision.datasets import CIFAR10 as Dataset

    def load(train: bool) -> tuple[Tensor, Tensor]:
        dataset = Dataset(str(root.path), train=train, download=root.download)
        return torch.from_numpy(dataset.data).movedim(-1, 1).float() / 255, torch.tensor(dataset.targets)

    where = found or root.path or cache()
    (x, y), (test_x, test_y) = (guarded(lambda t=train: load(t), "CIFAR-10", where) for train in (True, False))
    return Images(*shuffled(x, y), *shuffled(test_x, test_y), _CIFAR10_CLASSES, _cifar10_source(x, test_x, "original"))


_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _cifar10_source(x: Tensor, test_x: Tensor, form: str) -> str:
    return f"CIFAR-10 ({form}): {len(x):,} training and {len(test_x):,} test images of 32x32, from the data root"


def guarded(load: Callable[[], T], what: str, where: Path) -> T:
    """Whatever a loader trips over, as one sentence that names the data."""
    try:
        return load()
    except LabError:
        raise
    except Exception as error:  # torchvision and tarfile raise a dozen types for a damaged or missing file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        # torchvision speaks to who calls it; here that is the command line.
        reason = reason.replace("You can use download=True to download it", "Add --download to fetch it.")
        raise LabError(f"cannot read {what} in {where}: {reason}") from None


def shuffled(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """In an order fixed for ever: the first n of any set are a fair sample of it."""
    order = fr.random.permutation(fr.random.key(0), len(x))
    return x[order], y[order]


def _digits(why: str) -> Images:
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    small = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16
    large = F.interpolate(small, size=(20, 20), mode="bilinear", align_corners=False)
    x, y = shuffled(F.pad(large, (4, 4, 4, 4)), torch.tensor(bunch.target, dtype=torch.int64))
    train = 1297
    source = (
        f"scikit-learn's digits, in place of MNIST: {train:,} training and {len(x) - train} test images of 8x8, "
        f"enlarged to 28x28 ({why})"
    )
    return Images(x[:train], y[:train], x[train:], y[train:], tuple("0123456789"), source)


def _generated(why: str, train: int = 2000, test: int = 500) -> Images:
    """Ten classes of 32x32 RGB: gratings of five orientations in two colours, shifted, with noise."""
    angle_key, phase_key, noise_key, label_key = fr.random.split(fr.random.key(0), 4)
    n = train + test
    y = fr.random.randint(label_key, (n,), 0, 10)
    angle = (y % 5) * torch.pi / 5 + fr.random.normal(angle_key, (n,), std=0.1)
    phase = fr.random.uniform(phase_key, (n,), high=2 * torch.pi)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    along = rows * torch.sin(angle)[:, None, None] + columns * torch.cos(angle)[:, None, None]
    wave = 0.5 + 0.3 * torch.sin(0.6 * along + phase[:, None, None])
    tint = torch.where((y < 5)[:, None], torch.tensor([1.0, 0.6, 0.3]), torch.tensor([0.3, 0.6, 1.0]))
    x = wave[:, None] * tint[:, :, None, None] + fr.random.normal(noise_key, (n, 3, 32, 32), std=0.1)
    x = x.clamp(0, 1)
    source = f"generated gratings, in place of CIFAR-10: {train:,} + {test} images of 32x32 ({why})"
    return Images(x[:train], y[:train], x[train:], y[train:], tuple(str(i) for i in range(10)), source)


def _jpeg_archive(archive: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The archive's images, unpacked once into the cache and kept there as tensors of bytes."""
    from torchvision.datasets import ImageFolder

    stat = archive.stat()
    kept = cache() / f"cifar10-{stat.st_size}-{int(stat.st_mtime)}.pt"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            with tarfile.open(archive) as file:
                file.extractall(folder, filter="data")
            bytes_of = [_read(ImageFolder(f"{folder}/cifar10/{part}"), 32) for part in ("train", "test")]
            part = Path(folder) / "tensors.pt"
            torch.save([tensor for pair in bytes_of for tensor in pair], part)
            part.replace(kept)
    x, y, test_x, test_y = torch.load(kept, weights_only=True)
    return *shuffled(x.float() / 255, y), *shuffled(test_x.float() / 255, test_y)


def read_image(path: str | Path, size: int) -> Tensor:
    """One image, RGB, resized to size x size: uint8 (3, size, size).

    Raises:
        LabError: when it cannot be read; its path is in the message.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * size, 2 * size))  # a large JPEG is decoded at a fraction of its size
            image = image.convert("RGB")
            if image.size != (size, size):
                image = image.resize((size, size))
    # What damaged files make PIL raise, and what it raises for billions of pixels.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError):
        raise LabError(f"{path} cannot be read as an image. Remove it or replace it.") from None
    return torch.from_numpy(np.array(image)).movedim(-1, 0)


def _read(dataset: Any, size: int) -> tuple[Tensor, Tensor]:
    """An ImageFolder's images, as bytes."""
    return torch.stack([read_image(name, size) for name, _ in dataset.samples]), torch.tensor(dataset.targets)
