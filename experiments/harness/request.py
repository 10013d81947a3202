"""What a run was asked for: whether running again would ask for the same as a record that is there."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..data import DataRoot
from ..errors import LabError
from ..report.result import plain
from . import environment
from .context import Context
from .records import read_record
from .registry import Experiment

MEMBERS = "seeds"  # the setting that says how many members there are, of those that can take more
_VERSIONS = ("funcreg", "torch")


def answered(experiment: Experiment, preset: str, context: Context, out: Path) -> dict[str, Any] | None:
    """The record, in a folder, of an earlier run of the same request; None where there is none."""
    try:
        record = read_record(out / f"{experiment.name}.json")
    except LabError:
        return None
    had = {
        **{name: record.get(name) for name in ("preset", "seed", "data_root", "members_up_to")},
        "settings": {**record["settings"], **_members_at_first(experiment, preset, context)},
        "at_once": record.get("at_once", False),
        "device": record["hardware"]["device"],
        **{name: record["versions"].get(name) for name in _VERSIONS},
    }
    return record if asked(experiment, preset, context) == had else None


def asked(experiment: Experiment, preset: str, context: Context) -> dict[str, Any]:
    """All that a run's numbers depend on, but for the code of the experiment."""
    versions = environment.versions()
    return {
        "preset": preset,
        "settings": plain(asdict(experiment.load().PRESETS[preset])),
        "members_up_to": context.members_up_to,
        "at_once": context.at_once,
        "seed": context.seed,
        "device": str(context.device),
        "data_root": data_root(experiment, context),
        **{name: versions.get(name) for name in _VERSIONS},
    }


def _members_at_first(experiment: Experiment, preset: str, context: Context) -> dict[str, Any]:
    """The setting that a run may have raised, as it was before."""
    settings = experiment.load().PRESETS[preset]
    return {} if context.members_up_to is None else {MEMBERS: getattr(settings, MEMBERS, None)}


def data_root(experiment: Experiment, context: Context) -> str | None:
    """What an experiment that reads real data finds in the data root, as a fingerprint; else None.

    Whether it reads any is said by the command in its header.
    """
    if context.data.path is None or "--data-root" not in experiment.command:
        return None
    return "downloaded" if context.data.download else fingerprint(context.data)


def fingerprint(root: DataRoot) -> str:
    """Twelve digits that change with the names and sizes in a data root, two folders deep."""
    listing = [] if root.path is None else sorted(_sizes(root.path, 2))
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:12]


def _sizes(folder: Path, depth: int, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Each file's size, and how many entries a folder has."""
    try:
        entries = list(folder.iterdir())
    except OSError:  # whoever reads it will say so
        return
    yield f"{prefix}/", len(entries)
    for entry in entries:
        if not entry.is_dir():
            yield prefix + entry.name, entry.stat().st_size if entry.exists() else 0
        elif depth > 0:
            yield from _sizes(entry, depth - 1, f"{prefix}{entry.name}/")
