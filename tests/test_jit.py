"""`fr.jit`: compiles once for every number, again for a new shape, and sees what its caller changes."""

import functools
import math
import sys
import types
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx

import funcreg as fr
from funcreg import optim, train
from funcreg._jit import backend, kind_of, remembered, traced

FACTOR = 2.0
pytestmark = pytest.mark.usefixtures("compiled_as_users_do")


def programs() -> int:
    """How many programs torch.compile has made so far."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


class Negated(torch.nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return -super().forward(input)


def test_numbers_are_data_and_shapes_are_not() -> None:
    calls = fr.jit(lambda tree, step: {name: leaf * step for name, leaf in tree.items()})
    x = torch.ones(3)
    before = programs()
    for step in range(12):  # torch.compile alone gives up at the ninth number
        assert torch.equal(calls({"a": x, "b": 0.5}, step)["a"], x * step)
    assert programs() == before + 1
    calls({"a": torch.ones(4), "b": 0.5}, 1)
    assert programs() == before + 2


@pytest.mark.usefixtures("captured")
def test_numbers_that_come_after_tensors_are_data_too() -> None:
    scaled, x = fr.jit(lambda x, factor: x * factor), torch.ones(3)
    before = programs()
    for factor in (torch.tensor(2.0), torch.tensor(3.0), 4.0, torch.tensor(5.0), *range(6, 18)):
        for _ in range(2):
            assert torch.equal(scaled(x, factor), x * factor)
    assert programs() <= before + 4  # float32, a number taken for a constant, float64, int64


@pytest.mark.usefixtures("captured")
def test_a_program_within_a_program_is_part_of_it() -> None:
    scaled = fr.jit(lambda x, factor: x * factor)
    whole = fr.jit(lambda x, factor: scaled(x, 2.0) + scaled(x, factor))
    before = programs()
    for factor in (1.0, 2.0, 3.0):
        assert torch.equal(whole(torch.ones(2), factor), torch.full((2,), 2.0 + factor))
    assert programs() == before + 1


def test_arrays_are_tensors() -> None:
    both = traced(lambda x, by: torch.as_tensor(x) * by, lambda graph, inputs: graph.forward)
    for factor in (2.0, 3.0):
        array = np.full((3,), factor, dtype=np.float32)
        for by in (np.float32(factor), np.float32(factor + 1)):
            y = both(array, by)
            assert torch.equal(y, torch.full((3,), factor) * float(by))
            assert y.dtype == torch.float32
    assert both.compilations == 1


def test_python_numbers_do_not_promote() -> None:
    scaled = fr.jit(lambda x, factor: x * factor)
    assert scaled(torch.ones(2, dtype=torch.bfloat16), 0.5).dtype == torch.bfloat16
    assert scaled(torch.ones(2), 0.1).dtype == torch.float32


@pytest.mark.usefixtures("captured")
def test_changes_of_the_callers_globals_and_closures_are_seen() -> None:
    global FACTOR
    shift = 1.0

    def function(x: Tensor) -> Tensor:
        return x * FACTOR + shift

    compiled, x = fr.jit(function), torch.ones(2)
    assert torch.equal(compiled(x), torch.full((2,), 3.0))
    FACTOR = 5.0
    assert torch.equal(compiled(x), torch.full((2,), 6.0))
    shift = 0.0
    with pytest.warns(UserWarning, match="3 times for one kind of arguments"):
        assert torch.equal(compiled(x), torch.full((2,), 5.0))
    FACTOR = 2.0


@pytest.mark.parametrize(
    "change",
    [
        lambda module: module.eval(),
        lambda module: setattr(module[0], "p", 1.0),
        lambda module: module.__setitem__(1, nn.Tanh()),
        lambda module: setattr(module[2], "weight", nn.Parameter(torch.ones(2, 2))),
        lambda module: module[2].load_state_dict({"weight": torch.ones(2, 2), "bias": torch.ones(2)}),
    ],
)
def test_changes_of_a_callers_module_are_seen(change: Callable[[Any], Any]) -> None:
    module = nn.Sequential(Halves(), nn.ReLU(), nn.Linear(2, 2))
    function = traced(lambda x: module(x), lambda graph, inputs: graph.forward)
    x = torch.tensor([[1.0, -2.0]])
    with torch.no_grad():
        assert torch.equal(function(x), module(x))
        change(module)
        assert torch.equal(function(x), module(x))


class Halves(nn.Module):
    """What evaluates other than it trains, by a number of its own."""

    p = 0.5

    def forward(self, x: Tensor) -> Tensor:
        return x * self.p if self.training else -x


class Settings:
    def __init__(self, factor: float) -> None:
        self.factor = factor


@pytest.mark.usefixtures("captured")
def test_a_part_of_the_callers_that_is_called_apply_is_seen_too() -> None:
    settings = types.SimpleNamespace(apply=Settings(2.0))
    compiled, x = fr.jit(lambda x: x * settings.apply.factor), torch.ones(2)
    for factor in (2.0, 5.0, 2.0):
        settings.apply.factor = factor
        assert torch.equal(compiled(x), x * factor)


def entered(call: Callable[[], object]) -> bool:
    """Whether torch.compile's entry is gone through."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        call()
    return any(event.name.startswith("TorchDynamo") for event in seen.events() or ())


