"""A module from the function that makes it: the global generators are seeded for it, and put back."""

import inspect
from typing import Any

from torch import nn

from .. import _checks, _generators
from .refused import label


def made(factory: Any, seed: int | None = None) -> nn.Module:
    """What a function () -> nn.Module makes, from a seed or from the generators as they are, which stay so.

    >>> import torch
    >>> torch.equal(made(lambda: nn.Linear(2, 1), 3).weight, made(lambda: nn.Linear(2, 1), 3).weight)
    True
    """
    _checks.check_callable("module", factory, "an nn.Module or a function () -> nn.Module")
    if isinstance(factory, type):
        _check_takes_nothing(factory)
    with _generators.left_alone():
        if seed is not None:
            _generators.seed(seed)
        module = factory()
    check_module(module)
    return module


def check_module(module: Any) -> None:
    """Refuse what is not an nn.Module, or has parameters that only its first batch makes.

    >>> check_module(nn.ReLU())
    """
    if not isinstance(module, nn.Module):
        _checks.fail("module", _checks.describe(module), "an nn.Module, or a function that returns one")
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.lazy.LazyModuleMixin) and layer.has_uninitialized_params():  # type: ignore[misc]
            did = f"{label(name, layer)}, whose parameters have no shape yet"
            _checks.fail("module", did, "one that has", "Run a batch first.")


def _check_takes_nothing(kind: type) -> None:
    try:
        needs = [
            name
            for name, parameter in inspect.signature(kind).parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
    except ValueError:  # of a class that is written in C
        return
    if needs:
        got = f"the class {kind.__name__}, which needs {', '.join(needs)}"
        _checks.fail("module", got, "a function () -> nn.Module", f"Wrap it: lambda: {kind.__name__}(...).")
