"""fr.adversarial: never outside the ball or the box, a higher loss, a uniform start, and nothing to differentiate."""

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.func import grad, hessian, vmap

import funcreg as fr
from funcreg import adversarial, losses, random, train
from funcreg.adversarial import attacks

KEY = random.key(0)
MODEL = fr.from_module(
    lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 3)
    ).double()
)
PARAMS, STATE = MODEL.init(random.key(1))
X = random.uniform(random.key(2), (8, 1, 6, 6), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])


def loss_of(x: Tensor, params: Any = PARAMS) -> Tensor:
    return losses.cross_entropy(MODEL.apply(params, STATE, x)[0], Y, reduction="none")


def attack(kind: str, loss_fn: Any = loss_of, x: Tensor = X, epsilon: Any = 0.1, key: Tensor = KEY, **rest: Any) -> Any:
    if kind == "fgsm":
        return adversarial.fgsm(loss_fn, x, epsilon, **rest)
    return adversarial.pgd(loss_fn, x, epsilon, key=key, norm=kind, **rest)


def distance(kind: str, moved: Tensor, x: Tensor = X) -> Tensor:
    return torch.linalg.vector_norm((moved - x).flatten(1), ord=2 if kind == "l2" else torch.inf, dim=1)


KINDS = pytest.mark.parametrize("kind", ["fgsm", "linf", "l2"])


@KINDS
@pytest.mark.parametrize("epsilon", [0.0, 0.03, 0.5, 10.0])
def test_it_stays_in_the_ball_and_in_the_box(kind: str, epsilon: float) -> None:
    moved = attack(kind, epsilon=epsilon)
    assert float(distance(kind, moved).max()) <= epsilon * (1 + 1e-12)
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    high = torch.tensor(0.7, dtype=torch.float64)
    narrow = attack(kind, x=X.clamp(0.2, 0.7), epsilon=epsilon, low=0.2, high=high)
    assert float(narrow.min()) == 0.2, "the lowest begin there"
    assert float(narrow.max()) <= 0.7
    free = attack(kind, epsilon=epsilon, low=None, high=None)
    assert float(distance(kind, free).max()) <= epsilon * (1 + 1e-12)
    if epsilon == 0:
        assert torch.equal(free, X)
    if epsilon == 10:
        assert float(free.min()) < 0
        assert float(free.max()) > 1


@KINDS
def test_the_loss_goes_up_and_for_a_target_down(kind: str) -> None:
    epsilon = 0.5 if kind == "l2" else 0.05
    before = loss_of(X)
    assert bool((loss_of(attack(kind, epsilon=epsilon)) > before).all())
    assert bool((loss_of(attack(kind, epsilon=epsilon, targeted=True)) < before).all())
    # Their mean has the same directions as each of them.
    torch.testing.assert_close(
        attack(kind, lambda x: loss_of(x).mean(), epsilon=epsilon), attack(kind, epsilon=epsilon), rtol=0, atol=1e-12
    )


def test_more_steps_find_more() -> None:
    found = [float(loss_of(attack("linf", epsilon=0.3, steps=steps)).mean()) for steps in (1, 5, 40)]
    assert found[0] < found[1] < found[2]
    assert found[2] > float(loss_of(attack("fgsm", epsilon=0.3)).mean())


def start(kind: str, key: Tensor, x: Tensor, epsilon: float) -> Tensor:
    """Where an attack begins: a step of length 0 away."""
    flat = adversarial.pgd(
        lambda x: x.flatten(1).sum(dim=1), x, epsilon, key=key, steps=1, step_size=0.0, norm=kind, low=None, high=None
    )
    return flat - x


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_the_start_is_uniform_in_the_ball(dimensions: int) -> None:
    x = torch.zeros(4000, dimensions, dtype=torch.float64)
    inside = start("linf", KEY, x, 0.3)
    assert stats.kstest(inside.flatten() / 0.6 + 0.5, "uniform").pvalue > 1e-3
    inside = start("l2", KEY, x, 0.3)
    radii = inside.norm(dim=1) / 0.3
    assert float(radii.max()) < 1
    # The share of a ball within a radius is radius**dimensions; each direction is as likely as its opposite.
    assert stats.kstest(radii**dimensions, "uniform").pvalue > 1e-3
    for side in inside.T:
        assert stats.binomtest(int((side > 0).sum()), 4000).pvalue > 1e-3
    square = inside.square().mean(dim=0) / 0.09
    expected = torch.full_like(square, 1 / (dimensions + 2))
    torch.testing.assert_close(square, expected, rtol=4 * math.sqrt(2 / 4000), atol=0)


