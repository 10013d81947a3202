"""torch's Inductor as a backend that needs not trace a function twice."""

from collections.abc import Mapping
from typing import Any

import torch


def inductor(graph: torch.fx.GraphModule, inputs: Any, *, options: Mapping[str, Any] | None = None) -> Any:
    """Compile a graph; `torch.compile`'s own backend, but for scalars."""
    from torch._inductor.compile_fx import compile_fx

    _take_scalars_for_tensors(graph)
    return compile_fx(graph, inputs, config_patches=dict(options or {}))


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
