"""fr.uncertainty's errors and curves of calibration, and vector scaling; `oracles` has scikit-learn's and scipy's."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import vmap

import funcreg as fr
from funcreg import uncertainty

ERRORS = (uncertainty.expected_calibration_error, uncertainty.classwise_calibration_error)


def forecasts(seed: int, n: int = 100, classes: int = 4, sureness: float = 2.0) -> tuple[Tensor, Tensor]:
    """Probabilities and classes of which they are sureness times too sure, in the logits."""
    first, second = fr.random.split(fr.random.key(seed))
    logits = fr.random.normal(first, (n, classes), dtype=torch.float64)
    return torch.softmax(sureness * logits, dim=-1), fr.random.categorical(second, logits)


def test_a_curve_by_hand() -> None:
    p = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9]], dtype=torch.float64)
    came_true = torch.tensor([0, 1, 1, 0, 0])
    curve = uncertainty.reliability_curve(p, came_true, bins=4)  # (.5, .75]: .7, .6 right; (.75, 1]: one of three
    expected = ([torch.nan, torch.nan, 0.65, 2.6 / 3], [torch.nan, torch.nan, 1.0, 1 / 3], [0.0, 0.0, 2.0, 3.0])
    torch.testing.assert_close(curve, uncertainty.ReliabilityCurve(*map(p.new_tensor, expected)), equal_nan=True)
    # Medians: .6, .7, .8 below or at the middle one, then the two of .9 together.
    curve = uncertainty.reliability_curve(p, came_true, bins=2, strategy="quantile")
    expected = ([0.7, 0.9], [2 / 3, 0.5], [3.0, 2.0])
    torch.testing.assert_close(curve, uncertainty.ReliabilityCurve(*map(p.new_tensor, expected)))


def test_the_error_is_the_curves() -> None:
    p, targets = forecasts(1)
    for strategy in ("uniform", "quantile"):
        curve = uncertainty.reliability_curve(p, targets, bins=7, strategy=strategy)
        apart = (curve.accuracy - curve.confidence).abs().nan_to_num(0.0)
        error = uncertainty.expected_calibration_error(p, targets, bins=7, strategy=strategy)
        torch.testing.assert_close(error, (curve.count / 100 * apart).sum())
        assert float(curve.count.sum()) == 100


def test_equal_mass_is_equal_but_for_ties() -> None:
    p, targets = forecasts(2, n=100)
    curve = uncertainty.reliability_curve(p, targets, bins=8, strategy="quantile")
    assert set(curve.count.tolist()) <= {12.0, 13.0}
    tied = p[:1].expand(100, 4)
    curve = uncertainty.reliability_curve(tied, targets, bins=8, strategy="quantile")
    assert curve.count.tolist() == [100.0, *[0.0] * 7]
    order = fr.random.permutation(fr.random.key(3), 100)
    coarse = torch.cat((tied[:40], p[40:]))
    for strategy in ("uniform", "quantile"):
        one, other = (uncertainty.expected_calibration_error(coarse[o], targets[o], strategy=strategy)
                      for o in (slice(None), order))  # fmt: skip
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


def test_of_two_classes_each_is_as_far_off_as_the_other() -> None:
    p, targets = forecasts(4, classes=2)
    # Every bin (a, b] of one class is [1 - b, 1 - a) of the other; no probability is an edge here.
    both = uncertainty.classwise_calibration_error(p, targets, bins=10)
    first = p[:, 0]
    inside = (first * 10).floor() == torch.arange(10).unsqueeze(1)
    by_hand = torch.where(inside, (targets == 0).double() - first, 0.0).sum(1).abs().sum() / 100
    torch.testing.assert_close(both, by_hand)


def test_calibrated_forecasts_have_little_error_of_any_kind() -> None:
    p, targets = forecasts(5, n=50_000, sureness=1.0)
    sure, _ = forecasts(5, n=50_000, sureness=3.0)
    for error in ERRORS:
        for strategy in ("uniform", "quantile"):
            assert float(error(p, targets, strategy=strategy)) < 0.01  # sampling: about sqrt(15 / n) / 2
            assert float(error(sure, targets, strategy=strategy)) > 0.05


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_what_is_ignored_has_no_part_and_members_are_batched(strategy: str) -> None:
    p, targets = forecasts(6)
    marked = torch.where(torch.arange(100) % 3 == 0, -100, targets)
    spoilt = torch.where((marked == -100).unsqueeze(1), torch.full_like(p, 0.25), p)
    kept = marked != -100
    members = torch.stack([forecasts(seed)[0] for seed in (6, 7, 8)])
    for measure in (*ERRORS, uncertainty.reliability_curve):
        score = partial(measure, bins=5, strategy=strategy)
        torch.testing.assert_close(score(spoilt, marked), score(p[kept], targets[kept]), equal_nan=True)
        batched = vmap(score, (0, None))(members, marked)
        alone = fr.tree.stack([score(each, marked) for each in members])
        torch.testing.assert_close(batched, alone, rtol=1e-12, atol=1e-15, equal_nan=True)
        nested = score(p.reshape(4, 25, 4), targets.reshape(4, 25))
        torch.testing.assert_close(nested, score(p, targets), equal_nan=True)


# Vector scaling


def skewed(seed: int, sureness: float = 1.0, classes: int = 5, n: int = 400) -> tuple[Tensor, Tensor]:
    """Logits whose classes are as sure and as frequent as their numbers: no temperature mends that."""
    first, second = fr.random.split(fr.random.key(seed))
    logits = 2 * fr.random.normal(first, (n, classes), dtype=torch.float64)
    scale, bias = torch.linspace(0.5, 1.5, classes).double(), torch.linspace(-1, 1, classes).double()
    return sureness * logits, fr.random.categorical(second, scale * logits + bias)


def loss_of(logits: Tensor, targets: Tensor) -> Any:
    return lambda scaling: fr.losses.cross_entropy(uncertainty.apply_vector_scaling(logits, scaling), targets)


@pytest.mark.parametrize("sureness", [1e-8, 0.1, 1.0, 30.0, 1e12])
def test_a_vector_scaling_is_where_the_loss_is_flat(sureness: float) -> None:
    logits, targets = skewed(1, sureness)
    scaling = uncertainty.fit_vector_scaling(logits, targets)
    slope = torch.func.grad(loss_of(logits, targets))(scaling)
    assert float(slope.scale.abs().max()) < 1e-12 * sureness
    assert float(slope.bias.abs().max()) < 1e-12
    assert float(scaling.bias.sum()) == pytest.approx(0, abs=1e-12)
    best = loss_of(logits, targets)(scaling)
    at = uncertainty.fit_temperature(logits, targets)
    assert float(fr.losses.cross_entropy(logits / at, targets) - best) > 0.05
    few = uncertainty.fit_vector_scaling(logits, targets, steps=8)
    torch.testing.assert_close(fr.tree.map(torch.Tensor.double, few), scaling, rtol=1e-8, atol=1e-8)


def test_a_vector_scaling_finds_the_truth() -> None:
    logits, targets = skewed(2, n=40_000)
    scaling = uncertainty.fit_vector_scaling(logits, targets)
    expected = [torch.linspace(low, high, 5).double() for low, high in ((0.5, 1.5), (-1, 1))]
    torch.testing.assert_close(scaling, uncertainty.VectorScaling(*expected), rtol=0, atol=0.06)  # sampling


def test_an_excluded_class_has_no_part_in_a_vector_scaling() -> None:
    logits, _ = skewed(3)
    masked = fr.random.bernoulli(fr.random.key(4), 0.2, (400, 5))
    targets = fr.random.categorical(fr.random.key(5), logits.masked_fill(masked, -torch.inf))
    found = [
        uncertainty.fit_vector_scaling(logits.masked_fill(masked, low), targets)
        for low in (-torch.inf, -1e9, torch.finfo(torch.float64).min)
    ]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-8, atol=1e-8)
    scaled = uncertainty.apply_vector_scaling(logits.masked_fill(masked, -torch.inf), found[0])
    assert torch.equal(scaled == -torch.inf, masked)
    backwards = uncertainty.VectorScaling(-found[0].scale, 0 * found[0].bias)
    scaled = uncertainty.apply_vector_scaling(logits.masked_fill(masked, -torch.inf), backwards)
    assert torch.equal(scaled == -torch.inf, masked)
    nothing = uncertainty.fit_vector_scaling(logits.masked_fill(masked, -torch.inf), torch.full_like(targets, -100))
    wrong = uncertainty.fit_vector_scaling(torch.tensor([[0.0, -torch.inf]]), torch.tensor([1]))
    assert bool(torch.cat([*nothing, *wrong]).isnan().all())


def test_a_vector_scaling_without_a_minimum_is_finite_and_better_than_none() -> None:
    logits, targets = skewed(6)
    for truth in (targets.clamp_max(3), logits.argmax(dim=-1), torch.zeros_like(targets)):
        scaling = uncertainty.fit_vector_scaling(logits, truth)
        at = uncertainty.fit_temperature(logits, truth)
        assert bool(torch.isfinite(torch.cat(scaling)).all())
        loss = float(loss_of(logits, truth)(scaling))
        assert loss <= float(fr.losses.cross_entropy(logits / at, truth)) + 1e-9
    constant = uncertainty.fit_vector_scaling(torch.ones(10, 2), torch.tensor([0] * 7 + [1] * 3))
    p = torch.softmax(uncertainty.apply_vector_scaling(torch.ones(2), constant), dim=-1)
    torch.testing.assert_close(p, torch.tensor([0.7, 0.3]))


def test_vector_scalings_of_members_are_theirs_alone_and_what_is_ignored_has_no_part() -> None:
    logits, targets = skewed(7)
    together = torch.stack((logits, 300 * logits, logits.flip(0)))
    batched = vmap(uncertainty.fit_vector_scaling, (0, None))(together, targets)
    alone = fr.tree.stack([uncertainty.fit_vector_scaling(each, targets) for each in together])
    torch.testing.assert_close(batched, alone, rtol=1e-9, atol=1e-9)
    marked = torch.where(torch.arange(400) % 4 == 0, -100, targets)
    padded = torch.where((marked == -100).unsqueeze(1), torch.nan, logits)
    expected = uncertainty.fit_vector_scaling(logits[marked != -100], targets[marked != -100])
    torch.testing.assert_close(uncertainty.fit_vector_scaling(padded, marked), expected, rtol=1e-9, atol=1e-9)
    single = uncertainty.fit_vector_scaling(logits.float().reshape(20, 20, 5), targets.reshape(20, 20))
    assert single.scale.dtype == torch.float32
    torch.testing.assert_close(fr.tree.index(alone, 0), fr.tree.map(torch.Tensor.double, single), rtol=1e-5, atol=1e-5)


def test_the_gradient_of_a_vector_scaling_is_that_of_the_minimum() -> None:
    logits, targets = skewed(8, n=80, classes=3)
    direction = fr.random.normal(fr.random.key(9), (80, 3), dtype=torch.float64)

    def first(logits: Tensor) -> Tensor:
        scaling = uncertainty.fit_vector_scaling(logits, targets, steps=12)
        return scaling.scale[0] + scaling.bias[1]

    slope = (torch.func.grad(first)(logits) * direction).sum()
    ahead, behind = (first(logits + h * direction) for h in (1e-5, -1e-5))
    # Central differences in float64.
    torch.testing.assert_close(slope, (ahead - behind) / 2e-5, rtol=1e-6, atol=0)
