"""What a function reads besides its arguments, and whether it is still the same.

That is the cells of closures, globals and attributes by the names in the code, defaults, and what containers and
modules hold, from function to function. Installed packages are taken for fixed, but not what they were given.
"""

import collections
import functools
import operator
import os
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextvars import ContextVar
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor

from .outside import of_library
from .stamps import stamp

_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)
_LISTS = (list, tuple, set, frozenset, collections.deque)
_BYTES = (bytearray, memoryview)
_VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
_GETTERS = (operator.attrgetter, operator.itemgetter, operator.methodcaller)
# Of Python's own classes: those that hold what they were given under names that are not in the code.
_HOLDERS = (collections.UserDict, collections.UserList, collections.UserString, collections.ChainMap)
_PARTS = (ModuleType, type(os.environ))  # of a library, which others may change
_ANY_NAME = {"getattr", "hasattr", "vars", "__dict__", "eval", "exec", "asdict", "astuple"}
_NOTHING = object()


class Watched:
    """What some functions and objects refer to, as it was when this was made.

    unseen: of what is read, one thing that changes and is not to be compared; None for no such thing.

    >>> settings = {"factor": 2.0}
    >>> watched = Watched([settings])
    >>> unchanged = watched.same()
    >>> settings["factor"] = 3.0
    >>> unchanged, watched.same()
    (True, False)
    """

    def __init__(self, roots: Iterable[Any]) -> None:
        self.unseen: str | None = None
        self.found: dict[int, Any] = {}  # which keeps them, so that no other gets their id
        self.names = set[str]()  # in the code that was found
        self.named: list[tuple[Any, Collection[str]]] = []  # (attributes, and those of the type): named ones matter
        self.libraries: list[Mapping[str, Any]] = []
        self.functions: list[tuple[FunctionType, tuple[Any, ...]]] = []
        self.cells: list[tuple[CellType, str, Any]] = []
        self.entries: dict[tuple[int, str], tuple[Any, str, Any]] = {}
        self.sequences: list[tuple[Any, tuple[Any, ...]]] = []
        self.dicts: list[tuple[Any, tuple[Any, ...], tuple[Any, ...]]] = []
        self.asked: list[tuple[Callable[[], Any], Any]] = []  # (what gives a thing, the thing)
        self.values: list[Callable[[], bool]] = []
        self._look(*roots)
        seen = None
        while seen != (seen := (len(self.names), len(self.named), len(self.libraries))):  # until no code names more
            for inside in self.libraries.copy():
                self._entries(inside, self.names & inside.keys(), _PARTS)
            for attributes, inherited in self.named.copy():
                self._entries(attributes, [name for name in self.names if name in attributes or name in inherited])
                if self.names & _ANY_NAME and not isinstance(attributes.get("__name__"), str):  # no module's
                    self._dict(attributes)

    def same(self) -> bool:
        """Whether none of it was replaced, or written to, since."""
        return (
            all(_same(_inside(each), then) for each, then in self.functions)
            and all(_content(cell) is value for cell, _, value in self.cells)
            and all(scope.get(name, _NOTHING) is value for scope, name, value in self.entries.values())
            and all(_same(now, then) for now, then in self.sequences)
            and all(
                len(now) == len(keys)
                and all(map(operator.is_, now, keys))
                and all(map(operator.is_, now.values(), then))
                for now, keys, then in self.dicts
            )
            and all(ask() is then for ask, then in self.asked)
            and all(unchanged() for unchanged in self.values)
        )

    def changed(self) -> str | None:
        """The name of what is no longer the same; None where all is."""
        if self.same():
            return None
        entries = [name for scope, name, value in self.entries.values() if scope.get(name, _NOTHING) is not value]
        cells = [name for cell, name, value in self.cells if _content(cell) is not value]
        return next(iter(entries + cells), "what a container or a tensor holds")

    def _look(self, *values: Any) -> None:
        for value in values:
            if isinstance(value, _PLAIN) or id(value) in self.found:
                continue
            self.found[id(value)] = value
            if isinstance(value, Tensor):
                self._tensor(value)
            elif isinstance(value, _BYTES) or hasattr(type(value), "tobytes"):
                self.values.append(stamp(value))
            elif value is os.environ or value is os.getenv:
                self.values.append(_environment())
            elif isinstance(value, FunctionType):
                self._function(value)
            elif isinstance(value, MethodType):
                self._look(value.__func__, value.__self__)
            elif isinstance(value, BuiltinFunctionType):
                self._look(*[value.__self__] if not isinstance(value.__self__, ModuleType | type) else ())
            elif isinstance(value, staticmethod | classmethod):
                self._look(value.__func__)
            elif isinstance(value, property):
                self._look(value.fget)
            elif isinstance(value, functools.partial | functools.partialmethod):
                self._look(value.func, value.args, value.keywords)
            elif isinstance(value, dict | MappingProxyType | weakref.WeakValueDictionary):
                self._dict(vars(value)["data"] if isinstance(value, weakref.WeakValueDictionary) else value)
                self._object(value)
            elif isinstance(value, _LISTS):
                self._sequence(value)
                self._object(value)
            elif isinstance(value, _VIEWS):
                self._look(value.mapping)
            elif isinstance(value, type):
                self._class(value)
            elif isinstance(value, weakref.ref | ContextVar):
                self._ask(value if isinstance(value, weakref.ref) else functools.partial(value.get, _NOTHING))
            elif not isinstance(value, ModuleType):
                self._object(value)
            elif of_library(value.__name__):
                self.libraries.append(vars(value))
            else:
                self.named.append((vars(value), ()))

    def _tensor(self, tensor: Tensor) -> None:
        if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.layout != torch.strided:
            self.unseen = f"a tensor of another kind ({type(tensor).__name__}, {tensor.layout})"
        self.values.append(stamp(tensor))
        if tensor.__dict__:
            self.named.append((tensor.__dict__, ()))
        if tensor.is_leaf and tensor.grad is not None:
            self._ask(functools.partial(getattr, tensor, "grad"))

    def _function(self, function: FunctionType) -> None:
        own = not of_library(function.__module__, function.__code__.co_filename)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            content = _content(cell)
            if not isinstance(content, weakref.WeakKeyDictionary):  # what a library remembers of its calls
                self.cells.append((cell, name, content))
                self._look(content)
        if function.__dict__:
            self.named.append((function.__dict__, ()))
            self._look(function.__dict__.get("__wrapped__"))
        if own:
            self.functions.append((function, _inside(function)))
            names, scope = _names(function.__code__), function.__globals__
            self.names |= names
            self._entries(scope, [name for name in names if name in scope])
            inside = scope.get("__package__")
            loaded = [sys.modules.get(f"{inside}.{name}" if inside else name) for name in names]
            self._look(function.__defaults__, function.__kwdefaults__, *map(sys.modules.get, names), *loaded)

    def _dict(self, value: Any) -> None:
        self.dicts.append((value, tuple(value), tuple(value.values())))
        self._look(*value, *value.values())

    def _sequence(self, value: Any) -> None:
        if not isinstance(value, tuple | frozenset):
            self.sequences.append((value, tuple(value)))
        self._look(*value)

    def _class(self, kind: type) -> None:
        if of_library(kind.__module__):
            return
        self.asked.append((functools.partial(getattr, kind, "__mro__"), kind.__mro__))
        own = [vars(each) for each in (*type.mro(kind), *type.mro(type(kind))) if not of_library(each.__module__)]
        names = set[str]().union(*own)
        for each in own:
            self._entries(each, names)

    def _object(self, value: Any) -> None:
        kind = type(value)
        attributes = getattr(value, "__dict__", None)
        self._look(kind)
        if isinstance(value, _GETTERS):
            self._look(*value.__reduce__()[1])
            self.names |= {part for name in value.__reduce__()[1] if isinstance(name, str) for part in name.split(".")}
        own = [each for each in type.mro(kind) if not of_library(each.__module__)]
        if own:
            self.asked.append((functools.partial(type, value), kind))
            for name in [name for each in own for name in _slots(each)]:
                self._ask(functools.partial(getattr, value, name, _NOTHING))
        if (isinstance(value, Iterator) and not own) or kind.__module__.startswith("numpy.random"):
            self.unseen = f"what changes as it is used ({kind.__name__})"
        package = kind.__module__.split(".")[0]
        if not isinstance(attributes, dict) or package == "funcreg":  # of which nobody changes the inside
            return
        self._look(attributes.get("__wrapped__"))
        if isinstance(value, _HOLDERS) or any(map(_of_package, kind.__mro__)):
            self._dict(attributes)  # its code is not looked at
        else:
            self.named.append((attributes, frozenset(dir(kind))))
            if isinstance(value, threading.local):
                self._ask(functools.partial(getattr, value, "__dict__"))

    def _ask(self, ask: Callable[[], Any]) -> None:
        self.asked.append((ask, value := ask()))
        self._look(value)

    def _entries(self, scope: Mapping[str, Any], names: Iterable[str], looked: Any = object) -> None:
        for name in names:
            if (id(scope), name) not in self.entries:
                value = scope.get(name, _NOTHING)
                self.entries[id(scope), name] = scope, name, value
                if isinstance(value, looked) or value is os.getenv:
                    self._look(value)


def _same(now: Collection[Any], then: tuple[Any, ...]) -> bool:
    return len(now) == len(then) and all(map(operator.is_, now, then))


def _names(code: CodeType) -> set[str]:
    """Those in the code, and texts that may be one: of `getattr(settings, "factor")`."""
    texts = {each for each in code.co_consts if isinstance(each, str) and each.isidentifier()}
    inner = [_names(each) for each in code.co_consts if isinstance(each, CodeType)]
    return texts.union(code.co_names, *inner)


def _inside(function: FunctionType) -> tuple[Any, ...]:
    return function.__code__, function.__defaults__, function.__kwdefaults__


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return _NOTHING


def _environment() -> Callable[[], bool]:
    then = dict(os.environ)
    return lambda: os.environ == then


def _slots(kind: type) -> list[str]:
    return [name for name, each in vars(kind).items() if type(each).__name__ == "member_descriptor"]


def _of_package(kind: type) -> bool:
    """Whether a class is of an installed package, whose code names what is not in the caller's."""
    package = kind.__module__.split(".")[0]
    return of_library(kind.__module__) and package != "funcreg" and package not in sys.stdlib_module_names
