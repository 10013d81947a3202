"""fr.penalties: slopes, masks, estimates over many keys, and a critic trained under gradient penalties."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, hessian, vmap

import funcreg as fr
from funcreg import optim, penalties, random, train, tree


def params(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    weight, bias = fr.random.split(fr.random.key(0))
    return {
        "0.weight": fr.random.normal(weight, (4, 3), dtype=torch.float64).to(dtype),
        "0.bias": fr.random.normal(bias, (4,), dtype=torch.float64).to(dtype),
    }


def test_gradients() -> None:
    each = params()
    l1_slopes, l2_slopes = grad(penalties.l1)(each, 0.3), grad(penalties.l2)(each, 0.3)
    for name, leaf in each.items():
        torch.testing.assert_close(l1_slopes[name], 0.3 * leaf.sign())
        torch.testing.assert_close(l2_slopes[name], 0.6 * leaf)
    curvature = hessian(lambda w: penalties.l2({"w": w}, 0.3))(each["0.bias"])
    torch.testing.assert_close(curvature, 0.6 * torch.eye(4, dtype=torch.float64))


def test_l1_has_no_slope_at_zero() -> None:
    assert grad(penalties.l1)({"w": torch.zeros(3)}, 1.0)["w"].tolist() == [0, 0, 0]


def test_l2_is_half_of_weight_decay() -> None:
    layer = nn.Linear(3, 4, dtype=torch.float64)
    layer.load_state_dict({"weight": params()["0.weight"], "bias": params()["0.bias"]})
    start = {name: value.detach().clone() for name, value in layer.named_parameters()}
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, weight_decay=0.04)
    ours = dict(start)
    for _ in range(10):
        optimizer.zero_grad()
        (layer.weight.sum() * 0 + layer.bias.sum() * 0).backward()  # no loss: decay alone moves them
        optimizer.step()
        slopes = grad(penalties.l2)(ours, 0.02)
        ours = fr.tree.map(lambda value, slope: value - 0.1 * slope, ours, slopes)
    for name, value in layer.named_parameters():
        moved = value.detach() - start[name]
        assert float(moved.abs().max()) > 0.01, "the reference moved"
        torch.testing.assert_close(ours[name] - start[name], moved, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_strength_may_be_batched(name: str) -> None:
    penalty, strengths = getattr(penalties, name), torch.tensor([0.0, 0.1, 2.0], dtype=torch.float64)
    batched = vmap(lambda strength: penalty(params(), strength))(strengths)
    torch.testing.assert_close(batched, torch.stack([penalty(params(), float(each)) for each in strengths]))
    torch.testing.assert_close(grad(lambda strength: penalty(params(), strength))(strengths[1]), penalty(params(), 1.0))


def test_masks_pick_leaves() -> None:
    weight = params()["0.weight"]
    torch.testing.assert_close(penalties.l2(params(), 1.0, mask=fr.tree.is_weight), (weight**2).sum())
    torch.testing.assert_close(penalties.l1(params(), 1.0, mask=lambda name, leaf: leaf.ndim == 2), weight.abs().sum())
    slopes = grad(lambda each: penalties.elastic_net(each, 1.0, 1.0, mask=fr.tree.is_weight))(params())
    assert torch.equal(slopes["0.bias"], torch.zeros(4, dtype=torch.float64))


def test_any_tree_will_do() -> None:
    leaf = torch.tensor([3.0])
    assert float(penalties.l2((leaf, {"a": leaf}), 1.0)) == 18
    assert float(penalties.l2(leaf, 1.0)) == 9
    assert float(penalties.l2({}, 1.0)) == 0


def test_the_dtype_is_the_parameters_own() -> None:
    strength = torch.tensor(0.3, dtype=torch.float64)  # what jit makes of a Python number
    for penalty in (penalties.l1, penalties.l2):
        assert penalty(params(torch.float64), 0.3).dtype == torch.float64
        assert penalty(params(torch.float32), strength).dtype == torch.float32
        assert penalty(params(torch.bfloat16), strength).dtype == torch.float32
        slopes = grad(penalty)(params(torch.bfloat16), strength)
        assert slopes["0.bias"].dtype == torch.bfloat16


def test_16_bit_leaves_are_summed_in_float32() -> None:
    ones = {"w": torch.ones(10_000, dtype=torch.bfloat16)}
    assert float(penalties.l2(ones, 1.0)) == 10_000  # bfloat16 has 8 bits: it would stop at 256, or round to 9984


# Groups, and another point


def test_groups_run_along_one_axis() -> None:
    kernel = random.normal(random.key(1), (4, 3, 2, 2), dtype=torch.float64)
    rows = [penalties.group_lasso({"w": part}, 1.0) for part in kernel.split(1)]
    torch.testing.assert_close(penalties.group_lasso({"w": kernel}, 1.0), torch.stack(rows).sum())
    torch.testing.assert_close(
        penalties.group_lasso({"w": kernel}, 1.0, dim=1), penalties.group_lasso({"w": kernel.transpose(0, 1)}, 1.0)
    )
    torch.testing.assert_close(
        penalties.group_lasso({"w": kernel}, 1.0, dim=-1), penalties.group_lasso({"w": kernel}, 1.0, dim=3)
    )
    bias = kernel[:, 0, 0, 0]
    for dim in (0, 1):
        torch.testing.assert_close(penalties.group_lasso({"b": bias}, 0.2, dim=dim), penalties.l1({"b": bias}, 0.2))
    assert float(penalties.group_lasso({"scalar": torch.tensor(-3.0)}, 2.0)) == 6


def test_group_lasso_empties_groups() -> None:
    """Proximal steps would reach 0; plain steps come as near as they are long, and stay."""
    weight = random.normal(random.key(2), (3, 4), dtype=torch.float64)
    target = torch.tensor([[2.0], [0.01], [0.0]], dtype=torch.float64) * torch.ones(3, 4, dtype=torch.float64)
    slope = grad(lambda w: ((w - target) ** 2).sum() + penalties.group_lasso({"w": w}, 0.5))
    for _ in range(1500):
        weight = weight - 4e-3 * slope(weight)
    lengths = torch.linalg.vector_norm(weight, dim=1)
    # The optimum of the first is shorter by 0.5 * sqrt(4) / 2: 1.75 in each of 4 elements.
    torch.testing.assert_close(weight[0], torch.full((4,), 1.75, dtype=torch.float64), rtol=0, atol=1e-4)
    assert float(lengths[1:].max()) < 4e-3


def test_an_empty_group_has_no_slope() -> None:
    weight = torch.zeros(2, 3)
    for penalty in (penalties.group_lasso, penalties.orthogonality, penalties.spectral):
        assert torch.equal(grad(penalty)({"w": weight}, 1.0)["w"], torch.zeros(2, 3))


def test_the_anchor_may_lack_what_the_mask_leaves_out() -> None:
    anchor = {"0.weight": params()["0.weight"] + 1}
    assert float(penalties.l2_distance(params(), params(), 1.0)) == 0
    torch.testing.assert_close(
        penalties.l2_distance(params(), anchor, 0.5, mask=tree.is_weight), torch.tensor(6.0, dtype=torch.float64)
    )
    with pytest.raises(fr.FuncregError, match=r"anchor: got a tree without 0\.bias"):
        penalties.l2_distance(params(), anchor, 0.5)
    far = grad(lambda start: penalties.l2_distance(params(), start, 0.5, mask=tree.is_weight))(anchor)
    torch.testing.assert_close(far["0.weight"], torch.ones(4, 3, dtype=torch.float64))


# Matrices


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (5, 2, 2, 2), (9, 2, 2, 2)])
def test_orthogonality_is_blind_to_which_side_is_longer(shape: tuple[int, ...]) -> None:
    weight = random.normal(random.key(3), shape, dtype=torch.float64)
    matrix = weight.flatten(1)
    slope = grad(penalties.orthogonality)
    torch.testing.assert_close(
        penalties.orthogonality({"w": weight}, 1.0), penalties.orthogonality({"w": matrix.T}, 1.0)
    )
    assert float(penalties.orthogonality({"w": weight}, 1.0)) > 1
    for _ in range(1000):
        weight = weight - 0.01 * slope({"w": weight}, 1.0)["w"]
    values = torch.linalg.svdvals(weight.flatten(1))
    torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-6)


def test_vectors_are_left_out_of_matrix_penalties() -> None:
    weight = {"0.weight": params()["0.weight"]}
    for penalty in (penalties.orthogonality, penalties.spectral):
        assert penalty(params(), 1.0) == penalty(weight, 1.0)
        assert penalty(params(), 1.0, mask=tree.is_weight) == penalty(weight, 1.0)
        assert float(penalty({}, 1.0)) == 0


def test_equal_singular_values_have_a_slope() -> None:
    """One of them takes it all, as sigma_max**2 is not smooth there."""
    slope = grad(penalties.spectral)({"w": torch.eye(3)}, 1.0)["w"]
    torch.testing.assert_close(slope.square().sum(), torch.tensor(4.0))


def test_a_member_that_diverged_does_not_stop_the_others() -> None:
    weights = random.normal(random.key(4), (3, 4, 5))
    weights = torch.stack([weights[0], weights[1] * torch.inf, torch.full((4, 5), torch.nan)])
    values = vmap(lambda w: penalties.spectral({"w": w}, 1.0))(weights)
    assert torch.isfinite(values).tolist() == [True, False, False]
    torch.testing.assert_close(values[0], penalties.spectral({"w": weights[0]}, 1.0))


# Functions


def classifier(x: Tensor) -> Tensor:
    weight = random.normal(random.key(6), (3, 5), dtype=torch.float64)
    return torch.tanh(x @ weight) ** 2


INPUTS = random.normal(random.key(7), (4, 3), dtype=torch.float64)


def estimates(x: Tensor, projections: int, keys: int = 4000) -> Tensor:
    def estimate(key: Tensor) -> Tensor:
        return penalties.jacobian(classifier, x, 1.0, key=key, projections=projections)

    return vmap(estimate)(random.split(random.key(8), keys))


@pytest.mark.parametrize("projections", [1, 2, 4])
def test_the_mean_over_keys_is_the_frobenius_norm(projections: int) -> None:
    rows = torch.stack([torch.autograd.functional.jacobian(lambda x: classifier(x[None])[0], x) for x in INPUTS])
    exact = rows.square().sum() / len(INPUTS)
    drawn = estimates(INPUTS, projections)
    error = drawn.std() / math.sqrt(len(drawn))
    assert float(error) < 0.02 * float(exact), "a test that could fail"
    assert abs(float(drawn.mean() - exact)) < 4 * float(error)


def test_more_projections_and_more_examples_vary_less() -> None:
    spread = [float(estimates(INPUTS, count, 1000).var()) for count in (1, 2, 4)]
    # Orthonormal directions do better than the 1/2 and 1/4 of independent ones: (C / p - 1) / (C - 1).
    assert spread[1] < 0.45 * spread[0]
    assert spread[2] < 0.09 * spread[0]
    alone, eight = (float(estimates(INPUTS[:1].expand(n, 3), 1, 1000).var()) for n in (1, 8))
    assert 0.7 < 8 * eight / alone < 1.4, "each example has directions of its own"


def test_directions_are_orthonormal() -> None:
    """The Jacobian of one output is found at most once in full."""

    def first_only(x: Tensor) -> Tensor:
        return torch.stack([x.sum(dim=1), *[0 * x[:, 0]] * 4], dim=1)

    keys = random.split(random.key(9), 500)
    found = vmap(lambda k: penalties.jacobian(first_only, INPUTS[:1], 1.0, key=k, projections=4))(keys)
    assert float(found.max()) < 3 * 5 / 4 * (1 + 1e-12)
    assert 3 - 0.2 < float(found.mean()) < 3 + 0.2


def test_enough_projections_are_exact_whatever_the_key() -> None:
    values = [
        penalties.jacobian(classifier, INPUTS, 1.0, key=random.key(seed), projections=count)
        for seed, count in ((0, 5), (1, 5), (2, 50))
    ]
    assert values[0] == values[1] == values[2]


def test_each_penalty_is_one_call_of_the_function() -> None:
    calls: list[torch.Size] = []

    def counted(x: Tensor) -> Tensor:
        calls.append(x.shape)
        return torch.tanh(x.sum(dim=1, keepdim=True))

    penalties.jacobian(counted, INPUTS, 1.0, key=random.key(0))
    penalties.gradient_penalty(counted, INPUTS, 1.0)
    assert calls == [INPUTS.shape] * 2


def test_a_flat_critic_has_derivatives_of_every_order() -> None:
    """An example whose units are all dead has a slope of exactly 0."""
    weight = torch.zeros(3, dtype=torch.float64)
    for target, value, curvature in ((0.0, 0.0, 4.0), (1.0, 2.0, 4.0)):

        def penalty(w: Tensor, target: float | Tensor = target) -> Tensor:
            return penalties.gradient_penalty(lambda x: x @ w, INPUTS, 2.0, target=target)

        assert float(penalty(weight)) == value
        assert torch.equal(grad(penalty)(weight), torch.zeros(3, dtype=torch.float64))
        torch.testing.assert_close(hessian(penalty)(weight), curvature * torch.eye(3, dtype=torch.float64))
        number = torch.tensor(target)
        assert torch.equal(hessian(lambda w, t=number: penalty(w, t))(weight), hessian(penalty)(weight))


def test_16_bit_functions_are_penalised_in_float32() -> None:
    x, weight = INPUTS.bfloat16(), torch.ones(3, 4, dtype=torch.bfloat16)
    exact = penalties.jacobian(lambda x: x @ weight, x, 1.0, key=random.key(0), projections=4)
    assert exact.dtype == torch.float32
    assert float(exact) == 12
    assert penalties.jacobian(lambda x: x @ weight, x, 1.0, key=random.key(0)).dtype == torch.float32
    assert float(penalties.gradient_penalty(lambda x: x @ weight[:, 0], x, 1.0, target=0.0)) == pytest.approx(3)


def test_interpolation_draws_a_weight_for_each_sample(key: Tensor) -> None:
    real, fake = torch.full((5000, 2, 3), 7.0), torch.full((5000, 2, 3), 3.0)
    points = penalties.interpolate(real, fake, key=key)
    weights = (points - 3) / 4
    assert torch.equal(points, points[:, :1, :1].expand_as(points))
    assert float(weights.min()) >= 0
    assert float(weights.max()) <= 1
    # The mean of 5000 uniforms, and their mean square, to four standard errors.
    assert abs(float(weights.mean()) - 1 / 2) < 4 * math.sqrt(1 / 12 / 5000)
    assert abs(float(weights.square().mean()) - 1 / 3) < 4 * math.sqrt(4 / 45 / 5000)
    half = penalties.interpolate(real.bfloat16(), fake.bfloat16(), key=key)
    torch.testing.assert_close(half, points.bfloat16())


def test_confidence_has_its_bounds_and_takes_excluded_classes() -> None:
    certain = torch.tensor([[1000.0, 0.0, -1000.0]])
    assert float(penalties.confidence(certain, 1.0)) == 0
    assert float(penalties.confidence(torch.zeros(2, 3), 1.0)) == pytest.approx(-math.log(3))
    excluded = torch.tensor([[0.0, 1.0, -torch.inf]])
    assert float(penalties.confidence(excluded, 1.0)) == pytest.approx(float(penalties.confidence(excluded[:, :2], 1)))
    slope = grad(penalties.confidence)(excluded, 1.0)
    torch.testing.assert_close(slope[:, :2], grad(penalties.confidence)(excluded[:, :2], 1.0))
    assert float(slope[0, 2]) == 0


# In training: a Wasserstein critic, under three penalties whose strengths differ by member

CRITIC = fr.from_module(lambda: nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).double())
SETTINGS = {"slope": 10.0, "sigma": 0.01, "orthogonality": 0.02}
SAMPLES = train.Batch(
    random.normal(random.key(10), (16, 2), dtype=torch.float64) + 2,
    random.normal(random.key(11), (16, 2), dtype=torch.float64),
)


def critic_loss(params: Any, state: Any, batch: train.Batch, *, key: Tensor, hparams: Any) -> Any:
    def critic(x: Tensor) -> Tensor:
        return CRITIC.apply(params, state, x)[0]

    points = penalties.interpolate(batch.x, batch.y, key=key)
    slope = penalties.gradient_penalty(critic, points, hparams["slope"])
    return critic(batch.y).mean() - critic(batch.x).mean() + slope, (state, {"slope": slope})


OPTIMIZER = optim.sgd(0.05)
STEP = train.make_step(
    critic_loss,
    OPTIMIZER,
    penalties={
        "sigma": lambda params, hparams: penalties.spectral(params, hparams["sigma"]),
        "orthogonality": lambda params, hparams: penalties.orthogonality(params, hparams["orthogonality"]),
    },
)


def by_hand(begun: train.TrainState, hparams: dict[str, float], steps: int) -> dict[str, Tensor]:
    """The same training with torch's modules, optimizer and autograd."""
    module = fr.to_module(nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)), begun.params, {}).double()
    optimizer, key = torch.optim.SGD(module.parameters(), lr=0.05), begun.key
    for _ in range(steps):
        key, loss_key = random.split(key)
        points = penalties.interpolate(*SAMPLES, key=loss_key).requires_grad_()
        (slopes,) = torch.autograd.grad(module(points).sum(), points, create_graph=True)
        loss = module(SAMPLES.y).mean() - module(SAMPLES.x).mean()
        loss = loss + hparams["slope"] * ((slopes.norm(dim=1) - 1) ** 2).mean()
        for weight in (leaf for leaf in module.parameters() if leaf.ndim == 2):
            small = weight @ weight.T if len(weight) == 1 else weight.T @ weight
            off = (small - torch.eye(len(small), dtype=torch.float64)).square().sum()
            loss = loss + hparams["sigma"] * torch.linalg.matrix_norm(weight, ord=2) ** 2
            loss = loss + hparams["orthogonality"] * off
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: leaf.detach() for name, leaf in module.named_parameters()}


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_a_critic_is_trained_as_by_hand(mode: Any) -> None:
    params, state = CRITIC.init(random.key(0))
    begun = trained = train.init(params, state, OPTIMIZER, key=random.key(1))
    metrics: dict[str, Tensor] = {}
    for _ in range(20):
        with mode():
            trained, metrics = STEP(trained, SAMPLES, SETTINGS)
    theirs = by_hand(begun, SETTINGS, 20)
    moved = tree.norm(tree.map(torch.sub, theirs, begun.params))
    assert moved > 0.5, "the reference did not move"
    assert tree.norm(tree.map(torch.sub, trained.params, theirs)) < 1e-12 * moved
    assert metrics["slope"] > 0


