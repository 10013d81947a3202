"""Gradient transforms: torch's own clipping and moments, as changes from the start, and batched numbers."""

from typing import Any

import pytest
import torch
from torch.func import grad, vmap

from funcreg import FuncregError, random, transforms, tree

untyped: Any = transforms  # for arguments that pyright would refuse too


def params(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    weight, bias = random.split(random.key(1))
    return {"0.weight": random.normal(weight, (3, 4), dtype=dtype), "0.bias": random.normal(bias, (3,), dtype=dtype)}


def gradients(step: int = 0) -> dict[str, torch.Tensor]:
    return tree.map(lambda leaf: torch.sin(leaf * (step + 1)), params())


def assert_close(actual: tree.Tree, expected: tree.Tree, rtol: float = 1e-12) -> None:
    tree.map(lambda a, b: torch.testing.assert_close(a, b, rtol=rtol, atol=1e-14), actual, expected)


@pytest.mark.parametrize("max_norm", [0.0, 0.5, 2.0, 1e6])
def test_clipping_is_torchs(max_norm: float) -> None:
    grads = gradients()
    leaves = [leaf.clone().requires_grad_() for leaf in grads.values()]
    for leaf, g in zip(leaves, grads.values(), strict=True):
        leaf.grad = g.clone()
    torch.nn.utils.clip_grad_norm_(leaves, max_norm)
    updates, _ = transforms.clip_by_global_norm(max_norm).update(grads, (), params())
    assert_close(updates, dict(zip(grads, [leaf.grad for leaf in leaves], strict=True)))


def test_clipping_leaves_small_gradients_alone_and_is_smooth_at_zero() -> None:
    zeros = tree.zeros_like(params())
    clip = transforms.clip_by_global_norm(1.0)
    assert_close(clip.update(zeros, (), params())[0], zeros)
    slopes = grad(lambda g: sum(leaf.sum() for leaf in clip.update(g, (), params())[0].values()))(zeros)
    assert all(torch.isfinite(leaf).all() for leaf in slopes.values())


NUMBERS = {
    "clip_by_global_norm": (lambda number: transforms.clip_by_global_norm(number), [0.1, 1.0, 9.0]),
    "add_decayed_weights": (lambda number: transforms.add_decayed_weights(number), [0.0, 0.1, 2.0]),
    "momentum": (lambda number: transforms.momentum(number), [0.0, 0.5, 0.99]),
    "dampening": (lambda number: transforms.momentum(0.9, dampening=number), [0.0, 0.5, 1.0]),
    "b1": (lambda number: transforms.scale_by_adam(b1=number), [0.0, 0.5, 0.99]),
    "b2": (lambda number: transforms.scale_by_adam(b2=number), [0.0, 0.5, 0.9999]),
    "eps": (lambda number: transforms.scale_by_adam(eps=number), [0.0, 1e-3, 1.0]),
    "lr": (lambda number: transforms.scale_by_learning_rate(number), [0.0, 0.1, 2.0]),
}


def three_updates(transform: transforms.Transform) -> tree.Tree:
    state, updates = transform.init(params()), gradients()
    for step in range(3):
        updates, state = transform.update(gradients(step), state, params())
    return updates


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_may_be_tensors_and_batched(name: str, dtype: torch.dtype) -> None:
    make, values = NUMBERS[name]
    batched = vmap(lambda number: three_updates(make(number)))(torch.tensor(values, dtype=dtype))
    assert all(leaf.dtype == torch.float64 for leaf in tree.leaves(batched))
    for index, value in enumerate(values):
        # A float32 tensor is exactly the number that it holds, 1e-8 away from the one written here.
        held = torch.tensor(value, dtype=dtype)
        assert_close(tree.index(batched, index), three_updates(make(held)))
        assert_close(tree.index(batched, index), three_updates(make(held.item())))


@pytest.mark.parametrize("name", NUMBERS)
def test_float32_leaves_stay_float32(name: str) -> None:
    make, values = NUMBERS[name]
    for value in (values[1], torch.tensor(values[1], dtype=torch.float64)):
        transform = make(value)
        single = params(torch.float32)
        updates, state = transform.update(single, transform.init(single), single)
        assert {leaf.dtype for leaf in tree.leaves(updates)} == {torch.float32}
        kinds = [(leaf.dtype, leaf.shape) for leaf in tree.leaves(state)]
        assert kinds == [(leaf.dtype, leaf.shape) for leaf in tree.leaves(transform.init(single))]


@pytest.mark.parametrize("name", NUMBERS)
def test_updates_are_differentiable_in_their_numbers(name: str) -> None:
    make, values = NUMBERS[name]
    number = torch.tensor(values[1], dtype=torch.float64)

    def total(number: torch.Tensor) -> torch.Tensor:
        return sum(leaf.sum() for leaf in tree.leaves(three_updates(make(number))))  # type: ignore[return-value]

    step = 1e-6 * float(number)
    slope = (total(number + step) - total(number - step)) / (2 * step)
    # Central differences of a smooth function in float64: 1e-4 is their own error.
    torch.testing.assert_close(grad(total)(number), slope, rtol=1e-4, atol=1e-6)


def test_adam_is_differentiable_where_a_gradient_is_zero() -> None:
    adam = transforms.scale_by_adam()

    def total(g: torch.Tensor) -> torch.Tensor:
        updates, state = adam.update({"w": g}, adam.init({"w": g}), {"w": g})
        updates, _ = adam.update({"w": g * 2}, state, {"w": g})
        return updates["w"].sum()

    for dtype in (torch.float32, torch.float64):
        assert torch.isfinite(grad(total)(torch.tensor([0.0, 1.0], dtype=dtype))).all()


def test_masks_pick_leaves() -> None:
    ones = tree.map(torch.ones_like, params())
    decayed, _ = transforms.add_decayed_weights(0.5, mask=tree.is_weight).update(ones, (), ones)
    assert (decayed["0.weight"] == 1.5).all()
    assert (decayed["0.bias"] == 1.0).all()
    frozen, _ = transforms.freeze(tree.is_weight).update(ones, (), ones)
    assert (frozen["0.weight"] == 0.0).all()
    assert (frozen["0.bias"] == 1.0).all()


def test_a_mask_that_picks_nothing_is_refused() -> None:
    for transform in (
        transforms.freeze(lambda name, leaf: False),
        transforms.add_decayed_weights(0.1, mask=lambda name, leaf: False),
    ):
        with pytest.raises(FuncregError, match=r"mask: .* picks no leaf.*0\.bias"):
            transform.init(params())


def test_the_number_zero_costs_nothing() -> None:
    grads = gradients()
    for transform in (transforms.momentum(0.0), transforms.add_decayed_weights(0.0)):
        state = transform.init(params())
        assert state == ()
        assert transform.update(grads, state, params()) == (grads, ())
    # A state made for a tensor passes through, so that a number and a tensor may follow each other.
    state = transforms.momentum(torch.tensor(0.0)).init(params())
    assert transforms.momentum(0.0).update(grads, state, params())[1] is state


def test_a_schedule_counts_its_updates() -> None:
    transform = transforms.scale_by_learning_rate(lambda step: 1.0 / (1 + step))
    state, seen = transform.init(params()), []
    for _ in range(3):
        updates, state = transform.update({"w": torch.ones(())}, state, params())
        seen.append(float(updates["w"]))
    assert seen == pytest.approx([-1.0, -1 / 2, -1 / 3])


def test_updates_leave_their_arguments_alone() -> None:
    transform = transforms.chain(
        transforms.clip_by_global_norm(0.1),
        transforms.add_decayed_weights(0.1),
        transforms.momentum(0.9, dampening=0.1),
        transforms.scale_by_adam(),
        transforms.scale_by_learning_rate(0.1),
    )
    grads, weights = gradients(), params()
    _, state = transform.update(grads, transform.init(weights), weights)
    before = tree.clone((grads, state, weights))
    transform.update(grads, state, weights)
    assert all(
        torch.equal(a, b) for a, b in zip(tree.leaves(before), tree.leaves((grads, state, weights)), strict=True)
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: transforms.clip_by_global_norm(-1.0), "max_norm: got -1.0"),
        (lambda: untyped.clip_by_global_norm("1"), "max_norm: got '1'"),
        (lambda: transforms.add_decayed_weights(-0.1), "decay: got -0.1"),
        (lambda: untyped.add_decayed_weights(0.1, mask={"a": True}), "mask: got"),
        (lambda: transforms.momentum(1.5), "decay: got 1.5"),
        (lambda: transforms.momentum(0.9, dampening=-1.0), "dampening: got -1.0"),
        (lambda: transforms.momentum(0.9, dampening=0.5, nesterov=True), "dampening: got 0.5"),
        (lambda: transforms.scale_by_adam(b1=1.0), "b1: got 1.0"),
        (lambda: transforms.scale_by_adam(b2=-0.1), "b2: got -0.1"),
        (lambda: transforms.scale_by_adam(eps=float("nan")), "eps: got nan"),
        (lambda: transforms.scale_by_learning_rate(-1.0), "lr: got -1.0"),
        (lambda: untyped.freeze("bias"), "mask: got 'bias'"),
        (lambda: untyped.chain(transforms.momentum(0.9), lambda g: g), r"transforms\[1\]: got"),
        (lambda: transforms.chain(transforms.momentum(0.9)).update({}, (), {}), "state: got a tuple of 0"),
    ],
)
def test_bad_arguments_are_named(make, message: str) -> None:
    with pytest.raises(FuncregError, match=message):
        make()


def test_a_tensor_decay_of_zero_is_the_number_zero_whatever_the_dampening() -> None:
    params, grads = {"w": torch.zeros(2)}, {"w": torch.tensor([1.0, -2.0])}
    for decay in (0.0, torch.tensor(0.0)):
        transform = transforms.momentum(decay, dampening=0.5)
        state = transform.init(params)
        for _ in range(3):
            updates, state = transform.update(grads, state, params)
            assert torch.equal(updates["w"], grads["w"])
