"""Data for the experiments: the real thing where a data root has it, else what the dependencies ship.

    root.py    where data is: --data-root, FUNCREG_DATA, --download
    images.py  mnist, cifar10, image_folder -> Images
    text.py    characters -> Text
    toys.py    generated tables, each from a key

Every loader returns a `source`, a sentence for the report that says which data it was.
"""

from .images import Images, cifar10, image_folder, mnist
from .root import DataRoot, data_root
from .text import Text, characters
from .toys import quadratic, regression

__all__ = [
    "DataRoot",
    "Images",
    "Text",
    "characters",
    "cifar10",
    "data_root",
    "image_folder",
    "mnist",
    "quadratic",
    "regression",
]
