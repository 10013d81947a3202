"""What a call lends to the layers beside their own tensors: keys and rates of noise, momentum."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from .. import _checks, _jit, random
from .._compiling import is_compiling
from .._functorch import is_wrapped, needs_formulas
from .skeleton import Skeleton

Rates = float | Tensor | Mapping[str, float | Tensor]


class Given(NamedTuple):
    """What a call gives beside its tensors."""

    args: tuple[Any, ...]
    named: dict[str, Any]
    key: Tensor | None
    rates: Rates | None
    momentum: float | Tensor | None
    method: str | None


def lend(skeleton: Skeleton, tensors: dict[str, Tensor], given: Given, ties: Mapping[str, str]) -> None:
    """Add every further name of a tied tensor, each noise layer's key and rate, and the momentum."""
    for alias, name in ties.items():
        tensors[alias] = tensors[name]
    if given.key is not None:
        lend_noise(skeleton, tensors, given.rates, key=given.key)
    if given.momentum is not None:
        lend_momentum(skeleton, tensors, given.momentum)


def lend_noise(skeleton: Skeleton, tensors: dict[str, Tensor], rates: Rates | None, *, key: Tensor) -> None:
    """Add the key and the rate of each layer that draws."""
    noise, drawing = skeleton.noise, skeleton.drawing
    if not noise and not drawing:
        return
    # Each layer's key depends on its place alone, not on which others were found to draw.
    keys = random.split(key, len(noise) + (len(skeleton.places) if drawing else 0))
    if not is_compiling():
        skeleton.masks.begin(None if is_wrapped(keys) else keys)
    named = rates if isinstance(rates, Mapping) else {}
    of_all = None if rates is None or isinstance(rates, Mapping) else _as_rate(rates, key)
    for (name, own_rate), own in zip(noise.items(), keys[: len(noise)].unbind(), strict=True):
        if name not in skeleton.awake:
            continue
        lent = skeleton.lent[name]
        tensors[lent.key] = own
        if rates is not None:
            tensors[lent.rate] = _as_rate(named.get(name, own_rate), key) if of_all is None else of_all
    unseen = needs_formulas()
    for name, found in drawing.items():
        if not (found.always or unseen):
            continue  # it is in a mode of torch for its batch statistics, if at all
        lent = skeleton.lent[name]
        tensors[lent.key] = keys[len(noise) + skeleton.places[name]]
        if of_all is not None:
            tensors[lent.rate_of_all] = of_all
        elif name in named:
            tensors[lent.rate] = _as_rate(named[name], key)


def lend_momentum(skeleton: Skeleton, tensors: dict[str, Tensor], momentum: float | Tensor) -> None:
    """Add the momentum of running statistics to each layer that has them."""
    momentum = _checks.check_setting("momentum", momentum, 0.0, 1.0)
    if not skeleton.mode.train:
        remedy = "Running statistics move exactly when train=True."
        _checks.fail("momentum", "a momentum without train=True", "train=True beside it", remedy)
    if not skeleton.tracked:
        _checks.fail("momentum", _checks.describe(momentum), "None, since this module has no running statistics")
    device = next(iter(tensors.values())).device
    for name in skeleton.tracked:
        tensors[skeleton.lent[name].momentum] = _jit.as_data(momentum, device)


def _as_rate(rate: float | Tensor, key: Tensor) -> Tensor:
    return _jit.as_data(rate, key.device)
