"""Optimizers against torch.optim and schedules against lr_scheduler, as changes from the start."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.func import vmap

import funcreg as fr
from funcreg import FuncregError, optim, random, tree

STEPS = 300
untyped: Any = optim  # for arguments that pyright cannot follow, or would refuse too


def start(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    weight, bias = random.split(random.key(3))
    return {"weight": random.normal(weight, (4, 5), dtype=dtype), "bias": random.normal(bias, (4,), dtype=dtype)}


def loss(weights: dict[str, torch.Tensor], step: int) -> torch.Tensor:
    """Another direction at each step, one weight that never matters, and curvature."""
    direction = torch.cos(torch.arange(5.0, dtype=weights["weight"].dtype) + 0.3 * step)
    direction = direction * torch.tensor([1, 1, 1, 1, 0])
    return (torch.tanh(weights["weight"] @ direction + weights["bias"]) ** 2).sum() + 0.1 * weights["bias"].sum()


def torch_run(make: Callable, weights: dict[str, torch.Tensor], schedule: Callable | None = None, steps: int = STEPS):
    leaves = {name: leaf.clone().requires_grad_() for name, leaf in weights.items()}
    optimizer = make(list(leaves.values()))
    scheduler = schedule(optimizer) if schedule else None
    for step in range(steps):
        optimizer.zero_grad()
        loss(leaves, step).backward()
        optimizer.step()
        if scheduler:
            scheduler.step()
    return {name: leaf.detach() for name, leaf in leaves.items()}


def our_run(optimizer: optim.Transform, weights: dict[str, torch.Tensor], steps: int = STEPS):
    state = optimizer.init(weights)
    for step in range(steps):
        grads = torch.func.grad(loss)(weights, step)
        updates, state = optimizer.update(grads, state, weights)
        weights = optim.apply_updates(weights, updates)
    return weights


def assert_same_change(ours: tree.Tree, reference: tree.Tree, begin: tree.Tree, tolerance: float) -> None:
    change = tree.norm(tree.map(torch.sub, reference, begin))
    error = tree.norm(tree.map(torch.sub, ours, reference))
    assert change > 0.1, "the reference did not move"
    assert error <= tolerance * change, f"relative error {float(error / change):.1e}"


OPTIMIZERS = {
    "sgd": ({}, "SGD"),
    "sgd decay": ({"weight_decay": 0.03}, "SGD"),
    "sgd momentum": ({"momentum": 0.9}, "SGD"),
    "sgd momentum dampening decay": ({"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.03}, "SGD"),
    "sgd nesterov decay": ({"momentum": 0.9, "nesterov": True, "weight_decay": 0.03}, "SGD"),
    "adam": ({}, "Adam"),
    "adam betas eps decay": ({"b1": 0.7, "b2": 0.9, "eps": 1e-4, "weight_decay": 0.05}, "Adam"),
    "adamw": ({}, "AdamW"),
    "adamw betas eps decay": ({"b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.2}, "AdamW"),
}


def theirs(name: str, lr: float, numbers: dict) -> Callable:
    numbers = dict(numbers)
    if name != "SGD":
        numbers["betas"] = (numbers.pop("b1", 0.9), numbers.pop("b2", 0.999))
    return lambda leaves: getattr(torch.optim, name)(leaves, lr=lr, **numbers)


@pytest.mark.parametrize("case", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["numbers", "tensors"])
def test_optimizers_are_torchs(case: str, kind: str) -> None:
    numbers, name = OPTIMIZERS[case]
    reference = torch_run(theirs(name, 0.01, numbers), start())

    def ours(value):
        return torch.tensor(value, dtype=torch.float64) if kind == "tensors" and not isinstance(value, bool) else value

    optimizer = getattr(optim, name.lower())(ours(0.01), **{key: ours(value) for key, value in numbers.items()})
    # Rounding in another order, over 300 steps.
    assert_same_change(our_run(optimizer, start()), reference, start(), 1e-12)


def test_float32_hyperparameters_do_not_drift() -> None:
    """1 - b2 and the bias corrections of a float32 b2 are taken in float64."""
    held = {name: torch.tensor(value) for name, value in {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "lr": 0.01}.items()}
    numbers = {name: value.item() for name, value in held.items()}
    reference = torch_run(theirs("Adam", numbers.pop("lr"), numbers), start(), steps=1000)
    assert_same_change(our_run(untyped.adam(held.pop("lr"), **held), start(), 1000), reference, start(), 1e-11)


def test_float32_parameters_follow_torchs() -> None:
    begin = start(torch.float32)
    reference = torch_run(theirs("Adam", 0.01, {}), begin)
    # Single precision rounds each of 300 steps, by 6e-8 of the weight.
    assert_same_change(our_run(optim.adam(torch.tensor(0.01)), begin), reference, begin, 1e-5)


def test_every_number_is_batched() -> None:
    numbers = {"lr": [0.01, 0.1], "b1": [0.9, 0.5], "b2": [0.999, 0.9], "eps": [1e-8, 1e-2], "weight_decay": [0.0, 0.1]}
    stacked = {name: torch.tensor(values, dtype=torch.float64) for name, values in numbers.items()}
    batched = vmap(lambda hparams: our_run(optim.adamw(**hparams), start(), 20))(stacked)
    for member in range(2):
        alone = our_run(untyped.adamw(**{name: values[member] for name, values in numbers.items()}), start(), 20)
        assert_same_change(tree.index(batched, member), alone, start(), 1e-12)


def test_the_learning_rate_has_a_gradient_through_training() -> None:
    def final(lr: torch.Tensor) -> torch.Tensor:
        return loss(our_run(optim.adam(lr, weight_decay=0.01), start(), 10), 0)

    lr = torch.tensor(0.05, dtype=torch.float64)
    slope = (final(lr + 1e-6) - final(lr - 1e-6)) / 2e-6
    assert slope.abs() > 1e-3
    # Central differences in float64, step 1e-6: good to about 1e-7.
    torch.testing.assert_close(torch.func.grad(final)(lr), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.skipif(not fr.can_compile(), reason="needs a C++ compiler")
@torch._dynamo.config.patch(error_on_recompile=True)
def test_an_update_compiles_whole_and_once() -> None:
    @fr.jit
    def update(weights, grads, state, lr, momentum):
        optimizer = optim.sgd(lr, momentum=momentum, weight_decay=0.1, nesterov=True)
        updates, state = optimizer.update(grads, state, weights)
        return optim.apply_updates(weights, updates), state

    def eager(weights, grads, state, lr, momentum):
        updates, state = optim.sgd(lr, momentum=momentum, weight_decay=0.1, nesterov=True).update(grads, state, weights)
        return optim.apply_updates(weights, updates), state

    ours, reference = start(), start()
    state = compiled = optim.sgd(0.1, momentum=0.9).init(start())
    for step, (lr, momentum) in enumerate([(0.1, 0.9), (0.2, 0.8), (0.3, 0.7)]):
        grads = torch.func.grad(loss)(reference, step)
        reference, state = eager(reference, grads, state, lr, momentum)
        ours, compiled = update(ours, grads, compiled, lr, momentum)
    assert_same_change(ours, reference, start(), 1e-12)


def test_a_mask_keeps_biases_from_decay() -> None:
    zeros = tree.zeros_like(start())
    for make in (optim.sgd, optim.adam, optim.adamw):
        optimizer = make(0.1, weight_decay=0.5, mask=tree.is_weight)
        updates, _ = optimizer.update(zeros, optimizer.init(start()), start())
        assert (updates["bias"] == 0).all()
        assert (updates["weight"] != 0).all()


T = torch.optim.lr_scheduler
SCHEDULES = {
    "constant": (optim.constant(0.05), lambda o: T.ConstantLR(o, factor=1.0)),
    "step": (optim.step(0.05, every=7, factor=0.6), lambda o: T.StepLR(o, 7, 0.6)),
    "exponential": (optim.exponential(0.05, factor=0.97), lambda o: T.ExponentialLR(o, 0.97)),
    "cosine": (optim.cosine(0.05, steps=STEPS, final=0.001), lambda o: T.CosineAnnealingLR(o, STEPS, 0.001)),
    "warmup_cosine": (
        optim.warmup_cosine(0.05, warmup=20, steps=STEPS, initial=0.005, final=0.001),
        lambda o: T.SequentialLR(
            o, [T.LinearLR(o, 0.1, total_iters=20), T.CosineAnnealingLR(o, STEPS - 20, 0.001)], milestones=[20]
        ),
    ),
}


# SequentialLR calls its schedulers with the epoch that torch deprecated.
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_torchs(name: str) -> None:
    schedule, scheduler = SCHEDULES[name]
    reference = torch_run(lambda leaves: torch.optim.SGD(leaves, lr=0.05), start(), scheduler)
    # torch multiplies the rate step by step, which rounds at each.
    assert_same_change(our_run(optim.sgd(schedule), start()), reference, start(), 1e-11)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_float64_and_batched(name: str) -> None:
    schedule = SCHEDULES[name][0]
    steps = torch.arange(0, 2 * STEPS, 37)
    batched = vmap(schedule)(steps)
    assert batched.dtype == torch.float64
    assert torch.equal(batched, torch.stack([schedule(step) for step in steps]))


def test_schedules_end() -> None:
    late = torch.tensor(10 * STEPS)
    assert float(optim.cosine(0.1, steps=10, final=0.02)(late)) == pytest.approx(0.02)
    assert float(optim.warmup_cosine(0.1, warmup=5, steps=10, final=0.02)(late)) == pytest.approx(0.02)


def test_schedules_take_batched_numbers() -> None:
    values = torch.tensor([0.1, 0.2], dtype=torch.float64)
    step = torch.tensor(5)
    assert torch.equal(
        vmap(lambda value: optim.cosine(value, steps=20)(step))(values), optim.cosine(values, steps=20)(step)
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.sgd(-0.1), "lr: got -0.1"),
        (lambda: optim.sgd(0.1, momentum=1.1), "momentum: got 1.1"),
        (lambda: optim.sgd(0.1, weight_decay=-1.0), "weight_decay: got -1.0"),
        (lambda: optim.sgd(0.1, nesterov=True), "momentum: got 0.0"),
        (lambda: untyped.adam("fast"), "lr: got 'fast'"),
        (lambda: optim.adam(0.1, b1=1.0), "b1: got 1.0"),
        (lambda: optim.adamw(0.1, b2=2.0), "b2: got 2.0"),
        (lambda: optim.adamw(0.1, eps=-1e-8), "eps: got -1e-08"),
        (lambda: optim.constant(-1.0), "value: got -1.0"),
        (lambda: optim.step(0.1, every=0), "every: got 0"),
        (lambda: optim.exponential(0.1, factor=-0.5), "factor: got -0.5"),
        (lambda: optim.cosine(0.1, steps=0), "steps: got 0"),
        (lambda: optim.warmup_cosine(0.1, warmup=10, steps=10), "steps: got 10; expected a number above warmup = 10"),
    ],
)
def test_bad_arguments_are_named(make, message: str) -> None:
    with pytest.raises(FuncregError, match=message):
        make()
