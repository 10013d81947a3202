"""Times of short calls on a machine that does other things too."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import torch

from ..report.estimates import Estimate, estimate


def interleaved(
    work: Mapping[str, Callable[[], object]], *, rounds: int, calls: int = 1, device: torch.device
) -> dict[str, list[float]]:
    """Milliseconds a call of each, one a round: in a round one after the other, so that a slow moment slows them all.

    One round before the first is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    for counted in [False] + [True] * rounds:
        for name, run in work.items():
            _wait(device)
            start = time.perf_counter()
            for _ in range(calls):
                run()
            _wait(device)
            if counted:
                times[name].append(1e3 * (time.perf_counter() - start) / calls)
    return times


def ratio(times: Sequence[float], others: Sequence[float]) -> Estimate:
    """How many times as long, round by round: the geometric mean, and its 95% interval."""
    logs = estimate(math.log(a / b) for a, b in zip(times, others, strict=True))
    mean, low, high = (math.exp(each) for each in (logs.mean, logs.low, logs.high))
    return Estimate(mean, mean * logs.sd, low, high, logs.n)


def _wait(device: torch.device) -> None:
    """Until a GPU has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
