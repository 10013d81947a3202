"""Batch statistics by what a layer has: `F.batch_norm` on a layer's own buffers assigns them.

torch's function writes into the running statistics that it is given. Where those are buffers of the
layer that calls it, they are assigned instead, and come back in the state as a registered layer's do.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import norm
from ..._functorch import needs_formulas
from ...norm.shared import moved
from ..layers import instance_norm, layer_norm
from .mode import Keyed, replaces


@replaces(F.batch_norm)
def _batch_norm(
    keyed: Keyed,
    function: Any,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    training = training and not (keyed.evaluates and running_mean is not None)
    slots = _slots(keyed, "batch_norm", running_mean, running_var, training)
    writes = training and running_mean is not None and slots is None  # into what is no buffer of the layer
    if writes or (slots is None and not needs_formulas()):
        return function(input, running_mean, running_var, weight, bias, training, momentum, eps)
    if running_mean is None:
        stats = norm.init_batch_stats(input.shape[1], device=input.device)
    else:
        assert running_var is not None
        stats = norm.BatchStats(running_mean, running_var, running_mean.new_zeros((), dtype=torch.int64))
    given = keyed.momentum if slots is not None and keyed.momentum is not None else momentum
    y, stats = norm.batch_norm(
        input, stats, scale=weight, shift=bias, train=training, momentum=_as_momentum(given), eps=eps
    )
    if slots is not None:
        buffers, mean, var = slots
        buffers[mean], buffers[var] = stats.mean, stats.var
        keyed.moved(stats)
    return y


@replaces(F.instance_norm)
def _instance_norm(
    keyed: Keyed,
    function: Any,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    use_input_stats = use_input_stats and not (keyed.evaluates and running_mean is not None)
    slots = _slots(keyed, "instance_norm", running_mean, running_var, use_input_stats)
    if slots is None:
        if use_input_stats and running_mean is None:
            return instance_norm(input, weight, bias, eps)
        return function(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
    buffers, mean_name, var_name = slots
    y = instance_norm(input, weight, bias, eps)
    var, mean = torch.var_mean(input.to(buffers[mean_name].dtype), dim=tuple(range(2, input.ndim)))
    given = _as_momentum(momentum if keyed.momentum is None else keyed.momentum)
    for name, batch in ((mean_name, mean.mean(0)), (var_name, var.mean(0))):
        buffers[name] = moved(buffers[name], batch, given)
    return y


@replaces(F.layer_norm)
def _layer_norm(
    keyed: Keyed,
    function: Any,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    keyed.saw("layer_norm", "formula", True)
    return layer_norm(input, normalized_shape, weight, bias, eps)


@replaces(torch.layer_norm)
def _bare_layer_norm(
    keyed: Keyed,
    function: Any,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return _layer_norm(keyed, function, input, normalized_shape, weight, bias, eps)


def _as_momentum(momentum: Any) -> Any:
    return 0.0 if momentum is None else momentum


def _slots(
    keyed: Keyed, function: str, mean: Tensor | None, var: Tensor | None, training: bool
) -> tuple[dict[str, Any], str, str] | None:
    """Where the running statistics of a call are kept, if it is to move them and they are the layer's."""
    found = keyed.find_statistics(mean, var) if training and mean is not None and var is not None else None
    keyed.saw(function, "formula" if found is None else "statistics", True)
    return found