def test_strengths_of_members_may_differ_in_a_compiled_step() -> None:
    strengths = {"slope": [0.0, 1.0, 10.0], "sigma": [0.1, 0.0, 0.01], "orthogonality": [0.0, 0.1, 0.02]}
    hparams = {name: torch.tensor(values, dtype=torch.float64) for name, values in strengths.items()}
    params, state = fr.model_members(CRITIC, random.key(0), 3)
    members = begun = train.init(params, state, OPTIMIZER, key=random.key(1), members=3)
    step = fr.jit(vmap(STEP, in_dims=(0, None, 0)))
    with random.compiled_draws_are("native"):  # which compiles in half the time
        for _ in range(5):
            members, _ = step(members, SAMPLES, hparams)
    for member in range(3):
        theirs = by_hand(tree.index(begun, member), {name: values[member] for name, values in strengths.items()}, 5)
        gap = tree.norm(tree.map(torch.sub, tree.index(members.params, member), theirs))
        assert gap < 1e-12 * tree.norm(tree.map(torch.sub, theirs, tree.index(begun.params, member)))


def test_a_noisy_model_is_penalised_with_its_own_key() -> None:
    """Jacobians of a model with dropout, for one rate and strength a member."""
    model = fr.from_module(nn.Sequential(nn.Linear(3, 6), nn.Dropout(0.5), nn.Tanh(), nn.Linear(6, 4)).double())
    params, state = fr.variables(nn.Sequential(nn.Linear(3, 6), nn.Identity(), nn.Tanh(), nn.Linear(6, 4)).double())

    def penalty(params: Any, rate: Tensor, strength: Tensor, key: Tensor) -> Tensor:
        noise, directions = random.split(key)
        return penalties.jacobian(
            lambda x: model.apply(params, state, x, key=noise, rates=rate)[0], INPUTS, strength, key=directions
        )

    rates, strengths = torch.tensor([0.0, 0.3, 0.6]), torch.tensor([1.0, 0.1, 2.0])
    keys = random.split(random.key(12), 3)
    slopes = vmap(grad(penalty), in_dims=(None, 0, 0, 0))(params, rates, strengths, keys)
    for member in range(3):
        alone = grad(penalty)(params, rates[member], strengths[member], keys[member])
        tree.map(lambda a, b, m=member: torch.testing.assert_close(a[m], b), slopes, alone)
        assert tree.norm(alone) > 0


def test_a_weight_without_numbers_has_no_singular_value() -> None:
    assert penalties.spectral({"empty": torch.zeros(0, 3), "w": 2 * torch.eye(2)}, 1.0) == 4
