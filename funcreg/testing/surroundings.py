"""What a pure function leaves alone beside its arguments: generators, torch's settings, what it closes over."""

import functools
import random as python_random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import optree
import torch
from torch import Tensor, nn

from .trees import differences, fresh

_DEPTH = 3  # of functions that close over functions


class Global(NamedTuple):
    """Something global: how to read it, and how to put it back."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


class Held(NamedTuple):
    """A tree that a function closes over, as it is now."""

    name: str
    read: Callable[[], Any]


@contextmanager
def put_back() -> Iterator[Callable[[], list[str]]]:
    """Everything global is as it was after the block; inside, the function says which of it changed so far.

    >>> with put_back() as changed:
    ...     _ = torch.default_generator.manual_seed(1)
    ...     changed()
    ["torch's generator"]
    """
    known = _globals()
    before = {name: each.read() for name, each in known.items()}

    def changed() -> list[str]:
        return [name for name, each in known.items() if not _same(each.read(), before[name])]

    try:
        yield changed
    finally:
        for name in changed():
            known[name].write(before[name])


@contextmanager
def generators_elsewhere() -> Iterator[Callable[[], list[str]]]:
    """`put_back`, where the global generators stand inside the block where they hardly stood before."""
    with put_back():
        torch.default_generator.manual_seed(0x5EED)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(0x5EED)
        python_random.seed(0x5EED)
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            numpy.random.seed(0x5EED)
        with put_back() as changed:
            yield changed


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


def changes(before: list[tuple[Held, Any]]) -> list[str]:
    """What differs from `snapshot`'s copies, by name.

    >>> counts = [0]
    >>> before = snapshot(held_by(functools.partial(print, counts)))
    >>> counts[0] = 7
    >>> changes(before)
    ['args[0].0: got 7 (int), expected 0 (int)']
    """
    found = []
    for held, copy in before:
        for line in differences(held.read(), copy, (0.0, 0.0)):
            found.append(f"{held.name}{line if line.startswith((':', '[')) else '.' + line}")
    return found


def snapshot(held: list[Held]) -> list[tuple[Held, Any]]:
    """Copies of what a function closes over."""
    return [(each, fresh(each.read())) for each in held]


def _globals() -> dict[str, Global]:
    known = {
        "torch's generator": Global(torch.get_rng_state, torch.set_rng_state),
        "Python's generator": Global(python_random.getstate, python_random.setstate),
        "the default dtype": Global(torch.get_default_dtype, torch.set_default_dtype),
        "the default device": Global(torch.get_default_device, _set_default_device),
        "whether gradients are recorded": Global(torch.is_grad_enabled, torch.set_grad_enabled),
        "whether algorithms are deterministic": Global(
            torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
        ),
        "the number of threads": Global(torch.get_num_threads, torch.set_num_threads),
        "the precision of matrix products": Global(
            torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
        ),
        "whether anomalies are detected": Global(torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    }
    if torch.cuda.is_initialized():
        known["CUDA's generators"] = Global(torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        known["numpy's generator"] = Global(numpy.random.get_state, numpy.random.set_state)
    return known


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    equal = one == other
    return bool(equal) if isinstance(equal, bool) else bool(equal.all())


def _held(function: Any, name: str, depth: int, seen: set[int]) -> Iterator[Held]:
    if id(function) in seen or depth < 0:
        return
    seen.add(id(function))
    if isinstance(function, nn.Module):
        yield Held(name or "the module", lambda: _values_of(function))
        return
    for word, value in _closed(function):
        path = f"{name}.{word}" if name else word
        if isinstance(value, nn.Module):
            yield Held(path, lambda value=value: _values_of(value))
        elif _is_data(value):
            yield Held(path, functools.partial(_read, function, word, value))
        elif callable(value):
            yield from _held(value, path, depth - 1, seen)


def _closed(function: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of what a function looks at beside its arguments; nothing of libraries."""
    if isinstance(function, functools.partial):
        inner = function.func
        yield getattr(inner, "__name__", "func"), inner
        yield from function.keywords.items()
        yield from ((f"args[{at}]", value) for at, value in enumerate(function.args))
    elif isinstance(function, MethodType):
        yield function.__func__.__name__, function.__func__
        if isinstance(function.__self__, nn.Module):
            yield "self", function.__self__
        elif _is_own(type(function.__self__)):
            yield from _attributes(function.__self__)
    elif isinstance(function, FunctionType):
        if _is_own(function):
            yield from _cells(function)
            yield from ((f"{word} (a default)", value) for word, value in (function.__kwdefaults__ or {}).items())
            yield from ((f"default {at}", value) for at, value in enumerate(function.__defaults__ or ()))
            names = sorted(_global_names(function.__code__))
            yield from ((each, function.__globals__[each]) for each in names if each in function.__globals__)
    elif not isinstance(function, type) and _is_own(type(function)) and not isinstance(function, nn.Module):
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
    yield from list(getattr(owner, "__dict__", {}).items())


def _read(function: Any, word: str, value: Any) -> Any:
    """A value as its owner sees it now, which may be another object than it was."""
    return dict(_closed(function)).get(word, value)


def _global_names(code: CodeType) -> set[str]:
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*map(_global_names, inner))


def _is_own(of: Any) -> bool:
    """Whether it is the user's own: not torch's, funcreg's or another library's that keeps caches of its own."""
    root = (getattr(of, "__module__", None) or "").split(".")[0]
    return root not in ("torch", "torchvision", "funcreg", "optree", "functools", "builtins", "numpy")


def _is_data(value: Any) -> bool:
    """A tensor or number, or a tree that has some of either and nothing else."""
    if value is None or isinstance(value, ModuleType | type):
        return False
    leaves = optree.tree_leaves(value)
    if isinstance(value, dict | list) and not leaves:
        return True  # to be filled, perhaps
    return bool(leaves) and all(isinstance(leaf, Tensor | bool | int | float | complex | str) for leaf in leaves)


def _values_of(module: nn.Module) -> dict[str, Any]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
