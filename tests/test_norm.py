"""fr.norm: parity with nn.BatchNorm, as changes from the start."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jvp, vmap

import funcreg as fr
from funcreg import norm

MODULES: dict[str, tuple[type[nn.BatchNorm1d] | type[nn.BatchNorm2d] | type[nn.BatchNorm3d], tuple[int, ...]]] = {
    "1d": (nn.BatchNorm1d, (6, 3)),
    "1d-sequence": (nn.BatchNorm1d, (6, 3, 5)),
    "2d": (nn.BatchNorm2d, (6, 3, 4, 5)),
    "3d": (nn.BatchNorm3d, (6, 3, 2, 4, 5)),
}


def batches(shape: tuple[int, ...], count: int = 20, dtype: torch.dtype = torch.float64) -> Tensor:
    drawn = fr.random.normal(fr.random.key(1), (count, *shape), mean=2.0, std=3.0, dtype=torch.float64)
    return drawn.to(dtype)


def vectors(channels: int = 3) -> tuple[Tensor, Tensor]:
    scale, shift = fr.random.normal(fr.random.key(2), (2, channels), dtype=torch.float64)
    return scale, shift


def as_stats(module: nn.Module) -> norm.BatchStats:
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    return norm.BatchStats(buffers["running_mean"], buffers["running_var"], buffers["num_batches_tracked"])


@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, None])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", MODULES)
def test_twenty_steps_equal_torchs(kind: str, affine: bool, momentum: float | None) -> None:
    make, shape = MODULES[kind]
    module = make(3, momentum=momentum, affine=affine, dtype=torch.float64)
    scale, shift = vectors() if affine else (None, None)
    if scale is not None and shift is not None:
        module.load_state_dict({**module.state_dict(), "weight": scale, "bias": shift})
    stats = start = as_stats(module)
    *_, last = inputs = batches(shape)
    for x in inputs:
        y, stats = norm.batch_norm(x, stats, scale=scale, shift=shift, train=True, momentum=momentum)
        torch.testing.assert_close(y, module(x), rtol=1e-12, atol=1e-12)
    theirs = as_stats(module)
    assert int(stats.count) == int(theirs.count) == 20
    assert momentum == 0 or float((theirs.mean - start.mean).abs().min()) > 0.1, "the reference moved"
    torch.testing.assert_close(stats.mean - start.mean, theirs.mean - start.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stats.var - start.var, theirs.var - start.var, rtol=1e-12, atol=1e-12)
    y, after = norm.batch_norm(last, stats, scale=scale, shift=shift, train=False, momentum=momentum)
    torch.testing.assert_close(y, module.eval()(last), rtol=1e-12, atol=1e-12)
    assert after is stats, "evaluation gives the statistics back as they came"


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("kind", MODULES)
def test_gradients_equal_torchs(kind: str, train: bool) -> None:
    make, shape = MODULES[kind]
    module = make(3, dtype=torch.float64).train(train)
    stats, (scale, shift), (x, direction) = as_stats(module), vectors(), batches(shape, 2)

    def ours(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return (norm.batch_norm(x, stats, scale=scale, shift=shift, train=train)[0] * direction).sum()

    one = grad(ours, argnums=(0, 1, 2))(x, scale, shift)
    leaves = [each.clone().requires_grad_() for each in (x, scale, shift)]
    y = functional_call(module, {"weight": leaves[1], "bias": leaves[2]}, leaves[0])
    other = torch.autograd.grad((y * direction).sum(), leaves)
    assert min(float(each.abs().max()) for each in other) > 0.01
    torch.testing.assert_close(one, tuple(other), rtol=1e-10, atol=1e-10)


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
