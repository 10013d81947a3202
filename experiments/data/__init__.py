"""Data for the experiments: the real thing where a data root has it, else what the dependencies ship.

    root.py    where data is: --data-root, FUNCREG_DATA, --download
    images.py  mnist, cifar10 -> Images
    folders.py image_folder, animals -> Images
    text.py    characters -> Text
    toys.py    generated tables, each from a key
    tables.py  generated tables whose features differ in scale or in shape
    signals.py one signal and five changes of it
    mixtures.py  Gaussians on a ring

Every loader returns a `source`, a sentence for the report that says which data it was.
"""

from .folders import animals, image_folder
from .images import Images, cifar10, mnist
from .mixtures import ring, ring_centres
from .root import DataRoot, data_root
from .signals import variants
from .tables import one_mode, two_modes, two_scales
from .text import Text, characters
from .toys import quadrants, quadratic, regression

__all__ = [
    "DataRoot",
    "Images",
    "Text",
    "animals",
    "characters",
    "cifar10",
    "data_root",
    "image_folder",
    "mnist",
    "one_mode",
    "quadrants",
    "quadratic",
    "regression",
    "ring",
    "ring_centres",
    "two_modes",
    "two_scales",
    "variants",
]
