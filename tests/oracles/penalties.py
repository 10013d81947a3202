"""`penalties` against torch, scikit-learn and closed forms."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import ElasticNet, Lasso, Ridge
from torch import Tensor, nn
from torch.func import functional_call, grad

import funcreg as fr
from funcreg import penalties
from tests.oracles import Pair, oracle

KEY = fr.random.key(0)


def _drawn(seed: int, *shape: int) -> Tensor:
    return fr.random.normal(fr.random.key(seed), shape, dtype=torch.float64)


PARAMS = {"conv.weight": _drawn(1, 4, 3, 2, 2), "head.weight": _drawn(2, 5, 3), "head.bias": _drawn(3, 5)}
X, Y = _drawn(4, 40, 6), _drawn(5, 40)
IMAGES = _drawn(6, 7, 2, 3, 3)


class _Critic(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(2, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(16, 8), nn.Softplus(), nn.Linear(8, outputs)]
        self.body = nn.Sequential(*layers).double()
        for number, parameter in enumerate(self.parameters()):
            parameter.data = _drawn(10 + number, *parameter.shape) / 2

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def _matrices() -> list[np.ndarray]:
    return [leaf.flatten(1).numpy() for leaf in PARAMS.values() if leaf.ndim > 1]


def _slopes(penalty: Tensor, module: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(penalty, list(module.parameters()), materialize_grads=True, allow_unused=True))


# Weights


@oracle("penalties.l1", against="torch.nn.functional.l1_loss, to 0", tolerance=1e-13, because="float64; another order")
def l1() -> Pair:
    theirs = torch.stack([F.l1_loss(leaf, torch.zeros_like(leaf), reduction="sum") for leaf in PARAMS.values()]).sum()
    return [penalties.l1(PARAMS, each) for each in (0.3, 2.0)], [0.3 * theirs, 2.0 * theirs]


@oracle("penalties.l1", against="scikit-learn's Lasso: its optimum", tolerance=1e-9, because="where the solver stops")
def l1_optimum() -> Pair:
    """At the optimum of mse / 2 + strength * |w| the two slopes cancel, on the features that are used."""
    solved = torch.from_numpy(Lasso(alpha=0.05, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(X, Y).coef_)
    used = solved != 0
    assert 0 < int(used.sum()) < 6
    data = X.T @ (X @ solved - Y) / len(Y)
    return grad(penalties.l1)(solved, 0.05)[used], -data[used]


@oracle("penalties.l2", against="torch.nn.functional.mse_loss, to 0", tolerance=1e-13, because="float64; another order")
def l2() -> Pair:
    theirs = torch.stack([F.mse_loss(leaf, torch.zeros_like(leaf), reduction="sum") for leaf in PARAMS.values()]).sum()
    return [penalties.l2(PARAMS, each) for each in (0.3, 2.0)], [0.3 * theirs, 2.0 * theirs]


@oracle("penalties.l2", against="scikit-learn's Ridge: its optimum", tolerance=1e-11, because="a solver's rounding")
def l2_optimum() -> Pair:
    solved = torch.from_numpy(Ridge(alpha=3.0, fit_intercept=False, solver="cholesky").fit(X, Y).coef_)
    return grad(penalties.l2)(solved, 3.0), -2 * X.T @ (X @ solved - Y)


@oracle(
    "penalties.elastic_net",
    against="scikit-learn's ElasticNet: its optimum",
    tolerance=1e-9,
    because="where the solver stops",
)
def elastic_net() -> Pair:
    """scikit-learn's second strength has a 1/2."""
    solver = ElasticNet(alpha=0.1, l1_ratio=0.4, fit_intercept=False, tol=1e-14, max_iter=100_000)
    solved = torch.from_numpy(solver.fit(X, Y).coef_)
    used = solved != 0
    assert int(used.sum()) > 1
    data = X.T @ (X @ solved - Y) / len(Y)
    return grad(penalties.elastic_net)(solved, 0.1 * 0.4, 0.1 * 0.6 / 2)[used], -data[used]


