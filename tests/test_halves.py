"""16 bits: what float32 gives, rounded; and trees that do not fit are refused by the name of the leaf."""

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import funcreg as fr
from funcreg import FuncregError, optim, random, train, transforms, tree
from tests.contract.case import Case
from tests.refusals import bad
from tests.test_contract import CASES

HALVES = (torch.float16, torch.bfloat16)


def last_update(optimizer: transforms.Transform, gradient: float, dtype: torch.dtype, steps: int) -> float:
    """After so many equal gradients, of a parameter that stays at 0."""
    params = {"w": torch.zeros(1, dtype=dtype)}
    state, updates = optimizer.init(params), params
    for _ in range(steps):
        updates, state = optimizer.update({"w": torch.full((1,), gradient, dtype=dtype)}, state, params)
    assert updates["w"].dtype == dtype
    return float(updates["w"])


@pytest.mark.parametrize(
    ("optimizer", "gradient", "dtype", "steps", "expected"),
    [
        (optim.adam(1.0), 1e-3, torch.float16, 1, -1.0),
        (optim.adam(1.0), 1e-2, torch.float16, 100, -1.0),
        (optim.adam(1e-3 / 3), 1.0, torch.bfloat16, 3000, -1e-3 / 3),
        (optim.adamw(1.0), 1e-7, torch.float16, 10, -1 / (1 + 1e-8 / 1.19e-7)),
        (optim.nadam(1.0), 1e-3, torch.float16, 1, -1.0565),
        (optim.radam(1.0), 1e-3, torch.float16, 1, -1e-3),
        (optim.lion(1e-3), 1e-7, torch.float16, 1, -1e-3),
        (optim.rmsprop(1.0), 1e-2, torch.float16, 1, -10.0),
        (optim.rmsprop(1.0, centered=True), 1e-2, torch.float16, 1, -1 / (0.01 - 0.0001) ** 0.5),
        (optim.sgd(1e-4, momentum=0.999), 1.0, torch.bfloat16, 3000, -0.1 * (1 - 0.999**3000)),
        (optim.adam(1.0), 6e4, torch.float16, 1, -1.0),
    ],
)
def test_an_update_of_16_bits_is_that_of_exact_moments_rounded(
    optimizer: transforms.Transform, gradient: float, dtype: torch.dtype, steps: int, expected: float
) -> None:
    assert last_update(optimizer, gradient, dtype, steps) == pytest.approx(expected, rel=torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", HALVES)
def test_norms_of_16_bits_do_not_overflow(dtype: torch.dtype) -> None:
    grads = {"w": torch.tensor([60000.0, 60000.0], dtype=dtype)}
    (value,) = {float(each) for each in grads["w"]}
    norm = tree.norm(grads)
    assert norm.dtype == torch.float32
    assert float(norm) == pytest.approx(value * 2**0.5, rel=1e-6)
    clipped, _ = transforms.clip_by_global_norm(1.0).update(grads, (), grads)
    assert torch.equal(clipped["w"], torch.full((2,), 0.5**0.5, dtype=dtype))
    each, _ = transforms.adaptive_clip(0.01).update(grads, (), grads)
    torch.testing.assert_close(each["w"], torch.full((2,), 0.01 * value, dtype=dtype))
    examples, _ = transforms.clip_per_example(1.0).update({"w": grads["w"].expand(3, 2)}, (), grads)
    assert torch.equal(examples["w"], clipped["w"])


def moved(optimizer: transforms.Transform, params: Any, steps: int, *, jit: bool = False) -> Any:
    def step(params: Any, state: Any) -> Any:
        updates, state = optimizer.update(tree.map(torch.ones_like, params), state, params)
        return optim.apply_updates(params, updates), state

    state, step = optimizer.init(params), fr.jit(step) if jit else step
    for _ in range(steps):
        params, state = step(params, state)
    return params


@pytest.mark.parametrize("dtype", HALVES)
def test_small_updates_add_up_in_16_bits(dtype: torch.dtype) -> None:
    """3,000 steps of a third of a thousandth, from places where a step is a tenth of the last bit."""
    start = {"w": torch.tensor([0.0, 1.0, -1.0], dtype=dtype)}
    optimizer = transforms.master_weights(optim.adam(1e-3 / 3))
    exact = moved(optim.adam(1e-3 / 3), tree.cast(start, torch.float32), 3000)
    assert exact["w"].tolist() == pytest.approx([-1.0, 0.0, -2.0], abs=1e-4)
    assert torch.equal(moved(optimizer, start, 3000)["w"], exact["w"].to(dtype))
    assert not torch.equal(moved(optim.adam(1e-3 / 3), start, 300)["w"], moved(optimizer, start, 300)["w"])


def test_the_training_step_moves_exact_weights_by_itself() -> None:
    def loss_fn(params: Any, state: Any, batch: Any, /, *, key: Tensor, hparams: Any) -> Any:
        return params["w"].float().sum(), (state, {})

    optimizer = optim.sgd(1e-3)
    step = train.make_step(loss_fn, optimizer)
    start = train.init({"w": torch.ones(2, dtype=torch.bfloat16)}, {}, optimizer, key=random.key(0))
    stacked = train.init(tree.stack([start.params] * 2), {}, optimizer, key=random.key(0), members=2)
    alone, both, metrics = start, stacked, {}
    for _ in range(500):
        alone, metrics = step(alone, None)
        both, _ = torch.func.vmap(step, in_dims=(0, None))(both, None)
    assert alone.params["w"].tolist() == [0.5, 0.5]
    assert torch.equal(both.params["w"], torch.full((2, 2), 0.5, dtype=torch.bfloat16))
    assert metrics["grad_norm"].dtype == torch.float32


def test_what_else_moves_a_weight_is_where_it_goes_on_from() -> None:
    optimizer = transforms.master_weights(optim.sgd(2.0**-10))
    params = {"w": torch.ones(2, dtype=torch.bfloat16)}
    state, ones = optimizer.init(params), tree.map(torch.ones_like, params)
    for _ in range(2):  # two of the four that are half of the last bit below 1
        updates, state = optimizer.update(ones, state, params)
        params = optim.apply_updates(params, updates)
    assert params["w"].tolist() == [1.0, 1.0]
    params = {"w": torch.tensor([1.0, 2.0], dtype=torch.bfloat16)}
    _, state = optimizer.update(ones, state, params)
    assert state.exact["w"].tolist() == [1 - 3 * 2.0**-10, 2 - 2.0**-10]


def test_a_tree_without_16_bits_knows_nothing_of_exact_weights() -> None:
    params = {"w": torch.ones(2)}
    plain, wrapped = optim.adam(0.1), transforms.master_weights(optim.adam(0.1))
    assert isinstance(wrapped.init(params)[1], transforms.AdamState)
    assert torch.equal(moved(wrapped, params, 3)["w"], moved(plain, params, 3)["w"])


@pytest.mark.skipif(not fr.can_compile(), reason="needs a C++ compiler")
def test_compiled_updates_of_16_bits_are_the_eager_ones() -> None:
    params = {"w": random.normal(random.key(1), (8,), dtype=torch.bfloat16)}
    optimizer = transforms.master_weights(
        transforms.chain(transforms.clip_by_global_norm(1.0), optim.adamw(0.01, weight_decay=0.1))
    )
    assert torch.equal(moved(optimizer, params, 5, jit=True)["w"], moved(optimizer, params, 5)["w"])


# Every public function

# module: why the result in 16 bits is not that of float32, rounded
NOT_OURS = {
    "adversarial": "the loss is the caller's, computed in 16 bits",
    "distributed": "the loss is the caller's, computed in 16 bits",
    "model": "the module's own layers compute in 16 bits",
    "from_module": "the module's own layers compute in 16 bits",
    "sharpness": "the loss is the caller's, computed in 16 bits",
    "train": "the loss is the caller's, computed in 16 bits",
    "uncertainty": "the model is the caller's, computed in 16 bits",
    "averaging": "the case multiplies its parameters in 16 bits",
    "optim": "the second step starts from rounded parameters; the updates are compared above",
    "transforms": "the second step starts from rounded parameters; the updates are compared above",
    "losses.cross_entropy": "the case takes an exponential in 16 bits",
    "jit": "the function is the caller's",
    "testing": "the function is the caller's",
    "penalties.jacobian": "the function is the caller's",
    "penalties.gradient_penalty": "the function is the caller's",
    "augment.apply_affine": "the case's angles differ when they are rounded",
}
ROUNDED = [case for case in CASES if case.inputs and not {case.name, case.name.split(".")[0]} & NOT_OURS.keys()]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("case", ROUNDED, ids=str)
def test_16_bits_give_what_float32_gives_rounded(case: Case, dtype: torch.dtype) -> None:
    key = {"key": random.key(5)} if case.keyed else {}
    others = {name: torch.tensor(values[1], dtype=torch.float64) for name, values in case.settings.items()} | key
    narrow = tree.cast(dict(case.inputs), dtype)
    ours_and_theirs = case.call(**narrow, **others), case.call(**tree.cast(narrow, torch.float32), **others)
    for ours, theirs in zip(*map(tree.leaves, ours_and_theirs), strict=True):
        if ours.is_floating_point():
            # Sums in another order fall on the other side of a rounding now and then.
            eps = torch.finfo(ours.dtype).eps
            torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=eps, atol=eps / 8)
        else:
            assert torch.equal(ours, theirs)


