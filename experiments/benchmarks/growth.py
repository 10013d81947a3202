"""How time and memory grow with members, samples, batch and width.

`python -m experiments.benchmarks.growth AXIS CONTENDER THREADS` measures one contender at all points of an
axis, and prints a line of JSON for each. Each contender has a process of its own, whose allocator gives
memory back as soon as it is free: what a point adds is then its own.
"""

import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from . import sizes

Run = Callable[[], object]

AXES = {
    "members": (1, 4, 16, 64, 256),
    "samples": (4, 16, 64, 256),
    "batch": (16, 64, 256, 1024),
    "width": (32, 128, 512, 2048),
}
QUESTIONS = {
    "members": "a step of K MLPs 2-32-32-2, 140 points",
    "samples": "T passes of MC dropout, MLP 784-512-512-10, batch 100",
    "batch": "a step of the MLP 784-512-512-10, by batch",
    "width": "a step of an MLP 784-w-w-10, batch 128",
}
CONTENDERS = {
    "members": ("stateful eager", "funcreg vmap", "funcreg jit", "JAX vmap"),
    "samples": ("stateful eager", "funcreg vmap", "funcreg jit", "JAX vmap", "JAX map"),
    "batch": ("stateful eager", "funcreg eager", "funcreg jit", "JAX jit"),
    "width": ("stateful eager", "funcreg eager", "funcreg jit", "JAX jit"),
}


def measure(axis: str, contender: str, threads: int) -> list[dict[str, float | None]]:
    """The points of a contender: value, seconds, and MiB that a call adds to what it starts from."""
    command = [sys.executable, "-m", __name__, axis, contender, str(threads)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def build(axis: str, contender: str, value: int) -> Run:
    """A call of a contender at a point of an axis."""
    width = value if axis == "width" else sizes.MLP[1]
    size = value if axis == "batch" else sizes.MLP_BATCH
    widths = (sizes.MLP[0], width, width, sizes.MLP[-1])
    make = _jax if contender.startswith("JAX") else _torch
    return make(axis, contender, value, widths, size)


def _jax(axis: str, contender: str, value: int, widths: tuple[int, ...], size: int) -> Run:
    from . import with_jax

    how = contender.removeprefix("JAX ")
    if axis == "members":
        return with_jax.mlp_sweep(sizes.TOY, sizes.TOY_BATCH, value, [how])[contender]
    if axis == "samples":
        return with_jax.monte_carlo(widths, 100, value, [how])[contender]
    return with_jax.mlp_step(widths, size)["JAX jit"]


def _torch(axis: str, contender: str, value: int, widths: tuple[int, ...], size: int) -> Run:
    from . import pure, stateful

    jit, plain = contender.endswith("jit"), contender.startswith("stateful")
    if axis == "members":
        batch = pure.classification((sizes.TOY_BATCH, sizes.TOY[0]), sizes.TOY[-1])
        if plain:
            return stateful.sweep(sizes.TOY, batch, value)
        return pure.members_step(lambda: stateful.mlp(sizes.TOY, sizes.RATE), batch, pure.swept(value), value, jit=jit)
    if axis == "samples":
        module = stateful.mlp(widths, sizes.RATE).train()
        x = pure.classification((100, widths[0]), widths[-1]).x
        return stateful.monte_carlo(module, x, value) if plain else pure.monte_carlo(module, x, value, jit=jit)
    batch = pure.classification((size, widths[0]), widths[-1])
    if plain:
        lr, decay = sizes.SETTINGS["lr"], sizes.SETTINGS["decay"]
        return stateful.training_step(stateful.mlp(widths, sizes.RATE), batch.x, batch.y, lr=lr, decay=decay)
    return pure.step(lambda: stateful.mlp(widths, sizes.RATE), batch, jit=jit)


def seconds_of(run: Run, budget: float = 0.6) -> float:
    """The median of up to 25 calls, after two that are not counted."""
    run()
    run()
    taken: list[float] = []
    while len(taken) < 3 or (sum(taken) < budget and len(taken) < 25):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def added_mib(run: Run) -> float | None:
    """Peak resident memory that a call adds to what it starts from; None where the kernel does not tell (not Linux).

    The allocator's habit of keeping what was freed is switched off, and what it kept given back, so that a call
    that needs memory is seen to take it. The largest of three, as other allocators (JAX's) keep some all the same.
    """
    if sys.platform != "linux":
        return None
    malloc = ctypes.CDLL(None)
    malloc.mallopt(-3, 65536)  # M_MMAP_THRESHOLD: larger blocks come from the kernel, and go back to it
    malloc.mallopt(-1, 65536)  # M_TRIM_THRESHOLD
    run()

    def once() -> float:
        malloc.malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # forget the peak so far
        start = _resident("VmRSS")
        run()
        return _resident("VmHWM") - start

    return max(once() for _ in range(3))


def _resident(which: str) -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(which)) / 1024


def _main(axis: str, contender: str, threads: str) -> None:
    if contender.startswith("JAX"):
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    else:
        import torch

        torch.set_num_threads(int(threads))
    # All times first: the allocator that shows memory is a slow one.
    runs: dict[int, Any] = {value: build(axis, contender, value) for value in AXES[axis]}
    seconds = {value: seconds_of(run) for value, run in runs.items()}
    for value, run in runs.items():
        print(json.dumps({"value": value, "seconds": seconds[value], "mib": added_mib(run)}), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
