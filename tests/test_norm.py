"""fr.norm, beside its oracles: precision, derivatives, state, and what happens at the edges."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, hessian, jvp, vmap

import funcreg as fr
from funcreg import norm


def batches(shape: tuple[int, ...], count: int = 20, dtype: torch.dtype = torch.float64) -> Tensor:
    drawn = fr.random.normal(fr.random.key(1), (count, *shape), mean=2.0, std=3.0, dtype=torch.float64)
    return drawn.to(dtype)


def drawn(seed: int, *shape: int) -> Tensor:
    return fr.random.normal(fr.random.key(seed), shape, dtype=torch.float64)


def vectors(channels: int = 3) -> tuple[Tensor, Tensor]:
    scale, shift = fr.random.normal(fr.random.key(2), (2, channels), dtype=torch.float64)
    return scale, shift


def test_evaluation_gives_the_statistics_back_as_they_came() -> None:
    stats = norm.BatchStats(torch.ones(3), torch.full((3,), 2.0), torch.tensor(4))
    assert norm.batch_norm(batches((6, 3), 1)[0], stats, train=False)[1] is stats


def test_there_are_forward_and_second_derivatives() -> None:
    x, tangent = batches((4, 2), 2)
    stats = norm.init_batch_stats(2)

    def loss(x: Tensor) -> Tensor:
        return (norm.batch_norm(x, stats, train=True)[0] ** 3).sum()

    slope = jvp(loss, (x,), (tangent,))[1]
    torch.testing.assert_close(slope, (grad(loss)(x) * tangent).sum())
    curvature = hessian(loss)(x)
    assert bool(torch.isfinite(curvature).all())
    step = 1e-6 * tangent
    torch.testing.assert_close(
        torch.einsum("abcd,cd->ab", curvature, tangent),
        (grad(loss)(x + step) - grad(loss)(x - step)) / 2e-6,
        rtol=1e-5,
        atol=1e-5,
    )


class _Called(nn.Module):
    """A norm that a forward calls as a function."""

    def __init__(self, function: Callable[..., Tensor], *before: object, **settings: object) -> None:
        super().__init__()
        self.function, self.before, self.settings = function, before, settings
        self.weight, self.bias = (nn.Parameter(each) for each in vectors(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.before, weight=self.weight, bias=self.bias, **self.settings)


F = nn.functional
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "layer": lambda: nn.LayerNorm(4),
    "layer, no bias": lambda: nn.LayerNorm(4, bias=False),
    "rms": lambda: nn.RMSNorm(4),
    "group": lambda: nn.GroupNorm(2, 4),
    "batch": lambda: nn.BatchNorm1d(4, track_running_stats=False),
    "instance": lambda: nn.InstanceNorm1d(4, affine=True),
    "F.layer_norm": lambda: _Called(F.layer_norm, (4,)),
    "torch.layer_norm": lambda: _Called(torch.layer_norm, (4,)),
    "F.batch_norm": lambda: _Called(F.batch_norm, None, None, training=True),
    "F.instance_norm": lambda: _Called(F.instance_norm),
}
FUNCTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "fr layer_norm": lambda x, w, b: norm.layer_norm(x, scale=w, shift=b),
    "fr rms_norm": lambda x, w, b: norm.rms_norm(x, scale=w),
    "fr group_norm": lambda x, w, b: norm.group_norm(x, 2, scale=w, shift=b),
    "fr instance_norm": lambda x, w, b: norm.instance_norm(x, scale=w, shift=b),
    "fr batch_norm": lambda x, w, b: norm.batch_norm(x, norm.init_batch_stats(4), scale=w, shift=b, train=True)[0],
}


def _of_parameters(name: str) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A scalar of one vector, all inputs and parameters, through a norm."""
    (x,) = batches((3, 4, 4), 1)
    if name in FUNCTIONS:
        scale, shift = vectors(4)
        parts = {"x": x, "weight": scale, "bias": shift}

        def call(given: dict[str, Tensor]) -> Tensor:
            return FUNCTIONS[name](given["x"], given["weight"], given["bias"])
    else:
        module = LAYERS[name]().double()
        model, (params, state) = fr.from_module(module), fr.variables(module)
        varied = {key: leaf + 0.3 * torch.arange(leaf.numel()).reshape(leaf.shape) for key, leaf in params.items()}
        parts = {"x": x, **varied}

        def call(given: dict[str, Tensor]) -> Tensor:
            return model.apply({key: given[key] for key in params}, state, given["x"])[0]

    sizes = [leaf.numel() for leaf in parts.values()]

    def total(vector: Tensor) -> Tensor:
        given = zip(parts, vector.split(sizes), strict=True)
        return (call({key: leaf.reshape(parts[key].shape) for key, leaf in given}) ** 3).sum()

    return total, torch.cat([leaf.flatten() for leaf in parts.values()])


