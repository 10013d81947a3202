"""`apply`: one call of a module as a function of its parameters, state, inputs, key and mode."""

import copy
import inspect
import itertools
import types
from collections.abc import Callable, Mapping, Set
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks, _jit, random
from . import purity
from .functional import FunctionalNoise, may_call_noise
from .registry import MOMENTUM
from .skeleton import KEY, MODES, RATE, Mode, Skeleton, build, call, prototype

Params = dict[str, Tensor]
State = dict[str, Tensor]
Rates = float | Tensor | Mapping[str, float | Tensor]

_MANY_DRAWS = 4  # noise layers above which compiled draws are native: each pure one takes 4 s to compile
_identities = itertools.count()


class Apply:
    """The `apply` of a `Model`; see there."""

    def __init__(self, module: nn.Module, *, rnn: str) -> None:
        source = prototype(module)
        self.identity = next(_identities)
        self.buffers = [name for name, _ in source.named_buffers()]
        self.parameter_names = frozenset(name for name, _ in source.named_parameters())
        self.buffer_names = frozenset(self.buffers)
        self.ties = _ties(source)
        self.skeletons: dict[Mode, Skeleton] = {mode: build(source, mode, rnn=rnn) for mode in MODES}
        self.rates, self.tracked = self.skeletons[MODES[0]].noise, self.skeletons[MODES[0]].tracked
        self.functional = may_call_noise(source)
        # Now rather than when one is called: a program that is being traced cannot copy a module.
        self.methods = {
            (mode, name): _with_forward(skeleton.module, function)
            for mode, skeleton in self.skeletons.items()
            for name, function in _methods(type(skeleton.module)).items()
        }
        self.proven: set[tuple[Mode, str | None]] = set()

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
        **kwargs: Any,
    ) -> tuple[Any, State]:
        """Run the module; see `Model`."""
        self._check(params, state, key, train, rates)
        mode = Mode(key is not None, rates is not None, train)
        skeleton = self.skeletons[mode]
        module = skeleton.module if method is None else self._method(mode, method)
        tensors = self._tied({**params, **state})
        functional_key = self._lend_noise(tensors, key, rates)
        if momentum is not None:
            self._lend_momentum(tensors, momentum, train)
        if torch.compiler.is_compiling():
            # Read it, and a compiled program is bound to the model that it was traced with: see `jit`.
            assert self.identity >= 0
            output = self._call(skeleton, module, tensors, args, kwargs, functional_key, rates, train)
        else:
            output = self._watched(mode, method, module, tensors, args, kwargs, functional_key, rates)
        return output, {name: tensors[name] for name in self.buffers}

    def spy(self, params: Params, state: State, *args: Any, key: Tensor, train: bool, **kwargs: Any) -> Any:
        """Run once under a spy, on copies; return what it did that is impure."""
        check_names("params", params, self.parameter_names)
        check_names("state", state, self.buffer_names)
        mode = Mode(True, False, train)
        tensors = self._tied({name: tensor.detach().clone() for name, tensor in {**params, **state}.items()})
        skeleton, watched = self.skeletons[mode], dict(tensors)
        module = skeleton.module
        functional_key = self._lend_noise(tensors, key, None)
        return purity.spy(
            module, watched, lambda: self._call(skeleton, module, tensors, args, kwargs, functional_key, None, train)
        )

    def _call(
        self,
        skeleton: Skeleton,
        module: nn.Module,
        tensors: dict[str, Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        functional_key: Tensor | None,
        rates: Rates | None,
        train: bool,
    ) -> Any:
        """One functional call; what layers assigned is in `tensors` afterwards."""
        many = len(self.rates) > _MANY_DRAWS and _jit.compiling()
        everywhere = None if isinstance(rates, Mapping) else rates
        seen = FunctionalNoise(functional_key, everywhere, train) if self.functional else nullcontext()
        with random.compiled_draws_are("native") if many else nullcontext(), seen:
            return call(skeleton, module, tensors, args, kwargs)

    def _watched(
        self,
        mode: Mode,
        method: str | None,
        module: nn.Module,
        tensors: dict[str, Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        functional_key: Tensor | None,
        rates: Rates | None,
    ) -> Any:
        """An eager call that tells when a layer was not pure. The first in each mode works on copies."""
        first = (mode, method) not in self.proven
        if first:
            for name in self.buffers:
                tensors[name] = tensors[name].clone()
            self._tied(tensors)
        watch = purity.Watch(tensors, generator=first)
        output = self._call(self.skeletons[mode], module, tensors, args, kwargs, functional_key, rates, mode.train)
        broken = watch.broken()
        if broken:
            remedy = f"fr.check(model, *inputs) names the layer. {purity.REMEDY}"
            _checks.fail("module", f"one that {'; '.join(broken)}", "a pure module", remedy)
        self.proven.add((mode, method))
        return output

    def _tied(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """With every further name of a tied tensor beside its first."""
        for alias, name in self.ties.items():
            tensors[alias] = tensors[name]
        return tensors

    def _lend_noise(self, tensors: dict[str, Tensor], key: Tensor | None, rates: Rates | None) -> Tensor | None:
        """Add each noise layer's key and rate; return the key for noise that is called as a function."""
        if key is None:
            return None
        layers = list(self.rates)
        active = [name for name in layers if rates is not None or self.rates[name]]
        if not layers:
            return key
        keys = random.split(key, len(layers) + self.functional).unbind(0)
        own = dict(zip(layers, keys, strict=False))
        for name in active:
            prefix = f"{name}." if name else ""
            tensors[prefix + KEY] = own[name]
            if rates is not None:
                rate = rates.get(name, self.rates[name]) if isinstance(rates, Mapping) else rates
                tensors[prefix + RATE] = _jit.as_data(rate, key.device).to(key.device)
        return keys[-1] if self.functional else None

    def _lend_momentum(self, tensors: dict[str, Tensor], momentum: float | Tensor, train: bool) -> None:
        """Add the momentum of running statistics to each layer that has them."""
        _checks.check_setting("momentum", momentum, 0.0, 1.0)
        if not train:
            remedy = "Running statistics move exactly when train=True."
            _checks.fail("momentum", "a momentum without train=True", "train=True beside it", remedy)
        if not self.tracked:
            _checks.fail("momentum", _checks.describe(momentum), "None, since this module has no running statistics")
        device = next(iter(tensors.values())).device
        for name in self.tracked:
            tensors[f"{name}.{MOMENTUM}" if name else MOMENTUM] = _jit.as_data(momentum, device).to(device)

    def _method(self, mode: Mode, method: str) -> nn.Module:
        """The skeleton with another of its methods as its forward."""
        if not isinstance(method, str) or (mode, method) not in self.methods:
            of = type(self.skeletons[mode].module).__name__
            _checks.fail("method", repr(method), f"the name of a method of {of}")
        return self.methods[mode, method]

    def _check(self, params: Any, state: Any, key: Any, train: Any, rates: Any) -> None:
        check_names("params", params, self.parameter_names)
        check_names("state", state, self.buffer_names)
        if not isinstance(train, bool):
            _checks.fail("train", _checks.describe(train), "True or False")
        if key is not None:
            _checks.check_key(key)
        elif train and any(self.rates.values()):
            noisy = ", ".join(name for name, rate in self.rates.items() if rate)
            _checks.fail(
                "key", None, f"a key, since train=True and these layers draw: {noisy}", "Pass key=fr.random.key(seed)."
            )
        if rates is not None:
            self._check_rates(rates, key)

    def _check_rates(self, rates: Any, key: Any) -> None:
        if key is None:
            _checks.fail(
                "rates", "rates without a key", "a key beside them", "Noise is on exactly when a key is given."
            )
        named = rates.items() if isinstance(rates, Mapping) else [("", rates)]
        for name, rate in named:
            if isinstance(rates, Mapping) and name not in self.rates:
                known = ", ".join(repr(layer) for layer in self.rates) or "none"
                _checks.fail("rates", f"a rate for {name!r}", f"names of noise layers: {known}")
            _checks.check_number(f"rates[{name!r}]" if name else "rates", rate, low=0.0)
        if not self.rates and not self.functional:
            _checks.fail("rates", _checks.describe(rates), "None, since this module has no noise layer")


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


def _methods(kind: type[nn.Module]) -> dict[str, Callable[..., Any]]:
    """The methods of a class of modules that nn.Module does not have, and forward."""
    names = {"forward"} | (set(dir(kind)) - set(dir(nn.Module)))
    found = {name: inspect.getattr_static(kind, name) for name in names}
    return {name: function for name, function in found.items() if inspect.isfunction(function)}


def _with_forward(module: nn.Module, function: Callable[..., Any]) -> nn.Module:
    """A module of the same values that is called by another method."""
    other = copy.copy(module)
    other.forward = types.MethodType(function, other)  # type: ignore[method-assign]
    return other


def _ties(module: nn.Module) -> dict[str, str]:
    """For each further name of a parameter or buffer, the first."""
    first: dict[int, str] = {}
    ties: dict[str, str] = {}
    both: list[Callable[..., Any]] = [module.named_parameters, module.named_buffers]
    for named in both:
        for name, tensor in named(remove_duplicate=False):
            if first.setdefault(id(tensor), name) != name:
                ties[name] = first[id(tensor)]
    return ties