@pytest.mark.usefixtures("captured")
def test_a_program_that_was_made_is_called_past_the_compilers_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def function(params: dict[str, Tensor], scale: Any) -> Tensor:
        """Of the order of a dict, and of whether it is compiled."""
        first, second = params.values()
        return (first - second) * scale + (0 if torch.compiler.is_compiling() else 100)

    compiled, a, b = fr.jit(function), torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, 5.0])
    given: list[tuple[Any, Any, Tensor]] = [
        ({"a": a, "b": b}, 2.0, (a - b) * 2),
        ({"b": b, "a": a}, 3.0, (b - a) * 3),
        ({"a": b, "b": a}, torch.ones(2), b - a),
        ({"a": b, "b": b}, torch.ones(2), b - b),
        ({"a": b.double() + 1, "b": a}, 2.0, (b + 1 - a).double() * 2),
        ({"a": b[:1], "b": b[1:]}, 2.0, (b[:1] - b[1:]) * 2),
    ]
    for _ in range(3):
        for params, scale, expected in given:
            y = compiled(params, scale)
            torch.testing.assert_close(y, expected)
            assert y.requires_grad == expected.requires_grad
            if y.requires_grad:
                slopes = [torch.autograd.grad(z.sum(), a, retain_graph=True)[0] for z in (y, expected)]
                assert torch.equal(*slopes)
    made = compiled.compilations
    assert not entered(lambda: compiled({"a": a, "b": b}, 2.0))
    with torch.compiler.set_stance("force_eager"):
        assert torch.equal(compiled({"a": a, "b": b}, 2.0), (a - b) * 2 + 100)
    with pytest.raises(RuntimeError, match="symbolically trace"):  # as of any program, rather than leave it out
        make_fx(lambda a: compiled({"a": a, "b": b}, 2.0))(a.detach())
    assert compiled.compilations == made
    torch.compiler.reset()
    assert torch.equal(compiled({"a": a, "b": b}, 2.0), (a - b) * 2)
    assert compiled.compilations == made + 1
    monkeypatch.delattr("torch._C._dynamo.eval_frame._debug_get_cache_entry_list")
    through = fr.jit(lambda x, scale: x * scale)  # a torch that does not tell what it has made
    assert [float(through(torch.tensor(2.0), scale)) for scale in (3.0, 4.0)] == [6, 8]
    assert entered(lambda: through(torch.tensor(2.0), 5.0))
    assert through.compilations == 1


@pytest.mark.usefixtures("captured")
def test_another_model_in_the_same_closure_is_another_program() -> None:
    params = {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}
    model = fr.from_module(torch.nn.Linear(2, 2))

    def function(x: Tensor) -> Tensor:
        return model.apply(params, {}, x)[0]

    compiled, x = fr.jit(function), torch.ones(1, 2)
    assert torch.equal(compiled(x), torch.full((1, 2), 2.0))
    model = fr.from_module(Negated(2, 2))
    assert torch.equal(compiled(x), torch.full((1, 2), -2.0))


