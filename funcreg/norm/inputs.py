"""Normalisation of inputs: a scaling that is fitted to the training set and applied to every set; unit rows."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .. import _checks
from ..tree.norms import over_norm, without_scale
from ..tree.values import precise
from .shared import check_vectors


class Scaling(NamedTuple):
    """`(x - offset) * factor`, feature by feature: both (F,), float32 (float64 for float64 data)."""

    offset: Tensor
    factor: Tensor


def fit_standard(x: Tensor) -> Scaling:
    """The scaling that gives every feature of a data set mean 0 and variance 1.

    The variance is the biased one, divided by N. A constant feature gets factor 1, and so becomes 0. As
    scikit-learn's StandardScaler.

    Args:
        x: floating-point (N, F), without NaN; the training set, never the test set.

    Returns:
        Scaling.

    Raises:
        FuncregError: when x is not floating-point (N, F), or empty.

    >>> x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    >>> apply_scaling(x, fit_standard(x))
    tensor([[-1.,  0.],
            [ 1.,  0.]])
    """
    # In float64, whose squares are of any float32, and in which close numbers have a mean of their own.
    data = _data(x).to(torch.float64)
    # By its values: the mean of equal ones may differ from them by rounding, and their variance from 0.
    constant = data.amax(dim=0) == data.amin(dim=0)
    mean = torch.where(constant, data[0], data.mean(dim=0))
    centred = data - mean
    variance = (centred * centred).mean(dim=0)
    factor = torch.rsqrt(torch.where(variance == 0, 1.0, variance))
    return Scaling(*(each.to(precise(x).dtype) for each in (mean, factor)))


def fit_min_max(x: Tensor, *, low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> Scaling:
    """The scaling that maps every feature of a data set onto [low, high].

    A constant feature becomes low, by the factor high - low. As scikit-learn's MinMaxScaler.

    Args:
        x: floating-point (N, F), without NaN; the training set, never the test set.
        low, high: numbers or tensors of shape (), low below high.

    Returns:
        Scaling.

    Raises:
        FuncregError: when x is not floating-point (N, F), or empty; or when high is not above low.

    >>> x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    >>> apply_scaling(x, fit_min_max(x, low=-1.0))
    tensor([[-1., -1.],
            [ 1., -1.]])
    """
    data = _data(x)
    low = _checks.check_setting("low", low, -math.inf)
    high = _checks.check_setting("high", high, -math.inf)
    low = _checks.check_order("low", low, high, "high", strict=True)
    least = data.amin(dim=0)
    width = data.amax(dim=0) - least
    factor = (high - low) / torch.where(width == 0, 1.0, width)
    return Scaling((least - low / factor).to(data.dtype), factor.to(data.dtype))


def apply_scaling(x: Tensor, scaling: Scaling) -> Tensor:
    """`(x - offset) * factor`, for each feature.

    Args:
        x: floating-point (..., F).
        scaling: from `fit_standard` or `fit_min_max`, (F,) each.

    Returns:
        x's shape and dtype.

    Raises:
        FuncregError: when x is not floating-point (..., F), or scaling is for another number of features.

    >>> apply_scaling(torch.tensor([[1.0, 2.0]]), Scaling(torch.tensor([1.0, 0.0]), torch.tensor([3.0, 4.0])))
    tensor([[0., 8.]])
    """
    _checks.check_floating("x", x)
    if x.ndim < 1:
        _checks.fail("x", _checks.describe(x), "a tensor (..., features)")
    if not isinstance(scaling, Scaling):
        remedy = "Make one: fit_standard(x) or fit_min_max(x)."
        _checks.fail("scaling", _checks.describe(scaling), "a Scaling", remedy)
    for name, vector in zip(("scaling.offset", "scaling.factor"), scaling, strict=True):
        _checks.check_tensor(name, vector)
        check_vectors({name: vector}, x, (x.shape[-1],), "the features of x")
    return ((precise(x) - scaling.offset) * scaling.factor).to(x.dtype)


def unit_norm(x: Tensor, *, dim: int = -1, order: float = 2.0) -> Tensor:
    """Scale each row to norm 1: `x / ||x||`, along one axis. Rows of zeros stay zeros.

    As scikit-learn's Normalizer, whose l1, l2 and max are orders 1, 2 and infinity.

    Args:
        x: floating-point (..., F).
        dim: the axis that a row lies along.
        order: the p of `||x|| = (sum |x|**p)**(1/p)`, at least 1; `math.inf` for the largest |x|.

    Returns:
        x's shape and dtype.

    Raises:
        FuncregError: when x is not floating-point, dim is not one of its axes, or order is below 1.

    >>> unit_norm(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    _checks.check_floating("x", x)
    _checks.check_count("dim", dim, -x.ndim, x.ndim - 1)
    if isinstance(order, Tensor):
        _checks.fail("order", _checks.describe(order), "a Python number")
    if not (isinstance(order, float) and order == math.inf):
        order = _checks.check_number("order", order, 1.0)
    data = precise(x)
    data = without_scale(data, dim)
    # The norm of a row of ones in the place of zeros, at which no second derivative is infinite.
    zero = (data == 0).all(dim=dim, keepdim=True)
    norm = torch.linalg.vector_norm(torch.where(zero, 1.0, data), order, dim=dim, keepdim=True)
    return over_norm(data, torch.where(zero, 1.0, norm)).to(x.dtype)


def _data(x: Tensor) -> Tensor:
    _checks.check_floating("x", x, ndim=2)
    if not x.shape[0]:
        _checks.fail("x", _checks.describe(x), "at least one example")
    return precise(x)
