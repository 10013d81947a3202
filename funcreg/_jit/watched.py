"""What a function reads besides its arguments, and whether it is still the same.

That is the cells of closures, globals and attributes by the names in the code, defaults, and what containers and
modules hold, from function to function. Installed packages are taken for fixed, but not what they were given.
"""

import functools
import operator
import sys
import sysconfig
from collections.abc import Collection, Iterable
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor

_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, BuiltinFunctionType)
_INSTALLED = ("<frozen", *{sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
_NOTHING = object()
_ARRAY = 1 << 20  # bytes of an array that are compared at each call; of a larger one nothing is


class Watched:
    """What some functions and objects refer to, as it was when this was made.

    >>> settings = {"factor": 2.0}
    >>> watched = Watched([settings])
    >>> unchanged = watched.same()
    >>> settings["factor"] = 3.0
    >>> unchanged, watched.same()
    (True, False)
    """

    def __init__(self, roots: Iterable[Any]) -> None:
        self.found: dict[int, Any] = {}  # which keeps them, so that no other gets their id
        self.names = set[str]()  # in the code that was found
        self.named: list[tuple[Any, Any]] = []  # (attributes, and those of the type), of which named ones matter
        self.functions: list[tuple[FunctionType, tuple[Any, ...]]] = []
        self.cells: list[tuple[CellType, Any]] = []
        self.entries: dict[tuple[int, str], tuple[Any, str, Any]] = {}
        self.sequences: list[tuple[Any, tuple[Any, ...]]] = []
        self.dicts: list[tuple[dict[Any, Any], tuple[Any, ...], tuple[Any, ...]]] = []
        self.values: list[tuple[Any, Any]] = []
        self._look(*roots)
        seen = None
        while seen != (seen := (len(self.names), len(self.named))):  # until no code is found that names more
            for attributes, inherited in self.named.copy():
                self._entries(attributes, [name for name in self.names if name in attributes or name in inherited])

    def same(self) -> bool:
        """Whether none of it was replaced, or written to, since."""
        return (
            all(_same(_inside(each), then) for each, then in self.functions)
            and all(_content(cell) is value for cell, value in self.cells)
            and all(scope.get(name, _NOTHING) is value for scope, name, value in self.entries.values())
            and all(_same(now, then) for now, then in self.sequences)
            and all(
                len(now) == len(keys)
                and all(map(operator.is_, now, keys))
                and all(map(operator.is_, now.values(), then))
                for now, keys, then in self.dicts
            )
            and all(_stamp(value) == stamp for value, stamp in self.values)
        )

    def _look(self, *values: Any) -> None:
        for value in values:
            if isinstance(value, _PLAIN) or id(value) in self.found:
                continue
            self.found[id(value)] = value
            if isinstance(value, Tensor) or hasattr(value, "tobytes"):
                self.values.append((value, _stamp(value)))
            elif isinstance(value, FunctionType):
                self._function(value)
            elif isinstance(value, MethodType):
                self._look(value.__func__, value.__self__)
            elif isinstance(value, staticmethod | classmethod):
                self._look(value.__func__)
            elif isinstance(value, property):
                self._look(value.fget)
            elif isinstance(value, functools.partial):
                self._look(value.func, value.args, value.keywords)
            elif isinstance(value, dict):
                self._dict(value)
            elif isinstance(value, list | tuple | set | frozenset):
                self._sequence(value)
            elif isinstance(value, type):
                for each in value.__mro__:
                    if not _of_library(each.__module__):
                        self._entries(vars(each), list(vars(each)))
            elif not isinstance(value, ModuleType):
                self._object(value)
            elif not _of_library(value.__name__):
                self.named.append((vars(value), ()))

    def _function(self, function: FunctionType) -> None:
        own = not _of_library(function.__module__, function.__code__.co_filename)
        inner = getattr(function, "__wrapped__", None)
        if not own and inner is not None:
            return self._look(inner)
        for cell in function.__closure__ or ():
            self.cells.append((cell, _content(cell)))
            self._look(_content(cell))
        if own:
            self.functions.append((function, _inside(function)))
            names = _names(function.__code__)
            self.names |= names
            self._entries(function.__globals__, [name for name in names if name in function.__globals__])
            self._look(function.__defaults__, function.__kwdefaults__)
        return None

    def _dict(self, value: dict[Any, Any]) -> None:
        self.dicts.append((value, tuple(value), tuple(value.values())))
        self._look(*value.values())

    def _sequence(self, value: Any) -> None:
        if isinstance(value, list | set):
            self.sequences.append((value, tuple(value)))
        self._look(*value)

    def _object(self, value: Any) -> None:
        kind, attributes = type(value), getattr(value, "__dict__", None)
        self._look(kind)
        package = kind.__module__.split(".")[0]
        if not isinstance(attributes, dict) or package == "funcreg":  # of which nobody changes the inside
            return
        if isinstance(value, torch.nn.Module) or (
            _of_library(kind.__module__) and package not in sys.stdlib_module_names
        ):
            self._dict(attributes)  # its code is not looked at
        else:
            self.named.append((attributes, frozenset(dir(kind))))

    def _entries(self, scope: Any, names: Iterable[str]) -> None:
        for name in names:
            if (id(scope), name) not in self.entries:
                value = scope.get(name, _NOTHING)
                self.entries[id(scope), name] = scope, name, value
                self._look(value)


def _same(now: Collection[Any], then: tuple[Any, ...]) -> bool:
    return len(now) == len(then) and all(map(operator.is_, now, then))


def _names(code: CodeType) -> set[str]:
    inner = [_names(each) for each in code.co_consts if isinstance(each, CodeType)]
    return set(code.co_names).union(*inner)


def _inside(function: FunctionType) -> tuple[Any, ...]:
    return function.__code__, function.__defaults__, function.__kwdefaults__


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return _NOTHING


def _stamp(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value.tobytes() if getattr(value, "nbytes", _ARRAY) < _ARRAY else None
    version = None if value.is_inference() else value._version
    return version, value.requires_grad, value.shape, value.data_ptr() if value.layout == torch.strided else None


def _of_library(module: str | None, file: str | None = None) -> bool:
    """Whether code is of a package that was installed, of Python, or of this one."""
    package = (module or "").split(".")[0]
    if package == "funcreg" or package in sys.stdlib_module_names:
        return package != "__main__"
    return (file or getattr(sys.modules.get(module or ""), "__file__", None) or "").startswith(_INSTALLED)
