"""What `noise` is compared with: torch's, torchvision's and timm's own, closed forms, scipy's distributions."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, grad_and_value, vmap
from torchvision.ops import stochastic_depth

import funcreg as fr
from funcreg import noise
from tests.oracles import Pair, oracle
from tests.oracles.random import critical, frequencies, levels

KEY = fr.random.key(0)
RATES = (0.1, 0.5, 0.8)
ONE_PRODUCT = {"tolerance": 1e-14, "because": "float64: one product, scaled before it or after"}
ONE_SLOPE = "lower + 0 * uniform is lower"


def images(*shape: int) -> Tensor:
    drawn = fr.random.normal(fr.random.key(100), shape or (3, 4, 5, 6), dtype=torch.float64)
    return drawn + torch.sign(drawn) * 0.1  # away from 0, so that a 0 was dropped


def seeded(function: Callable[[], Tensor]) -> Tensor:
    """What a function of torch's global generator gives."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return function()


def kept_by_both(ours: Callable[..., Tensor], theirs: Callable[[Tensor, float], Tensor]) -> Pair:
    """Values, and gradients, which for a mask are the value over the input: of what two different masks both keep."""
    x, pairs = images(300, 4, 2, 2), []
    for rate in RATES:
        y, expected = ours(x, rate, key=KEY), seeded(partial(theirs, x, rate))
        both = (y != 0) & (expected != 0)
        assert 0 < int(both.sum()) < both.numel()
        slope = grad(lambda x, rate=rate: ours(x, rate, key=KEY).sum())(x)
        pairs.append(((y[both], slope[both]), (expected[both], (expected / x)[both])))
    return [one for one, _ in pairs], [other for _, other in pairs]


def connected(x: Tensor, rate: float, *, key: Tensor) -> Tensor:
    return noise.drop_connect({"w": x}, rate, key=key)["w"]


for _name, _ours, _against, _theirs in (
    ("dropout", noise.dropout, "F.dropout", F.dropout),
    ("channel_dropout", noise.channel_dropout, "F.dropout2d", F.dropout2d),
    ("drop_path", noise.drop_path, "torchvision.ops.stochastic_depth", partial(stochastic_depth, mode="row")),
    ("drop_connect", connected, "F.dropout of a parameter", F.dropout),
):
    oracle(f"noise.{_name}", against=f"{_against}, where both keep", **ONE_PRODUCT)(
        partial(kept_by_both, _ours, _theirs)
    )


@oracle("noise.drop_path", against="torchvision.ops.stochastic_depth of the batch: its two results", **ONE_PRODUCT)
def drop_path_of_the_batch() -> Pair:
    x = images()
    theirs = seeded(lambda: torch.stack([stochastic_depth(x, 0.3, "batch") for _ in range(50)]))
    ours = vmap(lambda key: noise.drop_path(x, 0.3, key=key, mode="batch"))(fr.random.split(KEY, 50))

    def dropped_and_kept(draws: Tensor) -> list[Tensor]:
        sizes = draws.abs().flatten(1).sum(dim=1)
        return [draws[sizes.argmin()], draws[sizes.argmax()]]

    return dropped_and_kept(ours), dropped_and_kept(theirs)


def alike_by_both(ours: Callable[..., Tensor], theirs: Callable[..., Tensor]) -> Pair:
    x, pairs = images(300, 4, 2, 2), []
    for rate in RATES:
        y, expected = ours(x, rate, key=KEY), seeded(partial(theirs, x, rate, training=True))
        # What is dropped falls to the value that many share.
        off, their_off = (each == each.flatten().mode().values for each in (y, expected))
        kept, dropped = ~(off | their_off), off & their_off
        assert bool(kept.any())
        assert bool(dropped.any())
        pairs.append(((y[kept], y[dropped]), (expected[kept], expected[dropped])))
    return [one for one, _ in pairs], [other for _, other in pairs]


def alpha_dropout_by_hand(ours: Callable[..., Tensor], shape: tuple[int, ...]) -> Pair:
    """Values and gradients; the floor is what F.selu gives far below 0."""
    x, draws, values, expected = images(), fr.random.uniform(KEY, shape), [], []
    floor = float(F.selu(torch.tensor(-1e3, dtype=torch.float64)))
    for rate in RATES:
        kept, a = (draws >= rate).double().expand_as(x), ((1 - rate) * (1 + rate * floor**2)) ** -0.5
        function = partial(ours, rate=rate, key=KEY)
        values.append((function(x), grad(lambda x, function=function: function(x).sum())(x)))
        expected.append((a * (x * kept + floor * (1 - kept)) - a * rate * floor, a * kept))
    return values, expected