@pytest.mark.usefixtures("captured")
def test_many_functions_of_one_source_are_many_programs() -> None:
    functions = [fr.jit(lambda x, shift=shift: x + shift) for shift in range(10)]  # torch.compile gives up at nine
    assert [float(function(torch.zeros(()))) for function in functions] == list(range(10))


def test_some_steps_of_a_sweep_are_one_program() -> None:
    def loss_fn(params: Any, state: Any, batch: train.Batch, *, key: Tensor, hparams: Any) -> Any:
        kept = fr.noise.dropout(batch.x, hparams["rate"], key=key)
        return ((kept @ params["w"] - batch.y) ** 2).mean(), (state, {})

    def sgd(hparams: Any) -> fr.transforms.Transform:
        return optim.sgd(hparams["lr"], momentum=0.9)

    step = train.make_step(loss_fn, sgd)

    def sweep(train_state: train.TrainState, batches: train.Batch, lr: Tensor, rate: Any) -> Any:
        def member(train_state: train.TrainState, lr: Tensor) -> Any:
            return train.unroll(step, train_state, batches, {"lr": lr, "rate": rate})

        with fr.random.compiled_draws_are("native"):
            return vmap(member)(train_state, lr)

    x = fr.random.normal(fr.random.key(0), (3, 8, 4), dtype=torch.float64)
    lr = torch.tensor([0.01, 0.02, 0.04], dtype=torch.float64)
    begin = train.init({"w": torch.zeros(3, 4).double()}, {}, sgd, key=fr.random.key(1), hparams={"lr": lr}, members=3)
    compiled, before = fr.jit(sweep), programs()
    for rate in (0.3, 0.6):
        given = (begin, train.Batch(x, x.sum(-1)), lr * rate, rate)
        torch.testing.assert_close(compiled(*given), sweep(*given), rtol=1e-12, atol=1e-12)
    assert programs() == before + 1
    by_hand, hparams = fr.tree.index(begin, 2), {"lr": lr[2] * 0.6, "rate": 0.6}
    for row in x:
        by_hand, _ = step(by_hand, train.Batch(row, row.sum(-1)), hparams)
    alone = fr.tree.index(compiled(*given)[0], 2)
    torch.testing.assert_close(alone, by_hand, rtol=1e-12, atol=1e-12)
    assert by_hand.params["w"].abs().min() > 1e-4, "training did not move"


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(fr.FuncregError, match="function: got 3"):
        fr.jit(3)  # type: ignore[arg-type]


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not fr.can_compile()
    with pytest.raises(fr.FuncregError, match="no-such-compiler"):
        fr.jit(lambda x: x)


def test_a_kind_is_all_but_values() -> None:
    x, first = torch.zeros(2, 3), kind_of({"x": torch.ones(2, 3), "rate": 0.5})
    assert kind_of({"x": x, "rate": 0.1}) == first
    others = [{"y": x, "rate": 0.5}, {"x": x.T, "rate": 0.5}, {"x": x.double(), "rate": 0.5}, {"x": x, "rate": 1}]
    assert first not in [kind_of(other) for other in others]
    with torch.autocast("cpu", torch.bfloat16):
        assert kind_of({"x": x, "rate": 0.5}) != first, "a program made here casts, wherever it runs"
    with torch.no_grad():
        assert kind_of({"x": x, "rate": 0.5}) != first


def test_what_is_remembered_is_made_once_for_a_function_and_a_kind() -> None:
    made: list[str] = []

    def owner() -> None: ...

    for kind in ("a", "b", "a"):
        assert remembered(owner, kind, lambda kind=kind: made.append(kind) or kind) == kind
    assert made == ["a", "b"]


def carried(function: Any, state: Any, steps: int = 3) -> int:
    """How often a function is compiled that gets as its state what it returned."""
    compiled = fr.jit(function)
    for _ in range(steps):
        state = compiled(state)
    return compiled.compilations


