"""Every draw in a forward from the call's key: one mode of torch that takes all its random functions.

While a layer with draws of its own runs, the mode sees each function of torch that is called,
wherever the code that calls it lives, and replaces those in the table: what draws by keyed draws
(`draws.py`), what has a rate by keyed noise (`functional.py`), batch statistics by ones that are
assigned (`statistics.py`), kernels that transforms do not take by formulas.

Noise with a rate is off without a key. A draw without one (`torch.randn`) has no off: it is refused.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from .. import _checks, random
from .._functorch import in_transform, is_wrapped, outside_transforms
from .registry import Draw

_READS = (Tensor.__bool__, Tensor.item, Tensor.__float__, Tensor.__int__, Tensor.tolist, Tensor.__index__)
# What makes a tensor that a draw may then be written into.
_MAKERS = frozenset(
    (
        *(torch.empty, torch.zeros, torch.ones, torch.full, torch.empty_strided),
        *(torch.empty_like, torch.zeros_like, torch.ones_like, torch.full_like),
        *(Tensor.new_empty, Tensor.new_zeros, Tensor.new_ones, Tensor.new_full, Tensor.new_tensor),
    )
)
CALL_STRIDE = 2**34  # draws between two calls on one key: more than one call can make

Replacement = Callable[..., Any]
# function of torch -> its replacement: (the mode, the function, its arguments) -> what it returns
_table: dict[Any, Replacement] = {}


def replaces(*functions: Any) -> Callable[[Replacement], Replacement]:
    """Put a replacement into the table, for functions of torch that this version has.

    >>> @replaces(None)  # a name that torch does not have
    ... def nothing(keyed, function, x):
    ...     return x
    >>> None in _table
    False
    """

    def put(replacement: Replacement) -> Replacement:
        for function in functions:
            if function is not None:
                _table[function] = replacement
        return replacement

    return put


def replaced() -> Iterable[Any]:
    """The functions of torch that have a replacement."""
    return _table.keys()


class LayerGenerator(torch.Generator):
    """In a copied module, what stands for a generator that a layer keeps."""


class Event(NamedTuple):
    """One call of a function in the table: the layer that made it, and what kind of call it was.

    layer: whose code it was, which reads its own switch. inside: whose forward that ran in.
    kind: "rate" (noise with a rate), "draw" (any other), "statistics" (of a batch, into buffers) or "formula"
    (a kernel that only transforms and compiled programs need replaced).
    active: whether it drew, or moved statistics.
    """

    layer: str
    inside: str
    function: str
    kind: str
    active: bool


class Keyed(TorchFunctionMode):
    """Replaces what is in the table inside the block, each draw with a key of its own.

    Args:
        layer: the name of the layer that runs, for messages.
        key: int64 (2,), or None: noise passes its input on, other draws are refused.
        rate: in place of each call's own, or None to keep it.
        named: whether the rate is for this layer by name, rather than for all.
        train: whether this is a training step, where noise without a key is an error.
        momentum: of batch statistics, in place of each call's own, or None.
        statistics: the layer's running statistics: (its buffers, name of the mean, name of the variance) each.
        copies: whether draws in place are copied into their tensor, since it is used after them.
        unrolled: whether recurrence is a loop over time.
        quiet: whether noise with a rate is off all the same: a part that evaluates while the rest trains.
    """

    def __init__(
        self,
        layer: str,
        key: Tensor | None,
        *,
        rate: float | Tensor | None = None,
        named: bool = False,
        train: bool = False,
        momentum: float | Tensor | None = None,
        statistics: tuple[tuple[dict[str, Any], str, str], ...] = (),
        copies: bool = False,
        unrolled: bool = False,
        quiet: bool = False,
    ) -> None:
        super().__init__()
        self.quiet, self.evaluates = quiet, False
        self.layer, self.key, self.rate, self.named, self.train = layer, key, rate, named, train
        self.momentum, self.statistics, self.copies, self.unrolled = momentum, statistics, copies, unrolled

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        replacement = _table.get(func)
        if replacement is None:
            made = func(*args, **(kwargs or {}))
            return self._of_members(made) if self.copies and func in _MAKERS else made
        return replacement(self, func, *args, **(kwargs or {}))

    def next_key(self, function: str) -> Tensor:
        """The key of one draw; refused where the call has none."""
        self.saw(function, "draw", True)
        if self.key is None:
            self.needs_key(function)
        if self.rate is not None and not self.named:
            _checks.fail(
                "rates",
                "one rate for all noise",
                f"rates by layer, since {self.layer} draws by {function}, whose rate is not known",
                "Name the layers that it is for, rates={name: rate}, or register this one: fr.register_layer.",
            )
        return self._advance()

    def draw(self, function: str, own_rate: float | Tensor, *, wakes: bool = True) -> Draw | None:
        """The key and the rate of one call of noise, or None where it is off.

        wakes: whether a rate for all noise turns on a call whose own is 0.
        """
        known = not isinstance(own_rate, Tensor)
        silent = known and own_rate == 0
        rate = own_rate if self.rate is None or (silent and not wakes and not self.named) else self.rate
        off = not isinstance(rate, Tensor) and rate == 0
        self.saw(function, "rate", not silent)
        if self.key is None:
            if self.train and not off and not self.quiet:
                self.needs_key(function)
            return None
        return None if off or self.quiet else Draw(self._advance(), rate)

    def saw(self, function: str, kind: str, active: bool) -> None:
        """Hear of a call; a rehearsal writes it down."""

    def uses(self, generator: torch.Generator) -> None:
        """Hear of a draw from a generator of the forward's own; a rehearsal looks what becomes of it."""

    def natively(self, function: Any, *args: Any, **settings: Any) -> Any:
        """Call torch's own draw, whose generator is the forward's own: the same for every member of a vmap."""
        if not in_transform() or any(isinstance(arg, Tensor) and is_wrapped(arg) for arg in args):
            return function(*args, **settings)
        return outside_transforms(lambda: function(*args, **settings))

    def find_statistics(self, mean: Tensor, var: Tensor) -> tuple[dict[str, Any], str, str] | None:
        """Where these running statistics are kept, as (buffers, name of the mean, of the variance), if by the layer."""
        for buffers, mean_name, var_name in self.statistics:
            if buffers[mean_name] is mean and buffers[var_name] is var:
                return buffers, mean_name, var_name
        return None

    def into(self, target: Tensor, fresh: Tensor) -> Tensor:
        """The result of a draw into a tensor: a new one, or where it is used afterwards the tensor itself."""
        return target.copy_(fresh) if self.copies else fresh.to(target.dtype)

    def _of_members(self, made: Tensor) -> Tensor:
        """A tensor just made, with an axis of every vmap that the key has, so that draws can be written into it."""
        if self.key is None or not (torch.compiler.is_compiling() or is_wrapped(self.key)):
            return made
        return made + (self.key[0] * 0).to(made.dtype)

    def needs_key(self, function: str) -> NoReturn:
        """Refuse a draw in a call without a key."""
        _checks.fail(
            "key", None, f"a key, since {self.layer} draws (torch's {function})", "Pass key=fr.random.key(seed)."
        )

    def cannot(self, function: str, why: str) -> NoReturn:
        """Refuse what has no keyed form."""
        remedy = "Write it with fr.random and a key, or register a pure forward for the layer: fr.register_layer."
        got = f"{self.layer}, which calls torch's {function} {why}"
        _checks.fail("module", got, "a draw that can be keyed", remedy)

    def _advance(self) -> Tensor:
        assert self.key is not None
        key, self.key = self.key, random.skip(self.key, CALL_STRIDE)
        return key