# Trees that do not fit

PARAMS = {"a": torch.ones(2, 3), "inner": {"b": torch.ones(3)}}
GRADS = tree.map(torch.ones_like, PARAMS)
TRANSFORMS: dict[str, transforms.Transform] = {
    "sgd": optim.sgd(0.1),
    "sgd with momentum": optim.sgd(0.1, momentum=0.9),
    "adam": optim.adam(0.1),
    "adamw": optim.adamw(0.1),
    "rmsprop": optim.rmsprop(0.1, centered=True, momentum=0.5),
    "lion": optim.lion(0.1),
    "nadam": optim.nadam(0.1),
    "radam": optim.radam(0.1),
    "muon": optim.muon(0.1),
    "partition": transforms.partition({"a": optim.sgd(0.1), "b": optim.adam(0.1)}, lambda name, leaf: name[-1]),
    "masked": transforms.masked(optim.sgd(0.1, momentum=0.9), lambda name, leaf: name == "a"),
    "accumulate": transforms.accumulate(optim.adam(0.1), 2),
    "skip_nonfinite": transforms.skip_nonfinite(optim.sgd(0.1)),
    "master_weights": transforms.master_weights(optim.sgd(0.1)),
    "clip_by_global_norm": transforms.clip_by_global_norm(1.0),
    "clip_by_value": transforms.clip_by_value(1.0),
    "adaptive_clip": transforms.adaptive_clip(0.1),
    "add_decayed_weights": transforms.add_decayed_weights(0.1),
    "freeze": transforms.freeze(lambda name, leaf: name == "a"),
    "momentum": transforms.momentum(0.9),
    "scale_by_adam": transforms.scale_by_adam(),
    "scale_by_rms": transforms.scale_by_rms(),
    "scale_by_learning_rate": transforms.scale_by_learning_rate(0.1),
    "a schedule": transforms.scale_by_learning_rate(optim.constant(0.1)),
    "add_noise": transforms.add_noise(0.1, key=random.key(0)),
    "chain": transforms.chain(transforms.clip_by_value(1.0), transforms.momentum(0.9)),
}
WRONG_GRADS = {
    "grads's inner.b": [
        GRADS | {"inner": {"b": torch.ones(1)}},
        GRADS | {"inner": {"b": torch.ones(2, 3)}},
        GRADS | {"inner": {"b": torch.ones(3, dtype=torch.int64)}},
        GRADS | {"inner": {"b": torch.ones(3, dtype=torch.complex64)}},
        GRADS | {"inner": {"b": 1.0}},
        GRADS | {"inner": {"b": "text"}},
        GRADS | {"inner": {"b": None}},
        GRADS | {"inner": {"b": {"c": torch.ones(3)}}},
    ],
    "grads": [
        {"a": GRADS["a"]},
        GRADS | {"c": torch.ones(1)},
        {},
        None,
        "text",
        1.0,
        [torch.ones(2, 3), torch.ones(3)],
        torch.ones(2, 3),
    ],
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_gradients_that_do_not_fit_are_refused_by_name(name: str) -> None:
    transform = TRANSFORMS[name]
    state = transform.init(PARAMS)
    for argument, trees in WRONG_GRADS.items():
        for grads in trees:
            with pytest.raises(FuncregError, match=f"^{argument}: got .*; expected"):
                transform.update(grads, state, PARAMS)
    for params, argument in (([1.0], "0"), ({"w": torch.ones(2, dtype=torch.int64)}, "w"), ({"w": 1j}, "w")):
        with pytest.raises(FuncregError, match=f"^params's {argument}: got .*; expected a dense floating-point tensor"):
            transform.init(params)
    for params in ("text", None, 3, torch.ones(1, dtype=torch.complex64)):
        with pytest.raises(FuncregError, match=r"^params: got"):
            transform.init(params)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_state_of_other_parameters_is_refused(name: str) -> None:
    transform = TRANSFORMS[name]
    own, other = transform.init(PARAMS), transform.init({"a": torch.ones(3, 2), "inner": {"b": torch.ones(2)}})
    kept = [leaf for leaf in tree.leaves(own) if leaf.ndim]
    if kept:
        for state in (other, tree.map(lambda leaf: leaf[..., :1] if leaf.ndim else leaf, own)):
            with pytest.raises(FuncregError, match=r"^state\.\w+.*: got .*init of the same transform|^state\.\w+: got"):
                transform.update(GRADS, state, PARAMS)
    if own != ():
        for state in ((), None, "text"):
            with pytest.raises(FuncregError, match=r"^state: got .*; expected"):
                transform.update(GRADS, state, PARAMS)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_parameters_are_nothing_to_do(name: str) -> None:
    if name in ("freeze", "masked", "partition"):  # which refuse labels that no leaf has
        return
    transform = TRANSFORMS[name]
    updates, _ = transform.update({}, transform.init({}), {})
    assert updates == {}


def test_gradients_of_an_ordered_dict_meet_a_dict_by_name() -> None:
    params = {"a": torch.ones(2), "b": torch.ones(2)}
    grads = OrderedDict(b=torch.full((2,), 3.0), a=torch.full((2,), 2.0))
    for optimizer in (optim.adam(0.1), optim.sgd(1.0)):
        expected, _ = optimizer.update(dict(grads), optimizer.init(params), params)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        assert all(torch.equal(updates[name], expected[name]) for name in params)


def test_members_and_compiled_programs_are_checked_too() -> None:
    params, optimizer = {"w": torch.ones(4, 3)}, optim.adam(0.1)
    state = torch.func.vmap(optimizer.init)(params)
    wrong = {"w": torch.ones(4, 1)}
    with pytest.raises(FuncregError, match=r"^grads's w: got .*; expected shape \(3,\)"):
        torch.func.vmap(optimizer.update)(wrong, state, params)


def test_optimizers_of_torch_are_refused() -> None:
    theirs = torch.optim.Adam([torch.ones(1, requires_grad=True)])
    params, key = {"w": torch.ones(1)}, random.key(0)
    calls: list[Callable[[], Any]] = [
        lambda: train.init(params, {}, bad(theirs), key=key),
        lambda: train.init(params, {}, bad(torch.optim.Adam), key=key),
        lambda: train.make_step(bad(print), bad(theirs)),
        lambda: train.make_step(bad(print), bad(torch.nn.Linear(1, 1))),
        functools.partial(transforms.accumulate, bad(theirs), 2),
    ]
    for call in calls:
        with pytest.raises(FuncregError, match=r"^(optimizer|transform): got .*; expected a Transform"):
            call()
