"""The checkpoints of `fit`: a whole run in one file, and a fingerprint of what it was called with."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import _checks, checkpoint, tree
from .run import Run

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def save(path: str | Path, run: Run, arguments: dict[str, Any], chunk_size: int) -> None:
    """Write a run, at the end of an epoch, with the fingerprint of its arguments."""
    metadata = {"arguments": arguments, "epoch": run.epoch, "history": list(history(run)), "chunk_size": chunk_size}
    checkpoint.save(path, _contents(run, history(run)), metadata=metadata)


def load(path: str | Path, run: Run, arguments: dict[str, Any], epochs: int) -> Run:
    """The run in a checkpoint, or `run`, which has not begun, where there is none.

    Raises:
        FuncregError: when the file is damaged, is not of a fit, or is of one with other arguments.
    """
    if not Path(path).exists():
        return run
    metadata = checkpoint.read_metadata(path)
    saved = metadata.get("arguments")
    if not isinstance(saved, dict) or "epoch" not in metadata:
        _checks.fail("checkpoint", f"{path}, which another program saved", "a checkpoint of fit", "Use another path.")
    for name, value in arguments.items():
        if saved.get(name) != value:
            remedy = "Call fit with the same arguments to resume, or use another path to start again."
            got = f"{path}, of a fit with {name} = {saved.get(name)}"
            _checks.fail("checkpoint", got, f"one with {name} = {value}", remedy)
    epoch = metadata["epoch"]
    if epoch > epochs:
        _checks.fail("epochs", epochs, f"at least {epoch}, which the checkpoint {path} has done")
    shape = (epoch, *run.stopped_epoch.shape)
    like = {name: torch.empty(shape, dtype=torch.float64) for name in metadata["history"]}
    contents = checkpoint.load(path, _contents(run, like))
    columns = contents.pop("history")
    rows = tuple({name: columns[name][row] for name in columns} for row in range(epoch))
    return Run(**contents, epoch=epoch, history=rows)


def chunk_size(path: str | Path | None) -> int | None:
    """The members at a time of the run in a checkpoint; None where there is none."""
    return None if path is None or not Path(path).exists() else checkpoint.read_metadata(path).get("chunk_size")


def history(run: Run) -> dict[str, Tensor]:
    """name -> float64 (epochs,) or (epochs, K)."""
    names = run.history[0] if run.history else ()
    return {name: torch.stack([row[name] for row in run.history]) for name in names}


def fingerprint(value: tree.Tree) -> str:
    """A digest of a tree: names, dtypes, shapes and, weighted by their rows, the bits of every leaf."""
    leaves = zip(tree.names(value), tree.leaves(value), strict=True)
    described = [[name, str(leaf.dtype), list(leaf.shape), _sum_of_bits(leaf)] for name, leaf in leaves]
    return "sha256:" + hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def _sum_of_bits(leaf: Tensor) -> int:
    """One integer of all bits, at the speed of memory, which swapped rows change too."""
    leaf = torch.view_as_real(leaf) if leaf.is_complex() else leaf
    rows = leaf.flatten(1) if leaf.ndim > 1 else leaf.reshape(-1, 1)
    sums = rows.detach().contiguous().view(_BITS[leaf.element_size()]).sum(1, dtype=torch.int64)
    return int((sums * torch.arange(1, len(sums) + 1, device=leaf.device)).sum())


def _contents(run: Run, history: dict[str, Tensor]) -> dict[str, Any]:
    contents = run._asdict() | {"history": history}
    del contents["epoch"]
    return contents
