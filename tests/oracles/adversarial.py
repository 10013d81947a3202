"""`adversarial` against closed forms of linear models, loops by hand in plain autograd, and a paper's definition."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import funcreg as fr
from funcreg import adversarial
from tests.oracles import Pair, oracle

KEY = fr.random.key(0)
X = fr.random.uniform(fr.random.key(1), (6, 2, 4, 4), dtype=torch.float64)
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2])


def _module() -> nn.Module:
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3)).double()
    for number, parameter in enumerate(module.parameters()):
        parameter.data = fr.random.normal(fr.random.key(2 + number), tuple(parameter.shape), dtype=torch.float64)
    return module


MODULE = _module()


def _losses(x: Tensor) -> Tensor:
    return F.cross_entropy(MODULE(x), TARGETS, reduction="none")


def _slope(x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(_losses(x).mean(), x)[0]


@oracle("adversarial.fgsm", against="sign(torch.autograd.grad), of a module", tolerance=0, because="the same sums")
def fgsm() -> Pair:
    step = 0.1 * _slope(X).sign()
    ours = [adversarial.fgsm(_losses, X, 0.1, targeted=targeted) for targeted in (False, True)]
    free = adversarial.fgsm(lambda x: _losses(x).mean(), X, 0.1, low=None, high=None)
    return (ours, free), ([(X + step).clamp(0, 1), (X - step).clamp(0, 1)], X + step)


@oracle(
    "adversarial.fgsm",
    against="a linear model: its margin falls by epsilon * sum abs(w)",
    tolerance=1e-14,
    because="float64; sums in another order",
)
def fgsm_of_a_linear_model() -> Pair:
    weight, x = fr.random.normal(KEY, (24,), dtype=torch.float64), X.reshape(8, 24)
    moved = adversarial.fgsm(lambda x: F.softplus(-(x @ weight)), x, 0.05, low=None, high=None)
    return moved @ weight, x @ weight - 0.05 * weight.abs().sum()


def _by_hand(start: Tensor, step: Callable[[Tensor], Tensor], project: Callable[[Tensor], Tensor]) -> Tensor:
    x = start
    for _ in range(5):
        x = (X + project(x + step(_slope(x)) - X)).clamp(0, 1)
    return x


def _start(norm: str, epsilon: float) -> Tensor:
    return adversarial.pgd(_losses, X, epsilon, key=KEY, steps=1, step_size=0.0, norm=norm)


@oracle("adversarial.pgd", against="a loop in plain autograd, linf", tolerance=1e-15, because="one rounding")
def linf() -> Pair:
    ours = adversarial.pgd(_losses, X, 0.1, key=KEY, steps=5, step_size=0.03)
    return ours, _by_hand(_start("linf", 0.1), lambda g: 0.03 * g.sign(), lambda d: d.clamp(-0.1, 0.1))


@oracle(
    "adversarial.pgd",
    against="a loop in plain autograd, l2, with F.normalize and torch.renorm",
    tolerance=1e-6,
    because="torch.renorm divides by norm + 1e-7",
)
def l2() -> Pair:
    ours = adversarial.pgd(_losses, X, 0.5, key=KEY, steps=5, norm="l2")
    theirs = _by_hand(
        _start("l2", 0.5),
        lambda g: 2.5 * 0.5 / 5 * F.normalize(g.flatten(1)).reshape(g.shape),
        lambda d: torch.renorm(d.flatten(1), 2, 0, 0.5).reshape(d.shape),
    )
    return ours, theirs


@oracle(
    "adversarial.pgd",
    against="a linear model: the furthest point of the ball, epsilon * w / norm(w)",
    tolerance=1e-13,
    because="what is left after 50 steps of epsilon, each of which halves the angle",
)
def l2_of_a_linear_model() -> Pair:
    weight, x = fr.random.normal(KEY, (24,), dtype=torch.float64), X.reshape(8, 24)
    ours = adversarial.pgd(
        lambda x: x @ weight, x, 0.5, key=KEY, steps=50, step_size=0.5, norm="l2", low=None, high=None
    )
    return ours, x + 0.5 * weight / weight.norm()


START = F.normalize(fr.random.normal(KEY, tuple(X.shape), dtype=torch.float64).flatten(1)).reshape(X.shape)


def _divergences(x: Tensor, moved: Tensor) -> Tensor:
    """Of each example's prediction from what it was."""
    p, q = (F.log_softmax(MODULE(each), dim=-1) for each in (x.detach(), moved))
    return F.kl_div(q, p.detach(), reduction="none", log_target=True).sum(dim=1)


def _smoothness(direction: Tensor) -> list[Tensor]:
    """Each example's divergence, and the gradient of their mean by the weights: what moves is the second pass."""
    each = _divergences(X, X + 0.7 * direction)
    return [each.detach(), *torch.autograd.grad(each.mean(), list(MODULE.parameters()))]


def _ours(steps: int) -> list[Tensor]:
    weights = {name: value.detach() for name, value in MODULE.named_parameters()}

    def each(weights: dict[str, Tensor]) -> Tensor:
        def logits(x: Tensor) -> Tensor:
            return torch.func.functional_call(MODULE, weights, (x,))

        return adversarial.vat(logits, X, 0.7, key=KEY, steps=steps, reduction="none")

    slopes = torch.func.grad(lambda weights: each(weights).mean())(weights)
    return [each(weights), *(slopes[name] for name in weights)]


@oracle(
    "adversarial.vat",
    against="its paper's finite differences of the divergence's gradient, xi = 1e-5",
    tolerance=1e-4,
    because="a difference over 1e-5",
)
def vat() -> Pair:
    ours, theirs = [], []
    for steps in (1, 3):
        direction = START
        for _ in range(steps):
            moved = (X + 1e-5 * direction).requires_grad_()
            (slope,) = torch.autograd.grad(_divergences(X, moved).sum(), moved)
            direction = F.normalize(slope.flatten(1), eps=1e-30).reshape(X.shape)
        ours += _ours(steps)
        theirs += _smoothness(direction)
    return ours, theirs


@oracle(
    "adversarial.vat",
    against="the first eigenvectors of the divergence's Hessians, by torch.func.hessian and eigh",
    tolerance=1e-9,
    because="float64; what is left after 200 steps",
)
def vat_in_the_limit() -> Pair:
    def of_one(x: Tensor, moved: Tensor) -> Tensor:
        return _divergences(x[None], moved[None])[0]

    size = X[0].numel()
    curvatures = torch.stack([torch.func.hessian(of_one, argnums=1)(x, x).reshape(size, size) for x in X])
    first = torch.linalg.eigh(curvatures.detach()).eigenvectors[:, :, -1]
    side = (first * START.flatten(1)).sum(dim=1, keepdim=True).sign()
    return _ours(200), _smoothness((side * first).reshape(X.shape))
