"""Timing that holds on a noisy machine: contenders in turn, many rounds, medians of ratios.

Within a round every contender runs for the same length of time, one after the other, so that a
slow moment of the machine slows them all; what is reported is the median over rounds of the
ratio within a round, not a ratio of two absolute times.
"""

import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch._inductor.config

Run = Callable[[], object]


@dataclass(frozen=True)
class Workload:
    """The same work done several ways: the first contender is what the others are compared with.

    `targets` says how many times as fast as the baseline a contender has to be; below 1, how much
    slower it may be. `units` is how many units of work one call of a contender does, where it is
    not one. `compile_seconds` is what each compiled contender took before its first result.
    """

    name: str
    question: str
    contenders: dict[str, Run]
    targets: dict[str, float]
    units: dict[str, int] = field(default_factory=dict)
    compile_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def baseline(self) -> str:
        """The contender that the others are compared with."""
        return next(iter(self.contenders))


@dataclass(frozen=True)
class Timing:
    """One contender's times in seconds, a round each, and how many times as fast as the baseline it was."""

    seconds: list[float]
    speedups: list[float]

    @property
    def median(self) -> float:
        """Seconds, the median round."""
        return statistics.median(self.seconds)

    @property
    def speedup(self) -> float:
        """The median over rounds of baseline / contender."""
        return statistics.median(self.speedups)

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles of the speed-up over rounds."""
        low, _, high = statistics.quantiles(self.speedups, n=4) if len(self.speedups) > 1 else [self.speedup] * 3
        return low, high


def compare(workload: Workload, *, rounds: int, slot_seconds: float) -> dict[str, Timing]:
    """Time every contender of a workload, interleaved."""
    calls = {name: _calls_in(run, slot_seconds) for name, run in workload.contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in workload.contenders}
    for _ in range(rounds):
        for name, run in workload.contenders.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                run()
            elapsed = time.perf_counter() - start
            seconds[name].append(elapsed / calls[name] / workload.units.get(name, 1))
    base = seconds[workload.baseline]
    return {name: Timing(own, [b / c for b, c in zip(base, own, strict=True)]) for name, own in seconds.items()}


def timed_first_call(run: Run) -> float:
    """Seconds until a function that compiles itself has given its first result, with nothing cached on disk."""
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
def resident(which):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(which)) / 1024

def baseline():
    global start
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    start = resident("VmRSS")
{code}
print(resident("VmHWM") - start)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _calls_in(run: Run, seconds: float) -> int:
    """How often a function can be called in that time; it is warm afterwards."""
    for _ in range(3):
        run()
    start = time.perf_counter()
    run()
    return max(1, round(seconds / (time.perf_counter() - start)))
