"""What other people wrote and is pure: functions that must raise no alarm, with an example of each call."""

import enum
import functools
import logging
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import funcreg as fr
from funcreg.transforms import Transform

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def drawn(seed: int, *shape: int) -> Tensor:
    return fr.random.normal(fr.random.key(seed), shape)


X, Y, W, ROW = drawn(0, 4, 6), drawn(1, 4, 6), drawn(2, 5, 6), drawn(3, 6)
CLASSES, PROBABILITIES = torch.tensor([0, 2, 5, 1]), torch.softmax(X, 1)
SEQUENCES, PICTURES = drawn(4, 2, 4, 8), drawn(5, 2, 3, 8, 8)


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
    return function, args, kwargs


FUNCTIONAL: dict[str, Call] = {
    "relu": call(F.relu, X), "relu6": call(F.relu6, X), "elu": call(F.elu, X), "selu": call(F.selu, X),
    "celu": call(F.celu, X), "leaky_relu": call(F.leaky_relu, X, 0.1), "prelu": call(F.prelu, X, ROW),
    "gelu": call(F.gelu, X), "silu": call(F.silu, X), "mish": call(F.mish, X), "softplus": call(F.softplus, X),
    "softsign": call(F.softsign, X), "hardtanh": call(F.hardtanh, X), "hardswish": call(F.hardswish, X),
    "hardsigmoid": call(F.hardsigmoid, X), "hardshrink": call(F.hardshrink, X), "softshrink": call(F.softshrink, X),
    "tanhshrink": call(F.tanhshrink, X), "logsigmoid": call(F.logsigmoid, X),
    "threshold": call(F.threshold, X, 0.1, 0.0),
    "glu": call(F.glu, X), "softmax": call(F.softmax, X, 1), "log_softmax": call(F.log_softmax, X, 1),
    "softmin": call(F.softmin, X, 1), "normalize": call(F.normalize, X), "linear": call(F.linear, X, W, drawn(6, 5)),
    "bilinear": call(F.bilinear, X, Y, drawn(7, 3, 6, 6)), "embedding": call(F.embedding, CLASSES, X.mT),
    "one_hot": call(F.one_hot, CLASSES, 6), "layer_norm": call(F.layer_norm, X, (6,), ROW, ROW),
    "rms_norm": call(F.rms_norm, X, (6,), ROW), "group_norm": call(F.group_norm, SEQUENCES, 2),
    "instance_norm": call(F.instance_norm, SEQUENCES), "local_response_norm": call(F.local_response_norm, PICTURES, 2),
    "batch_norm": call(partial(F.batch_norm, running_mean=None, running_var=None, training=True), X),
    "conv1d": call(F.conv1d, SEQUENCES, drawn(8, 3, 4, 3)), "conv2d": call(F.conv2d, PICTURES, drawn(9, 2, 3, 3, 3)),
    "conv_transpose2d": call(F.conv_transpose2d, PICTURES, drawn(9, 3, 2, 3, 3)),
    "avg_pool2d": call(F.avg_pool2d, PICTURES, 2), "max_pool2d": call(F.max_pool2d, PICTURES, 2),
    "adaptive_avg_pool2d": call(F.adaptive_avg_pool2d, PICTURES, 4),
    "lp_pool2d": call(F.lp_pool2d, PICTURES.abs() + 1, 2.0, 2),
    "interpolate": call(partial(F.interpolate, scale_factor=2, mode="bilinear"), PICTURES),
    "pixel_shuffle": call(F.pixel_shuffle, drawn(10, 2, 4, 3, 3), 2), "pad": call(F.pad, X, (1, 2)),
    "unfold": call(F.unfold, PICTURES, 3), "grid_sample": call(partial(F.grid_sample, align_corners=False), PICTURES,
                        drawn(11, 2, 4, 4, 2).tanh()),
    "affine_grid": call(lambda theta: F.affine_grid(theta, [2, 3, 4, 4], align_corners=False), drawn(12, 2, 2, 3)),
    "cosine_similarity": call(F.cosine_similarity, X, Y), "pairwise_distance": call(F.pairwise_distance, X, Y),
    "dropout, evaluating": call(partial(F.dropout, training=False), X),
    "scaled_dot_product_attention": call(F.scaled_dot_product_attention, SEQUENCES, SEQUENCES.flip(0), SEQUENCES),
}  # fmt: skip