def alpha_dropout_keeps_selus_moments(ours: Callable[..., Tensor], shape: tuple[int, ...]) -> Pair:
    inputs, dropped = fr.random.split(KEY)
    x, values, expected = F.selu(fr.random.normal(inputs, shape, dtype=torch.float64)), [], []
    for rate in (0.05, 0.5, 0.95):
        y = ours(x, rate, key=dropped)
        errors = 1 / math.sqrt(y.numel()), math.sqrt(float((y**4).mean() - 1) / y.numel())
        values += [y.mean() / errors[0], y.var() / errors[1]]
        expected += [0.0, 1 / errors[1]]
    return values, expected


for _name, _ours, _theirs, _drawn, _many in (
    ("alpha_dropout", noise.alpha_dropout, F.alpha_dropout, (3, 4, 5, 6), (400_000,)),
    # A channel is a number there, so that all are independent.
    ("feature_alpha_dropout", noise.feature_alpha_dropout, F.feature_alpha_dropout, (3, 4, 1, 1), (4_000, 100)),
):
    oracle(f"noise.{_name}", against=f"F.{_name}, where both keep and where both drop", **ONE_PRODUCT)(
        partial(alike_by_both, _ours, _theirs)
    )
    oracle(f"noise.{_name}", against="a * (x * mask + floor * (1 - mask)) + b of SELU's own constants", **ONE_PRODUCT)(
        partial(alpha_dropout_by_hand, _ours, _drawn)
    )
    oracle(
        f"noise.{_name}",
        against="mean 0 and variance 1, those of SELU's outputs",
        tolerance=5,
        because="400000 draws: standard errors, in which both are measured",
    )(partial(alpha_dropout_keeps_selus_moments, _ours, _many))


@oracle("noise.dropout", against="x * (uniform >= rate) / (1 - rate) in numpy", **ONE_PRODUCT)
def dropout_in_numpy() -> Pair:
    x, draws = images(), fr.random.uniform(KEY, (3, 4, 5, 6)).numpy()
    theirs = [x.numpy() * (draws >= rate) / (1 - rate) for rate in RATES]
    return [noise.dropout(x, rate, key=KEY) for rate in RATES], theirs


@oracle("noise.drop_block", against="scipy.ndimage.maximum_filter of the blocks' starts", **ONE_PRODUCT)
def drop_block_by_scipy() -> Pair:
    x, rate, side = images(), 0.3, 3
    starts = fr.random.uniform(KEY, (3, 4, 7, 8)).numpy() < 1 - (1 - rate) ** (1 / side**2)
    covered: Any = scipy.ndimage.maximum_filter(starts, size=(1, 1, side, side))
    return noise.drop_block(x, rate, key=KEY, block_size=side), x.numpy() * ~covered[..., 1:-1, 1:-1] / (1 - rate)


KEYS = 20_000


def moments(function: Callable[..., Tensor]) -> Pair:
    """The mean of each element in its standard errors, and the variance in bounds of its own."""
    x, ours, theirs = torch.linspace(-2, 2, 2 * 3 * 4, dtype=torch.float64).reshape(2, 3, 4), [], []
    for rate in (0.25, 0.5, 0.75):
        draws = vmap(lambda key, rate=rate: function(x, rate, key=key))(fr.random.split(KEY, KEYS))
        variance = rate / (1 - rate) * x**2
        error = (variance / KEYS).sqrt()
        variance_error = variance * math.sqrt(2 / KEYS)  # (kurtosis - 1) / n: 2 for a normal, less for these masks
        ours += [draws.mean(dim=0) / error, draws.var(dim=0) / variance_error]
        theirs += [x / error, variance / variance_error]
    return ours, theirs


