"""A key of torch's dispatcher, for kernels in Python: torch has it for modes, uses it nowhere, and asks it before all.

An operator that has none falls through, and costs nothing.
"""

import threading
from collections.abc import Callable
from typing import Any

import torch

_NAME = "TESTING_ONLY_GenericMode"
_C: Any = torch._C


class _Thread(threading.local):
    keyed: Any = None  # of the layer that runs, while its draws are handed over
    guarded: Any = None  # of the call that runs, while its writes are


thread = _Thread()


def settle() -> None:
    """Ask for kernels in this thread, if somebody is there to whom they hand over."""
    include(KEY, thread.keyed is not None or thread.guarded is not None)


def implement(operator: Any, kernel: Callable[..., Any]) -> None:
    """Have a kernel called for one of torch's operators."""
    _libraries[1].impl(operator, kernel)


KEY: Any = None
include: Any = None
_libraries: list[Any] = []
try:
    KEY, include = _C._dispatch_key_parse(_NAME), _C._dispatch_tls_set_dispatch_key_included
    _libraries = [torch.library.Library(name, "IMPL", _NAME) for name in ("_", "aten")]
    _libraries[0].fallback(torch.library.fallthrough_kernel)
except (AttributeError, RuntimeError, TypeError):  # private, and another version's
    pass
