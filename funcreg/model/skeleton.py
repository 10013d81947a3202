"""A module without data: its code on the meta device, its impure layers replaced, one copy a mode.

A skeleton is the same before and after a call. What a call needs, its parameters, buffers, noise
keys, rates and momentum, is lent to it; what a layer assigns comes back the same way, and every
attribute that a forward sets is put back.
"""

import types
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .. import _checks, random
from .._functorch import needs_formulas
from .keyed import CALL_STRIDE, Drawing, Keyed, Rehearsed, in_place_of_the_outer
from .layers import dropout
from .masks import Masks
from .modes import Mode, within
from .prototype import duplicate
from .recurrent import flat_weights, prepare
from .refused import label
from .registry import MOMENTUM, Draw, PureLayer, pure_layer, pure_layer_of

# What a call lends to a layer beside its own tensors, as plain attributes: the layer's code does not meet them.
_LENT = KEY, RATE, RATE_OF_ALL, _ = "noise_key", "noise_rate", "noise_rate_of_all", MOMENTUM
_FORWARD_STRIDE = 2**48  # draws between two calls of a layer with draws of its own

Slot = tuple[dict[str, Any], str, Any]


class Lent(NamedTuple):
    """The slots of what a call lends to one layer."""

    key: str
    rate: str
    rate_of_all: str
    momentum: str


