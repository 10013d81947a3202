"""What is public, and the tables about it: one file a module in `contract/cases`, `oracles` and `refusals`."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import funcreg as fr
from tests.optional import missing


def public_functions() -> Iterator[str]:
    """`module.function` for every public callable of every public module, and those of the top level."""
    for name in fr.__all__:
        value = getattr(fr, name)
        if isinstance(value, ModuleType):
            for inner in value.__all__:
                if _is_function(getattr(value, inner)):
                    yield f"{name}.{inner}"
        elif _is_function(value):
            yield name


def tables(package: str) -> dict[str, ModuleType]:
    """The modules of a package of tables, by name; without those that need what is not installed."""
    path = importlib.import_module(package).__path__
    found = {}
    for name in sorted(each.name for each in pkgutil.iter_modules(path) if not each.name.startswith("_")):
        try:
            found[name] = importlib.import_module(f"{package}.{name}")
        except ModuleNotFoundError as error:
            if not missing(str(error)):
                raise
    return found


def _is_function(value: Any) -> bool:
    """Whether it is for calling: not a state (a tuple), an exception, a warning, a protocol or a type alias."""
    if inspect.isclass(value):
        return (
            value is not Any
            and not issubclass(value, tuple | BaseException)
            and not getattr(value, "_is_protocol", False)
        )
    return inspect.isfunction(value)
