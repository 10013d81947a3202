"""A module without data: its code on the meta device, its impure layers replaced, one copy a mode.

A skeleton is the same before and after a call. What a call needs, its parameters, buffers, noise
keys, rates and momentum, is lent to it; what a layer assigns comes back the same way, and every
attribute that a forward sets is put back.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import _checks, random
from .._compiling import is_compiling
from .._functorch import needs_formulas
from .attributes import with_code_of_their_own
from .keyed import CALL_STRIDE, Drawing, Keyed, Rehearsed, called_in
from .layers import batch_norm, mask_shape
from .masks import Masks
from .modes import Mode, within
from .moving import Moving
from .prototype import duplicate
from .recurrent import prepare, read_by_name
from .refused import label
from .registry import MOMENTUM, Draw, PureLayer, own_forward, pure_layer, pure_layer_of, replace_forward
from .slots import Slots

# What a call lends to a layer beside its own tensors, as plain attributes: the layer's code does not meet them.
_LENT = KEY, RATE, RATE_OF_ALL, _ = "noise_key", "noise_rate", "noise_rate_of_all", MOMENTUM
_HALF = (torch.float16, torch.bfloat16)
_FORWARD_STRIDE = 2**48  # draws between two calls of a layer with draws of its own


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
    tracked: those with running statistics. drawing: the layers found to draw by themselves, and how.
    unforeseen: whether a call was met with draws that its rehearsal has not seen.
    own_code: layers that are not torch's: they may draw, or not, as inputs are.
    surrounded: the layers that are run in a mode of torch of their own, or in none.
    slots: where each tensor is kept. moving: the buffers of batch statistics.
    """

    def __init__(self, source: nn.Module, mode: Mode, *, rnn: str) -> None:
        self.module = duplicate(source)
        self.mode, self.unrolled = mode, rnn == "unrolled"
        self.pure, self.awake = set[str](), set[str]()
        self.noise: dict[str, float] = {}
        self.tracked: list[str] = []
        self.drawing: dict[str, Drawing] = {}
        self.surrounded: set[str] = set()
        self.rehearsal: Rehearsed | None = None
        self.woken: set[str] = set()  # layers in training mode for their noise alone
        self.writes: set[str] = set()  # registered noise layers whose input is used after they have changed it
        self.slots = Slots(self.module)
        self.moving = Moving()
        self.unforeseen, self.lends = False, False  # it lends while a call runs
        self.calls: dict[str, int] = {}  # of each noisy layer so far, in this forward
        self.layers = dict(self.module.named_modules())
        self.places = {name: place for place, name in enumerate(self.layers)}
        self.by_members = False  # what a forward makes is written into by a vmap's members
        self.labels = {name: label(name, layer) for name, layer in self.layers.items()}
        self.lent = {name: Lent(*(f"{name}.{what}" if name else what for what in _LENT)) for name in self.layers}
        self.module.train(True)
        # A train() of its own may keep a part from it, such as a backbone's batch norm.
        self.trains = {name for name, layer in self.layers.items() if layer.training and not self.is_frozen(name)}
        self.module.train(mode.train)
        for name in mode.frozen:
            self.layers[name].eval()
        self.own_code = with_code_of_their_own(self.layers)
        for name, layer in self.layers.items():
            self._make_pure(name, layer)
        self.slots.find(self.own_code)
        self.masks = Masks({name: place for place, name in enumerate(self.noise)})

    def _make_pure(self, name: str, layer: nn.Module) -> None:
        if type(layer).__name__ == "OptimizedModule":  # of torch.compile, which does not run inside of a transform
            replace_forward(layer, lambda self, *args, **kwargs: self._orig_mod(*args, **kwargs))
            return
        entry = None if "forward" in vars(layer) else pure_layer(layer)
        if entry is None:
            for kind in type(layer).__mro__:
                base = pure_layer_of(kind)
                if base is not None and base.forward is None and base.prepare is not None:
                    base.prepare(layer)
            if isinstance(layer, nn.RNNBase):  # a subclass, whose own forward reads its list of weights
                read_by_name(layer)
            return
        if entry.prepare is not None:
            entry.prepare(layer)
        if entry.forward is None:
            return
        self.pure.add(name)
        if entry.rate is None:
            replace_forward(layer, entry.forward)
            if entry.tracks and getattr(layer, "running_mean", None) is not None:
                self.tracks(name)
                if entry.forward is batch_norm and layer.training:
                    self._moves_statistics(name, layer)
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
        skeleton, shape_of = self, None if mode.rated else mask_shape(forward, layer)

        def noisy(self: Any, *args: Any, **kwargs: Any) -> Any:
            rate = self.noise_rate if mode.rated else getattr(self, attribute)
            quiet = skeleton.rehearsal is not None and skeleton.rehearsal.neutral
            if quiet or not self.training or not (mode.rated or rate):
                return forward(self, None, *args, **kwargs)
            drawn = Draw(skeleton._next_key(name, self.__dict__, CALL_STRIDE), rate)
            mask = skeleton._drawn_together(name, rate, args, shape_of) if shape_of else None
            result = forward(self, drawn, *args, **kwargs) if mask is None else args[0] * mask
            return skeleton._written_back(name, result, *args) if writes else result

        def silent(self: Any, *args: Any, **kwargs: Any) -> Any:
            if mode.train and self.training and getattr(self, attribute) and not skeleton.is_frozen(name):
                allowed = f"a key, since train=True and this layer draws: {skeleton.labels[name]}"
                _checks.fail("key", None, allowed, "Pass key=fr.random.key(seed).")
            return forward(self, None, *args, **kwargs)

        replace_forward(layer, noisy if name in self.awake else silent)

    def _moves_statistics(self, name: str, layer: nn.Module) -> None:
        self.moving.add(name, "running_mean", "running_var", "num_batches_tracked")
        skeleton, moving, own = self, self.moving, type(layer).forward

        def forward(self: Any, x: Tensor) -> Tensor:
            if moving.natively and x.dtype is self._buffers["running_mean"].dtype and not needs_formulas():
                return own(self, x)
            if skeleton.rehearsal is None:
                return batch_norm(self, x)
            y = called_in(None, batch_norm, self, x)
            skeleton.rehearsal.follow(y)
            skeleton.rehearsal.moved([each for each in self._buffers.values() if each is not None])
            return y

        replace_forward(layer, forward)

    def _drawn_together(
        self, name: str, rate: float, args: tuple[Any, ...], shape_of: Callable[[Tensor], tuple[int, ...]]
    ) -> Tensor | None:
        """The mask of a dropout layer, if it was drawn with others'."""
        if is_compiling() or self.rehearsal is not None or self.calls[name] > 1:
            return None
        if len(args) != 1 or type(args[0]) is not Tensor or not args[0].ndim:
            return None
        return self.masks.of(name, args[0], shape_of(args[0]), rate)

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
        """Note that a layer draws by itself or moves batch statistics."""
        known = self.drawing.get(name)
        self.drawing[name] = drawing if known is None else known.joined(drawing)
        if drawing.statistics:
            self.tracks(name)
        for statistics in drawing.statistics if self.mode.train else ():
            self.moving.add(*statistics)
        if known is None:
            for attribute in (KEY, RATE, RATE_OF_ALL):
                self._lend_to(name, attribute)
            self.surround(name)

    def draws_in_modes(self) -> None:
        """Note that layers may draw otherwise than torch's dispatcher hands over."""
        self.unforeseen = True
        self.drawing = {name: drawing._replace(dispatched=False) for name, drawing in self.drawing.items()}

    def surround(self, name: str) -> None:
        """Run a layer's forward in a mode of torch where it needs one, and in none where it does not."""
        if name in self.surrounded or name == "":
            return  # the module itself is run in a mode by whoever calls it: its forward, or another method
        self.surrounded.add(name)
        skeleton, run = self, own_forward(self.layers[name])

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            if skeleton.rehearsal is not None:
                return run(self, *args, **kwargs)
            drawing = skeleton.drawing.get(name)
            mode = None if drawing is None else skeleton.mode_around(name, self.__dict__, args)
            if not is_compiling():
                return called_in(mode, run, self, *args, **kwargs)
            with nullcontext() if mode is None else mode:
                return run(self, *args, **kwargs)

        replace_forward(self.layers[name], forward)

    def mode_around(self, name: str, lent: Mapping[str, Any], args: tuple[Any, ...]) -> Keyed | None:
        """The mode of torch around one call of a layer, with what this call lends it; None where it needs none."""
        # Read here rather than kept: a later kind of call may have found out more.
        drawing = self.drawing.get(name)
        if drawing is None or not (drawing.always or needs_formulas() or self._moves(drawing, args)):
            return None
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
            dispatched=drawing.dispatched and not needs_formulas(),
        )

    def _moves(self, drawing: Drawing, args: tuple[Any, ...]) -> bool:
        """Whether a layer is to move batch statistics by formulas."""
        natively = self.moving.natively and not (args and getattr(args[0], "dtype", None) in _HALF)
        return bool(drawing.statistics) and not natively

    def _next_key(self, name: str, lent: Any, stride: int) -> Tensor:
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
        reads: Collection[str],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call what runs the skeleton's module on these tensors; those in `reads` are what they are after it then."""
        if self.lends:
            remedy = "Make a second model of it, fr.from_module(module), for the calls inside."
            _checks.fail("module", f"{self.labels['']}, whose forward calls its own apply", "one that does not", remedy)
        self.lends = True
        self.calls.clear()
        try:
            return self.slots.call(tensors, reads, function, args, kwargs)
        finally:
            self.lends = False

    def call_traced(self, *how: Any) -> Any:
        """The same in a program that is being traced; see `Slots.call_traced`."""
        if not torch.compiler.is_dynamo_compiling():  # which counts otherwise: see _next_key
            self.calls.clear()
        return self.slots.call_traced(*how)

    def _lend_to(self, name: str, attribute: str) -> None:
        self.slots.add(name, self.layers[name], attribute)


def _own_rate(name: str, layer: nn.Module, entry: PureLayer) -> float:
    rate = getattr(layer, str(entry.rate))
    rate = 0.0 if rate is None else rate
    _checks.check_number(f"{name or type(layer).__name__}.{entry.rate}", rate, low=0.0)
    return float(rate)