@pytest.mark.parametrize("kind", ["linf", "l2"])
def test_a_key_is_a_start(kind: str) -> None:
    assert torch.equal(start(kind, KEY, X, 0.1), start(kind, KEY, X, 0.1))
    assert not torch.equal(start(kind, KEY, X, 0.1), start(kind, random.key(1), X, 0.1))
    assert float(start(kind, KEY, X, 0.1).flatten(1).norm(dim=1).std()) > 0, "each example has its own"


@KINDS
def test_no_gradient_flows_through_it(kind: str) -> None:
    def loss(params: Any, epsilon: Tensor) -> Tensor:
        return loss_of(attack(kind, lambda x: loss_of(x, params), epsilon=epsilon, **short(kind)), params).mean()

    def constant(params: Any) -> Tensor:
        return loss_of(attack(kind, **short(kind)), params).mean()

    epsilon = torch.tensor(0.1, dtype=torch.float64)
    slopes, of_epsilon = grad(loss, argnums=(0, 1))(PARAMS, epsilon)
    fr.tree.map(lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=1e-14), slopes, grad(constant)(PARAMS))
    assert fr.tree.norm(slopes) > 0
    assert float(of_epsilon) == 0
    last = "5.bias"
    curvature = hessian(lambda bias: loss({**PARAMS, last: bias}, epsilon))(PARAMS[last])
    torch.testing.assert_close(curvature, hessian(lambda bias: constant({**PARAMS, last: bias}))(PARAMS[last]))


def short(kind: str) -> dict[str, Any]:
    return {} if kind == "fgsm" else {"steps": 2}


@KINDS
def test_plain_autograd_is_not_followed_either(kind: str) -> None:
    params = fr.tree.map(lambda leaf: leaf.clone().requires_grad_(), PARAMS)
    x = X.clone().requires_grad_()
    moved = attack(kind, lambda x: loss_of(x, params), x=x)
    assert not moved.requires_grad
    assert torch.equal(moved, attack(kind))
    with torch.no_grad():
        assert torch.equal(moved, attack(kind))
    with torch.inference_mode():
        assert torch.equal(moved, attack(kind))


def test_a_flat_loss_moves_nothing() -> None:
    flat = attack("l2", lambda x: 0 * x.sum(), x=X, steps=3)
    torch.testing.assert_close(flat, (X + start("l2", KEY, X, 0.1)).clamp(0, 1))
    assert torch.equal(attack("fgsm", lambda x: 0 * x.sum()), X)


@KINDS
def test_dtypes_and_flat_batches(kind: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x = X.to(dtype)
        moved = attack(kind, lambda x: (x * x).flatten(1).sum(dim=1), x=x, epsilon=torch.tensor(0.1).double())
        assert moved.dtype == dtype
        assert float(distance(kind, moved.double(), x.double()).max()) < 0.1 + 36 * torch.finfo(dtype).eps
    numbers = torch.tensor([0.2, 0.5])
    torch.testing.assert_close(attack(kind, lambda x: x, x=numbers), torch.tensor([0.3, 0.6]))


@KINDS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("epsilon", [1e-3, 0.03, 0.3])
def test_in_16_bits_it_stays_in_the_ball_and_in_the_box(kind: str, dtype: torch.dtype, epsilon: float) -> None:
    high = 0.9  # of neither dtype
    x = X.clamp(max=0.89).to(dtype)
    moved = attack(kind, lambda x: (x.float() ** 3).flatten(1).sum(dim=1), x=x, epsilon=epsilon, high=high)
    assert moved.dtype == dtype
    assert float(distance(kind, moved.double(), x.double()).max()) <= epsilon * (1 + 1e-6)
    assert float(moved.max()) <= high
    if epsilon > 0.01:
        unrounded = attack(kind, lambda x: (x**3).flatten(1).sum(dim=1), x=x.float(), epsilon=epsilon, high=high)
        assert float((moved.float() - unrounded).abs().max()) <= torch.finfo(dtype).eps, "to one rounding"


@pytest.mark.parametrize("start", [-0.7, 0.0, 1.0, 1e-6, -1e-7])
def test_a_point_in_16_bits_is_the_last_number_on_its_way(start: float) -> None:
    """Among all numbers of float16, by a search."""
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16).float()
    every = every[every.isfinite()].unique()
    begun = torch.tensor(start, dtype=torch.float16).float()
    points = begun + torch.cat((torch.linspace(-2, 2, 501), torch.linspace(-1e-6, 1e-6, 101)))
    found = attacks._rounded(points, begun.expand_as(points), torch.float16).float()
    for point, ours in zip(points.tolist(), found.tolist(), strict=True):
        between = every[(every >= min(point, float(begun))) & (every <= max(point, float(begun)))]
        furthest = float((between - begun).abs().max())
        assert abs(ours - float(begun)) == furthest or abs(ours - point) <= abs(point - float(begun))
        assert abs(ours - float(begun)) <= abs(point - float(begun)) * (1 + 1e-6)