def test_a_state_that_goes_in_as_it_came_out_is_compiled_for_once(key: Tensor) -> None:
    params, grads = {"w": torch.ones(3)}, {"w": torch.full((3,), 0.5)}
    for optimizer in (
        fr.transforms.accumulate(optim.adam(0.1), 2),  # begins with one tensor in two fields
        fr.transforms.skip_nonfinite(optim.adam(0.1)),
    ):
        assert carried(lambda state, o=optimizer: o.update(grads, state, params)[1], optimizer.init(params)) == 1
    keys = fr.random.split(key, 4)
    expected = [fr.random.split(fr.random.split(k)[0])[0] for k in keys]
    step = fr.jit(vmap(lambda k: fr.random.split(k)[0]))
    assert torch.equal(step(step(keys)), torch.stack(expected))
    assert step.compilations == 1, "a member's key has the strides of all halves"
    repeated = torch.zeros(4, 2)  # what no member changes comes out of vmap with a stride of 0
    assert carried(vmap(lambda both: (both[0] + 1, torch.zeros(2))), (torch.ones(4, 2), repeated)) == 1


@pytest.mark.usefixtures("captured")
def test_a_tensor_may_come_twice_or_not() -> None:
    both, x = fr.jit(lambda a, b: a * b), torch.arange(3.0)
    for other in (x, x + 1, x, x.clone()):
        assert torch.equal(both(x, other), x * other)
    assert both.compilations == 1
    weight = torch.nn.Parameter(torch.ones(3))
    scaled = fr.jit(lambda w, b: w * b)
    (slope,) = torch.autograd.grad(scaled(weight, weight).sum(), weight)
    torch.testing.assert_close(slope, torch.full((3,), 2.0))
    with torch.no_grad():
        once = fr.jit(lambda w: w - 1)
        assert torch.equal(once(once(weight)), weight - 2)
    assert once.compilations == 1


@pytest.mark.usefixtures("captured")
def test_a_smaller_last_batch_is_said_once() -> None:
    mean = fr.jit(lambda params, x, y: (params["w"] * x - y).mean())
    params = {"w": torch.ones(())}
    mean(params, torch.ones(5, 2), torch.ones(5, 2))
    with pytest.warns(UserWarning, match=r"for 3 rows after 5: a smaller last batch\? Leave it out, or fill it up"):
        assert float(mean(params, torch.ones(3, 2), torch.zeros(3, 2))) == 1
    mean(params, torch.ones(2, 2), torch.ones(2, 2))
    assert mean.compilations == 3


def test_any_number_of_shapes_is_compiled_and_many_are_said() -> None:
    total = traced(lambda x, scale: (x * scale).sum(), lambda graph, inputs: graph.forward)
    for rows in (1, 2, 4, 7, 11, 16, 22, 29, 37, 46, 56):
        with pytest.warns(UserWarning, match="was compiled 9 times. Each shape") if rows == 37 else nullcontext():
            assert float(total(torch.ones(rows), 2.0)) == 2 * rows
    assert total.compilations == 11


def test_a_size_that_grows_is_said_at_the_third() -> None:
    for shape in (lambda n: (n, 3), lambda n: (2, n)):
        total = traced(lambda x, mask: (x * mask).sum(), lambda graph, inputs: graph.forward)
        for size in (5, 6, 7, 8):
            said = pytest.warns(UserWarning, match="a size of 7 after 5 and 6: one that grows from call to call")
            with said if size == 7 else nullcontext():
                assert float(total(torch.ones(shape(size)), torch.ones(shape(size)))) == math.prod(shape(size))
    batches = traced(lambda x: x.sum(), lambda graph, inputs: graph.forward)
    for rows in (128, 200, 300):  # of training, evaluation, and a test
        batches(torch.ones(rows))
    last = traced(lambda x: x.sum(), lambda graph, inputs: graph.forward)
    for rows in (10, 5, 20):  # of training, the last, and evaluation
        with pytest.warns(UserWarning, match="a smaller last batch") if rows == 5 else nullcontext():
            last(torch.ones(rows))


