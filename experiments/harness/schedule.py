"""Which experiments run when: one after the other or side by side, under one bar."""

import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from .context import Context
from .processes import side_by_side
from .registry import Experiment

AT_ONCE = 4  # processes at most: each may take a gigabyte
Show = Callable[[Sequence[Experiment]], object]


def processes(chosen: Sequence[Experiment], preset: str, context: Context) -> int:
    """How many to run at once. Small ones use a thread each well; large ones, and a GPU's, want all that there is."""
    if preset not in ("smoke", "quick") or context.device.type != "cpu" or os.name != "posix":
        return 1
    return min(len(chosen), torch.get_num_threads(), AT_ONCE)


def each(
    work: Callable[[Experiment], Any], chosen: Sequence[Experiment], preset: str, *, processes: int, bar: bool
) -> Generator[tuple[Experiment, Any], None, None]:
    """Each experiment, as soon as it is done, with what `work` returns, or `Ended` where its process was killed.

    In several processes the longest come first, so that all end at about the same time.
    """
    with _bar(len(chosen), bar) as (show, advance):
        if processes == 1:
            found = _one_by_one(work, chosen, show)
        else:
            longest_first = sorted(chosen, key=lambda experiment: experiment.seconds(preset), reverse=True)
            threads = max(1, torch.get_num_threads() // processes)
            found = side_by_side(work, longest_first, processes=processes, threads=threads, show=show)
        for done in found:
            yield done
            advance()


def _one_by_one(
    work: Callable[[Experiment], Any], chosen: Sequence[Experiment], show: Show
) -> Iterator[tuple[Experiment, Any]]:
    for experiment in chosen:
        show([experiment])
        yield experiment, work(experiment)


@contextmanager
def _bar(total: int, wanted: bool) -> Iterator[tuple[Show, Callable[[], object]]]:
    """What shows which experiments run, and what counts one that is done."""
    from tqdm import tqdm

    options: Any = {"unit": "experiment", "dynamic_ncols": True, "position": 0, "smoothing": 0}
    with tqdm(total=total, disable=not wanted, **options) as bar:
        shown = ""

        def show(running: Sequence[Experiment]) -> None:
            nonlocal shown
            before, shown = shown, ", ".join(experiment.name for experiment in running)
            # On a terminal the clock goes on; a log gets a line where something changes.
            bar.set_description(shown, refresh=shown != before or sys.stderr.isatty())

        yield show, bar.update
