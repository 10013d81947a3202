"""`transforms` against torch's own clipping, optimizers and loss scaling, the papers' formulas, and scipy."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.stats
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

import funcreg as fr
from funcreg import optim, transforms, tree
from tests.oracles import Pair, oracle

STEPS = 40
FEW_ROUNDINGS = "float64; another order of a few roundings"
EACH_STEP = f"float64; another order of rounding at each of {STEPS} steps"


def params() -> dict[str, Tensor]:
    weight, bias = fr.random.split(fr.random.key(1))
    draw = {"0.weight": fr.random.normal(weight, (3, 4), dtype=torch.float64)}
    return {**draw, "0.bias": fr.random.normal(bias, (3,), dtype=torch.float64)}


def gradients(step: int = 0) -> dict[str, Tensor]:
    return tree.map(lambda leaf: torch.sin(leaf * (step + 1)), params())


def _leaves(grads: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """torch's parameters, with these gradients."""
    leaves = {name: leaf.clone().requires_grad_() for name, leaf in params().items()}
    for name, leaf in leaves.items():
        leaf.grad = None if grads is None else grads[name].clone()
    return leaves


def _update(transform: transforms.Transform, grads: Any) -> Any:
    return transform.update(grads, transform.init(params()), params())[0]


def _torch_run(make: Callable[[list[Tensor]], torch.optim.Optimizer], grads: Sequence[dict[str, Tensor]]) -> Any:
    """What an optimizer of torch makes of a sequence of gradients: how far the parameters went."""
    leaves = _leaves()
    optimizer = make(list(leaves.values()))
    for each in grads:
        for name, leaf in leaves.items():
            leaf.grad = each[name].clone()
        optimizer.step()
    return {name: leaf.detach() - params()[name] for name, leaf in leaves.items()}


def _our_run(transform: transforms.Transform, grads: Sequence[dict[str, Tensor]]) -> Any:
    weights, state = params(), transform.init(params())
    for each in grads:
        updates, state = transform.update(each, state, weights)
        weights = optim.apply_updates(weights, updates)
    return tree.map(torch.sub, weights, params())


def _stepping(transform: transforms.Transform, lr: float = 0.01) -> transforms.Transform:
    return transforms.chain(transform, transforms.scale_by_learning_rate(lr))


SEQUENCE = [gradients(step) for step in range(STEPS)]


# Clipping


@oracle(
    "transforms.clip_by_global_norm",
    against="torch.nn.utils.clip_grad_norm_",
    tolerance=1e-15,
    because=FEW_ROUNDINGS,
)
def clip_by_global_norm() -> Pair:
    def theirs(limit: float) -> Any:
        leaves = _leaves(gradients())
        torch.nn.utils.clip_grad_norm_(list(leaves.values()), limit)
        return {name: leaf.grad for name, leaf in leaves.items()}

    limits = (0.0, 0.5, 2.0, 1e6)
    return [_update(transforms.clip_by_global_norm(limit), gradients()) for limit in limits], list(map(theirs, limits))


@oracle("transforms.clip_by_value", against="torch.nn.utils.clip_grad_value_", tolerance=0.0, because="the same bits")
def clip_by_value() -> Pair:
    def theirs(limit: float) -> Any:
        leaves = _leaves(gradients())
        torch.nn.utils.clip_grad_value_(list(leaves.values()), limit)
        return {name: leaf.grad for name, leaf in leaves.items()}

    limits = (0.0, 0.3, 0.8, 1e6)
    return [_update(transforms.clip_by_value(limit), gradients()) for limit in limits], list(map(theirs, limits))


def _agc(w: np.ndarray, g: np.ndarray, ratio: float, eps: float) -> np.ndarray:
    """The paper's equation 3, row by row: G_i -> ratio * ||W_i||* / ||G_i|| * G_i where ||G_i|| / ||W_i||* > ratio."""
    rows, slopes = w.reshape(len(w), -1), g.reshape(len(g), -1)
    if w.ndim == 1:
        rows, slopes = w.reshape(1, -1), g.reshape(1, -1)
    clipped = []
    for row, slope in zip(rows, slopes, strict=True):
        size, most = np.sqrt((slope**2).sum()), max(np.sqrt((row**2).sum()), eps)
        clipped.append(ratio * most / size * slope if size / most > ratio else slope)
    return np.stack(clipped).reshape(g.shape)