def test_what_changes_beside_the_arguments_is_said() -> None:
    settings = types.SimpleNamespace(factor=1.0)
    scaled = traced(lambda x, by=None: (by or torch.clone)(x) * settings.factor, lambda graph, inputs: graph.forward)
    x = torch.ones(2)
    for factor in (1.0, 2.0, 1.0, 2.0, 3.0):
        settings.factor = factor
        with (
            pytest.warns(UserWarning, match="3 times for one kind of arg.* closes over")
            if factor == 3
            else nullcontext()
        ):
            assert torch.equal(scaled(x), x * factor)
    for factor in (1.0, 2.0, 3.0):
        with pytest.warns(UserWarning, match="a function among its arguments") if factor == 3 else nullcontext():
            assert torch.equal(scaled(x, lambda x, factor=factor: x * factor), x * factor * 3)


def test_a_number_that_sets_a_shape_is_refused_with_the_remedy() -> None:
    reshaped = traced(lambda x, rows: x.reshape(rows, -1), lambda graph, inputs: graph.forward)
    with pytest.raises(fr.FuncregError, match=r"one that sets a shape is closed over: functools\.partial"):
        reshaped(torch.ones(6), 2)


def test_calls_of_several_modes_in_a_program_need_no_call_before() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5))
    (params, state), x = fr.variables(module), fr.random.normal(fr.random.key(0), (4, 3))
    given = params, state, x, fr.random.key(1)

    def outputs(apply: Any, params: Any, state: Any, x: Tensor, key: Tensor) -> list[Tensor]:
        noisy = {"key": key}
        modes: list[Any] = [{}, noisy, {**noisy, "train": True}, {**noisy, "train": True, "frozen": ("1",)}]
        return [apply(params, state, x, **mode)[0] for mode in modes]

    model, fresh = fr.from_module(module), fr.from_module(module)
    found = traced(functools.partial(outputs, fresh.apply), lambda graph, inputs: graph.forward)(*given)
    for one, other in zip(found, outputs(model.apply, *given), strict=True):
        torch.testing.assert_close(one, other)


def test_vectors_are_taken_for_known_where_torch_and_the_compiler_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import config, cpu_vec_isa

    known, ours = {"cpp.vec_isa_ok": True}, backend.vectors.__wrapped__
    for capability, flags in backend._FLAGS.items():
        of = {"AVX2": {"avx2"}, "AVX512": {"avx2", "avx512", "avx512_vnni"}}[capability]
        needed = [each for each in cpu_vec_isa.supported_vec_isa_list if set(str(each).split()) <= of]
        assert needed, "torch has other names for them"
        assert all(set(each._arch_flags.split()) <= set(flags.split()) for each in needed)

    def found(capability: str, code: int = 0, given: bool | None = None) -> dict[str, Any]:
        calls = tmp_path / "calls"
        calls.write_text(f"#!/bin/sh\nexit {code}\n")
        calls.chmod(0o755)
        monkeypatch.setenv("CXX", str(calls))
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        with config.patch({"cpp.vec_isa_ok": given}):
            return ours()

    assert found("AVX512") == found("AVX2") == (known if sys.platform == "linux" else {})
    assert found("AVX512", 1) == {}, "a compiler that does not know them"
    assert found("DEFAULT") == found("NO AVX") == found("SVE256") == {}
    assert found("AVX512", given=False) == found("AVX512", given=True) == {}, "what is set stays"
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    assert ours() == {}


def test_scalars_do_not_make_it_begin_anew() -> None:
    from torch._dynamo.symbolic_convert import TensorifyState
    from torch._dynamo.utils import compilation_time_metrics as spent

    x = torch.arange(3.0)
    torch.compiler.reset()
    TensorifyState.clear()
    spent.clear()
    scaled = fr.jit(lambda x, rate: x * rate)
    for rate in (0.5, 2.0, torch.tensor(3.0, dtype=torch.float64)):
        assert torch.equal(scaled(x, rate), x * rate)
    assert "compile_attempt_0" in spent
    assert "compile_attempt_1" not in spent, "the function is traced twice"
    read = fr.jit(lambda x, rate: x * rate.item())  # a number is taken out of one
    for rate in (0.5, 2.0):
        assert torch.equal(read(x, torch.tensor(rate, dtype=torch.float64)), x * rate)
