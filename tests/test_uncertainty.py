"""fr.uncertainty: closed forms, chunks that add up, and scores."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.utils import counters
from torch.func import grad_and_value
from torch.utils.flop_counter import FlopCounterMode

import funcreg as fr
from funcreg import _jit, noise, random, uncertainty
from funcreg.uncertainty import memory, predictive, program, replay


class Net(NamedTuple):
    """A model by hand: two layers with dropout between, so that these tests need no nn.Module."""

    def apply(
        self, params: Any, state: Any, x: Tensor, *, key: Tensor | None = None, rates: Any = None
    ) -> tuple[Tensor, Any]:
        hidden = torch.relu(x @ params["0"])
        if key is not None:
            hidden = noise.dropout(hidden, 0.5 if rates is None else rates, key=key)
        return hidden @ params["1"], state


def network(dtype: torch.dtype = torch.float64) -> tuple[Net, dict[str, Tensor], Tensor]:
    first, second, inputs = fr.random.split(fr.random.key(7), 3)
    params = {
        "0": fr.random.normal(first, (5, 16), dtype=torch.float64).to(dtype),
        "1": fr.random.normal(second, (16, 3), dtype=torch.float64).to(dtype),
    }
    return Net(), params, fr.random.normal(inputs, (4, 5), dtype=torch.float64).to(dtype)


def by_hand(samples: Tensor) -> uncertainty.Predictive:
    mean = samples.mean(dim=0)
    entropy, each = (torch.special.entr(p).sum(dim=-1) for p in (mean, samples))
    expected = each.mean(dim=0)
    return uncertainty.Predictive(mean, samples.var(dim=0, correction=0), entropy, expected, entropy - expected)


def test_mc_dropout_is_a_loop_over_keys(key: Tensor) -> None:
    model, params, x = network()
    logits = torch.stack([model.apply(params, {}, x, key=k)[0] for k in fr.random.split(key, 10)])
    result = uncertainty.mc_dropout(model, params, {}, x, key=key, samples=10)
    torch.testing.assert_close(result, by_hand(torch.softmax(logits, dim=-1)), rtol=1e-10, atol=1e-12)
    assert float(result.variance.min()) > 0
    assert result.mean.shape == result.variance.shape == (4, 3)
    assert result.entropy.shape == result.expected_entropy.shape == result.mutual_information.shape == (4,)


@pytest.mark.parametrize("chunk_size", [1, 3, 4, 11, 12, 100])
def test_chunks_change_nothing_but_rounding(chunk_size: int, key: Tensor) -> None:
    model, params, x = network()
    whole = uncertainty.mc_dropout(model, params, {}, x, key=key, samples=12)
    chunked = uncertainty.mc_dropout(model, params, {}, x, key=key, samples=12, chunk_size=chunk_size)
    torch.testing.assert_close(chunked, whole, rtol=1e-10, atol=1e-12)


def test_a_chunk_is_all_that_is_held(key: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model, params, x = network()
    held: list[int] = []
    summarise = predictive.moments

    def spy(samples: Tensor, own: Tensor) -> Any:
        held.append(samples.shape[0])
        return summarise(samples, own)

    monkeypatch.setattr(predictive, "moments", spy)
    uncertainty.mc_dropout(model, params, {}, x, key=key, samples=10, chunk_size=4)
    assert held == [4, 4, 2]


def test_auto_takes_as_many_as_the_budget_allows_in_even_chunks(key: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model, params, x = network(torch.float32)
    held: list[int] = []
    summarise = predictive.moments
    monkeypatch.setattr(predictive, "moments", lambda *each: (held.append(len(each[0])), summarise(*each))[1])

    def chunks(**budget: Any) -> list[int]:
        held.clear()
        uncertainty.mc_dropout(model, params, {}, x, key=key, samples=10, **budget)
        return list(held)

    assert chunks() == [10]
    assert chunks(memory_budget=1) == [1] * 10
    one = memory.peak_bytes(
        lambda: torch.func.vmap(lambda k: model.apply(params, {}, x, key=k)[0].softmax(-1))(key[None]), of=[key]
    )
    hidden = 4 * 16 * 4
    # Numbers, mask and product, the first layer does not count; draws by tensor operations hold words of 64 bits.
    assert 2 * hidden < one < (3 * hidden + 100 if fr.random.backend() == "native" else 8 * hidden)
    assert chunks(memory_budget=3 * one) == [3, 3, 3, 1]
    assert chunks(memory_budget=4 * one) == [4, 4, 2]  # three chunks are needed, which four samples each fill evenly
    assert chunks(memory_budget=9 * one) == [5, 5]


def test_a_chunk_keeps_to_its_budget(key: Tensor) -> None:
    model, params, x = network(torch.float32)
    x = x.repeat(100, 1)
    for budget in (200_000, 2_000_000):
        taken = memory.peak_bytes(
            lambda budget=budget: uncertainty.mc_dropout(model, params, {}, x, key=key, memory_budget=budget)
        )
        # Beside the chunk's are what all share, and the summaries of a few samples' size.
        assert taken < budget + 120_000


@pytest.mark.parametrize("chunk_size", [1, 3, 10])
def test_what_comes_before_the_first_noise_is_computed_once(chunk_size: int, key: Tensor) -> None:
    model, params, x = network()
    with FlopCounterMode(display=False) as flops:
        uncertainty.mc_dropout(model, params, {}, x, key=key, samples=9, chunk_size=chunk_size)
    assert flops.get_total_flops() == 2 * 4 * 5 * 16 + 9 * 2 * 4 * 16 * 3


def written_after(x: Tensor, key: Tensor) -> Tensor:
    y = noise.dropout(x, 0.5, key=key)
    x.add_(1)
    return x + y


def written_before(x: Tensor, key: Tensor) -> Tensor:
    x.relu_().add_(1)
    return noise.dropout(x, 0.5, key=key)


def into_a_buffer(x: Tensor, key: Tensor) -> Tensor:
    buffer = torch.zeros(5, dtype=x.dtype)
    first = noise.dropout(x, 0.5, key=key) + buffer
    buffer[1:3] = x[0, :2]
    return first * buffer


def a_constant_in_steps(x: Tensor, key: Tensor) -> Tensor:
    scale = torch.ones(4, 5, dtype=x.dtype)
    scale[1:].mul_(2)
    row = scale[2]
    row.add_(3)
    return noise.dropout(scale, 0.5, key=key) + x


def by_place_in_memory(x: Tensor, key: Tensor) -> Tensor:
    return noise.dropout(x, 0.5, key=key).as_strided((4, 3), (5, 1), 1) * key.as_strided((1,), (1,)).cos()


def without_noise(x: Tensor, key: Tensor) -> Tensor:
    return x.cos()


def by_values_that_no_key_reaches(x: Tensor, key: Tensor) -> Tensor:
    return noise.dropout(x if float(x.sum()) > 0 else -x, 0.5, key=key)[:, : int((x > 0).sum())]


def sparse(x: Tensor, key: Tensor) -> Tensor:
    return torch.sparse.mm(torch.eye(4, dtype=x.dtype).to_sparse(), x) + noise.dropout(x, 0.5, key=key)


def derivative(x: Tensor, key: Tensor) -> Tensor:
    return torch.func.grad(lambda z: (noise.dropout(z, 0.5, key=key) ** 2).sum() + z.exp().sum())(x)


def cast(x: Tensor, key: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return (noise.dropout(x.float(), 0.5, key=key) @ x.float().T).double()


@pytest.mark.parametrize(
    "forward",
    [
        written_after,
        written_before,
        into_a_buffer,
        a_constant_in_steps,
        by_place_in_memory,
        without_noise,
        by_values_that_no_key_reaches,
        sparse,
        derivative,
        cast,
    ],
)
def test_a_recorded_chunk_is_right_or_not_used(forward: Callable[[Tensor, Tensor], Tensor], key: Tensor) -> None:
    x, keys = network()[2], fr.random.split(key, 6)

    def each(key: Tensor) -> Tensor:
        return forward(x.clone(), key)

    first = keys[:2]
    result, again = replay.recorded(lambda: torch.func.vmap(each)(first), [first])
    torch.testing.assert_close(result, torch.stack([each(k) for k in first]), rtol=1e-10, atol=1e-12)
    assert (again is None) == (forward in {written_after, by_place_in_memory})
    for place in (0, 2, 4):
        if again is None:
            continue
        others = keys[place : place + 2]
        expected = torch.stack([each(k) for k in others])
        torch.testing.assert_close(again([others]), expected, rtol=1e-10, atol=1e-12)


def test_a_recorded_chunk_holds_nothing_of_it(key: Tensor) -> None:
    model, params, x = network()
    x, (first, second) = x.repeat(1000, 1), fr.random.split(key, 4).split(2)

    def call() -> Tensor:
        return torch.func.vmap(lambda k: model.apply(params, {}, x, key=k)[0])(first)

    whole = memory.peak_bytes(call)
    _, again = replay.recorded(call, [first])
    assert again is not None
    drawn = 2 * 4000 * 16  # of two members, which the first layer's results are not
    assert 8 * drawn < memory.peak_bytes(lambda: again([second])) <= 2 * 8 * drawn < whole


def test_gradients_reach_every_chunk(key: Tensor) -> None:
    model, params, x = network()

    def certainty(params: Any, **how: Any) -> Tensor:
        return uncertainty.mc_dropout(model, params, {}, x, key=key, samples=4, **how).mean[:, 0].sum()

    expected = torch.func.grad(lambda p: certainty(p))(params)
    watched = fr.tree.map(lambda leaf: leaf.clone().requires_grad_(), params)
    found = torch.autograd.grad(certainty(watched, chunk_size=1), list(watched.values()))
    torch.testing.assert_close(dict(zip(params, found, strict=True)), expected, rtol=1e-10, atol=1e-12)


def test_batches_of_inputs_are_calls_of_their_own(key: Tensor) -> None:
    model, params, x = network()
    x = torch.cat((x, x + 1))[:7]
    whole = uncertainty.mc_dropout(model, params, {}, x, key=key, samples=5)
    for all_at_once in (None, 7, 100):
        same = uncertainty.mc_dropout(model, params, {}, x, key=key, samples=5, batch_size=all_at_once)
        torch.testing.assert_close(same, whole, rtol=0, atol=0)
    parts = [
        uncertainty.mc_dropout(model, params, {}, rows, key=k, samples=5)
        for k, rows in zip(fr.random.split(key, 3), (x[:3], x[3:6], x[4:]), strict=True)
    ]
    expected = fr.tree.map(lambda *leaves: torch.cat(leaves)[[0, 1, 2, 3, 4, 5, 8]], *parts)
    for chunk_size in (2, 5):
        found = uncertainty.mc_dropout(model, params, {}, x, key=key, samples=5, batch_size=3, chunk_size=chunk_size)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    members = {"0": torch.stack([params["0"]] * 2), "1": torch.stack([params["1"], 2 * params["1"]])}
    alone, batched = (uncertainty.ensemble(model, members, {}, x, batch_size=size) for size in (None, 2))
    torch.testing.assert_close(batched, alone, rtol=1e-10, atol=1e-12)


def test_under_vmap_the_budget_is_for_all_of_them(key: Tensor) -> None:
    model, params, x = network(torch.float32)

    def run(rates: Tensor) -> uncertainty.Predictive:
        return torch.func.vmap(
            lambda rate: uncertainty.mc_dropout(model, params, {}, x, key=key, rates=rate, memory_budget=400_000)
        )(rates)

    rates = torch.linspace(0.1, 0.5, 50)
    alone = uncertainty.mc_dropout(model, params, {}, x, key=key, rates=rates[3])
    torch.testing.assert_close(fr.tree.index(run(rates), 3), alone)
    assert memory.peak_bytes(lambda: run(rates)) < 500_000


def test_memory_counts_what_is_alive_at_once() -> None:
    x = torch.ones(1000)

    def call() -> Tensor:
        one = x + 1
        view = one[10:].view(-1)  # holds the same memory
        two = one * 2
        del one, two
        return view + 1

    assert memory.peak_bytes(lambda: x[5:]) == 0
    assert memory.peak_bytes(lambda: x.repeat(3)) == 12_000
    assert memory.peak_bytes(call) == 8_000


def test_compiled_it_says_the_same_and_never_compiles_again(key: Tensor) -> None:
    torch.compiler.reset()
    model, params, x = network()

    def run(params: Any, x: Tensor, key: Tensor, **how: Any) -> uncertainty.Predictive:
        return uncertainty.mc_dropout(model, params, {}, x, key=key, samples=10, **how)

    before = counters["stats"]["unique_graphs"]
    for factor, rates in ((1.0, 0.5), (2.0, 0.3)):
        scaled, other = fr.tree.map(lambda leaf, f=factor: leaf * f, params), fr.random.fold_in(key, int(factor))
        compiled = run(scaled, x * factor, other, rates=rates, chunk_size=4, jit=True)
        torch.testing.assert_close(compiled, run(scaled, x * factor, other, rates=rates), rtol=1e-10, atol=1e-12)
    assert counters["stats"]["unique_graphs"] - before == 1


def test_the_program_has_what_is_the_same_for_all_samples_outside(key: Tensor) -> None:
    model, params, x = network()
    keys = fr.random.split(key, 4)

    def draw(key: Tensor, shared: Any) -> Tensor:
        return model.apply(shared[0], {}, shared[1], key=key)[0]

    graph = program._graph(draw, keys, (params, x))
    once, each = program._halves(graph, 1)
    first, second = (sum("mm" in str(node.target) for node in half.graph.nodes) for half in (once, each))
    assert (first, second) == (1, 1)
    with FlopCounterMode(display=False) as flops:
        results = once(*fr.tree.leaves((params, x)))
    assert flops.get_total_flops() == 2 * 4 * 5 * 16  # the first layer, for four inputs
    expected = torch.func.vmap(draw, (0, None))(keys, (params, x))
    torch.testing.assert_close(each(keys, *results), expected, rtol=1e-12, atol=1e-12)


def test_it_compiles_whole(key: Tensor) -> None:
    torch.compiler.reset()
    model, params, x = network()

    def predict(params: dict[str, Tensor], x: Tensor, key: Tensor) -> uncertainty.Predictive:
        with fr.random.compiled_draws_are("native"):
            return uncertainty.mc_dropout(model, params, {}, x, key=key, samples=6, chunk_size=4)

    expected = uncertainty.mc_dropout(model, params, {}, x, key=key, samples=6)
    torch.testing.assert_close(fr.jit(predict)(params, x, key), expected, rtol=1e-10, atol=1e-12)


def test_rates_replace_the_models_own_and_may_be_batched(key: Tensor) -> None:
    model, params, x = network()

    def run(rate: Any) -> uncertainty.Predictive:
        return uncertainty.mc_dropout(model, params, {}, x, key=key, samples=8, rates=rate)

    certain = run(0.0)
    torch.testing.assert_close(certain.mean, torch.softmax(model.apply(params, {}, x)[0], dim=-1))
    assert float(certain.variance.max()) < 1e-30
    assert float(certain.mutual_information.max()) < 1e-12
    batched = torch.func.vmap(run)(torch.tensor([0.0, 0.5], dtype=torch.float64))
    torch.testing.assert_close(fr.tree.index(batched, 1), run(0.5), rtol=1e-10, atol=1e-12)


def test_what_is_compiled_cannot_depend_on_values_nor_be_in_a_transform(key: Tensor) -> None:
    _, params, x = network()

    class Deciding(NamedTuple):
        def apply(self, params: Any, state: Any, x: Tensor, *, key: Tensor, rates: Any = None) -> tuple[Tensor, Any]:
            return (x @ params["0"] if x.sum() > 0 else x @ params["1"]), state

    with pytest.raises(fr.FuncregError, match="model: got one that asks for a tensor's values"):
        uncertainty.mc_dropout(Deciding(), params, {}, x, key=key, chunk_size=2, jit=True)
    keys = fr.random.split(key, 2)
    with pytest.raises(fr.FuncregError, match="jit: got True; expected False inside of vmap"):
        torch.func.vmap(lambda k: uncertainty.mc_dropout(Net(), params, {}, x, key=k, jit=True))(keys)


def test_a_module_predicts_with_running_statistics_and_noise(key: Tensor) -> None:
    module = torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
    )
    model = fr.from_module(module)
    params, state = fr.variables(module)
    before = fr.tree.clone(state)
    x = network(torch.float32)[2]
    result = uncertainty.mc_dropout(model, params, state, x, key=key, samples=20)
    alone = uncertainty.mc_dropout(model, params, state, x[:1], key=key, samples=20)
    assert float(result.variance.min()) > 0
    # With batch statistics one input alone would be refused, and would depend on its neighbours.
    assert alone.mean.shape == (1, 3)
    assert all(torch.equal(state[name], before[name]) for name in before)


def test_16_bit_logits_are_summarised_in_float32(key: Tensor) -> None:
    model, params, x = network(torch.bfloat16)
    assert {each.dtype for each in uncertainty.mc_dropout(model, params, {}, x, key=key, samples=3)} == {torch.float32}


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_logit_is_two_classes(shape: tuple[int, ...], key: Tensor) -> None:
    """The same as of two logits, the first of them 0; small probabilities keep their digits."""
    _, params, x = network()

    class Binary(NamedTuple):
        two: bool = False

        def apply(self, params: Any, state: Any, x: Tensor, *, key: Tensor, rates: Any = None) -> tuple[Tensor, Any]:
            z = 9 * noise.dropout(x @ params["0"][:, 0], 0.5, key=key)
            return (torch.stack((torch.zeros_like(z), z), -1) if self.two else z.reshape(-1, *shape[1:])), state

    one = uncertainty.mc_dropout(Binary(), params, {}, x, key=key, samples=7, batch_size=2, head="sigmoid")
    two = uncertainty.mc_dropout(Binary(two=True), params, {}, x, key=key, samples=7, batch_size=2)
    assert one.mean.shape == (4, 2)
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-300)
    assert fr.losses.accuracy(one.mean, torch.ones(4, dtype=torch.int64)).shape == ()


def test_labels_that_do_not_exclude_each_other_are_classes_of_their_own() -> None:
    model, _, x = network()
    labels = uncertainty.ensemble(model, members(), {}, x, head="sigmoid")
    assert labels.mean.shape == (4, 3, 2)
    assert labels.entropy.shape == (4, 3)
    of_last = uncertainty.ensemble(model, {**members(), "1": members()["1"][..., 2]}, {}, x, head="sigmoid")
    torch.testing.assert_close(fr.tree.map(lambda leaf: leaf[:, 2], labels), of_last, rtol=1e-10, atol=1e-12)


def test_raw_samples_say_what_the_summary_does(key: Tensor) -> None:
    model, params, x = network()
    how: dict[str, Any] = {"key": key, "samples": 10, "batch_size": 3}
    for chunk_size in (3, "auto"):
        raw = uncertainty.mc_dropout(model, params, {}, x, head="raw", chunk_size=chunk_size, **how)
        assert raw.shape == (10, 4, 3)
        whole = uncertainty.mc_dropout(model, params, {}, x, **how)
        again = uncertainty.from_samples(torch.softmax(raw, dim=-1))
        torch.testing.assert_close(again, whole, rtol=1e-10, atol=1e-12)
    raw = uncertainty.ensemble(model, members(), {}, x, head="raw", chunk_size=2)
    logits = torch.stack([model.apply(each, {}, x)[0] for each in fr.tree.unstack(members())])
    torch.testing.assert_close(raw, logits, rtol=1e-10, atol=1e-12)


def test_raw_samples_may_be_anything(key: Tensor) -> None:
    """Of images, in 16 bits as they are, and classes, which have no probabilities."""

    class Segments(NamedTuple):
        def apply(self, params: Any, state: Any, x: Tensor, *, key: Tensor, rates: Any = None) -> tuple[Tensor, Any]:
            return noise.dropout(x, 0.5, key=key).argmax(dim=1), state

    x = torch.rand(2, 3, 4, 5, dtype=torch.bfloat16)
    assert uncertainty.mc_dropout(Segments(), {}, {}, x, key=key, samples=6, head="raw").shape == (6, 2, 4, 5)


def test_a_gaussian_head_tells_noise_from_ignorance(key: Tensor) -> None:
    """Members that agree, with noise; members without noise that do not."""

    class Head(NamedTuple):
        def apply(self, params: Any, state: Any, x: Tensor) -> tuple[Tensor, Any]:
            return torch.stack((x + params["shift"], params["log_variance"].expand_as(x)), dim=-1), state

    x, quiet = torch.linspace(0, 1, 3, dtype=torch.float64), torch.full((2,), -torch.inf, dtype=torch.float64)
    apart = {"shift": torch.tensor([-2.0, 2.0], dtype=torch.float64), "log_variance": quiet}
    noisy = {"shift": torch.zeros(2, dtype=torch.float64), "log_variance": torch.tensor([1.0, 3.0]).double().log()}
    for params, epistemic, aleatoric in ((apart, 4.0, 0.0), (noisy, 0.0, 2.0)):
        seen = uncertainty.ensemble(Head(), params, {}, x, head="gaussian")
        torch.testing.assert_close(seen.mean, x[:, None])
        assert seen.epistemic.tolist() == [[epistemic]] * 3
        torch.testing.assert_close(seen.aleatoric, torch.full((3, 1), aleatoric, dtype=torch.float64))
        assert torch.equal(seen.variance, seen.epistemic + seen.aleatoric)


def test_a_variance_is_not_lost_beside_a_large_mean() -> None:
    means = 1e4 + torch.tensor([[-1.0], [1.0]])
    assert uncertainty.regression_from_samples(means).epistemic.item() == 1.0


def test_a_negative_variance_that_cannot_be_read_is_nan() -> None:
    means = torch.zeros(2, 3)
    program = fr.jit(lambda v: uncertainty.regression_from_samples(means, v).variance)
    assert program(torch.tensor([1.0, -1.0, 0.0])).isnan().tolist() == [False, True, False]


@pytest.mark.skipif(not fr.can_compile(), reason="needs a C++ compiler")
def test_each_head_has_a_program_of_its_own(key: Tensor) -> None:
    model, params, x = network()
    params = {**params, "1": params["1"][:, :2]}
    for head in ("softmax", "gaussian", "raw"):
        how: dict[str, Any] = {"key": key, "samples": 4, "chunk_size": 2, "head": head}
        compiled = uncertainty.mc_dropout(model, params, {}, x, jit=True, **how)
        torch.testing.assert_close(
            compiled, uncertainty.mc_dropout(model, params, {}, x, **how), rtol=1e-10, atol=1e-12
        )


def test_what_a_head_does_not_fit_is_refused_with_the_remedy(key: Tensor) -> None:
    model, params, x = network()
    one = {**params, "1": params["1"][:, :1]}
    with pytest.raises(fr.FuncregError, match=r'model: got an output of .*\(4, 1\).*head="sigmoid".*head="mean"'):
        uncertainty.mc_dropout(model, one, {}, x, key=key)
    with pytest.raises(fr.FuncregError, match=r"a float64 tensor of shape \(4,\); expected logits \(N, C\)"):
        uncertainty.mc_dropout(model, {**params, "1": params["1"][:, 0]}, {}, x, key=key)  # a softmax over inputs
    with pytest.raises(fr.FuncregError, match=r'means and log variances \(N, 2 D\).*head="mean"'):
        uncertainty.mc_dropout(model, params, {}, x, key=key, head="gaussian")
    with pytest.raises(fr.FuncregError, match=r"head: got 'logits' \(str\); expected one of 'softmax', 'sigmoid'"):
        uncertainty.mc_dropout(model, params, {}, x, key=key, head="logits")  # type: ignore[call-overload]

    class Two(NamedTuple):
        def apply(self, params: Any, state: Any, x: Tensor) -> tuple[Any, Any]:
            return (x, x), state

    with pytest.raises(fr.FuncregError, match=r"model: got an output of .*tuple.*apply returns this one"):
        uncertainty.ensemble(Two(), members(), {}, x, head="gaussian")


def last(name: str, leaf: Tensor) -> bool:
    return name == "1"


def test_a_posterior_predicts_by_mc_dropouts_machinery(key: Tensor) -> None:
    """Draws of the last layer: the first is computed once. Numbers have the exact variance, members their own."""
    model, params, x = network()
    how: dict[str, Any] = {"mask": last, "prior_precision": 3.0, "head": "mean", "noise_variance": 0.5}
    posterior = uncertainty.laplace(model, params, {}, x, **how)

    class Drawn(NamedTuple):
        def apply(self, params: Any, state: Any, x: Tensor, *, key: Tensor, rates: Any = None) -> tuple[Tensor, Any]:
            return model.apply(uncertainty.sample_laplace(params, key=key), state, x)

    with FlopCounterMode(display=False) as flops:
        seen = uncertainty.mc_dropout(Drawn(), posterior, {}, x, key=key, samples=4000, chunk_size=1000, head="mean")
    assert flops.get_total_flops() < 4000 * (2 * 4 * 16 * 3) + 2 * 4 * 5 * 16 + 1
    hidden = torch.relu(x @ params["0"])
    precision = hidden.T @ hidden / 0.5 + 3 * torch.eye(16, dtype=torch.float64)
    exact = (hidden * torch.linalg.solve(precision, hidden.T).T).sum(1, keepdim=True).expand(4, 3)
    # Five standard errors, of a mean and of a variance of normal numbers.
    assert bool(((seen.mean - model.apply(params, {}, x)[0]).abs() < 5 * (exact / 4000).sqrt()).all())
    assert bool(((seen.epistemic / exact - 1).abs() < 5 * (2 / 4000) ** 0.5).all())
    many = torch.func.vmap(lambda p: uncertainty.laplace(model, p, {}, x, **how))(members())
    alone = uncertainty.laplace(model, fr.tree.index(members(), 3), {}, x, **how)
    torch.testing.assert_close(fr.tree.index(many, 3), alone, rtol=1e-10, atol=1e-12)


def test_a_posterior_of_classes_is_the_hessian_of_what_was_minimised(key: Tensor) -> None:
    """Of penalties.l2 and a mean loss: prior_precision = 2 N strength."""
    model, params, x = network()
    targets, strength = torch.tensor([0, 2, 1, 0]), 0.3

    def loss(flat: Tensor) -> Tensor:
        logits, _ = model.apply({**params, "1": flat.reshape(16, 3)}, {}, x)
        return 4 * (fr.losses.cross_entropy(logits, targets) + fr.penalties.l2({"1": flat}, strength))

    found = uncertainty.laplace(model, params, {}, x, mask=last, prior_precision=2 * 4 * strength, batch_size=3)
    curvature = torch.func.hessian(loss)(params["1"].flatten())
    torch.testing.assert_close(found.factor @ found.factor.T, curvature, rtol=1e-10, atol=1e-10)


def test_a_posterior_of_several_outputs_an_input_is_that_of_each(key: Tensor) -> None:
    """Words of a text, each with its own classes."""
    model, params, x = network()
    for head in ("softmax", "gaussian"):
        some = {**params, "1": params["1"][:, :2]}
        how: dict[str, Any] = {"mask": last, "prior_precision": 1.0, "head": head}
        texts = uncertainty.laplace(model, some, {}, x.reshape(2, 2, 5), **how)
        torch.testing.assert_close(texts, uncertainty.laplace(model, some, {}, x, **how), rtol=1e-10, atol=1e-12)


def members(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Seven networks' parameters, stacked."""
    keys = fr.random.split(fr.random.key(8), 2)
    shapes = {"0": (7, 5, 16), "1": (7, 16, 3)}
    return {
        name: fr.random.normal(each, shape, dtype=torch.float64).to(dtype)
        for each, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def test_an_ensemble_is_a_loop_over_members() -> None:
    model, _, x = network()
    params = members()
    logits = torch.stack([model.apply(each, {}, x)[0] for each in fr.tree.unstack(params)])
    result = uncertainty.ensemble(model, params, {}, x)
    torch.testing.assert_close(result, by_hand(torch.softmax(logits, dim=-1)), rtol=1e-10, atol=1e-12)
    assert float(result.mutual_information.min()) > 0


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 6, 7, 100])
def test_an_ensemble_in_chunks_changes_nothing_but_rounding(chunk_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, x = network()
    whole = uncertainty.ensemble(model, members(), {}, x)
    held: list[int] = []
    summarise = predictive.moments

    def spy(samples: Tensor, own: Tensor) -> Any:
        held.append(samples.shape[0])
        return summarise(samples, own)

    monkeypatch.setattr(predictive, "moments", spy)
    chunked = uncertainty.ensemble(model, members(), {}, x, chunk_size=chunk_size)
    torch.testing.assert_close(chunked, whole, rtol=1e-10, atol=1e-12)
    assert sum(held) == 7
    assert max(held) <= chunk_size, "more members at once than asked for"


def test_one_member_knows_no_disagreement() -> None:
    model, _, x = network()
    alone = fr.tree.map(lambda leaf: leaf[2:3], members())
    result = uncertainty.ensemble(model, alone, {}, x)
    torch.testing.assert_close(result.mean, torch.softmax(model.apply(fr.tree.index(alone, 0), {}, x)[0], dim=-1))
    assert float(result.variance.max()) == 0
    assert float(result.mutual_information.max()) == 0


def test_an_ensemble_of_modules_predicts_with_running_statistics_and_no_noise(key: Tensor) -> None:
    def make() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
        )

    model = fr.from_module(make)
    params, state = fr.model_members(model, key, 4)
    state = state | {"1.running_mean": fr.random.normal(key, (4, 8))}
    x = network(torch.float32)[2]
    result = uncertainty.ensemble(model, params, state, x, chunk_size=3)
    # With batch statistics one input alone would be refused, and would depend on its neighbours.
    alone = uncertainty.ensemble(model, params, state, x[:1], chunk_size=3)
    torch.testing.assert_close(alone.mean, result.mean[:1])


