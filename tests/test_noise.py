"""fr.noise: exact ends, batched settings, one mask in every dtype, and what is dropped together."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

import funcreg as fr
from funcreg import noise

Noise = Callable[..., Tensor]
WITH_RATE: dict[str, Noise] = {
    "dropout": noise.dropout,
    "channel_dropout": noise.channel_dropout,
    "alpha_dropout": noise.alpha_dropout,
    "feature_alpha_dropout": noise.feature_alpha_dropout,
    "gaussian_dropout": noise.gaussian_dropout,
    "drop_path": noise.drop_path,
    "drop_path_batch": lambda x, rate, *, key: noise.drop_path(x, rate, key=key, mode="batch"),
    "drop_block": lambda x, rate, *, key: noise.drop_block(x, rate, key=key, block_size=2),
    "drop_connect": lambda x, rate, *, key: noise.drop_connect({"w": x}, rate, key=key)["w"],
    "layer_drop": lambda x, rate, *, key: noise.layer_drop(x, torch.zeros_like(x), rate, key=key),
}
MASKS = {name: each for name, each in WITH_RATE.items() if "alpha" not in name and name != "gaussian_dropout"}
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


@pytest.mark.parametrize("name", [name for name in MASKS if name != "layer_drop"])
def test_what_is_kept_is_scaled_and_rounded_once(name: str, key: Tensor) -> None:
    for dtype in DTYPES:
        x = images(dtype)
        y = MASKS[name](x, 0.1, key=key)
        precise = x.double() * (1 / 0.9) if dtype == torch.float64 else x.float() * torch.tensor(1 / 0.9)
        assert torch.equal(y[y != 0], precise.to(dtype)[y != 0])


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


def test_alpha_dropout_drops_the_channels_that_channel_dropout_drops(key: Tensor) -> None:
    x = images()
    y, dropped = noise.feature_alpha_dropout(x, 0.3, key=key), noise.channel_dropout(x, 0.3, key=key) == 0
    assert y[dropped].unique().numel() == 1
    assert y[~dropped].unique().numel() == x[~dropped].numel()


@pytest.mark.parametrize("mode", ["row", "batch"])
def test_paths_are_dropped_whole(mode: str, key: Tensor) -> None:
    draws = vmap(lambda key: noise.drop_path(images(), 0.3, key=key, mode=mode))(fr.random.split(key, 50))
    kept = (draws != 0).flatten(2)
    assert torch.equal(kept, kept[..., :1].expand_as(kept))
    assert bool((kept == kept[:, :1]).all()) == (mode == "batch")


def test_a_layer_is_dropped_as_a_path_of_the_batch_is(key: Tensor) -> None:
    x = images()
    for each in fr.random.split(key, 20):
        path = noise.drop_path(x, 0.3, key=each, mode="batch")
        assert torch.equal(noise.layer_drop(x, -x, 0.3, key=each), x if bool(path.any()) else -x)


def test_the_branch_that_is_not_taken_has_no_part_in_values_and_gradients(key: Tensor) -> None:
    x, nothing = images(), torch.full_like(images(), math.nan)
    slopes = grad(lambda x, skipped, rate: noise.layer_drop(x, skipped, rate, key=key).sum(), argnums=(0, 1))
    for given, expected in (((x, nothing, 0.0), (1.0, 0.0)), ((nothing, x, 1.0), (0.0, 1.0))):
        assert torch.equal(noise.layer_drop(*given, key=key), x)
        assert tuple(float(slope.unique()) for slope in slopes(*given)) == expected


def test_layer_drop_gives_the_layers_dtype(key: Tensor) -> None:
    x = images(torch.bfloat16)
    for rate, expected in ((0.0, x), (1.0, -x)):
        y = noise.layer_drop(x, -x.float(), rate, key=key)
        assert y.dtype == torch.bfloat16
        assert torch.equal(y, expected)


def test_drop_block_drops_blocks(key: Tensor) -> None:
    dropped = (noise.drop_block(torch.ones(2000, 1, 9), 0.05, key=key, block_size=3) == 0).squeeze(1)
    inside = dropped[:, 3:6].any(dim=1)
    runs = {"".join("x" if each else "." for each in row) for row in dropped[inside].tolist()}
    assert all("xxx" in run or run.startswith("x") or run.endswith("x") for run in runs)
    assert any("xxx" in run for run in runs)


def test_drop_block_of_one_is_dropout_at_every_element(key: Tensor) -> None:
    x = images()
    assert torch.equal(noise.drop_block(x, 0.3, key=key, block_size=1), noise.dropout(x, 0.3, key=key))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prefix", [0, 2, 9])
def test_tokens_at_rates_of_0_and_1(prefix: int, dtype: torch.dtype, key: Tensor) -> None:
    """All, and one beside the prefix; a prefix of 9 is the whole sequence. The gradient counts what is kept."""
    x = fr.random.normal(key, (3, 9, 4)).to(dtype)
    for rate, kept in ((0.0, 9), (1.0, min(prefix + 1, 9))):
        y = noise.token_dropout(x, rate, key=key, prefix=prefix)
        slope = grad(lambda x, rate=rate: noise.token_dropout(x, rate, key=key, prefix=prefix).sum())(x)
        assert y.dtype == dtype
        assert y.shape == (3, kept, 4)
        assert torch.equal(y if rate == 0 else y[:, :prefix], x if rate == 0 else x[:, :prefix])
        assert torch.equal(y, x[slope == 1].reshape(y.shape))
        assert slope.unique().tolist() == ([1] if kept == 9 else [0, 1])


def test_tokens_keep_their_order_and_the_prefix_and_differ_by_sample(key: Tensor) -> None:
    places = torch.arange(20.0).expand(50, 20).unsqueeze(-1)
    kept = noise.token_dropout(places, 0.6, key=key, prefix=3).squeeze(-1)
    assert kept.shape == (50, 3 + 6), "floor(17 * 0.4)"
    assert torch.equal(kept[:, :3], places[:, :3, 0])
    assert bool((kept.diff(dim=1) > 0).all())
    assert kept.unique(dim=0).shape[0] > 45
    assert kept.unique().numel() == 20


@pytest.mark.parametrize("tokens", [10, 20, 50, 197])
def test_as_many_tokens_are_kept_as_the_rate_says(tokens: int) -> None:
    for hundredths in range(0, 101, 5):
        kept = noise.token_dropout(torch.zeros(1, tokens, 1), hundredths / 100, key=fr.random.key(0)).shape[1]
        assert kept == max(1, tokens * (100 - hundredths) // 100)


def test_tokens_of_a_batch_of_keys_equal_separate_calls_in_every_dtype(key: Tensor) -> None:
    x, keys = torch.arange(40.0).reshape(2, 10, 2), fr.random.split(key, 4)
    expected = torch.stack([noise.token_dropout(x, 0.3, key=each, prefix=1) for each in keys])
    for dtype in DTYPES:
        given = x.to(dtype)
        batched = vmap(lambda key, given=given: noise.token_dropout(given, 0.3, key=key, prefix=1))(keys)
        assert torch.equal(batched, expected.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_slopes_stay_in_their_interval_whatever_the_dtype(dtype: torch.dtype, key: Tensor) -> None:
    x = images(dtype)
    wide, below = x.to(torch.promote_types(dtype, torch.float32)), x < 0
    y = noise.rrelu(x, 0.1, 0.3, key=key)
    assert y.dtype == dtype
    assert torch.equal(y[~below], x[~below])
    assert bool((y >= (wide * 0.3).to(dtype))[below].all())
    assert bool((y <= (wide * 0.1).to(dtype))[below].all())
    slopes = [(each / given)[below] for each, given in ((y, x), (noise.rrelu(images(), 0.1, 0.3, key=key), images()))]
    torch.testing.assert_close(slopes[0].double(), slopes[1], rtol=4 * torch.finfo(dtype).eps + 1e-6, atol=0)
    assert slopes[1].unique().numel() == int(below.sum()), "one for each element"


@pytest.mark.parametrize("dtype", DTYPES)
def test_slopes_of_0_and_1_are_relu_and_nothing_with_finite_gradients(dtype: torch.dtype, key: Tensor) -> None:
    x = images(dtype)
    for slope, expected in ((0.0, torch.relu(x)), (1.0, x)):
        assert torch.equal(noise.rrelu(x, slope, slope, key=key), expected)
        slopes = grad(lambda x, slope=slope: noise.rrelu(x, slope, slope, key=key).sum())(x)
        assert torch.equal(slopes, torch.where(x > 0, 1.0, slope).to(dtype))


def test_a_batch_of_slopes_and_keys_equals_separate_calls(key: Tensor) -> None:
    x, lower, keys = images(), torch.tensor([-0.1, 0.0, 0.2], dtype=torch.float64), fr.random.split(key, 3)
    batched = vmap(lambda lower, key: noise.rrelu(x, lower, lower + 0.1, key=key))(lower, keys)
    alone = [noise.rrelu(x, low, low + 0.1, key=each) for low, each in zip(lower.tolist(), keys, strict=True)]
    torch.testing.assert_close(batched, torch.stack(alone))


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
