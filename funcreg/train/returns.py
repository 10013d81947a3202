"""What the functions of a training step returned, by the name of the function."""

from typing import Any, NoReturn

from torch import Tensor

from .. import _checks, tree
from ..tree.structure import entry

OWN = ("loss", "grad_norm", "param_norm", "learning_rate")


def checked_return(output: Any, state: tree.Tree) -> tuple[Tensor, tuple[tree.Tree, dict[str, Tensor]]]:
    """What loss_fn returned, after checking that it is (loss, (state, metrics))."""
    expected = "(loss, (state, metrics))"
    if not isinstance(output, tuple) or len(output) != 2:
        _checks.fail("loss_fn", f"a return of {_describe(output)}", expected)
    loss, aux = output
    if not isinstance(aux, tuple) or len(aux) != 2:
        _checks.fail("loss_fn", f"a return of (loss, {_describe(aux)})", expected)
    new_state, metrics = aux
    check_scalar("loss_fn's loss", loss, "Reduce it: loss.mean().")
    found, had = set(tree.names(new_state)), set(tree.names(state))
    if found != had:
        differ = f"missing {sorted(had - found)[:5]}, extra {sorted(found - had)[:5]}"
        remedy = "Return the state that the model gave back, or the one you got."
        _checks.fail("loss_fn's state", f"another structure ({differ})", "the structure of the state it got", remedy)
    if not isinstance(metrics, dict):
        _checks.fail("loss_fn's metrics", _describe(metrics), "a dict of name -> tensor of shape ()")
    for name, value in metrics.items():
        if not isinstance(name, str):
            _checks.fail("loss_fn's metrics", f"the name {_checks.describe(name)}", "names that are strings")
        if name in OWN:
            _checks.fail("loss_fn's metrics", repr(name), f"other names than {', '.join(OWN)}, which the step adds")
        check_scalar(f"loss_fn's metrics[{name!r}]", value)
    return loss, (new_state, metrics)


def refuse_constant() -> NoReturn:
    """Refuse a loss that depends on no parameter: it would train nothing.

    Its gradient may be 0; that is no reason.

    >>> refuse_constant()
    Traceback (most recent call last):
    ...
    funcreg._checks.FuncregError: loss_fn: got a loss that depends on no parameter; expected one computed from...
    """
    remedy = "Detached (detach, item, argmax, torch.no_grad) or computed with a module's own weights it trains nothing."
    _checks.fail("loss_fn", "a loss that depends on no parameter", "one computed from params", remedy)


def check_scalar(argument: str, value: Any, remedy: str = "") -> None:
    """Refuse what is not a tensor of shape (), of a real number.

    >>> import torch
    >>> check_scalar("loss", torch.zeros(()))
    """
    if not isinstance(value, Tensor) or value.ndim != 0:
        _checks.fail(argument, _describe(value), "a tensor of shape ()", remedy)
    if value.is_complex():
        _checks.fail(argument, _describe(value), "a real number, such as value.abs()")


def check_updated(argument: str, updated: tree.Tree, params: tree.Tree, remedy: str) -> None:
    """Refuse parameters that a step gave another structure or shape."""
    if tree.names(updated) != tree.names(params):
        _checks.fail(argument, f"a return of {_describe(updated)}", "a tree like the parameters", remedy)
    for name, before, after in zip(tree.names(params), tree.leaves(params), tree.leaves(updated), strict=True):
        if not isinstance(after, Tensor) or after.shape != before.shape:
            allowed = f"a tensor of shape {tuple(before.shape)}"
            _checks.fail(entry(argument, name), _checks.describe(after), allowed, remedy)


def _describe(value: Any) -> str:
    """A return value in an error message; a tuple by its parts."""
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return f"a tuple of {len(value)}: ({', '.join(_describe(part) for part in value)})"
    return f"a dict of {sorted(map(str, value))}" if isinstance(value, dict) else _checks.describe(value)
