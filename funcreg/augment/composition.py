"""Several augmentations as one, and one for some of the images.

An augmentation is a function (images, *, key) -> images, or (images, targets, *, key) -> (images, targets);
one that draws nothing, such as the functions named `apply_`, is (images) -> images.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _checks, random
from . import core
from .core import Number

Step = Callable[[Tensor, Tensor | None, Tensor], tuple[Tensor, Tensor | None]]


def compose(*functions: Callable[..., Any]) -> Callable[..., Any]:
    """One augmentation from several: applied in their order, each with a key of its own.

    A function with a parameter `targets` takes and gives images and targets, the others images
    alone. Settings are bound with `functools.partial` or a lambda.

    Args:
        functions: (images, *, key) -> images, (images, targets, *, key) -> (images, targets), or
            (images) -> images, if nothing is drawn.

    Returns:
        A function (images, *, key) -> images, or (images, targets, *, key) -> (images, targets); it
        may be composed again.

    Raises:
        FuncregError: for no function, or one that takes neither a key nor `images`; from the result, when a
            function needs targets and there are none.

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
    steps = [_step("functions", function) for function in functions]

    def composed(images: Tensor, targets: Tensor | None = None, *, key: Tensor) -> Any:
        keys = random.split(key, len(functions))
        for step, own in zip(steps, keys.unbind(), strict=True):
            images, targets = step(images, targets, own)
        return images if targets is None else (images, targets)

    return composed


def sometimes(function: Callable[..., Any], rate: Number) -> Callable[..., Any]:
    """An augmentation that changes each image by function with probability rate, and leaves it as it is otherwise.

    Of a function that draws nothing, its drawn twin: `sometimes(apply_grayscale, 0.1)` is torchvision's
    `RandomGrayscale(0.1)`, and so are `RandomInvert`, `RandomSolarize`, `RandomPosterize`, `RandomEqualize`,
    `RandomAutocontrast` and `RandomAdjustSharpness`; of one that draws, its `RandomApply`. All images are
    changed, and some are kept; targets are those of the images that they belong to.

    Args:
        function: as those of `compose`; it keeps the images' shape and dtype.
        rate: the probability, in [0, 1]; a number or a tensor of shape ().

    Returns:
        A function (images, *, key) -> images, or (images, targets, *, key) -> (images, targets); it
        may be composed.

    Raises:
        FuncregError: for a function that takes neither a key nor `images`, or a rate out of range; from the
            result, when the function changes a shape or dtype, or needs targets and there are none.

    >>> from funcreg import augment
    >>> images = torch.full((4, 1, 1, 1), 0.25)
    >>> sometimes(augment.apply_invert, 0.5)(images, key=random.key(0)).flatten()
    tensor([0.2500, 0.7500, 0.2500, 0.2500])
    """
    step = _step("function", function)
    rate = _checks.check_setting("rate", rate, 0.0, 1.0)

    def drawn(images: Tensor, targets: Tensor | None = None, *, key: Tensor) -> Any:
        core.check_drawn(images, key=key)
        drawing, own = random.split(key)
        chosen = random.uniform(drawing, images.shape[:1]) < rate

        def kept(changed: Any, original: Tensor) -> Tensor:
            if not isinstance(changed, Tensor) or (changed.shape, changed.dtype) != (original.shape, original.dtype):
                got = f"one that gives {_checks.describe(changed)}"
                _checks.fail("function", got, f"one that keeps {_checks.describe(original)}")
            rows = chosen.reshape(-1, *(1 for _ in original.shape[1:]))
            return _checks.spoilt(torch.where(rows, changed, original), rate)

        changed, mixed = step(images, targets, own)
        images = kept(changed, images)
        return images if targets is None else (images, kept(mixed, targets))

    return drawn


def _step(argument: str, function: Callable[..., Any]) -> Step:
    """An augmentation as a function of images, targets or None, and a key, whichever of these it takes."""
    what = "an augmentation (images, *, key) -> images, or (images, targets, *, key) -> (images, targets)"
    _checks.check_callable(argument, function, what)
    try:
        parameters = dict(inspect.signature(function).parameters)
    except ValueError:  # a function of C++ without one
        parameters = {}
    if not parameters.keys() & {"key", "images"}:
        _checks.fail(argument, _name(function), what, "Without randomness: (images) -> images, by that name.")
    wanted = parameters.get("targets")

    def step(images: Tensor, targets: Tensor | None, key: Tensor) -> Any:
        given = {"key": key} if "key" in parameters else {}
        if wanted is None or (targets is None and wanted.default is None):
            return function(images, **given), targets
        if targets is None:
            _checks.fail("targets", "none", f"those of the images, which {_name(function)} mixes")
        return function(images, targets=targets, **given)

    return step


def _name(function: Callable[..., Any]) -> str:
    return getattr(getattr(function, "func", function), "__name__", type(function).__name__)