def test_an_ensemble_compiles_whole() -> None:
    model, _, x = network()
    predict = fr.jit(lambda params, x: uncertainty.ensemble(model, params, {}, x, chunk_size=3))
    expected = uncertainty.ensemble(model, members(), {}, x)
    torch.testing.assert_close(predict(members(), x), expected, rtol=1e-10, atol=1e-12)


def test_an_ensemble_of_16_bit_networks_is_summarised_in_float32() -> None:
    model, _, x = network(torch.bfloat16)
    assert {each.dtype for each in uncertainty.ensemble(model, members(torch.bfloat16), {}, x)} == {torch.float32}


def test_an_impure_model_is_named(key: Tensor) -> None:
    class Global(NamedTuple):
        def apply(self, params: Any, state: Any, x: Tensor, **_: Any) -> tuple[Tensor, Any]:
            return torch.nn.functional.dropout(x, 0.5), state

    class Writes(NamedTuple):
        def apply(self, params: Any, state: Any, x: Tensor, *, key: Tensor, **_: Any) -> tuple[Tensor, Any]:
            state["mean"].mul_(0.9).add_(key[0])
            return x, state

    class Copies(NamedTuple):
        def apply(self, params: Any, state: Any, x: Tensor, *, key: Tensor, **_: Any) -> tuple[Tensor, Any]:
            state["mean"].copy_(x[0] + key[0])
            return x, state

    with pytest.raises(fr.FuncregError, match="model: got a model that draws from the global generator"):
        uncertainty.mc_dropout(Global(), {}, {}, torch.ones(2, 3), key=key)

    class Noisy(NamedTuple):
        def apply(self, params: Any, state: Any, x: Tensor) -> tuple[Tensor, Any]:
            return torch.nn.functional.dropout(x, 0.5) * params["w"], state

    with pytest.raises(fr.FuncregError, match="model: got a model that draws from the global generator"):
        uncertainty.ensemble(Noisy(), {"w": torch.ones(2)}, {}, torch.ones(2, 3))
    for model in (Writes(), Copies()):
        with pytest.raises(fr.FuncregError, match="model: got a model that writes to its buffers"):
            uncertainty.mc_dropout(model, {}, {"mean": torch.zeros(3)}, torch.ones(2, 3), key=key)


