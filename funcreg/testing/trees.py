"""Whether two trees are the same: a message for every leaf that is not, by its path."""

import math
from collections.abc import Callable
from typing import Any

import optree
import torch
from torch import Tensor

from .. import _checks, tree

# By dtype, relative and absolute: those of torch.testing.assert_close.
_TOLERANCES = {
    torch.float16: (1e-3, 1e-5),
    torch.bfloat16: (1.6e-2, 1e-5),
    torch.float32: (1.3e-6, 1e-5),
    torch.complex64: (1.3e-6, 1e-5),
    torch.float64: (1e-7, 1e-7),
    torch.complex128: (1e-7, 1e-7),
}
_SHOWN = 10  # leaves that a message names
# (relative, absolute), by the leaf that is expected, or those of _TOLERANCES.
Tolerances = tuple[float, float] | Callable[[Tensor], tuple[float, float]] | None


def assert_trees_close(
    actual: tree.Tree, expected: tree.Tree, *, rtol: float | None = None, atol: float | None = None
) -> None:
    """Refuse trees that differ by more than rounding: `|actual - expected| <= atol + rtol |expected|` everywhere.

    Structures, shapes, dtypes and devices must be the same, NaN lies where NaN lies, and integers, booleans
    and keys are equal.

    Args:
        actual, expected: trees of tensors and Python values.
        rtol, atol: at least 0, both or neither. Default: by dtype, as in `torch.testing.assert_close`.

    Raises:
        AssertionError: names each leaf that differs by its path, where and by how much.
        FuncregError: for a tolerance below 0, or one without the other.

    >>> assert_trees_close({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([1.0, 2.000001])})
    >>> assert_trees_close({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([1.0, 2.5])})
    Traceback (most recent call last):
    AssertionError: the trees differ:
      w[1]: got 2, expected 2.5 (by 0.5; 1 of 2 elements differ)
    """
    for name, value in (("rtol", rtol), ("atol", atol)):
        if value is not None:
            _checks.check_number(name, value, 0.0)
    if (rtol is None) != (atol is None):
        missing, given = ("rtol", "atol") if rtol is None else ("atol", "rtol")
        _checks.fail(missing, "None", f"a number, since {given} is one", "Pass both or neither.")
    _refuse(differences(actual, expected, None if rtol is None or atol is None else (rtol, atol)))


def assert_trees_equal(actual: tree.Tree, expected: tree.Tree) -> None:
    """Refuse trees that are not the same to the bit; NaN equals NaN.

    Args:
        actual, expected: trees of tensors and Python values.

    Raises:
        AssertionError: names each leaf that differs by its path, where and by how much.

    >>> assert_trees_equal({"w": torch.tensor([1.0])}, {"w": torch.tensor([1.0])})
    >>> assert_trees_equal({"w": torch.ones(1), "b": torch.ones(1)}, {"w": torch.ones(1)})
    Traceback (most recent call last):
    AssertionError: the trees differ:
      structure: missing [], extra ['b']
    """
    _refuse(differences(actual, expected, (0.0, 0.0)))


def named_leaves(of: tree.Tree, root: str = "", none_is_leaf: bool = False) -> list[tuple[str, Any]]:
    """The leaves with their paths, joined by dots: those of any tree that optree knows.

    >>> named_leaves({"w": 1, "b": (2, 3)}, "params")
    [('params.b.0', 2), ('params.b.1', 3), ('params.w', 1)]
    """
    accessors, leaves, _ = optree.tree_flatten_with_accessor(of, none_is_leaf=none_is_leaf)
    return [
        (".".join([root] * bool(root) + [_step(entry) for entry in accessor]), leaf)
        for accessor, leaf in zip(accessors, leaves, strict=True)
    ]


def fresh(of: tree.Tree) -> Any:
    """The same tree with copies of its tensors, which carry no history.

    >>> x = torch.ones(2)
    >>> fresh([x, 3])[0] is x, fresh([x, 3])
    (False, [tensor([1., 1.]), 3])
    """
    return optree.tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, of)


def differences(actual: tree.Tree, expected: tree.Tree, tolerances: Tolerances, *, dtypes: bool = True) -> list[str]:
    """What differs, a line a leaf; none where the trees are the same.

    >>> differences(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0]), (0.0, 0.0))
    ['[1]: got 3, expected 2 (by 1; 1 of 2 elements differ)']
    """
    ours, theirs = named_leaves(actual), named_leaves(expected)
    names, wanted = [name for name, _ in ours], [name for name, _ in theirs]
    if names != wanted:
        missing, extra = (sorted({*one} - {*other})[:_SHOWN] for one, other in ((wanted, names), (names, wanted)))
        return [f"structure: missing {missing}, extra {extra}" if missing or extra else "structure: in another order"]
    lines = []
    for (name, one), (_, other) in zip(ours, theirs, strict=True):
        said = _difference(one, other, tolerances, dtypes)
        if said:
            lines.append(name + said)
    return lines


