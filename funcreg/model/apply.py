"""`apply`: one call of a module as a function of its parameters, state, inputs, key and mode."""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Collection, Mapping, Set
from contextlib import nullcontext
from typing import Any

import optree
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .. import _checks, _jit, random
from .._functorch import in_transform, plain, sees_random_functions, traced_as_constant
from .checkpointing import without_checkpoints
from .prototype import prototype
from .registry import MOMENTUM
from .rehearsal import REMEDY, Call, Impurity, Plan, Watch, put_back, refuse, rehearse, running_at, shielded
from .skeleton import KEY, RATE, RATE_OF_ALL, Mode, Skeleton, modes

Params = dict[str, Tensor]
State = dict[str, Tensor]
Rates = float | Tensor | Mapping[str, float | Tensor]

_MANY_DRAWS = 4  # noise layers above which compiled draws are native: each pure one takes 4 s to compile
_NOTHING: frozenset[str] = frozenset()
_identities = itertools.count()
# How torch says that a transform cannot do what a forward asks of it, and what to do about it.
_LOOP = "Call it in a loop, outside of the transform, or see fr.check(model, *inputs)."
_UNROLL = 'from_module(..., rnn="unrolled") runs it as a loop over time, which every transform takes.'
_IN_TRANSFORMS = {
    "randomness": ("draws random numbers that no key reaches", _LOOP),
    "data-dependent control flow": ("decides by a tensor's values what runs", _LOOP),
    ".item()": ("reads a tensor's value as a Python number", _LOOP),
    "dynamic shape": ("has an output whose shape depends on values", _LOOP),
    "inplace arithmetic": ("writes in place into what the transform does not batch", _LOOP),
    "in-place": ("writes in place into what the transform does not batch", _LOOP),
    "aten::lstm": ("has no rule for the transform", _UNROLL),
    "aten::gru": ("has no rule for the transform", _UNROLL),
    "aten::rnn_": ("has no rule for the transform", _UNROLL),
    "vmap": ("does what the transform cannot", _LOOP),
    "functorch": ("does what the transform cannot", _LOOP),
    "torch.func": ("does what the transform cannot", _LOOP),
    "setup_context": ("has an autograd function without rules for the transform", _LOOP),
    "forward AD": ("has no rule for the transform", _LOOP),
    "atching rule": ("has no rule for the transform", _LOOP),
    "requires_grad_()": ("takes gradients of its own", _LOOP),
}


