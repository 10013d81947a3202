"""What layers hold beside their tensors, as it was before a call."""

import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..attributes import fill, identical
from ..contents import contents
from ..refused import ATOMS, is_empty
from .differences import same_values

# torch's generators last: to ask for one takes as long as to ask for forty of the others.
_LEAVES = (int, type, types.FunctionType, types.MethodType, types.ModuleType)
_LEAVES = (*_LEAVES, types.BuiltinFunctionType, nn.Module, Tensor, torch.Generator)


def held_by(layer: nn.Module) -> Iterator[tuple[str, Any]]:
    """The attributes of a layer and what its containers hold, each by the attribute's name."""
    for attribute, value in vars(layer).items():
        if attribute in ("_parameters", "_buffers", "_modules"):
            continue
        yield attribute, value
        yield from ((attribute, part) for part in contents(value))


def own_tensors(layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The tensors that layers keep and that are neither parameters nor buffers, by dotted name."""
    return {
        f"{name}.{attribute}" if name else attribute: value
        for name, layer in layers.items()
        for attribute, value in held_by(layer)
        if isinstance(value, Tensor) and not value.is_meta
    }


class Snapshot:
    """The attributes of some layers, and what mutable containers and plain objects among them hold."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self.owners: list[tuple[str, Any, Any]] = []  # (layer, a mutable thing, a shallow copy of its contents)
        seen: set[int] = set()
        for name, layer in layers.items():
            self._keep(name, vars(layer), seen, depth=5)

    @classmethod
    def of_arguments(cls, arguments: Any) -> Self:
        """That of what a call is given, as deep as a cache of a transformer."""
        snapshot = cls({})
        snapshot._keep("", arguments, set(), depth=12)
        return snapshot

    def changed(self) -> set[str]:
        """The names of layers of which something is another object than before."""
        return {name for name, thing, was in self.owners if not identical(thing, was)}

    def put_back(self) -> None:
        """Make everything what it was."""
        for _, thing, was in self.owners:
            if not identical(thing, was):
                fill(thing, was)

    def _keep(self, name: str, value: Any, seen: set[int], depth: int) -> None:
        seen.add(id(value))
        parts = contents(value)
        if isinstance(value, dict | set | list):
            self.owners.append((name, value, value.copy() if parts else ()))
        elif not isinstance(value, (tuple, frozenset, *_LEAVES)) and isinstance(getattr(value, "__dict__", None), dict):
            parts = [vars(value)]
        for part in parts if depth > 1 else ():
            if type(part) in ATOMS or id(part) in seen:
                continue
            if is_empty(part):  # as most of what a layer has
                seen.add(id(part))
                self.owners.append((name, part, ()))
            else:
                self._keep(name, part, seen, depth - 1)


@contextmanager
def put_back(layers: Mapping[str, nn.Module]) -> Iterator[None]:
    """After the block, these layers' attributes are what they were.

    >>> layer = nn.ReLU()
    >>> with put_back({"": layer}):
    ...     layer.calls = 1
    >>> hasattr(layer, "calls")
    False
    """
    snapshot = Snapshot(layers)
    try:
        yield
    finally:
        snapshot.put_back()


@contextmanager
def values_put_back(tensors: Mapping[str, Tensor]) -> Iterator[list[str]]:
    """After the block, these tensors hold the values that they held; gives the names of those that did not.

    >>> total = torch.zeros(2)
    >>> with values_put_back({"total": total}) as written:
    ...     _ = total.add_(1)
    >>> written, total
    (['total'], tensor([0., 0.]))
    """
    kept = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    written: list[str] = []
    try:
        yield written
    finally:
        for name, tensor in tensors.items():
            if not same_values(tensor, kept[name]):
                tensor.detach().copy_(kept[name])
                written.append(name)