NORMS, SQUARE = torch.tensor([1.5, 0.5, 2.0]), drawn(13, 3, 3)
SETTINGS = SimpleNamespace(scale=2.0, window=torch.hann_window(6), layers=[], log=logging.getLogger(__name__))


class Pair(NamedTuple):
    value: Tensor
    positive: Tensor


class Kind(enum.Enum):
    SUM = "sum"
    MEAN = "mean"


def positive(a: Tensor) -> Tensor:
    return a @ a.mT + torch.eye(3).to(a)


def optional(x: Tensor, *, key: Tensor | None = None) -> Tensor:
    return x if key is None else fr.noise.dropout(x, 0.5, key=key)


class Surrogate(torch.autograd.Function):
    """Rounds, with the gradient of what is not rounded; `Reversed` hands on, with the gradient's negative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad


class Reversed(Surrogate):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return -grad


class Exponential(Surrogate):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.exp()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.saved_tensors[0]


def mixed(x: Tensor, *, key: Tensor) -> Tensor:
    """A key that is split twice, for one half each time."""
    others = fr.random.permutation(fr.random.split(key)[1], len(x))
    share = fr.random.uniform(fr.random.split(key)[0], (len(x), 1)).to(x.dtype)
    return share * x + (1 - share) * x[others]


def layers(x: Tensor, *, key: Tensor) -> Tensor:
    for layer in range(3):
        x = fr.noise.dropout(x, 0.3, key=fr.random.fold_in(key, layer))
    rest = fr.random.fold_in(key, 3)
    return fr.noise.dropout(fr.noise.dropout(x, 0.3, key=rest), 0.3, key=fr.random.skip(rest, x.numel()))


@functools.cache
def window(size: int) -> Tensor:
    return torch.hann_window(size)


# Of the shapes and dtypes, arguments and results that functions have.
OTHERS: dict[str, Call] = {
    "no dimension": call(torch.tanh, torch.tensor(0.5)), "an empty batch": call(F.linear, X[:0], W),
    "an empty sum": call(torch.sum, X[:0]), "integers": call(lambda i: i * 2, CLASSES),
    "booleans": call(torch.logical_not, X > 0), "a mask": call(torch.where, X > 0, X, Y),
    "complex numbers": call(lambda z: z * z.conj(), torch.complex(X, Y)),
    "a modulus": call(torch.abs, torch.complex(X, Y)),
    "a spectrum": call(torch.fft.rfft, X), "a spectrum's modulus": call(lambda x: torch.fft.rfft(x).abs(), X),
    "polar": call(lambda x: torch.view_as_real(torch.polar(x.abs(), x)), X),
    "a dict": call(lambda x: {"a": x, "b": {"c": x.sum()}}, X),
    "a named tuple": call(lambda x: Pair(x, (x > 0).sum()), X), "torch's own tuple": call(lambda x: x.max(1), X),
    "a list": call(lambda x: list(x.unbind()), X), "an argmax": call(lambda x: x.argmax(1), X),
    "an inverse": call(lambda a: torch.linalg.inv(positive(a)), SQUARE),
    "a determinant": call(lambda a: torch.linalg.slogdet(positive(a)), SQUARE),
    "a root": call(lambda a: torch.linalg.cholesky(positive(a)), SQUARE),
    "a solution": call(lambda a, b: torch.linalg.solve(positive(a), b), SQUARE, NORMS),
    "singular values": call(torch.linalg.svdvals, SQUARE),
    "a quantile": call(lambda x: x.quantile(0.5), X), "a median": call(lambda x: x.median(), X),
    "a scatter": call(lambda x, i: torch.zeros_like(x).scatter_add(0, i[:, None].expand(4, 6) % 4, x), X, CLASSES),
    "a copy in place": call(lambda x: x.clone().mul_(2), X), "a Hessian": call(torch.func.hessian(torch.logsumexp),
                                                                               ROW, 0),
    "a word": call(lambda x, how: x.sum() if how == "sum" else x.mean(), X, "mean"), "None": call(
        lambda x, w: x if w is None else x * w, X, None),
    "an enumeration": call(lambda x, kind: x * 2 if kind is Kind.SUM else x, X, Kind.MEAN),
    "a namespace": call(lambda x: (SETTINGS.log.debug("x"), x * SETTINGS.scale * SETTINGS.window.to(x.dtype))[1], X),
    "a cached constant": call(lambda x: x * window(6).to(x.dtype), X),
    "a key that may be left out": call(optional, X, key=fr.random.key(9)),
    "a straight-through estimator": call(Surrogate.apply, X), "a reversed gradient": call(Reversed.apply, X),
    "an exponential of one's own": call(lambda x: (3 * Exponential.apply(x)).sum(), X),
    "a key that is split twice": call(mixed, X, key=fr.random.key(9)),
    "a key for each layer": call(layers, X, key=fr.random.key(9)),
    "the same noise for each member": call(
        lambda x, *, key: torch.func.vmap(lambda row: fr.noise.dropout(row, 0.5, key=key))(x), X, key=fr.random.key(9)),
    "only a key": call(lambda *, key: fr.random.randint(key, (5,), 0, 1000), key=fr.random.key(9)),
    "a setting of hardly an effect": call(lambda x, eps: (x / (x.norm() + eps)).to(x.dtype), X,
                                          batched={"eps": (1e-12, 1e-11, 1e-10)}),
    "a bound that is not reached": call(
        lambda x, most: (x * torch.clamp(most / x.norm(), max=1.0)).to(x.dtype), X, batched={"most": (90.0, 95.0)}),
    "a setting of the other mode": call(
        lambda x, train, rate: (x * rate).to(x.dtype) if train else x, X, False, batched={"rate": (0.1, 0.2)}),
    "a setting times nothing": call(lambda x, rate: (x * rate).to(x.dtype), 0 * X, batched={"rate": (0.1, 0.2)}),
}  # fmt: skip

LOSSES: dict[str, Call] = {
    "cross_entropy": call(F.cross_entropy, X, CLASSES), "nll_loss": call(F.nll_loss, F.log_softmax(X, 1), CLASSES),
    "soft cross_entropy": call(F.cross_entropy, X, PROBABILITIES.flip(0)), "mse_loss": call(F.mse_loss, X, Y),
    "l1_loss": call(F.l1_loss, X, Y), "smooth_l1_loss": call(F.smooth_l1_loss, X, Y),
    "huber_loss": call(F.huber_loss, X, Y),
    "kl_div": call(partial(F.kl_div, reduction="batchmean"), F.log_softmax(X, 1), PROBABILITIES.flip(0)),
    "binary_cross_entropy_with_logits": call(F.binary_cross_entropy_with_logits, X, PROBABILITIES),
    "masked": call(lambda p, t, mask: ((p - t) ** 2 * mask).sum() / mask.sum().clamp(min=1), X, Y, Y > X),
    "class weights": call(lambda p, t, w: F.cross_entropy(p, t, weight=w), X, CLASSES, PROBABILITIES[0]),
    "hinge_embedding_loss": call(F.hinge_embedding_loss, X, torch.tensor([[1.0], [-1.0], [1.0], [1.0]]).expand(4, 6)),
    "multi_margin_loss": call(F.multi_margin_loss, X, CLASSES),
}  # fmt: skip


def sgd(lr: Any) -> Transform:
    return Transform(lambda params: (), lambda g, s, params: (fr.tree.map(lambda g: (-lr * g).to(g.dtype), g), s))


def heavy_ball(lr: Any, decay: Any) -> Transform:
    """optax's trace and scale."""

    def update(grads: Any, state: Any, params: Any = None) -> Any:
        trace = fr.tree.map(lambda m, g: (decay * m + g).to(g.dtype), state["trace"], grads)
        return fr.tree.map(lambda m: (-lr * m).to(m.dtype), trace), {"trace": trace}

    return Transform(lambda params: {"trace": fr.tree.zeros_like(params)}, update)


