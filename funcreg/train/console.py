"""What `fit` shows and hears in a terminal: a progress bar on stderr, and Ctrl-C."""

import importlib.util
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from .. import _checks
from .run import Run


class Progress:
    """A bar of training steps that shows the last epoch's loss; silent when not wanted."""

    def __init__(self, wanted: bool | None, run: Run, epochs: int, steps: int | None) -> None:
        self.bar: Any = None
        installed = importlib.util.find_spec("tqdm") is not None
        if wanted and not installed:
            _checks.fail("progress", True, "False or None where tqdm is not installed", "pip install tqdm")
        if wanted or (wanted is None and installed and sys.stderr.isatty()):
            from tqdm import tqdm

            total, before = (None, 0) if steps is None else (epochs * steps, run.epoch * steps)
            self.bar = tqdm(total=total, initial=before, unit="step", file=sys.stderr)

    def step(self) -> None:
        if self.bar is not None:
            self.bar.update()

    def epoch(self, run: Run) -> None:
        if self.bar is None:
            return
        loss = run.history[-1]["loss"]
        shown = {"epoch": run.epoch, "loss": f"{float(loss[torch.isfinite(loss)].mean()):.4g}"}
        if loss.ndim:
            shown["training"] = f"{int(run.active.sum())}/{len(loss)}"
        self.bar.set_postfix(shown)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()


class Interrupt:
    """Whether Ctrl-C was pressed."""

    requested = False

    def spared(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Batches until Ctrl-C, which a terminal sends to a source's workers too: that they end is no error."""
        try:
            yield from batches
        except RuntimeError:
            if not self.requested:
                raise


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Inside, the first Ctrl-C is only noted, and the second raises KeyboardInterrupt as usual.

    Only in the main thread, and where nobody else handles the signal.
    """
    interrupt = Interrupt()

    def note(number: int, frame: FrameType | None) -> None:
        if interrupt.requested:
            raise KeyboardInterrupt
        interrupt.requested = True

    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupt
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
