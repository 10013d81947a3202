"""Code that a forward leaves for the backward pass: hooks on gradients and on what is kept, autograd functions.

It runs when the call has returned, and its mode of torch with it. So it is put into a mode of its
own as it is registered, whose key comes from that of the layer which registers it.
"""

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
from .mode import Keyed, replaces

_applies: ContextVar[Keyed | None] = ContextVar(
    "the mode that has seen an autograd function in a transform", default=None
)


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
    outside = depth()

    def begins(self: Any) -> None:
        """In the place of the `__init__` of what torch makes, at each application, to run the backward."""
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

    def enters(self: saved_tensors_hooks) -> None:
        """In the place of `__enter__`, before each use of these hooks."""
        keyed, own = _innermost(), (self.pack_hook, self.unpack_hook)
        if keyed is None:
            otherwise()
        else:
            self.pack_hook, self.unpack_hook = _keyed_hooks(*own, keyed.for_backward())
        enter(self)
        self.pack_hook, self.unpack_hook = own

    init = BackwardCFunction.__init__
    enter, saved_tensors_hooks.__enter__ = saved_tensors_hooks.__enter__, enters
    BackwardCFunction.__init__ = begins
    try:
        yield
    finally:
        BackwardCFunction.__init__ = init
        saved_tensors_hooks.__enter__ = enter


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