def adagrad(lr: Any, eps: Any) -> Transform:
    def update(grads: Any, state: Any, params: Any = None) -> Any:
        sums = fr.tree.map(lambda s, g: s + g * g, state, grads)
        return fr.tree.map(lambda s, g: (-lr * g / (s.sqrt() + eps)).to(g.dtype), sums, grads), sums

    return Transform(lambda params: fr.tree.map(lambda w: torch.full_like(w, 0.1), params), update)


def adam(lr: Any, b1: Any, b2: Any) -> Transform:
    def init(params: Any) -> Any:
        return {
            "count": torch.zeros((), dtype=torch.int64),
            "mu": fr.tree.zeros_like(params),
            "nu": fr.tree.zeros_like(params),
        }

    def update(grads: Any, state: Any, params: Any = None) -> Any:
        t = (state["count"] + 1).double()
        mu = fr.tree.map(lambda m, g: (b1 * m + (1 - b1) * g).to(g.dtype), state["mu"], grads)
        nu = fr.tree.map(lambda v, g: (b2 * v + (1 - b2) * g * g).to(g.dtype), state["nu"], grads)
        step = lambda m, v: (-lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + 1e-8)).to(m.dtype)  # noqa: E731
        return fr.tree.map(step, mu, nu), {"count": state["count"] + 1, "mu": mu, "nu": nu}

    return Transform(init, update)


