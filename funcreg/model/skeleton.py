"""A module without data: its code on the meta device, its impure layers replaced, one copy a mode.

A skeleton is the same before and after a call. What a call needs, its parameters, buffers, noise
keys, rates and momentum, is lent to it; what a layer assigns comes back the same way.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .. import _checks, random
from .functional import CALL_STRIDE
from .recurrent import use_unrolled
from .registry import MOMENTUM, Draw, PureLayer, pure_layer

KEY, RATE = "noise_key", "noise_rate"


class Mode(NamedTuple):
    """Whether noise is on, whether its rates are given with the call, and whether this is training."""

    noise: bool
    rated: bool
    train: bool


class Skeleton(NamedTuple):
    """One copy of the module for one mode; its noise layers with their own rates, and those with running statistics.

    `slots`: where each of its tensors is kept, under every name: a layer's dictionary, the key there, and what
    lies there between calls.
    """

    module: nn.Module
    noise: dict[str, float]
    tracked: tuple[str, ...]
    slots: dict[str, tuple[dict[str, Any], str, Any]]


MODES = tuple(
    Mode(noise, rated, train)
    for noise, rated in ((False, False), (True, False), (True, True))
    for train in (False, True)
)


def prototype(module: nn.Module) -> nn.Module:
    """A copy of a module whose parameters and buffers are on the meta device: no data is copied, ties are kept.

    Raises:
        FuncregError: for what cannot be run without its own data, by name.
    """
    _refuse(module)
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
    for buffer in module.buffers():
        memo.setdefault(id(buffer), buffer.detach().to("meta"))
    return copy.deepcopy(module, memo)


def build(source: nn.Module, mode: Mode, *, rnn: str) -> Skeleton:
    """A prototype's copy for one mode, its layers pure."""
    shared = {id(tensor): tensor for tensor in (*source.parameters(), *source.buffers())}
    module = copy.deepcopy(source, shared)
    module.train(mode.train)
    noise: dict[str, float] = {}
    tracked: list[str] = []
    for name, layer in list(module.named_modules()):
        entry = pure_layer(layer)
        if entry is None:
            continue
        if entry.prepare is not None:
            entry.prepare(layer)
        if entry.forward is None:
            continue
        if entry.rate is None:
            _replace_forward(layer, entry.forward)
            if entry.tracks and getattr(layer, "running_mean", None) is not None:
                layer.register_buffer(MOMENTUM, torch.empty((), device="meta"), persistent=False)
                tracked.append(name)
            continue
        rate = _own_rate(name, layer, entry)
        noise[name] = rate
        if isinstance(layer, nn.RNNBase) and rnn == "unrolled":
            use_unrolled(layer)
        # At rate 0 there is nothing to draw, unless the call brings another rate.
        _replace_noise(layer, entry.forward, rate, mode if mode.rated or rate else mode._replace(noise=False))
    return Skeleton(module, noise, tuple(tracked), _slots(module))


def call(
    skeleton: Skeleton, module: nn.Module, tensors: dict[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a skeleton's module, or one that shares its layers, on these tensors; they are those after it then.

    What `torch.func.functional_call` does, whose search for each name takes longer than a small layer.
    """
    if torch.compiler.is_compiling():
        return functional_call(module, tensors, args, kwargs, tie_weights=False)
    lent = [(name, *skeleton.slots[name]) for name in tensors]
    for name, own, slot, _ in lent:
        own[slot] = tensors[name]
    try:
        return module(*args, **kwargs)
    finally:
        for name, own, slot, _ in lent:
            tensors[name] = own[slot]
        for _, own, slot, between in lent:
            own[slot] = between


def _slots(module: nn.Module) -> dict[str, tuple[dict[str, Any], str, Any]]:
    slots: dict[str, tuple[dict[str, Any], str, Any]] = {}
    for prefix, layer in module.named_modules(remove_duplicate=False):
        for own in (layer._parameters, layer._buffers):
            for slot, tensor in own.items():
                slots[f"{prefix}.{slot}" if prefix else slot] = (own, slot, tensor)
    return slots


def _replace_forward(layer: nn.Module, forward: Callable[..., Any]) -> None:
    """Give one instance another forward; isinstance and every attribute stay as they were."""
    own = type(layer)
    layer.__class__ = type(f"Pure{own.__name__}", (own,), {"forward": forward, "__module__": __name__})


def _replace_noise(layer: nn.Module, forward: Callable[..., Any], rate: float, mode: Mode) -> None:
    if mode.noise:
        layer.register_buffer(KEY, torch.empty(2, dtype=torch.int64, device="meta"), persistent=False)
        if mode.rated:
            layer.register_buffer(RATE, torch.empty((), device="meta"), persistent=False)
        else:
            setattr(layer, RATE, rate)

    def noisy(self: Any, *args: Any, **kwargs: Any) -> Any:
        key = self._buffers[KEY]
        self._buffers[KEY] = random.skip(key, CALL_STRIDE)  # for the next call in the same forward
        return forward(self, Draw(key, getattr(self, RATE)), *args, **kwargs)

    def silent(self: Any, *args: Any, **kwargs: Any) -> Any:
        return forward(self, None, *args, **kwargs)

    _replace_forward(layer, noisy if mode.noise else silent)


def _own_rate(name: str, layer: nn.Module, entry: PureLayer) -> float:
    rate = getattr(layer, str(entry.rate))
    _checks.check_number(f"{name or type(layer).__name__}.{entry.rate}", rate, low=0.0)
    return float(rate)


def _refuse(module: nn.Module) -> None:
    for name, layer in module.named_modules():
        where = f"{name or 'the module itself'} ({type(layer).__name__})"
        for hook in layer._forward_pre_hooks.values():
            if type(hook).__name__ in ("SpectralNorm", "WeightNorm"):
                _checks.fail(
                    "module",
                    f"{where} with the old {type(hook).__name__} hook, which writes into its buffers",
                    "torch.nn.utils.parametrizations",
                    "Use torch.nn.utils.parametrizations.spectral_norm or weight_norm.",
                )
        if isinstance(layer, nn.modules.lazy.LazyModuleMixin) and layer.has_uninitialized_params():  # type: ignore[misc]
            _checks.fail("module", f"{where}, whose parameters have no shape yet", "one that has", "Run a batch first.")
        if isinstance(layer, nn.RNNBase):
            continue  # it keeps its parameters in a list as well, but its pure forward takes them by name
        for attribute, value in vars(layer).items():
            if attribute in ("_parameters", "_buffers", "_modules"):
                continue
            held = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
            if any(isinstance(each, nn.Parameter) for each in held):
                _checks.fail(
                    "module",
                    f"{where}, whose attribute {attribute!r} keeps parameters where they cannot be replaced",
                    "parameters that are attributes",
                    "Use nn.ParameterList or nn.ParameterDict.",
                )
            if isinstance(value, Tensor) and value.grad_fn is not None:
                _checks.fail(
                    "module",
                    f"{where}, whose attribute {attribute!r} was computed from parameters",
                    "values computed in forward",
                    "Compute it in forward, or register it as a parameter or buffer.",
                )
