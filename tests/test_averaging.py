"""Averages beside what `oracles/averaging.py` compares: members, 16 bits, noise; statistics under any start."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap

import funcreg as fr
from funcreg import averaging, random, tree

PARAMS = {
    "weight": random.normal(random.key(0), (3, 4), dtype=torch.float64),
    "bias": random.normal(random.key(1), (3,), dtype=torch.float64),
}


def later(step: int) -> dict[str, Tensor]:
    return tree.map(lambda leaf: torch.cos(leaf * step), PARAMS)


def averaged(average: averaging.Averaging, steps: int = 5) -> tree.Tree:
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
