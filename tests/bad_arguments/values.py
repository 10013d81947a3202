"""Bad values of an argument, made from a good one: `(kind, value)`."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optree
import torch
from torch import Tensor, nn

Values = Iterator[tuple[str, Any]]

ANYTHING: dict[str, Any] = {
    "text": "text",
    "None": None,
    "an object": object(),
    "a complex number": 1j,
    "a numpy array": np.ones(3, dtype=np.float32),
    "a list": [1.0, 2.0],
    "a dict": {"nothing": None},
    "a module": nn.Linear(2, 2),
    "an optimizer": torch.optim.Adam([torch.zeros(2)]),
    "an optimizer's class": torch.optim.Adam,
    "a generator": torch.Generator(),
    "a dtype": torch.float32,
    "shape: five axes": torch.ones(7, 3, 2, 5, 3),
}


def bad_values(good: Any) -> Values:
    """What to put in the place of a good value: of other types, and of its own."""
    for name, value in ANYTHING.items():
        if not (isinstance(good, str) and name == "text"):
            yield name, value
    if isinstance(good, Tensor):
        yield from tensors(good)
    elif isinstance(good, bool):
        yield from {
            "a number": 3,
            "a bool of numpy's": np.bool_(True),
            "a bool in a tensor": torch.tensor(True),
        }.items()
    elif isinstance(good, int):
        yield from _counts()
    elif isinstance(good, float):
        yield from _numbers()
    elif isinstance(good, str):
        yield from {"another text": "TEXT", "bytes": b"text", "a number": 3, "True": True, "no text": ""}.items()
    elif isinstance(good, torch.dtype):
        others = (torch.int64, torch.bool, torch.complex64, torch.uint8)
        yield from {"another dtype's name": "float32", "a dtype of numpy's": np.float32, "float": float}.items()
        yield from ((str(dtype), dtype) for dtype in others)
    elif isinstance(good, torch.device):
        yield from {"another device": "gpu", "a number": 3.5}.items()
    elif isinstance(good, Path):
        yield from {"a folder": good.parent, "a file in no folder": good.parent / "none" / "x", "a number": 3}.items()
    elif (
        isinstance(good, tuple) and type(good) is tuple and good and all(isinstance(each, int | float) for each in good)
    ):
        yield from _pairs(good)
    elif callable(good) and not isinstance(good, nn.Module):
        yield "a number", 3.5
        yield "a function of nothing", _of_nothing
        yield "a function that returns text", _returns_text
        yield "a function that returns None", _returns_none
    elif isinstance(good, dict | list | tuple):
        yield from _trees(good)
    else:
        yield "a number", 3.5


def _of_nothing() -> None:
    """A function that cannot be called with anything."""


def _returns_text(*arguments: Any, **named: Any) -> str:
    return "text"


def _returns_none(*arguments: Any, **named: Any) -> None:
    return None


def tensors(good: Tensor) -> Values:
    """Tensors of other shapes, dtypes and values."""
    yield "a number", 3.5
    yield "its list", good.tolist()
    yield "its numpy array", good.numpy()
    yield "shape: another axis in front", good[None].clone()
    yield "shape: another axis behind", good[..., None].clone()
    if good.ndim:
        yield "shape: ()", good.reshape(-1)[0].clone()
        yield "shape: without the first axis", good[0].clone()
    for axis in range(good.ndim):
        yield f"shape: axis {axis} longer", torch.cat((good, good.narrow(axis, 0, 1)), axis)
        yield f"shape: axis {axis} of 1", good.narrow(axis, 0, 1).clone()
        yield f"empty: axis {axis}", good.narrow(axis, 0, 0).clone()
    others = (torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64)
    for dtype in others:
        if dtype != good.dtype:
            yield f"dtype: {str(dtype).removeprefix('torch.')}", good.to(dtype)
    yield "device: meta", good.to("meta")
    if good.is_floating_point():
        for name, value in (("NaN", math.nan), ("inf", math.inf), ("-inf", -math.inf), ("huge", 1e30)):
            yield f"value: {name}", _first(good, value)
        yield "value: NaN everywhere", torch.full_like(good, math.nan)
    elif good.dtype != torch.bool:
        for name, value in (("-1", -1), ("-100", -100), ("7", 7), ("2**62", 2**62)):
            yield f"value: {name}", _first(good, value)


def _first(good: Tensor, value: float) -> Tensor:
    """With another first element."""
    flat = good.flatten()
    return torch.cat((flat.new_full((1,), value), flat[1:])).reshape(good.shape)


def _numbers() -> Values:
    yield from {"NaN": math.nan, "inf": math.inf, "-inf": -math.inf, "negative": -1.0, "huge": 1e300}.items()
    yield from {"an integer too large": 2**2000, "True": True, "an array of numpy's of shape ()": np.array(0.1)}.items()
    yield "a tensor: shape (3,)", torch.full((3,), 0.1)
    yield "a tensor: shape (4,)", torch.full((4,), 0.1)
    yield "a tensor: empty", torch.zeros(0)
    for dtype in (torch.bool, torch.complex64, torch.int64, torch.float16):
        yield f"a tensor: {str(dtype).removeprefix('torch.')}", torch.ones((), dtype=dtype)
    for name, value in (("NaN", math.nan), ("inf", math.inf), ("negative", -1.0), ("huge", 1e30)):
        yield f"a tensor: {name}", torch.tensor(value)
    yield "a tensor: meta", torch.zeros((), device="meta")


def _counts() -> Values:
    numbers = {"0": 0, "negative": -1, "huge": 2**70, "a fraction": 2.5, "a whole float": 2.0, "NaN": math.nan}
    yield from numbers.items()
    yield from {"inf": math.inf, "True": True, "a number of numpy's": np.int64(2)}.items()
    yield "a tensor: int64", torch.tensor(2)
    yield "a tensor: shape (3,)", torch.tensor([2, 2, 2])
    yield "a tensor: NaN", torch.tensor(math.nan)
    yield "a tensor: meta", torch.zeros((), device="meta", dtype=torch.int64)


def _pairs(good: tuple[Any, ...]) -> Values:
    yield "a number", -3.5
    for name, value in (
        *(("negative", -1), ("huge", 2**70), ("a fraction", 2.5), ("NaN", math.nan), ("inf", math.inf)),
        *(("text", "2"), ("None", None), ("True", True), ("a tensor", torch.tensor(2))),
        *(("a tensor of shape (3,)", torch.ones(3)), ("meta", torch.zeros((), device="meta"))),
    ):
        yield f"in it: {name}", (value, *good[1:])
    yield "one more", (*good, good[-1])
    yield "one less", good[:-1]
    yield "none", ()
    yield "the other way round", good[::-1]


def _trees(good: Any) -> Values:
    """Trees with a leaf more, less, or another."""
    yield "a number", 3.5
    for name, value in {"{}": {}, "()": (), "[]": []}.items():
        if value != good:
            yield f"empty: {name}", value
    leaves, structure = optree.tree_flatten(good, none_is_leaf=True)
    if isinstance(good, dict):
        yield "structure: a leaf more", good | {"more": torch.ones(2)}
        yield "structure: in a list", [good]
        if good:
            yield "structure: a leaf less", dict(list(good.items())[1:])
            yield "structure: another name", {f"another {name}": leaf for name, leaf in good.items()}
            yield "structure: names that are numbers", dict(enumerate(good.values()))
            yield "structure: a list of its leaves", list(good.values())
    elif good:
        yield "structure: a dict", {"of": good}
        if not hasattr(good, "_fields"):
            yield "structure: a leaf less", good[1:]
    for place, leaf in enumerate(leaves):
        if place in (0, len(leaves) - 1):
            for name, value in _leaves(leaf):
                changed = [value if number == place else each for number, each in enumerate(leaves)]
                yield f"leaf {place}: {name}", optree.tree_unflatten(structure, changed)


def _leaves(leaf: Any) -> Values:
    yield from {"text": "text", "None": None, "a number": 0.5, "an object": object()}.items()
    if isinstance(leaf, Tensor):
        yield "a list", leaf.tolist()
        yield "a numpy array", leaf.numpy()
        yield "shape: another axis", leaf[None].clone()
        if leaf.ndim:
            yield "shape: ()", leaf.reshape(-1)[0].clone()
            yield "shape: longer", torch.cat((leaf, leaf[:1]))
            yield "shape: axis of 1", leaf[:1].clone()
            yield "empty", leaf[:0].clone()
        for dtype in (torch.float16, torch.int64, torch.bool, torch.complex64):
            if leaf.dtype != dtype:
                yield f"dtype: {str(dtype).removeprefix('torch.')}", leaf.to(dtype)
        yield "device: meta", leaf.to("meta")
        if leaf.is_floating_point():
            yield "value: NaN", _first(leaf, math.nan)
            yield "value: inf", _first(leaf, math.inf)
