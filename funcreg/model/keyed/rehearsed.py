"""The same mode around a whole forward, once: it writes down who calls what."""

import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from types import FunctionType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from ... import random
from ..contents import contents
from ..registry import Draw
from .mode import Keyed, has_replacement

Computed = Mapping[int, weakref.ref[Tensor]]  # by address
# What of a tensor's values is in what these make of it: nothing; only the first argument's.
_LIKE = frozenset(
    getattr(torch, f"{name}_like") for name in ("empty", "zeros", "ones", "full", "rand", "randn", "randint")
)
_NEW = frozenset(getattr(Tensor, f"new_{name}") for name in ("empty", "zeros", "ones", "full", "tensor"))
_CASTS = (Tensor.to, Tensor.type_as)
_READS = (Tensor.__bool__, Tensor.item, Tensor.__float__, Tensor.__int__, Tensor.tolist, Tensor.__index__)
_CONTAINERS = (tuple, list, dict)
_GRAPH = vars(Tensor.__base__)["grad_fn"].__get__  # by which a node gets hooks


class Event(NamedTuple):
    """One call of a function in the table: the layer that made it, and what kind of call it was.

    layer: whose code it was, which reads its own switch. inside: whose forward that ran in.
    kind: "rate" (noise with a rate), "draw" (any other), "statistics" (of a batch, into buffers) or "formula"
    (a kernel that only transforms and compiled programs need replaced), "hook" (one is put on a gradient), or
    "backward" (any of them in the backward pass).
    active: whether it drew, or moved statistics.
    """

    layer: str
    inside: str
    function: str
    kind: str
    active: bool


