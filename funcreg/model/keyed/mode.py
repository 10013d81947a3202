"""The mode of torch that takes every draw in a forward from the call's key, wherever the code that draws lives."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ... import _checks, random
from ..._compiling import is_compiling
from ..._functorch import in_transform, is_wrapped, outside_transforms
from ..registry import Draw

# What makes a tensor that a draw may then be written into.
_MAKERS = frozenset(
    (
        *(torch.empty, torch.zeros, torch.ones, torch.full, torch.empty_strided),
        *(torch.empty_like, torch.zeros_like, torch.ones_like, torch.full_like),
        *(Tensor.new, Tensor.new_empty, Tensor.new_zeros, Tensor.new_ones, Tensor.new_full, Tensor.new_tensor),
    )
)
CALL_STRIDE = 2**34  # draws between two calls on one key: more than one call can make
_BACKWARD = 2**47  # where on a layer's key those of its code in the backward pass begin

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


def has_replacement(function: Any) -> bool:
    """Whether a function of torch is in the table.

    >>> has_replacement(torch.sin)
    False
    """
    return function in _table


def replacement_of(function: Any) -> Replacement:
    """What is in the table for a function of torch."""
    return _table[function]


def makes_anew(function: Any) -> bool:
    """Whether a function of torch makes a tensor of values that no other has.

    >>> makes_anew(torch.zeros)
    True
    """
    return function in _MAKERS


class LayerGenerator(torch.Generator):
    """In a copied module, what stands for a generator that a layer keeps."""


class Drawing(NamedTuple):
    """What a layer with draws of its own needs: how a mode of torch runs around its forward.

    always: in every call, since it draws, rather than only inside of transforms and compiled programs.
    copies: draws in place are copied into their tensor, since it is used after them.
    statistics: the running statistics that it moves: (the layer that holds them, name of the mean, of the variance).
    dispatched: all that it draws, torch's dispatcher hands over outside of transforms: no mode is needed there.
    """

    always: bool = False
    copies: bool = False
    statistics: tuple[tuple[str, str, str], ...] = ()
    dispatched: bool = False

    def joined(self, other: "Drawing") -> "Drawing":
        both = tuple(dict.fromkeys((*self.statistics, *other.statistics)))
        dispatched = self.dispatched and other.dispatched
        return Drawing(self.always or other.always, self.copies or other.copies, both, dispatched)


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
        dispatched: whether it does not stand as a mode, but is what torch's dispatcher hands draws over to.
    """

    rehearses = False

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
        dispatched: bool = False,
    ) -> None:
        super().__init__()
        self.dispatched, self.met_another = dispatched, False
        self.quiet, self.evaluates, self.draws, self.left = quiet, False, 0, 0
        self.layer, self.key, self.rate, self.named, self.train = layer, key, rate, named, train
        self.momentum, self.statistics, self.copies, self.unrolled = momentum, statistics, copies, unrolled

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _table:
            return _table[func](self, func, *args, **(kwargs or {}))
        made = func(*args, **kwargs) if kwargs else func(*args)
        return self._of_members(made) if self.copies and makes_anew(func) else made

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
        self.saw(function, "rate", not off)
        if self.key is None:
            if self.train and not off and not self.quiet:
                self.needs_key(function)
            return None
        return None if off or self.quiet else Draw(self._advance(), rate)

    def in_backward(self, function: Callable[..., Any], *, hook: bool = False) -> Callable[..., Any]:
        """A function that is left for the backward pass, in a mode like this one with a key of its own.

        hook: whether it is a hook on a gradient.
        """
        if torch.compiler.is_dynamo_compiling():
            return function  # it is traced with the program; one that draws is refused there
        later = self.for_backward(hook=hook)

        def run(*args: Any, **kwargs: Any) -> Any:
            later.draws = later.left = 0  # another backward pass through the same graph is the same
            with later:
                return function(*args, **kwargs)

        return run

    def for_backward(self, *, hook: bool = False) -> Self:
        """A mode like this one, with a key of its own, for code that is left for the backward pass."""
        later = copy.copy(self)
        later.draws = later.left = 0
        if self.key is not None:
            later.key = random.fold_in(random.skip(self.key, _BACKWARD), self.left)
        self.left += 1
        return later

    def saw(self, function: str, kind: str, active: bool) -> None:
        """Hear of a call; a rehearsal writes it down."""

    def moved(self, statistics: Sequence[Tensor]) -> None:
        """Hear of running statistics that were just assigned; a rehearsal looks who reads them."""

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
        if self.key is None or not (is_compiling() or is_wrapped(self.key)):
            return made
        return made + (self.key[0] * 0).to(made.dtype)

    def needs_key(self, function: str) -> NoReturn:
        """Refuse a draw in a call without a key."""
        remedy = "Pass key=fr.random.key(seed)" + ("." if self.train else ", or draw only in training, if that is all.")
        _checks.fail("key", None, f"a key, since {self.layer} draws (torch's {function})", remedy)

    def cannot(self, function: str, why: str) -> NoReturn:
        """Refuse what has no keyed form."""
        remedy = "Write it with fr.random and a key, or register a pure forward for the layer: fr.register_layer."
        got = f"{self.layer}, which calls torch's {function} {why}"
        _checks.fail("module", got, "a draw that can be keyed", remedy)

    def _advance(self) -> Tensor:
        assert self.key is not None
        self.draws += 1
        return random.skip(self.key, (self.draws - 1) * CALL_STRIDE) if self.draws > 1 else self.key
