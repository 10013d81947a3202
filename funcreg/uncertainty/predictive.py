"""Many predictions as one: their mean, how far they agree, and where the uncertainty comes from."""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import _checks, _jit
from ..tree.values import precise

_SLACK = 1e-2  # of a row's sum, and of [0, 1]: more than 16-bit numbers lose


class Predictive(NamedTuple):
    """What T sampled predictions for N inputs of C classes say together.

    mean: (N, C), their average probabilities.
    variance: (N, C), of each class's probability over the samples (divided by T, not T - 1).
    entropy: (N,), of the mean: total uncertainty.
    expected_entropy: (N,), the mean of the samples' entropies: noise in the data.
    mutual_information: (N,), entropy - expected_entropy: what more data about the weights would remove.
    """

    mean: Tensor
    variance: Tensor
    entropy: Tensor
    expected_entropy: Tensor
    mutual_information: Tensor


class Moments(NamedTuple):
    """Sums over the samples so far, in the form that two of them can be merged.

    Mean and own are in float64 for classes: of samples that nearly agree, mutual information is what little their
    entropies differ by. The results are in the dtype of squares.
    """

    count: int  # pyright: ignore[reportIncompatibleMethodOverride] (a field may hide tuple.count)
    mean: Tensor
    squares: Tensor  # squared deviations from the mean, summed
    own: Tensor  # each sample's own uncertainty, summed: its entropy, or its variance


def from_samples(probabilities: Tensor) -> Predictive:
    """Summarise sampled predictions, e.g. those of the members of an ensemble.

    Args:
        probabilities: floating-point (T, ..., C), each row a distribution.

    Returns:
        Predictive: (..., C) and (...).

    Raises:
        FuncregError: when probabilities is not such a tensor, or T is 0. In a compiled program, and on a GPU, a
            row that is no distribution gives NaN instead.

    >>> sure, torn = [1.0, 0.0], [0.5, 0.5]
    >>> from_samples(torch.tensor([[sure, torn], [[0.0, 1.0], torn]])).mutual_information
    tensor([0.6931, 0.0000])
    """
    samples = as_probabilities(probabilities)
    if samples.ndim < 2 or samples.shape[0] == 0:
        _checks.fail("probabilities", _checks.describe(probabilities), "a tensor (T, ..., C) with T at least 1")
    return predictive(of_classes(samples))


def entropy(probabilities: Tensor) -> Tensor:
    """Shannon's entropy in nats: `-sum_c p_c log p_c`; its gradient where p_c = 0 is taken as 0.

    Args:
        probabilities: floating-point (..., C).

    Returns:
        (...), from 0 for certainty to log C.

    Raises:
        FuncregError: when probabilities is not such a tensor, as `from_samples`.

    >>> entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    tensor([0.0000, 0.6931])
    """
    return _entropy(as_probabilities(probabilities))


def of_classes(probabilities: Tensor) -> Moments:
    """Of probabilities (T, ..., C)."""
    wide = probabilities.to(torch.float64)
    each = moments(wide, _entropy(wide))
    return each._replace(squares=each.squares.to(probabilities.dtype))


def moments(samples: Tensor, own: Tensor) -> Moments:
    """Of samples and the uncertainty of each, (T, ...)."""
    mean = samples.mean(dim=0)
    return Moments(samples.shape[0], mean, ((samples - mean) ** 2).sum(dim=0), own.sum(dim=0))


def merge(one: Moments, other: Moments) -> Moments:
    """Chan, Golub and LeVeque's pairwise update, which does not cancel as E[p**2] - E[p]**2 would."""
    count = one.count + other.count
    step = other.mean - one.mean
    return Moments(
        count=count,
        mean=one.mean + step * (other.count / count),
        squares=one.squares + other.squares + (step**2 * (one.count * other.count / count)).to(one.squares.dtype),
        own=one.own + other.own,
    )


def predictive(moments: Moments) -> Predictive:
    """What they say together."""
    total, expected = _entropy(moments.mean), moments.own / moments.count
    results = Predictive(
        mean=moments.mean,
        variance=moments.squares / moments.count,
        entropy=total,
        expected_entropy=expected,
        mutual_information=(total - expected).clamp_min(0.0),  # below 0 by rounding only (Jensen)
    )
    return Predictive(*(each.to(moments.squares.dtype) for each in results))


def _entropy(probabilities: Tensor) -> Tensor:
    zero = probabilities == 0
    return torch.where(zero, 0.0, -probabilities * torch.log(torch.where(zero, 1.0, probabilities))).sum(dim=-1)


def check_rows(probabilities: Tensor) -> None:
    """Refuse what is not floating-point (..., C)."""
    _checks.check_floating("probabilities", probabilities)
    if probabilities.ndim == 0 or probabilities.shape[-1] == 0:
        _checks.fail("probabilities", _checks.describe(probabilities), "a tensor (..., C)")


def as_probabilities(probabilities: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Probabilities (..., C) in at least float32; rows that are none are refused, or NaN where they cannot be read.

    Rows that are ignored, bool (...), may be anything, and become zeros.

    >>> as_probabilities(torch.tensor([0.5, 0.5]))
    tensor([0.5000, 0.5000])
    """
    check_rows(probabilities)
    p = precise(probabilities)
    p = p if ignored is None else torch.where(ignored.unsqueeze(-1), 0.0, p)
    outside = ((p < -_SLACK) | (p > 1 + _SLACK)).any(dim=-1)
    wrong = outside | ((p.sum(dim=-1) - 1).abs() > _SLACK)
    wrong = wrong if ignored is None else wrong & ~ignored
    values = _jit.known(wrong)
    if values is None:
        return p * torch.where(wrong, torch.nan, 1.0).to(p.dtype).unsqueeze(-1)
    if bool(values.any()):
        got = f"{int(values.sum())} of {values.numel()} rows that are not, in {_checks.describe(probabilities)}"
        remedy = "Of logits: torch.softmax(logits, dim=-1). Of one probability p: torch.stack((1 - p, p), dim=-1)."
        _checks.fail("probabilities", got, "numbers in [0, 1] that sum to 1 over the last axis", remedy)
    return p
