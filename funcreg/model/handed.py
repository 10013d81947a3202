"""What a call hands over to a forward: it may write into tensors, lists and objects, such as a cache, of its own."""

import copy
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch._library.custom_ops import CustomOpDef
from torch.utils import _pytree as pytree

from .. import _checks
from .contents import contents
from .refused import ATOMS

_CODE = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)


def tensors_in(arguments: Any) -> list[Tensor]:
    """The tensors among arguments, those that objects hold too.

    >>> cache = types.SimpleNamespace(keys=[Tensor(2)])
    >>> tensors_in(({"cache": cache},))[0] is cache.keys[0]
    True
    """
    return [part for part in _parts(arguments, set()) if isinstance(part, Tensor)]


def copied(arguments: Any, copy_of: Callable[[Tensor], Tensor], *, if_possible: bool = False) -> Any:
    """Arguments whose containers and objects are copies, and hold other tensors; modules, locks and files are the same.

    copy_of: gives those. if_possible: whether an object that cannot be copied stays what it is, or is refused.

    >>> cache = types.SimpleNamespace(keys=[Tensor(2)])
    >>> own = copied(cache, lambda tensor: tensor)
    >>> own.keys.append(0)
    >>> len(cache.keys), own.keys[0] is cache.keys[0]
    (1, True)
    """

    def own(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return copy_of(leaf)
        if isinstance(leaf, nn.Module) or type(leaf) in ATOMS:
            return leaf
        parts = [
            part for part in _parts(leaf, set()) if isinstance(part, Tensor | nn.Module) or not can_be_copied(part)
        ]
        memo = {id(part): copy_of(part) if isinstance(part, Tensor) else part for part in parts}
        try:
            return copy.deepcopy(leaf, memo)
        except Exception as error:
            if if_possible:
                return leaf
            got = f"a {type(leaf).__name__} that the forward changes and that cannot be copied ({error})"
            raise _checks.FuncregError(f"args: got {got}; expected one that copy.deepcopy takes.") from error

    return pytree.tree_map(own, arguments)


def refuse_objects(arguments: Any) -> None:
    """Refuse, in a program that is being traced, objects that a forward changes.

    >>> refuse_objects(([1.0], {"mask": None}))
    """
    for leaf in pytree.tree_leaves(arguments):
        if not isinstance(leaf, Tensor) and type(leaf) not in ATOMS:
            got = f"a {type(leaf).__name__} that the forward changes"
            _checks.fail("args", got, "tensors, in a compiled program", "Call it in eager mode, or return a new one.")


def can_be_copied(value: Any) -> bool:
    """Whether `copy.deepcopy` takes a value, short of what it holds; no lock, open file or custom operator.

    >>> import threading
    >>> can_be_copied([]), can_be_copied(threading.Lock())
    (True, False)
    """
    if isinstance(value, list | dict | tuple) or hasattr(value, "__deepcopy__"):
        return True  # such as what is inside of a TorchScript program
    if isinstance(value, types.MethodType):
        return True  # bound to a layer, most of the time, which is copied once
    if isinstance(value, CustomOpDef):
        return False
    try:
        value.__reduce_ex__(4)
    except Exception:
        return isinstance(value, (*_CODE, functools.partial))
    return True


def _parts(value: Any, seen: set[int]) -> Iterator[Any]:
    """A value and what it holds, but for numbers, words and code; not what is in tensors and modules."""
    if type(value) in ATOMS or id(value) in seen or isinstance(value, _CODE):
        return
    seen.add(id(value))
    yield value
    if isinstance(value, Tensor | nn.Module):
        return
    for part in (*contents(value), *getattr(value, "__dict__", {}).values()):
        yield from _parts(part, seen)
