"""JAX in a process of its own, asked through a pipe.

The threads of both frameworks wait for work by spinning; in two processes one framework waits at the pipe
while the other works.
"""

import importlib.util
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from ..errors import LabError

PACKAGES = ("jax", "optax")


def missing() -> list[str]:
    """What JAX's contenders need and this installation lacks."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


class JaxProcess:
    """Builds JAX's contenders of one workload at a time, and times them; a context manager."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, threads), daemon=True)
        self._process.start()
        theirs.close()

    def build(self, workload: str) -> dict[str, float]:
        """The names of a workload's contenders, with the seconds until each gave its first result."""
        return self._ask("build", workload)

    def seconds(self, contender: str, calls: int) -> float:
        """What so many calls take, one after the other."""
        return self._ask("time", contender, calls)

    def _ask(self, *request: Any) -> Any:
        try:
            self._pipe.send(request)
            return self._pipe.recv()
        except (EOFError, OSError):
            raise LabError("JAX's process ended; what it said is above") from None

    def __enter__(self) -> "JaxProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join()


def serve(pipe: Connection, threads: int) -> None:
    """Answer until the pipe is closed."""
    if hasattr(os, "sched_setaffinity"):  # JAX has as many threads as there are processors for it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ["JAX_PLATFORMS"] = "cpu"
    from . import with_jax

    runs: dict[str, with_jax.Run] = {}
    while True:
        try:
            question, name, *rest = pipe.recv()
        except EOFError:
            return
        if question == "build":
            runs = with_jax.WORKLOADS[name]() if name in with_jax.WORKLOADS else {}
            pipe.send({contender: _seconds(run, 1) for contender, run in runs.items()})
        else:
            pipe.send(_seconds(runs[name], *rest) / with_jax.UNITS.get(name, 1))


def _seconds(run: Any, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return time.perf_counter() - start
