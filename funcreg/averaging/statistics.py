"""The batch statistics that fit averaged parameters."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .. import _checks, random
from ..model import Model, Params, State, check_model
from ..tree.checks import check_tensors


@torch.no_grad()
def refresh_statistics(model: Model, params: Params, state: State, batches: Iterable[Any], *, key: Tensor) -> State:
    """The batch statistics of these parameters: each layer's mean over all batches, as `swa_utils.update_bn`.

    The model runs in training, with its noise on, and its old statistics are forgotten.

    Args:
        model: from `fr.from_module`.
        params: for instance an average's.
        state: the model's; its statistics may be any.
        batches: inputs; of a tuple or list, such as `Batch(x, y)`, the first element.
        key: int64 (2,); batch i draws its noise from `random.fold_in(key, i)`.

    Returns:
        The new state.

    Raises:
        FuncregError: when there is no batch, or nothing in the state that batches change.

    >>> import funcreg as fr
    >>> model = fr.from_module(lambda: torch.nn.BatchNorm1d(1))
    >>> params, state = model.init(fr.random.key(0))
    >>> batches = [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [8.0]])]
    >>> refresh_statistics(model, params, state, batches, key=fr.random.key(1))["running_mean"]
    tensor([3.5000])
    """
    _checks.check_key(key)
    check_model(model)
    check_tensors("params", params)
    _checks.check_iterable("batches", batches, "batches")
    for name, leaf in _checks.check_mapping("state", state, "name -> tensor").items():
        if not (isinstance(name, str) and isinstance(leaf, Tensor)):
            _checks.fail(f"state[{name!r}]", _checks.describe(leaf), "a tensor, by its dotted name")
    if not any(map(_is_statistic, state)):
        _checks.fail("state", "no running statistics", "the state of a model with batch norm", "Nothing needs it.")
    state = {name: torch.zeros_like(leaf) if _is_statistic(name) else leaf for name, leaf in state.items()}
    seen = 0
    for batch in batches:
        x = batch[0] if isinstance(batch, tuple | list) else batch
        noise = random.fold_in(key, seen)
        seen += 1
        # The mean of so many batches, moved by the share of one more.
        share = torch.tensor(1 / seen, dtype=torch.float64)
        _, state = model.apply(params, state, x, key=noise, train=True, momentum=share)
    if not seen:
        _checks.fail("batches", "none", "at least one batch of inputs")
    return state


def _is_statistic(name: str) -> bool:
    return name.split(".")[-1] in ("running_mean", "running_var", "num_batches_tracked")