def test_elements_outside_of_the_box_are_nan_in_a_compiled_program() -> None:
    x = torch.tensor([[-2.0, 0.5], [0.0, 1.0]])
    found = fr.jit(lambda x: adversarial.fgsm(lambda x: x.sum(dim=1), x, 0.1))(x)
    assert found.isnan().tolist() == [[True, False], [False, False]]
    torch.testing.assert_close(found[1], torch.tensor([0.1, 1.0]))
    above = torch.nextafter(torch.tensor(0.3), torch.tensor(1.0)).reshape(1)  # what 0.3 may be rounded to
    assert float(adversarial.fgsm(lambda x: x.sum(), above, 0.1, high=0.3)) == pytest.approx(0.3)


@pytest.mark.parametrize("kind", ["linf", "l2"])
def test_members_have_their_own_strength_and_key(kind: str) -> None:
    epsilons, keys = torch.tensor([0.0, 0.05, 0.4], dtype=torch.float64), random.split(KEY, 3)
    together = vmap(lambda e, k: attack(kind, epsilon=e, key=k, steps=3))(epsilons, keys)
    for member in range(3):
        alone = attack(kind, epsilon=float(epsilons[member]), key=keys[member], steps=3)
        torch.testing.assert_close(together[member], alone, rtol=0, atol=1e-9)


def test_adversarial_training_in_a_compiled_step() -> None:
    """A strength each; the attack on the model as it is evaluated, and noise in training."""
    model = fr.from_module(lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(36, 3)).double())

    def loss_fn(params: Any, state: Any, batch: train.Batch, *, key: Tensor, hparams: Any) -> Any:
        noise, begin = random.split(key)

        def attacked(x: Tensor) -> Tensor:
            return losses.cross_entropy(model.apply(params, state, x)[0], batch.y, reduction="none")

        x = adversarial.pgd(attacked, batch.x, hparams["epsilon"], key=begin, steps=1)
        logits, state = model.apply(params, state, x, key=noise, train=True)
        return losses.cross_entropy(logits, batch.y), (state, {"moved": (x - batch.x).abs().amax()})

    optimizer = fr.optim.sgd(0.1)
    step = train.make_step(loss_fn, optimizer)
    hparams = {"epsilon": torch.tensor([0.0, 0.1, 0.3], dtype=torch.float64)}
    params, state = fr.model_members(model, random.key(3), 3)
    begun = members = train.init(params, state, optimizer, key=KEY, members=3)
    metrics: dict[str, Tensor] = {}
    with random.compiled_draws_are("native"):
        compiled = fr.jit(vmap(step, in_dims=(0, None, 0)))
        for _ in range(3):
            members, metrics = compiled(members, train.Batch(X, Y), hparams)
    torch.testing.assert_close(metrics["moved"], hparams["epsilon"])
    for member in range(3):
        alone = fr.tree.index(begun, member)
        with torch.no_grad():
            for _ in range(3):
                alone, _ = step(alone, train.Batch(X, Y), {"epsilon": hparams["epsilon"][member]})
        moved = fr.tree.norm(fr.tree.map(torch.sub, alone.params, fr.tree.index(begun.params, member)))
        gap = fr.tree.norm(fr.tree.map(torch.sub, alone.params, fr.tree.index(members.params, member)))
        assert moved > 0.01
        assert gap < 1e-6 * moved


