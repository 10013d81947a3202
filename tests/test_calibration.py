"""fr.uncertainty's curves and errors of calibration: closed forms, ties, members; `oracles` has scikit-learn's."""

from functools import partial

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
