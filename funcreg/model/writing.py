"""Whether the code of layers may write into the tensors that they keep: what it reads as, and is reached by name.

A write through `.data` bumps no version counter, so that nobody can tell of it afterwards; and a kind of call whose
first one has not written may do so later. Calls of such code are watched operator by operator, which takes time that
others need not spend.
"""

import dis
import inspect
import sys
from collections.abc import Iterator, Mapping, Set
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from torch import Tensor, nn

from .skeleton import Skeleton

_IN_PLACE = {name for name in dir(Tensor) if name.endswith("_") and not name.startswith("_")}
_WRAPPERS = (MethodType, classmethod, partial, property, staticmethod)
_NORMALIZE = frozenset(("batch_norm", "instance_norm"))
_COUNTS = {"num_batches_tracked"}  # in each call in training mode, or in none
_STORES = ("STORE_SUBSCR", "STORE_SLICE")
_OTHERS = sys.stdlib_module_names | {"funcreg", "numpy", "torch"}


class Writers:
    """What is known of the code of a module, by the method that is called."""

    def __init__(self) -> None:
        self.known: dict[str | None, Writing] = {}

    def may_write(self, skeleton: Skeleton, method: str | None) -> bool:
        """Whether a call may write where the first of its kind has not."""
        known = self.known.get(method)
        if known is None:
            known = self.known[method] = writing(skeleton.layers, skeleton.own_code, method)
        if known.writes or not (known.normalizes and skeleton.mode.train):
            return known.writes
        return not any(drawing.statistics for drawing in skeleton.drawing.values())


class Writing(NamedTuple):
    """What code may do: write into tensors that it keeps; call `F.batch_norm` or its kin, which do where they train."""

    writes: bool
    normalizes: bool


def writing(layers: Mapping[str, nn.Module], own: Set[str], method: str | None = None) -> Writing:
    """What code that forwards reach may do: it takes `.data`, or changes an attribute that has a tensor's name.

    Args:
        layers: all; own: those with code that is not torch's.
        method: of the layer "", beside its forward.

    >>> writing({"": nn.Linear(1, 1)}, set())
    Writing(writes=False, normalizes=False)
    """
    kept = (*layers[""].named_parameters(), *layers[""].named_buffers())
    tensors = {name.rpartition(".")[2] for name, _ in kept} - _COUNTS
    begins = {_begins(layers[name], "" if name else method or "") for name in own}  # alike for most layers of a class
    codes = {code for each in begins for code in _reached(*each)}
    normalizes = any(not _NORMALIZE.isdisjoint(code.co_names) for code in codes)
    return Writing(any(_writes(code, tensors) for code in codes), normalizes)


def _begins(layer: nn.Module, method: str) -> tuple[tuple[FunctionType | None, ...], tuple[type, ...]]:
    """The functions that a layer's forward, and another method, begin with, and the classes whose methods they call."""
    helpers = [type(each) for each in vars(layer).values() if _is_own(type(each)) and not isinstance(each, nn.Module)]
    places = [(owner, name) for owner in (layer, type(layer)) for name in ("forward", method)]
    places += [(helper, "__call__") for helper in helpers]
    found = [inspect.getattr_static(owner, name, None) for owner, name in places]
    found += [*layer._forward_hooks.values(), *layer._forward_pre_hooks.values()]
    return tuple(map(_function, found)), (type(layer), *helpers)


def _reached(begins: tuple[FunctionType | None, ...], owners: tuple[type, ...]) -> Iterator[CodeType]:
    """The code of functions, and of what that names: methods of these classes, functions and classes of all files."""
    found, known = list[Any](begins), set[FunctionType]()
    while found:
        function = _function(found.pop())
        if function is None or function in known or not _is_own(function):
            continue
        known.add(function)
        codes = list(_with_inner(function.__code__))
        yield from codes
        names = {name for code in codes for name in code.co_names}
        values = [function.__globals__[name] for name in names if name in function.__globals__]
        values += [cell.cell_contents for cell in function.__closure__ or () if cell != CellType()]
        named = [each for each in values if isinstance(each, type | ModuleType) and _is_own(each)]
        found += [inspect.getattr_static(owner, name, None) for owner in (*owners, *named) for name in names]
        found += [vars(each).get("forward") for each in named if isinstance(each, type)]  # of an autograd.Function
        found += [*values, getattr(function, "__wrapped__", None)]


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _with_inner(each)


def _function(thing: Any) -> FunctionType | None:
    """What of a method, property or partial is a function."""
    for attribute in ("func", "fget", "__func__"):
        thing = getattr(thing, attribute, thing) if isinstance(thing, _WRAPPERS) else thing
    return thing if isinstance(thing, FunctionType) else None


def _is_own(thing: Any) -> bool:
    """Whether this is nobody's whose code is known to write into nothing that a layer keeps."""
    module = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None)
    return str(module).partition(".")[0] not in _OTHERS


def _writes(code: CodeType, tensors: Set[str]) -> bool:
    if "data" in code.co_names:
        return True
    if tensors.isdisjoint(code.co_names):
        return False
    before, in_place = "", False
    for step in dis.get_instructions(code):
        if step.opname in _STORES or (before in tensors and step.argval in _IN_PLACE):
            return True
        if in_place and step.opname == "STORE_ATTR" and step.argval in tensors:
            return True
        before = step.argval if step.opname == "LOAD_ATTR" else ""
        in_place = step.argrepr.endswith("=") if step.opname == "BINARY_OP" else in_place and step.opname == "SWAP"
    return False
