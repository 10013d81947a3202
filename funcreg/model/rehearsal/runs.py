"""Runs of a call on copies, in plain torch, after each of which everything is as it was."""

import contextlib
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ... import _checks, random
from ..branching import noting
from ..checkpointing import without_checkpoints
from ..handed import copied
from ..keyed import Event, Rehearsed, differentiable_dirichlet, keyed_functions, running
from ..refused import label
from ..skeleton import Skeleton
from . import generators, snapshots
from .originals import Originals


class Call(NamedTuple):
    """A call as it is rehearsed: plain tensors of its own, and the rates as it gives them."""

    tensors: dict[str, Tensor]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    method: str | None
    rates: Any


# What runs have computed from what they were given, and somebody keeps: a cache, stale at the next call.
_computed: dict[int, weakref.ref[Tensor]] = {}
_turn = threading.Lock()  # of the thread that changes it


class Rehearsal:
    """A call on its skeleton, and what runs of it have shown.

    buffers: the names of the module's buffers, and whether each is part of its state dict.
    originals: the modules that the model was made of.
    writable: the names of what comes back in the state when it was written into.
    others_draw: other threads may draw from the global generators meanwhile.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        call: Call,
        buffers: Mapping[str, bool],
        originals: Originals,
        writable: Set[str],
        *,
        others_draw: bool = False,
    ) -> None:
        self.skeleton, self.call, self.buffers, self.originals = skeleton, call, buffers, originals
        self.writable = writable
        self.others_draw = others_draw
        self.layers = skeleton.layers
        self.names = {id(layer): name for name, layer in self.layers.items()}
        self.labels = {name: label(name, layer) for name, layer in self.layers.items()}
        self.own_tensors = snapshots.own_tensors(self.layers)
        self.own_generators = generators.own_generators(self.layers)
        self.checkpoints = self.decided = self.branches = self.branched = False
        self.unseen: set[str] = set()  # draws that no mode of torch sees
        _forget_the_dead()
        self.threads: set[str] = set()  # layers that run in threads of the forward's own
        self.stale: set[str] = set()  # layers that use what a run before has computed
        self.output: Any = None  # of the last run
        self.costs: dict[str, int] = {}  # of a call of each layer that was called, in a mode of torch

    def mode(self, seed: int = 0, **settings: Any) -> Rehearsed:
        """The mode of torch that writes down what a run calls."""
        mode = self.skeleton.mode
        device = next(iter(self.call.tensors.values())).device if self.call.tensors else None
        return Rehearsed(
            self.layers,
            self.labels,
            self.skeleton.pure,
            random.key(seed, device=device) if mode.noise else None,
            rates=self.call.rates,
            train=mode.train,
            unrolled=self.skeleton.unrolled,
            earlier=_computed,
            reaches=self._reaches,
            **settings,
        )

    def generators(self) -> generators.Generators:
        """Those that a run may draw from, from now on."""
        return generators.Generators(self.own_generators, self.others_draw)

    def run(self, seed: int = 0, **settings: Any) -> list[Event]:
        """The calls of functions in the table that a run on fresh copies makes; everything is put back after it."""
        seen = self.mode(seed, **settings)
        self.run_and_put_back(seen, *self.copied())
        return [event for event in seen.events if not self.skeleton.is_frozen(event.layer)]

    def run_and_put_back(
        self, seen: Rehearsed, tensors: dict[str, Tensor], args: Any, kwargs: Any, **watching: Callable[..., None]
    ) -> None:
        """A run on these very tensors, as `run_on` has it, after which everything but them is as it was."""
        states = self.generators()
        try:
            with snapshots.put_back(self.layers), snapshots.values_put_back(self.own_tensors):
                self.output = self.run_on(seen, tensors, args, kwargs, **watching)
        finally:
            self.unseen |= set(states.put_back())
            self.decided = self.decided or seen.decided

    def run_on(
        self,
        seen: Rehearsed,
        tensors: dict[str, Tensor],
        args: Any,
        kwargs: Any,
        *,
        then: Callable[[Any], None] = lambda output: None,
        otherwise: Callable[[], None] = lambda: None,
    ) -> Any:
        """One run on these very tensors.

        Args:
            then: gets its output while the module still has them.
            otherwise: called for code that is left for the backward pass where no mode sees it.
        """
        module, method = self.skeleton.module, self.call.method
        function = module if method is None else getattr(module, method)

        def watched(*args: Any, **kwargs: Any) -> Any:
            with (
                seen,
                self._looking_at_calls(seen),
                without_checkpoints(),
                differentiable_dirichlet(),
                keyed_functions(otherwise),
                noting(lambda: len(seen.new_statistics)) as noted,
            ):
                output = function(*args, **kwargs)
            self.branches, self.branched = self.branches or noted.any, self.branched or noted.moving
            then(output)
            return output

        self.skeleton.rehearsal = seen
        seen.follow((tensors, args, kwargs))
        try:
            output = self.skeleton.call(tensors, list(tensors), watched, args, kwargs)
        finally:
            self.skeleton.rehearsal = None
            own = set(map(id, self.own_tensors.values()))  # which are put back by value
            with _turn:
                _computed.update({place: made for place, made in seen.computed.items() if place not in own})
            self.stale |= seen.stale
        seen.uses_written(leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor))
        return output

    def _reaches(self, thing: Any) -> None:
        """Refuse a layer or tensor of the module itself."""
        name = self.originals.name_of(thing)
        if name is None:
            return
        got = f"{self.labels[running(self.names)]}, which reaches {name or 'all'} of the module itself, not the copy's"
        remedy = "Keep it as an attribute of a layer, not in a variable of the file, a class or an object of its own."
        _checks.fail("module", got, "one whose code finds its layers and tensors by itself", remedy)

    @contextlib.contextmanager
    def _looking_at_calls(self, seen: Rehearsed) -> Iterator[None]:
        """Look, at each call of a layer, whether it is a copy, or a call that the backward pass would run again."""

        caller, began = threading.get_ident(), list[int]()
        checkpoints = "torch.utils.checkpoint" in sys.modules

        def begins(layer: nn.Module, *_: Any) -> None:
            began.append(seen.cost)
            self._refuse_copy(layer)
            if threading.get_ident() != caller:
                self.threads.add(self.labels[self.names[id(layer)]])
            if checkpoints and not self.checkpoints:
                self.checkpoints = _is_called_from("torch.utils.checkpoint")

        def ends(layer: nn.Module, *_: Any) -> None:
            self.costs[self.names.get(id(layer), "")] = seen.cost - began.pop()

        layers = hooked(self.layers)
        handles = [layer.register_forward_pre_hook(begins) for _, layer in layers]
        handles += [layer.register_forward_hook(ends, always_call=True) for _, layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _refuse_copy(self, layer: nn.Module) -> None:
        runs = vars(layer).get("forward")
        if isinstance(runs, types.MethodType) and runs.__self__ is not layer and id(runs.__self__) in self.names:
            did = f"{self.labels[self.names[id(runs.__self__)]]}, of which the forward runs a copy"
            remedy = "Call the layer itself, or make the copy when the module is built."
            _checks.fail("module", did, "a forward that copies no layers", remedy)

    def copied(self) -> tuple[dict[str, Tensor], tuple[Any, ...], dict[str, Any]]:
        """The call's tensors and arguments, as copies of its own."""
        clones = {id(tensor): tensor.clone() for tensor in self.call.tensors.values()}  # ties stay ties
        tensors = {name: clones[id(tensor)] for name, tensor in self.call.tensors.items()}
        return tensors, *copies((self.call.args, self.call.kwargs))


