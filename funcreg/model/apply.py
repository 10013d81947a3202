"""`apply`: one call of a module as a function of its parameters, state, inputs, key and mode."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from typing import Any

import optree
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .. import _checks, _generators, random
from .._compiling import is_compiling
from .._functorch import in_transform, traced_as_constant
from . import traced
from .arguments import Signature, joined, kind_of, persistent, ties, writable
from .building import Params, State, recipe
from .copies import Eager, Traced
from .explained import draws_in_transform, explained
from .handed import copied, refuse_objects
from .keyed import Keyed, Unforeseen, called_in, guarded, no_modes, undrawn
from .lending import Given, Rates, lend
from .members import MadeByMembers, writes_into_what_members_share
from .modes import Mode
from .planning import Planner
from .protected import Protected
from .prototype import prototype
from .registry import MOMENTUM
from .rehearsal import Impurity, Originals, Plan, Watch, refused
from .rehearsal.generators import GLOBAL_DRAWS
from .skeleton import KEY, RATE, RATE_OF_ALL, Skeleton
from .writing import Writers

Moves = tuple[tuple[str, str], ...]
# of a Plan: resets, written, moves, copies_inputs; and the attribute that keeps the skeleton
Planned = tuple[tuple[str, ...], tuple[str, ...], Moves, bool, str]
_MANY_DRAWS = 4  # noise layers above which compiled draws are native: each pure one takes 4 s to compile
_NOTHING: frozenset[str] = frozenset()
_NAMED = "fr.check(model, *inputs) names the layer. "
_identities = itertools.count()


class Apply:
    """The `apply` of a `Model`; see there."""

    def __init__(self, module: nn.Module, *, rnn: str, factory: Callable[[], nn.Module] | None = None) -> None:
        self.source, self.identity, self.factory = prototype(module), next(_identities), factory
        self.originals = Originals(module)
        self.eager, self.traced = Eager(self.source, rnn), Traced(self.source, rnn)
        first = self.eager.skeleton(Mode(noise=False, rated=False, train=False))
        self.rates, self.tracked = first.noise, first.tracked
        self.signature = Signature(module, self.source, first.noise, first.trains, first.layers.keys())
        self.buffers = [name for name, _ in module.named_buffers()]
        self.writable = writable(module)
        self.written = self.writable.intersection(self.buffers)
        self.targets = self.writable & self.signature.parameters
        self.writers = Writers()
        self.ties = ties(self.source, self.signature.parameters | self.signature.buffers)
        self.planner = Planner(self.eager, persistent(module), self.originals, self.writable, self.ties)
        self.plan_traced = traced_as_constant(self._plan_traced())

    def __call__(
        self,
        params: Params,
        state: State,
        *args: Any,
        key: Tensor | None = None,
        train: bool = False,
        rates: Rates | None = None,
        momentum: float | Tensor | None = None,
        method: str | None = None,
        frozen: Collection[str] = (),
        kwargs: Mapping[str, Any] | None = None,
        **named: Any,
    ) -> tuple[Any, State]:
        """Run the module; see `Model`."""
        named = named if kwargs is None else joined(named, kwargs)
        compiling = is_compiling()
        self.signature.check(params, state, key, train, rates, method, frozen, compiling)
        tensors = {**params, **state}
        given = Given._make((args, named, key, rates, momentum, method))  # a quarter of the time of Given(...)
        parts = frozenset(frozen) if frozen else _NOTHING
        trained = self.targets.intersection(params) if self.targets else _NOTHING
        if compiling:
            mode = Mode(key is not None, rates is not None, train, parts)
            output = self._traced(mode, tensors, given, tuple(sorted(trained)))
            return output, {name: tensors[name] for name in state}
        inputs = None if len(args) == 1 and type(args[0]) is Tensor and not named else (kind_of(args), kind_of(named))
        rated = frozenset(rates) if isinstance(rates, Mapping) else rates is not None
        kind = (key is not None, rated, train, parts, method, inputs, trained)
        known = (eager := self.eager).known.get(kind)
        if known is None:
            skeleton = eager.skeleton(Mode(key is not None, rates is not None, train, parts))
            known = eager.known[kind] = self.planner.first(kind, skeleton, tensors, given, trained)
        elif key is not None and not train and known[0].own_code:
            known = eager.known[kind] = self.planner.of_other_sizes(kind, *known, tensors, given, trained)
        if rates is not None:
            self.signature.check_reached(rates, known[1])
        if not known[1].plain:
            known[1].check((tensors, args, named))
        drew = False
        while True:
            try:
                output = self._eager(*known, tensors, given)
                return output, {name: tensors[name] for name in state}
            except Unforeseen as met:  # a draw or a write that no rehearsal has seen
                if drew and not met.written:
                    raise met.args[0] from None
                drew = drew or not met.written
                written = met.written
            tensors = {**params, **state}
            known = eager.known[kind] = self.planner.again(*known, written, tensors, given, trained)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Apply":
        return self  # a function, as others are

    def __reduce__(self) -> Any:
        return recipe(self, self.factory, self.source, rnn=self.eager.rnn)

    def inspect(
        self, params: Params, state: State, *args: Any, key: Tensor, train: bool, **named: Any
    ) -> tuple[Impurity, ...]:
        """Rehearse a call, and return what it did that is impure."""
        self.signature.check_values(params, state)
        try:
            skeleton = self.eager.skeleton(Mode(True, False, train))
            given = Given(args, named, None, None, None, None)
            return self.planner.look(skeleton, {**params, **state}, given).impure
        except _checks.FuncregError as error:
            return (Impurity("", str(error), ""),)

    def _eager(self, skeleton: Skeleton, plan: Plan, tensors: dict[str, Tensor], given: Given) -> Any:
        """The call in eager code: its output, and in `tensors` the new state.

        Batch statistics are moved by torch's own kernels where these can.
        """
        moving = skeleton.moving
        if given.momentum is not None or not (moving.variances and moving.can_natively(tensors)):
            return self._run(skeleton, plan, tensors, given)
        copies = moving.copied(tensors)
        with moving:  # what torch's own kernels cannot do, formulas do, or say why not by the layer's name
            output = self._run(skeleton, plan, copies, given)
            if not moving.overflowed(copies):
                tensors.update(copies)
                return output
        output = self._run(skeleton, plan, tensors, given)
        moving.settle()
        return output

    def _run(self, skeleton: Skeleton, plan: Plan, tensors: dict[str, Tensor], given: Given) -> Any:
        args, named, key, _, momentum, method = given
        inside, own_code = in_transform(), bool(skeleton.own_code)
        may_write = own_code and self.writers.may_write(skeleton, method)
        members = MadeByMembers((tensors, given)) if inside and skeleton.by_members else None
        protected = Protected(plan, tensors, self.written if may_write and inside else None, members)
        plain = plan.plain and not inside
        draws = bool(skeleton.drawing) or skeleton.unforeseen
        handed_over = plain and own_code and not draws and no_modes()
        watched, watch = tensors, None
        if own_code or draws or not plain:  # torch's own code does in each call of a kind what it did in the first
            own = protected.names | skeleton.moving.names if skeleton.moving.natively else protected.names
            watched = {n: each for n, each in tensors.items() if n not in own} if own else tensors
            watch = Watch(list(watched.values()), generators=draws or (own_code and not handed_over))
        if self.ties or key is not None or momentum is not None:
            lend(skeleton, tensors, given, self.ties)
        function: Any = skeleton.module if method is None else getattr(skeleton.module, method)
        if "" in skeleton.drawing:
            function = functools.partial(called_in, _mode_around(skeleton, tensors, args), function)
        elif handed_over:
            function = undrawn(function)
        if may_write and not inside:
            function = guarded(watched, function)
        again = {**tensors, **protected.before} if inside else {}
        try:
            if plain:
                output = skeleton.call(tensors, self.buffers, function, args, named)
            else:
                with contextlib.ExitStack() as around:
                    if members is not None:
                        around.enter_context(members)
                    for context in plan.contexts(skeleton.layers):
                        around.enter_context(context)
                    if plan.copies_inputs or plan.fills_inputs:
                        args, named = copied((args, named), torch.clone if plan.copies_inputs else _same)
                    output = skeleton.call(tensors, self.buffers, function, args, named)
        except (RuntimeError, TypeError, AssertionError, _checks.FuncregError) as error:
            if skeleton.by_members or not (inside and writes_into_what_members_share(error)):
                told = explained(error, skeleton)
                raise (Unforeseen(told) if draws_in_transform(error) else told) from error
            skeleton.by_members = True
            output = self._run(skeleton, plan, again, given)
            tensors.update(again)
            return output
        if watch is not None and not watch.unbroken():
            self._judge(watch, watched, skeleton, tensors, given)
        changed = protected.put_back(tensors)
        if changed is not None:
            raise refused([f"writes into {changed} in place"], _NAMED)
        return output

    def _judge(
        self, watch: Watch, watched: Mapping[str, Tensor], skeleton: Skeleton, tensors: dict[str, Tensor], given: Given
    ) -> None:
        """Refuse a call after which something has changed, unless another thread drew it."""

        def elsewhere() -> bool:
            own = {name: tensors[name] for name in self.signature.parameters | self.signature.buffers}
            return self.planner.knows_draws(skeleton, own, given)

        broken = watch.broken(watched, elsewhere)
        if broken:
            told = refused(broken, _NAMED)
            raise Unforeseen(told) if GLOBAL_DRAWS.issuperset(broken) else told

    def _traced(self, mode: Mode, tensors: dict[str, Tensor], given: Given, trained: tuple[str, ...]) -> Any:
        """The same in a program that is being traced."""
        # Read it, and a compiled program is bound to the model that it was traced with: see `jit`.
        assert self.identity >= 0
        args, named, _, rates, _, method = given
        like = optree.tree_map(traced.description, (args, named), none_is_leaf=True)  # type: ignore[arg-type]
        described = None if rates is None else traced.described_rates(rates)
        watched = torch.is_grad_enabled() and any(each.requires_grad for each in tensors.values())
        cast = tuple([(n, each.dtype) for n, each in tensors.items() if each.dtype != self.signature.kinds[n][1]])
        settings = (mode.noise, mode.rated, mode.train, tuple(sorted(mode.frozen)), method, described, cast, trained)
        resets, written, moves, copies_inputs, attribute = self.plan_traced(settings, watched, *like)
        skeleton: Skeleton = getattr(self.traced, attribute)
        before = {name: tensors[name] for name in resets}
        for name in written:
            tensors[name] = tensors[name].clone()
        if copies_inputs:
            args, named = pytree.tree_map_only(Tensor, torch.clone, (args, named))
        lend(skeleton, tensors, given, self.ties)
        many = len(self.rates) + len(skeleton.drawing) > _MANY_DRAWS
        with (
            random.compiled_draws_are("native") if many else nullcontext(),
            _mode_around(skeleton, tensors, args) or nullcontext(),
        ):
            output = skeleton.call_traced(tensors, moves, args, named, method)
        tensors.update(before)
        return output

    def _plan_traced(self) -> Callable[..., Planned]:
        """What a program that is being traced asks once: a rehearsal on example values of the same shapes."""

        def plan(settings: Any, watched: bool, args: Any, named: Any) -> Planned:
            noise, rated, train, frozen, method, described, cast, trained = settings
            name, plans = self.traced.name(Mode(noise, rated, train, frozenset(frozen))), self.traced.plans
            skeleton: Skeleton = getattr(self.traced, name)
            rates = dict(described) if isinstance(described, tuple) else described
            kind = (settings, repr((args, named)))
            traced.sees_random_functions()
            if kind not in plans:
                args, named = pytree.tree_map(traced.example, (args, named), is_leaf=traced.is_description)
                with _generators.left_alone():
                    call = Given(args, named, None, rates, None, method)
                    plans[kind] = self.planner.look(skeleton, self.example(dict(cast)), call, trained)
            found = plans[kind]
            if found.impure:
                raise refused(found.impure)
            if watched and found.backward is not None:
                found.backward.check_traced()
            if rates is not None:
                self.signature.check_reached(rates, found)
            if method is not None:
                skeleton.slots.prepare_method(method)
            if found.fills_inputs:
                refuse_objects((args, named))
            copies = found.copies_inputs or found.fills_inputs
            return found.resets, tuple(sorted(found.written)), found.moves, copies, name

        return plan

    def example(self, dtypes: Mapping[str, torch.dtype]) -> dict[str, Tensor]:
        """Example values of all parameters and buffers, some of other dtypes than the module's."""
        own, kinds = self.signature.parameters | self.signature.buffers, self.signature.kinds
        return traced.example_values({name: (kinds[name][0], dtypes.get(name, kinds[name][1])) for name in own})


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _mode_around(skeleton: Skeleton, tensors: dict[str, Tensor], args: tuple[Any, ...]) -> Keyed | None:
    """What is around a call of the module itself, if it draws: a mode of torch."""
    lent: Any = {slot: tensors.get(slot) for slot in (KEY, RATE, RATE_OF_ALL, MOMENTUM)}
    return skeleton.mode_around("", lent, args)
