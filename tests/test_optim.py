"""Optimizers and schedules beside what `oracles/optim.py` compares: numbers as tensors, batched, compiled; masks."""

from typing import Any

import pytest
import torch
from torch.func import vmap

import funcreg as fr
from funcreg import FuncregError, optim, tree
from tests.oracles.optim import SCHEDULES, STEPS, loss, our_run, start

untyped: Any = optim  # for arguments that pyright cannot follow, or would refuse too


def assert_same_change(ours: tree.Tree, reference: tree.Tree, begin: tree.Tree, tolerance: float) -> None:
    change = tree.norm(tree.map(torch.sub, reference, begin))
    error = tree.norm(tree.map(torch.sub, ours, reference))
    assert change > 0.1, "the reference did not move"
    assert error <= tolerance * change, f"relative error {float(error / change):.1e}"


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
    for make in (optim.sgd, optim.adam, optim.adamw, optim.rmsprop):
        optimizer = make(0.1, weight_decay=0.5, mask=tree.is_weight)
        updates, _ = optimizer.update(zeros, optimizer.init(start()), start())
        assert (updates["bias"] == 0).all()
        assert (updates["weight"] != 0).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_float64_and_batched(name: str) -> None:
    schedule = SCHEDULES[name][0]
    steps = torch.arange(0, 2 * STEPS, 37)
    batched = vmap(schedule)(steps)
    assert batched.dtype == torch.float64
    assert torch.equal(batched, torch.stack([schedule(step) for step in steps]))


def test_schedules_of_an_order_that_cannot_be_read_show_it() -> None:
    schedules = (
        lambda turn: optim.warmup_cosine(1.0, warmup=turn, steps=5),
        lambda turn: optim.join_schedules([optim.constant(0.1)] * 3, [turn, 5]),
    )
    turns = torch.tensor([7.0, 3.0])
    for make in schedules:
        for step in (0, 20):
            rates = torch.func.vmap(lambda turn, make=make, step=step: make(turn)(torch.tensor(step)))(turns)
            assert rates.isnan().tolist() == [True, False]


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
        (lambda: optim.rmsprop(0.1, decay=1.0), "decay: got 1.0"),
        (lambda: optim.constant(-1.0), "value: got -1.0"),
        (lambda: optim.step(0.1, every=0), "every: got 0"),
        (lambda: optim.exponential(0.1, factor=-0.5), "factor: got -0.5"),
        (lambda: optim.cosine(0.1, steps=0), "steps: got 0"),
        (
            lambda: optim.warmup_cosine(0.1, warmup=10, steps=10),
            "warmup: got 10 .*; expected a number below steps",
        ),
    ],
)
def test_bad_arguments_are_named(make, message: str) -> None:
    with pytest.raises(FuncregError, match=message):
        make()
