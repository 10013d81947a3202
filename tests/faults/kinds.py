"""Transforms, optimizers, losses, penalties, augmentations, modules, runs."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import funcreg as fr
from funcreg.transforms import Transform
from tests.faults import KEY, PARAMS, Fault, X

IMAGES = fr.random.uniform(fr.random.key(1), (4, 3, 6, 5))
CLASSES = torch.tensor([2, 0])
LR = {"lr": (0.0, 0.1, 0.2)}


def _of(check: Callable[..., None], *args: Any, **how: Any) -> Callable[[], None]:
    return functools.partial(check, *args, **how)


def _stateless(rule: Callable[[Tensor, Tensor], Tensor]) -> Transform:
    return Transform(lambda params: (), lambda g, state, p: (fr.tree.map(rule, g, p), state))


def _momentum(new: Callable[[Tensor, Tensor], Tensor]) -> Transform:
    def update(grads: Any, state: Any, params: Any) -> Any:
        state = fr.tree.map(new, state, grads)
        return fr.tree.map(lambda leaf: -0.1 * leaf, state), state

    return Transform(fr.tree.zeros_like, update)


def _widening() -> Transform:
    return Transform(fr.tree.zeros_like, lambda grads, state, params: (grads, fr.tree.cast(state, torch.float64)))


def _growing() -> Transform:
    return Transform(lambda params: (), lambda grads, state, params: (grads, (*state, torch.zeros(()))))


def _counting(zero: Any) -> Transform:
    return Transform(lambda params: zero, lambda grads, state, params: (grads, state + 1))


def _remembering() -> Transform:
    steps = [0]

    def update(grads: Any, state: Any, params: Any) -> Any:
        steps[0] += 1
        return fr.tree.map(lambda g: g / steps[0], grads), state

    return Transform(lambda params: (), update)


def _odd_steps() -> Transform:
    def update(grads: Any, state: Tensor, params: Any) -> Any:
        return fr.tree.map(lambda g: -0.1 * g if int(state) % 2 else -0.2 * g, grads), state + 1

    return Transform(lambda params: torch.zeros((), dtype=torch.int64), update)


def _same_noise(*, key: Tensor) -> Transform:
    return _stateless(lambda g, p: g + fr.random.normal(key, tuple(g.shape)).to(g.dtype))


def _branching(lr: Any) -> Transform:
    return _stateless(lambda g, p: -lr * g if lr > 0 else g)


transform, optimizer = (
    lambda made, **how: _of(fr.testing.check_transform, made, PARAMS, **how),
    lambda made, **how: _of(fr.testing.check_optimizer, made, PARAMS, **how),
)
TRANSFORMS: list[Fault] = [
    ("updates", "a column for a matrix", transform(_stateless(lambda g, p: g.sum()))),
    ("updates", "only some of them", transform(Transform(lambda p: (), lambda g, s, p: ({**g, "bias": ()}, s)))),
    ("dtype", "updates in float64", transform(_stateless(lambda g, p: g.double()))),
    ("carried state", "grows with every step", transform(_growing())),
    ("carried state", "a Python number", transform(_counting(0))),
    ("carried state", "becomes float64", transform(_widening())),
    ("arguments of update", "the state in place", transform(_momentum(lambda m, g: m.mul_(0.9).add_(g)))),
    ("arguments", "the gradients in place", transform(_stateless(lambda g, p: g.mul_(-0.1)))),
    ("arguments", "the parameters in place", transform(_stateless(lambda g, p: p.sub_(0.1 * g) * 0))),
    ("vmap of update", "a Python if on the state", transform(_odd_steps())),
    ("key", "the same noise at each step", transform(_same_noise, key=KEY)),
    ("zero gradients", "0 / 0", transform(_stateless(lambda g, p: g / g.abs().max()))),
    ("state", "counts steps by itself", transform(_remembering())),
    ("settings", "a Python if", transform(_branching, batched=LR)),
    ("global state", "noise without a key", transform(_stateless(lambda g, p: g + torch.randn(g.shape).to(g.dtype)))),
    ("descends", "the wrong sign", optimizer(_stateless(lambda g, p: 0.1 * g))),
    ("descends", "no sign at all", optimizer(fr.transforms.scale_by_adam())),
    ("descends", "to and fro", optimizer(_stateless(lambda g, p: -30 * g.sign()))),
    ("descends", "steps that are too long", optimizer(_stateless(lambda g, p: -2.5 * g))),
    ("descends", "updates that are new parameters", optimizer(_stateless(lambda g, p: p - 0.1 * g))),
]  # fmt: skip


def _smoothed(p: Tensor, t: Tensor, smoothing: Any) -> Tensor:
    return (p - t * (1 - smoothing) if smoothing > 0 else p - t).square().mean()


CLOSE_BY, TARGETS = 0.5 * X.flip(0), torch.tensor([[0.3], [0.9]])
loss = lambda function, predictions=X, targets=CLOSE_BY, **how: _of(  # noqa: E731
    fr.testing.check_loss, function, predictions, targets, **how
)
LOSSES: list[Fault] = [
    ("scalar", "a number for each sample", loss(lambda p, t: (p - t).square().mean(1))),
    ("pairs", "a column against a row", loss(lambda p, t: (p - t.squeeze(1)).square().mean(), X[:, :1], TARGETS)),
    ("pairs", "the targets are not used", loss(lambda p, t: p.square().mean())),
    ("pairs", "by the place in the batch",
     loss(lambda p, t: ((p - t).square().mean(1) * torch.tensor([1.0, 2.0]).to(p.dtype)).sum())),
    ("slope", "detached", loss(lambda p, t: (p.detach() - t).square().mean())),
    ("slope", "rounded", loss(lambda p, t: (p.round() - t).square().mean())),
    ("large predictions", "the logarithm of a softmax",
     loss(lambda p, t: -p.softmax(1).log().gather(1, t[:, None]).mean(), X, CLASSES)),
    ("other arguments", "a mask is forgotten",
     functools.partial(fr.testing.check_loss, lambda p, t, mask: (p - t).square().mean(), X, CLOSE_BY, X > 0)),
    ("other arguments", "weights are forgotten", loss(lambda p, t, *, w: (p - t).square().mean(), w=X[:, 0])),
    ("large predictions", "a root where the class is certain",
     loss(lambda p, t: -((1 - p.softmax(1)).sqrt() * p.log_softmax(1)).gather(1, t[:, None]).mean(), X, CLASSES)),
    ("large predictions", "the logarithm of a sum",
     loss(lambda p, t: (p.exp().sum(1).log() - p.gather(1, t[:, None])[:, 0]).mean(), X, CLASSES)),
    ("large predictions", "the logarithm of a probability",
     loss(lambda p, t: -(t * p.log() + (1 - t) * (1 - p).log()).mean(), X.sigmoid(), X.flip(0).sigmoid())),
    ("arguments", "targets in place", loss(lambda p, t: (p - t.clamp_(0)).square().mean())),
    ("results", "a Python number", loss(lambda p, t: (p - t).square().mean().item())),
    ("settings", "a Python if",
     loss(_smoothed, batched={"smoothing": (0.0, 0.1, 0.5)})),
]  # fmt: skip

penalty = lambda function, params=PARAMS, **how: _of(fr.testing.check_penalty, function, params, **how)  # noqa: E731


def _squares(params: Any) -> Tensor:
    return torch.stack([leaf.square().sum() for leaf in params.values()]).sum()


PENALTIES: list[Fault] = [
    ("scalar", "one for each leaf",
     penalty(lambda params, strength: torch.stack([strength * leaf.square().sum() for leaf in params.values()]))),
    ("bound", "the wrong sign", penalty(lambda params, strength: -strength * _squares(params))),
    ("strength", "squared", penalty(lambda params, strength: strength**2 * _squares(params))),
    ("strength", "an offset", penalty(lambda params, strength: strength * _squares(params) + 1)),
    ("settings", "a strength of no effect", penalty(lambda params, strength: _squares(params))),
    ("slope", "detached",
     penalty(lambda params, strength: strength * _squares({name: leaf.detach() for name, leaf in params.items()}))),
    ("at zero", "the root of a sum", penalty(lambda params, strength: strength * _squares(params).sqrt())),
    ("at zero", "a direction",
     penalty(lambda params, strength: strength * (params["weight"] / params["weight"].square().sum().sqrt()).sum())),
    ("settings", "float()", penalty(lambda params, strength: float(strength) * _squares(params))),
    ("settings", "a Python if",
     penalty(lambda params, strength: strength * _squares(params) if strength else 0 * _squares(params))),
    ("arguments", "in place", penalty(lambda params, strength: strength * params["weight"].abs_().sum())),
    ("dtype", "in float64", penalty(lambda params, strength: strength * _squares(params).double())),
]  # fmt: skip

augmentation = lambda function, **how: _of(fr.testing.check_augmentation, function, IMAGES, **how)  # noqa: E731


def _flipped_together(images: Tensor, *, key: Tensor) -> Tensor:
    return torch.where(fr.random.bernoulli(key, 0.5), images.flip(-1), images)


def _own(images: Tensor, key: Tensor, *shape: int) -> Tensor:
    return fr.random.uniform(key, (len(images), *shape))


AUGMENTATIONS: list[Fault] = [
    ("own draws", "one for all", augmentation(_flipped_together, key=KEY)),
    ("own draws", "of four images only",
     augmentation(lambda images, *, key: images * _own(images[:4], key, 3, 1, 1).to(images.dtype), key=KEY)),
    ("own images", "the brightness of the batch",
     augmentation(lambda images: (images - images.mean() + 0.5).clamp(0, 1))),
    ("range", "noise without a bound",
     augmentation(lambda images, *, key: images + _own(images, key, 3, 6, 5).to(images.dtype), key=KEY)),
    ("range", "normalised", augmentation(lambda images: (images - 0.5) / 0.5)),
    ("shape", "one image for all", augmentation(lambda images: images.mean(0, keepdim=True))),
    ("shape", "channels last", augmentation(lambda images: images.movedim(1, -1))),
    ("uint8", "becomes a float", augmentation(lambda images: images * 0.5, uint8=True)),
    ("uint8", "clipped at 1", augmentation(lambda images: images.clamp(0, 1), uint8=True)),
    ("uint8", "refused", augmentation(lambda images: torch.lerp(images, torch.zeros_like(images), 0.5), uint8=True)),
    ("arguments", "in place", augmentation(lambda images: images.mul_(0.5).to(images.dtype))),
    ("global state", "torch.rand",
     augmentation(lambda images: torch.where(torch.rand(4, 1, 1, 1) < 0.5, images.flip(-1), images))),
    ("key", "ignored", augmentation(lambda images, *, key: images.flip(-1), key=KEY)),
]  # fmt: skip


class _Clipped(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        self.weight.data.clamp_(-0.1, 0.1)
        return super().forward(input)


class _Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.get_buffer("calls").add_(1)
        return x


class _Grows(nn.Module):
    """An attribute that is no buffer."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