def _forget_the_dead() -> None:
    with _turn:
        for place in [place for place, made in _computed.items() if made() is None]:
            del _computed[place]


def _is_called_from(module: str) -> bool:
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == module:
            return True
        frame = frame.f_back
    return False


def hooked(layers: Mapping[str, nn.Module]) -> list[tuple[str, nn.Module]]:
    """The layers that take hooks: all but TorchScript's."""
    return [(name, layer) for name, layer in layers.items() if not isinstance(layer, torch.jit.ScriptModule)]


def copies(arguments: Any) -> Any:
    """Arguments whose tensors and objects are copies, where they can be."""

    def copy_of(tensor: Tensor) -> Tensor:
        clone = tensor.detach().clone()
        return clone.requires_grad_() if tensor.requires_grad and clone.is_floating_point() else clone

    return copied(arguments, copy_of, if_possible=True)


def innermost(error: BaseException, names: Mapping[int, str], among: set[str]) -> str | None:
    """Which of some layers was running, innermost, when an error was raised."""
    found, trace = None, error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        first = trace.tb_frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        if isinstance(first, nn.Module) and names.get(id(first)) in among:
            found = names[id(first)]
        trace = trace.tb_next
    return found


def running_at(error: BaseException, skeleton: Skeleton) -> str:
    """The layer, as messages call it, that was running when an error was raised."""
    names = {id(layer): name for name, layer in skeleton.layers.items()}
    name = innermost(error, names, set(skeleton.layers)) or ""
    return label(name, skeleton.layers[name])
