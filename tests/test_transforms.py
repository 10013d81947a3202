"""Gradient transforms beside what `oracles/transforms.py` compares: batched numbers, edges, masks, state."""

from typing import Any

import pytest
import torch
from torch.func import grad, vmap

from funcreg import FuncregError, random, transforms, tree

untyped: Any = transforms  # for arguments that pyright would refuse too
KEY = random.key(0)


def params(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    weight, bias = random.split(random.key(1))
    return {"0.weight": random.normal(weight, (3, 4), dtype=dtype), "0.bias": random.normal(bias, (3,), dtype=dtype)}


def gradients(step: int = 0) -> dict[str, torch.Tensor]:
    return tree.map(lambda leaf: torch.sin(leaf * (step + 1)), params())


def assert_close(actual: tree.Tree, expected: tree.Tree, rtol: float = 1e-12) -> None:
    tree.map(lambda a, b: torch.testing.assert_close(a, b, rtol=rtol, atol=1e-14), actual, expected)


def test_clipping_leaves_small_gradients_alone_and_is_smooth_at_zero() -> None:
    zeros = tree.zeros_like(params())
    clip = transforms.clip_by_global_norm(1.0)
    assert_close(clip.update(zeros, (), params())[0], zeros)
    slopes = grad(lambda g: sum(leaf.sum() for leaf in clip.update(g, (), params())[0].values()))(zeros)
    assert all(torch.isfinite(leaf).all() for leaf in slopes.values())


def same_bits(one: tree.Tree, other: tree.Tree) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tree.leaves(one), tree.leaves(other), strict=True))


