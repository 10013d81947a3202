"""What calls of a kind need: a run of the call as it will be made, and a look at what it did."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ... import _checks
from ..._functorch import in_transform
from ..branching import branching
from ..checkpointing import without_checkpoints
from ..handed import tensors_in
from ..keyed import Drawing, Rehearsed, differentiable_dirichlet, handed_over, keyed_functions
from ..registry import MOMENTUM
from ..skeleton import KEY, RATE, RATE_OF_ALL
from .backward import Backward, rehearse_backward
from .differences import difference, same_values
from .generators import Generators, outlived
from .noise import ancestors, check_state_is_kept
from .purity import Impurity, Spy, versions
from .repeats import carried_over, unrepeatable
from .runs import Rehearsal, hooked
from .snapshots import Snapshot, put_back, values_put_back

_COST_OF_NONE = 2  # microseconds, to leave a mode of torch for the call of a layer
_LENT = (KEY, RATE, RATE_OF_ALL, MOMENTUM)


@dataclass(frozen=True)
class Plan:
    """What calls of a kind need.

    rateable: the layers whose noise a rate reaches. moves: the attributes of layers that a forward changes,
    (layer, attribute) each. setters: layers that hold other things that it changes. written: what of the state is
    written in place, and so is lent as copies. touched: parameters that are, and keep their values. resets: buffers
    that keep their old value. copies_inputs: inputs are written in place; fills_inputs: lists or objects among them
    are. checkpoints: some part is run again in the backward pass. backward: what gradients need, if anything.
    dirichlet: such a distribution is drawn from. threads: the layers that run in threads of the forward's own.
    branches: `torch.cond` is called; branched: and a branch moves batch statistics.
    impure: what cannot be made pure.
    """

    rateable: frozenset[str] = frozenset()
    moves: tuple[tuple[str, str], ...] = ()
    setters: tuple[str, ...] = ()
    written: frozenset[str] = frozenset()
    resets: tuple[str, ...] = ()
    copies_inputs: bool = False
    fills_inputs: bool = False
    checkpoints: bool = False
    backward: Backward | None = None
    dirichlet: bool = False
    threads: str = ""
    branches: bool = False
    branched: bool = False
    impure: tuple[Impurity, ...] = ()
    touched: frozenset[str] = frozenset()

    @functools.cached_property
    def plain(self) -> bool:
        """Whether nothing is to be around a call, or looked at before it."""
        around = self.setters or self.checkpoints or self.dirichlet or self.branches or self.threads
        return not (around or self.copies_inputs or self.fills_inputs) and self.backward is None

    def joined(self, other: "Plan") -> "Plan":
        """What serves the calls of both."""
        return Plan(*(_both(getattr(self, each.name), getattr(other, each.name)) for each in fields(self)))

    def contexts(self, layers: Mapping[str, nn.Module]) -> Iterator[contextlib.AbstractContextManager[Any]]:
        """What is around a call, for which there are these layers."""
        if self.setters:
            yield put_back({name: layers[name] for name in self.setters})
        if self.checkpoints:
            yield without_checkpoints()
        if self.backward:
            yield keyed_functions()
        if self.branches:
            yield branching(moving=self.branched)
        if self.dirichlet:
            yield differentiable_dirichlet()

    def check(self, arguments: Any) -> None:
        """Refuse a call inside of a transform that would not be right."""
        if self.threads and in_transform():
            did = f"{self.threads}, which the forward runs in another thread, where no transform follows"
            _checks.fail("module", did, "one that runs in the thread of its call", "Call it outside of the transform.")
        if self.backward is not None:
            self.backward.check(arguments)


def _both(one: Any, other: Any) -> Any:
    if type(one) is tuple:
        return tuple(dict.fromkeys((*one, *other)))
    return one | other if isinstance(one, bool | frozenset) else other or one


def plan(rehearsal: Rehearsal) -> Plan:
    """Run the call as it will be made, and look at what it did; teach the skeleton which of its layers draw."""
    skeleton = rehearsal.skeleton
    tensors, args, kwargs = rehearsal.copied()
    inputs = tensors_in((args, kwargs))
    given, filled = [each.detach().clone() for each in inputs], Snapshot.of_arguments((args, kwargs))
    lent, seen = dict(tensors), rehearsal.mode()
    snapshot, generators = Snapshot(rehearsal.layers), rehearsal.generators()
    try:
        with values_put_back(rehearsal.own_tensors) as own:
            output = rehearsal.run_on(seen, tensors, args, kwargs)
        made = _made_parameters(rehearsal)
        _refuse_what_runs_later(rehearsal, output)
    finally:
        moves, caches = skeleton.slots.moved, skeleton.slots.moved_caches()
        setters, fills = snapshot.changed(), bool(filled.changed())
        snapshot.put_back()
        drew = generators.put_back()
    drew += outlived(seen.generators)
    ran = skeleton.noise.keys() & skeleton.calls.keys()
    _learn(rehearsal, seen)
    moving = skeleton.moving
    moving.able = moving.able and not seen.reads([*seen.new_statistics, *(lent[name] for name in moving.names)])
    written, resets, impure = _written(rehearsal, lent, tensors)
    impure += [(name, f"writes into {name} in place") for name in own]
    impure += made
    if impure or drew:
        return Plan(impure=named(rehearsal, impure, drew))
    if moves and (kept := carried_over(rehearsal)):
        return Plan(impure=kept)
    backward, draws, again = rehearse_backward(rehearsal)
    if again is None or rehearsal.stale or difference(output, again, repeated=True):
        unlike = unrepeatable(rehearsal, output, runs=1 if again is None else 2)
        if unlike:
            return Plan(impure=unlike)
    for layer in {event.inside for event in draws}:
        skeleton.learns(layer, Drawing(always=True))
    _learn_silence(rehearsal, seen)
    if skeleton.mode.noise and not skeleton.mode.train:
        check_state_is_kept(rehearsal, lent, tensors, written)
    rates = {event.inside for event in seen.events if event.kind == "rate"}
    return Plan(
        frozenset(rates | ran),
        tuple(moves),
        tuple(sorted(setters)),
        frozenset(written),
        tuple(dict.fromkeys((*resets, *caches))),
        any(not same_values(one, other) for one, other in zip(inputs, given, strict=True)),
        fills,
        rehearsal.checkpoints,
        backward,
        any(event.function == "_sample_dirichlet" for event in seen.events),
        ", ".join(sorted(rehearsal.threads)),
        rehearsal.branches,
        rehearsal.branched,
    )


def _refuse_what_runs_later(rehearsal: Rehearsal, output: Any) -> None:
    """Refuse a result that is code rather than values: after the call a layer has no values of its own."""
    for leaf in pytree.tree_leaves(output):
        if isinstance(leaf, Iterator | nn.Module | functools.partial) or inspect.isroutine(leaf):
            did = f"{rehearsal.labels['']}, whose forward returns a {type(leaf).__name__}, which runs after the call"
            _checks.fail("module", did, "one that returns tensors", "Compute them in the forward: list(generator).")


def _made_parameters(rehearsal: Rehearsal) -> list[tuple[str, str]]:
    """(name, what was done) of each parameter that the forward has made: one that nobody could train or save."""
    now = (name for name, _ in rehearsal.skeleton.module.named_parameters(remove_duplicate=False))
    return [(name, f"makes the parameter {name}") for name in now if name not in rehearsal.skeleton.slots.places]


def _learn(rehearsal: Rehearsal, seen: Rehearsed) -> None:
    """Teach the skeleton which layers draw by themselves, and how."""
    skeleton = rehearsal.skeleton
    statistics: dict[str, list[Any]] = {}
    for inside, *held in seen.running_statistics:
        statistics.setdefault(inside, []).append(tuple(held))
    rated = skeleton.mode.rated
    for name in {event.inside for event in seen.events}:
        own = [event for event in seen.events if event.inside == name]
        noise = (e for e in own if e.kind not in ("formula", "statistics"))
        always = any(e.active or (rated and e.kind == "rate") for e in noise)
        found = tuple(dict.fromkeys(statistics.get(name, ())))
        dispatched = name not in seen.used and all(handed_over(e.function, e.kind) for e in own)
        skeleton.learns(name, Drawing(always, name in seen.used, found, dispatched))
    skeleton.writes |= seen.used & set(skeleton.noise)


def _learn_silence(rehearsal: Rehearsal, seen: Rehearsed) -> None:
    """Teach the skeleton which layers, right inside of one that draws, ran without a draw in their own code."""
    skeleton, costs = rehearsal.skeleton, rehearsal.costs
    for name, _ in hooked(rehearsal.layers):
        around = skeleton.drawing.get(next((outer for outer in ancestors(name) if outer in costs), ""))
        silent = name not in seen.draws_in and costs.get(name, 0) > _COST_OF_NONE
        if silent and around is not None and around.always and not (around.copies or around.dispatched):
            skeleton.surround(name)


def _written(
    rehearsal: Rehearsal, lent: dict[str, Tensor], tensors: dict[str, Tensor]
) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """(what of the state is written in place, buffers to reset, [(name, what was done to it)])."""
    written, resets, impure = [], [], []
    slots = rehearsal.skeleton.slots.places
    kept = {(id(slots[name][0]), slots[name][1]) for name in rehearsal.buffers}
    for (name, tensor), version in zip(lent.items(), versions(lent.values()), strict=True):
        if name.rpartition(".")[2] in _LENT:
            continue
        if version or not same_values(tensor, rehearsal.call.tensors[name]):
            if name in rehearsal.writable:
                written.append(name)
            else:
                impure.append((name, f"writes into {name} in place"))
        after = tensors[name]
        if after is tensor:
            continue
        if name not in rehearsal.buffers:
            if (id(slots[name][0]), slots[name][1]) not in kept:  # under another name of its layer
                impure.append((name, f"replaces the parameter {name}"))
            continue
        if not isinstance(after, Tensor) or after.shape != tensor.shape:
            if rehearsal.buffers[name]:
                got = _checks.describe(after)
                impure.append((name, f"replaces {name} ({_checks.describe(tensor)}) by {got}"))
            else:
                resets.append(name)  # a cache
    return written, resets, impure


def named(
    rehearsal: Rehearsal, impure: list[tuple[str, str]], drew: list[str], **settings: Any
) -> tuple[Impurity, ...]:
    """With the layer that did it: another run, under a spy that sees every operator."""
    tensors, args, kwargs = rehearsal.copied()
    alive = list(tensors.values())  # no address is another tensor's while it is watched
    watched = {
        tensor.untyped_storage().data_ptr(): name
        for name, tensor in {**rehearsal.own_tensors, **tensors}.items()
        if tensor.numel()
    }
    spy = Spy(watched, rehearsal.names, rehearsal.labels)
    generators = rehearsal.generators()
    who: dict[str, str] = {}
    try:
        with (
            put_back(rehearsal.layers),
            values_put_back(rehearsal.own_tensors),
            spy,
            _who_draws(rehearsal, generators, who),
        ):
            rehearsal.run_on(rehearsal.mode(**settings), tensors, args, kwargs)
    finally:
        generators.put_back()
        alive.clear()
    told_of = [found for found in spy.found if found.did in (*(did for _, did in impure), *drew)]
    told = {found.did for found in told_of}
    for name, did in impure:
        if did not in told:
            owner = name.rpartition(".")[0]
            told_of.append(Impurity(rehearsal.labels.get(owner, rehearsal.labels[""]), did, ""))
    for did in drew:
        if did not in told:
            told_of.append(Impurity(rehearsal.labels[who.get(did, "")], did, ""))
    return tuple(told_of)


@contextlib.contextmanager
def _who_draws(rehearsal: Rehearsal, generators: Generators, who: dict[str, str]) -> Iterator[None]:
    """Note the layer whose forward moves a generator that tells nobody."""

    running = [""]

    def note() -> None:
        for did in generators.moved():
            who.setdefault(did, running[-1])

    def enters(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            note()  # what has moved so far, the layer around has moved
            running.append(name)

        return hook

    def leaves(*_: Any) -> None:
        note()
        running.pop()

    handles = []
    for name, layer in hooked(rehearsal.layers):
        handles.append(layer.register_forward_pre_hook(enters(name)))
        handles.append(layer.register_forward_hook(leaves, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
