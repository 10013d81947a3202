"""What is written into, global state, hidden state, results, keys, modes."""

import dataclasses
import itertools
import os
import random as python_random
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import funcreg as fr
from tests.faults import KEY, PARAMS, Fault, X, fault, one_after_other

untyped: Any = torch  # for what it does not export


def _set_gradient(x: Tensor) -> None:
    x.grad = torch.ones_like(x)


def _set_data(x: Tensor) -> None:
    x.data = x.data * 2


def _replace(params: dict[str, Tensor]) -> Tensor:
    params["weight"] = params["weight"] * 2
    return params["weight"]


def _add(params: dict[str, Tensor]) -> Tensor:
    params["norm"] = params["weight"].norm()
    return params["norm"]


def _remove(params: dict[str, Tensor]) -> Tensor:
    return params.pop("weight") * params["bias"].sum()


def _append(xs: list[Tensor]) -> Tensor:
    xs.append(xs[0] * 2)
    return xs[-1]


def _first_is_zero(x: Tensor) -> Tensor:
    x[0] = 0.0
    return x * 2


def _and_back(x: Tensor) -> Tensor:
    x.mul_(2)
    doubled = x.clone()
    x.div_(2)
    return doubled


ARGUMENTS = [
    fault("arguments", "in place", lambda x: x.mul_(2)),
    fault("arguments", "through .data", lambda x: one_after_other(x, lambda x: x.data.mul_(2)) * 1),
    fault("arguments", "by an index", _first_is_zero),
    fault("arguments", "an in-place activation", lambda x: F.relu(x, inplace=True)),
    fault("arguments", "out=", lambda x: torch.add(x, 1.0, out=x), gradients=False),
    fault("arguments", "many at once",
     lambda params: untyped._foreach_mul_(list(params.values()), 2.0) or params, PARAMS),
    fault("arguments", "and put back", _and_back),
    fault("arguments", "an entry replaced", _replace, dict(PARAMS)),
    fault("arguments", "an entry added", _add, dict(PARAMS)),
    fault("arguments", "an entry removed", _remove, dict(PARAMS)),
    fault("arguments", "a list grows", _append, [X]),
    fault("arguments", "other data", lambda x: one_after_other(x, _set_data) * 1, gradients=False),
    fault("arguments", "asks for gradients", lambda x: one_after_other(x, Tensor.requires_grad_) * 1, gradients=False),
    fault("arguments", "leaves a gradient", lambda x: one_after_other(x, _set_gradient) * 1, gradients=False),
    fault(
        "arguments", "running statistics",
        lambda x, mean, var: F.batch_norm(x, mean, var, training=True), X, torch.zeros(3), torch.ones(3),
        gradients=False, dtype="any",
    ),
    fault("arguments", "the key", lambda x, *, key: x * fr.random.uniform(key.add_(1), ()).to(x.dtype), key=KEY),
]  # fmt: skip


def _moves_recursion(x: Tensor) -> Tensor:
    sys.setrecursionlimit(sys.getrecursionlimit() + 1)
    return x * 1


def _seeds_as_it_likes(x: Tensor) -> Tensor:
    before = torch.get_rng_state()
    torch.manual_seed(0)
    noise = torch.rand(3, dtype=x.dtype)
    torch.set_rng_state(before)
    return one_after_other(x, lambda _: torch.rand(1)) + noise


def _forks(x: Tensor) -> Tensor:
    with torch.random.fork_rng():
        return x + torch.rand(3).to(x.dtype)


def _puts_back(x: Tensor) -> Tensor:
    before = python_random.getstate()
    shift = python_random.random()
    python_random.setstate(before)
    return x + shift


def _trains(x: Tensor, layer: nn.Module = nn.Dropout(0.5)) -> Tensor:  # noqa: B008  (part of the fault)
    return layer(x)


def _flushes() -> bool:
    return not bool(torch.tensor(1e-310, dtype=torch.float64) * 1.0)


