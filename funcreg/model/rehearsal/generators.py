"""The generators that code without a key may draw from: torch's, numpy's, Python's, and layers' own."""

import random as python_random
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .snapshots import held_by

_UNUSUAL = 2_654_435_769  # below 2**32, which numpy allows
GLOBAL = "draws from the global generator"


class Generators:
    """The states of all generators that code without a key may draw from: torch's, numpy's, Python's, and layers' own.

    Args:
        own: name -> a generator that a layer keeps.
    """

    def __init__(self, own: Mapping[str, Any]) -> None:
        self.own = own
        self.before = self._states()
        # In a state that nobody seeds it with, so that a draw after a seed shows too.
        torch.default_generator.manual_seed(_UNUSUAL)
        python_random.seed(_UNUSUAL)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(_UNUSUAL)
        self.start = self._states()

    def put_back(self) -> list[str]:
        """What drew, in words; every generator is where it was."""
        moved = self.moved()
        for name, state in self.before.items():
            self._set(name, state)
        return moved

    def moved(self) -> list[str]:
        """What drew, in words."""
        now = self._states()
        return [name for name, state in self.start.items() if not _same_state(state, now.get(name))]

    def _states(self) -> dict[str, Any]:
        numpy = sys.modules.get("numpy")
        states: dict[str, Any] = {GLOBAL: torch.random.get_rng_state()}
        if torch.cuda.is_initialized():
            states[f"{GLOBAL} of a GPU"] = torch.cuda.get_rng_state()
        states["draws from Python's random"] = python_random.getstate()
        if numpy is not None:
            states["draws from numpy's global generator"] = numpy.random.get_state()
        for name, generator in self.own.items():
            states[f"draws from {name}"] = _state_of(generator)
        return states

    def _set(self, name: str, state: Any) -> None:
        if name == GLOBAL:
            torch.random.set_rng_state(state)
        elif name.startswith(GLOBAL):
            torch.cuda.set_rng_state(state)
        elif "Python" in name:
            python_random.setstate(state)
        elif "numpy's global" in name:
            sys.modules["numpy"].random.set_state(state)
        else:
            _set_state_of(self.own[name.removeprefix("draws from ")], state)


def _is_generator(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    kinds: tuple[Any, ...] = (python_random.Random,)
    if numpy is not None:
        kinds = (*kinds, numpy.random.Generator, numpy.random.RandomState)
    return isinstance(value, kinds)


def _bits_of(generator: Any) -> Any:
    """What numpy's two kinds of generator draw from."""
    return generator._bit_generator if hasattr(generator, "_bit_generator") else generator.bit_generator


def _state_of(generator: Any) -> Any:
    if isinstance(generator, python_random.Random):
        return generator.getstate()
    return _bits_of(generator).state


def _set_state_of(generator: Any, state: Any) -> None:
    if isinstance(generator, python_random.Random):
        generator.setstate(state)
    else:
        _bits_of(generator).state = state


def _same_state(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    return _comparable(one) == _comparable(other)


def _comparable(state: Any) -> Any:
    """A generator's state in values that compare: arrays as bytes.

    >>> _comparable({"a": (1, 2)})
    (('a', (1, 2)),)
    """
    if isinstance(state, dict):
        return tuple((key, _comparable(value)) for key, value in state.items())
    if isinstance(state, tuple | list):
        return tuple(_comparable(value) for value in state)
    return state.tobytes() if hasattr(state, "tobytes") else state


def torch_states() -> tuple[bytes, ...]:
    """The states of torch's global generators, in values that compare."""
    gpu = (bytes(torch.cuda.get_rng_state().tolist()),) if torch.cuda.is_initialized() else ()
    return bytes(torch.random.get_rng_state().tolist()), *gpu


def own_generators(layers: Mapping[str, nn.Module]) -> dict[str, Any]:
    """The generators of Python's and numpy's kind that layers keep, by dotted name."""
    return {
        f"{name}.{attribute}" if name else attribute: value
        for name, layer in layers.items()
        for attribute, value in held_by(layer)
        if _is_generator(value)
    }