def lion(lr: Any, decay: Any) -> Transform:
    def update(grads: Any, state: Any, params: Any) -> Any:
        signs = fr.tree.map(lambda m, g: torch.sign(0.9 * m + 0.1 * g), state, grads)
        updates = fr.tree.map(lambda s, w: (-lr * (s + decay * w)).to(w.dtype), signs, params)
        return updates, fr.tree.map(lambda m, g: 0.99 * m + 0.01 * g, state, grads)

    return Transform(fr.tree.zeros_like, update)


def noisy(lr: Any, *, key: Tensor) -> Transform:
    """Langevin dynamics: the key is carried."""

    def update(grads: Any, state: Tensor, params: Any = None) -> Any:
        drawn, state = fr.random.split(state)
        keys = iter(fr.random.split(drawn, len(fr.tree.leaves(grads))))
        noise = lambda g: fr.random.normal(next(keys), tuple(g.shape), dtype=torch.float32).to(g.dtype)  # noqa: E731
        return fr.tree.map(lambda g: (-lr * g + 1e-4 * noise(g)).to(g.dtype), grads), state

    return Transform(lambda params: key, update)


LR = {"lr": (0.0, 0.05, 0.2)}
OPTIMIZERS: dict[str, tuple[Callable[..., Transform], dict[str, Any]]] = {
    "sgd": (sgd, {"batched": LR}),
    "heavy ball": (heavy_ball, {"batched": {**LR, "decay": (0.0, 0.5, 0.9)}}),
    "adagrad": (adagrad, {"batched": {**LR, "eps": (1e-8, 1e-3, 1.0)}}),
    "adam": (adam, {"batched": {**LR, "b1": (0.0, 0.5, 0.9), "b2": (0.5, 0.9, 0.999)}}),
    "lion": (lion, {"batched": {**LR, "decay": (0.0, 0.1, 0.5)}}),
    "Langevin": (noisy, {"batched": LR, "key": fr.random.key(8)}),
}
