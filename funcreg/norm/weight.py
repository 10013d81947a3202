"""Normalisation of weights: slices to lengths of their own, or the whole by its largest singular value."""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import _checks, random
from .._jit import known_number
from ..tree.norms import length, over_norm
from ..tree.values import in_own_precision, precise


class SpectralState(NamedTuple):
    """Estimates of a matrix's first singular vectors, of norm 1: u (rows,), v (columns,).

    Float32, or float64 for float64 weights. They are the `_u` and `_v` of torch's parametrization.
    """

    u: Tensor
    v: Tensor


def weight_norm(direction: Tensor, magnitude: Tensor, *, dim: int | None = 0) -> Tensor:
    """Weights by direction and length: `magnitude * direction / ||direction||`, for each slice along an axis.

    As `torch.nn.utils.parametrizations.weight_norm`; a slice of zeros, which there gives NaN, gives zeros.

    Args:
        direction: floating-point, of the weight's shape.
        magnitude: (direction.shape[dim],), or with axes of length 1 for the others, as torch keeps it.
        dim: the axis whose slices have a length each: 0 for the units of a linear layer and the filters
            of a convolution. None: the whole tensor has one, and magnitude is of shape ().

    Returns:
        The weight, in direction's shape and dtype.

    Raises:
        FuncregError: when direction or magnitude is not floating-point, dim is not an axis of direction,
            or magnitude has another shape.

    >>> weight_norm(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([10.0, 5.0]))
    tensor([[6., 8.],
            [0., 0.]])

    Salimans and Kingma, "Weight normalization", NeurIPS 2016.
    """
    _checks.check_floating("direction", direction)
    _checks.check_floating("magnitude", magnitude)
    inputs = precise(direction)
    if dim is None:
        axis, shape = None, ()
    else:
        axis = _axis(direction, dim)
        shape = tuple(size if place == axis else 1 for place, size in enumerate(direction.shape))
    vector = () if axis is None else (direction.shape[axis],)
    if magnitude.shape not in (vector, shape):
        allowed = f"shape {vector}, a length for each slice along dim {dim}"
        _checks.fail("magnitude", _checks.describe(magnitude), allowed)
    _checks.check_beside("magnitude", magnitude, direction, "direction")
    norm = length(inputs, tuple(place for place in range(direction.ndim) if place != axis))
    return (over_norm(inputs, norm) * magnitude.to(inputs.dtype).reshape(shape)).to(direction.dtype)


def init_spectral_state(weight: Tensor, *, key: Tensor, steps: int = 15, dim: int = 0) -> SpectralState:
    """Singular vectors to start `spectral_norm` from: random ones, and some power steps.

    Args:
        weight: floating-point, of two axes or more.
        key: int64 (2,).
        steps: power steps, at least 0.
        dim: the axis of the outputs: 0, but 1 for a transposed convolution.

    Returns:
        SpectralState.

    Raises:
        FuncregError: when weight is not floating-point or has fewer axes, steps is negative, or dim is not
            an axis of weight.

    >>> state = init_spectral_state(torch.diag(torch.tensor([3.0, 1.0])), key=random.key(0))
    >>> state.v.abs().round(decimals=4)
    tensor([1., 0.])
    """
    rows, columns = _matrix(weight, dim).shape
    _checks.check_count("steps", steps, 0)
    _checks.check_key(key, weight)
    drawn = random.normal(key, (rows + columns,), dtype=precise(weight).dtype)
    u, v = (each / torch.linalg.vector_norm(each) for each in drawn.split([rows, columns]))
    return spectral_norm(weight, SpectralState(u, v), steps=steps, dim=dim)[1]


