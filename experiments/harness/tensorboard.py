"""What `run --tensorboard` writes: the metrics of every fit, epoch by epoch, for TensorBoard to show."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from funcreg.train import Epoch
from funcreg.train.logs import curves

from ..errors import LabError
from .files import told


class Logs:
    """The logs of one experiment, in a folder: those of its first fit in `1`, of its second in `2`.

    What an earlier run left there is taken away.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fits = 0
        with told(folder):
            for old in folder.glob("*/events.out.tfevents.*"):
                old.unlink()

    @contextmanager
    def fit(self) -> Iterator["Log"]:
        """The log of the next fit, open inside the block."""
        self.fits += 1
        with told(self.folder):
            writer = summary_writer()(log_dir=str(self.folder / str(self.fits)))
        try:
            yield Log(writer)
        finally:
            writer.close()


class Log:
    """The log of one fit, which takes what `on_epoch` is called with."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer

    def __call__(self, epoch: Epoch) -> None:
        """Write an epoch's metrics: a curve for each member up to 8, beyond that their mean and sd."""
        for tag, number in curves(epoch.metrics):
            self.writer.add_scalar(tag, number, epoch.number)


def summary_writer() -> Any:
    """torch's SummaryWriter.

    Raises:
        LabError: where the package that it needs is not installed.
    """
    try:
        return importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        raise LabError("--tensorboard needs the package tensorboard: pip install tensorboard") from None