class Apply:
    """The `apply` of a `Model`; see there."""

    def __init__(self, module: nn.Module, *, rnn: str) -> None:
        self.source, self.rnn = prototype(module), rnn
        self.identity = next(_identities)
        tensors = dict(self.source.named_parameters(remove_duplicate=False))
        self.parameter_names = frozenset(name for name, _ in module.named_parameters())
        self.buffers = [name for name, _ in module.named_buffers()]
        named_buffers = dict(self.source.named_buffers(remove_duplicate=False))
        self.buffer_names = frozenset(self.buffers)
        self.persistent = _persistent(self.source)
        self.kinds = {name: (tensor.shape, tensor.dtype) for name, tensor in {**tensors, **named_buffers}.items()}
        self.ties = _ties(self.source, self.parameter_names | self.buffer_names)
        self.skeletons: dict[Mode, Skeleton] = {mode: Skeleton(self.source, mode, rnn=rnn) for mode in modes()}
        first = next(iter(self.skeletons.values()))
        self.rates, self.tracked, self.trains = first.noise, first.tracked, first.trains
        self.layer_names = frozenset(first.layers)
        self.methods = _methods(type(self.source))
        self.own_names = _own_names(self.source)
        self.plans: dict[Any, Plan] = {}
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
        if kwargs is not None:
            named = {**named, **kwargs}
        self._check(params, state, key, train, rates, method, frozen)
        mode = Mode(key is not None, rates is not None, train, frozenset(frozen) if frozen else _NOTHING)
        tensors = {**params, **state}
        if torch.compiler.is_compiling():
            return self._traced(mode, tensors, args, named, key, rates, momentum, method)
        kind = (mode, method, self._named_rates(rates), _signature(args), _signature(named) if named else None)
        plan = self.plans.get(kind)
        if plan is None:
            plan = self._rehearsed(mode, tensors, args, named, rates, method)
            if plan.impure:
                refuse(plan.impure)
            self.plans[kind] = plan
        self._check_reached(rates, plan)
        return self._eager(self.skeletons[mode], plan, tensors, args, named, key, rates, momentum, method)

    def inspect(self, params: Params, state: State, *args: Any, key: Tensor, train: bool, **named: Any) -> Any:
        """Rehearse a call, and return what it did that is impure."""
        check_names("params", params, self.parameter_names)
        check_names("state", state, self.buffer_names)
        mode = Mode(True, False, train)
        try:
            return self._rehearsed(mode, {**params, **state}, args, named, None, None).impure
        except _checks.FuncregError as error:
            return (Impurity("", str(error), ""),)

    def _eager(
        self,
        skeleton: Skeleton,
        plan: Plan,
        tensors: dict[str, Tensor],
        args: tuple[Any, ...],
        named: dict[str, Any],
        key: Tensor | None,
        rates: Rates | None,
        momentum: float | Tensor | None,
        method: str | None,
    ) -> tuple[Any, State]:
        before = {name: tensors[name] for name in plan.resets}
        for name in plan.written:
            tensors[name] = tensors[name].clone()
        if plan.copies_inputs:
            args, named = _cloned((args, named))
        watch = Watch(tensors, but=plan.written)
        self._lend(skeleton, tensors, key, rates, momentum)
        module: Any = skeleton.module if method is None else getattr(skeleton.module, method)
        try:
            if "" in skeleton.drawing or plan.setters or plan.checkpoints:
                with contextlib.ExitStack() as around:
                    around.enter_context(self._around(skeleton, tensors))
                    if plan.setters:
                        around.enter_context(put_back({name: skeleton.layers[name] for name in plan.setters}))
                    if plan.checkpoints:
                        around.enter_context(without_checkpoints())
                    output = skeleton.call(tensors, module, args, named)
            else:
                output = skeleton.call(tensors, module, args, named)
        except (RuntimeError, TypeError) as error:
            raise self._explained(error, skeleton) from error
        broken = watch.broken()
        if broken:
            remedy = f"fr.check(model, *inputs) names the layer. {REMEDY}"
            _checks.fail("module", f"one that {'; '.join(broken)}", "a pure module", remedy)
        if before:
            tensors.update(before)
        return output, {name: tensors[name] for name in self.buffers}

    def _traced(
        self,
        mode: Mode,
        tensors: dict[str, Tensor],
        args: tuple[Any, ...],
        named: dict[str, Any],
        key: Tensor | None,
        rates: Rates | None,
        momentum: float | Tensor | None,
        method: str | None,
    ) -> tuple[Any, State]:
        """The call in a program that is being traced."""
        # Read it, and a compiled program is bound to the model that it was traced with: see `jit`.
        assert self.identity >= 0
        given = optree.tree_map(_description, (args, named), none_is_leaf=True)  # type: ignore[arg-type]
        described = None if rates is None else _described_rates(rates)
        settings = (mode.noise, mode.rated, mode.train, tuple(sorted(mode.frozen)), method, described)
        planned = self.plan_traced(settings, *given)
        resets, written, copies_inputs = planned
        skeleton = self.skeletons[mode]
        before = {name: tensors[name] for name in resets}
        for name in written:
            tensors[name] = tensors[name].clone()
        if copies_inputs:
            args, named = _cloned((args, named))
        self._lend(skeleton, tensors, key, rates, momentum)
        many = len(self.rates) + len(skeleton.drawing) > _MANY_DRAWS
        around = self._around(skeleton, tensors)
        with random.compiled_draws_are("native") if many else nullcontext(), around:
            output = skeleton.call_traced(tensors, args, named, method)
        tensors.update(before)
        return output, {name: tensors[name] for name in self.buffers}

    def _plan_traced(self) -> Callable[..., tuple[tuple[str, ...], tuple[str, ...], bool]]:
        """What a program that is being traced asks once: a rehearsal on example values of the same shapes."""

        def plan(settings: Any, args: Any, named: Any) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
            noise, rated, train, frozen, method, rates = settings
            mode = Mode(noise, rated, train, frozenset(frozen))
            kind = (settings, repr((args, named)))
            sees_random_functions()
            if kind not in self.plans:
                args, named = pytree.tree_map(_example, (args, named), is_leaf=_is_description)
                values = {name: torch.zeros(shape, dtype=dtype) for name, shape, dtype in self._shapes()}
                given = dict(rates) if isinstance(rates, tuple) else rates
                with torch.random.fork_rng(devices=[]):
                    self.plans[kind] = self._rehearsed(mode, _filled(values), args, named, given, method)
            found = self.plans[kind]
            if found.impure:
                refuse(found.impure)
            self._check_reached(dict(rates) if isinstance(rates, tuple) else rates, found)
            if method is not None:
                self.skeletons[mode].prepare_method(method)
            return tuple(found.resets), found.written, found.copies_inputs

        return plan

    def _shapes(self) -> list[tuple[str, torch.Size, torch.dtype]]:
        own = self.parameter_names | self.buffer_names
        return [(name, *kind) for name, kind in self.kinds.items() if name in own]

    def _rehearsed(
        self,
        mode: Mode,
        tensors: dict[str, Tensor],
        args: tuple[Any, ...],
        named: dict[str, Any],
        rates: Rates | None,
        method: str | None,
    ) -> Plan:
        """Look at a call of a new kind, on copies and in plain torch, before it is made."""
        tensors = {name: plain(tensor) for name, tensor in tensors.items()}
        args, named, rates = pytree.tree_map(_plain_leaf, (args, named, rates))
        if mode not in self.skeletons:
            self.skeletons[mode] = Skeleton(self.source, mode, rnn=self.rnn)
        skeleton = self.skeletons[mode]

        def look() -> Plan:
            key = random.key(0, device=next(iter(tensors.values())).device if tensors else None)
            self._lend(skeleton, tensors, key if mode.noise else None, rates, None)
            return rehearse(skeleton, Call(tensors, args, named, method, rates), self.persistent)

        try:
            return shielded(look)
        except (RuntimeError, TypeError) as error:
            raise self._explained(error, skeleton) from error

    def _around(self, skeleton: Skeleton, tensors: dict[str, Tensor]) -> Any:
        """What is around a call of the module itself, if it draws: a mode of torch."""
        drawing = skeleton.drawing.get("")
        if drawing is None or not (drawing.always or torch.compiler.is_compiling() or in_transform()):
            return nullcontext()
        lent = {slot: tensors.get(slot) for slot in (KEY, RATE, RATE_OF_ALL, MOMENTUM)}
        return skeleton.mode_around("", lent)

    def _explained(self, error: Exception, skeleton: Skeleton) -> Exception:
        """An error of a transform's in terms of the layer that it came from; any other as it is."""
        if isinstance(error, _checks.FuncregError) or not in_transform():
            return error
        message = str(error)
        for part, (did, remedy) in _IN_TRANSFORMS.items():
            if part in message:
                told = (
                    f"module: got {running_at(error, skeleton)}, which {did}; expected one that the transform can run."
                )
                return _checks.FuncregError(f"{told} {remedy} (torch: {message.strip().splitlines()[0]})")
        return error

    def _tied(self, tensors: dict[str, Tensor]) -> None:
        """Put every further name of a tied tensor beside its first."""
        for alias, name in self.ties.items():
            tensors[alias] = tensors[name]

    def _lend(
        self,
        skeleton: Skeleton,
        tensors: dict[str, Tensor],
        key: Tensor | None,
        rates: Rates | None,
        momentum: float | Tensor | None,
    ) -> None:
        """Add ties, and each noise layer's key and rate, and the momentum of running statistics."""
        self._tied(tensors)
        if key is not None:
            self._lend_noise(skeleton, tensors, key, rates)
        if momentum is not None:
            self._lend_momentum(skeleton, tensors, momentum)

    def _lend_noise(self, skeleton: Skeleton, tensors: dict[str, Tensor], key: Tensor, rates: Rates | None) -> None:
        registered = len(self.rates)
        drawing = skeleton.drawing
        if not registered and not drawing:
            return
        # Each layer's key depends on its place alone, not on which others were found to draw.
        keys = random.split(key, registered + (len(skeleton.places) if drawing else 0))
        of_all = rates is not None and not isinstance(rates, Mapping)
        if of_all:
            everywhere = _jit.as_data(rates, key.device).to(key.device)
        for place, name in enumerate(self.rates):
            slot = f"{name}.{KEY}" if name else KEY
            if slot not in skeleton.slots:
                continue
            tensors[slot] = keys[place]
            if rates is not None:
                rate = everywhere if of_all else rates.get(name, self.rates[name])  # type: ignore[union-attr]
                tensors[f"{name}.{RATE}" if name else RATE] = _jit.as_data(rate, key.device).to(key.device)
        for name in drawing:
            prefix = f"{name}." if name else ""
            tensors[prefix + KEY] = keys[registered + skeleton.places[name]]
            if of_all:
                tensors[prefix + RATE_OF_ALL] = everywhere
            elif rates is not None and name in rates:  # type: ignore[operator]
                tensors[prefix + RATE] = _jit.as_data(rates[name], key.device).to(key.device)  # type: ignore[index]

    def _lend_momentum(self, skeleton: Skeleton, tensors: dict[str, Tensor], momentum: float | Tensor) -> None:
        _checks.check_setting("momentum", momentum, 0.0, 1.0)
        if not skeleton.mode.train:
            remedy = "Running statistics move exactly when train=True."
            _checks.fail("momentum", "a momentum without train=True", "train=True beside it", remedy)
        if not skeleton.tracked:
            _checks.fail("momentum", _checks.describe(momentum), "None, since this module has no running statistics")
        device = next(iter(tensors.values())).device
        for name in skeleton.tracked:
            tensors[f"{name}.{MOMENTUM}" if name else MOMENTUM] = _jit.as_data(momentum, device).to(device)

    def _check(
        self, params: Any, state: Any, key: Any, train: Any, rates: Any, method: Any, frozen: Collection[str]
    ) -> None:
        check_names("params", params, self.parameter_names)
        check_names("state", state, self.buffer_names)
        self._check_kinds("params", params)
        self._check_kinds("state", state)
        if not isinstance(train, bool):
            _checks.fail("train", _checks.describe(train), "True or False", self._own_argument("train"))
        if method is not None and (not isinstance(method, str) or method not in self.methods):
            allowed = f"the name of a method of {type(self.source).__name__}"
            _checks.fail("method", repr(method), allowed, self._own_argument("method"))
        if key is not None:
            if "key" in self.own_names and not (isinstance(key, Tensor) and key.shape == (2,)):
                _checks.fail("key", _checks.describe(key), "a key of fr.random", self._own_argument("key"))
            _checks.check_key(key)
        elif train and any(self.rates.values()):
            noisy = ", ".join(
                n for n, rate in self.rates.items() if rate and n in self.trains and not _within(n, frozen)
            )
            if noisy:
                allowed = f"a key, since train=True and these layers draw: {noisy}"
                _checks.fail("key", None, allowed, "Pass key=fr.random.key(seed).")
        if rates is not None:
            self._check_rates(rates, key)
        if frozen:
            self._check_frozen(frozen)

    def _own_argument(self, name: str) -> str:
        """What to do about an argument of the forward's that has a name of ours."""
        if name not in self.own_names:
            return ""
        return f"The forward's own argument {name!r} goes into kwargs: kwargs={{{name!r}: value}}."

    def _check_kinds(self, argument: str, given: dict[str, Any]) -> None:
        kinds = self.kinds
        for name, tensor in given.items():
            shape, dtype = kinds[name]
            if isinstance(tensor, Tensor) and tensor.dtype is dtype and tensor.shape == shape:
                continue
            if not isinstance(tensor, Tensor):
                _checks.fail(f"{argument}[{name!r}]", _checks.describe(tensor), f"a tensor of shape {tuple(shape)}")
            if tensor.shape != shape:
                remedy = "Members' stacked values go through torch.func.vmap." if tensor.ndim > len(shape) else ""
                _checks.fail(
                    f"{argument}[{name!r}]", _checks.describe(tensor), f"a tensor of shape {tuple(shape)}", remedy
                )
            if _kind(tensor.dtype) != _kind(dtype):
                _checks.fail(f"{argument}[{name!r}]", _checks.describe(tensor), f"a tensor of {_kind(dtype)} numbers")

    def _check_frozen(self, frozen: Any) -> None:
        if isinstance(frozen, str) or not all(isinstance(name, str) for name in frozen):
            _checks.fail("frozen", _checks.describe(frozen), "names of submodules, such as ('backbone',)")
        for name in frozen:
            if name not in self.layer_names:
                known = ", ".join(repr(layer) for layer in sorted(self.layer_names) if layer)
                _checks.fail("frozen", repr(name), f"names of submodules: {known[:400] or 'there are none'}")

    def _check_rates(self, rates: Any, key: Any) -> None:
        if key is None:
            _checks.fail(
                "rates", "rates without a key", "a key beside them", "Noise is on exactly when a key is given."
            )
        named = rates.items() if isinstance(rates, Mapping) else [("", rates)]
        for name, rate in named:
            if isinstance(rates, Mapping) and name not in self.layer_names:
                known = ", ".join(repr(layer) for layer in self.rates) or "none"
                _checks.fail("rates", f"a rate for {name!r}", f"names of noise layers: {known}")
            _checks.check_number(f"rates[{name!r}]" if name else "rates", rate, low=0.0)

    def _check_reached(self, rates: Rates | None, plan: Plan) -> None:
        """Refuse a rate that does nothing."""
        if rates is None:
            return
        known = ", ".join(repr(name) for name in sorted(plan.rateable)) or "none"
        if isinstance(rates, Mapping):
            for name in rates:
                if name not in plan.rateable:
                    allowed = f"names of layers whose noise has a rate in this call: {known}"
                    _checks.fail("rates", f"a rate for {name!r}", allowed)
        elif not plan.rateable:
            _checks.fail("rates", _checks.describe(rates), "None, since nothing in this call has a rate")

    def _named_rates(self, rates: Rates | None) -> Any:
        return frozenset(rates) if isinstance(rates, Mapping) else None


