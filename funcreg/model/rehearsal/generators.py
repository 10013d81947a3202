"""The generators that code without a key may draw from: torch's, numpy's, Python's, and layers' own."""

import ctypes
import itertools
import random as python_random
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ... import _generators
from .snapshots import held_by

_UNUSUAL = 2_654_435_769  # below 2**32, which numpy allows
_runs = itertools.count(1)
_held: list[Any] = []  # where the global ones were, of all that are yet to be put back, in any thread
GLOBAL = "draws from the global generator"
_TOLD = {
    "torch": GLOBAL,
    "cuda": f"{GLOBAL} of a GPU",
    "python": "draws from Python's random",
    "numpy": "draws from numpy's global generator",
}
GLOBAL_DRAWS = frozenset(_TOLD.values())


def outlived(drawn_from: list[tuple[torch.Generator, Tensor]]) -> list[str]:
    """What was drawn from generators that somebody keeps after the call, and that it moved on: each with its state.

    >>> outlived([(torch.Generator(), torch.Generator().get_state())])
    []
    """
    found = []
    while drawn_from:
        generator, before = drawn_from.pop()
        # Held here, and by the argument of getrefcount.
        if sys.getrefcount(generator) > 2 and not torch.equal(generator.get_state(), before):
            generator.set_state(before)
            found.append("draws from a torch.Generator that outlives the call")
    return found


def others_draw() -> bool:
    """Whether other threads move the global generators while this one waits.

    >>> others_draw()
    False
    """
    before = comparable(_generators.states())
    time.sleep(0.01)
    return comparable(_generators.states()) != before


class Generators:
    """The states of all generators that code without a key may draw from: the global ones, and layers' own.

    Args:
        own: name -> a generator that a layer or a function keeps.
        others_draw: other threads may move the global ones. What draws from those here then gives another answer
            each time.
    """

    def __init__(self, own: Mapping[str, Any], others_draw: bool = False) -> None:
        self.own, self.others_draw = own, others_draw
        with _generators.turn():
            self.before = self._states()
            _held.append(self.before[0])
            # In a state that nobody seeds them with, so that a draw after a seed shows too.
            _generators.seed(_UNUSUAL + (next(_runs) if others_draw else 0))
            self.start = self._states()

    def put_back(self) -> list[str]:
        """What drew, in words; every generator is where it was."""
        ours, own = self.before
        with _generators.turn():
            moved = self.moved()
            first = _held[0]
            _held.pop()
            _generators.put_back(ours if _held else first)
        for name, state in own.items():
            _set_state_of(self.own[name], state)
        return moved

    def moved(self) -> list[str]:
        """What drew, in words."""
        ours, own = (_moved(was, now) for was, now in zip(self.start, self._states(), strict=True))
        return [*(_TOLD[name] for name in ours if not self.others_draw), *(f"draws from {name}" for name in own)]

    def _states(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return _generators.states(), {name: _state_of(generator) for name, generator in self.own.items()}


def _moved(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [name for name, state in was.items() if comparable(state) != comparable(now.get(name))]


def is_generator(value: Any) -> bool:
    """Whether a value is a generator with a state of its own: torch's, Python's or numpy's.

    >>> is_generator(python_random.Random(0)), is_generator(python_random)
    (True, False)
    """
    return isinstance(value, (*_not_torchs(), torch.Generator))


def _not_torchs() -> tuple[type[Any], ...]:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return (python_random.Random,)
    return python_random.Random, numpy.random.Generator, numpy.random.RandomState


def _bits_of(generator: Any) -> Any:
    """What numpy's two kinds of generator draw from."""
    return generator._bit_generator if hasattr(generator, "_bit_generator") else generator.bit_generator


def _state_of(generator: Any) -> Any:
    if isinstance(generator, python_random.Random):
        return generator.getstate()
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    return _bits_of(generator).state


def _set_state_of(generator: Any, state: Any) -> None:
    if isinstance(generator, python_random.Random):
        generator.setstate(state)
    elif isinstance(generator, torch.Generator):
        generator.set_state(state)
    else:
        _bits_of(generator).state = state


def comparable(state: Any) -> Any:
    """A generator's state in values that compare: arrays and tensors as bytes.

    >>> import torch
    >>> comparable({"a": (1, torch.zeros(2, dtype=torch.uint8))})
    (('a', (1, b'\\x00\\x00')),)
    """
    if isinstance(state, Tensor):  # of bytes, on the CPU; a list of numbers takes 500 times as long
        return ctypes.string_at(state.data_ptr(), state.nbytes)
    if isinstance(state, dict):
        return tuple((key, comparable(value)) for key, value in state.items())
    if isinstance(state, tuple | list):
        return state if set(map(type, state)) == {int} else tuple(map(comparable, state))
    return state.tobytes() if hasattr(state, "tobytes") else state


def own_generators(layers: Mapping[str, nn.Module]) -> dict[str, Any]:
    """The generators of Python's and numpy's kind that layers keep, by dotted name."""
    kinds = _not_torchs()
    return {
        f"{name}.{attribute}" if name else attribute: value
        for name, layer in layers.items()
        for attribute, value in held_by(layer)
        if isinstance(value, kinds)
    }
