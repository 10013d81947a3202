"""A good call of a public function: what bad arguments are put into."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import funcreg as fr

KEY = fr.random.key(0)
X = fr.random.normal(fr.random.key(1), (4, 3))
IMAGES = fr.random.uniform(fr.random.key(2), (4, 3, 6, 5))
TOKENS = fr.random.normal(fr.random.key(3), (2, 4, 3))
CLASSES = torch.tensor([0, 1, 2, 0])
SOFT = torch.softmax(fr.random.normal(fr.random.key(4), (4, 3)), -1)
PARAMS = {
    "weight": fr.random.normal(fr.random.key(5), (2, 3)),
    "bias": fr.random.normal(fr.random.key(6), (2,)),
}
_FOLDER = tempfile.TemporaryDirectory()
PATH = Path(_FOLDER.name, "saved")
GRADS = fr.tree.map(lambda leaf: leaf / 2, PARAMS)


@dataclass(frozen=True)
class Call:
    """`function(**arguments)`, of the public function `name`, or of what it returns: "adam.update"."""

    name: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        return self.name


def call(name: str, function: Callable[..., Any], /, **arguments: Any) -> Call:
    return Call(name, function, arguments)
