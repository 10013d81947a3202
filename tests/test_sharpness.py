"""SAM beside what `oracles/sharpness.py` compares: closed forms, state and noise, derivatives from outside, members."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, grad_and_value, hessian, jvp, vmap

import funcreg as fr
from funcreg import optim, random, sharpness, train, tree
from funcreg.train import Batch

needs_compiler = pytest.mark.skipif(not fr.can_compile(), reason="needs a C++ compiler")
MODEL = fr.from_module(
    lambda: nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 1))
)
KEY = random.key(8)
X = random.normal(random.key(1), (8, 3), dtype=torch.float64)
DATA = Batch(X, torch.sin(X.sum(dim=1, keepdim=True)))
PARAMS, STATE = (tree.cast(each, torch.float64) for each in MODEL.init(random.key(0)))
HPARAMS = {name: torch.tensor(value).double() for name, value in {"radius": 0.3, "lr": 0.1, "l2": 0.02}.items()}


def loss_fn(params, state, batch, *, key, hparams):
    predictions, state = MODEL.apply(params, state, batch.x, key=key, train=True)
    loss = fr.losses.mse(predictions, batch.y) + fr.penalties.l2(params, hparams["l2"])
    return loss, (state, {"mean": predictions.mean()})


def optimizer(hparams):
    return optim.sgd(hparams["lr"], momentum=0.9)


STEPS = {
    adaptive: train.make_step(sharpness.sam(loss_fn, lambda h: h["radius"], adaptive=adaptive), optimizer)
    for adaptive in (False, True)
}


def begin() -> train.TrainState:
    return train.init(PARAMS, STATE, optimizer, key=random.key(3), hparams=HPARAMS)


def batches(steps: int) -> Batch:
    return tree.stack([tree.map(lambda leaf, step=step: leaf + 0.1 * step, DATA) for step in range(steps)])


def assert_close(actual: tree.Tree, expected: tree.Tree, tolerance: float = 1e-12) -> None:
    tree.map(lambda a, b: torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance), actual, expected)


def quadratic(params, state, batch, *, key, hparams):
    curvature = torch.tensor([1.0, 4.0], dtype=torch.float64)
    return (curvature * params["w"] ** 2).sum() / 2, (state, {})


@pytest.mark.parametrize("adaptive", [False, True])
def test_on_a_quadratic_the_gradient_is_that_of_the_worst_neighbour(adaptive: bool) -> None:
    w, curvature = torch.tensor([3.0, -1.0], dtype=torch.float64), torch.tensor([1.0, 4.0], dtype=torch.float64)
    slope = curvature * w
    direction = w**2 * slope / (w * slope).norm() if adaptive else slope / slope.norm()

    def loss(w: Tensor) -> Tensor:
        return sharpness.sam(quadratic, 0.5, adaptive=adaptive)({"w": w}, {}, None, key=None, hparams=None)[0]

    slopes, value = grad_and_value(loss)(w)
    assert value == (curvature * w**2).sum() / 2
    torch.testing.assert_close(slopes, curvature * (w + 0.5 * direction))
    (plain,) = torch.autograd.grad(loss(w.requires_grad_()), w)
    torch.testing.assert_close(plain, slopes)


@pytest.mark.parametrize("adaptive", [False, True])
def test_at_a_minimum_and_at_radius_0_it_is_the_plain_gradient(adaptive: bool) -> None:
    def loss(w: Tensor, radius: Any) -> Tensor:
        return sharpness.sam(quadratic, radius, adaptive=adaptive)({"w": w}, {}, None, key=None, hparams=None)[0]

    w = torch.tensor([3.0, -1.0], dtype=torch.float64)
    assert torch.equal(grad(loss)(w, 0.0), torch.tensor([3.0, -4.0], dtype=torch.float64))
    zero = torch.zeros(2, dtype=torch.float64)
    for slopes in (grad(loss)(zero, 0.5), grad(lambda w: grad(loss)(w, 0.5).sum())(zero)):
        assert torch.isfinite(slopes).all()
    assert (grad(loss)(zero, 0.5) == 0).all()


def test_both_passes_see_one_key_and_the_first_gives_state_and_metrics() -> None:
    calls = []

    def watched(params, state, batch, *, key, hparams):
        calls.append((key, tree.map(torch.Tensor.detach, params)))
        return loss_fn(params, state, batch, key=key, hparams=hparams)

    key = random.key(9)
    value, (state, metrics) = sharpness.sam(watched, 0.3)(PARAMS, STATE, DATA, key=key, hparams=HPARAMS)
    expected = loss_fn(PARAMS, STATE, DATA, key=key, hparams=HPARAMS)
    assert torch.equal(value, expected[0])
    assert all(torch.equal(a, b) for a, b in zip(tree.leaves((state, metrics)), tree.leaves(expected[1]), strict=True))
    assert int(state["1.num_batches_tracked"]) == 1
    assert len(calls) == 2
    assert all(torch.equal(given, key) for given, _ in calls)
    moved = tree.norm(tree.map(torch.sub, calls[1][1], calls[0][1]))
    torch.testing.assert_close(moved, torch.tensor(0.3, dtype=torch.float64))


@pytest.mark.parametrize("adaptive", [False, True])
def test_plain_autograd_gives_the_same_numbers(adaptive: bool) -> None:
    """To rounding: in plain autograd batch norm is torch's own kernel."""
    step = STEPS[adaptive]
    one, metrics = train.unroll(step, begin(), batches(4), HPARAMS)
    with torch.no_grad():
        other, plain = train.unroll(step, begin(), batches(4), HPARAMS)
    assert_close((other, plain), (one, metrics))


