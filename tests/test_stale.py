"""What a program closes over may change: then its next result is of what is there now, or there is a refusal."""

import collections
import contextvars
import dataclasses
import functools
import operator
import os
import random
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import funcreg as fr
from funcreg._jit.outside import Outside
from funcreg._jit.stamps import stamp
from tests.snapshots import as_traced, in_folder

pytestmark = pytest.mark.usefixtures("compiled_as_users_do")
X = torch.tensor([1.0, 2.0])
FACTOR = 2.0


class Held:
    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)

    def __getitem__(self, name: str) -> Any:
        return self.__dict__[name]


class Slots:
    __slots__ = ("factor",)


@dataclasses.dataclass(slots=True)
class Fields:
    factor: Any = 2.0


class Attributes(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]


class OfAGlobal(nn.Module):
    @property
    def factor(self) -> float:
        return FACTOR

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def with_factor(held: Any, factor: Any = 2.0) -> Any:
    held.factor = factor
    return held


def classes() -> Any:
    base = type("Base", (), {"factor": 2.0})
    return types.SimpleNamespace(base=base, derived=type("Derived", (base,), {}))


def dispatched() -> Any:
    def scaled(x: Tensor) -> Tensor:
        return x * 2

    return functools.singledispatch(scaled)


def set_attribute(held: Any) -> None:
    held.factor = 3.0


def set_item(held: Any) -> None:
    held["factor"] = 3.0


def set_first(held: Any) -> None:
    held[0] = 3


def set_data(held: Any) -> None:
    held.data.mul_(3)


def set_global(held: Any) -> None:
    globals()["FACTOR"] = 3.0


def by_factor(held: Any) -> Any:
    return held.factor


def by_item(held: Any) -> Any:
    return held["factor"]


def by_first(held: Any) -> Any:
    return held[0]


def itself(held: Any) -> Any:
    return held


def executed(source: str, **scope: Any) -> dict[str, Any]:
    exec(source, scope)
    return scope


def imported(held: Any) -> Any:
    import own_settings  # pyright: ignore[reportMissingImports]

    return own_settings.factor