def spectral_norm(
    weight: Tensor,
    state: SpectralState,
    *,
    steps: int = 1,
    dim: int = 0,
    eps: float | Tensor = 1e-12,
) -> tuple[Tensor, SpectralState]:
    """Divide a weight by an estimate of its largest singular value: `weight / sigma`, sigma = u . W v.

    W is the weight as a matrix, (weight.shape[dim], -1). Each power step moves u to W v and then v to
    u W, both scaled to norm 1. They are constants of the gradient, which is that of sigma alone. The
    estimate never exceeds the true value, so the norm of the result is at least 1: it comes down to 1 as
    steps add up, and rises above it when the weight changes.

    As `torch.nn.utils.parametrizations.spectral_norm`. A weight of zeros, which there gives NaN, stays as
    it is, and so does its state.

    Args:
        weight: floating-point, of two axes or more.
        state: u (weight.shape[dim],) and v (the product of the other axes,).
        steps: power steps before the division; 0, for evaluation, takes the state as it is.
        dim: the axis of the outputs: 0, but 1 for a transposed convolution.
        eps: above 0; a sigma up to it counts as zero. A number or a tensor of shape ().

    Returns:
        (weight / sigma, state): in weight's shape and dtype; in the dtypes of the state that came in.

    Raises:
        FuncregError: when weight is not floating-point or has fewer axes, state does not fit it, steps is
            negative, eps is not above 0, or dim is not an axis of weight.

    >>> weight = torch.diag(torch.tensor([3.0, 1.0]))
    >>> spectral_norm(weight, init_spectral_state(weight, key=random.key(0)))[0]
    tensor([[1.0000, 0.0000],
            [0.0000, 0.3333]])

    Miyato, Kataoka, Koyama and Yoshida, "Spectral normalization for generative adversarial networks",
    ICLR 2018.
    """
    matrix = _matrix(weight, dim)
    _check_state(state, matrix, dim)
    _checks.check_count("steps", steps, 0)
    eps = _checks.check_setting("eps", eps, 0.0, exclusive="low")
    eps = eps if isinstance(eps, Tensor) else min(eps, torch.finfo(matrix.dtype).max)
    sigma, u, v = _power_steps(matrix, state, steps, eps)
    none = (sigma if steps else sigma.abs()) <= eps  # after a step it is a length
    if known_number(none) == 0:  # false
        return weight / sigma, SpectralState(u.to(state.u.dtype), v.to(state.v.dtype))
    scaled = weight / sigma.masked_fill(none, 1.0)
    # Vectors of zeros would never move again.
    u, v = (torch.where(none, old.detach(), new).to(old.dtype) for old, new in zip(state, (u, v), strict=True))
    return scaled, SpectralState(u, v)


@in_own_precision
def _power_steps(
    matrix: Tensor, state: SpectralState, steps: int, eps: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(sigma, u, v) after so many steps; only sigma has a gradient."""
    fixed = matrix.detach()
    u, v = (each.detach().to(matrix.dtype) for each in state)
    for step in range(steps):
        v = _direction(torch.mv(fixed.mT, u), eps) if step else v
        u = _direction(torch.mv(fixed, v), eps)
    # u . W v as (u W) . v: the last step's product with W serves for sigma too, and carries its gradient.
    product = torch.mv(matrix.mT, u)
    v = _direction(product.detach(), eps) if steps else v
    return torch.dot(product, v), u, v


def _direction(product: Tensor, eps: float | Tensor) -> Tensor:
    return over_norm(product, torch.linalg.vector_norm(product).clamp_min(eps))


def _matrix(weight: Tensor, dim: int) -> Tensor:
    """The weight as (outputs, -1)."""
    _checks.check_floating("weight", weight)
    if weight.ndim < 2:
        _checks.fail("weight", _checks.describe(weight), "a tensor of at least 2 dimensions")
    axis = _axis(weight, dim)
    weight = precise(weight)
    return (weight.movedim(axis, 0) if axis else weight).flatten(1)


def _axis(weight: Tensor, dim: int) -> int:
    """An axis of a weight, counted from the front."""
    _checks.check_count("dim", dim, -weight.ndim, weight.ndim - 1)
    return dim % weight.ndim


def _check_state(state: SpectralState, matrix: Tensor, dim: int) -> None:
    if not isinstance(state, SpectralState):
        remedy = "Make one: init_spectral_state(weight, key=key)."
        _checks.fail("state", _checks.describe(state), "a SpectralState", remedy)
    for name, vector, size in zip(("state.u", "state.v"), state, matrix.shape, strict=True):
        _checks.check_floating(name, vector)
        if vector.shape != (size,):
            allowed = f"shape ({size},), a side of the weight as a matrix with dim = {dim}"
            _checks.fail(name, _checks.describe(vector), allowed)
        _checks.check_beside(name, vector, matrix, "weight")