for _name, _ours, _how in (
    ("dropout", noise.dropout, ""),
    ("channel_dropout", noise.channel_dropout, ""),
    ("gaussian_dropout", noise.gaussian_dropout, ""),
    ("drop_path", noise.drop_path, ""),
    ("drop_path", partial(noise.drop_path, mode="batch"), ", of the batch"),
    ("drop_block", partial(noise.drop_block, block_size=2), ""),
    ("drop_connect", connected, ""),
):
    oracle(
        f"noise.{_name}",
        against=f"mean x, variance x**2 * rate / (1 - rate){_how}",
        tolerance=5,
        because=f"{KEYS} keys: standard errors, in which both are measured",
    )(partial(moments, _ours))


def squared_errors(predict: Callable[..., Tensor], penalty: Callable[..., Tensor], settings: tuple[float, ...]) -> Pair:
    """A linear model's squared error in the mean over keys, and without noise plus the penalty; in standard errors."""
    x, w = images(10, 4), torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    clean, ours, theirs = ((x @ w - 1) ** 2).sum(), [], []
    for each in settings:
        errors = vmap(lambda key, each=each: ((predict(x, w, each, key) - 1) ** 2).sum())(fr.random.split(KEY, KEYS))
        error = errors.std() / math.sqrt(KEYS)
        ours.append(errors.mean() / error)
        theirs.append((clean + penalty(x, w, each)) / error)
    return ours, theirs


def ridge(x: Tensor, w: Tensor, rate: float) -> Tensor:
    return rate / (1 - rate) * (x**2 @ w**2).sum()


for _name, _predict, _against, _penalty, _settings in (
    ("dropout", lambda x, w, rate, key: noise.dropout(x, rate, key=key) @ w, "Srivastava et al., 9.1", ridge, RATES),
    (
        "gaussian_dropout",
        lambda x, w, rate, key: noise.gaussian_dropout(x, rate, key=key) @ w,
        "Srivastava et al., 9.1",
        ridge,
        RATES,
    ),
    ("drop_connect", lambda x, w, rate, key: x @ connected(w, rate, key=key), "Wan et al., 2013", ridge, RATES),
    (
        "gaussian_noise",
        lambda x, w, std, key: noise.gaussian_noise(x, std, key=key) @ w,
        "Bishop, 1995",
        lambda x, w, std: len(x) * std**2 * (w**2).sum(),
        (0.1, 0.5, 2.0),
    ),
):
    oracle(
        f"noise.{_name}",
        against=f"the penalty that it is for a linear model ({_against})",
        tolerance=5,
        because=f"{KEYS} keys: standard errors, in which both are measured",
    )(partial(squared_errors, _predict, _penalty, _settings))


@oracle("noise.dropout", against="its rate", **frequencies(100_000, 0.5, "elements"))
def dropout_drops_its_share() -> Pair:
    shares = [(noise.dropout(torch.ones(100_000), rate, key=KEY) == 0).double().mean() for rate in RATES]
    return shares, list(RATES)


def covered_at_every_place() -> Pair:
    sizes = [(shape, side) for shape in ((7,), (6, 5), (4, 5, 3)) for side in (1, 2, 3)]
    ours = []
    for shape, side in sizes:
        dropped = noise.drop_block(torch.ones(400, 25, *shape), 0.3, key=KEY, block_size=side) == 0
        ours.append(dropped.double().mean(dim=(0, 1)))
    return ours, [torch.full_like(each, 0.3) for each in ours]


oracle(
    "noise.drop_block",
    against="its rate, at every place: edges and corners too",
    constant=True,
    **frequencies(10_000, 0.3, "maps"),
)(covered_at_every_place)


@oracle(
    "noise.drop_block",
    against="(1 - rate)**(2 - overlap), the chance that two places are both kept",
    **frequencies(20_000, 0.5, "maps"),
)
def drop_block_correlates_neighbours() -> Pair:
    kept = noise.drop_block(torch.ones(20_000, 1, 8), 0.3, key=KEY, block_size=3).squeeze(1) != 0
    apart = torch.arange(6)
    return (kept[:, :1] & kept[:, :6]).double().mean(dim=0), 0.7 ** (2 - (1 - apart / 3).clamp(min=0))


@oracle("noise.gaussian_noise", against="scipy.stats.norm(3, 0.2)", **critical(100_000))
def gaussian_noise_is_normal() -> Pair:
    y = noise.gaussian_noise(torch.full((100_000,), 3.0, dtype=torch.float64), 0.2, key=KEY)
    return levels(y, scipy.stats.norm(3, 0.2).cdf)