# What is closed over, what is read of it, and what changes it.
CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "an attribute": (lambda: Held(factor=2.0), by_factor, set_attribute),
    "by its name": (lambda: Held(factor=2.0), lambda held: getattr(held, "factor"), set_attribute),  # noqa: B009
    "by a name made": (lambda: Held(factor=2.0), lambda held: getattr(held, "fac" + "tor"), set_attribute),
    "by vars": (lambda: Held(factor=2.0), lambda held: vars(held)["factor"], set_attribute),
    "by its item": (lambda: Held(factor=2.0), by_item, set_attribute),
    "by attrgetter": (lambda: Held(factor=2.0), operator.attrgetter("factor"), set_attribute),
    "a new one": (Held, lambda held: getattr(held, "factor", 1.0), set_attribute),
    "whether it is there": (Held, lambda held: 5 if hasattr(held, "factor") else 7, set_attribute),
    "in a slot": (lambda: with_factor(Slots()), by_factor, set_attribute),
    "a tensor in a slot": (lambda: with_factor(Slots(), torch.ones(2)), by_factor, lambda held: set_data(held.factor)),
    "a field": (Fields, by_factor, set_attribute),
    "of a namespace": (lambda: types.SimpleNamespace(factor=2.0), by_factor, set_attribute),
    "of a function": (lambda: with_factor(lambda: None), by_factor, set_attribute),
    "of a tensor": (lambda: with_factor(torch.ones(2)), by_factor, set_attribute),
    "of a list's": (lambda: with_factor(type("List", (list,), {})()), by_factor, set_attribute),
    "of a thread": (lambda: with_factor(threading.local()), by_factor, set_attribute),
    "of a module": (lambda: with_factor(types.ModuleType("own")), by_factor, set_attribute),
    "of a library": (lambda: with_factor(torch.nn.init), by_factor, set_attribute),
    "of a class": (classes, lambda held: held.base.factor, lambda held: set_attribute(held.base)),
    "of its base": (classes, lambda held: held.derived.factor, lambda held: set_attribute(held.base)),
    "of what derives": (classes, lambda held: held.derived.factor, lambda held: set_attribute(held.derived)),
    "another base": (
        classes,
        lambda held: held.derived.factor,
        lambda held: setattr(held.derived, "__bases__", (type("Other", (), {"factor": 3.0}),)),
    ),
    "another class": (
        lambda: type("One", (), {"get": lambda self: 2.0})(),
        lambda held: held.get(),
        lambda held: setattr(held, "__class__", type("Other", (), {"get": lambda self: 3.0})),
    ),
    "an item": (lambda: {"factor": 2.0}, by_item, set_item),
    "an item by a method": (
        lambda: {"factor": 2.0}.get,
        lambda held: held("factor"),
        lambda held: set_item(held.__self__),
    ),
    "an item as an attribute": (lambda: Attributes(factor=2.0), by_factor, set_item),
    "of a UserDict": (lambda: collections.UserDict(factor=2.0), by_item, set_item),
    "of a ChainMap": (lambda: collections.ChainMap({}, {"factor": 2.0}), by_item, lambda held: set_item(held.maps[1])),
    "of a proxy": (
        lambda: (d := {"factor": 2.0}, types.MappingProxyType(d)),
        lambda held: held[1]["factor"],
        lambda held: set_item(held[0]),
    ),
    "of a list": (lambda: [2.0], by_first, set_first),
    "of a deque": (lambda: collections.deque([2.0]), by_first, set_first),
    "of a set": (lambda: {"a"}, lambda held: 3.0 if "b" in held else 2.0, lambda held: held.add("b")),
    "bytes": (lambda: bytearray(b"\2"), by_first, set_first),
    "an array": (lambda: np.ones(2, np.float32), lambda held: float(held[0]), lambda held: held.fill(3)),
    "a large array": (lambda: np.ones(1 << 19, np.float32), lambda held: float(held[0]), lambda held: held.fill(3)),
    "data": (lambda: torch.ones(2), itself, set_data),
    "data of 16 bits": (lambda: torch.ones(2, dtype=torch.bfloat16), itself, set_data),
    "complex data": (lambda: torch.ones(2, dtype=torch.complex64), lambda held: held.real, set_data),
    "large data": (lambda: torch.ones(1 << 19), lambda held: held[:2], set_data),
    "large complex data": (lambda: torch.ones(1 << 17, dtype=torch.complex128), lambda held: held[:2].real, set_data),
    "data beside NaN": (lambda: torch.tensor([torch.nan, 1.0]), itself, set_data),
    "a sign of 0": (lambda: torch.zeros(2), lambda held: 1 / held, lambda held: held.data.copy_(-torch.zeros(2))),
    "data of a view": (lambda: torch.ones(4)[::2], itself, set_data),
    "data, as NumPy's": (lambda: torch.ones(2), itself, lambda held: held.numpy().fill(3)),
    "data of a weight": (
        lambda: nn.Linear(2, 2).requires_grad_(False),
        lambda held: held(X),
        lambda held: set_data(held.weight),
    ),
    "data of a buffer": (
        lambda: nn.BatchNorm1d(2).eval(),
        lambda held: held.running_mean,
        lambda held: held.running_mean.data.add_(3),
    ),
    "a hook": (
        lambda: nn.Linear(2, 2).requires_grad_(False),
        lambda held: held(X),
        lambda held: held.register_forward_hook(lambda m, given, y: y * 2),
    ),
    "a number of a tensor": (lambda: torch.tensor(2.0), lambda held: held.item(), set_data),
    "a gradient": (
        lambda: (w := torch.ones(2, requires_grad=True), setattr(w, "grad", torch.ones(2))),
        lambda held: held[0].grad,
        lambda held: set_data(held[0].grad),
    ),
    "a key": (lambda: fr.random.key(0), lambda held: fr.random.uniform(held, (2,)), lambda held: held.data.add_(1)),
    "a weak reference": (
        lambda: (w := torch.ones(2), weakref.ref(w)),
        lambda held: held[1](),
        lambda held: set_data(held[0]),
    ),
    "a context": (
        lambda: contextvars.ContextVar("factor", default=2.0),
        lambda held: held.get(),
        lambda held: held.set(3.0),
    ),
    "a partial's argument": (
        lambda: functools.partial(operator.mul, torch.ones(2)),
        lambda held: held(2),
        lambda held: set_data(held.args[0]),
    ),
    "a property of a global": (OfAGlobal, by_factor, set_global),
    "a module of a global": (OfAGlobal, lambda held: held(X), set_global),
    "another function for a type": (
        dispatched,
        lambda held: held(X),
        lambda held: held.register(Tensor, lambda x: x * 3),
    ),
    "what is executed": (
        lambda: executed("def read(): return FACTOR", FACTOR=2.0),
        lambda held: held["read"](),
        lambda held: held.update(FACTOR=3.0),
    ),
    "what is imported": (
        lambda: sys.modules.setdefault("own_settings", with_factor(types.ModuleType("own_settings"))),
        imported,
        set_attribute,
    ),
    "an environment variable": (
        lambda: None,
        lambda held: float(os.environ["FUNCREG_TEST"]),
        lambda held: os.environ.update(FUNCREG_TEST="3"),
    ),
}


# What torch.compile refuses, or compiles anew until it has looked it up.
KEPT_ALONE = {"by attrgetter", "an array", "a large array", "another function for a type"}
OLDER = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 15)  # whose compiler takes less
KEPT_ALONE |= {"bytes", "a context"} if OLDER else set[str]()


