"""The structure of a tree as JSON, and a tree of that structure again, in another process."""

import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor

from .. import _checks, tree


def structure_of(value: tree.Tree) -> Any:
    """Its containers, by kind and by what they call their children; None for one that is of another kind.

    >>> structure_of({"w": ()})
    ['dict', [['w', ['tuple', []]]]]
    """
    try:
        return _structure(value)
    except TypeError:
        return None


def rebuilt(structure: Any, leaf: Callable[[str], Tensor], path: str) -> tree.Tree:
    """The tree of a structure, whose leaves are those of their paths, as `fr.checkpoint` writes them.

    Raises:
        FuncregError: for a NamedTuple whose module this process has not imported.

    >>> rebuilt(["dict", [["w", ["leaf", []]]]], lambda path: path, "params")
    {'w': 'params/w'}
    """
    kind, children = structure
    if kind == "leaf":
        return leaf(path)
    if kind == "none":
        return None
    values = [
        (name, rebuilt(each, leaf, f"{path}/{str(name).replace('~', '~0').replace('/', '~1')}"))
        for name, each in children
    ]
    if kind in ("dict", "OrderedDict"):
        return (OrderedDict if kind == "OrderedDict" else dict)(values)
    plain = [value for _, value in values]
    if kind in ("tuple", "list"):
        return tuple(plain) if kind == "tuple" else plain
    return _class_of(kind, tuple(name for name, _ in children))(*plain)


def _structure(value: Any) -> Any:
    if value is None:
        return ["none", []]
    if isinstance(value, Tensor):
        return ["leaf", []]
    if type(value) in (dict, OrderedDict) and all(isinstance(name, str | int) for name in value):
        return [type(value).__name__, [[name, _structure(child)] for name, child in value.items()]]
    if type(value) in (tuple, list):
        return [type(value).__name__, [[place, _structure(child)] for place, child in enumerate(value)]]
    names = getattr(value, "_fields", None)
    if isinstance(value, tuple) and names is not None:
        kind = f"{type(value).__module__}:{type(value).__qualname__}"
        return [kind, [[name, _structure(child)] for name, child in zip(names, value, strict=True)]]
    raise TypeError


def _class_of(kind: str, fields: tuple[str, ...]) -> Any:
    """A NamedTuple by its module, which is imported already: a file must not say what is imported."""
    module, _, name = kind.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or not issubclass(found, tuple) or vars(found).get("_fields") != fields:
        remedy = f"Import {module} first, in the version that the run was trained with."
        _checks.fail("path", f"a run with a {name} of {fields}", f"that class in {module}", remedy)
    return found
