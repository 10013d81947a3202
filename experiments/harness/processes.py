"""Work done side by side, in processes that share the machine's threads out.

A small network uses one thread well and two badly, so experiments side by side end sooner than one after the other.
A process that dies, for want of memory say, costs only what it was at.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")
_INTERRUPTED = 130  # the exit status of a process that Ctrl-C ended
_PERIOD = 0.5  # seconds between two calls of `show`, so that a bar's clock goes on
_spawn = multiprocessing.get_context("spawn")  # a fork lacks the threads that torch counts on


class Ended(NamedTuple):
    """What is given in place of an answer where a process ended before it had one."""

    status: int | None


def side_by_side(
    work: Callable[[T], Any], items: Sequence[T], *, processes: int, threads: int, show: Callable[[list[T]], object]
) -> Generator[tuple[T, Any], None, None]:
    """Each item, as soon as it is done, with what `work` returns, or `Ended`.

    Ctrl-C interrupts each process in what it does, waits, and gives what had been done. Pressed again it interrupts
    them again, and a third time it ends them. POSIX only.

    Args:
        work: a function that can be pickled, of an item that can. What it raises ends its process.
        processes: how many items at a time.
        threads: of each process, for torch and whatever else uses OpenMP.
        show: called twice a second, with the items that are being worked on.

    Raises:
        KeyboardInterrupt: after Ctrl-C, or where `work` raised it.
    """
    waiting, workers = list(items), list[_Worker[T]]()
    try:
        while waiting or _items(workers):
            while waiting and len(workers) < processes:
                workers.append(_Worker(work, threads))
            for worker in workers:
                if waiting and worker.item is None:
                    worker.give(waiting.pop(0))
            show(_items(workers))
            for item, answer in _answers(workers):
                if answer == Ended(_INTERRUPTED):
                    raise KeyboardInterrupt
                yield item, answer
            workers = [worker for worker in workers if worker.process.is_alive()]
    except KeyboardInterrupt:
        yield from _interrupted(workers)
        raise
    finally:  # nothing is left to interrupt but where an exception, or a consumer that went away, ended the loop
        try:
            list(_interrupted(workers))
        finally:
            for worker in workers:
                worker.end()


class _Worker(Generic[T]):
    """A process that does one item at a time."""

    def __init__(self, work: Callable[[T], Any], threads: int) -> None:
        self.pipe, theirs = _spawn.Pipe()
        self.process = _spawn.Process(target=_serve, args=(theirs, threads))
        self.item: T | None = None
        with _deaf():
            self.process.start()
        theirs.close()
        self._send(work)

    def give(self, item: T) -> None:
        self.item = item
        self._send(item)

    def _send(self, thing: Any) -> None:
        with suppress(OSError):  # where it is dead: that comes out when it is asked for its answer
            self.pipe.send(thing)

    def answer(self) -> Any:
        self.item = None
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return Ended(self.process.exitcode)

    def interrupt(self) -> None:
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGINT)

    def end(self) -> None:
        self.pipe.close()  # at which one that waits for an item ends by itself
        if self.item is not None:
            self.process.kill()
        self.process.join()


def _serve(pipe: connection.Connection, threads: int) -> None:
    """A process's life, which begins deaf to Ctrl-C: what came in the meantime is heard here."""
    os.setpgrp()  # a terminal's Ctrl-C is for the first process, which passes it on
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before the work brings torch
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        work = pipe.recv()
        while True:
            pipe.send(work(pipe.recv()))
    except (EOFError, ConnectionError):  # there is no more to do, or nobody to do it for
        return
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _end_with(parent: Any) -> None:
    """A killed process leaves none behind that works on for nobody."""
    parent.join()
    os._exit(1)


@contextmanager
def _deaf() -> Iterator[None]:
    """Inside, Ctrl-C waits; a process that is started there inherits it, and waits until it says otherwise."""
    resource_tracker.ensure_running()  # which, started later, would lift it
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _items(workers: Sequence[_Worker[T]]) -> list[T]:
    return [worker.item for worker in workers if worker.item is not None]


def _answers(workers: Sequence[_Worker[T]]) -> Iterator[tuple[T, Any]]:
    """What comes within a moment."""
    ready = connection.wait([worker.pipe for worker in workers if worker.item is not None], _PERIOD)
    for worker in workers:
        if worker.pipe in ready and worker.item is not None:
            item = worker.item
            yield item, worker.answer()


def _interrupted(workers: Sequence[_Worker[T]]) -> Iterator[tuple[T, Any]]:
    """Interrupt those that are busy, and wait: the answers that came all the same."""
    for worker in workers:
        if worker.item is not None:
            worker.interrupt()
    while _items(workers):
        yield from (each for each in _answers(workers) if not isinstance(each[1], Ended))
