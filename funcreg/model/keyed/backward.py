"""Code that a forward leaves for the backward pass: hooks on gradients and on what is kept, autograd functions.

It runs when the call has returned, and its mode of torch with it. So it is put into a mode of its
own as it is registered, whose key comes from that of the layer which registers it.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor
from torch._functorch.autograd_function import custom_function_call
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import _get_current_function_mode_stack  # pyright: ignore[reportPrivateUsage]
from torch.utils.hooks import RemovableHandle

from ..._functorch import depth
from ..standing import StandIns
from .mode import Keyed, replaces

_applies: ContextVar[Keyed | None] = ContextVar(
    "the mode that has seen an autograd function in a transform", default=None
)
_stand_ins, _enter = StandIns(), saved_tensors_hooks.__enter__


class _Block(threading.local):
    """Of `keyed_functions`: the depth of transforms outside of it, and what it was given."""

    of_thread: tuple[int, Callable[[], None]] | None = None


_block = _Block()


@replaces(Tensor.register_hook)
def _register_hook(keyed: Keyed, function: Any, tensor: Tensor, hook: Callable[..., Any]) -> Any:
    keyed.saw("register_hook", "hook", True)
    run = keyed.in_backward(hook, hook=True)
    # A module's parameters ask for gradients, those of a call need not: then no hook ever runs.
    return function(tensor, run) if tensor.requires_grad else RemovableHandle(OrderedDict())


@replaces(custom_function_call)
def _in_a_transform(keyed: Keyed, function: Any, *args: Any) -> Any:
    token = _applies.set(keyed)
    try:
        return function(*args)
    finally:
        _applies.reset(token)


@contextmanager
def keyed_functions(otherwise: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Key, inside the block, the backward of every autograd function that a layer in a mode applies.

    The hooks of layers on their gradients (`register_full_backward_hook`) are hooks of such a function. What packs
    and unpacks the tensors that a graph keeps (`saved_tensors_hooks`) is keyed likewise.

    Args:
        otherwise: called for one that is applied in no mode, such as that of a custom operator.

    >>> with keyed_functions():
    ...     pass
    """
    outer, _block.of_thread = _block.of_thread, (depth(), otherwise)
    try:
        with _stand_ins.standing(_PLACES):
            yield
    finally:
        _block.of_thread = outer


def _begins(self: Any) -> None:
    """In the place of the `__init__` of what torch makes, at each application, to run the backward."""
    if _block.of_thread is None:
        return
    outside, otherwise = _block.of_thread
    if depth() < outside:
        return  # inside of a transform's own rule, which has begun one for the same application
    keyed = _innermost()
    if keyed is None:
        otherwise()
        return
    weak = weakref.ref(self)  # which is not to hold itself
    name = "apply_boxed" if getattr(type(self)._forward_cls, "boxed_grads_call", False) else "apply"
    self.__dict__[name] = keyed.in_backward(_method(weak, name))
    register = _method(weak, "register_hook")
    self.__dict__["register_hook"] = lambda hook: register(keyed.in_backward(hook, hook=True))


def _enters(self: saved_tensors_hooks) -> None:
    """In the place of `__enter__`, before each use of these hooks."""
    keyed, own = _innermost(), (self.pack_hook, self.unpack_hook)
    if keyed is not None:
        self.pack_hook, self.unpack_hook = _keyed_hooks(*own, keyed.for_backward())
    elif _block.of_thread is not None:
        _block.of_thread[1]()
    _enter(self)
    self.pack_hook, self.unpack_hook = own


_PLACES = ((BackwardCFunction, "__init__", _begins), (saved_tensors_hooks, "__enter__", _enters))


def _keyed_hooks(pack: Any, unpack: Any, keyed: Keyed) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What packs a tensor for the backward pass, and what unpacks it there, each time with a key of its own."""

    def packs(tensor: Tensor) -> tuple[Any, Callable[[Any], Tensor]]:
        return keyed.in_backward(pack)(tensor), keyed.in_backward(unpack)

    return packs, lambda kept: kept[1](kept[0])


def _method(weak: Any, name: str) -> Callable[..., Any]:
    return lambda *args: getattr(type(weak()), name)(weak(), *args)


def _innermost() -> Keyed | None:
    modes = [mode for mode in _get_current_function_mode_stack() if isinstance(mode, Keyed)]
    return modes[-1] if modes else _applies.get()
