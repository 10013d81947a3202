"""The one place that asks torch's compiler for a program that it has made, to call it without going through it.

The entry of `torch.compile` takes as long as all the kernels of a small step: at each call it sets up what
only compiling needs. Here its conditions on a program are asked as it asks them, and the program is the code
that it would run.
"""

import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch.autograd import profiler

from .modes import watched_by_torch

GUARDS = "fr.jit's guards"  # what the profiler calls the look at them
Program = Callable[..., Any]


def ready(function: FunctionType) -> Callable[[tuple[Any, ...], dict[str, Any]], Program | None]:
    """What tells, for arguments, the program that `torch.compile` would run for them; None where it would do more.

    Args:
        function: of `*args` and `**kwargs`, whose code is compiled by one backend, and whose closure stays.

    >>> def double(*args, **kwargs):
    ...     return args[0] * 2
    >>> ready(double)((torch.ones(2),), {}) is None  # nothing was made of it
    True
    """
    code, scope, closure = function.__code__, function.__globals__, function.__closure__
    own = {name: cell.cell_contents for name, cell in zip(code.co_freevars, closure or (), strict=True)}
    inside: Any = torch._C
    listed = getattr(inside._dynamo.eval_frame, "_debug_get_cache_entry_list", lambda code: ())

    def found(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Program | None:
        stance = getattr(sys.modules.get("torch._dynamo.eval_frame"), "_stance", None)
        if watched_by_torch() or stance is None or stance.stance != "default":
            return None
        known = {**own, "args": args, "kwargs": kwargs}
        for made in listed(code):
            if made.guard_manager.root.check(known):
                return FunctionType(made.code, scope, closure=closure)
        return None

    def watched(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Program | None:
        if not profiler._is_profiler_enabled:
            return found(args, kwargs)
        with profiler.record_function(GUARDS):
            return found(args, kwargs)

    return watched