def test_agreement_has_no_mutual_information_and_disagreement_is_all_of_it() -> None:
    sure, torn, opposite = [1.0, 0.0], [0.5, 0.5], [0.0, 1.0]
    result = uncertainty.from_samples(torch.tensor([[sure, torn, sure], [sure, torn, opposite]], dtype=torch.float64))
    log2 = math.log(2)
    torch.testing.assert_close(result.entropy, torch.tensor([0, log2, log2], dtype=torch.float64))
    torch.testing.assert_close(result.expected_entropy, torch.tensor([0, log2, 0], dtype=torch.float64))
    torch.testing.assert_close(result.mutual_information, torch.tensor([0, 0, log2], dtype=torch.float64))
    torch.testing.assert_close(result.variance[:, 0], torch.tensor([0, 0, 0.25], dtype=torch.float64))


@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 5))
def test_from_samples_is_its_definition(seed: int, samples: int, classes: int) -> None:
    logits = 5 * fr.random.normal(fr.random.key(seed), (samples, 2, classes), dtype=torch.float64)
    p = torch.softmax(logits, dim=-1)
    result = uncertainty.from_samples(p)
    torch.testing.assert_close(result, by_hand(p), rtol=1e-10, atol=1e-12)
    assert bool((result.mutual_information >= 0).all())
    assert bool((result.entropy <= math.log(classes) + 1e-12).all())