def final(hparams: dict[str, Tensor], adaptive: bool, what: str = "validation") -> Tensor:
    train_state, metrics = train.unroll(STEPS[adaptive], begin(), batches(3), hparams)
    if what == "training":
        return metrics["loss"].sum()
    return loss_fn(train_state.params, STATE, DATA, key=random.key(5), hparams={"l2": 0.0})[0]


@pytest.mark.parametrize("what", ["validation", "training"])
@pytest.mark.parametrize("adaptive", [False, True])
def test_derivatives_from_outside_know_where_the_worst_neighbour_came_from(adaptive: bool, what: str) -> None:
    slopes = grad(final)(HPARAMS, adaptive, what)
    for name, value in HPARAMS.items():
        shift = 1e-5 * value
        above, below = (final(HPARAMS | {name: value + sign * shift}, adaptive, what) for sign in (1, -1))
        # Central differences in float64, of a relative step of 1e-5.
        torch.testing.assert_close(slopes[name], (above - below) / (2 * shift), rtol=1e-7, atol=1e-9)
        assert slopes[name].abs() > 1e-4
    forward = jvp(
        lambda r: final(HPARAMS | {"radius": r}, adaptive, what), (HPARAMS["radius"],), (torch.ones(()).double(),)
    )[1]
    torch.testing.assert_close(forward, slopes["radius"], rtol=1e-10, atol=1e-12)


def test_members_have_radii_of_their_own() -> None:
    members = 3
    points = {name: value * torch.arange(1, members + 1) for name, value in HPARAMS.items()}
    states = tree.stack([begin()] * members)
    batched = vmap(STEPS[True], in_dims=(0, None, 0))(states, DATA, points)
    slopes = vmap(grad(lambda hparams: final(hparams, False)))(points)
    for member in range(members):
        alone = tree.index(points, member)
        assert_close(tree.index(batched, member), STEPS[True](begin(), DATA, alone))
        assert_close(tree.index(slopes, member), grad(final)(alone, False), 1e-10)


def small_loss(params, state, batch, *, key, hparams):
    predictions = torch.tanh(fr.noise.dropout(batch.x, 0.3, key=key) @ params["w"])
    return ((predictions - batch.y[:, 0]) ** 2).mean(), (state, {})


@needs_compiler
def test_compiled_is_eager() -> None:
    """A step, members, and the derivative of a run; small, since compiling a pass twice over takes its time."""
    sharp = sharpness.sam(small_loss, lambda h: h["radius"], adaptive=True)
    step, begun = train.make_step(sharp, optimizer), train.init({"w": X[0]}, {}, optimizer, key=KEY, hparams=HPARAMS)
    points, states = tree.stack([HPARAMS, tree.map(lambda value: 2 * value, HPARAMS)]), tree.stack([begun] * 2)

    def validation(hparams: Any) -> Tensor:
        train_state, _ = train.unroll(step, begun, batches(2), hparams)
        return small_loss(train_state.params, {}, DATA, key=KEY, hparams=hparams)[0]

    def program(states: Any, hparams: Any, points: Any) -> Any:
        with random.compiled_draws_are("native"):
            return vmap(step, in_dims=(0, None, 0))(states, DATA, points), grad(validation)(hparams)

    given = (states, HPARAMS, points)
    assert_close(fr.jit(program)(*given), program(*given), 1e-10)