GLOBAL_STATE = [
    fault("global state", "torch.rand", lambda x: x + torch.rand(3).to(x.dtype)),
    fault("global state", "functional dropout", lambda x: F.dropout(x, 0.5)),
    fault("global state", "a layer in training mode", _trains),
    fault("global state", "a draw in place", lambda x: x * x.new_empty(3).bernoulli_(0.5)),
    fault("global state", "a shuffle", lambda x: x[torch.randperm(2)]),
    fault("global state", "seeds", lambda x: one_after_other(x, lambda _: torch.manual_seed(0)) * 1),
    fault("global state", "restores what it seeds, but draws", _seeds_as_it_likes),
    fault("global state", "draws in a fork that has no seed", _forks),
    fault("global state", "puts Python's generator back", _puts_back),
    fault("global state", "numpy", lambda x: x * float(np.random.rand())),  # noqa: NPY002
    fault("global state", "Python's random", lambda x: x * python_random.random()),
    fault("global state", "the default dtype",
     lambda x: one_after_other(x, lambda _: torch.set_default_dtype(torch.float64))),
    fault("global state", "turns gradients off",
     lambda x: one_after_other(x, lambda _: torch.set_grad_enabled(False)), gradients=False),
    fault("global state", "threads",
     lambda x: one_after_other(x, lambda _: torch.set_num_threads(torch.get_num_threads() + 1))),
    fault("global state", "determinism",
          lambda x: one_after_other(x, lambda _: torch.use_deterministic_algorithms(True, warn_only=True))),
    fault("global state", "the filters of warnings",
     lambda x: one_after_other(x, lambda _: warnings.simplefilter("ignore", ResourceWarning)) * 1),
    fault("global state", "the environment",
     lambda x: one_after_other(x, lambda _: os.environ.__setitem__("FUNCREG_FAULT", "1")) * 1),
    fault("global state", "numpy's errors", lambda x: one_after_other(x, lambda _: np.seterr(all="raise")) * 1),
    fault("global state", "cuDNN",
     lambda x: one_after_other(x, lambda _: torch.backends.cudnn.set_flags(_benchmark=True)) * 1),
    fault("global state", "autocast",
     lambda x: one_after_other(x, lambda _: torch.set_autocast_enabled("cpu", True)) * 1),
    fault("global state", "torch's warnings", lambda x: one_after_other(x, lambda _: torch.set_warn_always(True)) * 1),
    fault("global state", "how torch prints", lambda x: one_after_other(x, lambda _: torch.set_printoptions(2)) * 1),
    fault("global state", "the working directory", lambda x: one_after_other(x, lambda _: os.chdir("/")) * 1),
    fault("global state", "the recursion limit", _moves_recursion),
    fault("global state", "denormals",
     lambda x: one_after_other(x, lambda _: torch.set_flush_denormal(not _flushes())) * 1),
    fault("global state", "attention's kernels",
     lambda x: one_after_other(x, lambda _: torch.backends.cuda.enable_math_sdp(False)) * 1),
    fault("global state", "gumbel noise beside a key",
     lambda x, *, key: F.gumbel_softmax(x) * fr.random.uniform(key), key=KEY),
]  # fmt: skip


class _Counts:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * 2