def test_entropy_has_finite_gradients_at_zero() -> None:
    p = torch.tensor([1.0, 0.0, 0.0])
    assert float(uncertainty.entropy(p)) == 0
    assert bool(torch.isfinite(torch.func.grad(uncertainty.entropy)(p)).all())


PROBABILITIES = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], dtype=torch.float64)
CAME_TRUE = torch.tensor([0, 1, 1, 0])


def test_scores_by_hand() -> None:
    chosen = torch.tensor([0.9, 0.2, 0.7, 0.6], dtype=torch.float64)
    nll = uncertainty.negative_log_likelihood(PROBABILITIES, CAME_TRUE, reduction="none")
    torch.testing.assert_close(nll, -chosen.log())
    torch.testing.assert_close(uncertainty.negative_log_likelihood(PROBABILITIES, CAME_TRUE), nll.mean())
    brier = uncertainty.brier(PROBABILITIES, CAME_TRUE, reduction="none")
    torch.testing.assert_close(brier, 2 * (1 - chosen) ** 2)  # of two classes
    torch.testing.assert_close(uncertainty.brier(PROBABILITIES, CAME_TRUE), brier.mean())


def test_calibration_error_by_hand() -> None:
    # Ten bins: confidences 0.9, 0.8, 0.7, 0.6 alone in theirs, right, wrong, right, right.
    expected = (0.1 + 0.8 + 0.3 + 0.4) / 4
    error = uncertainty.expected_calibration_error(PROBABILITIES, CAME_TRUE, bins=10)
    assert float(error) == pytest.approx(expected)
    # One bin: accuracy 3/4 against a mean confidence of 3/4.
    assert float(uncertainty.expected_calibration_error(PROBABILITIES, CAME_TRUE, bins=1)) == pytest.approx(
        0, abs=1e-12
    )