class Skeleton:
    """One copy of the module for one mode.

    pure: the layers whose forward was replaced by a registered one. noise: those of them that draw, with their
    own rates; awake: those that do in this mode. trains: the layers that train() puts into training mode.
    tracked: those with running statistics.
    drawing: the layers found to draw by themselves, each with its place among all layers.
    slots: where each tensor is kept, under every name: a layer's dictionary, the key there, and what lies
    there between calls.
    """

    def __init__(self, source: nn.Module, mode: Mode, *, rnn: str) -> None:
        self.module = duplicate(source)
        self.mode, self.unrolled = mode, rnn == "unrolled"
        self.pure: set[str] = set()
        self.noise: dict[str, float] = {}
        self.awake: set[str] = set()
        self.tracked: list[str] = []
        self.drawing: dict[str, Drawing] = {}
        self.rehearsal: Rehearsed | None = None
        self.woken: set[str] = set()  # layers in training mode for their noise alone
        self.writes: set[str] = set()  # registered noise layers whose input is used after they have changed it
        self.slots: dict[str, Slot] = {}
        self.calls: dict[str, int] = {}  # of each noisy layer so far, in this forward
        self.layers = dict(self.module.named_modules())
        self.places = {name: place for place, name in enumerate(self.layers)}
        self.labels = {name: label(name, layer) for name, layer in self.layers.items()}
        self.lent = {name: Lent(*(f"{name}.{what}" if name else what for what in _LENT)) for name in self.layers}
        self.callers: dict[str, nn.Module] = {}
        self.module.train(True)
        # A train() of its own may keep a part from it, such as a backbone's batch norm.
        self.trains = {name for name, layer in self.layers.items() if layer.training and not self.is_frozen(name)}
        self.module.train(mode.train)
        for name in mode.frozen:
            self.layers[name].eval()
        for name, layer in self.layers.items():
            self._make_pure(name, layer)
        self._find_slots()
        self.masks = Masks({name: place for place, name in enumerate(self.noise)})

    def _make_pure(self, name: str, layer: nn.Module) -> None:
        if type(layer).__name__ == "OptimizedModule":  # of torch.compile, which does not run inside of a transform
            _replace_forward(layer, lambda self, *args, **kwargs: self._orig_mod(*args, **kwargs))
            return
        entry = None if "forward" in vars(layer) else pure_layer(layer)
        if entry is None:
            for kind in type(layer).__mro__:
                base = pure_layer_of(kind)
                if base is not None and base.forward is None and base.prepare is not None:
                    base.prepare(layer)
            if isinstance(layer, nn.RNNBase):  # a subclass, whose own forward reads its list of weights
                _read_by_name(layer)
            return
        if entry.prepare is not None:
            entry.prepare(layer)
        if entry.forward is None:
            return
        self.pure.add(name)
        if entry.rate is None:
            _replace_forward(layer, entry.forward)
            if entry.tracks and getattr(layer, "running_mean", None) is not None:
                self.tracks(name)
            return
        rate = _own_rate(name, layer, entry)
        self.noise[name] = rate
        if isinstance(layer, nn.RNNBase) and self.unrolled:
            prepare(layer, unrolled=True)
        self._make_noisy(name, layer, entry)

    def _make_noisy(self, name: str, layer: nn.Module, entry: PureLayer) -> None:
        mode, attribute, forward = self.mode, str(entry.rate), entry.forward
        assert forward is not None
        writes = bool(getattr(layer, "inplace", False))
        if mode.noise and name in self.trains:
            self.awake.add(name)
            layer.training = True  # it draws while it is, as torch's does
            self._lend_to(name, KEY)
            if mode.rated:
                self._lend_to(name, RATE)
        skeleton, together = self, forward is dropout and not mode.rated

        def noisy(self: Any, *args: Any, **kwargs: Any) -> Any:
            rate = self.noise_rate if mode.rated else getattr(self, attribute)
            quiet = skeleton.rehearsal is not None and skeleton.rehearsal.neutral
            if quiet or not self.training or not (mode.rated or rate):
                return forward(self, None, *args, **kwargs)
            drawn = Draw(skeleton._next_key(name, self.__dict__, CALL_STRIDE), rate)
            mask = skeleton._drawn_together(name, rate, args) if together else None
            result = forward(self, drawn, *args, **kwargs) if mask is None else args[0] * mask
            return skeleton._written_back(name, result, *args) if writes else result

        def silent(self: Any, *args: Any, **kwargs: Any) -> Any:
            if mode.train and self.training and getattr(self, attribute) and not skeleton.is_frozen(name):
                allowed = f"a key, since train=True and this layer draws: {skeleton.labels[name]}"
                _checks.fail("key", None, allowed, "Pass key=fr.random.key(seed).")
            return forward(self, None, *args, **kwargs)

        _replace_forward(layer, noisy if name in self.awake else silent)

    def _drawn_together(self, name: str, rate: float, args: tuple[Any, ...]) -> Tensor | None:
        """The mask of a dropout layer, if it was drawn with others'."""
        if torch.compiler.is_compiling() or self.rehearsal is not None or self.calls[name] > 1:
            return None
        return self.masks.of(name, args[0], rate) if len(args) == 1 and type(args[0]) is Tensor else None

    def _written_back(self, name: str, result: Tensor, x: Tensor) -> Tensor:
        """The result of a noise layer that works in place, written into its input where that is used afterwards."""
        if self.rehearsal is not None:
            self.rehearsal.drew_into(x, name)
            return result
        return x.copy_(result) if name in self.writes else result

    def tracks(self, name: str) -> None:
        """Note a layer with running statistics, whose momentum a call may give."""
        if name not in self.tracked:
            self.tracked.append(name)
            self._lend_to(name, MOMENTUM)

    def is_frozen(self, name: str) -> bool:
        """Whether a layer is in a part that evaluates while the rest trains."""
        return within(name, self.mode.frozen)

    def learns(self, name: str, drawing: Drawing) -> None:
        """Note that a layer draws by itself, and run its forward in a mode of torch from now on."""
        known = self.drawing.get(name)
        self.drawing[name] = drawing = drawing if known is None else known.joined(drawing)
        layer = self.layers[name]
        if drawing.statistics:
            self.tracks(name)
        if known is not None:
            return
        for attribute in (KEY, RATE, RATE_OF_ALL):
            self._lend_to(name, attribute)
        if name == "":
            return  # the module itself is run in a mode by whoever calls it: its forward, or another method
        run, skeleton = layer.forward, self

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            # Read here rather than kept: a later kind of call may have found out more.
            if skeleton.rehearsal is not None or not (skeleton.drawing[name].always or needs_formulas()):
                return run(*args, **kwargs)
            mode = skeleton.mode_around(name, self.__dict__)
            with mode if torch.compiler.is_compiling() else in_place_of_the_outer(mode):
                return run(*args, **kwargs)

        _replace_forward(layer, forward)

    def mode_around(self, name: str, lent: dict[str, Any]) -> Keyed:
        """The mode of torch around one call of a layer, with what this call lends it."""
        drawing = self.drawing[name]
        key = None if lent.get(KEY) is None else self._next_key(name, lent, _FORWARD_STRIDE)
        named = lent.get(RATE)
        return Keyed(
            self.labels[name],
            key,
            rate=lent.get(RATE_OF_ALL) if named is None else named,
            named=named is not None,
            train=self.mode.train,
            momentum=lent.get(MOMENTUM),
            statistics=tuple((self.layers[owner]._buffers, mean, var) for owner, mean, var in drawing.statistics),
            copies=drawing.copies,
            unrolled=self.unrolled,
            quiet=self.is_frozen(name),
        )

    def _next_key(self, name: str, lent: dict[str, Any], stride: int) -> Tensor:
        """The key of a layer's call: the one that was lent, and further along its stream in the same forward again."""
        key = lent[KEY]
        if torch.compiler.is_dynamo_compiling():  # where a draw that nobody uses costs nothing
            lent[KEY] = random.skip(key, stride)
            return key
        calls = self.calls.get(name, 0)
        self.calls[name] = calls + 1
        return random.skip(key, calls * stride) if calls else key

    def call(
        self,
        tensors: dict[str, Tensor],
        reads: Iterable[str],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call what runs the skeleton's module on these tensors; those in `reads` are what they are after it then."""
        slots = self.slots
        for name, tensor in tensors.items():
            own, slot, _ = slots[name]
            own[slot] = tensor
        self.calls.clear()
        try:
            return function(*args, **kwargs)
        finally:
            # All are read before any is put back: a layer under two names has one slot for both.
            for name in reads:
                own, slot, _ = slots[name]
                tensors[name] = own[slot]
            for name in tensors:
                own, slot, between = slots[name]
                own[slot] = between

    def call_traced(
        self, tensors: dict[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], method: str | None
    ) -> Any:
        """The same in a program that is being traced: by `torch.func.functional_call`, which the compiler knows."""
        if not torch.compiler.is_dynamo_compiling():  # which counts otherwise: see _next_key
            self.calls.clear()
        if method is None:
            return functional_call(self.module, tensors, args, kwargs, tie_weights=False)
        inner = {f"module.{name}": tensor for name, tensor in tensors.items()}
        output = functional_call(self.callers[method], inner, args, kwargs, tie_weights=False)
        for name in tensors:
            tensors[name] = inner[f"module.{name}"]
        return output

    def prepare_method(self, method: str) -> None:
        """Make what calls another method, before a program is traced that does."""
        if method not in self.callers:
            self.callers[method] = _Method(self.module, method)

    def _lend_to(self, name: str, attribute: str) -> None:
        (own := vars(self.layers[name])).setdefault(attribute, None)
        self.slots[f"{name}.{attribute}" if name else attribute] = (own, attribute, None)

    def _find_slots(self) -> None:
        for prefix, layer in self.module.named_modules(remove_duplicate=False):
            for own in (layer._parameters, layer._buffers):
                for slot, tensor in own.items():
                    self.slots[f"{prefix}.{slot}" if prefix else slot] = (own, slot, tensor)


class _Method(nn.Module):
    """Calls a method of a module by its name."""

    def __init__(self, module: nn.Module, method: str) -> None:
        super().__init__()
        self.module, self.method = module, method

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.module, self.method)(*args, **kwargs)


def _replace_forward(layer: nn.Module, forward: Callable[..., Any]) -> None:
    """Give one instance another forward; its type, for which a module may ask, stays as it was."""
    layer.__dict__["forward"] = types.MethodType(forward, layer)


def _read_by_name(layer: nn.RNNBase) -> None:
    """Let the forward of a subclass, which runs on its list of weights, find those that it was lent."""
    own = type(layer)
    members = {"_flat_weights": property(flat_weights, lambda *_: None), "__module__": own.__module__}
    layer.__class__ = type(own.__name__, (own,), members)


def _own_rate(name: str, layer: nn.Module, entry: PureLayer) -> float:
    rate = getattr(layer, str(entry.rate))
    rate = 0.0 if rate is None else rate
    _checks.check_number(f"{name or type(layer).__name__}.{entry.rate}", rate, low=0.0)
    return float(rate)
