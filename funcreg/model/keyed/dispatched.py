"""Draws that torch's dispatcher hands over, so that the functions between them cost nothing.

A mode of torch sees every function under it, and takes more than a microsecond for each. Most layers
draw by `F.dropout` or attention alone: those are operators, and of an operator the dispatcher asks
whether a key of this thread has a kernel for it. Other draws, which the layer's rehearsal has not seen,
are refused by `Unforeseen`, and the call is made again in modes. So are all of a forward that draws nothing.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import (
    TorchFunctionMode,
    _pop_mode,  # pyright: ignore[reportPrivateUsage]
    _push_mode,  # pyright: ignore[reportPrivateUsage]
)

from .dispatcher import KEY, implement, include, settle, thread
from .mode import Keyed, replacement_of

_C: Any = torch._C
_HANDED_OVER = {"dropout": torch.dropout, "scaled_dot_product_attention": F.scaled_dot_product_attention}
# What draws beside them, as operators: each composite one, such as alpha dropout, ends in one of these.
OTHERS = (
    *("bernoulli", "bernoulli_", "binomial", "cauchy_", "exponential_", "geometric_", "log_normal_", "multinomial"),
    *("native_dropout", "normal", "normal_", "poisson", "rand", "rand_like", "randint", "randint_like", "randn"),
    *("randn_like", "random_", "randperm", "rrelu_with_noise", "rrelu_with_noise_", "uniform_"),
    *("_cudnn_init_dropout_state", "_fused_dropout", "_sample_dirichlet", "_standard_gamma"),
    *("gru", "lstm", "rnn_relu", "rnn_tanh"),
)
_SWITCHES = ("dropout", "train", "training")
# Functions in the mode's table that are torch's own outside of transforms, unless they draw.
_AS_THEY_ARE = frozenset(("batch_norm", "instance_norm", "layer_norm", "multi_head_attention_forward", *_HANDED_OVER))


class Unforeseen(BaseException):
    """A draw that no kernel is for; not an Exception, which a forward might take for its own."""

    written = ""  # instead of a draw


def handed_over(function: str, kind: str) -> bool:
    """Whether the dispatcher can serve such a call of a function: a rehearsal's kind of it.

    >>> handed_over("rand", "draw")
    False
    """
    return _works and function in (_HANDED_OVER if kind == "rate" else _AS_THEY_ARE if kind == "formula" else ())


class _Nothing(Keyed):
    """In place of a layer's, where none draws."""

    met_another = False

    def __init__(self) -> None:  # not the mode's, which takes longer than a layer
        pass

    def draw(self, function: str, own_rate: float | Tensor, *, wakes: bool = True) -> None:
        """Refuse noise that is on."""
        if isinstance(own_rate, Tensor) or own_rate:
            self.met_another = True
            raise Unforeseen


def no_modes() -> bool:
    """Whether no mode of torch is around this code, so that the dispatcher can hand draws over.

    >>> no_modes()
    True
    """
    return _works and not (_C._len_torch_function_stack() or _C._len_torch_dispatch_stack())


def undrawn(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that draws nothing, to be called where `no_modes` are: `Unforeseen` if it does.

    >>> undrawn(torch.add)(1, 2)
    tensor(3)
    """
    return functools.partial(_dispatched, _Nothing(), function)


def called_in(keyed: Keyed | None, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function with its draws keyed, or as it is, instead of as the layer around has it.

    A mode of that one would come after it at each function, with nothing left to do, and each takes microseconds.

    >>> with Keyed("a", None):
    ...     called_in(Keyed("b", None), torch._C._len_torch_function_stack)
    ...     called_in(None, torch._C._len_torch_function_stack)
    1
    0
    """
    depth = _C._len_torch_function_stack()
    outer = _pop_mode() if depth and isinstance(_C._get_function_stack_at(depth - 1), Keyed) else None
    try:
        if keyed is None:
            return function(*args, **kwargs)
        if keyed.dispatched and depth == (outer is not None):  # or a kernel would be called outside of others' modes
            return _dispatched(keyed, function, *args, **kwargs)
        return _in_mode(keyed, function, args, kwargs)
    finally:
        if outer is not None:
            _push_mode(outer)


def _dispatched(keyed: Keyed, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    around, thread.keyed = thread.keyed, keyed
    settle()
    try:
        return function(*args, **kwargs)
    finally:
        thread.keyed = around
        settle()
        if keyed.met_another:
            raise Unforeseen  # which the forward, or torch, may have taken for its own


def _in_mode(keyed: TorchFunctionMode, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    around, thread.keyed = thread.keyed, None
    if around is not None:
        settle()
    _push_mode(keyed)
    try:
        return function(*args, **kwargs)
    finally:
        _pop_mode()
        if around is not None:
            thread.keyed = around
            settle()


def _kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """What the dispatcher calls for one that is handed over."""
    replacement = replacement_of(function)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        keyed = thread.keyed
        include(KEY, False)
        try:
            return function(*args, **kwargs) if keyed is None else replacement(keyed, function, *args, **kwargs)
        finally:
            include(KEY, True)

    return kernel


def _refusal(operator: Any) -> Callable[..., Any]:
    """What the dispatcher calls for another."""
    switch = [place for place, each in enumerate(operator._schema.arguments) if each.name in _SWITCHES]

    def kernel(*args: Any, **kwargs: Any) -> Any:
        keyed = thread.keyed
        if keyed is not None and all(args[place : place + 1] != (False,) for place in switch):
            keyed.met_another = True
            raise Unforeseen
        include(KEY, False)
        try:
            return operator(*args, **kwargs)
        finally:
            include(KEY, True)

    return kernel


def _register() -> bool:
    """Whether this torch hands over what it should."""
    try:
        for name, function in _HANDED_OVER.items():
            implement(name, _kernel(function))
        for name in OTHERS:
            packet = getattr(torch.ops.aten, name, None)
            for overload in () if packet is None else packet.overloads():
                operator = getattr(packet, overload)
                implement(operator, _refusal(operator))
        silent, x = Keyed("", None), torch.ones(2)
        alike = _dispatched(silent, lambda: F.dropout(x + 0, 0.5))
        return torch.equal(alike, x) and not _C._dispatch_tls_is_dispatch_key_included(KEY)
    except (AttributeError, IndexError, RuntimeError, TypeError, Unforeseen):  # private, and another version's
        return False


_works = _register()
