"""fr.noise: exact ends, right moments, and the same values that PyTorch's own layers produce."""

import math
from collections.abc import Callable

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

import funcreg as fr
from funcreg import noise

Noise = Callable[..., Tensor]
WITH_RATE: dict[str, Noise] = {
    "dropout": noise.dropout,
    "channel_dropout": noise.channel_dropout,
    "alpha_dropout": noise.alpha_dropout,
    "gaussian_dropout": noise.gaussian_dropout,
    "drop_path": noise.drop_path,
    "drop_path_batch": lambda x, rate, *, key: noise.drop_path(x, rate, key=key, mode="batch"),
    "drop_block": lambda x, rate, *, key: noise.drop_block(x, rate, key=key, block_size=2),
    "drop_connect": lambda x, rate, *, key: noise.drop_connect({"w": x}, rate, key=key)["w"],
}
MASKS = {name: each for name, each in WITH_RATE.items() if name not in ("alpha_dropout", "gaussian_dropout")}
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    drawn = fr.random.normal(fr.random.key(100), (3, 4, 5, 6), dtype=torch.float64)
    return (drawn + torch.sign(drawn) * 0.1).to(dtype)  # away from 0, so that a 0 was dropped


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WITH_RATE)
def test_rates_of_0_and_1_are_exact_with_finite_gradients(
    name: str, dtype: torch.dtype, as_tensor: bool, key: Tensor
) -> None:
    x = images(dtype)
    for rate, expected, slope in ((0.0, x, torch.ones_like(x)), (1.0, torch.zeros_like(x), torch.zeros_like(x))):
        given = torch.tensor(rate) if as_tensor else rate
        y = WITH_RATE[name](x, given, key=key)
        assert y.dtype == dtype
        assert torch.equal(y, expected)
        assert torch.equal(grad(lambda x, given=given: WITH_RATE[name](x, given, key=key).sum())(x), slope)
    if as_tensor:
        slopes = vmap(grad(lambda rate: WITH_RATE[name](x, rate, key=key).double().sum()))(
            torch.tensor([0.0, 0.5, 1.0])
        )
        assert bool(torch.isfinite(slopes).all())


@pytest.mark.parametrize("name", WITH_RATE)
def test_a_batch_of_rates_and_keys_equals_separate_calls(name: str, key: Tensor) -> None:
    x, rates, keys = images(), torch.tensor([0.0, 0.3, 0.9, 1.0]), fr.random.split(key, 4)
    batched = vmap(lambda rate, key: WITH_RATE[name](x, rate, key=key))(rates, keys)
    one_by_one = [WITH_RATE[name](x, float(rate), key=each) for rate, each in zip(rates, keys, strict=True)]
    # A rate given as float32 is 0.3 rounded: the scale moves in the eighth digit, the mask not at all.
    torch.testing.assert_close(batched, torch.stack(one_by_one), rtol=1e-6, atol=1e-7)
    assert torch.equal(batched == 0, torch.stack(one_by_one) == 0)


@pytest.mark.parametrize("name", MASKS)
def test_the_mask_does_not_depend_on_the_dtype(name: str, key: Tensor) -> None:
    keys = fr.random.split(key, 20)
    masks = [torch.stack([MASKS[name](images(dtype), 0.4, key=k) != 0 for k in keys]) for dtype in DTYPES]
    assert all(torch.equal(mask, masks[0]) for mask in masks)
    assert 0 < int(masks[0].sum()) < masks[0].numel()


@pytest.mark.parametrize("name", MASKS)
def test_what_is_kept_is_scaled_and_rounded_once(name: str, key: Tensor) -> None:
    for dtype in DTYPES:
        x = images(dtype)
        y = MASKS[name](x, 0.1, key=key)
        precise = x.double() * (1 / 0.9) if dtype == torch.float64 else x.float() * torch.tensor(1 / 0.9)
        assert torch.equal(y[y != 0], precise.to(dtype)[y != 0])


