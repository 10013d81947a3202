"""A module from the function that makes it: torch's generators are seeded for it, and put back."""

from typing import Any

import torch
from torch import nn

from .. import _checks
from .prototype import label


def made(factory: Any, seed: int | None = None) -> nn.Module:
    """What a function () -> nn.Module makes, from a seed or from the generators as they are, which stay so.

    >>> torch.equal(made(lambda: nn.Linear(2, 1), 3).weight, made(lambda: nn.Linear(2, 1), 3).weight)
    True
    """
    _checks.check_callable("module", factory, "an nn.Module or a function () -> nn.Module")
    with torch.random.fork_rng(devices=_cuda_devices()):
        if seed is not None:
            _seed(seed)
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


def _seed(seed: int) -> None:
    """Seed the generators that are forked; torch.manual_seed would also seed those of GPUs not in use yet, for good."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def _cuda_devices() -> range:
    return range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