def check_names(argument: str, given: Any, expected: Set[str]) -> None:
    """Refuse what is not a dict with exactly these entries.

    >>> check_names("params", {"weight": torch.zeros(1)}, {"weight"})
    """
    if not isinstance(given, dict):
        _checks.fail(argument, _checks.describe(given), "a flat dict of tensors, as model.init returns")
    if given.keys() == expected:
        return
    missing = sorted(expected - given.keys())
    unknown = sorted(given.keys() - expected)
    told = [
        f"{what} {', '.join(map(repr, names[:8]))}{' ...' if len(names) > 8 else ''}"
        for what, names in (("missing", missing), ("unknown", unknown))
        if names
    ]
    _checks.fail(argument, f"entries that do not fit the module ({'; '.join(told)})", "the entries of model.init")


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_floating_point:
        return "floating-point"
    return "complex" if dtype.is_complex else "boolean" if dtype == torch.bool else "integer"


def _within(name: str, frozen: Collection[str]) -> bool:
    return any(part == "" or name == part or name.startswith(f"{part}.") for part in frozen)


def _methods(kind: type[nn.Module]) -> frozenset[str]:
    """The methods of a class of modules that nn.Module does not have, and forward."""
    names = {"forward"} | (set(dir(kind)) - set(dir(nn.Module)))
    return frozenset(name for name in names if inspect.isfunction(inspect.getattr_static(kind, name)))