@oracle(
    "transforms.adaptive_clip",
    against="equation 3 of Brock et al. 2021 in numpy, for a kernel, a matrix and a bias",
    tolerance=1e-15,
    because=FEW_ROUNDINGS,
)
def adaptive_clip() -> Pair:
    keys = fr.random.split(fr.random.key(4), 6)
    shapes = {"conv": (4, 3, 2, 2), "linear": (5, 3), "bias": (5,)}
    weights, grads = (
        {
            name: fr.random.normal(key, shape, dtype=torch.float64)
            for key, (name, shape) in zip(keys[first : first + 3], shapes.items(), strict=True)
        }
        for first in (0, 3)
    )
    # Rows of all sizes, one of them zero, against eps; and gradients on both sides of the ratio.
    weights = tree.map(lambda leaf: leaf * 0.1 ** torch.arange(len(leaf)).view(-1, *[1] * (leaf.ndim - 1)), weights)
    weights["linear"][1] = 0.0
    settings = ((0.01, 1e-3), (0.5, 0.2), (3.0, 1e-3), (0.0, 1.0))
    ours = [transforms.adaptive_clip(r, eps=eps).update(grads, (), weights)[0] for r, eps in settings]
    theirs = [
        {name: torch.from_numpy(_agc(weights[name].numpy(), grads[name].numpy(), r, eps)) for name in weights}
        for r, eps in settings
    ]
    return ours, theirs


@oracle(
    "transforms.clip_per_example",
    against="a loop over examples of backward and torch.nn.utils.clip_grad_norm_",
    tolerance=1e-15,
    because=FEW_ROUNDINGS,
)
def clip_per_example() -> Pair:
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    for number, leaf in enumerate(module.parameters()):
        leaf.data = fr.random.normal(fr.random.key(number), tuple(leaf.shape), dtype=torch.float64)
    x = fr.random.normal(fr.random.key(8), (7, 4), dtype=torch.float64)
    weights = {name: leaf.detach() for name, leaf in module.named_parameters()}
    each = vmap(grad(lambda w, row: functional_call(module, w, (row,)).square().sum()), (None, 0))(weights, x)

    def theirs(limit: float) -> Any:
        total = {name: torch.zeros_like(leaf) for name, leaf in weights.items()}
        for row in x:
            module.zero_grad()
            module(row).square().sum().backward()
            nn.utils.clip_grad_norm_(module.parameters(), limit)
            for name, leaf in module.named_parameters():
                assert leaf.grad is not None
                total[name] += leaf.grad / len(x)
        return total

    limits = (0.0, 0.5, 2.0, 1e6)
    ours = [transforms.clip_per_example(limit).update(each, (), weights)[0] for limit in limits]
    return ours, list(map(theirs, limits))


# Decay, freezing, averages over time


@oracle(
    "transforms.add_decayed_weights",
    against="torch.optim.SGD(weight_decay=0.3), and AdamW's as its difference from Adam",
    tolerance=1e-14,
    because=EACH_STEP,
)
def add_decayed_weights() -> Pair:
    coupled = _stepping(transforms.add_decayed_weights(0.3))
    one = transforms.chain(
        transforms.scale_by_adam(), transforms.add_decayed_weights(0.3), transforms.scale_by_learning_rate(0.01)
    )
    theirs = (
        _torch_run(lambda leaves: torch.optim.SGD(leaves, lr=0.01, weight_decay=0.3), SEQUENCE),
        _torch_run(lambda leaves: torch.optim.AdamW(leaves, lr=0.01, weight_decay=0.3), SEQUENCE),
    )
    return (_our_run(coupled, SEQUENCE), _our_run(one, SEQUENCE)), theirs


