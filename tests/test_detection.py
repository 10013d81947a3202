"""fr.uncertainty's scores of detection: ties, members, rounding; `oracles` has scikit-learn's."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import vmap

import funcreg as fr
from funcreg import uncertainty

MEASURES = (uncertainty.auroc, uncertainty.average_precision, uncertainty.false_positive_rate)


def ranked(seed: int, n: int = 60, levels: float = 4.0) -> tuple[Tensor, Tensor]:
    """Scores with ties, a little higher for positives."""
    first, second = fr.random.split(fr.random.key(seed))
    targets = fr.random.randint(first, n, 0, 2)
    targets = torch.cat((torch.tensor([0, 1]), targets[2:]))
    scores = fr.random.normal(second, (n,), dtype=torch.float64) + targets
    return torch.round(levels * scores) / levels, targets


@given(st.integers(0, 1000), st.integers(2, 40), st.floats(0.5, 8.0))
def test_they_are_their_definitions(seed: int, n: int, levels: float) -> None:
    scores, targets = ranked(seed, n, levels)
    above, below = scores[targets == 1, None], scores[targets == 0]
    pairs = (above > below).double() + (above == below).double() / 2
    torch.testing.assert_close(uncertainty.auroc(scores, targets), pairs.mean())
    at_least = scores >= above  # of each positive, who is taken for one at its score
    precision = (at_least & (targets == 1)).sum(1) / at_least.sum(1).double()
    torch.testing.assert_close(uncertainty.average_precision(scores, targets), precision.mean())
    for recall in (0.25, 0.5, 0.95):
        enough = [t for t in scores.tolist() if (above >= t).double().mean() >= recall]
        expected = (below >= max(enough)).double().mean()
        assert uncertainty.false_positive_rate(scores, targets, recall) == expected


def test_the_order_of_examples_and_any_rising_scale_change_nothing() -> None:
    scores, targets = ranked(0)
    order = fr.random.permutation(fr.random.key(1), 60)
    for measure in MEASURES:
        expected = measure(scores, targets)
        for same in (
            measure(scores[order], targets[order]),
            measure(torch.exp(scores), targets),
            measure(scores.reshape(6, 10), targets.reshape(6, 10).bool()),
        ):
            torch.testing.assert_close(same, expected, rtol=1e-14, atol=0)
    assert uncertainty.auroc(-scores, 1 - targets) == uncertainty.auroc(scores, targets)
    torch.testing.assert_close(uncertainty.auroc(-scores, targets), 1 - uncertainty.auroc(scores, targets))


def test_what_is_ignored_has_no_part() -> None:
    scores, targets = ranked(2)
    padded = torch.cat((scores, torch.tensor([math.nan, 3.0, -math.inf], dtype=torch.float64)))
    marked = torch.cat((targets, torch.tensor([-100] * 3)))
    for measure in MEASURES:
        for same in (measure(padded, marked), measure(padded, marked.where(marked >= 0, 7), ignore_index=7)):
            torch.testing.assert_close(same, measure(scores, targets), rtol=1e-14, atol=0)


def test_members_and_recalls_are_batched() -> None:
    scores = torch.stack([ranked(seed)[0] for seed in range(3)])
    targets = ranked(5)[1]
    for measure in MEASURES:
        expected = torch.stack([measure(each, targets) for each in scores])
        torch.testing.assert_close(vmap(measure, (0, None))(scores, targets), expected, rtol=0, atol=0)
    recalls = torch.tensor([0.0, 0.5, 0.95, 1.0])
    found = vmap(lambda recall: uncertainty.false_positive_rate(scores[0], targets, recall))(recalls)
    expected = [uncertainty.false_positive_rate(scores[0], targets, recall) for recall in recalls.tolist()]
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_recall_is_reached_by_as_many_as_it_says(dtype: torch.dtype) -> None:
    """19 of 20 are 0.95, whichever dtype that is rounded in; then one negative of four is above."""
    scores = torch.cat((torch.arange(20.0), torch.tensor([0.5, 0.6, 0.7, 1.5])))
    targets = (torch.arange(24) < 20).long()
    rate = uncertainty.false_positive_rate(scores.to(dtype), targets, torch.tensor(0.95, dtype=torch.float32))
    assert float(rate) == float(uncertainty.false_positive_rate(scores.to(dtype), targets, 0.95)) == 0.25
    assert rate.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert float(uncertainty.false_positive_rate(scores, targets, 0.951)) == 1


def test_a_batched_recall_out_of_range_is_nan() -> None:
    scores, targets = ranked(4)
    rates = vmap(lambda recall: uncertainty.false_positive_rate(scores, targets, recall))(
        torch.tensor([0.5, 2.0, -1.0])
    )
    assert rates.isnan().tolist() == [False, True, True]


def test_one_kind_alone_is_refused_in_any_member() -> None:
    scores = torch.zeros(2, 4)
    with pytest.raises(fr.FuncregError, match="targets: got no negatives; expected positives, of 1, and"):
        vmap(uncertainty.auroc)(scores, torch.tensor([[0, 1, 0, 1], [1, 1, 1, 1]]))
    assert uncertainty.average_precision(scores[0], torch.ones(4, dtype=torch.int64)) == 1
