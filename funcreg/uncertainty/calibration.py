"""Scores of probabilities against the classes that came true."""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import _checks
from ..losses.classes import Classes, as_classes, check_ignored, check_integers
from ..losses.reductions import reduce
from .predictive import as_probabilities, check_rows

_REDUCTIONS = ("mean", "none")
_STRATEGIES = ("uniform", "quantile")


def negative_log_likelihood(
    probabilities: Tensor, targets: Tensor, *, ignore_index: int | None = -100, reduction: str = "mean"
) -> Tensor:
    """`-log p_target`. A probability of 0 counts as the smallest normal number (87.3 nats in float32).

    Args:
        probabilities: floating-point (..., C).
        targets: integers (...) in [0, C).
        ignore_index: a target that has no part; None for no such one.
        reduction: "mean" over examples, or "none".

    Returns:
        A tensor of shape (), or (...) for "none", in nats, 0 for an ignored target.

    Raises:
        FuncregError: when the shapes do not fit, a row is no distribution, or a target no class. In a compiled
            program, and on a GPU, such examples give NaN instead.

    >>> negative_log_likelihood(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([1, 0]))
    tensor(0.3466)
    """
    _checks.check_choice("reduction", reduction, _REDUCTIONS)
    p, found = _checked(probabilities, targets, ignore_index)
    chosen = p.gather(-1, found.indices.unsqueeze(-1)).squeeze(-1)
    scores = -torch.log(chosen.clamp_min(torch.finfo(chosen.dtype).tiny))
    return reduce(found.counted(scores), reduction, found.share)


def brier(
    probabilities: Tensor, targets: Tensor, *, ignore_index: int | None = -100, reduction: str = "mean"
) -> Tensor:
    """Brier's score: `sum_c (p_c - [c = target])**2`, from 0 (sure and right) to 2 (sure and wrong).

    Args:
        probabilities: floating-point (..., C).
        targets: integers (...) in [0, C).
        ignore_index: a target that has no part; None for no such one.
        reduction: "mean" over examples, or "none".

    Returns:
        A tensor of shape (), or (...) for "none", 0 for an ignored target.

    Raises:
        FuncregError: as `negative_log_likelihood`.

    >>> brier(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([1, 0]))
    tensor(0.2500)

    Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 1950.
    """
    _checks.check_choice("reduction", reduction, _REDUCTIONS)
    p, found = _checked(probabilities, targets, ignore_index)
    scores = ((p - _came_true(p, found)) ** 2).sum(dim=-1)
    return reduce(found.counted(scores), reduction, found.share)


class ReliabilityCurve(NamedTuple):
    """What a reliability diagram shows, bin by bin of the confidence, (bins,); NaN where a bin is empty.

    confidence: the mean of the largest probabilities.
    accuracy: the share of right predictions.
    count: how many examples, in the same dtype.
    """

    confidence: Tensor
    accuracy: Tensor
    count: Tensor  # pyright: ignore[reportIncompatibleMethodOverride] (a field may hide tuple.count)


def reliability_curve(
    probabilities: Tensor,
    targets: Tensor,
    *,
    bins: int = 15,
    strategy: str = "uniform",
    ignore_index: int | None = -100,
) -> ReliabilityCurve:
    """How often predictions of about the same confidence are right: the numbers of a reliability diagram.

    Args:
        probabilities: floating-point (..., C).
        targets: integers (...) in [0, C).
        bins: how many.
        strategy: "uniform", bins of equal width, of which b is (b, b + 1] / bins; or "quantile", bins of about
            equally many examples, those of one confidence together.
        ignore_index: a target that has no part; None for no such one.

    Returns:
        ReliabilityCurve. The maximum calibration error is the largest |accuracy - confidence|.

    Raises:
        FuncregError: as `negative_log_likelihood`, for a wrong strategy, and when bins is not a positive integer.

    >>> reliability_curve(torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([0, 1, 1]), bins=4)
    ReliabilityCurve(confidence=tensor([   nan,    nan, 0.7000, 0.8000]), accuracy=tensor([   nan,    nan, 1.0000,
        0.5000]), count=tensor([0., 0., 1., 2.]))

    Niculescu-Mizil and Caruana, "Predicting good probabilities with supervised learning", ICML 2005.
    """
    p, found = _checked(probabilities, targets, ignore_index)
    confidence, right = _of_predicted(p, found)
    one = torch.where(confidence.isnan(), torch.nan, 1.0).to(p.dtype)
    sums = _Binning(bins, strategy).sums(confidence, found, confidence, one * right, one)
    summed, rightly, count = (each.squeeze(-1) for each in sums)
    empty, some = count == 0, count.clamp_min(1)
    confidence, accuracy = (torch.where(empty, torch.nan, each / some) for each in (summed, rightly))
    return ReliabilityCurve(confidence, accuracy, count)


