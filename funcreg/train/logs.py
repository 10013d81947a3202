"""Ready `on_epoch`s: the metrics of every epoch, in a CSV file or for TensorBoard.

Both write all of a run's epochs at their first call and one more at each call after, so that a run that was
killed and goes on has each epoch once, and a new run replaces what an earlier one left.
"""

import csv
import importlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .. import _checks
from .result import Epoch
from .step import Metrics

_SEPARATE = 8  # members that get a curve each


def csv_log(path: str | Path) -> Callable[[Epoch], None]:
    """Write every epoch's metrics as a line of a CSV file: columns `epoch`, for members `member`, and each metric.

    Numbers are written so that reading them gives the same bits; with members an epoch has a line for each.

    Args:
        path: of the file, whose folder exists.

    Returns:
        A function for fit's `on_epoch`.

    Raises:
        FuncregError: for what is no path, or one that cannot be written.

    >>> import tempfile, torch
    >>> log = csv_log(Path(tempfile.mkdtemp()) / "run.csv")
    >>> rows = ({"loss": torch.tensor(0.5)}, {"loss": torch.tensor(0.25)})
    >>> log(Epoch(2, None, rows[-1], {}, rows))
    """
    file, written = _checks.check_path("path", path, writes=True), [0]

    def log(epoch: Epoch) -> None:
        rows = _rows(epoch)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        try:
            if written != [epoch.number - 1] or epoch.number == 1:
                own = ["epoch", "member"] if next(iter(epoch.metrics.values())).ndim else ["epoch"]
                writer.writerow([*own, *epoch.metrics])
                writer.writerows(line for number, row in enumerate(rows, 1) for line in _lines(number, row))
                beside = file.with_name(f".{file.name}.tmp")
                beside.write_text(text.getvalue(), encoding="utf-8")
                os.replace(beside, file)
            else:
                writer.writerows(_lines(epoch.number, epoch.metrics))
                with file.open("a", encoding="utf-8", newline="") as end:
                    end.write(text.getvalue())
        except OSError as error:
            _checks.fail("path", f"{file}, which cannot be written ({error})", "a place to write a file")
        written[0] = epoch.number

    return log


def tensorboard_log(folder: str | Path) -> Callable[[Epoch], None]:
    """Write every epoch's metrics for TensorBoard: `tensorboard --logdir FOLDER`.

    Members up to 8 have a curve each, `loss/0`, more have their mean and standard deviation.

    Args:
        folder: of the run; made where it is missing.

    Returns:
        A function for fit's `on_epoch`.

    Raises:
        FuncregError: where the package tensorboard is not installed, and for what is no path.

    >>> tensorboard_log(3)
    Traceback (most recent call last):
    ...
    funcreg._checks.FuncregError: folder: got 3 (int); expected a path: a string or a pathlib.Path.
    """
    place = _checks.check_path("folder", folder)
    try:
        summary_writer: Any = importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        _checks.fail("tensorboard_log", "no package tensorboard", "an installed one", "pip install tensorboard")
    opened: dict[str, Any] = {"number": 0}

    def log(epoch: Epoch) -> None:
        rows = _rows(epoch)
        if opened["number"] != epoch.number - 1 or epoch.number == 1:
            # What was logged before, of these epochs or of another run, is not shown from here on.
            if "writer" in opened:
                opened["writer"].close()
            opened["writer"], opened["number"] = summary_writer(log_dir=str(place), purge_step=1), 0
        for number, row in list(enumerate(rows, 1))[opened["number"] :]:
            for name, value in curves(row):
                opened["writer"].add_scalar(name, value, number)
        opened["writer"].flush()
        opened["number"] = epoch.number

    return log


def _rows(epoch: Epoch) -> tuple[Metrics, ...]:
    """Of all epochs so far; where an Epoch was made without them, of this one alone."""
    if not isinstance(epoch, Epoch):
        _checks.fail("epoch", _checks.describe(epoch), "an Epoch", "Pass the log to fit as on_epoch.")
    return epoch.history or (epoch.metrics,)


def _lines(number: int, row: Metrics) -> Iterator[list[Any]]:
    columns = [value.tolist() for value in row.values()]
    if not isinstance(columns[0], list):
        yield [number, *columns]
        return
    for member, values in enumerate(zip(*columns, strict=True)):
        yield [number, member, *values]


def curves(row: Metrics) -> Iterator[tuple[str, float]]:
    """An epoch's metrics as names of curves and their values: one for each member up to 8, or their mean and sd.

    >>> import torch
    >>> list(curves({"loss": torch.tensor([0.5, 0.25])}))
    [('loss/0', 0.5), ('loss/1', 0.25)]
    """
    for name, value in row.items():
        if value.ndim == 0:
            yield name, float(value)
        elif len(value) <= _SEPARATE:
            yield from ((f"{name}/{member}", float(each)) for member, each in enumerate(value))
        else:
            yield from ((f"{name}/mean", float(value.mean())), (f"{name}/sd", float(value.std())))
