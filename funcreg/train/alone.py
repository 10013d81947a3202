"""What a fit asks of others who train the same model at the same time."""

from pathlib import Path
from typing import Any

from . import resume
from .run import Run
from .step import Metrics


class Alone:
    """Nobody else does. `fr.distributed.fit` has another, for several processes.

    `leads`: whether this one writes the checkpoint and shows the bar.
    """

    leads = True

    def begin(self, checkpoint: str | Path | None, run: Run, facts: dict[str, Any], epochs: int) -> Run:
        """The run where it starts, from the checkpoint where there is one."""
        return run if checkpoint is None else resume.load(checkpoint, run, facts, epochs)

    def begun(self, batch: Any) -> None:
        """The first batch of an epoch that a source gave."""

    def row(self, row: Metrics) -> Metrics:
        """An epoch's metrics, on which it depends who stops."""
        return row

    def interrupted(self, requested: bool) -> bool:
        """Whether all stop now; asked after every step and at the end of an epoch."""
        return requested
