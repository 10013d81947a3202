"""Split conformal prediction: sets and intervals that hold the truth as often as asked, whatever the model.

Scores say how badly an answer fits; the threshold is a quantile of the scores of the right answers on examples that
were not trained on. An answer of a new example is kept when its score is at most the threshold. If the examples are
exchangeable, the truth is kept with a probability of at least 1 - alpha, over the draw of all of them.

    scores = lac_scores(held_out_probabilities)
    threshold = conformal_quantile(scores, 0.1, targets=targets)
    sets = prediction_sets(lac_scores(probabilities), threshold)

    threshold = conformal_quantile(interval_scores(held_out_predictions, targets), 0.1)
    low, high = prediction_intervals(predictions, threshold)
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks, _jit, random
from ..losses.classes import as_classes, check_ignored, check_integers
from ..losses.reductions import check_same_shape
from ..tree.values import precise
from .predictive import as_probabilities
from .scores import as_scores, holds

Predictions = Tensor | tuple[Tensor, Tensor]


class PredictionInterval(NamedTuple):
    """The ends of intervals, each of the predictions' shape; none is left where low is above high."""

    low: Tensor
    high: Tensor


def conformal_quantile(
    scores: Tensor, alpha: float | Tensor, *, targets: Tensor | None = None, ignore_index: int | None = -100
) -> Tensor:
    """The threshold of a conformal prediction: the k-th smallest of n scores, `k = ceil((n + 1)(1 - alpha))`.

    Args:
        scores: floating-point (n,), of the right answers of n held-out examples; or (..., C), with targets.
        alpha: how often the truth may be left out, in (0, 1), a number or a tensor of shape ().
        targets: integers (...) in [0, C), which classes were right; None for scores of right answers alone.
        ignore_index: a target that has no part; None for no such one.

    Returns:
        A tensor of shape (), in at least float32; infinite, so that all is kept, when n < 1 / alpha - 1.

    Raises:
        FuncregError: when the shapes do not fit, a score is NaN, a target no class, or for another alpha. In a
            compiled program, and on a GPU, the threshold is NaN instead.

    >>> scores = torch.arange(1.0, 20.0)  # 19 of them
    >>> conformal_quantile(scores, 0.1), conformal_quantile(scores, 0.01)
    (tensor(18.), tensor(inf))

    Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2005; Angelopoulos and Bates, "Conformal
    prediction: a gentle introduction", 2023.
    """
    _checks.check_floating("scores", scores)
    alpha = _checks.check_setting("alpha", alpha, 0.0, 1.0, exclusive="both")
    share = None
    if targets is None:
        if scores.ndim != 1:
            _checks.fail("scores", _checks.describe(scores), "a tensor (n,)", "Of classes (..., C): pass targets.")
        check_ignored(ignore_index, "no targets")
    else:
        check_integers(targets, scores)
        found = as_classes(targets, scores.shape[-1], ignore_index)
        scores, share = scores.gather(-1, found.indices.unsqueeze(-1)).squeeze(-1), found.share
    values, counted = as_scores(scores, share)
    unknown = values.isnan().any()
    if share is not None:
        unknown = unknown | share.isnan().any()
    ordered = torch.cat((torch.where(counted, values, torch.inf), values.new_full((1,), torch.inf))).sort().values
    a = _jit.as_data(alpha, values.device)
    a = precise(a) if a.is_floating_point() else a.to(torch.float64)
    # k = n + 1 - floor((n + 1) alpha), where 100 times 0.07 is 7 although it rounds below, in the dtype of alpha.
    left_out = torch.floor((counted.sum() + 1) * a * (1 + 2 * torch.finfo(a.dtype).eps))
    place = (counted.sum() - left_out.nan_to_num(0.0).to(torch.int64)).clamp_min(0)
    threshold = ordered.gather(0, place.reshape(1)).squeeze(0)
    return torch.where(unknown | a.isnan(), torch.nan, threshold)


def lac_scores(probabilities: Tensor) -> Tensor:
    """Least ambiguous classifiers: `1 - p_c`, whose sets are the smallest on average.

    Args:
        probabilities: floating-point (..., C).

    Returns:
        (..., C), in [0, 1], in at least float32.

    Raises:
        FuncregError: when a row is no distribution, as `entropy`.

    >>> lac_scores(torch.tensor([0.5, 0.3, 0.2]))
    tensor([0.5000, 0.7000, 0.8000])

    Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers with bounded error levels", JASA 2019.
    """
    return 1 - as_probabilities(probabilities)


def aps_scores(probabilities: Tensor, *, key: Tensor | None) -> Tensor:
    """Adaptive prediction sets: the probability of all likelier classes, and a random part of the class's own.

    Their sets grow with how hard an example is. Likelier are those of a larger probability, and of equals the first.

    Args:
        probabilities: floating-point (..., C).
        key: int64 (2,), for one uniform number u an example, of which `u p_c` is counted: coverage is then exact, and
            a set may be empty. None for all of `p_c`, without a draw: sets are larger than they need be. Held-out
            examples and new ones take the same kind, with keys of their own.

    Returns:
        (..., C), in [0, 1], in at least float32.

    Raises:
        FuncregError: when a row is no distribution, as `entropy`, or for a wrong key.

    >>> aps_scores(torch.tensor([0.3, 0.5, 0.2]), key=None)
    tensor([0.8000, 0.5000, 1.0000])

    Romano, Sesia and Candès, "Classification with valid and adaptive coverage", NeurIPS 2020.
    """
    p = as_probabilities(probabilities)
    ordered, order = p.sort(dim=-1, descending=True, stable=True)
    through = ordered.cumsum(dim=-1)
    if key is not None:
        _checks.check_key(key, p)
        u = random.uniform(key, tuple(p.shape[:-1]), dtype=p.dtype).unsqueeze(-1)
        through = through - (1 - u) * ordered
    return through.gather(-1, order.argsort(dim=-1))


