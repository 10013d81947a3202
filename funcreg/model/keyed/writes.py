"""Writes into what a call was lent, met before they happen.

A write through `.data` bumps no version counter, and one that a counter tells of is already made. While code runs that
may do so, the dispatcher asks here before each operator in place, and before batch norm on running statistics.
"""

import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .dispatched import OTHERS, Unforeseen
from .dispatcher import KEY, implement, include, settle, thread

# A network has many, and none on what a layer keeps.
_ACTIVATIONS = {
    *("celu_", "elu_", "gelu_", "hardsigmoid_", "hardswish_", "hardtanh_", "leaky_relu_", "mish_", "relu6_", "relu_"),
    *("selu_", "sigmoid_", "silu_", "tanh_", "threshold_"),
}
_SHAPES = {
    *("_coalesced_", "as_strided_", "detach_", "requires_grad_", "squeeze_", "swapaxes_", "swapdims_", "t_"),
    *("transpose_", "unsqueeze_"),
}
# These, or what they consist of, have kernels of their own.
_DRAWS = (
    *("_no_grad_normal_", "_no_grad_uniform_", "alpha_dropout_", "dropout_", "feature_alpha_dropout_"),
    *("feature_dropout_", "rrelu_", *OTHERS),
)
_OTHERS = frozenset((*_ACTIVATIONS, *_SHAPES, *_DRAWS))
# What they write into, if an argument says so. Those that write into nothing work in place on steps of their own.
_STATISTICS = (slice(3, 5), 5)
_COMPOSITE: dict[str, tuple[Any, ...]] = {
    "batch_norm": _STATISTICS,
    "instance_norm": _STATISTICS,
    **{f"{kind}_cell": (slice(0),) for kind in ("gru", "lstm", "rnn_relu", "rnn_tanh")},
}
_turn = threading.Lock()  # of the thread that registers kernels, which torch takes once


class Written(Unforeseen):
    """A write into a tensor of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.written = name


class _Guarded:
    """What a call was lent."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors, self.met = tensors, ""
        self.names = {_memory(each): name for name, each in tensors.items()}
        self.same = {name: each.data for name, each in tensors.items()}

    def look_at(self, written: Any) -> None:
        """Raise, if this is one of them, or shares its memory."""
        if not isinstance(written, Tensor):
            for each in written:
                self.look_at(each)
            return
        name = self.names.get(_memory(written))
        if name is not None:
            self.met = name
            raise Written(name)

    def put_back(self) -> None:
        """Give what had its `.data` set its memory again."""
        for name, was in self.same.items():
            tensor = self.tensors[name]
            if _memory(tensor) != _memory(was):
                tensor.data = was
                self.met = name


def guarded(tensors: Mapping[str, Tensor], function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that writes into none of these: `Unforeseen` before it does. Not for calls inside of a transform.

    >>> x = torch.zeros(2)
    >>> guarded({"x": x}, lambda: (x + 1).add_(1))()
    tensor([2., 2.])
    >>> try:
    ...     guarded({"x": x}, lambda: x.data.add_(1))()
    ... except Unforeseen as met:
    ...     met.written, x
    ('x', tensor([0., 0.]))
    """
    with _turn:
        works = _works()
    return functools.partial(_guarded, tensors, function) if works else function


def _guarded(tensors: Mapping[str, Tensor], function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    guard = _Guarded(tensors)
    around, thread.guarded = thread.guarded, guard
    settle()
    try:
        return function(*args, **kwargs)
    finally:
        thread.guarded = around
        settle()
        guard.put_back()
        if guard.met:
            raise Written(guard.met)  # which the forward may have taken for its own


def _memory(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # of a layout without one
        return id(tensor)


def _kernel(operator: Callable[[], Any], written: slice, training: int | None = None) -> Callable[..., Any]:
    """What the dispatcher calls for an operator that writes into these arguments, if that one says so."""
    resolved: list[Any] = []

    def kernel(*args: Any, **kwargs: Any) -> Any:
        include(KEY, False)
        try:
            if thread.guarded is not None and (training is None or args[training]):
                thread.guarded.look_at([each for each in args[written] if each is not None])
            if not resolved:
                resolved.append(operator())
            return resolved[0](*args, **kwargs)
        finally:
            include(KEY, True)

    return kernel


@functools.cache
def _works() -> bool:
    """Whether this torch hands writes over; at the first call, since it takes 40 ms."""
    try:
        for schema in torch._C._jit_get_all_schemas():
            namespace, _, name = schema.name.partition("::")
            first = schema.arguments[0].alias_info if schema.arguments else None
            in_place = name.endswith("_") and first is not None and first.is_write and name not in _OTHERS
            if namespace == "aten" and (in_place or name in _COMPOSITE):
                overload = schema.overload_name
                operator = functools.partial(_operator, name, overload or "default")
                how = _COMPOSITE.get(name, (slice(1),))
                implement(f"{name}.{overload}" if overload else name, _kernel(operator, *how))
    except (AttributeError, IndexError, RuntimeError, TypeError):  # private, and another version's
        return False
    return True


def _operator(name: str, overload: str) -> Any:
    return getattr(getattr(torch.ops.aten, name), overload)
