"""Timing that holds on a noisy machine: contenders in turn, many rounds, medians of ratios.

Within a round every contender runs for the same length of time, one after the other, so that a
slow moment of the machine slows them all; what is reported is the median over rounds of the
ratio within a round, not a ratio of two absolute times.
"""

import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from . import sizes

Run = Callable[[], object]
Clock = Callable[[int], float]  # seconds that so many calls take, one after the other


@dataclass(frozen=True)
class Workload:
    """The same work done several ways; `targets` as `Measured` has them."""

    name: str
    question: str
    contenders: dict[str, Run]
    targets: dict[tuple[str, str], float]


def advance(program: Callable[..., Any], first: Any, *inputs: Any) -> Run:
    """A function of nothing that takes the next step each time, until it restarts.

    Args:
        program: (state, *inputs) -> (next state, what is measured).
    """
    current, count = first, 0

    @torch.no_grad()
    def run() -> Any:
        nonlocal current, count
        count += 1
        if count % sizes.RESTART == 0:
            current = first
        current, measured = program(current, *inputs)
        return measured

    return run


def clock_of(run: Run, device: torch.device) -> Clock:
    """Times calls of a function of this process; on a GPU until their work there is done."""

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def clock(calls: int) -> float:
        finish()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        finish()
        return time.perf_counter() - start

    return clock


def compare(clocks: Mapping[str, Clock], *, rounds: int, slot: float, limit: float = 30.0) -> dict[str, list[float]]:
    """Seconds a call, in rounds in which each contender is timed for `slot` seconds, or for one call.

    Where rounds would take longer than `limit` seconds together, there are fewer, but 5 if as many were asked for.
    """
    calls = {name: _calls_in(clock, slot) for name, clock in clocks.items()}
    seconds: dict[str, list[float]] = {name: [] for name in clocks}
    start = time.perf_counter()
    for done in range(rounds):
        if done >= 5 and time.perf_counter() - start > limit:
            break
        for name, clock in clocks.items():
            seconds[name].append(clock(calls[name]) / calls[name])
    return seconds


def timed_first_calls(contenders: Mapping[str, Run]) -> dict[str, float]:
    """Seconds until each compiled contender has given its first result, with nothing cached on disk."""
    return {name: timed_first_call(run) for name, run in contenders.items() if name.endswith(("compiled", "jit"))}


def timed_first_call(run: Run) -> float:
    """Seconds until a function that compiles itself has given its first result, with nothing cached on disk."""
    import torch._inductor.config  # which takes longer to import than torch

    with torch._inductor.config.patch(force_disable_caches=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="dynamo_pgo force disabled")
        start = time.perf_counter()
        run()
        return time.perf_counter() - start


def peak_memory(code: str) -> float:
    """Peak resident memory in MiB that the last part of a piece of Python adds, in a process of its own.

    Only on Linux, whose kernel can forget an earlier peak. `code` calls `baseline()` once everything
    but the measured work is set up.
    """
    program = f"""
import ctypes

def resident(which):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(which)) / 1024

def baseline():
    # What is freed goes back to the kernel at once, and is not taken for used.
    malloc = ctypes.CDLL(None)
    malloc.mallopt(-3, 65536)  # M_MMAP_THRESHOLD
    malloc.mallopt(-1, 65536)  # M_TRIM_THRESHOLD
    malloc.malloc_trim(0)
    global start
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    start = resident("VmRSS")
{code}
print(resident("VmHWM") - start)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _calls_in(clock: Clock, seconds: float) -> int:
    """How often a function can be called in that time; it is warm afterwards."""
    first = clock(1)
    if first < seconds:
        clock(3)
    return max(1, round(seconds / clock(1)))