NUMBERS = {
    "clip_by_global_norm": (lambda number: transforms.clip_by_global_norm(number), [0.1, 1.0, 9.0]),
    "add_decayed_weights": (lambda number: transforms.add_decayed_weights(number), [0.0, 0.1, 2.0]),
    "momentum": (lambda number: transforms.momentum(number), [0.0, 0.5, 0.99]),
    "dampening": (lambda number: transforms.momentum(0.9, dampening=number), [0.0, 0.5, 1.0]),
    "b1": (lambda number: transforms.scale_by_adam(b1=number), [0.0, 0.5, 0.99]),
    "b2": (lambda number: transforms.scale_by_adam(b2=number), [0.0, 0.5, 0.9999]),
    "eps": (lambda number: transforms.scale_by_adam(eps=number), [0.0, 1e-3, 1.0]),
    "lr": (lambda number: transforms.scale_by_learning_rate(number), [0.0, 0.1, 2.0]),
    "limit": (lambda number: transforms.clip_by_value(number), [0.0, 0.35, 2.0]),
    "ratio": (lambda number: transforms.adaptive_clip(number), [0.0, 0.1, 2.0]),
    "clip eps": (lambda number: transforms.adaptive_clip(0.1, eps=number), [0.0, 5.0, 1e-3]),
    "std": (lambda number: transforms.add_noise(number, key=random.key(2)), [0.0, 0.1, 2.0]),
    "rms decay": (lambda number: transforms.scale_by_rms(number), [0.0, 0.5, 0.99]),
    "rms eps": (lambda number: transforms.scale_by_rms(0.9, number, centered=True), [0.0, 1e-3, 1.0]),
    "lr, accumulated": (
        lambda number: transforms.accumulate(transforms.scale_by_learning_rate(number), 3),
        [0.0, 0.1, 2.0],
    ),
    "lr, finite": (
        lambda number: transforms.skip_nonfinite(transforms.scale_by_learning_rate(number)),
        [0.0, 0.1, 2.0],
    ),
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
    transform, weights = transforms.scale_by_learning_rate(lambda step: 1.0 / (1 + step)), {"w": torch.ones(())}
    state, seen = transform.init(weights), []
    for _ in range(3):
        updates, state = transform.update({"w": torch.ones(())}, state, weights)
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


def test_clipping_by_value_keeps_what_is_not_a_number() -> None:
    grads = {"w": torch.tensor([torch.nan, torch.inf, -torch.inf, 0.5])}
    updates, _ = transforms.clip_by_value(1.0).update(grads, (), grads)
    assert torch.equal(updates["w"].nan_to_num(9.0), torch.tensor([9.0, 1.0, -1.0, 0.5]))


def test_adaptive_clipping_is_by_unit_and_leaves_out_what_the_mask_does() -> None:
    weights = {"a.weight": torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "a.bias": torch.tensor(2.0)}
    grads = {"a.weight": torch.tensor([[0.05, 0.0], [3.0, 4.0]]), "a.bias": torch.tensor(7.0)}
    updates, _ = transforms.adaptive_clip(0.1, eps=0.01).update(grads, (), weights)
    # Below its limit of 0.1; above eps's limit of 0.001; a scalar, which is one unit.
    expected = {"a.weight": torch.tensor([[0.05, 0.0], [0.0006, 0.0008]]), "a.bias": torch.tensor(0.2)}
    assert_close(updates, expected, rtol=1e-6)
    updates, _ = transforms.adaptive_clip(0.1, eps=0.01, mask=tree.is_weight).update(grads, (), weights)
    assert updates["a.bias"] == 7.0
    frozen = transforms.adaptive_clip(0.0).update(grads, (), weights)[0]
    assert all((leaf == 0).all() for leaf in frozen.values())


def test_noise_is_drawn_from_the_key_folded_with_the_update() -> None:
    transform, grads = transforms.add_noise(0.3, key=random.key(5)), gradients()
    state = transform.init(params())
    for step in range(4):
        updates, state = transform.update(grads, state, params())
        draws = random.normal(random.fold_in(random.key(5), step), (15,), dtype=torch.float64)
        # In the order of tree.leaves: the bias comes first.
        assert_close(updates["0.bias"] - grads["0.bias"], 0.3 * draws[:3])
        assert_close(updates["0.weight"] - grads["0.weight"], 0.3 * draws[3:].reshape(3, 4))
    assert int(state.step) == 4


def test_noise_differs_by_member_and_is_wide_for_16_bits() -> None:
    narrow = tree.cast(params(), torch.bfloat16)
    keys = random.split(random.key(1), 3)

    def noisy(key: torch.Tensor, like: tree.Tree) -> tree.Tree:
        transform = transforms.add_noise(1.0, key=key)
        return transform.update(tree.zeros_like(like), transform.init(like), like)[0]

    batched = vmap(lambda key: noisy(key, params()))(keys)
    for member, key in enumerate(keys):
        assert_close(tree.index(batched, member), noisy(key, params()))
    assert len(set(batched["0.weight"][:, 0, 0].tolist())) == 3
    single = tree.cast(noisy(keys[0], tree.cast(params(), torch.float32)), torch.bfloat16)
    assert all(torch.equal(a, b) for a, b in zip(tree.leaves(noisy(keys[0], narrow)), tree.leaves(single), strict=True))


def test_a_variance_that_rounding_makes_negative_has_a_root() -> None:
    transform, grads = transforms.scale_by_rms(0.5, 1e-3, centered=True), {"w": torch.tensor([0.1, 0.3, 7.7, 0.0])}
    state, updates = transform.init(grads), grads
    for _ in range(200):
        updates, state = transform.update(grads, state, grads)
    assert (state.square["w"] - state.mean["w"] ** 2 < 0).any(), "nothing was tested"
    assert torch.isfinite(updates["w"]).all()


def broken(value: float, leaf: str = "0.bias") -> dict[str, torch.Tensor]:
    grads = tree.clone(gradients())
    grads[leaf][1] = value
    return grads


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_skipped_and_counted(value: float) -> None:
    inner = transforms.chain(transforms.momentum(0.9), transforms.scale_by_adam(), transforms.add_noise(0.1, key=KEY))
    transform = transforms.skip_nonfinite(inner)
    state, plain = transform.init(params()), inner.init(params())
    for step in range(6):
        if step in (0, 3, 4):
            before = state.inner
            updates, state = transform.update(broken(value), state, params())
            assert all((leaf == 0).all() for leaf in updates.values())
            assert same_bits(before, state.inner)
        updates, state = transform.update(gradients(step), state, params())
        expected, plain = inner.update(gradients(step), plain, params())
        assert same_bits((updates, state.inner), (expected, plain))
    assert int(state.skipped) == 3


def test_finite_gradients_that_overflow_the_state_are_skipped() -> None:
    """1e30 squared is infinite in float32, and Adam would never move again."""
    transform = transforms.skip_nonfinite(transforms.scale_by_adam())
    params, huge = {"w": torch.ones(2)}, {"w": torch.tensor([1.0, 1e30])}
    updates, state = transform.update(huge, transform.init(params), params)
    assert (updates["w"] == 0).all()
    assert int(state.skipped) == 1
    updates, _ = transform.update({"w": torch.ones(2)}, state, params)
    torch.testing.assert_close(updates["w"], torch.ones(2))


def test_members_skip_each_on_their_own() -> None:
    transform = transforms.skip_nonfinite(transforms.momentum(0.9))
    grads = tree.stack([gradients(), broken(torch.nan), gradients(1)])
    states = vmap(lambda _: transform.init(params()))(torch.arange(3))
    updates, states = vmap(lambda g, s: transform.update(g, s, params()))(grads, states)
    assert states.skipped.tolist() == [0, 1, 0]
    assert (updates["0.weight"][1] == 0).all()
    assert same_bits(tree.index(updates, 2), gradients(1))


def test_accumulation_acts_once_in_its_steps() -> None:
    inner = transforms.chain(transforms.momentum(0.9), transforms.scale_by_learning_rate(lambda step: 1.0 / (1 + step)))
    transform = transforms.accumulate(inner, 3)
    state, plain = transform.init(params()), inner.init(params())
    for group in range(4):
        parts = [gradients(3 * group + part) for part in range(3)]
        for part in parts[:2]:
            before = state.inner
            updates, state = transform.update(part, state, params())
            assert all((leaf == 0).all() for leaf in updates.values())
            assert same_bits(before, state.inner)
        updates, state = transform.update(parts[2], state, params())
        expected, plain = inner.update(tree.map(lambda *g: torch.stack(g).mean(0), *parts), plain, params())
        assert_close((updates, state.inner), (expected, plain))
        assert int(state.count) == 0
        assert all((leaf == 0).all() for leaf in state.total.values())


def test_members_accumulate_different_numbers_of_steps() -> None:
    steps = torch.tensor([1, 2, 3])

    def updates(steps: torch.Tensor) -> list[tree.Tree]:
        transform = transforms.accumulate(transforms.momentum(0.5), steps)
        state, each = transform.init(params()), []
        for step in range(6):
            update, state = transform.update(gradients(step), state, params())
            each.append(update)
        return each

    batched = vmap(updates)(steps)
    for member, count in enumerate(steps.tolist()):
        assert_close(tree.index(batched, member), updates(count))


def test_accumulation_of_16_bits_is_in_float32() -> None:
    """In bfloat16 a total of 1 would not feel 0.0039, half of its last bit."""
    params, small = {"w": torch.ones(1, dtype=torch.bfloat16)}, 2.0**-8
    transform, updates = transforms.accumulate(transforms.scale_by_learning_rate(1.0), 257), params
    state = transform.init(params)
    for gradient in [1.0, *[small] * 256]:
        updates, state = transform.update({"w": torch.full((1,), gradient, dtype=torch.bfloat16)}, state, params)
    assert updates["w"].dtype == torch.bfloat16
    assert torch.equal(updates["w"], torch.tensor([-2 / 257]).bfloat16())


def test_a_bad_micro_batch_is_left_out_of_the_mean() -> None:
    transform = transforms.skip_nonfinite(transforms.accumulate(transforms.scale_by_learning_rate(1.0), 2))
    state, updates = transform.init(params()), params()
    for grads in (gradients(0), broken(torch.inf), gradients(1)):
        updates, state = transform.update(grads, state, params())
    assert_close(updates, tree.map(lambda a, b: -(a + b) / 2, gradients(0), gradients(1)))
    assert int(state.skipped) == 1


def test_no_example_moves_the_mean_by_more_than_its_share() -> None:
    limit, weights = 0.5, params()
    grads = {
        name: random.normal(random.key(9), (6, *leaf.shape), dtype=torch.float64) for name, leaf in weights.items()
    }
    clip = transforms.clip_per_example(limit)
    first, _ = clip.update(grads, (), weights)
    moved = tree.map(lambda g: torch.cat((1e6 * g[:1], g[1:])), grads)
    second, _ = clip.update(moved, (), weights)
    # Its direction stays, and its norm was at the limit already.
    assert_close(first, second, rtol=1e-5)
    gone = tree.map(lambda g: torch.cat((0 * g[:1], g[1:])), grads)
    assert tree.norm(tree.map(torch.sub, first, clip.update(gone, (), weights)[0])) <= limit / 6
    scalar, _ = clip.update({"w": torch.tensor([0.1, 3.0])}, (), {"w": torch.tensor(0.0)})
    torch.testing.assert_close(scalar["w"], torch.tensor(0.3))


def test_per_example_gradients_of_16_bits_are_averaged_in_float32() -> None:
    """The mean of 512 rounded in bfloat16 would be off by more than its last bit."""
    grads = {"w": random.normal(random.key(2), (512, 3), dtype=torch.bfloat16) + 1}
    weights = {"w": torch.zeros(3, dtype=torch.bfloat16)}
    updates, _ = transforms.clip_per_example(1e6).update(grads, (), weights)
    assert torch.equal(updates["w"], grads["w"].float().mean(0).bfloat16())


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


@pytest.mark.parametrize(
    "transform",
    [transforms.clip_by_global_norm(1.0), transforms.adaptive_clip(0.1), transforms.orthogonalize()],
    ids=["clip_by_global_norm", "adaptive_clip", "orthogonalize"],
)
def test_gradients_whose_squares_float32_does_not_hold_are_those_of_float64(transform: transforms.Transform) -> None:
    params, grads = {"w": torch.eye(2)}, {"w": torch.tensor([[3.0, 4.0], [-1.0, 2.0]])}
    for size in (1e-10, 1e15, 1e22, 1e37):
        ours, exact = (
            transform.update(tree.cast({"w": size * grads["w"]}, dtype), (), tree.cast(params, dtype))[0]["w"]
            for dtype in (torch.float32, torch.float64)
        )
        torch.testing.assert_close(ours, exact.float(), rtol=1e-5, atol=0.0)
    beyond, _ = transform.update({"w": torch.full((2, 2), 3e38)}, transform.init(params), params)
    assert beyond["w"].isnan().all(), "not zeros"
