"""The average of a run's parameters, as a part of its train state: begun, moved on, read."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .. import _checks, tree
from ..averaging import AverageState, Averaging, SwagState, sample_swag
from ..averaging.swag import check_swag
from ..transforms import Number
from ..tree.checks import check_floating, check_like, check_tensors

Average = Averaging[Any] | Callable[[Any], Averaging[Any]]
_STATES = (AverageState, SwagState)


def begin(average: Average | None, params: tree.Tree, state: tree.Tree, hparams: Any) -> Any:
    """The average before the first step: of these parameters. `()` for None.

    >>> import torch
    >>> from funcreg import averaging
    >>> begin(averaging.ema(0.9), {"w": torch.ones(1)}, {}, None).params
    {'params': {'w': tensor([1.])}}
    """
    if average is None:
        return ()
    # Copies: a compiled step is compiled anew where one tensor was in two places, and then is not.
    return tree.map(Tensor.clone, made(average, hparams).init(_followed(params, state)))


def follow(average: Average | None, so_far: Any, params: tree.Tree, state: tree.Tree, hparams: Any) -> Any:
    """The average after one more step.

    >>> import torch
    >>> from funcreg import averaging
    >>> so_far = begin(averaging.ema(0.5), {"w": torch.ones(1)}, {}, None)
    >>> follow(averaging.ema(0.5), so_far, {"w": torch.zeros(1)}, {}, None).params["params"]
    {'w': tensor([0.5000])}
    """
    if average is None:
        if so_far != ():
            remedy = "Give the step the same average as fr.train.init: make_step(..., average=...)."
            _checks.fail("train_state", "one with an average", "one without, as the step has none", remedy)
        return ()
    if not isinstance(so_far, _STATES):
        remedy = "Make it with the same average as the step: fr.train.init(..., average=...)."
        _checks.fail("train_state", "one without an average", "one with, as the step has", remedy)
    return made(average, hparams).update(so_far, _followed(params, state))


def variables(train_state: Any) -> tuple[tree.Tree, tree.Tree]:
    """The parameters and state of a train state that are to be evaluated: where it has an average, the average's.

    The average of the parameters, in their dtypes, goes with that of the running statistics of batch norm, whose other
    buffers are the latest. It is near what the averaged parameters see, not the same: that takes a pass over the data,
    `fr.averaging.refresh_statistics(model, *variables(train_state), batches, key=key)`, and is due after `swa`.

    Args:
        train_state: of one model, or of members.

    Returns:
        (params, state), as `model.apply` takes them.

    Raises:
        FuncregError: for what is not a train state.

    >>> import torch
    >>> from funcreg import averaging, optim, random, train
    >>> first = train.init({"w": torch.ones(1)}, {}, optim.sgd(0.1), key=random.key(0), average=averaging.ema(0.9))
    >>> variables(first._replace(params={"w": torch.zeros(1)}))
    ({'w': tensor([1.])}, {})
    """
    if not hasattr(train_state, "average"):
        _checks.fail("train_state", _checks.describe(train_state), "a TrainState", "Make one: fr.train.init.")
    check_floating("train_state.params", train_state.params)
    check_tensors("train_state.state", train_state.state)
    params, state, average = train_state.params, train_state.state, train_state.average
    if not isinstance(average, _STATES):
        return params, state
    check_like("train_state.average.params", average.params["params"], "train_state.params", params)
    statistics = average.params.get("statistics", {})
    if statistics:
        state = tree.map_named(lambda n, leaf: statistics[n].to(leaf.dtype) if n in statistics else leaf, state)
    return tree.map(lambda mean, leaf: mean.to(leaf.dtype), average.params["params"], params), state


def sample_variables(train_state: Any, *, key: Tensor, scale: Number = 1.0) -> tuple[tree.Tree, tree.Tree]:
    """Parameters and state drawn around the average of a train state, that of `fr.averaging.swag`.

    Draws stacked by vmap over keys are the members of `fr.uncertainty.ensemble`. Batch statistics are the average's;
    those that fit a draw are `fr.averaging.refresh_statistics(model, params, state, batches, key=key)`.

    Args:
        train_state: of one model; with members, vmap over them and a key each.
        key: int64 (2,).
        scale: of the covariance, as `fr.averaging.sample_swag` takes it.

    Returns:
        (params, state), as `model.apply` takes them, in the dtypes of the train state.

    Raises:
        FuncregError: for what is not a train state, one with another average or none, one of members, and as
            `sample_swag`.

    >>> import torch
    >>> from funcreg import averaging, optim, random, train
    >>> sgd, swag = optim.sgd(0.1), averaging.swag()
    >>> step = train.make_step(lambda params, *rest, **how: (params["w"].sum(), ({}, {})), sgd, average=swag)
    >>> train_state = train.init({"w": torch.ones(1)}, {}, sgd, key=random.key(0), average=swag)
    >>> for _ in range(3):
    ...     train_state, _ = step(train_state, ())
    >>> keys = random.split(random.key(1), 1000)
    >>> params, _ = torch.func.vmap(lambda key: sample_variables(train_state, key=key))(keys)
    >>> params["w"].mean(), params["w"].std()
    (tensor(0.79...), tensor(0.07...))
    """
    params, state = variables(train_state)
    average = train_state.average
    if not isinstance(average, SwagState):
        remedy = "Train with one: average=fr.averaging.swag(), for init and make_step."
        _checks.fail("train_state", f"one with average {_checks.describe(average)}", "one with that of swag", remedy)
    if average.step.ndim:
        remedy = "Batch it: torch.func.vmap(lambda s, k: sample_variables(s, key=k))(train_state, keys)."
        _checks.fail("train_state", f"one of {len(average.step)} members", "that of one model", remedy)
    whole = (average.params, average.variance, average.deviations)
    mean, variance, deviations = (each["params"] for each in whole)
    own = average._replace(params=mean, variance=variance, deviations=deviations)
    check_swag("train_state.average", own)
    drawn = sample_swag(own, key=key, scale=scale)
    return tree.map(lambda draw, leaf: draw.to(leaf.dtype), drawn, params), state


def made(average: Average, hparams: Any) -> Averaging[Any]:
    """The averaging for these hyperparameters.

    >>> from funcreg import averaging
    >>> made(lambda hparams: averaging.ema(hparams), 0.9).init is not None
    True
    """
    own = average if isinstance(average, Averaging) else average(hparams)
    if not isinstance(own, Averaging):
        _checks.fail("average", f"a function that returns {_checks.describe(own)}", "hparams -> Averaging")
    return own


def check_average(average: Any) -> None:
    """Refuse what is neither an Averaging, nor a function that may make one, nor None.

    >>> check_average(None)
    """
    if average is not None and not isinstance(average, Averaging):
        allowed = "an Averaging such as fr.averaging.ema(0.999), a function hparams -> Averaging, or None"
        _checks.check_callable("average", average, allowed)


def _followed(params: tree.Tree, state: tree.Tree) -> dict[str, Any]:
    """What is averaged: the parameters, and the running statistics among the state, by name."""
    named = dict(zip(tree.names(state), tree.leaves(state), strict=True))
    statistics = {name: leaf for name, leaf in named.items() if _is_statistic(name, named)}
    # torch.compile cannot trace optree through an empty dict.
    return {"params": params, "statistics": statistics} if statistics else {"params": params}


def _is_statistic(name: str, named: dict[str, Tensor]) -> bool:
    """Whether it is a running mean or variance: a module's, or of a `norm.BatchStats`."""
    where, _, own = name.rpartition(".")
    counted = f"{where}.count" if where else "count"
    return own in ("running_mean", "running_var") or (own in ("mean", "var") and counted in named)