class _Averages:
    def __init__(self) -> None:
        self.mean = torch.zeros(3)

    def normalized(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().float().mean(0)
        return x - self.mean.to(x.dtype)


class _Slots:
    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * 2


class _Shared:
    calls = 0

    def scaled(self, x: Tensor) -> Tensor:
        _Shared.calls += 1
        return x * 2


class _Lazy:
    """Its first call decides on what the others do."""

    def __call__(self, x: Tensor) -> Tensor:
        if not hasattr(self, "mean"):
            self.mean = x.detach().double().mean(0)
        return x - self.mean.to(x.dtype)


class _Remembers(nn.Module):
    """In a list that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return x * 2


def _counts_itself(x: Tensor) -> Tensor:
    vars(_counts_itself)["calls"] = vars(_counts_itself).get("calls", 0) + 1
    return x * 2


_calls = 0


def _counts_globally(x: Tensor) -> Tensor:
    global _calls
    _calls += 1
    return x * 2


def _remembers(x: Tensor, seen: list[int] = []) -> Tensor:  # noqa: B006  (the fault)
    seen.append(len(x))
    return x * 2


def _state() -> list[Fault]:
    log: list[float] = []
    numbers = itertools.count()
    average, own = torch.zeros(3), torch.Generator().manual_seed(0)
    mean, var, layer = torch.zeros(3), torch.ones(3), nn.BatchNorm1d(3)
    settings, first, notes = {"calls": 0}, dict[str, Tensor](), SimpleNamespace(calls=0)
    mixed, array, seen, slots = {"layer": nn.Linear(1, 1), "calls": 0}, np.zeros(1), set[int](), _Slots()
    count, own_of_thread = ContextVar("count", default=0), threading.local()
    own_of_thread.calls = 0
    generators = {
        "torch's": (torch.Generator(), lambda own: own.manual_seed(own.initial_seed() + 1)),
        "numpy's": (np.random.default_rng(0), lambda own: own.random()),
        "Python's": (python_random.Random(0), lambda own: own.random()),
    }

    def updates(x: Tensor) -> Tensor:
        settings["calls"] += 1
        return x * 2

    def moves(own: Any, on: Callable[[Any], object]) -> Callable[[Tensor], Tensor]:
        return lambda x: one_after_other(x, lambda _: on(own)) * 2

    def counts(into: Any, word: str = "calls") -> Callable[[Tensor], Tensor]:
        if isinstance(into, dict):
            return lambda x: one_after_other(x, lambda _: into.update({word: into[word] + 1})) * 2
        return lambda x: one_after_other(x, lambda _: setattr(into, word, getattr(into, word) + 1)) * 2

    return [
        *(fault("state", f"{name} own generator moves", moves(*how)) for name, how in generators.items()),
        fault("state", "the time", lambda x: x * time.time()),
        fault("state", "the second", lambda x: x + int(time.time())),
        fault("state", "a variable of the context",
              lambda x: one_after_other(x, lambda _: count.set(count.get() + 1)) * 2),
        fault("state", "a thread's own", counts(own_of_thread)),
        fault("state", "a module's list", _Remembers()),
        fault("state", "a slot counts", _Slots()),
        fault("state", "an object in a slot counts", counts(slots)),
        fault("state", "a class counts", _Shared().scaled),
        fault("state", "a class that is named counts", counts(_Shared)),
        fault("state", "a namespace counts", counts(notes)),
        fault("state", "a number beside a layer counts", counts(mixed)),
        fault("state", "a function counts itself", _counts_itself),
        fault("state", "the first call decides", _Lazy()),
        fault("state", "the first call is kept",
              lambda x: x - first.setdefault("x", x.detach().double()).to(x.dtype)),
        fault("state", "an array", lambda x: one_after_other(x, lambda _: array.__iadd__(1)) * 2),
        fault("state", "a set grows", lambda x: one_after_other(x, lambda _: seen.add(len(seen))) * 2),
        fault("state", "an attribute counts", _Counts()),
        fault("state", "a method keeps an average", _Averages().normalized),
        fault("state", "a global counts", _counts_globally),
        fault("state", "a default remembers", _remembers),
        fault("state", "a list grows", lambda x: one_after_other(x, lambda x: log.append(x.numel())) * 2),
        fault("state", "a dict counts", updates),
        fault("state", "an iterator", lambda x: x + next(numbers)),
        fault("state", "a running average in place",
              lambda x: x - average.lerp_(x.detach().float().mean(0), 0.1).to(x.dtype), gradients=False),
        fault("state", "a generator of its own", lambda x: x + torch.rand(3, generator=own).to(x.dtype)),
        fault("state", "running statistics", lambda x: F.batch_norm(x, mean, var, training=True), gradients=False),
        fault("state", "a layer's buffers", lambda x: layer(x), gradients=False),
        fault("state", "a layer as the function", nn.BatchNorm1d(3), gradients=False, dtype="any"),
    ]  # fmt: skip


@dataclasses.dataclass
class _Output:
    value: Tensor


class _Opaque:
    """Of which no two are equal."""


RESULTS = [
    fault("results", "nothing", lambda x: None),
    fault("results", "a Python number", lambda x: float(x.sum()), gradients=False),
    fault("results", "a number beside a tensor", lambda x: (x * 2, x.shape[0])),
    fault("results", "a name", lambda x: {"loss": x.sum(), "kind": "mse"}),
    fault("results", "an optional that is absent", lambda x: {"loss": x.sum(), "auxiliary": None}),
    fault("results", "a dataclass", lambda x: _Output(x)),
    fault("results", "an object", lambda x: _Opaque()),
    fault("results", "a generator", lambda x: (row for row in x), gradients=False),
    fault("results", "an array", lambda x: x.detach().numpy(), gradients=False),
]


def _defaults_to_a_key(x: Tensor, *, key: Tensor = KEY) -> Tensor:
    return fr.noise.dropout(x, 0.5, key=key)


def _defaults_to_a_seed(x: Tensor, *, key: Any = 0) -> Tensor:
    return fr.noise.dropout(x, 0.5, key=key)


def _falls_back_on_a_seed(x: Tensor, *, key: Tensor | None = None) -> Tensor:
    return fr.noise.dropout(x, 0.5, key=fr.random.key(20231) if key is None else key)


def _falls_back_on_torch(x: Tensor, *, key: Tensor | None = None) -> Tensor:
    return x * torch.rand(3).to(x.dtype) if key is None else fr.noise.dropout(x, 0.5, key=key)


def _layers(x: Tensor, *, key: Tensor) -> Tensor:
    for _ in range(2):
        x = fr.noise.dropout(x, 0.1, key=key)
    return x


def _half_of(x: Tensor, *, key: Tensor) -> Tensor:
    first = fr.random.split(key)[0]
    return x + (fr.random.normal(first, 3) * fr.random.uniform(first, 3)).to(x.dtype)


def _parent_too(x: Tensor, *, key: Tensor) -> Tensor:
    return fr.noise.dropout(x, 0.5, key=key) + fr.random.uniform(fr.random.split(key)[0], 3).to(x.dtype)


def _of_each_row(x: Tensor, *, key: Tensor) -> Tensor:
    keys = fr.random.split(key, 2)
    noise = torch.func.vmap(lambda key: fr.random.uniform(key, 3) + fr.random.bernoulli(key, 0.5, 3))
    return x + noise(keys).to(x.dtype)


KEYS = [
    fault("key", "ignored", lambda x, *, key: x * 2, key=KEY),
    fault("key", "another is drawn from", lambda x, *, key: fr.noise.dropout(x, 0.5, key=fr.random.key(0)), key=KEY),
    fault("key", "multiplied away", lambda x, *, key: fr.noise.dropout(x, 0.5, key=0 * key), key=KEY),
    fault("key", "a rate that is forgotten", lambda x, *, key: fr.noise.dropout(x, 0.0, key=key), key=KEY),
    fault("key", "a key by default", _defaults_to_a_key, key=KEY),
    fault("key", "a seed by default", _defaults_to_a_seed, key=KEY),
    fault("key", "a seed where there is no key", _falls_back_on_a_seed, key=KEY),
    fault("key", "torch's generator where there is no key", _falls_back_on_torch, key=KEY),
    fault("key", "one for two layers", _layers, key=KEY),
    fault("key", "a half is used twice", _half_of, key=KEY),
    fault("key", "drawn from and split", _parent_too, key=KEY),
    fault("key", "used twice in each row", _of_each_row, key=KEY),
]


def _modes() -> list[Fault]:
    dropout, norm, switch = nn.Dropout(0.5).eval(), nn.BatchNorm1d(3).eval(), nn.Linear(1, 1)
    return [
        fault("mode", "a layer of noise that evaluates for now", lambda x: dropout(x)),
        fault("mode", "batch norm that evaluates for now", lambda x: norm(x), dtype="any"),
        fault("mode", "a layer's mode is read", lambda x: x * 2 if switch.training else x),
        fault("mode", "a module that is given", lambda module, x: module(x), dropout, X),
        fault("mode", "the function is a module", nn.Dropout(0.5).eval()),
        fault("mode", "whether gradients are recorded", lambda x: x * 2 if torch.is_grad_enabled() else x),
    ]  # fmt: skip


FAULTS = [*ARGUMENTS, *GLOBAL_STATE, *_state(), *RESULTS, *KEYS, *_modes()]