def unlike(new: tree.Tree, old: tree.Tree, what: str, whose: str, *, dtypes: bool = True) -> list[str]:
    """Where a tree has not another's names, shapes and dtypes.

    >>> unlike({"m": torch.zeros(2)}, {"m": torch.zeros(3)}, "the state", "init's")
    ["the state.m is float32 (2,), init's float32 (3,)"]
    """
    ours, theirs = ({name: _kind(leaf, dtypes) for name, leaf in named_leaves(each)} for each in (new, old))
    if list(ours) != list(theirs):
        return [f"{what} has the leaves {list(ours)}, {whose} {list(theirs)}"]
    changed = [name for name in ours if ours[name] != theirs[name]]
    return [f"{what}{'.' * bool(name)}{name} is {ours[name]}, {whose} {theirs[name]}" for name in changed]


def _kind(leaf: Any, dtypes: bool) -> str:
    if not isinstance(leaf, Tensor):
        return type(leaf).__name__
    return f"{_plain(leaf.dtype)} {tuple(leaf.shape)}" if dtypes else f"of shape {tuple(leaf.shape)}"


def _refuse(lines: list[str]) -> None:
    if lines:
        more = [f"and {len(lines) - _SHOWN} leaves more"] if len(lines) > _SHOWN else []
        raise AssertionError("\n  ".join(["the trees differ:", *lines[:_SHOWN], *more]))


def _step(entry: Any) -> str:
    return str(entry.field if isinstance(entry, optree.NamedTupleEntry) else entry.entry)


def _difference(actual: Any, expected: Any, tolerances: Tolerances, dtypes: bool) -> str:
    """How two leaves differ, beginning with the index of the element that differs most; nothing if they do not."""
    one, other = isinstance(actual, Tensor), isinstance(expected, Tensor)
    if one and other:
        for what in ("shape", "dtype", "device"):
            own, wanted = getattr(actual, what), getattr(expected, what)
            if own != wanted and (dtypes or what != "dtype"):
                return f": {what}: got {_plain(own)}, expected {_plain(wanted)}"
    elif one or other:
        if dtypes:
            return f": got {_checks.describe(actual)}, expected {_checks.describe(expected)}"
    elif not (isinstance(actual, float) and isinstance(expected, float)):
        same = actual is expected or _equal(actual, expected)
        return "" if same else f": got {_checks.describe(actual)}, expected {_checks.describe(expected)}"
    return _gap(torch.as_tensor(actual).detach(), torch.as_tensor(expected).detach(), tolerances)


def _gap(actual: Tensor, expected: Tensor, tolerances: Tolerances) -> str:
    if torch.equal(actual, expected):
        return ""
    inexact = actual.is_floating_point() or actual.is_complex()
    if not inexact:
        apart = actual != expected
        by = apart.double()
    else:
        if callable(tolerances):
            tolerances = tolerances(expected)
        rtol, atol = tolerances or max(_TOLERANCES.get(each.dtype, (0.0, 0.0)) for each in (actual, expected))
        wide = torch.complex128 if actual.is_complex() or expected.is_complex() else torch.float64
        one, other = actual.to(wide), expected.to(wide)
        by = (one - other).abs()
        same = (one == other) | (one.isnan() & other.isnan())
        apart = ~same & ~(by <= atol + rtol * other.abs())
        apart = apart | (~same & (one.isinf() | other.isinf()))
        by = torch.where(apart, by.nan_to_num(math.inf, math.inf), 0.0)
    if not bool(apart.any()):
        return ""
    place = tuple(int(each) for each in torch.unravel_index(by.argmax(), by.shape))
    a, b = actual[place].item(), expected[place].item()
    amount = f"by {float(by[place]):.3g}; " if inexact and math.isfinite(float(by[place])) else ""
    count = f"{int(apart.sum())} of {apart.numel()} elements differ"
    index = f"[{', '.join(map(str, place))}]" if place else ""
    return f"{index}: got {_number(a)}, expected {_number(b)} ({amount}{count})"


def _equal(one: Any, other: Any) -> bool:
    """What compares element by element, as arrays do, is taken for equal."""
    try:
        return bool(one == other)
    except (RuntimeError, ValueError):
        return True


def _number(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> str:
    return str(tuple(value) if isinstance(value, torch.Size) else value).removeprefix("torch.")