class Rehearsed(Keyed):
    """A mode around a whole forward that writes down every call, and which layer made it.

    Args:
        layers: by dotted name; labels: what messages call them; pure: the names of those that need no looking at.
        rates: as a call gives them.
        neutral: whether noise with a rate passes its input on, written down all the same.
        evaluates: whether batch statistics are left alone.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        labels: Mapping[str, str],
        pure: Set[str],
        key: Tensor | None,
        *,
        rates: Any = None,
        neutral: bool = False,
        evaluates: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__("", key, **settings)
        self.layers, self.labels, self.pure, self.rates = layers, labels, pure, rates
        self.names = {id(layer): name for name, layer in layers.items()}
        self.neutral, self.evaluates, self.copies = neutral, evaluates, True
        self.name = ""
        self.events: list[Event] = []
        self.inside = ""
        self.written: dict[int, tuple[Any, str]] = {}  # address -> a storage that was drawn into, and where
        self.used: set[str] = set()  # layers that use a tensor after a draw into it
        # (where, layer that holds them, name of the mean, of the variance)
        self.running_statistics: list[tuple[str, str, str, str]] = []
        self.generators: list[tuple[torch.Generator, Tensor]] = []  # with their states before the first draw
        self.decided = False  # whether a number that was drawn may have decided what runs

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self.written:
            self.uses_written((args, kwargs))
        if func in _table:
            self.name, self.inside = running(self.names), running(self.names, forwards=True)
            self.layer = self.labels.get(self.name, "")
            self.named = isinstance(self.rates, Mapping)
            self.rate = self.rates.get(self.inside) if isinstance(self.rates, Mapping) else self.rates
        elif func in _READS and any(event.kind == "draw" for event in self.events):
            self.decided = True
        return super().__torch_function__(func, types, args, kwargs)

    def draw(self, function: str, own_rate: float | Tensor, *, wakes: bool = True) -> Draw | None:
        drawn = super().draw(function, own_rate, wakes=wakes)
        return None if self.neutral else drawn

    def saw(self, function: str, kind: str, active: bool) -> None:
        if self.name not in self.pure:
            self.events.append(Event(self.name, self.inside, function, kind, active))

    def uses(self, generator: torch.Generator) -> None:
        if all(generator is not known for known, _ in self.generators):
            self.generators.append((generator, generator.get_state()))

    def into(self, target: Tensor, fresh: Tensor) -> Tensor:
        self.drew_into(target, self.inside)
        target.copy_(fresh)
        return fresh.to(target.dtype)

    def drew_into(self, target: Tensor, inside: str) -> None:
        """Look whether a tensor, rather than what a draw into it returned, is used from here on."""
        storage = target.untyped_storage()  # held, so that its address is not another's later
        self.written[storage.data_ptr()] = (storage, inside)

    def uses_written(self, values: Any) -> None:
        """Note where among some values there are tensors that were drawn into."""
        for leaf in pytree.tree_leaves(values):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided and not leaf.is_meta:
                _, inside = self.written.get(leaf.untyped_storage().data_ptr(), (None, None))
                if inside is not None:
                    self.used.add(inside)

    def find_statistics(self, mean: Tensor, var: Tensor) -> tuple[dict[str, Any], str, str] | None:
        for owner, layer in self.layers.items():
            slots = {id(tensor): slot for slot, tensor in layer._buffers.items()}
            if id(mean) in slots and id(var) in slots:
                if self.name not in self.pure:
                    self.running_statistics.append((self.inside, owner, slots[id(mean)], slots[id(var)]))
                return layer._buffers, slots[id(mean)], slots[id(var)]
        return None


def running(names: Mapping[int, str], *, forwards: bool = False) -> str:
    """The name of the layer whose code is running: the innermost function whose first argument is a layer.

    forwards: only functions called forward count.
    """
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_argcount and (not forwards or code.co_name == "forward"):
            first = frame.f_locals.get(code.co_varnames[0])
            if isinstance(first, nn.Module) and id(first) in names:
                return names[id(first)]
        frame = frame.f_back
    return ""
