"""Averages beside what `oracles/averaging.py` compares: members, 16 bits, noise; statistics under any start."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap

import funcreg as fr
from funcreg import _jit, averaging, random, tree

PARAMS = {
    "weight": random.normal(random.key(0), (3, 4), dtype=torch.float64),
    "bias": random.normal(random.key(1), (3,), dtype=torch.float64),
}


def later(step: int) -> dict[str, Tensor]:
    return tree.map(lambda leaf: torch.cos(leaf * step), PARAMS)


def averaged(average: averaging.Averaging[averaging.AverageState], steps: int = 5) -> tree.Tree:
    state = average.init(PARAMS)
    for step in range(steps):
        state = average.update(state, later(step))
    return state.params


def assert_close(actual: tree.Tree, expected: tree.Tree, tolerance: float = 1e-13) -> None:
    tree.map(lambda a, b: torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance), actual, expected)


def test_an_average_starts_from_the_parameters_it_gets() -> None:
    for average in (averaging.ema(0.9), averaging.ema(0.9, debias=True), averaging.swa()):
        state = average.init(PARAMS)
        assert_close(state.params, PARAMS, 0.0)
        assert int(state.step) == 0
        assert int(average.update(state, PARAMS).step) == 1
    assert_close(averaged(averaging.ema(0.9), 1), tree.map(lambda a, b: 0.9 * a + 0.1 * b, PARAMS, later(0)))
    # These two forget it.
    for average in (averaging.ema(0.9, debias=True), averaging.swa()):
        assert_close(averaged(average, 1), later(0), 0.0)


def test_the_extremes_of_decay() -> None:
    for debias in (False, True):
        assert_close(averaged(averaging.ema(0.0, debias=debias)), later(4), 0.0)
    assert_close(averaged(averaging.ema(1.0)), PARAMS, 0.0)
    mean = tree.map(lambda *each: torch.stack(each).mean(0), *[later(step) for step in range(5)])
    assert_close(averaged(averaging.swa()), mean)
    assert_close(averaged(averaging.ema(1.0, debias=True)), mean)
    assert_close(averaged(averaging.ema(1 - 1e-12, debias=True)), mean, 1e-4)


@pytest.mark.parametrize("debias", [False, True])
def test_members_have_decays_of_their_own(debias: bool) -> None:
    decays = torch.tensor([0.0, 0.5, 0.99, 1.0], dtype=torch.float64)
    batched = vmap(lambda decay: averaged(averaging.ema(decay, debias=debias)))(decays)
    slopes = vmap(grad(lambda decay: averaged(averaging.ema(decay, debias=debias))["bias"].sum()))(decays)
    for member, decay in enumerate(decays.tolist()):
        assert_close(tree.index(batched, member), averaged(averaging.ema(decay, debias=debias)))
    assert torch.isfinite(slopes).all()


def test_16_bits_are_averaged_in_float32() -> None:
    """A share of 0.001 of a difference of 1 is lost in bfloat16."""
    zeros, ones = ({"w": torch.full((2,), value, dtype=torch.bfloat16)} for value in (1.0, 2.0))
    average = averaging.ema(0.999)
    state = average.init(zeros)
    for _ in range(1000):
        state = average.update(state, ones)
    assert state.params["w"].dtype == torch.float32
    torch.testing.assert_close(state.params["w"], torch.full((2,), 2 - 0.999**1000), rtol=1e-5, atol=0)


# A Gaussian around the mean


def walked(average: averaging.Averaging[averaging.SwagState], steps: int, params: Any = PARAMS) -> averaging.SwagState:
    state = average.init(params)
    for step in range(steps):
        state = average.update(state, tree.map(lambda leaf, step=step: torch.cos(leaf * step), params))
    return state


def covariance(state: averaging.SwagState) -> Tensor:
    """Maddox et al.'s equation 1 of the bias."""
    columns = state.deviations["bias"]
    return (torch.diag(state.variance["bias"]) + columns.T @ columns / (len(columns) - 1)) / 2