class Rehearsed(Keyed):
    """A mode around a whole forward that writes down every call, and which layer made it.

    Args:
        layers: by dotted name; labels: what messages call them; pure: the names of those that need no looking at.
        rates: as a call gives them.
        neutral: whether noise with a rate passes its input on, written down all the same.
        evaluates: whether batch statistics are left alone.
        earlier: what a run before this one has computed from its call.
        shaken: the layers whose draws are others.
        reaches: is told of every tensor that is used, and of the layer that runs at each call that is in the table.
    """

    rehearses = True

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
        earlier: Computed | None = None,
        shaken: Set[str] = frozenset(),
        reaches: Callable[[Any], None] = lambda thing: None,
        **settings: Any,
    ) -> None:
        super().__init__("", key, **settings)
        self.layers, self.labels, self.pure, self.rates = layers, labels, pure, rates
        self.names = {id(layer): name for name, layer in layers.items()}
        self.neutral, self.evaluates, self.copies = neutral, evaluates, True
        self.name, self.shaken, self.reaches = "", shaken, reaches
        self.events: list[Event] = []
        self.draws_in: set[str] = set()  # layers, registered ones too, in whose code there was noise or a draw
        self.inside = ""
        self.written: dict[int, tuple[Any, str]] = {}  # address -> a storage that was drawn into, and where
        self.used: set[str] = set()  # layers that use a tensor after a draw into it
        # (where, layer that holds them, name of the mean, of the variance)
        self.running_statistics: list[tuple[str, str, str, str]] = []
        self.generators: list[tuple[torch.Generator, Tensor]] = []  # with their states before the first draw
        self.earlier, self.stale = earlier or {}, set[str]()  # which layers use what is in it
        self.computed: dict[int, weakref.ref[Tensor]] = {}  # from what this call was given
        self.cost = 0  # of the functions so far, each in a mode of torch: in the microseconds that one call takes
        self.read = set[int]()  # tensors, by address, of which others were made by functions that are in no table
        self.new_statistics: list[Tensor] = []
        self.decided = False  # whether a number that was drawn may have decided what runs
        self.leaves: set[str] = set()  # layers that leave code for the backward pass
        self.hooks: set[str] = set()  # those of them that leave hooks on gradients, or may
        self.registers: tuple[str, str] | None = None  # of code in the backward pass: the layer it is of, and inside

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.cost += 6 if isinstance(func, FunctionType) else 1  # which are caught in Python
        given = _tensors((args, kwargs)) if kwargs else _tensors(args)
        if self.written:
            self.uses_written(given)
        for leaf in given:
            self.reaches(leaf)
            if _is_one_of(leaf, self.earlier):
                self.stale.add(running(self.names))
        if has_replacement(func):
            self.reaches(_innermost_layer())
            self.name, self.inside = self.registers or (running(self.names), running(self.names, forwards=True))
            self.layer = self.labels.get(self.name, "")
            self.named = isinstance(self.rates, Mapping)
            self.rate = self.rates.get(self.inside) if isinstance(self.rates, Mapping) else self.rates
        elif func in _READS and any(event.kind == "draw" for event in self.events):
            self.decided = True
        elif func == _GRAPH:
            self.hooks.add(running(self.names))
        made = super().__torch_function__(func, types, args, kwargs)
        if self.computed and func not in _LIKE and func not in _NEW:
            given = given[:1] if func in _CASTS else given
            if any(_is_one_of(leaf, self.computed) for leaf in given):
                self.follow(made)
            if isinstance(made, Tensor) and not has_replacement(func):
                self.read.update(map(id, given))
        return made

    def follow(self, values: Any) -> None:
        """Note tensors that the call is given, or that it computes from those."""
        self.computed.update((id(leaf), weakref.ref(leaf)) for leaf in _tensors(values))

    def draw(self, function: str, own_rate: float | Tensor, *, wakes: bool = True) -> Draw | None:
        drawn = super().draw(function, own_rate, wakes=wakes)
        return None if self.neutral else drawn

    def _advance(self) -> Tensor:
        key = super()._advance()
        return random.fold_in(key, 1) if self.name in self.shaken else key

    def for_backward(self, *, hook: bool = False) -> Self:
        later = super().for_backward(hook=hook)
        later.registers = self.registers or (running(self.names), running(self.names, forwards=True))
        self.leaves.add(later.registers[0])
        if hook:
            self.hooks.add(later.registers[0])
        return later

    def saw(self, function: str, kind: str, active: bool) -> None:
        if kind != "formula":
            self.draws_in |= {self.name, self.inside, *(self.registers or ())}
        if self.registers is not None:
            if active:
                self.events.append(Event(*self.registers, function, "backward", True))
        elif self.name not in self.pure:
            self.events.append(Event(self.name, self.inside, function, kind, active))

    def moved(self, statistics: Sequence[Tensor]) -> None:
        self.follow(statistics)
        self.new_statistics += statistics
        self.read -= set(map(id, statistics))  # which were those of others before

    def reads(self, tensors: Iterable[Tensor]) -> bool:
        """Whether any of these, which have lived on, was read."""
        return not self.read.isdisjoint(map(id, tensors))

    def uses(self, generator: torch.Generator) -> None:
        if all(generator is not known for known, _ in self.generators):
            self.generators.append((generator, generator.get_state()))

    def into(self, target: Tensor, fresh: Tensor) -> Tensor:
        self.drew_into(target, self.inside)
        target.copy_(fresh)
        return fresh.to(target.dtype)

    def drew_into(self, target: Tensor, inside: str) -> None:
        """Look whether a tensor, rather than what a draw into it returned, is used from here on."""
        if not target.numel():
            return  # every empty tensor has the same address
        storage = target.untyped_storage()  # held, so that its address is not another's later
        self.written[storage.data_ptr()] = (storage, inside)

    def uses_written(self, tensors: Iterable[Tensor]) -> None:
        """Note where among some tensors there are those that were drawn into."""
        for leaf in tensors:
            if leaf.layout == torch.strided and not leaf.is_meta:
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


def _tensors(values: Any) -> list[Tensor]:
    """Those among a function's arguments or results: quicker than a pytree's leaves, for every function of a run."""
    if isinstance(values, Tensor):
        return [values]
    found = list[Tensor]()
    for part in contents(values):
        if isinstance(part, Tensor):
            found.append(part)
        elif isinstance(part, _CONTAINERS):
            found += _tensors(part)
    return found


def _is_one_of(tensor: Tensor, known: Computed) -> bool:
    found = known.get(id(tensor))
    return found is not None and found() is tensor


def _innermost_layer() -> nn.Module | None:
    """The layer whose code is running, whichever module it is of."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        if isinstance(first, nn.Module):
            return first
        frame = frame.f_back
    return None


def running(names: Mapping[int, str], *, forwards: bool = False) -> str:
    """The name of the layer whose code is running: the innermost function whose first argument is a layer.

    forwards: only functions called forward count.

    >>> class Layer(nn.Module):
    ...     def forward(self):
    ...         return running({id(self): "block.0"})
    >>> Layer()()
    'block.0'
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
