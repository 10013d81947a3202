"""Gradient transforms and optimizers: `init(params) -> state`, `update(grads, state, params) -> (updates, state)`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _checks, optim, random, tree
from ..transforms import Transform
from ..tree.checks import check_floating
from . import purity, transformed
from .check import DTYPES, findings, judged
from .example import Example, check_settings, example, title
from .reports import Finding, Report, refuse_broken
from .trees import fresh, named_leaves, unlike

STEPS = 30  # downhill
Maker = Transform | Callable[..., Any]
Values = Mapping[str, Sequence[float]]


def check_transform(
    transform: Maker,
    params: tree.Tree,
    *,
    key: Tensor | None = None,
    batched: Values | None = None,
    grads: tree.Tree | None = None,
    jit: bool = False,
    dtype: str = "kept",
) -> None:
    """Refuse a gradient transform that breaks a rule: those of `report`, of two updates from a new state, and

    - arguments of update: the state that it is given is not written into.
    - updates: have the structure, shapes and dtypes of the parameters.
    - vmap of update: over all members' states too, it gives what a loop gives.
    - carried state: of tensors, it has the structure, shapes and dtypes of the one that `init` made.
    - zero gradients: give no NaN.

    Args:
        transform: a `Transform`, or another pair with `init` and `update`; or, to try what tunes it, a function
            of that which makes one: `lambda lr: fr.optim.sgd(lr)`. If it draws, one of `key` as well.
        params: a tree of floating-point tensors.
        key: for the function that makes it.
        batched: the values of what tunes it, by the names of that function's arguments.
        grads: as params, or with an axis of examples. Default: numbers of both signs that were drawn once.
        jit: compile it too, which takes seconds.
        dtype: of the updates: "kept" is the parameters', "widened" float32 for 16 bits, as for `check`.

    Raises:
        AssertionError: lists each broken rule with its evidence.
        FuncregError: for what is no transform.

    >>> import funcreg as fr
    >>> decayed = lambda decay: fr.transforms.momentum(decay)
    >>> check_transform(decayed, {"w": torch.ones(3)}, batched={"decay": (0.0, 0.5, 0.9)})
    """
    _checks.check_choice("dtype", dtype, DTYPES)
    make = _maker(transform)
    tried = _two_updates(make, params, grads, key, batched)
    refuse_broken(Report(_title(transform), tuple(_findings(make, tried, jit, dtype))))


def check_optimizer(
    optimizer: Maker,
    params: tree.Tree,
    *,
    key: Tensor | None = None,
    batched: Values | None = None,
    jit: bool = False,
    dtype: str = "kept",
) -> None:
    """Refuse an optimizer that breaks a rule of `check_transform`, or

    - descends: 30 of its steps on a quadratic bowl, whose updates are added, end lower than they began.

    Args:
        optimizer, params, key, batched, jit, dtype: as for `check_transform`.

    Raises:
        AssertionError: lists each broken rule with its evidence.
        FuncregError: for what is no transform.

    >>> import funcreg as fr
    >>> check_optimizer(fr.optim.sgd(0.1), {"w": torch.ones(2)})
    >>> check_optimizer(fr.transforms.momentum(0.5), {"w": torch.ones(2)})
    Traceback (most recent call last):
    AssertionError: the transform breaks 1 rule:
      descends: 30 steps on a quadratic bowl went from a height of 1 to 2.279e+21
    """
    _checks.check_choice("dtype", dtype, DTYPES)
    make = _maker(optimizer)
    tried = _two_updates(make, params, None, key, batched)
    found = _findings(make, tried, jit, dtype)
    if not Report("", tuple(found)).broken:
        found.append(_descends(*_made(make, tried)))
    refuse_broken(Report(_title(optimizer), tuple(found)))


def _two_updates(
    make: Callable[..., Any], params: tree.Tree, grads: tree.Tree | None, key: Tensor | None, batched: Values | None
) -> Example:
    """The second update, since the first may be special, as a function of all that tunes."""
    check_floating("params", params)

    def twice(grads: tree.Tree, params: tree.Tree, **settings: Any) -> Any:
        made = make(**settings)
        state = made.init(params)
        updates, state = made.update(grads, state, params)
        # Not the state: a transform may keep none where a number is the Python number 0.
        return made.update(grads, state, optim.apply_updates(params, updates))[0]

    check_settings(make, batched or ())
    return example(twice, _gradients(params) if grads is None else grads, params, key=key, batched=batched or {})


def _findings(make: Callable[..., Any], tried: Example, jit: bool, dtype: str) -> list[Finding]:
    made, (grads, params) = _made(make, tried)
    first = made.init(params)
    updates, state = made.update(*fresh((grads, first, params)))
    misshapen = unlike(updates, params, "the update", "the parameter", dtypes=False)
    if misshapen:  # it cannot be added
        return [Finding("updates", tuple(misshapen))]
    found = [*findings(tried, jit=jit, gradients=True, dtype=dtype), Finding("updates")]
    if not judged(found):
        return found
    still, _ = made.update(*fresh((tree.zeros_like(grads), first, params)))
    lost = [name for name, leaf in named_leaves(still, "the update") if isinstance(leaf, Tensor) and leaf.isnan().any()]
    numbers = [
        f"{name} is a {type(leaf).__name__}, not a tensor"
        for name, leaf in named_leaves(state, "the state")
        if not isinstance(leaf, Tensor)
    ]
    written = purity.arguments(example(made.update, grads, first, params))
    broken = written or numbers or Report("", tuple(found)).broken
    apart = [] if broken else transformed.batches(example(made.update, grads, first, params))
    return [
        *found,
        Finding("arguments of update", tuple(written)),
        Finding("vmap of update", tuple(apart)),
        Finding("carried state", tuple(numbers or unlike(state, first, "the state", "init's"))),
        Finding("zero gradients", tuple(f"{name} is NaN" for name in lost)),
    ]


def _made(make: Callable[..., Any], tried: Example) -> tuple[Any, list[tree.Tree]]:
    """The transform of the call itself, with its gradients and parameters."""
    args, kwargs = tried.arguments(fresh(tried.member(tried.base)))
    return make(**kwargs), list(args)


def _descends(made: Any, given: list[tree.Tree]) -> Finding:
    _, point = given
    bottom, state = tree.map(lambda leaf: leaf + 1, point), made.init(point)
    start = _height(point, bottom)
    heights = []
    for _ in range(STEPS):
        updates, state = made.update(tree.map(torch.sub, point, bottom), state, point)
        point = optim.apply_updates(point, updates)
        heights.append(_height(point, bottom))
    end = max(heights[-2:])  # or it jumps to and fro
    climbed = f"{STEPS} steps on a quadratic bowl went from a height of {start:.4g} to {end:.4g}"
    return Finding("descends", () if end < start else (climbed,))


def _height(point: tree.Tree, bottom: tree.Tree) -> float:
    return float(tree.norm(tree.map(torch.sub, point, bottom)).double() ** 2 / 2)


def _gradients(params: tree.Tree) -> tree.Tree:
    keys = random.split(random.key(7), len(tree.leaves(params)) + 1)
    drawn = iter(keys)
    return tree.map(lambda leaf: random.normal(next(drawn), tuple(leaf.shape)).to(leaf.device, leaf.dtype), params)


def _title(transform: Any) -> str:
    return title(transform) if callable(transform) else "the transform"


def _maker(transform: Any) -> Callable[..., Any]:
    if hasattr(transform, "init") and hasattr(transform, "update"):
        return lambda: transform
    _checks.check_callable("transform", transform, "a Transform, or a function that makes one")
    return transform
