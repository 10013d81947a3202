"""Where data is: a folder given by --data-root or FUNCREG_DATA, or none."""

import os
from pathlib import Path
from typing import NamedTuple

from ..errors import LabError

# What the loaders look for, relative to the root.
MNIST = "MNIST/raw"
CIFAR10 = ("cifar-10-batches-py", "cifar10-jpg.tar.gz")
TEXT = "tinyshakespeare.txt"
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
    known = (MNIST, *CIFAR10, TEXT)
    if not any((path / name).exists() for name in known):
        above = next((parent for parent in (path.parent, path.parent.parent) if (parent / MNIST).exists()), None)
        hint = f"Did you mean {above}?" if above else "Without --data-root the embedded data is used."
        raise LabError(f"{origin}: {path} has none of {', '.join(known)}. {hint}")
    return DataRoot(path)


def cache() -> Path:
    """The folder for what is downloaded or unpacked: never the data root, never the repository."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "funcreg"
