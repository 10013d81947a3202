"""Folders of one's own images, a sub-folder for each class; and three kinds of animals, wherever there are some."""

from pathlib import Path

import torch
from torch import Tensor

import funcreg as fr

from ..errors import LabError
from .images import Images, cifar10, guarded, read_image, shuffled
from .root import DataRoot, class_folders, is_image

_TEST = ("val", "test", "valid", "validation")
_WANTED = "Give one with a sub-folder of images for each class, or with train/ and val/ of such"


def animals(root: DataRoot, *, train: int = 3_000, test: int = 1_000) -> Images:
    """Three classes of 32x32 images, RGB.

    Of the data root's `animal-faces` or `afhq` (or the root itself, where it is a folder of class
    folders), the first three classes by name: cat, dog, wild; else CIFAR-10's cat, dog, deer; else
    three kinds of generated gratings. Two classes will do.

    Args:
        root: where data is.
        train, test: at most so many images of a folder are read, a fair sample of it.

    Raises:
        LabError: for a folder with fewer than 2 classes, an empty class, or an image that cannot be read.
    """
    folder = root.animals()
    if folder is not None:
        return image_folder(folder, classes=3, train=train, test=test)
    images = cifar10(root)
    names = ("cat", "dog", "deer") if "cat" in images.classes else images.classes[:3]
    images = images.only(*names)
    source = f"{images.source}; of these {', '.join(names)}: {len(images.x):,} and {len(images.test_x):,}"
    return images._replace(source=source)


def image_folder(
    path: Path,
    *,
    size: int = 32,
    test_share: float = 0.2,
    classes: int | None = None,
    train: int | None = None,
    test: int | None = None,
) -> Images:
    """The images of a folder, a sub-folder for each class; RGB, resized to size x size.

    Where it has `train` and one of `val`, `test`, `valid`, `validation`, these are the two sets; else
    a share is held out for testing. Files that are not named as images, hidden files and folders,
    and files beside the class folders are passed over.

    Args:
        path: of the folder.
        size: of the images, pixels.
        test_share: of the images, where there is no folder for testing.
        classes: take the first so many, by name. Default: all.
        train, test: read at most so many, drawn evenly. Default: all.

    Raises:
        LabError: for what is not a folder or has fewer than 2 classes; for a class without images, an
            image that cannot be read, a test folder of other classes (the message has the path).
    """
    if not path.is_dir():
        raise LabError(f"{path} is not a folder. {_WANTED}.")
    split = path / "train" if class_folders(path / "train") else None
    files, names = _files(split or path, classes)
    held_out = next((path / name for name in _TEST if split and class_folders(path / name)), None)
    if held_out is None:
        order = _order(len(files))
        kept = max(1, round(len(files) * test_share))
        test_files, files = [files[i] for i in order[:kept]], [files[i] for i in order[kept:]]
    else:
        test_files, test_names = _files(held_out, classes)
        if test_names != names:
            raise LabError(f"{held_out} has the classes {', '.join(test_names)}, {split} {', '.join(names)}.")
    (x, y), (test_x, test_y) = _read(files, train, size), _read(test_files, test, size)
    source = (
        f"images from the data root's folder of {', '.join(names)}: {len(x):,} training and {len(test_x):,} test "
        f"images, resized to {size}x{size}"
    )
    return Images(x, y, test_x, test_y, names, source)


def _files(path: Path, most: int | None) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """The images of the first classes of a folder, each with the number of its class; and the classes' names."""
    folders = class_folders(path)[:most]
    if len(folders) < 2:
        found = f"1 class folder ({folders[0].name})" if folders else "no class folders"
        raise LabError(f"{path} has {found}, and at least 2 are needed. {_WANTED}.")
    files = []
    for number, folder in enumerate(folders):
        inside = guarded(lambda folder=folder: sorted(filter(is_image, folder.rglob("*"))), "the images", folder)
        if not inside:
            raise LabError(f"{folder} has no images. Put some of its class there, or remove the folder.")
        files += [(file, number) for file in inside]
    return files, tuple(folder.name for folder in folders)


def _order(count: int) -> list[int]:
    """Fixed for ever, so that the same folder always gives the same sets."""
    return fr.random.permutation(fr.random.key(0), count).tolist()


def _read(files: list[tuple[Path, int]], most: int | None, size: int) -> tuple[Tensor, Tensor]:
    chosen = [files[i] for i in _order(len(files))[:most]]
    x = torch.stack([read_image(file, size) for file, _ in chosen])
    return shuffled(x.float() / 255, torch.tensor([number for _, number in chosen]))
