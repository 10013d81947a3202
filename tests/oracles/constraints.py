"""`constraints` against torch, scikit-learn, solvers of the projection itself, and singular value decompositions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize, nnls
from sklearn.preprocessing import normalize
from torch import Tensor
from torch.func import grad, vjp

import funcreg as fr
from funcreg import constraints
from tests.oracles import Pair, oracle


def _drawn(seed: int, *shape: int) -> Tensor:
    return fr.random.normal(fr.random.key(seed), shape, dtype=torch.float64)


# Rows of very different norms, so that some are inside.
PARAMS = {
    "conv.weight": _drawn(1, 4, 3, 2, 2) * torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=torch.float64).reshape(4, 1, 1, 1),
    "head.weight": _drawn(2, 5, 3) * torch.tensor([[0.1], [0.3], [1.0], [2.0], [9.0]], dtype=torch.float64),
    "head.bias": 9 * _drawn(3, 5),
}


def _of_matrices(function: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """A function of every leaf of two axes or more; the bias as it is."""
    return {name: function(leaf) if leaf.ndim > 1 else leaf for name, leaf in PARAMS.items()}


@oracle("constraints.max_norm", against="torch.renorm", tolerance=3e-7, because="renorm divides by the norm + 1e-7")
def max_norm() -> Pair:
    settings = [(maximum, dim) for maximum in (0.0, 1.0, 2.5) for dim in (0, 1)]
    ours = [constraints.max_norm(PARAMS, maximum, dim=dim) for maximum, dim in settings]
    return ours, [_of_matrices(lambda leaf, m=m, dim=dim: torch.renorm(leaf, 2, dim, m)) for m, dim in settings]


@oracle(
    "constraints.max_norm",
    against="scipy.optimize.minimize: the nearest rows of norm at most 1",
    tolerance=1e-6,
    because="where the solver stops",
)
def max_norm_is_nearest() -> Pair:
    def nearest(row: np.ndarray) -> np.ndarray:
        ball = {"type": "ineq", "fun": lambda w: 1 - w @ w, "jac": lambda w: -2 * w}

        def distance(w: np.ndarray) -> tuple[Any, np.ndarray]:
            return (w - row) @ (w - row), 2 * (w - row)

        return minimize(distance, 0.1 * row, jac=True, constraints=ball, method="SLSQP", options={"ftol": 1e-15}).x

    weight = PARAMS["head.weight"]
    return constraints.max_norm(weight, 1.0), torch.from_numpy(np.stack([nearest(row) for row in weight.numpy()]))


@oracle("constraints.unit_norm", against="normalize in float64, of any scale", tolerance=1e-6, because="a float32")
def unit_norm_of_any_scale() -> Pair:
    weight = PARAMS["head.weight"]
    ours = [constraints.unit_norm((size * weight).float()) for size in (1e-35, 1e-30, 1e30, 1e37)]
    return ours, 4 * [torch.from_numpy(normalize(weight.numpy())).float()]


@oracle("constraints.unit_norm", against="sklearn.preprocessing.normalize", tolerance=1e-15, because="one division")
def unit_norm() -> Pair:
    weight = torch.cat([PARAMS["head.weight"], torch.zeros(1, 3)])
    ours = constraints.unit_norm({"rows": weight}), constraints.unit_norm({"columns": weight}, dim=1)
    each = ({"rows": 1}, {"columns": 0})
    return ours, [
        {name: torch.from_numpy(normalize(weight.numpy(), axis=a)) for name, a in one.items()} for one in each
    ]


@oracle(
    "constraints.non_negative",
    against="scipy.optimize.nnls: the nearest non-negative vector",
    tolerance=1e-14,
    because="the solver's rounding",
)
def non_negative() -> Pair:
    def nearest(leaf: Tensor) -> Tensor:
        return torch.from_numpy(nnls(np.eye(leaf.numel()), leaf.flatten().numpy())[0]).reshape(leaf.shape)

    return constraints.non_negative(PARAMS), fr.tree.map(nearest, PARAMS)


def _clipped(leaf: Tensor, radius: float) -> Tensor:
    u, s, vh = np.linalg.svd(leaf.flatten(1).numpy(), full_matrices=False)
    return torch.from_numpy((u * s.clip(max=radius)) @ vh).reshape(leaf.shape)


@oracle(
    "constraints.spectral_ball",
    against="numpy.linalg.svd: U min(S, radius) V^T",
    tolerance=1e-13,
    because="float64, in another order",
)
def spectral_ball() -> Pair:
    radii = (0.0, 0.5, 1.0, 2.5)
    ours = [constraints.spectral_ball(PARAMS, radius) for radius in radii]
    return ours, [_of_matrices(lambda leaf, r=r: _clipped(leaf, r)) for r in radii]


@oracle(
    "constraints.spectral_ball",
    against="numpy.linalg.svd in float64, of weights far outside: nothing is left over from what is cut off",
    tolerance=1e-5,
    because="a float32",
)
def spectral_ball_from_far() -> Pair:
    weights = [size * PARAMS["head.weight"].float() for size in (1e4, 1e8, 1e15)]
    return [constraints.spectral_ball(w) for w in weights], [_clipped(w.double(), 1.0).float() for w in weights]


@oracle(
    "constraints.spectral_ball",
    against="scipy.optimize.minimize over a symmetric 2 x 2 weight: the nearest of norm at most 1",
    tolerance=1e-6,
    because="where the solver stops",
)
def spectral_ball_is_nearest() -> Pair:
    """Where the eigenvalues are the singular values up to sign: both between -1 and 1."""
    weight = np.array([[1.5, 0.8], [0.8, -0.9]])

    def matrix(w: np.ndarray) -> np.ndarray:
        return np.array([[w[0], w[1]], [w[1], w[2]]])

    ball = {"type": "ineq", "fun": lambda w: 1 - np.abs(np.linalg.eigvalsh(matrix(w)))}
    start, options = np.array([0.5, 0.1, -0.3]), {"ftol": 1e-16, "maxiter": 500}
    found = minimize(lambda w: ((matrix(w) - weight) ** 2).sum(), start, constraints=ball, options=options)
    return constraints.spectral_ball(torch.from_numpy(weight)), torch.from_numpy(matrix(found.x))


@oracle(
    "constraints.spectral_ball",
    against="torch.linalg.svd's derivative, where singular values differ; in the radius too",
    tolerance=1e-12,
    because="another formula",
)
def spectral_ball_slopes() -> Pair:
    def theirs(weight: Tensor, radius: Tensor) -> Tensor:
        u, s, vh = torch.linalg.svd(weight.flatten(1), full_matrices=False)
        return ((u * s.minimum(radius)) @ vh).reshape(weight.shape)

    def slopes(function: Callable[..., Tensor], weight: Tensor) -> object:
        return vjp(function, weight, torch.tensor(1.0, dtype=torch.float64))[1](_drawn(9, *weight.shape))

    weights = [PARAMS["conv.weight"], PARAMS["head.weight"], PARAMS["head.weight"].T]
    return [slopes(constraints.spectral_ball, w) for w in weights], [slopes(theirs, w) for w in weights]


@oracle(
    "constraints.spectral_ball",
    against="central differences, where singular values are equal or 0",
    tolerance=1e-7,
    because="differences of 1e-6",
)
def spectral_ball_slopes_at_equal_values() -> Pair:
    """Where the derivative of an SVD is infinite, and that of the projection is not."""
    q = torch.linalg.qr(_drawn(4, 5, 3)).Q
    values = torch.tensor([[2.0, 2.0, 2.0], [0.4, 0.4, 0.4], [2.0, 2.0, 0.4], [2.0, 0.4, 0.4], [2.0, 0.0, 0.0]])
    weights = [q * each @ torch.linalg.qr(_drawn(5, 3, 3)).Q for each in values.double()]
    weights += [torch.zeros(3, 3, dtype=torch.float64), *(w.T for w in weights)]
    ours, theirs = [], []
    for weight in weights:
        direction, away = _drawn(6, *weight.shape), 1e-6 * _drawn(7, *weight.shape)

        def along(weight: Tensor, direction: Tensor = direction) -> Tensor:
            return (constraints.spectral_ball(weight) * direction).sum()

        ours.append((grad(along)(weight) * away).sum() / 1e-6)
        theirs.append((along(weight + away) - along(weight - away)) / 2e-6)
    return ours, theirs
