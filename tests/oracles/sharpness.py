"""`sharpness` against SAM as it is usually written: a stateful loop of two backward passes on an nn.Module."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

import funcreg as fr
from funcreg import optim, sharpness, train, tree
from tests.oracles import Pair, oracle

STEPS = 25
BECAUSE = f"float64; another order of rounding at each of {STEPS} steps, which training magnifies"
KEY = fr.random.key(7)
X = fr.random.normal(fr.random.key(1), (STEPS, 16, 4), dtype=torch.float64)
Y = torch.sin(X @ fr.random.normal(fr.random.key(2), (4, 2), dtype=torch.float64))


class Net(nn.Module):
    """Dropout whose mask is an argument, so that both sides can be given the same."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 8).double(), nn.Linear(8, 2).double()
        for number, leaf in enumerate(self.parameters()):
            leaf.data = fr.random.normal(fr.random.key(20 + number), tuple(leaf.shape), dtype=torch.float64) / 2

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.outer(torch.tanh(self.inner(x)) * mask)


def mask(key: Tensor) -> Tensor:
    return 2.0 * fr.random.bernoulli(key, 0.5, (16, 8)).double()


def loss_fn(params: Any, state: Any, batch: train.Batch, *, key: Tensor, hparams: Any) -> Any:
    output = functional_call(_MODULE, params, (batch.x, mask(key)))
    return ((output - batch.y) ** 2).mean(), (state, {})


_MODULE = Net()


def ours(make: Any, radius: float, adaptive: bool, *, plain: bool) -> Any:
    """The change of the weights, and every step's loss; by plain autograd, or under torch.func."""
    params = {name: leaf.detach().clone() for name, leaf in _MODULE.named_parameters()}
    step = train.make_step(sharpness.sam(loss_fn, radius, adaptive=adaptive), make)
    train_state = train.init(params, {}, make, key=KEY)
    with torch.set_grad_enabled(not plain):
        train_state, metrics = train.unroll(step, train_state, train.Batch(X, Y))
    return tree.map(torch.sub, train_state.params, params), metrics["loss"]


def theirs(make: Callable[..., torch.optim.Optimizer], radius: float, adaptive: bool) -> Any:
    """Climb to w + e, take the gradient there, go back, and step."""
    module = Net()
    begin = {name: leaf.detach().clone() for name, leaf in module.named_parameters()}
    optimizer, key, losses = make(module.parameters()), KEY, []
    for x, y in zip(X, Y, strict=True):
        key, noise = fr.random.split(key)
        optimizer.zero_grad()
        loss = ((module(x, mask(noise)) - y) ** 2).mean()
        loss.backward()
        losses.append(loss.detach())
        with torch.no_grad():
            leaves = list(module.parameters())
            scales = [leaf.abs() if adaptive else torch.ones_like(leaf) for leaf in leaves]
            slopes = [leaf.grad for leaf in leaves if leaf.grad is not None]
            norm = torch.cat([(scale * slope).flatten() for scale, slope in zip(scales, slopes, strict=True)]).norm()
            here = [leaf.clone() for leaf in leaves]
            for leaf, scale, slope in zip(leaves, scales, slopes, strict=True):
                leaf.add_(scale**2 * slope * radius / norm)
        optimizer.zero_grad()
        ((module(x, mask(noise)) - y) ** 2).mean().backward()
        with torch.no_grad():
            for leaf, before in zip(module.parameters(), here, strict=True):
                leaf.copy_(before)
        optimizer.step()
    change = {name: leaf.detach() - begin[name] for name, leaf in module.named_parameters()}
    assert tree.norm(change) > 0.1, "the reference did not move"
    return change, torch.stack(losses)


def _add(adaptive: bool, name: str, make: Any, torchs: Any, radius: float, *, plain: bool) -> None:
    @oracle(
        "sharpness.sam",
        against=f"a stateful {'ASAM' if adaptive else 'SAM'} loop around torch.optim.{name}, "
        f"same dropout{', inside no_grad' if plain else ''}",
        tolerance=1e-12,
        because=BECAUSE,
    )
    def row() -> Pair:
        return ours(make, radius, adaptive, plain=plain), theirs(torchs, radius, adaptive)


for _adaptive, _radius in ((False, 0.3), (True, 1.0)):
    for _plain in (False, True):
        _add(
            _adaptive,
            "SGD",
            optim.sgd(0.2, momentum=0.9),
            lambda leaves: torch.optim.SGD(leaves, lr=0.2, momentum=0.9),
            _radius,
            plain=_plain,
        )
        _add(
            _adaptive,
            "Adam",
            optim.adam(0.02),
            lambda leaves: torch.optim.Adam(leaves, lr=0.02),
            _radius,
            plain=_plain,
        )


@oracle(
    "sharpness.hessian_eigenvalue",
    against="the eigenvalues of torch.func.hessian, by torch.linalg.eigvalsh",
    tolerance=1e-10,
    because="float64; what is left of the other directions after 200 steps",
)
def _() -> Pair:
    leaves = dict(_MODULE.named_parameters())
    vector = torch.cat([leaf.detach().flatten() for leaf in leaves.values()])

    def loss(vector: Tensor) -> Tensor:
        pieces = vector.split([leaf.numel() for leaf in leaves.values()])
        own = {name: each.reshape(leaf.shape) for each, (name, leaf) in zip(pieces, leaves.items(), strict=True)}
        return loss_fn(own, {}, train.Batch(X[0], Y[0]), key=KEY, hparams=None)[0]

    def top(function: Callable[[Tensor], Tensor]) -> Pair:
        values = torch.linalg.eigvalsh(torch.func.hessian(function)(vector))
        return sharpness.hessian_eigenvalue(function, vector, key=KEY, steps=200), values[values.abs().argmax()]

    ours, theirs = zip(top(loss), top(lambda vector: -loss(vector)), strict=True)
    return list(ours), list(theirs)
