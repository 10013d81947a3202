"""Cases of `averaging`."""

from typing import Any

import torch
from torch import Tensor, nn

import funcreg as fr
from funcreg import averaging, tree
from tests.contract.case import PARAMS, Case, drawn

GIVEN = {"params": PARAMS}
FEW = {"params": {"bias": PARAMS["0.bias"], "head": PARAMS["head"]}}  # a leaf of each kind


def _averaged(average: averaging.Averaging[averaging.AverageState], params: Any) -> Any:
    return _moved(average, params).params


def _moved(average: averaging.Averaging[Any], params: Any) -> Any:
    """The state after three updates."""
    state = average.init(params)
    for step in range(3):
        state = average.update(state, tree.map(lambda leaf, step=step: leaf * (step + 2), params))
    return state


def _module() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))


MODEL = fr.from_module(_module)
_PARAMS, _STATE = (tree.cast(each, torch.float64) for each in MODEL.init(fr.random.key(0)))


def _refreshed(params: Any, state: Any, x: Tensor, key: Tensor) -> Any:
    return averaging.refresh_statistics(MODEL, params, state, [x, 2 * x], key=key)


def _sampled(params: Any, start: Any, every: Any, scale: Any, key: Tensor) -> Any:
    state = _moved(averaging.swag(start=start, every=every, rank=2), params)
    return state, averaging.sample_swag(state, key=key, scale=scale)


CASES = [
    *(
        Case(
            "averaging.ema",
            lambda params, decay, debias=debias: _averaged(averaging.ema(decay, debias=debias), params),
            GIVEN,
            {"decay": (0.0, 0.9, 1.0)},
            variant="debiased" if debias else "",
            at_least_float32=True,
            compiled=FEW,
        )
        for debias in (False, True)
    ),
    Case(
        "averaging.swa",
        lambda params: _averaged(averaging.swa(), params),
        GIVEN,
        at_least_float32=True,
        compiled=FEW,
    ),
    Case(
        "averaging.swa",
        lambda params, start, every: _averaged(averaging.swa(start=start, every=every), params),
        GIVEN,
        {"start": (0.0, 1.0, 2.0), "every": (1.0, 2.0, 3.0)},
        variant="late",
        at_least_float32=True,
        compiled=FEW,
    ),
    Case(
        "averaging.swag",
        lambda params, start, every: _moved(averaging.swag(start=start, every=every, rank=2), params),
        GIVEN,
        {"start": (0.0, 1.0, 2.0), "every": (1.0, 2.0, 3.0)},
        at_least_float32=True,
        compiled=FEW,
        within="averaging.sample_swag",
    ),
    Case(
        "averaging.sample_swag",
        _sampled,
        GIVEN,
        {"start": (0.0, 1.0, 0.0), "every": (1.0, 1.0, 2.0), "scale": (0.0, 0.5, 2.0)},
        keyed=True,
        at_least_float32=True,
        compiled=FEW,
    ),
    Case(
        "averaging.refresh_statistics",
        _refreshed,
        {"params": _PARAMS, "state": _STATE, "x": drawn(81, 6, 3)},
        keyed=True,
        constant=("state",),
    ),
]
