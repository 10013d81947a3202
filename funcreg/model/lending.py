"""What a call lends to the layers beside their own tensors: keys and rates of noise, momentum."""

from collections.abc import Mapping

from torch import Tensor

from .. import _checks, _jit, random
from .registry import MOMENTUM
from .skeleton import KEY, RATE, RATE_OF_ALL, Skeleton

Rates = float | Tensor | Mapping[str, float | Tensor]


def lend_noise(skeleton: Skeleton, tensors: dict[str, Tensor], rates: Rates | None, *, key: Tensor) -> None:
    """Add the key and the rate of each layer that draws."""
    registered = len(skeleton.noise)
    drawing = skeleton.drawing
    if not registered and not drawing:
        return
    # Each layer's key depends on its place alone, not on which others were found to draw.
    keys = random.split(key, registered + (len(skeleton.places) if drawing else 0))
    named = rates if isinstance(rates, Mapping) else {}
    own = keys[:registered].unbind()
    of_all = None if rates is None or isinstance(rates, Mapping) else _as_rate(rates, key)
    for place, name in enumerate(skeleton.noise):
        slot = f"{name}.{KEY}" if name else KEY
        if slot not in skeleton.slots:
            continue
        tensors[slot] = own[place]
        if rates is not None:
            rate = _as_rate(named.get(name, skeleton.noise[name]), key) if of_all is None else of_all
            tensors[f"{name}.{RATE}" if name else RATE] = rate
    for name in drawing:
        prefix = f"{name}." if name else ""
        tensors[prefix + KEY] = keys[registered + skeleton.places[name]]
        if of_all is not None:
            tensors[prefix + RATE_OF_ALL] = of_all
        elif name in named:
            tensors[prefix + RATE] = _as_rate(named[name], key)


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
        tensors[f"{name}.{MOMENTUM}" if name else MOMENTUM] = _jit.as_data(momentum, device)


def _as_rate(rate: float | Tensor, key: Tensor) -> Tensor:
    return _jit.as_data(rate, key.device)
