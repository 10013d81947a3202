"""Early stopping as a pure function of the monitored values: one model, or each of K members."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks

NEVER = 2**62  # values, of a fit without early stopping


class StoppingState(NamedTuple):
    """Tensors of shape (), or (K,) for K members.

    `best`: the best value so far, float64; `counter`: values since it was improved, int64;
    `improved`: whether the last value did; `stopped`: whether to stop, for good.
    """

    best: Tensor
    counter: Tensor
    improved: Tensor
    stopped: Tensor


class EarlyStopping(NamedTuple):
    """`init(members=None) -> StoppingState`; `update(state, value) -> StoppingState`; and what it was made with."""

    init: Callable[..., StoppingState]
    update: Callable[[StoppingState, Tensor], StoppingState]
    patience: int | Tensor | None = None
    min_delta: float | Tensor = 0.0
    mode: str = "min"


def early_stopping(patience: int | Tensor, min_delta: float | Tensor = 0.0, mode: str = "min") -> EarlyStopping:
    """Stop when `patience` values in a row did not improve on the best by more than min_delta.

    Prechelt 1998 (Early stopping, but when?). Patience and min_delta may be tensors (K,), one for each member.

    Args:
        patience: values without improvement to wait for, at least 1.
        min_delta: what an improvement must exceed, at least 0.
        mode: "min" when lower is better, "max" when higher is.

    Returns:
        An EarlyStopping. A value that is not finite is no improvement; a min_delta that is NaN makes the best NaN.

    Raises:
        FuncregError: for an argument out of range.

    >>> stopping = early_stopping(patience=2)
    >>> state = stopping.init()
    >>> for loss in (1.0, 0.8, 0.9, 0.85):
    ...     state = stopping.update(state, torch.tensor(loss))
    >>> bool(state.stopped), float(state.best)
    (True, 0.8...)
    """
    if isinstance(patience, Tensor):
        _checks.check_integers("patience", patience)
    else:
        _checks.check_count("patience", patience)
    min_delta = _checks.check_number("min_delta", min_delta, 0.0)
    _checks.check_choice("mode", mode, ("min", "max"))
    sign = 1.0 if mode == "min" else -1.0

    def init(members: int | None = None, *, device: torch.device | None = None) -> StoppingState:
        if members is not None:
            _checks.check_count("members", members)
        if device is not None:
            _checks.check_device("device", device)
        shape = () if members is None else (members,)
        no = torch.zeros(shape, dtype=torch.bool, device=device)
        best = torch.full(shape, sign * torch.inf, dtype=torch.float64, device=device)
        return StoppingState(best, torch.zeros(shape, dtype=torch.int64, device=device), no, no)

    def update(state: StoppingState, value: Tensor) -> StoppingState:
        _check(state, value)
        for name, setting in (("patience", patience), ("min_delta", min_delta)):
            if isinstance(setting, Tensor) and setting.ndim and setting.shape != value.shape:
                allowed = f"a number, or a tensor of the value's shape {tuple(value.shape)}"
                _checks.fail(name, _checks.describe(setting), allowed)
        value = value.to(torch.float64)
        improved = (sign * (state.best - value) > min_delta) & torch.isfinite(value) & ~state.stopped
        counter = torch.where(improved, 0, state.counter + 1)
        counter = torch.where(state.stopped, state.counter, counter)
        best = _checks.spoilt(torch.where(improved, value, state.best), min_delta)
        return StoppingState(best, counter, improved, state.stopped | (counter >= patience))

    return EarlyStopping(init, update, patience, min_delta, mode)


def _check(state: Any, value: Any) -> None:
    """Refuse a value that is no real number for each, and a state of others."""
    if not isinstance(state, StoppingState):
        _checks.fail("state", _checks.describe(state), "a StoppingState", "It comes from init.")
    _checks.check_tensor("value", value)
    if value.is_complex() or value.dtype == torch.bool or value.is_meta:
        _checks.fail("value", _checks.describe(value), "a tensor of real numbers")
    for name, dtype in zip(state._fields, (torch.float64, torch.int64, torch.bool, torch.bool), strict=True):
        field = getattr(state, name)
        if not isinstance(field, Tensor) or field.dtype != dtype or field.is_meta:
            _checks.fail(f"state.{name}", _checks.describe(field), f"a {dtype} tensor", "It comes from init.")
        if field.shape != value.shape:
            remedy = "A state is init's, for so many members."
            _checks.fail("value", _checks.describe(value), f"shape {tuple(field.shape)}, as state.{name} has", remedy)


def selection(stopping: EarlyStopping | None, mode: str | None) -> EarlyStopping:
    """What says which epoch is best: early stopping, or where there is none what never stops.

    Raises:
        FuncregError: for a mode that is not early stopping's.

    >>> selection(None, "max").mode
    'max'
    """
    if mode is not None:
        _checks.check_choice("mode", mode, ("min", "max"))
    if stopping is None:
        return early_stopping(NEVER, mode=mode or "min")
    if mode not in (None, stopping.mode):
        _checks.fail("mode", repr(mode), f"{stopping.mode!r}, which early_stopping has", "Leave it out.")
    return stopping
