"""What a reader meets first: the names of a module, and the parts of a docstring."""

import inspect
import re
from types import ModuleType

import pytest

import funcreg as fr
from tests.public import public_functions

MODULES = [name for name in fr.__all__ if isinstance(getattr(fr, name), ModuleType)]
FUNCTIONS = sorted(public_functions())


def function_of(name: str) -> object:
    value: object = fr
    for part in name.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("name", ["", *MODULES])
def test_dir_shows_the_public_names_alone(name: str) -> None:
    module = getattr(fr, name) if name else fr
    assert dir(module) == sorted(module.__all__)
    assert all(hasattr(module, each) for each in module.__all__)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if inspect.isfunction(function_of(name))])
def test_a_docstring_names_every_argument_and_what_comes_back(name: str) -> None:
    function = function_of(name)
    assert callable(function)
    text, signature = inspect.getdoc(function) or "", inspect.signature(function)
    told = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, flags=re.DOTALL | re.MULTILINE)
    for argument in signature.parameters:
        assert told is not None, "no Args"
        assert re.search(rf"\b{argument}\b", told.group(1)), f"{argument} is not among the Args"
    if signature.return_annotation not in (None, "None"):
        assert re.search(r"^(Returns|Yields):\n", text, flags=re.MULTILINE), "no Returns"
