"""How well a score tells positives from negatives, such as inputs of another kind from those of the training set.

Targets are 1 for positives, whose scores should be high, and 0 for the rest. To detect unknown inputs by their
uncertainty, those are the positives: scores are entropies, targets 1 for the unknown. Where a paper counts known
inputs as positives, pass `-scores` and `1 - targets`: the AUROC is the same, the other two are not.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import _checks, _jit
from ..losses.classes import as_classes, check_integers
from ..losses.reductions import check_same_shape
from ..tree.values import precise
from .scores import as_scores, holds


class _Ranking(NamedTuple):
    """Examples by descending score; all counts are int64.

    positive, negative: (n,), 1 or 0, both 0 where ignored.
    hits, alarms: (n,), how many positives and negatives have at least an example's score.
    unknown: (), whether a score is NaN or a target is no class, in code that cannot refuse it.
    """

    positive: Tensor
    negative: Tensor
    hits: Tensor
    alarms: Tensor
    unknown: Tensor


def auroc(scores: Tensor, targets: Tensor, *, ignore_index: int | None = -100) -> Tensor:
    """The area under the ROC curve: how often a positive scores above a negative, a tie counting one half.

    Args:
        scores: floating-point (...), high for positives; all are examples of one set.
        targets: integers or bools (...), 1 for positives and 0 for negatives.
        ignore_index: a target that has no part; None for no such one.

    Returns:
        A tensor of shape (), in [0, 1]; 0.5 is chance. It has no slope.

    Raises:
        FuncregError: when the shapes do not fit, a score is NaN, a target is not 0 or 1, or there are no positives or
            no negatives. In a compiled program, and on a GPU, the result is NaN instead.

    >>> entropies = torch.tensor([0.1, 0.4, 0.4, 0.9])
    >>> auroc(entropies, torch.tensor([0, 0, 1, 1]))
    tensor(0.8750)

    Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
    Radiology 1982.
    """
    ranking = _ranked(scores, targets, ignore_index)
    positives, negatives = ranking.positive.sum(), ranking.negative.sum()
    # Pairs in the wrong order twice, ties once: seen from the positives, at or above; from the negatives, strictly.
    wrong = (ranking.positive * ranking.alarms + ranking.negative * (positives - ranking.hits)).sum()
    dtype = precise(scores).dtype
    area = 1 - wrong.to(dtype) / (2 * positives.to(dtype) * negatives.to(dtype))
    return _known(area, ranking, positives=positives, negatives=negatives)


def average_precision(scores: Tensor, targets: Tensor, *, ignore_index: int | None = -100) -> Tensor:
    """The area under the precision-recall curve (AUPR), as steps: the mean over positives of the precision there.

    Args:
        scores: floating-point (...), high for positives; all are examples of one set.
        targets: integers or bools (...), 1 for positives and 0 for negatives.
        ignore_index: a target that has no part; None for no such one.

    Returns:
        A tensor of shape (), in (0, 1]; the share of positives is chance. It has no slope.

    Raises:
        FuncregError: as `auroc`; there may be no negatives.

    >>> average_precision(torch.tensor([0.1, 0.4, 0.4, 0.9]), torch.tensor([0, 0, 1, 1]))
    tensor(0.8333)

    Davis and Goadrich, "The relationship between precision-recall and ROC curves", ICML 2006, on why no straight
    lines between its points.
    """
    ranking = _ranked(scores, targets, ignore_index)
    positives, dtype = ranking.positive.sum(), precise(scores).dtype
    precision = ranking.hits.to(dtype) / (ranking.hits + ranking.alarms).clamp_min(1).to(dtype)
    mean = (ranking.positive.to(dtype) * precision).sum() / positives.to(dtype)
    return _known(mean, ranking, positives=positives)


def false_positive_rate(
    scores: Tensor, targets: Tensor, recall: float | Tensor = 0.95, *, ignore_index: int | None = -100
) -> Tensor:
    """The share of negatives that are taken for positives by the threshold that finds so many positives: FPR95.

    An example is taken for a positive when its score is at least the threshold, the highest one whose true positive
    rate is at least `recall`.

    Args:
        scores: floating-point (...), high for positives; all are examples of one set.
        targets: integers or bools (...), 1 for positives and 0 for negatives.
        recall: the true positive rate, in [0, 1], a number or a tensor of shape ().
        ignore_index: a target that has no part; None for no such one.

    Returns:
        A tensor of shape (), in [0, 1]; `recall` is chance. It has no slope.

    Raises:
        FuncregError: as `auroc`, and for another recall.

    >>> scores, targets = torch.tensor([0.1, 0.4, 0.4, 0.9]), torch.tensor([0, 0, 1, 1])
    >>> false_positive_rate(scores, targets), false_positive_rate(scores, targets, 0.5)
    (tensor(0.5000), tensor(0.))

    Hendrycks and Gimpel, "A baseline for detecting misclassified and out-of-distribution examples", ICLR 2017;
    Liang, Li and Srikant, "Enhancing the reliability of out-of-distribution image detection", ICLR 2018 (whose
    positives are the known inputs).
    """
    recall = _checks.check_setting("recall", recall, 0.0, 1.0)
    ranking = _ranked(scores, targets, ignore_index)
    positives, negatives = ranking.positive.sum(), ranking.negative.sum()
    # Divided in the dtype that recall is rounded in: 19 of 20 are 0.95 in every one.
    least = _jit.as_data(recall, scores.device)
    exact = precise(least).dtype if least.is_floating_point() else torch.float64
    found = ranking.hits.to(exact) / positives.to(exact) >= least
    alarms = torch.where(found, ranking.alarms, negatives).amin()
    alarms = torch.where(least == 0, 0, alarms)  # of a threshold above all scores
    dtype = precise(scores).dtype
    rate = _checks.spoilt(alarms.to(dtype) / negatives.to(dtype), least)
    return _known(rate, ranking, positives=positives, negatives=negatives)


def _ranked(scores: Tensor, targets: Tensor, ignore_index: int | None) -> _Ranking:
    _checks.check_floating("scores", scores)
    check_same_shape("targets", targets, "scores", scores)
    check_integers(targets.long() if targets.dtype == torch.bool else targets)
    found = as_classes(targets, 2, ignore_index)
    if ignore_index in (0, 1):
        _checks.fail("ignore_index", ignore_index, "neither 0 nor 1, which are the negatives and the positives")
    values, counted = as_scores(scores, found.share)
    if not values.numel():
        _checks.fail("scores", "no examples", "at least one positive")
    ordered, order = torch.sort(values, descending=True)
    positive, negative = ((found.indices.flatten() == each) & counted for each in (1, 0))
    positive, negative = (each[order].to(torch.int64) for each in (positive, negative))
    # The last place of each score among its equals: no threshold parts them.
    place = torch.arange(values.numel(), device=values.device)
    ends = torch.cat((ordered[1:] != ordered[:-1], torch.ones_like(ordered[:1], dtype=torch.bool)))
    last = torch.where(ends, place, values.numel() - 1).flip(0).cummin(0).values.flip(0)
    unknown = values.isnan().any()
    if found.share is not None:
        unknown = unknown | found.share.isnan().any()
    return _Ranking(positive, negative, positive.cumsum(0)[last], negative.cumsum(0)[last], unknown)


def _known(result: Tensor, ranking: _Ranking, **counts: Tensor) -> Tensor:
    """A result, if there is at least one of what it counts; refused, or NaN where that cannot be read."""
    unknown = ranking.unknown
    for name, count in counts.items():
        if holds(count == 0):
            _checks.fail("targets", f"no {name}", "positives, of 1, and negatives, of 0")
        unknown = unknown | (count == 0)
    return torch.where(unknown, torch.nan, result)