def test_calibrated_predictions_have_little_calibration_error(key: Tensor) -> None:
    logits, labels = fr.random.split(key)
    logits = 2 * fr.random.normal(logits, (50_000, 5), dtype=torch.float64)
    targets = fr.random.categorical(labels, logits)
    p = torch.softmax(logits, dim=-1)
    assert float(uncertainty.expected_calibration_error(p, targets)) < 0.01  # sampling: about sqrt(15 / n) / 2
    overconfident = torch.softmax(3 * logits, dim=-1)
    assert float(uncertainty.expected_calibration_error(overconfident, targets)) > 0.1
    # Proper scores prefer the truth.
    for score in (uncertainty.negative_log_likelihood, uncertainty.brier):
        assert float(score(p, targets)) < float(score(overconfident, targets))


def test_scores_take_any_leading_axes_and_a_batch() -> None:
    p, targets = PROBABILITIES.reshape(2, 2, 2), CAME_TRUE.reshape(2, 2)
    scores: list[Callable[..., Tensor]] = [
        uncertainty.negative_log_likelihood,
        uncertainty.brier,
        uncertainty.expected_calibration_error,
    ]
    for score in scores:
        torch.testing.assert_close(score(p, targets), score(PROBABILITIES, CAME_TRUE))
        members = torch.func.vmap(score, in_dims=(0, None))(
            torch.stack((PROBABILITIES, PROBABILITIES.flip(1))), CAME_TRUE
        )
        torch.testing.assert_close(members[1], score(PROBABILITIES.flip(1), CAME_TRUE))