def test_draws_have_the_covariance_of_the_paper() -> None:
    state, count = walked(averaging.swag(start=1, rank=4), 9), 20_000
    draws = vmap(lambda key: averaging.sample_swag(state, key=key))(random.split(random.key(7), count))["bias"]
    exact = covariance(state)
    error = ((exact.diag()[:, None] * exact.diag() + exact**2) / count).sqrt()  # of a covariance of normal numbers
    assert bool(((draws.T.cov() - exact).abs() < 5 * error).all())
    assert bool(((draws.mean(0) - state.params["bias"]).abs() < 5 * (exact.diag() / count).sqrt()).all())
    assert float((exact / error).abs().min()) > 3, "an entry that is none"


def test_around_a_linear_models_optimum_it_is_the_stationary_distribution() -> None:
    """Of gradient descent with noise on a quadratic, whose covariance S solves S = A S A + rate**2 C, A = 1 - rate H.

    64 members at once, whose mean leaves sampling errors of about 1%; K - 1 in place of K is the paper's.
    """
    rate, h, c = 0.3, torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double(), torch.tensor([[1.0, -0.6], [-0.6, 2.0]]).double()
    step, root = torch.eye(2, dtype=torch.float64) - rate * h, torch.linalg.cholesky(c)
    exact = torch.linalg.solve(
        torch.eye(4, dtype=torch.float64) - torch.kron(step, step), rate**2 * c.flatten()
    ).reshape(2, 2)
    average = averaging.swag(start=30, every=2, rank=30)
    update = vmap(average.update)
    params = {"bias": torch.zeros(64, 2, dtype=torch.float64)}
    state = vmap(average.init)(params)
    for number in range(330):
        noise = random.normal(random.fold_in(random.key(8), number), (64, 2), dtype=torch.float64)
        params = {"bias": params["bias"] @ step - rate * noise @ root.T}
        state = update(state, params)
    found = vmap(covariance)(state).mean(0)
    expected = (torch.diag(exact.diag()) + exact * 30 / 29) / 2
    torch.testing.assert_close(found, expected, rtol=0.06, atol=0)
    assert state.count.tolist() == [150] * 64


def test_members_are_drawn_as_each_alone() -> None:
    average, keys = averaging.swag(rank=3), random.split(random.key(9), 3)
    many = tree.stack([tree.map(lambda leaf, k=k: leaf * k, PARAMS) for k in (1.0, 2.0, 3.0)])
    states = vmap(lambda params: walked(average, 5, params))(many)
    draws = vmap(lambda state, key: averaging.sample_swag(state, key=key))(states, keys)
    for member in range(3):
        alone = averaging.sample_swag(walked(average, 5, tree.index(many, member)), key=keys[member])
        assert_close(tree.index(draws, member), alone)


def test_a_scale_of_0_is_the_mean_and_what_was_not_averaged_is_refused_or_nan() -> None:
    state, key = walked(averaging.swag(rank=3), 5), random.key(9)
    assert_close(averaging.sample_swag(state, key=key, scale=0.0), state.params, 1e-100)
    for steps in (0, 1, 4):
        with pytest.raises(fr.FuncregError, match=r"state: got one of . parameters that counted; expected at least 2"):
            averaging.sample_swag(walked(averaging.swag(start=3), steps), key=key)
    with _jit.recording():  # as in a program that is being made
        drawn = averaging.sample_swag(walked(averaging.swag(start=3), 4), key=key)
        assert drawn["bias"].isnan().all()


def test_a_spread_far_from_0_and_of_16_bits_keeps_its_digits() -> None:
    """1000 +- 1: in float32 the mean of squares less the squared mean would have an error of about 0.1."""
    average = averaging.swag(rank=2)
    for dtype in (torch.float32, torch.float16):
        state = average.init({"w": torch.zeros(1, dtype=dtype)})
        for value in (999.0, 1001.0) * 8:
            state = average.update(state, {"w": torch.tensor([value], dtype=dtype)})
        assert state.variance["w"].dtype == state.deviations["w"].dtype == torch.float32
        torch.testing.assert_close(state.variance["w"], torch.ones(1), rtol=1e-5, atol=0)


