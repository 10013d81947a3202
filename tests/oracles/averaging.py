"""`averaging` against torch.optim.swa_utils."""

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import swa_utils

import funcreg as fr
from funcreg import averaging, tree
from tests.oracles import Pair, oracle

STEPS = 30
EACH_UPDATE = f"float64; a rounding at each of {STEPS} updates"


def _network() -> nn.Module:
    layers = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 6), nn.BatchNorm1d(6)]
    module = nn.Sequential(*layers, nn.Linear(6, 2)).double()
    for number, leaf in enumerate(module.parameters()):
        leaf.data = _drawn(number, *leaf.shape)
    return module


def _drawn(seed: int, *shape: int) -> Tensor:
    return fr.random.normal(fr.random.key(seed), shape, dtype=torch.float64)


def _walk(module: nn.Module) -> Any:
    """The parameters after each of some steps of a random walk that the module itself takes."""
    for step in range(STEPS):
        for number, leaf in enumerate(module.parameters()):
            leaf.data = leaf.data + _drawn(100 * step + number, *leaf.shape)
        yield {name: leaf.detach().clone() for name, leaf in module.named_parameters()}


def _torchs(module: nn.Module, averaged: swa_utils.AveragedModel) -> list[Any]:
    """The average of torch after each step."""
    averages = []
    for _ in _walk(module):
        averaged.update_parameters(module)
        averages.append({name: leaf.detach().clone() for name, leaf in averaged.module.named_parameters()})
    return averages


def _ours(average: averaging.Averaging, *, first_is_start: bool) -> list[Any]:
    walk = _walk(_network())
    # torch's first update copies, which is what init does here.
    first = next(walk)
    state = average.init(first)
    if not first_is_start:
        state = average.update(state, first)
    averages = [state.params]
    for params in walk:
        state = average.update(state, params)
        averages.append(state.params)
    return averages


@oracle(
    "averaging.ema",
    against="swa_utils.AveragedModel(multi_avg_fn=get_ema_multi_avg_fn(decay))",
    tolerance=1e-14,
    because=EACH_UPDATE,
)
def ema() -> Pair:
    decays = (0.0, 0.8, 0.99, 1.0)
    theirs = []
    for decay in decays:
        module = _network()
        theirs.append(
            _torchs(module, swa_utils.AveragedModel(module, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(decay)))
        )
    return [_ours(averaging.ema(decay), first_is_start=True) for decay in decays], theirs


@oracle(
    "averaging.ema",
    against="numpy.average with weights decay**age, debiased",
    tolerance=1e-13,
    because=EACH_UPDATE,
)
def debiased_ema() -> Pair:
    walk = [params["0.weight"].numpy() for params in _walk(_network())]

    def theirs(decay: float, count: int) -> Any:
        return torch.from_numpy(np.average(walk[:count], axis=0, weights=decay ** np.arange(count - 1, -1, -1.0)))

    decays = (0.5, 0.99, 1.0)
    ours = [
        [params["0.weight"] for params in _ours(averaging.ema(decay, debias=True), first_is_start=False)]
        for decay in decays
    ]
    return ours, [[theirs(decay, count) for count in range(1, STEPS + 1)] for decay in decays]


@oracle("averaging.swa", against="swa_utils.AveragedModel", tolerance=1e-14, because=EACH_UPDATE)
def swa() -> Pair:
    module = _network()
    return _ours(averaging.swa(), first_is_start=False), _torchs(module, swa_utils.AveragedModel(module))


@oracle(
    "averaging.swa",
    against="swa_utils.AveragedModel, told of every third update after the fourth",
    tolerance=1e-14,
    because=EACH_UPDATE,
)
def late_swa() -> Pair:
    module = _network()
    averaged, theirs = swa_utils.AveragedModel(module), []
    for number, params in enumerate(_walk(module)):
        if number >= 4 and (number - 4) % 3 == 0:
            averaged.update_parameters(module)
        latest = {name: leaf.detach().clone() for name, leaf in averaged.module.named_parameters()}
        theirs.append(params if number < 4 else latest)
    return _ours(averaging.swa(start=4, every=3), first_is_start=False), theirs