@oracle(
    "transforms.freeze",
    against="torch.optim.SGD(momentum, weight_decay) over the other parameters only",
    tolerance=1e-14,
    because=EACH_STEP,
)
def freeze() -> Pair:
    ours = transforms.chain(optim.sgd(0.01, momentum=0.9, weight_decay=0.1), transforms.freeze(tree.is_weight))

    def others(leaves: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD([leaf for leaf in leaves if leaf.ndim == 1], lr=0.01, momentum=0.9, weight_decay=0.1)

    return _our_run(ours, SEQUENCE), _torch_run(others, SEQUENCE)


@oracle(
    "transforms.momentum",
    against="torch.optim.SGD with momentum, dampening, nesterov",
    tolerance=1e-13,
    because=EACH_STEP,
)
def momentum() -> Pair:
    variants: list[dict[str, Any]] = [{}, {"dampening": 0.4}, {"nesterov": True}]
    ours = [_our_run(_stepping(transforms.momentum(0.9, **each)), SEQUENCE) for each in variants]
    theirs = [
        _torch_run(lambda leaves, each=each: torch.optim.SGD(leaves, lr=0.01, momentum=0.9, **each), SEQUENCE)
        for each in variants
    ]
    return ours, theirs


@oracle("transforms.scale_by_adam", against="torch.optim.Adam", tolerance=1e-14, because=EACH_STEP)
def scale_by_adam() -> Pair:
    ours = _stepping(transforms.scale_by_adam(0.8, 0.95, 1e-4))
    return _our_run(ours, SEQUENCE), _torch_run(
        lambda leaves: torch.optim.Adam(leaves, lr=0.01, betas=(0.8, 0.95), eps=1e-4), SEQUENCE
    )


@oracle("transforms.scale_by_rms", against="torch.optim.RMSprop, centered or not", tolerance=1e-14, because=EACH_STEP)
def scale_by_rms() -> Pair:
    ours = [_our_run(_stepping(transforms.scale_by_rms(0.9, 1e-4, centered=each)), SEQUENCE) for each in (False, True)]
    theirs = [
        _torch_run(
            lambda leaves, each=each: torch.optim.RMSprop(leaves, lr=0.01, alpha=0.9, eps=1e-4, centered=each), SEQUENCE
        )
        for each in (False, True)
    ]
    return ours, theirs


@oracle("transforms.scale_by_nadam", against="torch.optim.NAdam", tolerance=1e-9, because="torch's float32 inside")
def scale_by_nadam() -> Pair:
    ours = _stepping(transforms.scale_by_nadam(0.8, 0.95, 1e-4, momentum_decay=0.1))
    return _our_run(ours, SEQUENCE), _torch_run(
        lambda leaves: torch.optim.NAdam(leaves, lr=0.01, betas=(0.8, 0.95), eps=1e-4, momentum_decay=0.1), SEQUENCE
    )


@oracle("transforms.scale_by_radam", against="torch.optim.RAdam", tolerance=1e-14, because=EACH_STEP)
def scale_by_radam() -> Pair:
    ours = _stepping(transforms.scale_by_radam(0.8, 0.95, 1e-4))
    return _our_run(ours, SEQUENCE), _torch_run(
        lambda leaves: torch.optim.RAdam(leaves, lr=0.01, betas=(0.8, 0.95), eps=1e-4), SEQUENCE
    )


@oracle(
    "transforms.scale_by_lion",
    against="algorithm 2 of Chen et al. 2023, number by number in Python",
    tolerance=1e-14,
    because=EACH_STEP,
)
def scale_by_lion() -> Pair:
    def one(slopes: Sequence[float]) -> float:
        moved = mean = 0.0
        for slope in slopes:
            moved -= 0.01 * math.copysign(1.0, 0.8 * mean + (1 - 0.8) * slope)
            mean = 0.95 * mean + (1 - 0.95) * slope
        return moved

    theirs = {}
    for name, leaf in params().items():
        each = [one(slopes) for slopes in zip(*(grads[name].flatten().tolist() for grads in SEQUENCE), strict=True)]
        theirs[name] = torch.tensor(each, dtype=torch.float64).reshape(leaf.shape)
    return _our_run(_stepping(transforms.scale_by_lion(0.8, 0.95)), SEQUENCE), theirs


@oracle(
    "transforms.orthogonalize",
    against="the quintic of each singular value, by numpy's singular value decomposition",
    tolerance=1e-12,
    because="float64; five rounds, whose slope is up to 3.4",
)
def orthogonalize() -> Pair:
    ours, theirs = [], []
    for rows, columns in ((3, 4), (5, 3)):
        draw = fr.random.normal(fr.random.key(rows), (rows, columns), dtype=torch.float64).numpy()
        u, values, vt = np.linalg.svd(draw, full_matrices=False)
        values = values / np.linalg.norm(values)
        for _ in range(5):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        g = {"w": torch.from_numpy(draw)}
        for adjust, factor in (
            ("original", math.sqrt(max(1, rows / columns))),
            ("match_rms_adamw", 0.2 * math.sqrt(max(rows, columns))),
            ("spectral", math.sqrt(rows / columns)),
        ):
            ours.append(transforms.orthogonalize(adjust=adjust).update(g, (), g)[0]["w"])
            theirs.append(factor * (u * values) @ vt)
    return ours, theirs


@oracle(
    "transforms.partition",
    against="torch.optim.AdamW with a learning rate and a decay for each of its groups",
    tolerance=1e-13,
    because=EACH_STEP,
)
def partition() -> Pair:
    ours = transforms.partition(
        {"0.weight": optim.adamw(0.01, weight_decay=0.5), "0.bias": optim.adamw(0.1, weight_decay=0.0)},
        lambda name, leaf: name,
    )

    def groups(leaves: list[Tensor]) -> torch.optim.Optimizer:
        weight, bias = leaves
        slow = {"params": [weight], "lr": 0.01, "weight_decay": 0.5}
        return torch.optim.AdamW([slow, {"params": [bias], "lr": 0.1, "weight_decay": 0.0}])

    return _our_run(ours, SEQUENCE), _torch_run(groups, SEQUENCE)


@oracle(
    "transforms.masked",
    against="torch.nn.utils.clip_grad_norm_ of the weights only",
    tolerance=1e-15,
    because=FEW_ROUNDINGS,
)
def masked() -> Pair:
    leaves = _leaves(gradients())
    torch.nn.utils.clip_grad_norm_([leaves["0.weight"]], 0.5)
    ours = _update(transforms.masked(transforms.clip_by_global_norm(0.5), tree.is_weight), gradients())
    return ours, {name: leaf.grad for name, leaf in leaves.items()}


@oracle("transforms.scale", against="torch.optim.SGD", tolerance=1e-14, because=EACH_STEP)
def scale() -> Pair:
    ours = _our_run(transforms.scale(-0.1), SEQUENCE)
    return ours, _torch_run(lambda leaves: torch.optim.SGD(leaves, lr=0.1), SEQUENCE)


@oracle(
    "transforms.scale_by_schedule",
    against="torch.optim.SGD with StepLR, by minus torch's rates",
    tolerance=1e-14,
    because=EACH_STEP,
)
def scale_by_schedule() -> Pair:
    leaves = _leaves()
    optimizer = torch.optim.SGD(list(leaves.values()), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 7, 0.5)
    for each in SEQUENCE:
        for name, leaf in leaves.items():
            leaf.grad = each[name].clone()
        optimizer.step()
        scheduler.step()
    rate = optim.step(0.1, every=7, factor=0.5)
    ours = _our_run(transforms.scale_by_schedule(lambda step: -rate(step)), SEQUENCE)
    return ours, {name: leaf.detach() - params()[name] for name, leaf in leaves.items()}


@oracle(
    "transforms.scale_by_learning_rate",
    against="torch.optim.SGD, and with LambdaLR",
    tolerance=1e-14,
    because=EACH_STEP,
)
def scale_by_learning_rate() -> Pair:
    leaves = _leaves()
    optimizer = torch.optim.SGD(list(leaves.values()), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    for each in SEQUENCE:
        for name, leaf in leaves.items():
            leaf.grad = each[name].clone()
        optimizer.step()
        scheduler.step()
    scheduled = tree.map(torch.sub, {name: leaf.detach() for name, leaf in leaves.items()}, params())
    ours = (
        _our_run(transforms.scale_by_learning_rate(0.1), SEQUENCE),
        _our_run(transforms.scale_by_learning_rate(lambda step: 0.1 / (1 + step.double())), SEQUENCE),
    )
    return ours, (_torch_run(lambda leaves: torch.optim.SGD(leaves, lr=0.1), SEQUENCE), scheduled)


@oracle(
    "transforms.chain",
    against="clip_grad_norm_, then torch.optim.SGD with momentum and decay",
    tolerance=1e-14,
    because=EACH_STEP,
)
def chain() -> Pair:
    leaves = _leaves()
    optimizer = torch.optim.SGD(list(leaves.values()), lr=0.01, momentum=0.9, weight_decay=0.1)
    for each in SEQUENCE:
        for name, leaf in leaves.items():
            leaf.grad = each[name].clone()
        torch.nn.utils.clip_grad_norm_(list(leaves.values()), 0.7)
        optimizer.step()
    ours = transforms.chain(transforms.clip_by_global_norm(0.7), optim.sgd(0.01, momentum=0.9, weight_decay=0.1))
    return _our_run(ours, SEQUENCE), tree.map(torch.sub, {n: leaf.detach() for n, leaf in leaves.items()}, params())


# Noise


@oracle(
    "transforms.add_noise",
    against="scipy.stats.norm's quantiles, std 0.5, and its fall as (1 + t)**-0.275",
    tolerance=0.01,
    because="200,000 draws: the standard error of the quantile at 2% is 0.003",
)
def add_noise() -> Pair:
    levels = np.array([0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98])
    zeros = {"w": torch.zeros(200_000, dtype=torch.float64)}
    transform = transforms.add_noise(lambda step: 0.5 / (1 + step) ** 0.275, key=fr.random.key(3))
    state, ours = transform.init(zeros), []
    for _ in range(3):
        updates, state = transform.update(zeros, state, zeros)
        ours.append(torch.quantile(updates["w"], torch.from_numpy(levels)))
    theirs = [scipy.stats.norm.ppf(levels, scale=0.5 / (1 + step) ** 0.275) for step in range(3)]
    return ours, [torch.from_numpy(each) for each in theirs]


# Transforms of transforms


@oracle(
    "transforms.skip_nonfinite",
    against="torch.amp.GradScaler around torch.optim.Adam, some gradients infinite or NaN",
    tolerance=1e-14,
    because=EACH_STEP,
)
def skip_nonfinite() -> Pair:
    grads = [tree.clone(each) for each in SEQUENCE]
    for step, value in ((0, torch.inf), (3, torch.nan), (4, -torch.inf), (17, torch.nan)):
        grads[step]["0.bias"][1] = value
    leaves = _leaves()
    optimizer = torch.optim.Adam(list(leaves.values()), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0, backoff_factor=0.5)
    for each in grads:
        scale = scaler.scale(torch.ones((), dtype=torch.float64))
        for name, leaf in leaves.items():
            leaf.grad = each[name] * scale
        scaler.step(optimizer)
        scaler.update()
    theirs = tree.map(torch.sub, {name: leaf.detach() for name, leaf in leaves.items()}, params())
    return _our_run(transforms.skip_nonfinite(optim.adam(0.01)), grads), theirs


@oracle(
    "transforms.accumulate",
    against="torch.optim.Adam on whole batches, each in four micro-batches here",
    tolerance=1e-13,
    because="float64; the mean of a batch in another order, at each step",
)
def accumulate() -> Pair:
    x = fr.random.normal(fr.random.key(5), (10, 12, 4), dtype=torch.float64)
    y = fr.random.normal(fr.random.key(6), (10, 12, 3), dtype=torch.float64)

    def loss(weights: Any, x: Tensor, y: Tensor) -> Tensor:
        return (torch.tanh(x @ weights["0.weight"].T + weights["0.bias"]) - y).square().mean()

    leaves = _leaves()
    optimizer = torch.optim.Adam(list(leaves.values()), lr=0.05, weight_decay=0.01)
    for inputs, targets in zip(x, y, strict=True):
        optimizer.zero_grad()
        loss(leaves, inputs, targets).backward()
        optimizer.step()
    theirs = tree.map(torch.sub, {name: leaf.detach() for name, leaf in leaves.items()}, params())

    transform = transforms.accumulate(optim.adam(0.05, weight_decay=0.01), 4)
    weights, state = params(), transform.init(params())
    for inputs, targets in zip(x, y, strict=True):
        for part in zip(inputs.chunk(4), targets.chunk(4), strict=True):
            updates, state = transform.update(grad(loss)(weights, *part), state, weights)
            weights = optim.apply_updates(weights, updates)
    return tree.map(torch.sub, weights, params()), theirs


@oracle(
    "transforms.master_weights",
    against="torch.optim.AdamW on float32 weights, rounded to bfloat16 at the end",
    tolerance=1e-2,
    because="a weight that lies between two bfloat16 numbers may be rounded to either; in units of their change",
)
def master_weights() -> Pair:
    grads = [tree.cast(each, torch.bfloat16) for each in SEQUENCE]
    begin = tree.cast(params(), torch.bfloat16)
    leaves = {name: leaf.float().requires_grad_() for name, leaf in begin.items()}
    optimizer = torch.optim.AdamW(list(leaves.values()), lr=1e-3, weight_decay=0.1)
    for each in grads:
        for name, leaf in leaves.items():
            leaf.grad = each[name].float()
        optimizer.step()
    transform, weights = transforms.master_weights(optim.adamw(1e-3, weight_decay=0.1)), begin
    state = transform.init(weights)
    for each in grads:
        updates, state = transform.update(each, state, weights)
        weights = optim.apply_updates(weights, updates)
    return weights, {name: leaf.detach().bfloat16() for name, leaf in leaves.items()}