# Batch statistics

MODEL = fr.from_module(
    lambda: nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.BatchNorm1d(4, momentum=None), nn.ReLU(),
                          nn.Linear(4, 4), nn.BatchNorm1d(4, momentum=0.3))
)  # fmt: skip
WEIGHTS, STATE = (tree.cast(each, torch.float64) for each in MODEL.init(random.key(2)))
BATCHES = [random.normal(random.fold_in(random.key(3), number), (7, 3), dtype=torch.float64) for number in range(4)]


def refreshed(state: Any = STATE, batches: Any = BATCHES, key: Tensor | None = None) -> Any:
    key = random.key(4) if key is None else key
    return averaging.refresh_statistics(MODEL, WEIGHTS, state, batches, key=key)


def test_statistics_are_the_mean_over_batches_with_the_noise_on() -> None:
    seen = []
    for number, x in enumerate(BATCHES):
        # Batch statistics of one batch alone: those of a momentum of 1.
        key = random.fold_in(random.key(4), number)
        seen.append(MODEL.apply(WEIGHTS, STATE, x, key=key, train=True, momentum=1.0)[1])
    expected = tree.map(lambda *each: torch.stack(each).double().mean(0), *seen)
    result = refreshed()
    for name in ("2.running_mean", "2.running_var", "5.running_mean", "5.running_var"):
        torch.testing.assert_close(result[name], expected[name], rtol=1e-12, atol=1e-14)
    assert int(result["2.num_batches_tracked"]) == int(result["5.num_batches_tracked"]) == 4


def test_what_the_statistics_were_is_forgotten() -> None:
    wrong = {name: torch.full_like(leaf, torch.nan if leaf.is_floating_point() else 7) for name, leaf in STATE.items()}
    assert_close(refreshed(wrong), refreshed(), 0.0)
    assert not torch.equal(refreshed()["5.running_mean"], refreshed(key=random.key(5))["5.running_mean"])


def test_batches_are_any_iterable_of_inputs_or_of_inputs_and_targets() -> None:
    targets = torch.zeros(7)
    pairs = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.cat(BATCHES), torch.zeros(28)), batch_size=7
    )
    for batches in (
        iter(BATCHES),
        [(x, targets) for x in BATCHES],
        [fr.train.Batch(x, targets) for x in BATCHES],
        pairs,
    ):
        assert_close(refreshed(batches=batches), refreshed(), 0.0)


def test_members_refresh_together() -> None:
    keys = random.split(random.key(6), 3)
    params = tree.stack([tree.map(lambda leaf, scale=scale: scale * leaf, WEIGHTS) for scale in (1.0, 2.0, 0.5)])

    def one(params: Any, key: Tensor) -> Any:
        return averaging.refresh_statistics(MODEL, params, STATE, BATCHES, key=key)

    batched = vmap(one)(params, keys)
    for member in range(3):
        assert_close(tree.index(batched, member), one(tree.index(params, member), keys[member]), 1e-12)


def test_a_fractional_start_and_pace_still_count() -> None:
    """From update 4 on, the first after 2.5 updates and one more: 4, 6 and 7 of 7 when 1.5 is one's pace."""
    average = averaging.swa(start=2.5, every=1.5)
    state = average.init(PARAMS)
    for step in range(1, 8):
        state = average.update(state, later(step))
    assert_close(state.params, tree.map(lambda *each: sum(each) / 3, later(4), later(6), later(7)))


@pytest.mark.parametrize("name", ["start", "every"])
def test_a_setting_that_cannot_be_read_and_is_out_of_range_shows(name: str) -> None:
    def run(value: Tensor) -> Tensor:
        return averaged(averaging.swa(**{name: value}))["weight"].sum()

    assert vmap(run)(torch.tensor([-1.0, 1.0])).isnan().tolist() == [True, False]
