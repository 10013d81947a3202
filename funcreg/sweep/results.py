"""What came of a sweep: each member's metrics, and the best of them."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks, tree
from ..train import FitResult, variables
from ..tree.stacking import members_of


class Member(NamedTuple):
    """One model of a sweep, without the leading axis: which it was, its values, its settings, its metrics."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride] (a field may hide tuple.index)
    params: tree.Tree
    state: tree.Tree
    hparams: Any
    metrics: dict[str, Tensor]


def at_best(result: FitResult) -> dict[str, Tensor]:
    """Each member's metrics at its best epoch, at which `result.best` holds its parameters.

    Args:
        result: of `train.fit(members=K)`.

    Returns:
        name -> float64 (K,); NaN for a member that has no best epoch, as it diverged in the first.

    Raises:
        FuncregError: when result is something else, is of one model, or has no epoch.

    >>> history = {"loss": torch.tensor([[3.0, 4.0], [1.0, 2.0], [1.5, 0.5]])}  # two members, three epochs
    >>> at_best(FitResult(None, history, None, torch.tensor([2, 3]), None, None, False))
    {'loss': tensor([1.0000, 0.5000])}
    """
    if not isinstance(result, FitResult):
        _checks.fail("result", _checks.describe(result), "what fr.train.fit returns")
    if not isinstance(result.best_epoch, Tensor):
        remedy = "Its parameters are in result.best, its metrics in result.history."
        _checks.fail("result", "a fit of one model", "one of members", remedy)
    if not result.history:
        _checks.fail("result", "a fit that was interrupted in its first epoch", "one of at least one epoch")
    at = (result.best_epoch - 1).clamp_min(0).unsqueeze(0)
    never = result.best_epoch == 0
    return {name: torch.where(never, torch.nan, rows.gather(0, at)[0]) for name, rows in result.history.items()}


def best(result: FitResult, hparams: Any, metric: str = "loss", mode: str = "min") -> Member:
    """The member with the best metric at its own best epoch, and the parameters that it had then.

    Where the step has an average, these are the average's, which were evaluated: `train.variables`.

    A member that diverged competes by its last good epoch; one without any, or whose metric is
    not finite, never wins. Of equals the first does.

    Args:
        result: of `train.fit(members=K)`.
        hparams: as `fit` was given them, every leaf (K, ...).
        metric: a name in `result.history`, a step's or evaluate's.
        mode: "min" when lower is better, "max" when higher is.

    Returns:
        A Member, copied: `fr.to_module(module, member.params, member.state)` is it as a module.

    Raises:
        FuncregError: when result is of one model, metric is not in its history, or no member's is finite.

    >>> history = {"loss": torch.tensor([[3.0, 4.0], [1.0, 2.0], [1.5, 0.5]])}
    >>> from funcreg import train
    >>> at_best_epoch = train.TrainState({"w": torch.tensor([10.0, 20.0])}, {}, (), None, None)
    >>> result = FitResult(None, history, at_best_epoch, torch.tensor([2, 3]), None, None, False)
    >>> best(result, {"lr": torch.tensor([0.1, 0.2])})
    Member(index=1, params={'w': tensor(20.)}, state={}, hparams={'lr': tensor(0.2000)},
        metrics={'loss': tensor(0.5000)})
    """
    metrics = at_best(result)
    _checks.check_choice("metric", metric, list(metrics))
    _checks.check_choice("mode", mode, ("min", "max"))
    members = len(result.best_epoch)
    if tree.leaves(hparams) and members_of("hparams", hparams) != members:
        _checks.fail("hparams", f"those of {tree.members(hparams)} members", f"those of the result's {members}")
    values = metrics[metric] if mode == "min" else -metrics[metric]
    finite = torch.isfinite(values)
    if not finite.any():
        _checks.fail("result", f"no member whose {metric!r} is finite", "at least one")
    index = int(torch.where(finite, values, torch.inf).argmin())
    chosen = tree.clone(tree.index((*variables(result.best), hparams, metrics), index))
    return Member(index, *chosen)