def test_a_probability_of_zero_is_a_finite_loss() -> None:
    nll = uncertainty.negative_log_likelihood(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert float(nll) == pytest.approx(87.3, abs=0.1)


# Temperature


def sampled(seed: int, sureness: float, n: int = 400, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Logits and targets that they predict with right probabilities once divided by their sureness."""
    first, second = fr.random.split(fr.random.key(seed))
    logits = 2 * fr.random.normal(first, (n, classes), dtype=torch.float64)
    return sureness * logits, fr.random.categorical(second, logits)


@given(st.integers(0, 1000), st.floats(-6.0, 6.0), st.integers(2, 6), st.integers(20, 300))
def test_the_temperature_is_where_the_loss_is_flat(seed: int, magnitude: float, classes: int, n: int) -> None:
    logits, targets = sampled(seed, 10**magnitude, n, classes)

    def loss(log_temperature: Tensor) -> Tensor:
        return fr.losses.cross_entropy(logits / log_temperature.exp(), targets)

    at = uncertainty.fit_temperature(logits, targets).log()
    slope, curvature = torch.func.grad(loss)(at), torch.func.grad(torch.func.grad(loss))(at)
    assert float(curvature) > 0
    assert abs(float(slope / curvature)) < 1e-12  # how far it is from flat, by Newton's method


def test_calibrated_logits_get_their_sureness_back() -> None:
    for sureness in (0.2, 1.0, 5.0):
        logits, targets = sampled(0, sureness, n=40_000)
        temperature = uncertainty.fit_temperature(logits, targets)
        assert float(temperature) == pytest.approx(sureness, rel=0.02)  # sampling: about 1 / sqrt(n) by some
        p = torch.softmax(logits / temperature, dim=-1)
        assert float(uncertainty.expected_calibration_error(p, targets)) < 0.01


def test_the_temperature_has_the_unit_of_the_logits() -> None:
    logits, targets = sampled(1, 1.0)
    temperature = uncertainty.fit_temperature(logits, targets)
    for factor in (1e-8, 3.0, 1e12):
        assert float(uncertainty.fit_temperature(factor * logits, targets) / factor) == pytest.approx(
            float(temperature)
        )
    shifted = logits + fr.random.normal(fr.random.key(2), (400, 1), dtype=torch.float64)
    assert float(uncertainty.fit_temperature(shifted, targets)) == pytest.approx(float(temperature))
    blocks = uncertainty.fit_temperature(logits.reshape(20, 20, 5), targets.reshape(20, 20))
    torch.testing.assert_close(blocks, temperature)


def test_a_temperature_without_a_minimum_is_a_bound() -> None:
    logits = fr.random.normal(fr.random.key(3), (50, 4), dtype=torch.float64)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        z = logits.to(dtype)
        right, wrong = z.argmax(dim=-1), z.argmin(dim=-1)
        for targets, bound in ((right, -10), (wrong, 10)):
            apart = (z.double() - z.double().gather(-1, targets.unsqueeze(-1))).abs()
            spread = apart[apart > 0].min() if bound < 0 else apart.max()
            temperature = uncertainty.fit_temperature(z, targets)
            assert temperature.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            assert math.log(float(temperature) / float(spread)) == pytest.approx(bound, abs=1e-5)
            assert bool(torch.isfinite(torch.func.grad(uncertainty.fit_temperature)(z, targets)).all())
        assert float(uncertainty.fit_temperature(torch.full_like(z, 3.0), right)) == 1
    one_class = uncertainty.fit_temperature(torch.ones(5, 1), torch.zeros(5, dtype=torch.int64))
    assert float(one_class) == 1


@pytest.mark.parametrize("low", [-1e3, -1e38, torch.finfo(torch.float64).min])
def test_the_temperature_is_found_in_any_range(low: float) -> None:
    logits, targets = sampled(5, 2.0, n=100)
    best = float(uncertainty.fit_temperature(logits, targets))
    padded = torch.cat((logits, torch.full((100, 1), low, dtype=torch.float64)), dim=1)
    assert float(uncertainty.fit_temperature(padded, targets)) == pytest.approx(best, rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_excluded_class_has_no_part_in_the_temperature(dtype: torch.dtype) -> None:
    """Three times of four right, by two logits 3 apart: softmax(3 / T) = 3/4, so T = 3 / log(3)."""
    targets, best = torch.tensor([0, 0, 0, 1]), 3 / math.log(3)
    for low in (-50.0, -1e9, torch.finfo(dtype).min, -torch.inf):
        logits = torch.tensor([[3.0, 0.0, low]] * 4, dtype=dtype)
        temperature = uncertainty.fit_temperature(logits, targets)
        assert float(temperature) == pytest.approx(best, rel=1e-6)
        slopes = torch.func.grad(uncertainty.fit_temperature)(logits, targets)
        assert float(slopes[:3, 0].sum() + slopes[3, 0]) == pytest.approx(1 / math.log(3), rel=1e-3)
        assert float(slopes[:, 2].abs().max()) < 1e-6
    ignored = torch.cat((targets, torch.tensor([-100])))
    padded = torch.cat((logits, torch.full((1, 3), torch.nan, dtype=dtype)))
    assert float(uncertainty.fit_temperature(padded, ignored)) == pytest.approx(best, rel=1e-6)
    assert math.isnan(uncertainty.fit_temperature(logits, torch.tensor([0, 0, 0, 2])))
    assert math.isnan(uncertainty.fit_temperature(logits, torch.full((4,), -100)))


def test_temperatures_of_members_are_theirs_alone() -> None:
    """Ordinary ones beside one of overconfidence, one that is always right, and one that is constant."""
    ordinary, targets = sampled(4, 1.0)
    perfect = torch.nn.functional.one_hot(targets, 5).double()
    together = torch.stack((ordinary, 300 * ordinary, 1e-3 * ordinary, perfect, torch.zeros_like(ordinary)))
    alone = torch.stack([uncertainty.fit_temperature(each, targets) for each in together])
    batched = torch.func.vmap(uncertainty.fit_temperature, in_dims=(0, None))(together, targets)
    torch.testing.assert_close(batched, alone, rtol=1e-12, atol=0)
    single = torch.func.vmap(uncertainty.fit_temperature, in_dims=(0, None))(together[:3].float(), targets)
    torch.testing.assert_close(single.double(), alone[:3], rtol=1e-5, atol=0)


def test_the_gradient_of_the_temperature_is_that_of_the_minimum() -> None:
    logits, targets = sampled(5, 2.0, n=60)
    direction = fr.random.normal(fr.random.key(6), (60, 5), dtype=torch.float64)
    slope = (torch.func.grad(uncertainty.fit_temperature)(logits, targets) * direction).sum()
    ahead, behind = (uncertainty.fit_temperature(logits + h * direction, targets) for h in (1e-5, -1e-5))
    # Central differences in float64.
    torch.testing.assert_close(slope, (ahead - behind) / 2e-5, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "score",
    [uncertainty.negative_log_likelihood, uncertainty.brier, uncertainty.expected_calibration_error],
    ids=lambda score: score.__name__,
)
@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("padding", [0.0, 1e30, torch.inf, torch.nan])
def test_rows_of_ignored_targets_may_be_anything(
    score: Callable[..., Tensor], read: bool, padding: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As padded rows are; in a program, too, which cannot look at them."""
    p = torch.softmax(random.normal(random.key(1), (5, 3), dtype=torch.float64), dim=-1)
    targets = torch.tensor([0, 2, 1, 1, 0])
    padded, ignored = torch.cat((p, torch.full((2, 3), padding))), torch.cat((targets, torch.tensor([-100, -100])))
    if not read:
        monkeypatch.setattr(_jit, "known", lambda tensor: None)
    slope, value = grad_and_value(score)(padded, ignored)
    own_slope, own = grad_and_value(score)(p, targets)
    torch.testing.assert_close((value, slope), (own, torch.cat((own_slope, torch.zeros(2, 3)))))


@pytest.mark.parametrize("apart", [1.0, 1e-2, 1e-4])
def test_mutual_information_of_samples_that_nearly_agree_is_that_of_float64(apart: float) -> None:
    logits = fr.random.normal(fr.random.key(0), (1, 5, 10)) + apart * fr.random.normal(fr.random.key(1), (8, 5, 10))
    samples = torch.softmax(logits, dim=-1)
    ours, exact = (fr.uncertainty.from_samples(each).mutual_information for each in (samples, samples.double()))
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=0.0)
