"""`jit`: a whole step, sweep or Monte Carlo loop as one compiled program."""

import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

from .. import _checks
from .backend import compiler, inductor
from .kept import kept
from .traced import Compiled, traced

P = ParamSpec("P")
R = TypeVar("R")


def jit(function: Callable[P, R], *, folder: str | Path | None = None) -> Compiled[P, R]:
    """Compile a pure function whole: `torch.compile(fullgraph=True, dynamic=False)`.

    Python numbers in the arguments become 0-dimensional tensors first, so that a new learning
    rate or step number is data, not a reason to compile again; a new shape is one. Nor is it one that
    a tensor comes twice, or as a parameter of a module; and results lie in memory as new tensors do, so
    that a state goes in as it came out. `vmap` goes inside: `jit(vmap(f))`, not `vmap(jit(f))`.

    With a folder its programs are kept there, and a later process starts from them: it imports no
    compiler, and is as quick to begin as an eager one. At the first call of a kind of arguments in a
    process the function runs once as it is, and what it asks of torch, operator by operator, is what
    its program is found by, with torch's version and the machine's processor: another function, or one
    that closes over other values, is compiled anew. It runs so again when what it closes over has changed:
    a global, a closure's cell, an attribute, an environment variable, a tensor, even through its `.data` or NumPy; but
    not the insides of installed packages, nor single numbers of tensors and arrays above 1 MiB that are written so.
    Compiling for a file takes longer. What a kept program is not for is compiled as without
    a folder: calls that ask for gradients, or not on a CPU, and functions that ask a clock, a file, an iterator or
    another generator than a key. The files are libraries of machine code:
    trust a folder as you trust the code that you run.

    Args:
        function: of trees of tensors and numbers, or NumPy's; other leaves (strings, None) are passed as they are.
        folder: where programs are kept, made where it is not there. Default: nowhere.

    Returns:
        A function of the same arguments and results, whose `compilations` says how often it was compiled.

    Raises:
        FuncregError: when function cannot be called, folder is none, or this machine has no C++ compiler
            (with a folder: when something is to be compiled), or there is no one program for all values; for more
            than 256 kinds of calls; with a folder, when function changes what it closes over.

    Warns:
        UserWarning: once, when it is compiled again for fewer rows than before: a smaller last batch; when it was
            compiled three times, for a size that grows, or as what it closes over changed; when it was compiled
            nine times; and when a program cannot be kept, or is not for such arguments.

    >>> double = jit(lambda x, factor: x * factor) if can_compile() else lambda x, factor: x * factor
    >>> double(torch.ones(2), 2.0), double(torch.ones(2), 3.0)  # compiled once
    (tensor([2., 2.]), tensor([3., 3.]))
    """
    _checks.check_callable("function", function, "a pure function of tensors")
    return _compiled(function) if folder is None else kept(function, folder, _options(), lambda: _compiled(function))


def _compiled(function: Callable[P, R]) -> Compiled[P, R]:
    if not can_compile():
        needed = f"a C++ compiler ({compiler()}) and Python's headers, which torch.compile needs"
        _checks.fail("jit", "a machine without them", needed, "Install them, set CXX, or call the function as it is.")
    return traced(function, inductor, _options())


def _options() -> dict[str, Any]:
    """torch.compile's."""
    # Waking a second thread takes as long as a few thousand elements; torch's own limit is 512.
    options: dict[str, Any] = {"cpp.min_chunk_size": 4096}
    options["size_asserts"] = False  # the guards have looked at the arguments
    # On a CPU, channels last makes the reductions of a backward pass through batch norm stride over all channels.
    options["layout_optimization"] = torch.cuda.is_available()
    return options


def can_compile() -> bool:
    """Whether this machine has what `jit` needs: a C++ compiler, and Python's headers.

    Returns:
        True where `jit` will work.

    >>> can_compile() in (True, False)
    True
    """
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return shutil.which(compiler()) is not None and headers.exists()