@oracle("noise.gaussian_dropout", against="scipy.stats.norm(1, 1/2), at a rate of 0.2", **critical(100_000))
def gaussian_dropout_is_normal() -> Pair:
    y = noise.gaussian_dropout(torch.ones(100_000, dtype=torch.float64), 0.2, key=KEY)
    return levels(y, scipy.stats.norm(1, 0.5).cdf)


@oracle(
    "noise.gaussian_noise",
    against="x + std * n, and its gradients in std",
    tolerance=1e-14,
    because="float64: the same sums",
)
def gaussian_noise_is_affine() -> Pair:
    x, standard = images(), fr.random.normal(KEY, (3, 4, 5, 6), dtype=torch.float64)
    stds: Any = torch.tensor([0.0, 0.2, 3.0], dtype=torch.float64)
    values = vmap(lambda std: noise.gaussian_noise(x, std, key=KEY))(stds)
    slopes = vmap(grad(lambda std: noise.gaussian_noise(x, std, key=KEY).sum()))(stds)
    return (values, slopes), (x + stds.reshape(3, 1, 1, 1, 1) * standard, standard.sum().expand(3))


def slopes_drawn(function: Callable[[Tensor], Tensor]) -> Tensor:
    return -function(torch.full((100_000,), -1.0, dtype=torch.float64))


@oracle("noise.rrelu", against="F.leaky_relu where lower is upper, in four dtypes", tolerance=0, because=ONE_SLOPE)
def rrelu_of_one_slope() -> Pair:
    """Values and gradients."""
    ours, theirs = [], []
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        for function, results in (
            (partial(noise.rrelu, lower=0.3, upper=0.3, key=KEY), ours),
            (partial(F.leaky_relu, negative_slope=0.3), theirs),
        ):
            x = torch.cat((images().flatten(), torch.tensor([0.0, -0.0]))).to(dtype)
            results.append((function(x), grad(lambda x, function=function: function(x).sum())(x)))
    return ours, theirs