def prediction_sets(scores: Tensor, threshold: float | Tensor) -> Tensor:
    """Which classes are kept: those whose score is at most the threshold.

    Args:
        scores: floating-point (..., C), of the kind that the threshold is of.
        threshold: what `conformal_quantile` returns; a number or a tensor of shape (), also infinite.

    Returns:
        bool (..., C). Where a score or the threshold is NaN, in code that cannot refuse it, a class is kept.

    Raises:
        FuncregError: when a score or the threshold is NaN, or has another shape.

    >>> prediction_sets(lac_scores(torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.4, 0.2]])), 0.65)
    tensor([[ True, False, False],
            [ True,  True, False]])
    """
    _checks.check_floating("scores", scores)
    if scores.ndim == 0:
        _checks.fail("scores", _checks.describe(scores), "a tensor (..., C)")
    if holds(scores.isnan()):
        _checks.fail("scores", f"NaN among {scores.numel()}", "numbers, or infinities")
    return ~(precise(scores) > _checked_threshold(threshold))


def interval_scores(predictions: Predictions, targets: Tensor, *, scale: float | Tensor = 1.0) -> Tensor:
    """How far outside of its prediction a number came true: `|y - prediction| / scale`.

    Args:
        predictions: floating-point (...); or a pair of such, a lower and an upper quantile, which gives
            `max(lower - y, y - upper) / scale`, below 0 inside (conformalized quantile regression).
        targets: real numbers (...), y.
        scale: above 0, a number or a tensor that broadcasts to the predictions, such as their standard deviations:
            intervals are then wide where these are large.

    Returns:
        (...), in at least float32.

    Raises:
        FuncregError: when the shapes do not fit, or for another scale.

    >>> interval_scores(torch.tensor([1.0, 2.0]), torch.tensor([1.5, 0.0]), scale=torch.tensor([1.0, 4.0]))
    tensor([0.5000, 0.5000])

    Lei et al., "Distribution-free predictive inference for regression", JASA 2018; Romano, Patterson and Candès,
    "Conformalized quantile regression", NeurIPS 2019.
    """
    lower, upper, scale = _ends(predictions, scale)
    check_same_shape("targets", targets, "predictions", lower)
    y = targets.to(lower.dtype)
    return torch.maximum(lower - y, y - upper) / scale


def prediction_intervals(
    predictions: Predictions, threshold: float | Tensor, *, scale: float | Tensor = 1.0
) -> PredictionInterval:
    """`prediction - threshold * scale` to `prediction + threshold * scale`.

    Args:
        predictions: floating-point (...), or a pair (lower, upper), as those of `interval_scores`.
        threshold: what `conformal_quantile` returns; a number or a tensor of shape (), also infinite.
        scale: as that of `interval_scores`, for these predictions.

    Returns:
        PredictionInterval(low, high), each (...), in at least float32.

    Raises:
        FuncregError: as `interval_scores`, and for a threshold that is NaN or has another shape.

    >>> prediction_intervals(torch.tensor([1.0, 2.0]), 0.5, scale=torch.tensor([1.0, 4.0]))
    PredictionInterval(low=tensor([0.5000, 0.0000]), high=tensor([1.5000, 4.0000]))
    """
    lower, upper, scale = _ends(predictions, scale)
    reach = _checked_threshold(threshold) * scale
    return PredictionInterval(lower - reach, upper + reach)


def _ends(predictions: Any, scale: float | Tensor) -> tuple[Tensor, Tensor, float | Tensor]:
    """The lower and the upper end of predictions, in at least float32, and a scale that fits."""
    pair = predictions if isinstance(predictions, tuple) else (predictions, predictions)
    if len(pair) != 2:
        _checks.fail("predictions", _checks.describe(predictions), "a tensor, or a pair of them: lower and upper")
    for each in pair:
        _checks.check_floating("predictions", each)
        check_same_shape("predictions", each, "the lower ones", pair[0])
    lower, upper = map(precise, pair)
    scale = _checks.check_number("scale", scale, 0.0, exclusive="low")
    if isinstance(scale, Tensor):
        ends = zip(reversed(scale.shape), reversed(lower.shape), strict=False)
        if scale.ndim > lower.ndim or any(own not in (1, other) for own, other in ends):
            _checks.fail("scale", _checks.describe(scale), f"a shape that broadcasts to {tuple(lower.shape)}")
        _checks.check_beside("scale", scale, lower, "predictions")
        scale = scale.to(lower.dtype)
    return lower, upper, scale


def _checked_threshold(threshold: Any) -> Any:
    """A number that may be infinite, but is not NaN."""
    allowed = "a number, or a tensor of shape (), also infinite"
    if isinstance(threshold, Tensor):
        if threshold.ndim or not threshold.is_floating_point() or threshold.is_meta:
            _checks.fail("threshold", _checks.describe(threshold), allowed, "Batch it with vmap.")
        if holds(threshold.isnan()):
            _checks.fail("threshold", "NaN", allowed)
    elif not (isinstance(threshold, float) and math.isinf(threshold)):
        _checks.check_number("threshold", threshold)
    return threshold
