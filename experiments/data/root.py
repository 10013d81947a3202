"""Where data is: a folder given by --data-root or FUNCREG_DATA, or none.

A data root may hold any of

    MNIST/raw                 MNIST, as torchvision keeps it
    cifar-10-batches-py       CIFAR-10, as torchvision keeps it; or cifar10-jpg.tar.gz
    tinyshakespeare.txt       text
    animal-faces/ or afhq/    images of one's own, a sub-folder for each class (cat, dog, wild);
                              or, as AFHQ has it, train/ and val/ (or test/) of such

and may itself be a folder of the last kind: then it serves those who want images of animals, and the
others fall back on what is embedded.
"""

import os
from pathlib import Path
from typing import NamedTuple

from ..errors import LabError

# What the loaders look for, relative to the root.
MNIST = "MNIST/raw"
CIFAR10 = ("cifar-10-batches-py", "cifar10-jpg.tar.gz")
TEXT = "tinyshakespeare.txt"
ANIMALS = ("animal-faces", "afhq")  # a sub-folder of images for each class; or train/ and val/ (test/) of such
_OTHERS = (MNIST, *CIFAR10, TEXT)
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"))
ENVIRONMENT = "FUNCREG_DATA"


class DataRoot(NamedTuple):
    """A folder of real data, or None for embedded data alone; and whether to download what is missing."""

    path: Path | None = None
    download: bool = False

    def find(self, *names: str) -> Path | None:
        """The first of some paths under the root that exists."""
        if self.path is None:
            return None
        return next((self.path / name for name in names if (self.path / name).exists()), None)

    def animals(self) -> Path | None:
        """The folder of class folders: one of `ANIMALS` in the root, else the root itself where it is such a folder.

        A root that has other data is not: its folders of images may be anything.
        """
        found = self.find(*ANIMALS)
        if found is None and self.path is not None and self.find(*_OTHERS) is None and has_classes(self.path):
            return self.path
        return found

    @property
    def absence(self) -> str:
        """Why something stands in for real data, as the report says it."""
        return "no data root was given" if self.path is None else "the data root has none"


def data_root(argument: str | None = None, *, download: bool = False) -> DataRoot:
    """The data root asked for on the command line, else in the environment.

    Raises:
        LabError: when it is not a folder, or holds nothing that an experiment can read.
    """
    given = argument or os.environ.get(ENVIRONMENT) or None
    if given is None:
        return DataRoot(cache() / "data", True) if download else DataRoot()
    origin = "--data-root" if argument else ENVIRONMENT
    path = Path(given).expanduser()
    if download:
        return DataRoot(path, True)
    if not path.exists():
        raise LabError(f"{origin}: {path} does not exist. Give an existing folder, or add --download to fill it.")
    if not path.is_dir():
        raise LabError(f"{origin}: {path} is a file. Give the folder that holds it.")
    known = (*_OTHERS, *ANIMALS)
    if not any((path / name).exists() for name in known) and not has_classes(path):
        parents = (path.parent, path.parent.parent)
        above = next((parent for parent in parents if (parent / MNIST).exists() or has_classes(parent)), None)
        hint = f"Did you mean {above}?" if above else "Without --data-root the embedded data is used."
        raise LabError(f"{origin}: {path} has none of {', '.join(known)}, and no class folders of images. {hint}")
    return DataRoot(path)


def has_classes(path: Path) -> bool:
    """Whether a folder has sub-folders with images in them, perhaps in a sub-folder `train`."""
    parts = (path, path / "train")
    return any(is_image(file) for part in parts for folder in class_folders(part) for file in _entries(folder))


def class_folders(path: Path) -> list[Path]:
    """The sub-folders of a folder by name, without hidden ones and those that archives of a Mac leave."""
    return sorted(each for each in _entries(path) if each.is_dir() and not each.name.startswith((".", "__MACOSX")))


def is_image(path: Path) -> bool:
    """Whether a file's name is that of an image; its content is another matter."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _entries(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except OSError:  # not a folder, or not for us to read: has nothing
        return []


def cache() -> Path:
    """The folder for what is downloaded or unpacked: never the data root, never the repository."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "funcreg"