def _own_names(module: nn.Module) -> frozenset[str]:
    """The names of the forward's arguments."""
    try:
        return frozenset(inspect.signature(module.forward).parameters)
    except (TypeError, ValueError):
        return frozenset()


def _persistent(module: nn.Module) -> dict[str, bool]:
    """For each buffer, whether it is part of the module's state dict."""
    return {
        f"{prefix}.{name}" if prefix else name: name not in layer._non_persistent_buffers_set
        for prefix, layer in module.named_modules()
        for name, buffer in layer._buffers.items()
        if buffer is not None
    }


def _ties(module: nn.Module, names: Set[str]) -> dict[str, str]:
    """For each further name of a parameter or buffer, the one among `names`."""
    both = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    own = {id(tensor): name for name, tensor in both if name in names}
    return {name: own[id(tensor)] for name, tensor in both if name not in names}


def _signature(arguments: Any) -> Any:
    """What of arguments may decide what a forward does, short of numbers: a value that a dict can look up."""
    kind = type(arguments)
    if kind is tuple or kind is list:
        return (kind, *[_signature(each) for each in arguments])
    if kind is dict:
        return tuple([(name, _signature(each)) for name, each in arguments.items()])
    return arguments if kind is bool or kind is str or arguments is None else kind


def _cloned(arguments: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, arguments)


def _plain_leaf(leaf: Any) -> Any:
    return plain(leaf) if isinstance(leaf, Tensor) else leaf


# A program that is being traced has no values: it says what its tensors are like.
_TENSOR = "a tensor"


def _description(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return (_TENSOR, tuple(leaf.shape), leaf.dtype, leaf.device)


def _is_description(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 4 and isinstance(value[0], str) and value[0] == _TENSOR


def _example(leaf: Any) -> Any:
    if not _is_description(leaf):
        return leaf
    _, shape, dtype, _ = leaf
    return next(iter(_filled({"": torch.zeros(shape, dtype=dtype)}).values()))


def _filled(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Example values: small floating-point numbers, True, and zeros."""
    for place, (name, tensor) in enumerate(values.items()):
        if tensor.is_floating_point():
            drawn = random.uniform(random.key(place), tuple(tensor.shape), low=0.01, high=0.1)
            values[name] = drawn.to(tensor.dtype)
        elif tensor.dtype == torch.bool:
            values[name] = torch.ones_like(tensor)
    return values


def _described_rates(rates: Rates) -> Any:
    """Rates as a rehearsal needs them: which layers have one."""
    return tuple((name, 0.5) for name in rates) if isinstance(rates, Mapping) else 0.5
