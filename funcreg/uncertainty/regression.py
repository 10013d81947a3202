"""Many predictions of numbers as one: their mean, and how much of the variance is whose."""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import _checks, _jit
from .._functorch import readable
from ..tree.values import precise
from .predictive import Moments, moments


class RegressionPredictive(NamedTuple):
    """What T sampled predictions of numbers say together, in the shape of one of them, such as (N, D).

    mean: the average of the predictions.
    variance: of the target, epistemic + aleatoric (the law of total variance).
    epistemic: the variance of the predicted means (divided by T, not T - 1): what more data would remove.
    aleatoric: the mean of the predicted variances: noise in the data.
    """

    mean: Tensor
    variance: Tensor
    epistemic: Tensor
    aleatoric: Tensor


def regression_from_samples(means: Tensor, variances: Tensor | float = 0.0) -> RegressionPredictive:
    """Summarise sampled predictions of numbers, e.g. those of the members of an ensemble.

    `mean = E[m]`, `variance = E[m**2] - E[m]**2 + E[v]`: mean and variance of a mixture of Gaussians.

    Args:
        means: floating-point (T, ...).
        variances: at least 0, of the noise that each sample predicts; a tensor that broadcasts with means, or a
            number. Default: means alone, which say nothing of the noise.

    Returns:
        RegressionPredictive: (...) each, in float32 (float64 for float64 means).

    Raises:
        FuncregError: when means is not such a tensor, T is 0, or variances are negative or do not fit. In a compiled
            program, and on a GPU, a negative one gives NaN instead.

    >>> regression_from_samples(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.5], [1.5]]))
    RegressionPredictive(mean=tensor([2.]), variance=tensor([2.]), epistemic=tensor([1.]), aleatoric=tensor([1.]))

    Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty estimation using deep
    ensembles", NeurIPS 2017; Kendall and Gal, "What uncertainties do we need in Bayesian deep learning for
    computer vision?", NeurIPS 2017 (equation 9).
    """
    _checks.check_floating("means", means)
    if means.ndim == 0 or means.shape[0] == 0:
        _checks.fail("means", _checks.describe(means), "a tensor (T, ...) with T at least 1")
    return regression(moments(precise(means), _of_each(variances, precise(means))))


def of_means(means: Tensor) -> Moments:
    """Of predictions (T, ...) that say nothing of the noise."""
    return moments(means, torch.zeros_like(means))


def of_gaussians(outputs: Tensor) -> Moments:
    """Of means and log variances (T, ..., 2 D)."""
    means, log_variances = outputs.chunk(2, dim=-1)
    return moments(means, log_variances.exp())


def regression(moments: Moments) -> RegressionPredictive:
    """What they say together."""
    epistemic, aleatoric = moments.squares / moments.count, moments.own / moments.count
    return RegressionPredictive(moments.mean, epistemic + aleatoric, epistemic, aleatoric)


def _of_each(variances: Tensor | float, means: Tensor) -> Tensor:
    """Variances in the shape of the means; negative ones are refused, or NaN where they cannot be read."""
    if not isinstance(variances, Tensor):
        return torch.full_like(means, _checks.check_number("variances", variances, 0.0))
    _checks.check_floating("variances", variances)
    fits = variances.ndim <= means.ndim and all(
        own in (1, full) for own, full in zip(variances.shape[::-1], means.shape[::-1], strict=False)
    )
    if not fits:
        _checks.fail("variances", _checks.describe(variances), f"a shape that broadcasts with {tuple(means.shape)}")
    _checks.check_beside("variances", variances, means, "means")
    values = None if _jit.compiling() else readable(variances)
    if values is not None and bool((values < 0).any()):
        got = f"{int((values < 0).sum())} negative of {values.numel()} numbers"
        _checks.fail("variances", got, "numbers of at least 0", "Of log variances: variances.exp().")
    return torch.where(variances < 0, torch.nan, variances).to(means.dtype).expand_as(means)