@pytest.mark.parametrize("kept", [False, True], ids=["jit", "kept"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_is_seen(change: str, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    monkeypatch.setenv("FUNCREG_TEST", "2")
    monkeypatch.delitem(sys.modules, "own_settings", raising=False)
    monkeypatch.setattr(torch.nn.init, "factor", 2.0, raising=False)
    if not kept and change in KEPT_ALONE:
        pytest.skip("torch.compile's own")
    make, read, write = CHANGES[change]
    held = make()

    def function(x: Tensor) -> Tensor:
        return x * read(held)

    program = in_folder(function, tmp_path, monkeypatch) if kept else as_traced(function)
    with torch.no_grad():
        before = [program(X), program(X)]
        for each in before:
            torch.testing.assert_close(each, function(X), equal_nan=True)
        if kept:
            assert program.compilations == 1, "nothing had changed"
        write(held)
        after = program(X)
        torch.testing.assert_close(after, function(X), equal_nan=True)
    assert not torch.equal(after.nan_to_num(), before[0].nan_to_num())


def count_up(counts: list[int]) -> int:
    counts[0] += 1
    return counts[0]


# What is closed over, what is done with it at each call, and what a program is not kept for.
USES: dict[str, tuple[Any, Callable[[Any], Any], str]] = {
    "a clock": (None, lambda held: time.time(), r"time\.time"),
    "a clock of torch's caller": (None, lambda held: torch.full((2,), time.perf_counter()), r"time\.perf_counter"),
    "a file": (Path(__file__), lambda held: held.stat().st_size, "stat"),
    "a file's text": (Path(__file__), lambda held: len(held.read_text()), "open"),
    "a draw": (None, lambda held: random.random(), r"random"),
    "a draw of NumPy's": (None, lambda held: float(np.random.rand()), "a generator of random numbers"),  # noqa: NPY002
    "its own generator": (np.random.default_rng(0), lambda held: float(held.random()), "as it is used"),
    "an iterator": (iter([1.0, 2.0, 3.0]), next, "as it is used"),
    "a generator": ((each for each in (1.0, 2.0)), lambda held: next(held), "as it is used"),
    "a tensor that is sparse": (torch.eye(2).to_sparse(), lambda held: held.to_dense(), "a tensor of another kind"),
    "a flag of torch's": (None, lambda held: 2.0 if torch.backends.mkldnn.enabled else 3.0, "mkldnn"),
}


@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")
@pytest.mark.parametrize("use", USES)
def test_what_is_not_to_be_watched_is_not_kept(use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, read, why = USES[use]
    program = in_folder(lambda x: x * read(held), tmp_path, monkeypatch)
    python, torchs = random.getstate(), torch.get_rng_state()
    taken = use == "a flag of torch's" or (use == "a draw" and not OLDER)  # by torch.compile
    refused = nullcontext() if taken else pytest.raises(fr.FuncregError, match="cannot be compiled whole")
    with refused, pytest.warns(UserWarning, match=f"no program is kept for .*{why}"):
        program(X)
    assert use == "a draw" or random.getstate() == python
    assert torch.equal(torch.get_rng_state(), torchs)


def test_a_function_that_changes_what_it_closes_over_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, counts, weight = 0, [0], torch.zeros(2)

    def counted(x: Tensor) -> Tensor:
        nonlocal number
        number += 1
        return x * number

    with pytest.raises(fr.FuncregError, match="changes number, which it closes over; expected a pure function"):
        in_folder(counted, tmp_path, monkeypatch)(X)
    for function in (lambda x: x * count_up(counts), lambda x: x * weight.add_(1)):
        with pytest.raises(fr.FuncregError, match="changes what a container or a tensor holds"):
            in_folder(function, tmp_path, monkeypatch)(X)


def test_what_is_filled_at_the_first_call_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Tensor] = {}

    def function(x: Tensor) -> Tensor:
        if "table" not in found:
            found["table"] = torch.arange(2.0)
        return x + found["table"]

    program = in_folder(function, tmp_path, monkeypatch)
    for _ in range(2):
        assert torch.equal(program(X), X + torch.arange(2.0))
    assert program.compilations == 1


def test_a_generator_that_is_imported_is_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy")
    with Outside() as outside:
        monkeypatch.setitem(sys.modules, "numpy", np)
    assert outside.found is None
    with Outside() as outside:
        np.random.rand()  # noqa: NPY002
    assert outside.found == "a generator of random numbers"


@pytest.mark.parametrize("held", [torch.ones(3), torch.ones(3, dtype=torch.bool), np.ones(3), torch.zeros(0)])
def test_a_stamp_is_of_the_numbers(held: Any) -> None:
    same = stamp(held)
    assert same()
    if len(held):
        (held.data if isinstance(held, Tensor) else held)[1] = 0
        assert not same()