@oracle("penalties.group_lasso", against="numpy.linalg.norm, group by group", tolerance=1e-13, because="another order")
def group_lasso() -> Pair:
    def by_hand(dim: int) -> float:
        groups = [
            np.take(leaf.numpy(), each, axis=dim if leaf.ndim > 1 else 0)
            for leaf in PARAMS.values()
            for each in range(leaf.shape[dim if leaf.ndim > 1 else 0])
        ]
        return float(sum(math.sqrt(group.size) * np.linalg.norm(group.reshape(-1)) for group in groups))

    ours = [penalties.group_lasso(PARAMS, 0.3, dim=dim) for dim in (0, 1)]
    return ours, [0.3 * torch.tensor(by_hand(dim), dtype=torch.float64) for dim in (0, 1)]


@oracle("penalties.l2_distance", against="torch.nn.functional.mse_loss", tolerance=1e-13, because="another order")
def l2_distance() -> Pair:
    anchor = fr.tree.map(lambda leaf: leaf.flip(0), PARAMS)
    theirs = [0.3 * F.mse_loss(leaf, anchor[name], reduction="sum") for name, leaf in PARAMS.items()]
    alone = {name: penalties.l2_distance(PARAMS, anchor, 0.3, mask=lambda n, _, m=name: n == m) for name in PARAMS}
    return (alone, penalties.l2_distance(PARAMS, anchor, 0.3)), (dict(zip(PARAMS, theirs, strict=True)), sum(theirs))


# Matrices


@oracle(
    "penalties.orthogonality", against="numpy.linalg.svd: (sigma**2 - 1)**2", tolerance=1e-10, because="powers of sigma"
)
def orthogonality() -> Pair:
    each = [torch.from_numpy(np.linalg.svd(w, compute_uv=False)) for w in _matrices()]
    theirs = torch.stack([((values**2 - 1) ** 2).sum() for values in each]).sum()
    return [penalties.orthogonality(PARAMS, each) for each in (0.3, 2.0)], [0.3 * theirs, 2.0 * theirs]


@oracle("penalties.spectral", against="torch.linalg.matrix_norm(ord=2)**2", tolerance=1e-12, because="no SVD here")
def spectral() -> Pair:
    theirs = sum(torch.linalg.matrix_norm(torch.from_numpy(w), ord=2) ** 2 for w in _matrices())
    return [penalties.spectral(PARAMS, each) for each in (0.3, 2.0)], [0.3 * theirs, 2.0 * theirs]


@oracle("penalties.spectral", against="numpy.linalg.svd: the gradient 2 sigma u v^T", tolerance=1e-12, because="no SVD")
def spectral_slope() -> Pair:
    def by_hand(leaf: Tensor) -> Tensor:
        left, values, right = np.linalg.svd(leaf.flatten(1).numpy(), full_matrices=False)
        return torch.from_numpy(2 * values[0] * np.outer(left[:, 0], right[0])).reshape(leaf.shape)

    kernels = {name: leaf for name, leaf in PARAMS.items() if leaf.ndim > 1}
    return grad(penalties.spectral)(kernels, 1.0), fr.tree.map(by_hand, kernels)


# Functions


@oracle(
    "penalties.jacobian",
    against="torch.autograd.functional.jacobian, squared; and its slope in the weights",
    tolerance=1e-12,
    because="float64; sums in another order",
)
def jacobian() -> Pair:
    module = _Critic(3)
    rows = torch.stack([
        torch.autograd.functional.jacobian(lambda x: module(x[None])[0], image, create_graph=True) for image in IMAGES
    ])  # fmt: skip
    theirs = 0.3 * rows.square().flatten(1).sum(dim=1).mean()
    ours = penalties.jacobian(module, IMAGES, 0.3, key=KEY, projections=3)
    return (ours, _slopes(ours, module)), (theirs, _slopes(theirs, module))


