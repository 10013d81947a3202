"""The checkpoints of `fit`: a whole run in one file, with the facts of what it was called with."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import _checks, checkpoint
from .feed import Place
from .fingerprint import compared
from .run import Run
from .structure import structure_of


def save(path: str | Path, run: Run, facts: dict[str, Any], chunk_size: int, *, interrupted: bool) -> None:
    """Write a run, at the end of an epoch, with the facts of its fit."""
    columns = history(run)
    metadata = {
        "arguments": facts,
        "epoch": run.epoch,
        "place": run.place,
        "history": list(columns),
        "chunk_size": chunk_size,
        "interrupted": interrupted,
        "structure": structure_of(run.train_state),
    }
    checkpoint.save(path, _contents(run, columns), metadata=metadata)


def load(path: str | Path, run: Run, facts: dict[str, Any], epochs: int) -> Run:
    """The run in a checkpoint, or `run`, which has not begun, where there is none.

    Raises:
        FuncregError: when the file is damaged, is not of a fit, or is of one with other facts.
    """
    if not Path(path).exists():
        return run
    metadata = read_metadata(path)
    differs = compared(metadata["arguments"], facts)
    if differs is not None:
        was, now = differs
        remedy = "Call fit with the same arguments to resume, or use another path to start again."
        _checks.fail("checkpoint", f"{path}, of a fit {was}", f"one {now}", remedy)
    epoch = metadata["epoch"]
    if epoch > epochs:
        _checks.fail("epochs", epochs, f"at least {epoch}, which the checkpoint {path} has done")
    return restored(path, run, metadata)


def restored(path: str | Path, like: Run, metadata: dict[str, Any]) -> Run:
    """The run in a file, where `like` has its structure."""
    epoch, names = metadata["epoch"], metadata["history"]
    columns = {name: torch.empty((epoch, *like.stopped_epoch.shape), dtype=torch.float64) for name in names}
    contents = checkpoint.load(path, _contents(like, columns))
    columns = contents.pop("history")
    rows = tuple({name: columns[name][row] for name in names} for row in range(epoch))
    return Run(**contents, epoch=epoch, history=rows, place=Place(*metadata["place"]))


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What `save` wrote beside a run.

    Raises:
        FuncregError: when the file is damaged or is not of a fit.
    """
    metadata = checkpoint.read_metadata(path)
    if not {"arguments", "epoch", "place", "structure"} <= set(metadata):
        _checks.fail("checkpoint", f"{path}, which another program saved", "a checkpoint of fit", "Use another path.")
    return metadata


def chunk_size(path: str | Path | None) -> int | None:
    """The members at a time of the run in a checkpoint; None where there is none."""
    return None if path is None or not Path(path).exists() else checkpoint.read_metadata(path).get("chunk_size")


def history(run: Run) -> dict[str, Tensor]:
    """name -> float64 (epochs,) or (epochs, K)."""
    names = run.history[0] if run.history else ()
    return {name: torch.stack([row[name] for row in run.history]) for name in names}


def told(path: str | Path, run: Run, epochs: int) -> str:
    """What is said when a fit goes on from a checkpoint."""
    if run.epoch == epochs:
        return f"{path}: all {epochs} epochs were done before; nothing was trained"
    if not run.active.any():
        return f"{path}: training had ended after epoch {run.epoch} of {epochs}; nothing was trained"
    return f"{path}: going on after epoch {run.epoch} of {epochs}"


def _contents(run: Run, columns: dict[str, Tensor]) -> dict[str, Any]:
    contents = run._asdict() | {"history": columns}
    return {name: value for name, value in contents.items() if name not in ("epoch", "place")}