@oracle("noise.rrelu", against="x * (lower + (upper - lower) * uniform), and its gradients", **ONE_PRODUCT)
def rrelu_by_hand() -> Pair:
    """By x and by both settings."""
    x, draws = images(), fr.random.uniform(KEY, (3, 4, 5, 6), dtype=torch.float64)
    lower, upper = (torch.tensor(each, dtype=torch.float64) for each in (-0.1, 0.4))

    def rrelu_mean(x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return noise.rrelu(x, lower, upper, key=KEY).mean()

    ours = grad_and_value(rrelu_mean, argnums=(0, 1, 2))(x, lower, upper)
    slopes, below = torch.where(x > 0, 1.0, -0.1 + 0.5 * draws), x.clamp(max=0)
    return ours, ((slopes / x.numel(), (below * (1 - draws)).mean(), (below * draws).mean()), (x * slopes).mean())


@oracle(
    "noise.rrelu",
    against="F.rrelu's slopes of negative numbers, in distribution",
    **{**critical(50_000), "because": "two samples of 100000 draws: the test's critical value at 1e-6"},
)
def rrelu_of_torch() -> Pair:
    theirs = np.sort(seeded(lambda: slopes_drawn(partial(F.rrelu, training=True))).numpy())
    return levels(slopes_drawn(partial(noise.rrelu, key=KEY)), lambda each: np.searchsorted(theirs, each) / theirs.size)


@oracle("noise.rrelu", against="scipy.stats.uniform(-0.2, 0.7) of slopes from -0.2 to 0.5", **critical(100_000))
def rrelu_is_uniform() -> Pair:
    return levels(slopes_drawn(lambda x: noise.rrelu(x, -0.2, 0.5, key=KEY)), scipy.stats.uniform(-0.2, 0.7).cdf)


@oracle(
    "noise.rrelu",
    against="F.rrelu in evaluation: the mean over keys",
    tolerance=5,
    because=f"{KEYS} keys: standard errors, in which both are measured",
)
def rrelu_in_the_mean() -> Pair:
    x = torch.linspace(-2, 2, 24, dtype=torch.float64)
    mean = vmap(lambda key: noise.rrelu(x, key=key))(fr.random.split(KEY, KEYS)).mean(dim=0)
    error = x.abs() * (1 / 3 - 1 / 8) / math.sqrt(12 * KEYS)
    return mean / error, F.rrelu(x, training=False) / error


@oracle(
    "noise.token_dropout",
    against="timm.layers.PatchDropout, ordered, that ranks our draws: values and gradients",
    tolerance=0,
    because="the same elements",
)
def token_dropout_of_timm() -> Pair:
    layers = pytest.importorskip("timm.layers")
    x, ours, theirs = images(7, 12, 3), [], []

    def their_draws(*shape: int, device: torch.device) -> Tensor:
        return fr.random.uniform(KEY.to(device), shape)

    for prefix in (0, 1, 4):
        for rate in (0.0, 0.1, 0.5, 0.8, 0.99):
            layer = layers.PatchDropout(rate, num_prefix_tokens=prefix, ordered=True)
            ours.append(kept_and_slope(partial(noise.token_dropout, rate=rate, key=KEY, prefix=prefix), x))
            with mock.patch.object(torch, "randn", their_draws):
                theirs.append(kept_and_slope(layer, x))
    return ours, theirs


def kept_and_slope(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    return function(x), grad(lambda x: function(x).square().sum())(x)


@oracle(
    "noise.token_dropout",
    against="3/8 for each token, 3/8 * 2/7 for each two: every subset of 3 of 8 is as likely",
    **frequencies(20_000, 3 / 8, "samples"),
)
def token_dropout_prefers_no_token() -> Pair:
    places = torch.arange(10.0).expand(20_000, 10).unsqueeze(-1)
    kept = noise.token_dropout(places, 0.6, key=KEY, prefix=2).squeeze(-1).long()
    chosen = F.one_hot(kept[:, 2:] - 2, 8).sum(dim=1).double()
    assert torch.equal(chosen.sum(dim=1).unique(), torch.tensor([3.0], dtype=torch.float64)), "floor(0.4 * 8)"
    expected = torch.full((8, 8), 3 / 8 * 2 / 7, dtype=torch.float64).fill_diagonal_(3 / 8)
    return chosen.T @ chosen / 20_000, expected


@oracle(
    "noise.layer_drop",
    against="uniform >= rate in numpy, which chooses for all samples: values and gradients",
    tolerance=0,
    because="the same elements",
)
def layer_drop_in_numpy() -> Pair:
    x, keys = images(), fr.random.split(KEY, 50)
    skipped = x.flip(0)
    draws = vmap(fr.random.uniform)(keys).numpy().reshape(50, 1, 1, 1, 1)
    ours, theirs = [], []
    for rate in (0.0, *RATES, 1.0):
        chosen = partial(noise.layer_drop, rate=rate)
        slopes = grad(lambda x, skipped, key, chosen=chosen: chosen(x, skipped, key=key).sum(), argnums=(0, 1))
        run = vmap(lambda key, chosen=chosen, slopes=slopes: (chosen(x, skipped, key=key), slopes(x, skipped, key)))
        ours.append(run(keys))
        kept = np.broadcast_to(draws >= rate, (50, *x.shape)).copy()
        theirs.append((np.where(kept, x.numpy(), skipped.numpy()), (kept, ~kept)))
    return ours, theirs


@oracle(
    "noise.layer_drop",
    against="torchvision.ops.stochastic_depth of the batch, unscaled: what each adds to a stream",
    tolerance=1e-14,
    because="float64: one product, and its inverse",
)
def layer_drop_of_torchvision() -> Pair:
    """Their two results, by the sizes: a layer that is its input plus a branch."""
    x, branch = images(), images().flip(0)
    theirs = seeded(lambda: torch.stack([x + 0.7 * stochastic_depth(branch, 0.3, "batch") for _ in range(50)]))
    ours = vmap(lambda key: noise.layer_drop(x + branch, x, 0.3, key=key))(fr.random.split(KEY, 50))

    def both(draws: Tensor) -> list[Tensor]:
        moved = (draws - x).abs().flatten(1).sum(dim=1)
        return [draws[moved.argmin()], draws[moved.argmax()]]

    return both(ours), both(theirs)


@oracle("noise.layer_drop", against="its rate", **frequencies(KEYS, 0.5, "keys"))
def layer_drop_drops_its_share() -> Pair:
    rates, keys = (0.0, *RATES, 1.0), fr.random.split(KEY, KEYS)
    x, skipped = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    drop = [vmap(lambda key, rate=rate: noise.layer_drop(x, skipped, rate, key=key))(keys).mean() for rate in rates]
    return drop, list(rates)
