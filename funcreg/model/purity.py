"""What a call does that a pure function may not: seen by running it once, on copies, and looking at values.

A write through `.data` or by `F.batch_norm` bumps no version counter, numpy's and Python's
generators tell nobody, an attribute that a forward sets is there at the next call. So a rehearsal
compares everything before and after by value; later calls are watched by what is cheap to read.
"""

import ctypes
import random as python_random
import sys
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from .._functorch import outside_transforms
from .keyed import running

REMEDY = (
    "Assign the buffer (self.buffer = new) instead of writing into it, draw by torch's functions or fr.random, "
    "or give the layer a pure forward with fr.register_layer."
)
_GLOBAL = "draws from the global generator"


class Impurity(NamedTuple):
    """One thing that a layer did: its name and type, what it did, and the operator it did it with."""

    layer: str
    did: str
    operator: str

    def __str__(self) -> str:
        return f"{self.layer} {self.did}" + (f" ({self.operator})" if self.operator else "")


class Spy(TorchDispatchMode):
    """Writes down which layer writes into a watched tensor or draws from torch's global generator, by which operator.

    Args:
        watched: storage address -> the name of the tensor in it.
        names: id -> dotted name of the layers; labels: the name -> what messages call it.
    """

    def __init__(self, watched: Mapping[int, str], names: Mapping[int, str], labels: Mapping[str, str]) -> None:
        super().__init__()
        self.watched, self.names, self.labels = watched, names, labels
        self.found: list[Impurity] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """To keep the compiler away torch would import it; nothing is compiled here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        before = _torch_states() if torch.Tag.nondeterministic_seeded in func.tags else None
        if func._schema.is_mutable:
            for argument, value in zip(func._schema.arguments, args, strict=False):
                written = argument.alias_info is not None and argument.alias_info.is_write
                if written and isinstance(value, Tensor) and value.untyped_storage().data_ptr() in self.watched:
                    target = self.watched[value.untyped_storage().data_ptr()]
                    self._add(f"writes into {target} in place", name)
        result = func(*args, **(kwargs or {}))
        # An operator that may draw need not: attention without dropout carries the tag too.
        if before is not None and before != _torch_states():
            self._add(_GLOBAL, name)
        return result

    def _add(self, did: str, operator: str) -> None:
        impurity = Impurity(self.labels.get(running(dict(self.names)), "the module itself"), did, operator)
        if impurity not in self.found:
            self.found.append(impurity)


class Generators:
    """The states of all generators that code without a key may draw from: torch's, numpy's, Python's, and layers' own.

    Args:
        own: name -> a generator that a layer keeps.
    """

    def __init__(self, own: Mapping[str, Any]) -> None:
        self.own = own
        self.before = self._states()

    def put_back(self) -> list[str]:
        """What drew, in words; every generator is where it was."""
        moved = self.moved()
        for name in moved:
            self._set(name, self.before[name])
        return moved

    def moved(self) -> list[str]:
        """What drew, in words."""
        now = self._states()
        return [name for name, state in self.before.items() if not _same_state(state, now.get(name))]

    def _states(self) -> dict[str, Any]:
        numpy = sys.modules.get("numpy")
        states: dict[str, Any] = {_GLOBAL: torch.random.get_rng_state()}
        if torch.cuda.is_initialized():
            states[f"{_GLOBAL} of a GPU"] = torch.cuda.get_rng_state()
        states["draws from Python's random"] = python_random.getstate()
        if numpy is not None:
            states["draws from numpy's global generator"] = numpy.random.get_state()
        for name, generator in self.own.items():
            states[f"draws from {name}"] = _state_of(generator)
        return states

    def _set(self, name: str, state: Any) -> None:
        if name == _GLOBAL:
            torch.random.set_rng_state(state)
        elif name.startswith(_GLOBAL):
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


def _state_of(generator: Any) -> Any:
    if isinstance(generator, python_random.Random):
        return generator.getstate()
    return getattr(generator, "_bit_generator", getattr(generator, "bit_generator", None)).state  # numpy's two


def _set_state_of(generator: Any, state: Any) -> None:
    if isinstance(generator, python_random.Random):
        generator.setstate(state)
    else:
        getattr(generator, "_bit_generator", getattr(generator, "bit_generator", None)).state = state


def _same_state(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    return repr_of(one) == repr_of(other)


def repr_of(state: Any) -> Any:
    """A generator's state in values that compare: arrays as bytes.

    >>> repr_of({"a": (1, 2)})
    (('a', (1, 2)),)
    """
    if isinstance(state, dict):
        return tuple((key, repr_of(value)) for key, value in state.items())
    if isinstance(state, tuple | list):
        return tuple(repr_of(value) for value in state)
    return state.tobytes() if hasattr(state, "tobytes") else state


def _torch_states() -> tuple[bytes, ...]:
    gpu = (bytes(torch.cuda.get_rng_state().tolist()),) if torch.cuda.is_initialized() else ()
    return bytes(torch.random.get_rng_state().tolist()), *gpu


def held_by(layer: nn.Module) -> Iterator[tuple[str, Any]]:
    """The attributes of a layer and what its containers hold, each by the attribute's name."""
    for attribute, value in vars(layer).items():
        if attribute in ("_parameters", "_buffers", "_modules"):
            continue
        yield attribute, value
        if isinstance(value, dict | list | tuple | set):
            parts: Iterable[Any] = value.values() if isinstance(value, dict) else value
            yield from ((attribute, part) for part in parts)