@KINDS
def test_a_gradient_that_is_not_a_number_is_no_robustness(kind: str) -> None:
    x = torch.full((1, 2), 0.5)
    assert attack(kind, lambda x: (x - 0.5).sqrt().sum() * torch.nan, x, 0.1).isnan().all()


@pytest.mark.parametrize("low", [2.0, torch.inf])
def test_members_bounds_that_are_none_are_refused(low: float) -> None:
    x = torch.full((1, 2), 0.5)
    with pytest.raises(fr.FuncregError, match=r"x: got 2 of 4 elements outside of \[low, high\]"):
        vmap(lambda low: adversarial.fgsm(lambda x: x.sum(), x, 0.1, low=low))(torch.tensor([low, 0.0]))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_a_slope_of_any_size_is_a_direction(scale: float) -> None:
    """Its squares are 0 or infinite in float32."""
    x, weight = torch.full((3, 1, 6, 6), 0.5), random.normal(KEY, (36,))
    moved = attack("l2", lambda x: scale * (x.flatten(1) @ weight), x, steps=2)
    torch.testing.assert_close(moved, attack("l2", lambda x: x.flatten(1) @ weight, x, steps=2))
    assert float(vat(lambda x: torch.stack((scale**0.5 * x, 0 * x), -1), 0 * x, scale**-0.5).min()) > 1e-4


def vat(function: Any, x: Tensor = X, epsilon: Any = 0.5, key: Tensor = KEY, **rest: Any) -> Tensor:
    return adversarial.vat(function, x, epsilon, key=key, **{"reduction": "none", **rest})


def smoothness(params: Any = PARAMS, x: Tensor = X, epsilon: Any = 0.5, **rest: Any) -> Tensor:
    return vat(lambda x: MODEL.apply(params, STATE, x, key=random.key(3))[0], x, epsilon, **rest)


def test_no_direction_changes_the_predictions_as_much_as_the_one_found() -> None:
    def logits(x: Tensor) -> Tensor:
        return MODEL.apply(PARAMS, STATE, x)[0]

    found, none = vat(logits, epsilon=1e-2, steps=20), logits(X)
    for key in random.split(KEY, 20):
        other = random.normal(key, tuple(X.shape), dtype=X.dtype)
        moved = X + 1e-2 * other / other.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        assert bool((losses.kl_divergence(logits(moved), none, reduction="none") < found).all())
    assert bool((vat(logits, epsilon=1e-2, steps=1) <= found * (1 + 1e-3)).all())


def test_smoothness_of_noisy_passes_is_of_one_noise() -> None:
    """Where nothing is added, the same network agrees with itself, whatever its dropout."""
    assert float(smoothness(epsilon=0.0).abs().max()) < 1e-15
    assert float(smoothness().min()) > 0
    assert not torch.equal(smoothness(key=random.key(1)), smoothness()), "another first direction"


def test_smoothness_has_reductions_and_positions() -> None:
    each = smoothness()
    torch.testing.assert_close(smoothness(reduction="mean"), each.mean())
    torch.testing.assert_close(smoothness(reduction="sum"), each.sum())
    tokens, weight = random.normal(KEY, (3, 5, 4), dtype=torch.float64), random.normal(KEY, (4, 3), dtype=torch.float64)
    several = vat(lambda x: x @ weight, tokens)
    assert several.shape == (3,)
    torch.testing.assert_close(5 * several, vat(lambda x: (x @ weight).unflatten(0, (3, 1)), tokens).squeeze(-1) * 5)


