"""What layers hold beside their tensors is, after a call, what it was before: looked at around every call.

A forward may set attributes in some call of a kind and in none before: the longest input so far, a table for
it. The next call is to find what the first one did.
"""

import operator
from collections.abc import Iterable, Mapping, Set
from typing import Any, NamedTuple

from torch import nn

from .contents import contents
from .registry import pure_layer

_OF_TORCH = "torch.nn.modules."  # whose forwards set none
_CONTAINERS = (dict, list, set)


class Held(NamedTuple):
    """A mutable thing: the layer that holds it, by which attribute, or "" where it is the layer's own dictionary."""

    layer: str
    attribute: str
    thing: Any


class Attributes:
    """The attributes of some layers, and the containers among them; none, where all code is torch's own.

    own: the layers with other code.

    >>> class Longest(nn.Module):
    ...     longest = 0
    ...     def forward(self, x):
    ...         self.longest = max(self.longest, len(x))
    ...         return x
    >>> layer = Longest()
    >>> attributes = Attributes({"": layer}, with_code_of_their_own({"": layer}))
    >>> before = attributes.now()
    >>> _ = layer([1, 2])
    >>> attributes.put_back(before), layer.longest
    ([('', 'longest')], 0)
    """

    def __init__(self, layers: Mapping[str, nn.Module], own: Set[str]) -> None:
        self.held = list(_held(layers, own)) if own else []
        self.things = [each.thing for each in self.held]

    def now(self) -> list[Any]:
        """Copies of what is held."""
        return [thing.copy() for thing in self.things]

    def put_back(self, before: list[Any]) -> list[tuple[str, str]]:
        """Make everything what it was; give what was not: (layer, attribute) each."""
        try:
            if self.things == before:  # which takes one and the same for equal
                return []
        except Exception:
            pass  # such as of tensors, one in the place of another
        changed = dict.fromkeys(_changes(self.held, before))
        for (_, _, thing), was in zip(self.held, before, strict=True):
            if not identical(thing, was):
                fill(thing, was)
        return list(changed)


def identical(thing: Any, was: Any) -> bool:
    """Whether a container holds the very things that a copy of it does.

    >>> identical([1], [1]), identical([[]], [[]])
    (True, False)
    """
    if not was:
        return not contents(thing)
    if isinstance(thing, dict):  # what is no key is the copy, which nothing holds
        return dict.__len__(thing) == len(was) and all(dict.get(thing, key, was) is was[key] for key in was)
    if isinstance(thing, set):
        return set.__eq__(thing, was)
    return list.__len__(thing) == len(was) and all(map(operator.is_, list.__iter__(thing), was))


def fill(thing: Any, was: Any) -> None:
    """Make a container hold what a copy of it does.

    >>> numbers = [1, 2]
    >>> fill(numbers, [3])
    >>> numbers
    [3]
    """
    thing.clear()
    if isinstance(thing, list):
        thing.extend(was)
    else:
        thing.update(was)


def kept(layer: nn.Module, attribute: str) -> tuple[Any, ...]:
    """What `held_again` needs: (layer, attribute, whether it is there, its value, what that contains).

    >>> layer = nn.ReLU()
    >>> before = kept(layer, "inplace")
    >>> layer.inplace = True
    >>> held_again(*before)
    >>> layer.inplace
    False
    """
    there = hasattr(layer, attribute)
    value = getattr(layer, attribute) if there else None
    return layer, attribute, there, value, value.copy() if isinstance(value, _CONTAINERS) else None


def held_again(layer: nn.Module, attribute: str, there: bool, value: Any, contents: Any) -> None:
    """Make an attribute of a layer, and what it contains, what it was."""
    if not there:
        delattr(layer, attribute)
        return
    setattr(layer, attribute, value)
    if contents is not None:
        fill(value, contents)


def with_code_of_their_own(layers: Mapping[str, nn.Module]) -> set[str]:
    """The layers whose forward runs code that is not torch's, or ours in its place.

    >>> with_code_of_their_own({"a": nn.Linear(1, 1), "b": nn.TransformerEncoderLayer(2, 1, activation=abs)})
    {'b'}
    """
    return {name for name, layer in layers.items() if _has_code_of_its_own(layer)}


def _held(layers: Mapping[str, nn.Module], own: Set[str]) -> Iterable[Held]:
    for name, layer in layers.items():
        yield Held(name, "", vars(layer))
        if name in own:
            for attribute, value in vars(layer).items():
                if isinstance(value, _CONTAINERS) and attribute not in _BOOKKEEPING:
                    yield Held(name, attribute, value)


# Parameters and layers that a forward makes are refused where it makes them.
_BOOKKEEPING = vars(nn.Module()).keys() - {"_buffers"}


def _has_code_of_its_own(layer: nn.Module) -> bool:
    if layer._forward_hooks or layer._forward_pre_hooks or not type(layer).__module__.startswith(_OF_TORCH):
        return True
    entry = pure_layer(layer)
    functions = (entry and entry.forward, *(each for each in vars(layer).values() if callable(each)))
    return any(not _module_of(each).startswith(("torch.", "funcreg.")) for each in functions if each is not None)


def _module_of(function: Any) -> str:
    return str(getattr(function, "__module__", ""))


def _changes(held: list[Held], before: list[Any]) -> Iterable[tuple[str, str]]:
    for (layer, attribute, thing), was in zip(held, before, strict=True):
        if identical(thing, was):
            continue
        if attribute:
            yield layer, attribute
            continue
        names = dict.fromkeys((*was, *thing))
        yield from ((layer, name) for name in names if thing.get(name, held) is not was.get(name, held))
