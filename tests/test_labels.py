"""fr.labels: ends of their ranges, dtypes, and what they are for."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.func import grad, vmap

from funcreg import labels, losses, random

CLASSES = random.randint(random.key(0), (200,), 0, 4)
LOGITS = random.normal(random.key(1), (200, 4), dtype=torch.float64)


def test_one_hot_of_other_shapes_and_dtypes() -> None:
    assert labels.one_hot(torch.tensor(2), 3).tolist() == [0, 0, 1]
    assert labels.one_hot(torch.zeros(0, 2, dtype=torch.uint8), 3, dtype=torch.bool).shape == (0, 2, 3)
    assert labels.one_hot(torch.tensor([1]), 2, dtype=torch.bool).tolist() == [[False, True]]


@given(smoothing=st.floats(0, 1), classes=st.integers(1, 30))
def test_smoothed_targets_are_probabilities(smoothing: float, classes: int) -> None:
    targets = torch.softmax(random.normal(random.key(2), (5, classes), dtype=torch.float64), dim=-1)
    smoothed = labels.smooth_labels(targets, smoothing)
    assert float(smoothed.min()) >= 0
    torch.testing.assert_close(smoothed.sum(dim=-1), torch.ones(5, dtype=torch.float64))
    # Each moves towards 1 / C, by a share that is smoothing.
    torch.testing.assert_close(smoothed - 1 / classes, (1 - smoothing) * (targets - 1 / classes), rtol=0, atol=1e-15)


def test_the_ends_of_smoothing_are_exact() -> None:
    targets = torch.softmax(LOGITS, dim=-1).float()
    for number in (float, torch.tensor):
        assert torch.equal(labels.smooth_labels(targets, number(0.0)), targets)
        assert torch.equal(labels.smooth_labels(targets, number(1.0)), torch.full_like(targets, 1 / 4))
    half = labels.smooth_labels(labels.one_hot(CLASSES, 4, dtype=torch.bfloat16), torch.tensor(0.1))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float().sum(dim=1), torch.ones(200), rtol=0, atol=0.01)


def test_smoothing_by_hand_is_the_losss_own() -> None:
    """Of soft targets, for a setting each, with its gradient."""
    mixed = (labels.one_hot(CLASSES, 4, dtype=torch.float64) + torch.softmax(LOGITS.flip(0), dim=-1)) / 2

    def by_hand(smoothing: torch.Tensor) -> torch.Tensor:
        return losses.cross_entropy(LOGITS, labels.smooth_labels(mixed, smoothing))

    def own(smoothing: torch.Tensor) -> torch.Tensor:
        return losses.cross_entropy(LOGITS, mixed, smoothing=smoothing)

    settings = torch.tensor([0.0, 0.1, 1.0], dtype=torch.float64)
    torch.testing.assert_close(vmap(by_hand)(settings), vmap(own)(settings))
    torch.testing.assert_close(vmap(grad(by_hand))(settings), vmap(grad(own))(settings))


def test_training_stops_at_the_optimal_gap() -> None:
    """Of logits that are free; plain cross-entropy goes on for ever."""
    slope = grad(lambda z, s: losses.cross_entropy(z[None], torch.tensor([0]), smoothing=s))
    settings = torch.tensor([0.0, 0.1, 0.5], dtype=torch.float64)

    def train(smoothing: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(10, dtype=torch.float64)
        for _ in range(1000):
            logits = logits - 2 * slope(logits, smoothing)
        return logits[0] - logits[1]

    gaps = vmap(train)(settings)
    expected = torch.stack([labels.optimal_logit_gap(each, 10) for each in settings])
    torch.testing.assert_close(gaps[1:], expected[1:], rtol=0, atol=1e-6)
    assert expected[0] == torch.inf
    assert gaps[0] > 6


def test_the_two_conventions_of_smoothing() -> None:
    """s / C for every class is s (C - 1) / C shared by the wrong ones, for which books have another formula."""
    for smoothing, classes in ((0.1, 10), (0.3, 4)):
        shared = smoothing * (classes - 1) / classes
        assert float(labels.optimal_logit_gap(smoothing, classes)) == pytest.approx(
            math.log((1 - shared) * (classes - 1) / shared), rel=1e-6
        )
    assert math.log(0.9 * 9 / 0.1) == pytest.approx(4.39, abs=0.005)
    assert float(labels.optimal_logit_gap(1.0, 10)) == 0
    assert labels.optimal_logit_gap(torch.tensor(0.1, dtype=torch.bfloat16), 10).dtype == torch.float32


def test_weighted_classes_have_the_same_say() -> None:
    weights = labels.class_weights(CLASSES, 4)
    torch.testing.assert_close(weights * torch.bincount(CLASSES), torch.full((4,), 50.0))
    torch.testing.assert_close(weights[CLASSES].mean(), torch.tensor(1.0))
    loss = losses.cross_entropy(LOGITS, CLASSES, weight=weights)
    each = losses.cross_entropy(LOGITS, CLASSES, reduction="none")
    means = torch.stack([each[c == CLASSES].mean() for c in range(4)])
    torch.testing.assert_close(loss, means.mean(), rtol=1e-6, atol=0)


def test_absent_classes_and_other_shapes() -> None:
    found = labels.class_weights(torch.tensor([[0, 2], [2, 2]], dtype=torch.uint8), 4)
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 1 / 3, 0.0]))
    assert labels.class_weights(torch.zeros(0, dtype=torch.int64), 2).tolist() == [0, 0]


def test_many_targets_are_counted_exactly() -> None:
    """In float32, counts would stop at 2**24."""
    many = 2**24 + 3
    targets = torch.cat((torch.zeros(many, dtype=torch.int8), torch.ones(1, dtype=torch.int8)))
    expected = torch.tensor([(many + 1) / (2 * many), (many + 1) / 2])
    torch.testing.assert_close(labels.class_weights(targets, 2), expected, rtol=1e-7, atol=0)