def test_what_is_masked_and_what_is_flat_has_no_part_in_smoothness() -> None:
    weight, mask = random.normal(KEY, (36, 4), dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    mask[1] = -torch.inf

    def masked(weight: Tensor) -> Tensor:
        return vat(lambda x: x.flatten(1) @ weight + mask).sum()

    rest = torch.tensor([0, 2, 3])
    torch.testing.assert_close(masked(weight), vat(lambda x: x.flatten(1) @ weight[:, rest]).sum())
    slope = grad(masked)(weight)
    torch.testing.assert_close(slope[:, rest], grad(lambda w: vat(lambda x: x.flatten(1) @ w).sum())(weight[:, rest]))
    assert float(slope[:, 1].abs().max()) == 0
    flat = grad(lambda weight: vat(lambda x: 0 * x.flatten(1) @ weight).sum())(weight)
    assert float(flat.abs().max()) == 0
    alone = vat(lambda x: x.flatten(1) @ weight * (torch.arange(8) > 0).unsqueeze(1))
    assert float(alone[0]) == 0
    assert float(alone[1:].min()) > 0
    assert bool(vat(lambda x: x.flatten(1) @ weight * torch.nan).isnan().all())


def test_the_slope_of_smoothness_is_that_of_the_second_pass() -> None:
    """And what is differentiated from outside knows that the direction depends on the parameters."""
    a, b = random.normal(KEY, (2, 5, 3), dtype=torch.float64)
    x = random.normal(random.key(1), (4, 5), dtype=torch.float64)

    def slope(other: Tensor) -> Tensor:
        return grad(lambda a: vat(lambda x: torch.tanh(x @ a) * other, x).sum())(a)

    def total(other: Tensor) -> Tensor:
        return (slope(other) * b).sum()

    other, step = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64), 1e-5
    eye = step * torch.eye(3, dtype=torch.float64)
    differences = torch.stack([(total(other + e) - total(other - e)) / (2 * step) for e in eye])
    torch.testing.assert_close(grad(total)(other), differences, rtol=1e-6, atol=1e-8)
    by_epsilon = grad(lambda e: vat(lambda x: x @ a, x, e).sum())(torch.tensor(0.5, dtype=torch.float64))
    sides = [float(vat(lambda x: x @ a, x, e).sum()) for e in (0.5 - step, 0.5 + step)]
    assert float(by_epsilon) == pytest.approx((sides[1] - sides[0]) / (2 * step), rel=1e-6)


def test_smoothness_in_plain_autograd_is_that_of_a_transform() -> None:
    params = fr.tree.map(lambda leaf: leaf.clone().requires_grad_(), PARAMS)
    smoothness(params, reduction="mean").backward()
    slopes = grad(lambda params: smoothness(params, reduction="mean"))(PARAMS)
    fr.tree.map(lambda a, b: torch.testing.assert_close(a.grad, b), params, slopes)
    with torch.inference_mode():
        torch.testing.assert_close(smoothness(), smoothness(params).detach())


def test_members_have_their_own_smoothness() -> None:
    weights, keys = random.normal(KEY, (3, 36, 4), dtype=torch.float64), random.split(KEY, 3)
    epsilons = torch.tensor([0.0, 0.3, 2.0], dtype=torch.float64)

    def slope(weight: Tensor, epsilon: Any, key: Tensor) -> Tensor:
        return grad(lambda weight: vat(lambda x: torch.tanh(x.flatten(1) @ weight), X, epsilon, key).sum())(weight)

    together = vmap(slope)(weights, epsilons, keys)
    assert float(together[0].abs().max()) < 1e-14
    for member in range(3):
        alone = slope(weights[member], float(epsilons[member]), keys[member])
        torch.testing.assert_close(together[member], alone, rtol=1e-9, atol=1e-12)


def test_recurrence_that_has_no_derivative_forwards_says_what_to_do() -> None:
    module = nn.LSTM(6, 3, batch_first=True)
    x, model = X[:, 0].float(), fr.from_module(module)
    params, state = fr.variables(module)
    with pytest.raises(fr.FuncregError, match="unrolled"):
        vat(lambda x: model.apply(params, state, x)[0][0], x)
    model = fr.from_module(module, rnn="unrolled")
    assert float(vat(lambda x: model.apply(params, state, x)[0][0], x).min()) > 0


@pytest.mark.parametrize("kind", ["fgsm", "linf", "l2"])
@pytest.mark.parametrize(
    "constant", [lambda x: loss_of(x).detach(), lambda x: x.flatten(1).argmax(1).double(), lambda x: Y / 2]
)
def test_losses_that_do_not_depend_on_x_are_refused(kind: str, constant: Any) -> None:
    for call in (
        lambda: attack(kind, constant),
        lambda: vmap(lambda x: attack(kind, constant, x))(X[None]),
        lambda: grad(lambda x: attack(kind, constant, x).sum())(X),
    ):
        with pytest.raises(fr.FuncregError, match="loss_fn: got losses that do not depend on x"):
            call()


@pytest.mark.parametrize("kind", ["fgsm", "linf", "l2"])
def test_inputs_of_inference_mode_are_as_others(kind: str) -> None:
    with torch.inference_mode():
        inputs = X.clone()
    assert torch.equal(attack(kind, x=inputs), attack(kind))