def test_the_direction_of_16_bits_is_taken_in_float32() -> None:
    """Gradients of 1e-4 have a norm in float16, whose squares have none."""

    def small(params, state, batch, *, key, hparams):
        return 1e-4 * params["w"].sum(), (state, {})

    params = {"w": torch.zeros(4, dtype=torch.float16)}
    seen = []

    def watched(params, *rest, **more):
        seen.append(params["w"])
        return small(params, *rest, **more)

    sharpness.sam(watched, torch.tensor(0.5))(params, {}, None, key=None, hparams=None)
    assert seen[1].dtype == torch.float16
    torch.testing.assert_close(seen[1], torch.full((4,), 0.25, dtype=torch.float16))


def test_the_steps_penalties_act_at_w() -> None:
    sharp = sharpness.sam(quadratic, 0.5)
    penalties = {"l2": lambda params, hparams: fr.penalties.l2(params, 0.1)}
    step = train.make_step(sharp, optim.sgd(1.0), penalties=penalties)
    w = torch.tensor([3.0, -1.0], dtype=torch.float64)
    train_state, metrics = step(train.init({"w": w}, {}, optim.sgd(1.0), key=random.key(0)), torch.zeros(1))
    slopes = grad(lambda w: sharp({"w": w}, {}, None, key=None, hparams=None)[0])(w)
    torch.testing.assert_close(train_state.params["w"], w - slopes - 0.2 * w)
    torch.testing.assert_close(metrics["l2"], 0.1 * (w**2).sum())


def smooth(params: Any) -> Tensor:
    """A loss of a tree, in evaluation and so without noise."""
    predictions, _ = MODEL.apply(params, STATE, DATA.x)
    return fr.losses.mse(predictions, DATA.y)


def spectrum() -> Tensor:
    """The eigenvalues of the whole Hessian, in ascending order of their magnitude."""
    names, leaves = tree.names(PARAMS), tree.leaves(PARAMS)

    def loss(vector: Tensor) -> Tensor:
        pieces = vector.split([leaf.numel() for leaf in leaves])
        return smooth({name: each.reshape(leaf.shape) for name, each, leaf in zip(names, pieces, leaves, strict=True)})

    values = torch.linalg.eigvalsh(hessian(loss)(torch.cat([leaf.flatten() for leaf in leaves])))
    return values[values.abs().argsort()]


def test_the_top_eigenvalue_of_a_network_is_the_hessians() -> None:
    *_, second, top = spectrum()
    assert second.abs() < 0.9 * top.abs(), "a gap, or the iteration would be slow"
    found = sharpness.hessian_eigenvalue(smooth, PARAMS, key=KEY, steps=150)
    torch.testing.assert_close(found, top, rtol=1e-9, atol=0.0)
    few = sharpness.hessian_eigenvalue(smooth, PARAMS, key=KEY, steps=3)
    assert few.abs() < top.abs(), "it comes from below"
    with torch.no_grad():
        assert torch.equal(sharpness.hessian_eigenvalue(smooth, PARAMS, key=KEY, steps=3), few)


@pytest.mark.parametrize(("curvature", "top"), [([1.0, -3.0], -3.0), ([2.0, 0.5], 2.0), ([0.0, 0.0], 0.0)])
def test_the_top_eigenvalue_keeps_its_sign_and_may_be_0(curvature: list[float], top: float) -> None:
    diagonal = torch.tensor(curvature, dtype=torch.float64)
    w = torch.ones(2, dtype=torch.float64)
    found = sharpness.hessian_eigenvalue(lambda w: (diagonal * w**2).sum() / 2, w, key=KEY, steps=60)
    torch.testing.assert_close(found, torch.tensor(top, dtype=torch.float64))
    flat = sharpness.hessian_eigenvalue(lambda w: (diagonal * w).sum(), w, key=KEY)
    assert float(flat) == 0.0


def test_members_have_top_eigenvalues_of_their_own() -> None:
    members = tree.stack([PARAMS, tree.map(lambda leaf: 0.5 * leaf, PARAMS)])
    keys = random.split(KEY, 2)
    batched = vmap(lambda params, key: sharpness.hessian_eigenvalue(smooth, params, key=key, steps=5))(members, keys)
    for member in range(2):
        alone = sharpness.hessian_eigenvalue(smooth, tree.index(members, member), key=keys[member], steps=5)
        torch.testing.assert_close(batched[member], alone)


def test_16_bits_are_multiplied_in_float32() -> None:
    w = torch.full((3000,), 0.01, dtype=torch.float16)
    found = sharpness.hessian_eigenvalue(lambda w: (300 * w.float() ** 2).sum() / 2, w, key=KEY, steps=3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor(300.0), rtol=2e-3, atol=0.0)  # float16's rounding
