"""Where the time of a call goes, as torch's profiler sees it: in products, in kernels, or in getting to them."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from funcreg._jit.ready import GUARDS

from .measure import Run, clock_of

# Names of events begin so. An event is of the first kind that it, or one that it is part of, belongs to.
INSIDE = {
    "products": ("aten::linear", "aten::mm", "aten::mv", "aten::addm", "aten::bmm", "aten::baddbmm", "aten::conv"),
    "draws": ("funcreg::", "aten::_philox"),
}
# The others are counted without what they call.
ALONE = {
    "compiled kernels": ("graph_",),
    "other operators": ("aten::",),
    "guards": ("TorchDynamo Cache Lookup", GUARDS),
    "calling kernels": ("## Call CompiledFxGraph",),
    "calling the program": ("Torch-Compiled Region", "Pregraph bytecode", "AOTDispatcher"),
}
PYTHON = "Python"  # and torch's dispatch, outside every event
KINDS = (*INSIDE, *ALONE, PYTHON)
SECONDS, CALLS = 0.5, 50  # at most so long, or so many calls


def profiled(run: Run) -> dict[str, float]:
    """The share of each kind in the time of a call; what the profiler itself takes is in them.

    What is compiled must have been so under `naming_kernels`.
    """
    clock = clock_of(run, torch.device("cpu"))
    clock(1)
    calls = max(1, min(CALLS, int(SECONDS / clock(1))))
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        whole = clock(calls)
    found = dict.fromkeys(KINDS, 0.0)
    for event in seen.events() or ():
        found[_kind(event)] += event.self_cpu_time_total * 1e-6
    found[PYTHON] += whole - sum(found.values())
    return {kind: found[kind] / whole for kind in KINDS}


def naming_kernels() -> AbstractContextManager[None]:
    """While programs are compiled so, the profiler sees their kernels; each takes some 0.3 us longer."""
    import torch._inductor.config  # which takes longer to import than torch

    return torch._inductor.config.patch({"cpp.enable_kernel_profile": True})


def _kind(event: Any) -> str:
    chain = [event]
    while chain[-1].cpu_parent is not None:
        chain.append(chain[-1].cpu_parent)
    for kind, names in INSIDE.items():
        if any(each.name.startswith(names) for each in chain):
            return kind
    return next((kind for kind, names in ALONE.items() if event.name.startswith(names)), PYTHON)