def _gathered(start: int, every: int, rank: int) -> tuple[averaging.SwagState, list[np.ndarray]]:
    """The state of swag after a walk, and the weights that counted, each flat."""
    average = averaging.swag(start=start, every=every, rank=rank)
    walk = list(_walk(_network()))
    state = average.init(walk[0])
    for params in walk:
        state = average.update(state, params)
    return state, [
        _flat(params) for number, params in enumerate(walk, 1) if number > start and not (number - start - 1) % every
    ]


def _flat(params: Any) -> np.ndarray:
    return torch.cat([leaf.flatten() for leaf in tree.leaves(params)]).numpy()


def _columns(counted: list[np.ndarray], rank: int) -> np.ndarray:
    """The last deviations of Maddox et al.'s algorithm 1, each from the mean at its time: (rank, parameters)."""
    each = [params - np.mean(counted[: place + 1], axis=0) for place, params in enumerate(counted)]
    return np.stack([np.zeros_like(each[0])] * rank + each)[-rank:]


@oracle(
    "averaging.swag",
    against="numpy's mean, var and running means of what counted",
    tolerance=1e-12,
    because=EACH_UPDATE,
)
def swag() -> Pair:
    ours, theirs = [], []
    for start, every, rank in ((0, 1, 4), (10, 3, 5), (20, 2, 9)):
        state, counted = _gathered(start, every, rank)
        columns = torch.cat([leaf.reshape(rank, -1) for leaf in tree.leaves(state.deviations)], dim=1)
        ours.append((_flat(state.params), _flat(state.variance), columns, state.count))
        theirs.append((np.mean(counted, axis=0), np.var(counted, axis=0), _columns(counted, rank), len(counted)))
    return ours, theirs


@oracle(
    "averaging.swag",
    against="second moments less the squared mean, as the paper has them",
    tolerance=1e-11,
    because="float64; the paper's difference cancels",
)
def swag_by_moments() -> Pair:
    state, counted = _gathered(2, 1, 3)
    return _flat(state.variance), np.mean(np.square(counted), axis=0) - np.mean(counted, axis=0) ** 2


@oracle(
    "averaging.sample_swag",
    against="Maddox et al.'s equation 1 by numpy, the normal numbers given",
    tolerance=1e-12,
    because="float64; another order of the sums",
)
def sample_swag() -> Pair:
    ours, theirs = [], []
    key = fr.random.key(9)
    for start, every, rank, scale in ((0, 1, 4, 1.0), (20, 2, 9, 0.25)):  # the second has 5 of 9 deviations
        state, counted = _gathered(start, every, rank)
        own, shared = fr.random.split(key)
        z = fr.random.normal(own, (tree.count(state.params),), dtype=torch.float64).numpy()
        along = fr.random.normal(shared, (rank,), dtype=torch.float64).numpy()
        k = min(rank, len(counted))
        spread = np.sqrt(np.var(counted, axis=0) / 2) * z + along @ _columns(counted, rank) / np.sqrt(2 * (k - 1))
        ours.append(_flat(averaging.sample_swag(state, key=key, scale=scale)))
        theirs.append(np.mean(counted, axis=0) + np.sqrt(scale) * spread)
    return ours, theirs


@oracle(
    "averaging.refresh_statistics",
    against="swa_utils.update_bn",
    tolerance=1e-13,
    because="float64; sums in another order, and a rounding a batch",
)
def refresh_statistics() -> Pair:
    """From statistics that are wrong, over batches of two sizes, in two kinds of iterables."""
    module = _network()
    inputs = [_drawn(500 + number, 5 + number % 2, 2, 5, 5) + number for number in range(7)]
    params, state = fr.variables(module)
    wrong = {name: leaf + 3 for name, leaf in state.items()}
    model = fr.from_module(module)
    ours = [
        averaging.refresh_statistics(model, params, wrong, batches, key=fr.random.key(0))
        for batches in (inputs, zip(inputs, itertools.count()))
    ]
    swa_utils.update_bn(inputs, module)
    theirs = {name: leaf.clone() for name, leaf in module.named_buffers()}
    assert tree.norm(tree.cast(theirs["1.running_mean"], torch.float64)) > 0.1
    return ours, [theirs, theirs]