@pytest.mark.parametrize("name", [*LAYERS, *FUNCTIONS])
def test_second_derivatives_by_every_parameter_are_those_of_finite_differences(name: str) -> None:
    """Torch's own have wrong blocks for layer, batch and instance norm with a vmap between two derivatives."""
    total, at = _of_parameters(name)
    steps = 1e-6 * torch.eye(len(at), dtype=torch.float64)
    slopes = vmap(grad(total))
    expected = (slopes(at + steps) - slopes(at - steps)) / 2e-6
    torch.testing.assert_close(hessian(total)(at), expected, rtol=0, atol=1e-8 * float(expected.abs().max()))


@pytest.mark.parametrize("momentum", [1.0, None, torch.tensor(1.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_momentum_of_one_gives_the_batchs_own_statistics_whatever_was_before(
    momentum: float | Tensor | None, dtype: torch.dtype
) -> None:
    """In eager code and in transforms; None is 1 at the first batch. The variances are far below eps, too."""
    x = 1e-6 * batches((50, 3), 1, dtype=torch.float64)[0]
    expected = {"mean": x.mean(dim=0), "var": x.var(dim=0)}
    before = norm.BatchStats(torch.full((3,), 1e6), torch.full((3,), 1e6), torch.tensor(0))
    for run in (lambda f: f(x.to(dtype)), lambda f: fr.tree.index(vmap(f)(x.to(dtype)[None]), 0)):
        stats = run(lambda x: norm.batch_norm(x, before, train=True, momentum=momentum)[1])
        for name, value in expected.items():
            torch.testing.assert_close(getattr(stats, name).double(), value, rtol=1e-5, atol=0)


def test_everything_may_be_batched() -> None:
    x = batches((5, 3, 4), 4)
    scale, shift = torch.rand(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    momenta, epss = torch.tensor([0.0, 0.1, 0.5, 1.0]), torch.tensor([1e-5, 1e-3, 0.1, 1.0])
    stats = fr.tree.stack(
        [norm.BatchStats(torch.full((3,), float(k)), torch.ones(3), torch.tensor(k)) for k in range(4)]
    )

    def one(x: Tensor, stats: norm.BatchStats, scale: Tensor, shift: Tensor, momentum: Tensor, eps: Tensor):
        return norm.batch_norm(x, stats, scale=scale, shift=shift, train=True, momentum=momentum, eps=eps)

    batched = vmap(one)(x, stats, scale, shift, momenta, epss)
    for k in range(4):
        alone = one(x[k], fr.tree.index(stats, k), scale[k], shift[k], momenta[k], epss[k])
        torch.testing.assert_close(fr.tree.index(batched, k), alone, rtol=1e-6, atol=1e-6)  # statistics in float32
        module = nn.BatchNorm1d(3, momentum=float(momenta[k]), eps=float(epss[k]), dtype=torch.float64)
        module.load_state_dict(
            {"weight": scale[k], "bias": shift[k], "running_mean": stats.mean[k], "running_var": stats.var[k],
             "num_batches_tracked": stats.count[k]}
        )  # fmt: skip
        torch.testing.assert_close(batched[0][k], module(x[k]), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(batched[1].mean[k].double(), module.running_mean, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_inputs_keep_float32_statistics(dtype: torch.dtype, train: bool) -> None:
    x = batches((64, 3, 5), 1, dtype)[0]
    scale, shift = (vector.to(dtype) for vector in vectors())
    y, stats = norm.batch_norm(x, norm.init_batch_stats(3), scale=scale, shift=shift, train=train)
    assert y.dtype == dtype
    assert stats.mean.dtype == stats.var.dtype == torch.float32
    precise, precise_stats = norm.batch_norm(
        x.float(), norm.init_batch_stats(3), scale=scale.float(), shift=shift.float(), train=train
    )
    assert torch.equal(y, precise.to(dtype)), "computed in float32, rounded once"
    torch.testing.assert_close(stats, precise_stats)


def test_float64_statistics_stay_float64() -> None:
    stats = fr.tree.cast(norm.init_batch_stats(3), torch.float64)
    _, after = norm.batch_norm(batches((6, 3), 1)[0], stats, train=True)
    assert after.mean.dtype == after.var.dtype == torch.float64


@pytest.mark.parametrize("offset", [0.0, 100.0, 10_000.0])
def test_a_large_mean_does_not_swallow_the_variance(offset: float) -> None:
    exact = batches((64, 3), 1)[0]
    shifted = (exact + offset).float()
    y, _ = norm.batch_norm(shifted, norm.init_batch_stats(3), train=True)
    expected, _ = norm.batch_norm(shifted.double(), norm.init_batch_stats(3), train=True)
    # Centring is exact but for the mean's own rounding, an ulp of the offset.
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-6 + offset * 1e-7)


def test_constant_channels_have_finite_gradients() -> None:
    x = torch.ones(4, 2)
    slope = grad(lambda x: (norm.batch_norm(x, norm.init_batch_stats(2), train=True)[0] ** 2).sum())(x)
    assert torch.equal(slope, torch.zeros_like(x))


def test_no_gradient_flows_into_the_statistics() -> None:
    def moved(x: Tensor) -> Tensor:
        return norm.batch_norm(x, norm.init_batch_stats(3), train=True)[1].mean.sum()

    assert torch.equal(grad(moved)(batches((6, 3), 1)[0]), torch.zeros(6, 3, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_one_value_per_channel_is_refused_in_training_alone(shape: tuple[int, ...]) -> None:
    x, stats = torch.ones(shape), norm.init_batch_stats(3)
    with pytest.raises(fr.FuncregError, match=r"x: .*more than one value per channel"):
        norm.batch_norm(x, stats, train=True)
    assert norm.batch_norm(x, stats, train=False)[0].shape == shape


def test_channels_last_memory_gives_the_same() -> None:
    x = batches((6, 3, 4, 5), 1)[0]
    run: Callable[[Tensor], Tensor] = lambda x: norm.batch_norm(x, norm.init_batch_stats(3), train=True)[0]  # noqa: E731
    torch.testing.assert_close(run(x.to(memory_format=torch.channels_last)), run(x))


EACH: dict[str, Callable[..., Tensor]] = {
    "layer": lambda x, **given: norm.layer_norm(x, **given),
    "layer, two axes": lambda x, **given: norm.layer_norm(x, dims=2, **given),
    "rms": lambda x, **given: norm.rms_norm(x, **given),
    "group": lambda x, **given: norm.group_norm(x, 2, **given),
    "instance": lambda x, **given: norm.instance_norm(x, **given),
}


@pytest.mark.parametrize("name", EACH)
def test_an_eps_that_is_a_tensor_gives_what_the_number_gives(name: str) -> None:
    x = batches((3, 4, 5), 1)[0]
    torch.testing.assert_close(EACH[name](x, eps=torch.tensor(0.1)), EACH[name](x, eps=0.1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_examples_are_computed_in_float32(dtype: torch.dtype, name: str) -> None:
    # Their sum of squares is beyond float16.
    x = 50 * batches((3, 4, 32), 1, dtype)[0]
    y = EACH[name](x)
    assert y.dtype == dtype
    assert torch.equal(y, EACH[name](x.float()).to(dtype))


@pytest.mark.parametrize("eps", [1e-5, torch.tensor(1e-5)], ids=["number", "tensor"])
@pytest.mark.parametrize("name", EACH)
def test_constant_examples_have_finite_gradients(name: str, eps: float | Tensor) -> None:
    for x in (torch.ones(2, 4, 3), torch.zeros(2, 4, 3)):
        value, slope = EACH[name](x, eps=eps), grad(lambda x: (EACH[name](x, eps=eps) ** 2).sum())(x)
        assert bool(torch.isfinite(value).all())
        assert bool(torch.isfinite(slope).all())


@pytest.mark.parametrize("eps", [1e-5, torch.tensor(1e-5)], ids=["number", "tensor"])
@pytest.mark.parametrize("name", EACH)
def test_examples_have_forward_and_second_derivatives(name: str, eps: float | Tensor) -> None:
    x, tangent = batches((2, 4, 3), 2)

    def loss(x: Tensor) -> Tensor:
        return (EACH[name](x, eps=eps) ** 3).sum()

    torch.testing.assert_close(jvp(loss, (x,), (tangent,))[1], (grad(loss)(x) * tangent).sum())
    step = 1e-6 * tangent
    torch.testing.assert_close(
        jvp(grad(loss), (x,), (tangent,))[1],
        (grad(loss)(x + step) - grad(loss)(x - step)) / 2e-6,
        rtol=1e-5,
        atol=1e-5,
    )


def test_groups_lie_between_instances_and_layers() -> None:
    x = batches((3, 4, 5, 2), 1)[0]
    torch.testing.assert_close(norm.group_norm(x, 1), norm.layer_norm(x, dims=3))
    torch.testing.assert_close(norm.group_norm(x, 4), norm.instance_norm(x))
    parts = [norm.group_norm(part, 1) for part in x.split(2, dim=1)]
    torch.testing.assert_close(norm.group_norm(x, 2), torch.cat(parts, dim=1))


def test_rms_norm_keeps_direction_and_ignores_length() -> None:
    x = batches((6, 5), 1)[0]
    torch.testing.assert_close(norm.rms_norm(7 * x, eps=0.0), norm.rms_norm(x, eps=0.0))
    torch.testing.assert_close(norm.rms_norm(x, eps=0.0).square().mean(dim=1), torch.ones(6, dtype=torch.float64))


def kernels(count: int, *shape: int) -> Tensor:
    return fr.random.normal(fr.random.key(7), (count, *shape), dtype=torch.float64)


def test_a_direction_of_zeros_gives_zeros_and_finite_gradients() -> None:
    direction, magnitude = kernels(1, 3, 4)[0], torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    direction = direction * torch.tensor([[1.0], [0.0], [1.0]])
    assert torch.equal(norm.weight_norm(direction, magnitude)[1], torch.zeros(4, dtype=torch.float64))
    for dim in (0, None):
        given = (direction, magnitude) if dim == 0 else (torch.zeros_like(direction), magnitude[0])
        slopes = grad(lambda d, m, dim=dim: norm.weight_norm(d, m, dim=dim).sum(), argnums=(0, 1))(*given)
        assert all(bool(torch.isfinite(slope).all()) for slope in slopes)


def test_a_magnitude_may_keep_its_axes() -> None:
    direction, magnitude = kernels(1, 3, 4, 2)[0], torch.tensor([1.0, 2.0, 3.0, 4.0])
    kept = norm.weight_norm(direction, magnitude.reshape(1, 4, 1), dim=1)
    assert torch.equal(norm.weight_norm(direction, magnitude, dim=-2), kept)
    torch.testing.assert_close(torch.linalg.vector_norm(kept, dim=(0, 2)), magnitude.double())
    vector = torch.tensor([-3.0, 0.0, 5.0])
    assert torch.equal(norm.weight_norm(vector, torch.full((3,), 2.0)), torch.tensor([-2.0, 0.0, 2.0]))


def sigma(weight: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(weight.flatten(1), ord=2)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_power_step_never_overestimates(steps: int) -> None:
    """So the norm of what was divided is never below 1, however little the state knows of the weight."""
    weights = kernels(200, 5, 7)
    states = [norm.SpectralState(*each.split([5, 7])) for each in kernels(200, 12)]
    norms = torch.stack([
        sigma(norm.spectral_norm(weight, state, steps=steps)[0])
        for weight, state in zip(weights, states, strict=True)
    ])  # fmt: skip
    assert float(norms.min()) >= 1 - 1e-14
    assert float(norms.max()) > 1.02, "and mostly it is above"


def test_more_steps_bring_the_norm_down_to_one() -> None:
    weight, key = kernels(1, 5, 7)[0], fr.random.key(3)
    states = [norm.init_spectral_state(weight, key=key, steps=steps) for steps in (0, 1, 3, 10, 300)]
    norms = torch.stack([sigma(norm.spectral_norm(weight, state)[0]) for state in states])
    assert bool((norms.diff() < 0).all())
    torch.testing.assert_close(norms[-1], torch.ones((), dtype=torch.float64), rtol=1e-12, atol=0)


def test_training_leaves_the_norm_above_one() -> None:
    """Not "at most 1", as textbooks have it: the estimate lags behind a weight whose largest direction changes."""
    weight = kernels(1, 8, 8)[0]
    target, state = 3 * kernels(2, 8, 8)[1], norm.init_spectral_state(weight, key=fr.random.key(0))

    def loss(weight: Tensor, state: norm.SpectralState) -> tuple[Tensor, tuple[norm.SpectralState, Tensor]]:
        scaled, state = norm.spectral_norm(weight, state)
        return (scaled - target).square().sum(), (state, scaled)

    norms = []
    optimizer = fr.optim.adam(1e-2)
    opt_state = optimizer.init(weight)
    for _ in range(100):
        slope, (state, scaled) = grad(loss, has_aux=True)(weight, state)
        updates, opt_state = optimizer.update(slope, opt_state, weight)
        weight = fr.optim.apply_updates(weight, updates)
        norms.append(sigma(scaled))
    assert float(torch.stack(norms).min()) >= 1 - 1e-14
    assert float(torch.stack(norms).max()) > 1.01


def test_no_gradient_flows_through_the_singular_vectors() -> None:
    weight, direction = kernels(2, 4, 6)
    state = norm.init_spectral_state(weight, key=fr.random.key(0), steps=1)

    def moved(weight: Tensor, state: norm.SpectralState) -> Tensor:
        _, after = norm.spectral_norm(weight, state)
        return after.u.sum() + after.v.sum()

    assert not any(bool(leaf.any()) for leaf in fr.tree.leaves(grad(moved, argnums=(0, 1))(weight, state)))
    _, (u, v) = norm.spectral_norm(weight, state)
    fixed = lambda w: (direction * w / (u @ w @ v)).sum()  # noqa: E731
    ours = lambda w: (direction * norm.spectral_norm(w, state)[0]).sum()  # noqa: E731
    for derivative in (grad, hessian):
        torch.testing.assert_close(derivative(ours)(weight), derivative(fixed)(weight), rtol=1e-12, atol=1e-12)
    tangent = kernels(3, 4, 6)[2]
    torch.testing.assert_close(jvp(ours, (weight,), (tangent,))[1], (grad(fixed)(weight) * tangent).sum())


def test_evaluation_takes_the_state_as_it_is() -> None:
    weight = kernels(1, 4, 6)[0]
    state = norm.init_spectral_state(weight, key=fr.random.key(0), steps=1)
    scaled, after = norm.spectral_norm(weight, state, steps=0)
    assert all(torch.equal(one, other) for one, other in zip(after, state, strict=True))
    torch.testing.assert_close(scaled, weight / (state.u @ weight @ state.v))


def test_a_weight_of_zeros_stays_and_can_leave() -> None:
    """Torch's layer gives NaN there, and its vectors, once zero, would never move again."""
    weight, zeros = kernels(1, 4, 3, 2)[0], torch.zeros(4, 3, 2, dtype=torch.float64)
    state = norm.init_spectral_state(zeros, key=fr.random.key(0))
    torch.testing.assert_close(torch.stack([each.norm() for each in state]), torch.ones(2, dtype=torch.float64))
    for steps in (0, 1, 2):
        scaled, after = norm.spectral_norm(zeros, state, steps=steps)
        assert torch.equal(scaled, zeros)
        assert all(torch.equal(one, other) for one, other in zip(after, state, strict=True))
        slope = grad(lambda w, n=steps: norm.spectral_norm(w, state, steps=n)[0].sum())(zeros)
        assert torch.equal(slope, torch.ones_like(slope))
    scaled, _ = norm.spectral_norm(weight, state, steps=300)
    torch.testing.assert_close(sigma(scaled), torch.ones((), dtype=torch.float64))


def three_steps(weight: Tensor, state: norm.SpectralState) -> tuple[Tensor, norm.SpectralState]:
    scaled = weight
    for _ in range(3):
        scaled, state = norm.spectral_norm(weight, state)
        weight = weight - 0.1 * scaled.flip(0)
    return scaled, state


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_members_carry_their_own_state(compiled: bool) -> None:
    weights = kernels(4, 3, 2, 2)
    keys = fr.random.split(fr.random.key(1), 4)
    states = vmap(lambda weight, key: norm.init_spectral_state(weight, key=key, steps=2))(weights, keys)
    run = vmap(three_steps)
    ours = (fr.jit(run) if compiled else run)(weights, states)
    alone = fr.tree.stack([three_steps(weights[k], fr.tree.index(states, k)) for k in range(4)])
    for one, other, start in zip(fr.tree.leaves(ours), fr.tree.leaves(alone), (weights, *states), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        assert float((one - start).abs().max()) > 0.01, "it moved"


def test_16_bit_weights_keep_a_float32_state() -> None:
    weight = kernels(1, 6, 8)[0].to(torch.bfloat16)
    state = norm.init_spectral_state(weight, key=fr.random.key(0))
    scaled, after = norm.spectral_norm(weight, state)
    assert state.u.dtype == after.u.dtype == torch.float32
    exact, _ = norm.spectral_norm(weight.float(), state)
    assert torch.equal(scaled, exact.to(torch.bfloat16)), "computed in float32, rounded once"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_fitted_scaling_does_what_it_says(dtype: torch.dtype) -> None:
    x = batches((500, 3), 1, dtype)[0]
    loose = 1e-2 if dtype == torch.bfloat16 else 1e-5
    y = norm.apply_scaling(x, norm.fit_standard(x)).double()
    torch.testing.assert_close(y.mean(dim=0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=loose)
    torch.testing.assert_close(y.var(dim=0, correction=0), torch.ones(3, dtype=torch.float64), rtol=0, atol=loose)
    y = norm.apply_scaling(x, norm.fit_min_max(x, low=-2.0, high=torch.tensor(3.0))).double()
    torch.testing.assert_close(y.amin(dim=0), torch.full((3,), -2.0, dtype=torch.float64), rtol=0, atol=loose)
    torch.testing.assert_close(y.amax(dim=0), torch.full((3,), 3.0, dtype=torch.float64), rtol=0, atol=loose)


def test_a_constant_feature_becomes_exactly_zero() -> None:
    x = torch.full((1000, 2), 0.1) + torch.tensor([0.0, 1.0]) * torch.arange(1000)[:, None]
    assert float((x[:, 0] - x[:, 0].mean()).abs().max()) > 0, "though the mean is off by rounding"
    y = norm.apply_scaling(x, norm.fit_standard(x))
    assert torch.equal(y[:, 0], torch.zeros(1000))
    assert float(norm.fit_standard(x).factor[0]) == 1
    for fit in (norm.fit_standard, norm.fit_min_max):
        slope = grad(lambda x, fit=fit: norm.apply_scaling(x, fit(x)).square().sum())(x)
        assert bool(torch.isfinite(slope).all())


def test_rows_of_zeros_stay_zeros_with_finite_gradients() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, -3.0]])
    for order in (1.0, 2.0, 3.0, math.inf):
        assert torch.equal(norm.unit_norm(x, order=order)[0], torch.zeros(2))
        slope = grad(lambda x, order=order: norm.unit_norm(x, order=order).sum())(x)
        assert bool(torch.isfinite(slope).all())
        torch.testing.assert_close(torch.linalg.vector_norm(norm.unit_norm(x, order=order)[1], order), torch.ones(()))


@pytest.mark.parametrize("size", [1e-36, 1e-30, 1e-20, 1e20, 1e30, 1e37])
def test_squares_that_float32_does_not_hold_are_no_matter(size: float) -> None:
    w = drawn(5, 3, 4)
    for scaled in (
        lambda w: norm.weight_norm(w, torch.ones(3)),
        lambda w: norm.weight_norm(w, torch.tensor(2.0), dim=None),
        lambda w: fr.constraints.max_norm(w / size, 0.1),
        lambda w: norm.apply_scaling(w, norm.fit_standard(w)),
    ):
        torch.testing.assert_close(scaled((size * w).float()).double(), scaled(size * w).double(), rtol=1e-5, atol=1e-6)
    lengths = fr.penalties.group_lasso({"w": (size * w).float()}, 1.0)
    torch.testing.assert_close(lengths.double() / size, fr.penalties.group_lasso({"w": w}, 1.0), rtol=1e-5, atol=0.0)
    torch.testing.assert_close(vmap(fr.tree.norm)((size * w).float()), vmap(fr.tree.norm)(size * w).float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_second_derivatives_of_norms_are_finite_at_zero(dtype: torch.dtype) -> None:
    for w in (torch.zeros(2, 2, dtype=dtype), torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=dtype)):
        for function in (
            fr.tree.norm,
            lambda w: fr.tree.norm([w, w[0], w[1] + 1]),
            lambda w: norm.unit_norm(w).sum(),
            lambda w: norm.weight_norm(w, torch.ones_like(w[:, 0])).sum(),
            lambda w: fr.penalties.group_lasso({"w": w}, 0.1),
            lambda w: fr.constraints.max_norm(w, 1.0).sum(),
            lambda w: fr.transforms.clip_by_global_norm(1.0).update(w, (), w)[0].sum(),
            lambda w: fr.transforms.adaptive_clip(0.1).update(w, (), w)[0].sum(),
            lambda w: fr.transforms.orthogonalize().update(w, (), w)[0].sum(),
        ):
            assert hessian(function)(w).isfinite().all()


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 5)], ids=str)
@pytest.mark.parametrize("eps", [1e-5, torch.tensor(1e-5)], ids=["number", "tensor"])
def test_a_variance_beyond_float32_gives_nan_in_its_example_not_zeros(shape: tuple[int, ...], eps: Any) -> None:
    x = drawn(6, *shape).float()
    huge = torch.cat((x[:1] * 1e20, x[1:]))
    for function in (norm.layer_norm, norm.rms_norm, lambda x, eps: norm.group_norm(x, 2, eps=eps)):
        for run in (function, lambda x, eps, f=function: vmap(lambda x: f(x, eps=eps))(x[None])[0]):
            y = run(huge, eps=eps)
            assert y[0].isnan().all()
            torch.testing.assert_close(y[1:], function(x, eps=eps)[1:])
    wide = torch.cat((huge[:, :1], x[:, 1:]), dim=1)
    stats = norm.init_batch_stats(6)
    for run in (lambda x: x, lambda x: vmap(lambda x: x)(x)):
        y, _ = norm.batch_norm(run(wide), stats, train=True, eps=eps)
        assert y[:, 0].isnan().all()
        torch.testing.assert_close(y[:, 1:], norm.batch_norm(x, stats, train=True, eps=eps)[0][:, 1:])


@pytest.mark.parametrize(
    "scaled",
    [
        lambda w: norm.weight_norm(w, torch.ones(2)),
        lambda w: norm.spectral_norm(w, norm.init_spectral_state(w, key=fr.random.key(0)))[0],
        lambda w: fr.constraints.max_norm(w, 1.0),
    ],
)
def test_a_norm_beyond_float32_gives_nan_not_zeros(scaled: Callable[[Tensor], Tensor]) -> None:
    assert scaled(torch.full((2, 3), 3e38)).isnan().all()
    assert scaled(torch.full((2, 3), 1e10)).isfinite().all()