def own_generators(layers: Mapping[str, nn.Module]) -> dict[str, Any]:
    """The generators of Python's and numpy's kind that layers keep, by dotted name."""
    return {
        f"{name}.{attribute}" if name else attribute: value
        for name, layer in layers.items()
        for attribute, value in held_by(layer)
        if _is_generator(value)
    }


def own_tensors(layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The tensors that layers keep and that are neither parameters nor buffers, by dotted name."""
    return {
        f"{name}.{attribute}" if name else attribute: value
        for name, layer in layers.items()
        for attribute, value in held_by(layer)
        if isinstance(value, Tensor) and not value.is_meta
    }


_LEAVES = (nn.Module, Tensor, torch.Generator, str, bytes, int, float, type, types.FunctionType, types.MethodType)
_LEAVES = (*_LEAVES, types.ModuleType, types.BuiltinFunctionType, torch.device, torch.dtype)


class Snapshot:
    """The attributes of some layers, and what mutable containers and plain objects among them hold."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self.owners: list[tuple[str, Any, Any]] = []  # (layer, a mutable thing, a shallow copy of its contents)
        seen: set[int] = set()
        for name, layer in layers.items():
            self._keep(name, vars(layer), seen, depth=5)

    def changed(self) -> set[str]:
        """The names of layers of which something is another object than before."""
        return {name for name, thing, was in self.owners if not _identical(thing, was)}

    def put_back(self) -> None:
        """Make everything what it was."""
        for _, thing, was in self.owners:
            if _identical(thing, was):
                continue
            thing.clear()
            if isinstance(thing, list):
                thing.extend(was)
            else:
                thing.update(was)

    def _keep(self, name: str, value: Any, seen: set[int], depth: int) -> None:
        if depth == 0 or id(value) in seen or value is None or isinstance(value, _LEAVES):
            return
        seen.add(id(value))
        parts: Iterable[Any] = ()
        if isinstance(value, dict | set | list):
            self.owners.append((name, value, value.copy()))
            parts = value.values() if isinstance(value, dict) else value
        elif isinstance(value, tuple | frozenset):
            parts = value
        elif isinstance(getattr(value, "__dict__", None), dict):
            parts = (vars(value),)
        for part in list(parts):
            self._keep(name, part, seen, depth - 1)


def _identical(thing: Any, was: Any) -> bool:
    if len(thing) != len(was):
        return False
    if isinstance(thing, dict):
        return all(key in thing and thing[key] is value for key, value in was.items())
    if isinstance(thing, set):
        return thing == was
    return all(one is other for one, other in zip(thing, was, strict=True))


@contextmanager
def put_back(layers: Mapping[str, nn.Module]) -> Iterator[None]:
    """After the block, these layers' attributes are what they were."""
    snapshot = Snapshot(layers)
    try:
        yield
    finally:
        snapshot.put_back()


def same_values(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same values, NaN included.

    >>> same_values(torch.tensor([1.0, torch.nan]), torch.tensor([1.0, torch.nan]))
    True
    """
    if one.shape != other.shape or one.dtype != other.dtype or one.layout != other.layout:
        return False
    if one.layout != torch.strided or one.is_quantized or one.is_meta:
        return True
    if torch.equal(one, other):
        return True
    return bool(((one == other) | ((one != one) & (other != other))).all())


class Watch:
    """Cheap checks around one eager call: tensors not written into, torch's global generators not advanced."""

    def __init__(self, tensors: Mapping[str, Tensor], *, but: Collection[str] = ()) -> None:
        self.versions = [
            (name, tensor, tensor._version)
            for name, tensor in tensors.items()
            if not tensor.is_inference() and name not in but
        ]
        self.generator = _generator_state()

    def broken(self) -> list[str]:
        """What was done, in words; empty when the call was pure. The generators are put back."""
        found = [f"writes into {name} in place" for name, tensor, was in self.versions if tensor._version != was]
        now = _generator_state()
        if now[0] != self.generator[0] or now[2:] != self.generator[2:]:
            torch.random.set_rng_state(self.generator[1])
            if len(self.generator) > 2:
                torch.cuda.set_rng_state(torch.frombuffer(bytearray(self.generator[2]), dtype=torch.uint8))
            found.append(_GLOBAL)
        return found


def _generator_state() -> tuple[Any, ...]:
    """(the CPU's state as bytes, quicker to compare, and as a tensor; that of a GPU in use)."""
    state = torch.default_generator.get_state()
    gpu = (torch.cuda.get_rng_state().numpy().tobytes(),) if torch.cuda.is_initialized() else ()
    return ctypes.string_at(state.data_ptr(), state.numel()), state, *gpu


def shielded(call: Callable[[], Any]) -> Any:
    """Run a call outside of every transform and of every mode that sees operators."""
    from torch.utils._python_dispatch import _disable_current_modes

    with _disable_current_modes():
        return outside_transforms(call)