@pytest.mark.parametrize("name", sorted(MASKS.keys() | {"gaussian_dropout"}))
@pytest.mark.parametrize("rate", [0.25, 0.5, 0.75])
def test_mean_and_variance_over_keys(name: str, rate: float, key: Tensor) -> None:
    x = torch.linspace(-2, 2, 2 * 3 * 4, dtype=torch.float64).reshape(2, 3, 4)
    draws = vmap(lambda key: WITH_RATE[name](x, rate, key=key))(fr.random.split(key, 20_000))
    variance = rate / (1 - rate) * x**2
    error = (draws.mean(dim=0) - x) / (variance / 20_000).sqrt()
    assert float(error.abs().max()) < 4.5, "the mean is the input, to 4.5 standard errors of 24 elements"
    # The variance's own relative standard error is at most sqrt((kurtosis - 1) / n) = 2%.
    torch.testing.assert_close(draws.var(dim=0), variance, rtol=0.06, atol=0)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_dropout_has_the_distribution_of_torchs(rate: float, key: Tensor) -> None:
    x = images()
    torch.manual_seed(0)
    theirs, ours = F.dropout(x, rate), noise.dropout(x, rate, key=key)
    both_kept = (theirs != 0) & (ours != 0)
    torch.testing.assert_close(ours[both_kept], theirs[both_kept], rtol=1e-15, atol=0)
    dropped = int((noise.dropout(torch.ones(100_000), rate, key=key) == 0).sum())
    assert scipy.stats.binomtest(dropped, 100_000, rate).pvalue > 1e-3


def test_elements_are_dropped_independently(key: Tensor) -> None:
    dropped = vmap(lambda key: noise.dropout(torch.ones(20), 0.3, key=key))(fr.random.split(key, 20_000)) == 0
    correlations = torch.corrcoef(dropped.T.double())[~torch.eye(20, dtype=torch.bool)]
    assert float(correlations.abs().max()) < 4.5 / math.sqrt(20_000)


def test_dropout_commutes_with_relu_and_not_with_sigmoid(key: Tensor) -> None:
    x = images()
    dropped = noise.dropout(x, 0.5, key=key)
    assert torch.equal(torch.relu(dropped), noise.dropout(torch.relu(x), 0.5, key=key))
    assert not torch.allclose(torch.sigmoid(dropped), noise.dropout(torch.sigmoid(x), 0.5, key=key))


def test_the_gradient_is_the_mask(key: Tensor) -> None:
    x = images()
    slope = grad(lambda x: noise.dropout(x, 0.4, key=key).sum())(x)
    torch.testing.assert_close(slope * x, noise.dropout(x, 0.4, key=key))


def test_another_default_dtype_changes_nothing(key: Tensor) -> None:
    x = images(torch.float32)
    expected = {name: each(x, 0.3, key=key) for name, each in WITH_RATE.items()}
    torch.set_default_dtype(torch.float64)
    try:
        for name, each in WITH_RATE.items():
            assert torch.equal(each(x, 0.3, key=key), expected[name]), name
            assert each(x, torch.tensor(0.3), key=key).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_channels_are_dropped_whole(key: Tensor) -> None:
    y = noise.channel_dropout(torch.ones(50, 8, 3, 4, 2), 0.25, key=key)
    per_channel = y.flatten(2)
    assert torch.equal(per_channel, per_channel[..., :1].expand_as(per_channel))
    assert sorted(per_channel.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert int((per_channel[..., 0] == 0).sum()) == pytest.approx(100, abs=30)  # of 400; sd 8.7


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_alpha_dropout_has_the_two_values_of_torchs(rate: float, key: Tensor) -> None:
    x = images()
    torch.manual_seed(0)
    theirs, ours = F.alpha_dropout(x, rate, training=True), noise.alpha_dropout(x, rate, key=key)
    floor = min(float(theirs.flatten().mode().values), float(ours.flatten().mode().values))
    kept = ((theirs - floor).abs() > 1e-9) & ((ours - floor).abs() > 1e-9)
    assert int(kept.sum()) > 0
    torch.testing.assert_close(ours[kept], theirs[kept], rtol=1e-12, atol=1e-12)
    off = (ours - floor).abs() <= 1e-9
    assert int(off.sum()) > 0
    torch.testing.assert_close(ours[off], torch.full_like(ours[off], floor))


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.95])
def test_alpha_dropout_keeps_the_mean_and_variance_of_selu(rate: float, key: Tensor) -> None:
    inputs, dropped = fr.random.split(key)
    x = F.selu(fr.random.normal(inputs, (400_000,), dtype=torch.float64))
    y = noise.alpha_dropout(x, rate, key=dropped)
    assert float(y.mean()) == pytest.approx(0, abs=0.01)
    assert float(y.var()) == pytest.approx(1, abs=0.03)


