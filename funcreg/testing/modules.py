"""Modules: whether `fr.from_module` makes of one what the module itself does."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks, model, random
from .calls import first_of
from .check import findings
from .example import example
from .reports import Finding, Report, refuse_broken
from .trees import differences, unlike


def check_module(
    module: nn.Module,
    *inputs: Any,
    key: Tensor | None = None,
    jit: bool = False,
    kwargs: Mapping[str, Any] | None = None,
) -> None:
    """Refuse a module that is not right as pure functions. In evaluation, in training, and in a Monte Carlo call:

    - pure: `fr.check` finds nothing.
    - evaluation: `apply(params, state, *inputs)` gives what `module.eval()` does, at each call, and leaves the state
      alone.
    - carried state: in training it keeps its names, shapes and dtypes.
    - evaluating, training, sampling: the rules of `report` hold for each of the three calls.
    - the module: its own values and modes are as they were.

    Args:
        module: an nn.Module.
        *inputs: of its forward.
        key: for its noise. Default: `fr.random.key(0)`.
        jit: compile each kind of call too, which takes seconds.
        kwargs: keyword arguments of its forward.

    Raises:
        AssertionError: lists each broken rule with its evidence, the layer's name where it is one layer's.
        FuncregError: for arguments of `check_module` itself.

    >>> check_module(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)), torch.eye(3))
    >>> class Counts(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.register_buffer("calls", torch.zeros(()))
    ...     def forward(self, x):
    ...         self.calls.add_(1)
    ...         return x * self.calls
    >>> check_module(Counts(), torch.eye(3))
    Traceback (most recent call last):
    AssertionError: Counts breaks 1 rule:
      evaluation: moves the state: calls: got 1, expected 0 (by 1; 1 of 1 elements differ)
    """
    if not isinstance(module, nn.Module):
        _checks.fail("module", _checks.describe(module), "an nn.Module")
    key = random.key(0) if key is None else key
    named = dict(kwargs or {})
    refuse_broken(Report(type(module).__name__, tuple(_findings(module, inputs, named, key, jit))))


def _findings(
    module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], key: Tensor, jit: bool
) -> list[Finding]:
    values, modes = _values(module), _modes(module)
    try:
        pure = model.from_module(module)
        params, state = model.variables(module)
        impure = model.check(pure, *inputs, params=params, state=state, **named)
        if impure:
            return [Finding("pure", tuple(map(str, impure)))]
        found = [Finding("pure"), _evaluation(module, pure, inputs, named)]
        _, after = pure.apply(params, state, *inputs, key=key, train=True, kwargs=named)
        draws = _draws(pure, params, state, inputs, named, key)
    except _checks.FuncregError as error:
        return [Finding("pure", (str(error),))]
    found.append(Finding("carried state", tuple(unlike(after, state, "the state", "the module's"))))

    def called(params: Any, state: Any, *inputs: Any, key: Any = None, train: bool = False) -> Any:
        return pure.apply(params, state, *inputs, key=key, train=train, kwargs=named)

    known: set[str] = set()
    for rule, drawn, train in (("evaluating", None, False), ("training", key, True), ("sampling", key, False)):
        if rule == "sampling" and not draws:
            continue
        tried = example(called, params, state, *inputs, key=drawn, train=train)
        kept = [name for name in tried.names if name.split(".")[0] != "state"]
        floating = {tried.names[at] for at in tried.floating} & set(kept)
        rows = findings(tried, jit=jit, gradients=sorted(floating), dtype="kept" if rule == "evaluating" else "any")
        lines = [f"{row.rule}: {line}" for row in rows for line in row.broken if row.rule != "key" or draws]
        found.append(Finding(rule, tuple(line for line in lines if line not in known)))
        known.update(lines)
    own = differences(_values(module), values, (0.0, 0.0))
    moved = [name for name, mode in _modes(module).items() if modes[name] != mode]
    found.append(Finding("the module", tuple(own + [f"{name or 'it'} is in another mode" for name in moved])))
    return found


def _evaluation(module: nn.Module, pure: model.Model, inputs: tuple[Any, ...], named: dict[str, Any]) -> Finding:
    params, state = model.variables(module)
    twin = copy.deepcopy(module).eval()
    with torch.no_grad():
        expected, again = (twin(*copy.deepcopy(inputs), **copy.deepcopy(named)) for _ in range(2))
        ours, after = pure.apply(params, state, *inputs, kwargs=named)
    apart, moved = differences(ours, expected, None), differences(after, state, (0.0, 0.0))
    if apart:
        return Finding("evaluation", (f"is not the module's: {first_of(apart)}",))
    if moved:
        return Finding("evaluation", (f"moves the state: {first_of(moved)}",))
    anew = differences(again, expected, None)
    return Finding("evaluation", (f"another call of the module is another result: {first_of(anew)}",) if anew else ())


def _draws(pure: model.Model, params: Any, state: Any, inputs: tuple[Any, ...], named: Any, key: Tensor) -> bool:
    """Whether it has noise: two keys give two results in a Monte Carlo call."""
    drawn = [pure.apply(params, state, *inputs, key=each, kwargs=named)[0] for each in random.split(key, 8)]
    return any(differences(each, drawn[0], (0.0, 0.0)) for each in drawn[1:])


def _values(module: nn.Module) -> dict[str, Tensor]:
    return {name: leaf.detach().clone() for name, leaf in (*module.named_parameters(), *module.named_buffers())}


def _modes(module: nn.Module) -> dict[str, bool]:
    return {name: layer.training for name, layer in module.named_modules()}
