"""torch's Inductor as a backend that needs not trace a function twice, nor try each vector instruction set."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import torch

# Of all that torch may ask for on x86 where it runs with AVX512, and with AVX2.
_FLAGS = {
    "AVX2": "-mavx2 -mfma -mf16c",
    "AVX512": "-mavx2 -mfma -mf16c -mavx512f -mavx512dq -mavx512vl -mavx512bw -mavx512vnni",
}


def inductor(graph: torch.fx.GraphModule, inputs: Any, *, options: Mapping[str, Any] | None = None) -> Any:
    """Compile a graph; `torch.compile`'s own backend, but for scalars."""
    from torch._inductor.compile_fx import compile_fx

    _take_scalars_for_tensors(graph)
    return compile_fx(graph, inputs, config_patches={**vectors(), **(options or {})})


def compiler() -> str:
    """The C++ compiler that torch calls.

    >>> isinstance(compiler(), str)
    True
    """
    return os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")


@functools.cache
def vectors() -> dict[str, Any]:
    """The setting by which Inductor takes vector instructions for known, where they are; else nothing.

    To find out it compiles a program for each set of them, with all of torch's headers: most of 8 s on a new machine.
    Where torch's own kernels use them, and the compiler takes their flags, there is nothing to find out.

    >>> set(vectors()) <= {"cpp.vec_isa_ok"}
    True
    """
    import torch._inductor.config as settings

    flags = _FLAGS.get(torch.backends.cpu.get_cpu_capability())
    path = shutil.which(compiler())
    unknown = hasattr(settings.cpp, "vec_isa_ok") and settings.cpp.vec_isa_ok is None
    if flags is None or path is None or not unknown or sys.platform != "linux":
        return {}
    command = [path, *flags.split(), "-x", "c++", "-fsyntax-only", "-"]
    taken = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0
    return {"cpp.vec_isa_ok": True} if taken else {}


def _take_scalars_for_tensors(graph: torch.fx.GraphModule) -> None:
    """Say of 0-d float64 arguments that no number is taken out of them, if none is.

    torch expects that one might be, finds out after half of its work that none was, and begins anew with this same
    remark: a third of the time that a small step takes to compile.
    """
    from torch._dynamo.symbolic_convert import TensorifyState
    from torch._guards import TracingContext
    from torch.utils._sympy.symbol import SymT, symbol_is_type

    tracing = TracingContext.try_get()
    shapes = getattr(getattr(tracing, "fake_mode", None), "shape_env", None)
    if shapes is None or any(node.target == "item" for node in graph.graph.nodes):
        return
    for symbol in getattr(shapes, "backed_var_to_val", ()):  # absent before torch 2.13
        if symbol_is_type(symbol, SymT.FLOAT):
            TensorifyState.specialize(str(symbol))