def expected_calibration_error(
    probabilities: Tensor,
    targets: Tensor,
    *,
    bins: int = 15,
    strategy: str = "uniform",
    ignore_index: int | None = -100,
) -> Tensor:
    """How far confidence is from accuracy: `sum_b (n_b / n) |accuracy_b - confidence_b|`.

    Examples fall into bins by their largest probability. With bins of equally many it is known as adaptive.

    Args:
        probabilities: floating-point (..., C).
        targets: integers (...) in [0, C).
        bins: how many.
        strategy: "uniform" or "quantile", as `reliability_curve`.
        ignore_index: a target that has no part; None for no such one.

    Returns:
        A tensor of shape (), in [0, 1].

    Raises:
        FuncregError: as `reliability_curve`.

    >>> expected_calibration_error(torch.tensor([[0.8, 0.2], [0.8, 0.2]]), torch.tensor([0, 1]))
    tensor(0.3000)

    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017; of quantiles: Nguyen and
    O'Connor, "Posterior calibration and exploratory analysis for natural language processing models", EMNLP 2015.
    """
    p, found = _checked(probabilities, targets, ignore_index)
    confidence, right = _of_predicted(p, found)
    return _Binning(bins, strategy).error(confidence, right, found)


def classwise_calibration_error(
    probabilities: Tensor,
    targets: Tensor,
    *,
    bins: int = 15,
    strategy: str = "uniform",
    ignore_index: int | None = -100,
) -> Tensor:
    """How far each class's probability is from its frequency: `1/C sum_c sum_b (n_cb / n) |frequency_cb - mean p_cb|`.

    Examples fall into bins by each class's probability, likely or not. With bins of equally many it is known as
    adaptive calibration error (ACE).

    Args:
        probabilities: floating-point (..., C).
        targets: integers (...) in [0, C).
        bins: how many.
        strategy: "uniform" or "quantile", as `reliability_curve`.
        ignore_index: a target that has no part; None for no such one.

    Returns:
        A tensor of shape (), in [0, 1].

    Raises:
        FuncregError: as `reliability_curve`.

    >>> classwise_calibration_error(torch.tensor([[0.8, 0.2], [0.8, 0.2]]), torch.tensor([0, 1]))
    tensor(0.3000)

    Kull et al., "Beyond temperature scaling: obtaining well-calibrated multi-class probabilities with Dirichlet
    calibration", NeurIPS 2019; of quantiles: Nixon et al., "Measuring calibration in deep learning", 2019.
    """
    p, found = _checked(probabilities, targets, ignore_index)
    return _Binning(bins, strategy).error(p, _came_true(p, found), found)


class _Binning(NamedTuple):
    """How numbers in [0, 1] fall into bins, each column's (..., K) by itself."""

    bins: int
    strategy: str

    def error(self, forecast: Tensor, outcome: Tensor, found: Classes) -> Tensor:
        """`sum_b (n_b / n) |mean outcome - mean forecast|`, averaged over the columns."""
        apart = self.sums(forecast, found, outcome - forecast)[0].abs().sum(dim=0).mean()
        return apart / (found.indices.numel() if found.share is None else found.share.sum().to(forecast.dtype))

    def sums(self, forecast: Tensor, found: Classes, *values: Tensor) -> list[Tensor]:
        """Of each value, (bins, K), over the examples of a bin that count."""
        _checks.check_count("bins", self.bins)
        _checks.check_choice("strategy", self.strategy, _STRATEGIES)
        if not forecast.numel():
            _checks.fail("probabilities", _checks.describe(forecast), "at least one example")
        columns = forecast.shape[-1]
        x = forecast.reshape(-1, columns)
        share = None if found.share is None else found.share.reshape(-1, 1)
        which = self._uniform(x) if self.strategy == "uniform" else self._quantile(x, share)
        counted = Classes(found.indices, share).counted
        # By comparison, a bin after the other, rather than by scattering, which is not deterministic on a GPU.
        return [
            torch.stack([torch.where(which == each, value, 0.0).sum(dim=0) for each in range(self.bins)])
            for value in (counted(each.reshape(-1, columns)) for each in values)
        ]

    def _uniform(self, x: Tensor) -> Tensor:
        return (torch.ceil(x * self.bins) - 1).clamp(0, self.bins - 1).nan_to_num(0.0)

    def _quantile(self, x: Tensor, share: Tensor | None) -> Tensor:
        """An example is above as many edges as bins; the b-th edge is the quantile of b / bins, taken low.

        Between two examples it makes no difference where: none is there.
        """
        ignored = torch.zeros_like(x, dtype=torch.bool) if share is None else share.expand_as(x) == 0
        ordered = torch.where(ignored, torch.inf, x).sort(dim=0).values
        last = (~ignored[:, :1]).sum() - 1
        place = torch.arange(1, self.bins, device=x.device) * last // self.bins
        edges = ordered.index_select(0, place.clamp_min(0))
        return sum((x > edge for edge in edges), torch.zeros_like(x))


def _of_predicted(p: Tensor, found: Classes) -> tuple[Tensor, Tensor]:
    """The largest probability, and 1 or 0 for a right or wrong prediction: both (..., 1)."""
    confidence, predicted = p.max(dim=-1, keepdim=True)
    return confidence, (predicted == found.indices.unsqueeze(-1)).to(p.dtype)


def _came_true(p: Tensor, found: Classes) -> Tensor:
    """1 for the class that came true and 0 for the others, (..., C)."""
    return (found.indices.unsqueeze(-1) == torch.arange(p.shape[-1], device=p.device)).to(p.dtype)


def _checked(probabilities: Tensor, targets: Tensor, ignore_index: int | None) -> tuple[Tensor, Classes]:
    """Probabilities of at least float32, zeros where the target is ignored, and the targets."""
    check_rows(probabilities)
    check_integers(targets, probabilities)
    check_ignored(ignore_index)
    p = as_probabilities(probabilities, None if ignore_index is None else targets == ignore_index)
    return p, as_classes(targets, p.shape[-1], ignore_index)
