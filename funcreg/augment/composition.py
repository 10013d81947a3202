"""Several augmentations as one."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from .. import _checks, random


def compose(*functions: Callable[..., Any]) -> Callable[..., Any]:
    """One augmentation from several: applied in their order, each with a key of its own.

    A function with a parameter `targets` takes and gives images and targets, the others images
    alone. Settings are bound with `functools.partial` or a lambda.

    Args:
        functions: (images, *, key) -> images, or (images, targets, *, key) -> (images, targets).

    Returns:
        A function (images, *, key) -> images, or (images, targets, *, key) -> (images, targets); it
        may be composed again.

    Raises:
        FuncregError: for no function, or one without a key; from the result, when a function needs
            targets and there are none.

    >>> import torch
    >>> from functools import partial
    >>> from funcreg import augment
    >>> together = compose(augment.flip, partial(augment.crop, padding=4), partial(augment.mixup, alpha=0.2))
    >>> images, targets = together(torch.ones(2, 3, 32, 32), torch.eye(2), key=random.key(0))
    >>> images.shape, targets.shape
    (torch.Size([2, 3, 32, 32]), torch.Size([2, 2]))
    """
    if not functions:
        _checks.fail("functions", "none", "at least one (images, *, key) -> images")
    signatures = [_signature(function) for function in functions]

    def composed(images: Tensor, targets: Tensor | None = None, *, key: Tensor) -> Any:
        keys = random.split(key, len(functions))
        for function, parameters, own in zip(functions, signatures, keys.unbind(), strict=True):
            wanted = parameters.get("targets")
            if wanted is None or (targets is None and wanted.default is None):
                images = function(images, key=own)
            elif targets is None:
                _checks.fail("targets", "none", f"those of the images, which {_name(function)} mixes")
            else:
                images, targets = function(images, targets=targets, key=own)
        return images if targets is None else (images, targets)

    return composed


def _signature(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of an augmentation, one of which is a key."""
    what = "an augmentation (images, *, key) -> images, or (images, targets, *, key) -> (images, targets)"
    _checks.check_callable("functions", function, what)
    try:
        parameters = dict(inspect.signature(function).parameters)
    except ValueError:  # a function of C++ without one
        parameters = {}
    if "key" not in parameters:
        _checks.fail("functions", _name(function), what, "Without randomness: lambda images, *, key: ...")
    return parameters


def _name(function: Callable[..., Any]) -> str:
    return getattr(getattr(function, "func", function), "__name__", type(function).__name__)
