"""Which layers are replaced by pure ones, and by what: a table from a layer's type to its pure forward.

A pure forward is a function `forward(layer, *args, **kwargs)` that takes the place of the
layer's own. It may *assign* buffers (`layer.running_mean = new`), which become the new state;
it must not write into them. A noise layer's is `forward(layer, draw, *args, **kwargs)`: `draw`
holds the key and the rate of this call, and is None while noise is off.
"""

import types
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.utils import parametrize

from .. import _checks

Forward = Callable[..., Any]

MOMENTUM = "given_momentum"  # lent to layers with running statistics: None while a call gives none


class Draw(NamedTuple):
    """What a noise layer's forward draws with: a key of its own, and the rate."""

    key: Tensor
    rate: float | Tensor


class PureLayer(NamedTuple):
    """How a type of layer is made pure: its forward, the attribute that holds its rate, its set-up.

    `tracks`: whether its forward takes the momentum of running statistics from `given_momentum`.
    """

    forward: Forward | None
    rate: str | None
    prepare: Callable[[Any], None] | None
    tracks: bool


# By qualified name, so that a layer of a library that is not imported can be listed.
_layers: dict[str, PureLayer] = {}


def register_layer(
    layer_type: type[nn.Module] | str,
    forward: Forward | None,
    *,
    rate: str | None = None,
    prepare: Callable[[Any], None] | None = None,
    tracks: bool = False,
) -> None:
    """Say how `from_module` makes a type of layer pure. Exactly this type; subclasses are their own.

    A layer need not be registered: what it draws by torch's functions is keyed as it is. Registering gives
    its noise a rate that a call can set by name, or its state a pure form.

    Args:
        layer_type: an nn.Module class, or its qualified name ("package.module.Class").
        forward: `forward(layer, *args, **kwargs)`, used in place of the class's own, which may
            assign buffers but not write into them; None keeps the class's own.
        rate: for a layer that draws random numbers, the name of the attribute that holds its
            rate. Then it is `forward(layer, draw, *args, **kwargs)`, with `draw.key` and
            `draw.rate`, or None for draw while noise is off.
        prepare: called once with the (data-less) copy of the layer, to change its settings.
        tracks: the layer has running statistics (a buffer `running_mean`), and its forward takes
            their momentum from `momentum_of(layer)`, so that a call of `apply` can give another.

    Raises:
        FuncregError: for what is not a module class, a forward or prepare that cannot be called, or a rate
            that is no name.

    >>> import torch, funcreg as fr
    >>> class Jitter(torch.nn.Module):
    ...     std = 0.1
    ...     def forward(self, x):
    ...         return x + self.std * torch.randn_like(x) if self.training else x
    >>> def jitter(layer, draw, x):
    ...     return x if draw is None else fr.noise.gaussian_noise(x, draw.rate, key=draw.key)
    >>> register_layer(Jitter, jitter, rate="std")
    >>> model = fr.from_module(Jitter)
    >>> model.apply({}, {}, torch.zeros(2), key=fr.random.key(0))[0]
    tensor([..., ...])
    """
    if not isinstance(layer_type, str):
        if not isinstance(layer_type, type) or not issubclass(layer_type, nn.Module):
            _checks.fail("layer_type", _checks.describe(layer_type), "a subclass of torch.nn.Module")
        layer_type = _qualified(layer_type)
    elif "." not in layer_type:
        _checks.fail("layer_type", repr(layer_type), 'a qualified name, "package.module.Class"')
    if forward is not None:
        _checks.check_callable("forward", forward, "a function (layer, *args) -> output, or None")
    if prepare is not None:
        _checks.check_callable("prepare", prepare, "a function (layer) -> None, or None")
    _checks.check_choice("tracks", tracks, (True, False))
    if rate is not None and not (isinstance(rate, str) and rate.isidentifier()):
        _checks.fail("rate", _checks.describe(rate), "the name of an attribute, such as 'p', or None")
    if forward is None and (rate is not None or tracks):
        why = "a rate is named" if rate is not None else "it takes the momentum"
        _checks.fail("forward", None, f"a function (layer, ...) -> output, since {why}")
    _layers[layer_type] = PureLayer(forward, rate, prepare, tracks)


def momentum_of(layer: Any) -> float | Tensor | None:
    """The momentum of a layer's running statistics: the call's, or where it gives none the layer's own.

    >>> momentum_of(nn.BatchNorm1d(2, momentum=0.3))
    0.3
    """
    given = getattr(layer, MOMENTUM, None)
    return layer.momentum if given is None else given


def pure_layer(layer: nn.Module) -> PureLayer | None:
    """The entry for a layer's exact type, looking beneath parametrizations."""
    return pure_layer_of(parametrize.type_before_parametrizations(layer))


def pure_layer_of(kind: type) -> PureLayer | None:
    """The entry for a type."""
    return _layers.get(_qualified(kind))


def own_forward(layer: nn.Module) -> Callable[..., Any]:
    """A layer's forward as a function of the layer, which may be a copy that the forward of another makes."""
    replaced: Any = vars(layer).get("forward", type(layer).forward)
    if replaced is type(layer).forward:
        return replaced
    if isinstance(replaced, types.MethodType) and replaced.__self__ is layer:
        return replaced.__func__
    return lambda self, *args, **kwargs: replaced(*args, **kwargs)


def replace_forward(layer: nn.Module, forward: Callable[..., Any]) -> None:
    """Give one instance another forward; its type, for which a module may ask, stays as it was."""
    layer.__dict__["forward"] = types.MethodType(forward, layer)


def _qualified(layer_type: type) -> str:
    return f"{layer_type.__module__}.{layer_type.__qualname__}"
