"""The learning rates of a step, as metrics."""

from typing import Any

import torch
from torch import Tensor

from .. import _jit
from ..transforms import Transform


def learning_rates(optimizer: Transform, opt_state: Any, device: torch.device) -> dict[str, Tensor]:
    """Those of the next update, float64 (): "learning_rate", or "learning_rate/head" of a group.

    >>> from funcreg import optim
    >>> optimizer = optim.sgd(0.1)
    >>> learning_rates(optimizer, optimizer.init({"w": torch.ones(1)}), torch.device("cpu"))
    {'learning_rate': tensor(0.1000, dtype=torch.float64)}
    """
    rates = optimizer.rates(opt_state).items()
    return {
        f"learning_rate/{group}" if group else "learning_rate": _jit.as_data(rate, device).to(torch.float64)
        for group, rate in rates
    }
