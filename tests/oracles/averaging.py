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