class _Always(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5)


class _Numpy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(np.random.rand())  # noqa: NPY002


class _Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class _Root(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.square().sum().sqrt()


class _Single(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float() * 2


module = lambda made: _of(fr.testing.check_module, made, X)  # noqa: E731
MODULES: list[Fault] = [
    ("pure", "a weight is clipped", module(nn.Sequential(nn.ReLU(), _Clipped(3, 3)))),
    ("evaluation", "a buffer counts", module(nn.Sequential(nn.Linear(3, 3), _Counts()))),
    ("evaluation", "noise that has no off", module(_Always())),
    ("pure", "an attribute counts", module(_Grows())),
    ("pure", "numpy's noise", module(_Numpy())),
    ("evaluating", "a Python if", module(_Branches())),
    ("evaluating", "a gradient at 0", module(_Root())),
    ("evaluating", "another dtype", module(_Single())),
]


def _fit(
    checkpoint: Path,
    on_epoch: Callable[[object], None],
    *,
    forgets: bool = False,
    late: bool = False,
    deaf: bool = False,
) -> Tensor:
    """Three epochs of noise, from a key that moves on."""
    state = torch.zeros(()), KEY
    epochs = 0
    if checkpoint.exists():
        (total, key), done = fr.checkpoint.load(checkpoint, (state, torch.tensor(0)))
        state, epochs = (total, KEY if forgets else key), int(done)
    for epoch in range(epochs, 3):
        drawn, key = fr.random.split(state[1])
        if late:
            fr.checkpoint.save(checkpoint, (state, torch.tensor(epoch)))
        state = state[0] + fr.random.normal(drawn), key
        if not late:
            fr.checkpoint.save(checkpoint, (state, torch.tensor(epoch + 1)))
        try:
            on_epoch(epoch)
        except BaseException:
            if not deaf:
                raise
    return state[0]


RUNS: list[Fault] = [
    (rule, what, _of(fr.testing.assert_resumes, functools.partial(_fit, **how), after=(2,)))
    for rule, what, how in (
        ("the trees differ", "the key is not saved", {"forgets": True}),
        ("it trained 2 epochs more, not 1", "saves before the step", {"late": True}),
        ("it went on", "cannot be killed", {"deaf": True}),
    )
]
RUNS.append(
    ("it trained 3 epochs more", "begins anew",
     _of(fr.testing.assert_resumes, lambda path, on: _fit(path.with_name(f"{id(on)}"), on)))
)  # fmt: skip

FAULTS = [*TRANSFORMS, *LOSSES, *PENALTIES, *AUGMENTATIONS, *MODULES, *RUNS]
