"""What a function closes over, and what its own module holds for it: tensors, numbers, modules, generators."""

import functools
import random as python_random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import optree
import torch
from torch import Tensor, nn

from .trees import differences, fresh, named_leaves

_DEPTH = 3  # of functions that close over functions
_LIBRARIES = {"torch", "torchvision", "funcreg", "optree", "numpy"} | sys.stdlib_module_names - {"__main__"}


class Held(NamedTuple):
    """A tree that a function closes over, as it is now."""

    name: str
    read: Callable[[], Any]


class Copied(NamedTuple):
    """How to read it, and as it was."""

    read: Callable[[], Any]
    copy: Any


Snapshot = dict[str, Copied]


def held_by(function: Any) -> list[Held]:
    """The tensors, numbers and modules that a function closes over or that its own module holds for it.

    >>> [held.name for held in held_by(functools.partial(torch.mul, torch.ones(2)))]
    ['args[0]']
    """
    return list(_held(function, "", _DEPTH, set()))


def modules_of(*values: Any) -> dict[str, nn.Module]:
    """The modules among what a function closes over, and among its arguments.

    >>> list(modules_of(nn.ReLU()))
    ['the function']
    """
    found: dict[str, nn.Module] = {}
    for value in values:
        if isinstance(value, nn.Module):
            found["the function"] = value
        for name, each in _closed(value) if callable(value) else ():
            for at, leaf in enumerate(optree.tree_leaves(each)):
                if isinstance(leaf, nn.Module):
                    found[f"{name}.{at}" if at else name] = leaf
    return found


@contextmanager
def modes_flipped(modules: list[nn.Module]) -> Iterator[None]:
    """Inside the block what trained evaluates, and the other way round; values and modes are put back."""
    layers = list({id(layer): layer for module in modules for layer in module.modules()}.values())
    modes = [layer.training for layer in layers]
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    values = [tensor.detach().clone() for tensor in tensors]
    try:
        for layer, mode in zip(layers, modes, strict=True):
            layer.training = not mode
        yield
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.training = mode
        for tensor, value in zip(tensors, values, strict=True):
            if not torch.equal(tensor, value):
                tensor.detach().copy_(value)


def snapshot(function: Any) -> Snapshot:
    """What a function closes over, with copies.

    >>> snapshot(functools.partial(torch.mul, 2))["args[0]"].copy
    2
    """
    return {each.name: Copied(each.read, fresh(each.read())) for each in held_by(function)}


def changes(function: Any, before: Snapshot) -> list[str]:
    """What differs from a `snapshot` of it, by name.

    >>> counts = [0]
    >>> function = functools.partial(print, counts)
    >>> before = snapshot(function)
    >>> counts[0] = 7
    >>> changes(function, before)
    ['args[0].0: got 7 (int), expected 0 (int)']
    """
    found = []
    for name, held in before.items():
        for line in differences(held.read(), held.copy, (0.0, 0.0)):
            found.append(f"{name}{line if line.startswith((':', '[')) else '.' + line}")
    return found + [f"{each.name} is new" for each in held_by(function) if each.name not in before]


def _held(function: Any, name: str, depth: int, seen: set[int]) -> Iterator[Held]:
    if id(function) in seen or depth < 0:
        return
    seen.add(id(function))
    if isinstance(function, nn.Module):
        yield Held(name or "the module", lambda: _values_of(function))
        return
    for word, value in _closed(function):
        path = f"{name}.{word}" if name else word
        leaves = named_leaves(value, path)
        if any(_is_data(leaf) for _, leaf in leaves) or (not leaves and isinstance(value, dict | list)):
            yield Held(path, functools.partial(_read, function, word, value))
        for at, leaf in leaves:
            if not _is_data(leaf) and (callable(leaf) or _is_watched(type(leaf))):
                yield from _held(leaf, at, depth - 1, seen)