def test_gaussian_noise_is_normal_around_the_input(key: Tensor) -> None:
    x = torch.full((100_000,), 3.0, dtype=torch.float64)
    z = (noise.gaussian_noise(x, 0.2, key=key) - 3) / 0.2
    assert scipy.stats.kstest(z.numpy(), "norm").pvalue > 1e-3
    assert torch.equal(noise.gaussian_noise(x, 0.0, key=key), x)
    stds = torch.tensor([0.0, 1.0], dtype=torch.float64)
    batched = vmap(lambda std: noise.gaussian_noise(x, std, key=key))(stds)
    torch.testing.assert_close(batched[1], 3 + z)
    slope = grad(lambda std: noise.gaussian_noise(x, std, key=key).sum())(stds[1])
    torch.testing.assert_close(slope, z.sum())


def test_gaussian_dropout_is_normal_around_one(key: Tensor) -> None:
    z = noise.gaussian_dropout(torch.ones(100_000, dtype=torch.float64), 0.2, key=key) - 1
    assert scipy.stats.kstest((z / 0.5).numpy(), "norm").pvalue > 1e-3  # sqrt(0.2 / 0.8) = 1/2


def test_drop_path_has_the_values_of_torchvisions(key: Tensor) -> None:
    stochastic_depth = pytest.importorskip("torchvision.ops").stochastic_depth
    x = images()
    torch.manual_seed(1)
    for mode in ("row", "batch"):
        theirs = torch.stack([stochastic_depth(x, 0.3, mode) for _ in range(200)])
        ours = vmap(lambda k, mode=mode: noise.drop_path(x, 0.3, key=k, mode=mode))(fr.random.split(key, 200))
        for draws in (theirs, ours):
            rows = draws / x
            torch.testing.assert_close(rows, rows[..., :1, :1, :1].expand_as(rows))
            kept = rows[..., 0, 0, 0] != 0
            assert bool((kept == kept[:, :1]).all()) == (mode == "batch")
        torch.testing.assert_close(ours.max(dim=0).values, theirs.max(dim=0).values)


@pytest.mark.parametrize("shape", [(7,), (6, 5), (4, 5, 3)])
@pytest.mark.parametrize("block_size", [1, 2, 3])
def test_drop_block_drops_each_element_at_its_rate(shape: tuple[int, ...], block_size: int, key: Tensor) -> None:
    x = torch.ones(400, 25, *shape)
    dropped = noise.drop_block(x, 0.3, key=key, block_size=block_size) == 0
    frequency = dropped.double().mean(dim=(0, 1))
    # 10,000 independent maps: a standard error of 0.0046 at every place, corners as well.
    assert float((frequency - 0.3).abs().max()) < 4.5 * 0.0046


def test_drop_block_drops_blocks(key: Tensor) -> None:
    dropped = (noise.drop_block(torch.ones(2000, 1, 9), 0.05, key=key, block_size=3) == 0).squeeze(1)
    inside = dropped[:, 3:6].any(dim=1)
    runs = {"".join("x" if each else "." for each in row) for row in dropped[inside].tolist()}
    assert all("xxx" in run or run.startswith("x") or run.endswith("x") for run in runs)
    assert any("xxx" in run for run in runs)


def test_drop_block_of_one_is_dropout_at_every_element(key: Tensor) -> None:
    x = images()
    assert torch.equal(noise.drop_block(x, 0.3, key=key, block_size=1), noise.dropout(x, 0.3, key=key))


def test_drop_connect_picks_leaves_by_name(key: Tensor) -> None:
    params = {"0.weight": torch.ones(1000), "0.bias": torch.ones(1000), "1": {"weight": torch.ones(1000)}}
    before = fr.tree.clone(params)
    out = noise.drop_connect(params, 0.5, key=key, mask=fr.tree.is_weight)
    assert out["0.bias"] is params["0.bias"]
    assert sorted(out["0.weight"].unique().tolist()) == [0, 2]
    assert not torch.equal(out["0.weight"], out["1"]["weight"]), "each leaf has its own mask"
    assert all(torch.equal(params[name], before[name]) for name in ("0.weight", "0.bias"))
    assert noise.drop_connect({}, 0.5, key=key) == {}


def test_a_nan_rate_is_not_hidden(key: Tensor) -> None:
    assert bool(noise.dropout(torch.ones(4), torch.tensor(math.nan), key=key).isnan().all())


def test_a_member_without_its_own_rate_shares_the_mask_of_its_key(key: Tensor) -> None:
    x = fr.random.normal(key, (3, 10))
    assert torch.equal(
        vmap(lambda x: noise.dropout(x, 0.5, key=key) != 0)(x), (noise.dropout(x[0], 0.5, key=key) != 0).expand(3, 10)
    )