@oracle(
    "penalties.jacobian",
    against="linear functions: the sum of W**2",
    tolerance=1e-12,
    because="float64; sums in another order",
)
def jacobian_of_a_linear_function() -> Pair:
    """Where W W^T = c I every orthonormal draw is exact, and gives C * c; with a projection a class, any W is."""
    weight = torch.linalg.qr(_drawn(30, 9, 4)).Q.T * math.sqrt(2.5)
    any_weight = _drawn(31, 4, 9)
    inputs, keys = _drawn(32, 5, 9), fr.random.split(KEY, 3)
    ours = [
        penalties.jacobian(lambda x: x @ weight.T, inputs, 0.3, key=key, projections=count)
        for count, key in zip((1, 2, 3), keys, strict=True)
    ]
    exact = penalties.jacobian(lambda x: x @ any_weight.T, inputs, 0.3, key=KEY, projections=9)
    theirs = 0.3 * any_weight.square().sum()
    return (ours, exact), ([torch.tensor(0.3 * 4 * 2.5, dtype=torch.float64)] * 3, theirs)


def _by_autograd(module: nn.Module, x: Tensor, strength: float, target: float) -> Tensor:
    """WGAN-GP as its authors write it."""
    x = x.clone().requires_grad_()
    scores = module(x)
    (slopes,) = torch.autograd.grad(scores, x, grad_outputs=torch.ones_like(scores), create_graph=True)
    return strength * ((slopes.reshape(len(x), -1).norm(2, dim=1) - target) ** 2).mean()


@oracle(
    "penalties.gradient_penalty",
    against="WGAN-GP by torch.autograd.grad(create_graph=True), and its slope in the critic's weights",
    tolerance=1e-12,
    because="float64; sums in another order",
)
def wgan_gp() -> Pair:
    module = _Critic(1)
    ours, theirs = penalties.gradient_penalty(module, IMAGES, 10.0), _by_autograd(module, IMAGES, 10.0, 1.0)
    return (ours, _slopes(ours, module)), (theirs, _slopes(theirs, module))


@oracle(
    "penalties.gradient_penalty",
    against="R1 by torch.autograd.grad(create_graph=True), and its slope in the critic's weights",
    tolerance=1e-12,
    because="float64; sums in another order",
)
def r1() -> Pair:
    """By torch.func.grad of a functional_call, for once: what a training step does."""
    module = _Critic(1)
    params = {name: leaf.detach() for name, leaf in module.named_parameters()}

    def penalty(params: dict[str, Tensor]) -> Tensor:
        def critic(x: Tensor) -> Tensor:
            return functional_call(module, params, (x,)).squeeze(1)

        return penalties.gradient_penalty(critic, IMAGES, 5.0, target=0.0)

    theirs = _by_autograd(module, IMAGES, 5.0, 0.0)
    return (penalty(params), list(grad(penalty)(params).values())), (theirs, _slopes(theirs, module))


@oracle(
    "penalties.interpolate", against="torch.lerp, with the weights it drew", tolerance=1e-15, because="one rounding"
)
def interpolate() -> Pair:
    real, fake = _drawn(33, 50, 3, 2), _drawn(34, 50, 3, 2)
    ours = penalties.interpolate(real, fake, key=KEY)
    weights = penalties.interpolate(torch.ones(50, 1, 1), torch.zeros(50, 1, 1), key=KEY)
    return ours, torch.lerp(fake, real, weights.double())


@oracle("penalties.confidence", against="torch.distributions.Categorical.entropy", tolerance=1e-14, because="float64")
def confidence() -> Pair:
    logits = 3 * _drawn(35, 20, 5)

    def theirs(logits: Tensor) -> Tensor:
        return -0.3 * torch.distributions.Categorical(logits=logits).entropy().mean()

    tracked = logits.clone().requires_grad_()
    slope = torch.autograd.grad(theirs(tracked), tracked)
    return (penalties.confidence(logits, 0.3), grad(penalties.confidence)(logits, 0.3)), (theirs(logits), slope[0])