def _closed(function: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of what a function, class or object looks at beside its arguments; nothing of libraries."""
    if isinstance(function, functools.partial):
        inner = function.func
        yield getattr(inner, "__name__", "func"), inner
        yield from function.keywords.items()
        yield from ((f"args[{at}]", value) for at, value in enumerate(function.args))
    elif isinstance(function, MethodType):
        yield function.__func__.__name__, function.__func__
        if isinstance(function.__self__, nn.Module):
            yield "self", function.__self__
        elif _is_watched(type(function.__self__)):
            yield from _attributes(function.__self__)
    elif isinstance(function, FunctionType):
        if _is_own(function):
            yield from _cells(function)
            yield from function.__dict__.items()
            yield from ((f"{word} (a default)", value) for word, value in (function.__kwdefaults__ or {}).items())
            yield from ((f"default {at}", value) for at, value in enumerate(function.__defaults__ or ()))
            names = sorted(_global_names(function.__code__))
            held = ((each, function.__globals__[each]) for each in names if each in function.__globals__)
            yield from ((each, value) for each, value in held if not isinstance(value, ModuleType))
    elif isinstance(function, type):
        if _is_own(function):
            yield from _class_attributes(function)
    elif _is_watched(type(function)) and not isinstance(function, nn.Module):
        yield from _attributes(function)
        own = vars(type(function)).get("__call__")
        if isinstance(own, FunctionType):
            yield "__call__", own


def _cells(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for word, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield word, cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _attributes(owner: Any) -> Iterator[tuple[str, Any]]:
    """An object's own, those in slots, and its classes'."""
    found = dict(getattr(owner, "__dict__", {}))
    for each in filter(_is_own, type(owner).__mro__):
        slots = vars(each).get("__slots__", ())
        words = [slots] if isinstance(slots, str) else list(slots)
        found |= {word: getattr(owner, word) for word in words if hasattr(owner, word)}
        found = {**dict(_class_attributes(each)), **found}
    yield from found.items()


def _class_attributes(of: type) -> Iterator[tuple[str, Any]]:
    for word, value in list(vars(of).items()):
        if not word.startswith("__") and any(map(_is_data, optree.tree_leaves(value))):
            yield word, value


def _read(function: Any, word: str, value: Any) -> Any:
    """The data in a value as its owner sees it now, which may be another object than it was."""
    now = dict(_closed(function)).get(word, value)
    return optree.tree_map(lambda leaf: _told(leaf) if _is_data(leaf) else type(leaf).__name__, now)


def _global_names(code: CodeType) -> set[str]:
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*map(_global_names, inner))


def _is_own(of: Any) -> bool:
    """Whether it is the user's own: not torch's, funcreg's or another library's that keeps caches of its own."""
    return (getattr(of, "__module__", None) or "").split(".")[0] not in _LIBRARIES


def _is_watched(of: type) -> bool:
    """Whether the attributes of its objects are looked at."""
    return of in (SimpleNamespace, threading.local) or _is_own(of)


def _is_data(leaf: Any) -> bool:
    """A tensor, a number, or what else has a value to compare."""
    if isinstance(leaf, type) or _generator_state(leaf) is not None:
        return not isinstance(leaf, type)
    return isinstance(leaf, Tensor | bool | int | float | complex | str | set | dict | bytearray) or _is_array(leaf)


def _is_array(leaf: Any) -> bool:
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and isinstance(leaf, numpy.ndarray)


def _told(leaf: Any) -> Any:
    """The leaf itself, or its value where later writes would change it."""
    state = _generator_state(leaf)
    if state is not None:
        return state
    if _is_array(leaf):
        return str(leaf.tolist())
    if isinstance(leaf, set | dict | bytearray):
        return str(leaf)
    return leaf


def _generator_state(leaf: Any) -> Any:
    """Where a generator or a variable of the context stands; None of what is neither."""
    if isinstance(leaf, ContextVar):
        return str(leaf.get(None))
    if isinstance(leaf, torch.Generator):
        return leaf.get_state()
    if isinstance(leaf, python_random.Random):
        return str(leaf.getstate())
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(leaf, numpy.random.Generator):
        return str(leaf.bit_generator.state)
    if numpy is not None and isinstance(leaf, numpy.random.RandomState):
        return str(leaf.get_state())
    return None


def _values_of(module: nn.Module) -> dict[str, Any]:
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: leaf for name, leaf in named if not nn.parameter.is_lazy(leaf)} | _plain_attributes_of(module)


def _plain_attributes_of(module: nn.Module) -> dict[str, Any]:
    """Numbers, lists and tensors that are no buffers, of layers that are the user's own."""
    known = {*vars(nn.Module())}
    found = {}
    for name, layer in module.named_modules():
        if _is_own(type(layer)):
            own = {word: value for word, value in vars(layer).items() if word not in known}
            found |= {
                f"{name}.{word}".lstrip("."): _read_only(value) for word, value in own.items() if _is_plain(value)
            }
    return found


def _is_plain(value: Any) -> bool:
    return all(map(_is_data, optree.tree_leaves(value)))


def _read_only(value: Any) -> Any:
    return optree.tree_map(_told, value)
