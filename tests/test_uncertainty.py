"""fr.uncertainty: closed forms, chunks that add up, and scores."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import funcreg as fr
from funcreg import noise, uncertainty
from funcreg.uncertainty import predictive


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
    summarise = predictive._moments

    def spy(samples: Tensor) -> Any:
        held.append(samples.shape[0])
        return summarise(samples)

    monkeypatch.setattr(predictive, "_moments", spy)
    uncertainty.mc_dropout(model, params, {}, x, key=key, samples=10, chunk_size=4)
    assert held == [4, 4, 2]


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
