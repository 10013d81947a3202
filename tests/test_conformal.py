"""fr.uncertainty's conformal prediction: coverage, finite samples, ties, members; `oracles` has the definitions."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import vmap

import funcreg as fr
from funcreg import random, uncertainty

DRAWS, HELD_OUT = 1000, 49  # of 49, an alpha of 0.1 takes the 45th: coverage is 0.9 exactly where nothing ties


def binomial(rate: float) -> float:
    """Three standard errors of a rate over the draws."""
    return 3 * math.sqrt(rate * (1 - rate) / DRAWS)


def coverage(one: Callable[[Tensor], Any]) -> Any:
    """A draw's results, averaged over 1,000 keys."""
    results = vmap(one, chunk_size=250)(random.split(random.key(0), DRAWS))
    return [float(each.double().mean()) for each in results]


def classified(key: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Probabilities of five classes that are far too sure, and classes."""
    first, second = random.split(key)
    logits = random.normal(first, (count, 5), dtype=torch.float64)
    return torch.softmax(3 * logits, dim=-1), vmap(random.categorical)(random.split(second, count), logits)


def keyless(probabilities: Tensor, key: Tensor) -> Tensor:
    return uncertainty.lac_scores(probabilities)


def randomized(probabilities: Tensor, key: Tensor) -> Tensor:
    return uncertainty.aps_scores(probabilities, key=key)


def deterministic(probabilities: Tensor, key: Tensor) -> Tensor:
    return uncertainty.aps_scores(probabilities, key=None)


@pytest.mark.parametrize("score", [keyless, randomized, deterministic])
def test_sets_cover_as_often_as_asked(score: Callable[[Tensor, Tensor], Tensor]) -> None:
    def one(key: Tensor) -> tuple[Tensor, Tensor]:
        data_key, first, second = random.split(key, 3)
        p, y = classified(data_key, HELD_OUT + 1)
        threshold = uncertainty.conformal_quantile(score(p[:-1], first), 0.1, targets=y[:-1])
        kept = uncertainty.prediction_sets(score(p[-1:], second), threshold)
        return kept.gather(-1, y[-1:, None]), kept.sum()

    covered, size = coverage(one)
    assert covered == pytest.approx(0.9, abs=binomial(0.9))
    assert 1 < size < 5


@pytest.mark.parametrize("kind", ["residual", "scaled", "quantiles"])
def test_intervals_cover_as_often_as_asked(kind: str) -> None:
    def one(key: Tensor) -> tuple[Tensor, Tensor]:
        first, second = random.split(key)
        x = random.uniform(first, (HELD_OUT + 1,), dtype=torch.float64)
        y = x + 2 * x * random.normal(second, (HELD_OUT + 1,), dtype=torch.float64)  # wider to the right
        scale = x if kind == "scaled" else torch.ones_like(x)
        ends = (0.5 * x, 1.5 * x) if kind == "quantiles" else (x, x)

        def part(of: slice) -> Any:
            return tuple(end[of] for end in ends) if kind == "quantiles" else ends[0][of]

        held_out, new = slice(HELD_OUT), slice(HELD_OUT, None)
        scores = uncertainty.interval_scores(part(held_out), y[held_out], scale=scale[held_out])
        threshold = uncertainty.conformal_quantile(scores, 0.2)
        low, high = uncertainty.prediction_intervals(part(new), threshold, scale=scale[new])
        return (low <= y[new]) & (y[new] <= high), high - low

    covered, width = coverage(one)
    assert covered == pytest.approx(0.8, abs=binomial(0.8))
    assert 0 < width < 6


@given(st.integers(1, 60), st.sampled_from([0.01, 0.05, 0.07, 0.1, 0.2, 0.29, 0.3, 0.5, 0.9, 0.99]))
def test_the_rank_is_an_exact_one(n: int, alpha: float) -> None:
    """Also where (n + 1)(1 - alpha) is an integer that is not one in floating point, in any dtype of alpha."""
    scores = torch.arange(1.0, n + 1, dtype=torch.float64)[random.permutation(random.key(n), n)]
    hundredths = round(100 * alpha)
    rank = -(-(n + 1) * (100 - hundredths) // 100)
    expected = math.inf if rank > n else float(rank)
    assert float(uncertainty.conformal_quantile(scores, alpha)) == expected
    for dtype in (torch.float32, torch.float64):
        assert float(uncertainty.conformal_quantile(scores, torch.tensor(alpha, dtype=dtype))) == expected


def test_too_few_examples_keep_everything() -> None:
    few = torch.tensor([0.1, 0.2, 0.3])
    threshold = uncertainty.conformal_quantile(few, 0.1)
    assert float(threshold) == math.inf
    assert bool(uncertainty.prediction_sets(torch.tensor([[0.5, math.inf]]), threshold).all())
    low, high = uncertainty.prediction_intervals(few, threshold)
    assert low.tolist() == [-math.inf] * 3
    assert high.tolist() == [math.inf] * 3
    assert float(uncertainty.conformal_quantile(few[:0], 0.5)) == math.inf


def test_alphas_and_members_are_batched() -> None:
    p, y = classified(random.key(1), 60)
    alphas = torch.tensor([0.01, 0.05, 0.1, 0.5])
    scores = uncertainty.lac_scores(p)
    found = vmap(lambda alpha: uncertainty.conformal_quantile(scores, alpha, targets=y))(alphas)
    expected = [uncertainty.conformal_quantile(scores, float(alpha), targets=y) for alpha in (0.01, 0.05, 0.1, 0.5)]
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=0)
    members = torch.stack([uncertainty.lac_scores(classified(random.key(seed), 60)[0]) for seed in (1, 2, 3)])
    found = vmap(lambda each: uncertainty.conformal_quantile(each, 0.1, targets=y))(members)
    expected = [uncertainty.conformal_quantile(each, 0.1, targets=y) for each in members]
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=0)
    sets = vmap(uncertainty.prediction_sets)(members, found)
    assert torch.equal(sets, members <= found[:, None, None])
    with pytest.raises(fr.FuncregError, match=r"alpha: got .* Batch it with vmap"):
        uncertainty.conformal_quantile(scores, alphas, targets=y)


def test_batched_settings_out_of_range_are_nan() -> None:
    scores = torch.arange(1.0, 20.0)
    settings = torch.tensor([0.5, 0.0, -1.0])
    thresholds = vmap(lambda alpha: uncertainty.conformal_quantile(scores, alpha))(settings)
    assert thresholds.tolist()[0] == 10
    scaled = vmap(lambda scale: uncertainty.interval_scores(scores, scores + 1, scale=scale))(settings)
    ends = vmap(lambda scale: torch.stack(uncertainty.prediction_intervals(scores, 1.0, scale=scale)))(settings)
    for each in (thresholds[:, None], scaled, ends):
        assert each.isnan().flatten(1).all(1).tolist() == [False, True, True]


def test_what_is_ignored_has_no_part() -> None:
    p, y = classified(random.key(4), 60)
    scores = uncertainty.lac_scores(p)
    marked = torch.where(torch.arange(60) % 3 == 0, -100, y)
    spoilt = torch.where((marked == -100).unsqueeze(1), math.nan, scores)
    expected = uncertainty.conformal_quantile(scores[marked != -100], 0.1, targets=y[marked != -100])
    assert float(uncertainty.conformal_quantile(spoilt, 0.1, targets=marked)) == float(expected)


def test_adaptive_sets_are_of_the_likeliest_classes() -> None:
    p, _ = classified(random.key(5), 40)
    for key in (None, random.key(6)):
        scores = uncertainty.aps_scores(p, key=key)
        assert bool(((scores >= -1e-12) & (scores <= 1 + 1e-12)).all())
        order = p.argsort(dim=-1, descending=True)
        ranked = scores.gather(-1, order)
        assert bool((ranked[:, 1:] >= ranked[:, :-1]).all())
    tied = uncertainty.aps_scores(torch.tensor([[0.25, 0.25, 0.5, 0.0]]), key=None)
    assert tied.tolist() == [[0.75, 1.0, 0.5, 1.0]]
    one = uncertainty.aps_scores(p, key=random.key(6))
    assert torch.equal(one, uncertainty.aps_scores(p, key=random.key(6)))
    assert not torch.equal(one, uncertainty.aps_scores(p, key=random.key(7)))


def test_a_compiled_program_keeps_what_it_cannot_judge() -> None:
    scores = torch.tensor([[0.2, math.nan, 0.9]])

    def program(scores: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        return uncertainty.prediction_sets(scores, 0.5), uncertainty.conformal_quantile(scores[0], alpha)

    sets, threshold = fr.jit(program)(scores, 2.0)
    assert sets.tolist() == [[True, True, False]]
    assert math.isnan(threshold)
