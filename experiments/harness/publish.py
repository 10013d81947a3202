"""A folder of results: each record with its figures, the page of all, the table of their verdicts."""

import sys
from pathlib import Path
from typing import Any

from ..errors import LabError
from ..report import plots, verdicts
from ..report.looks import looks
from ..report.page import page
from ..report.result import Result
from ..report.verdicts import Part, Record
from . import registry
from .files import write_atomically, write_together
from .records import encode, read_records
from .registry import Experiment

PAGE = "report.html"
Drawn = tuple[dict[str, dict[str, str]], dict[str, bytes]]


def draw(experiment: Experiment, record: Record) -> Drawn:
    """A record's figures, drawn from what it holds: name -> file and caption; file -> content."""
    figures, pictures = {}, {}
    with plots.style(), looks(record.get("looks", 1)):
        for name, figure in experiment.load().figures(Result.from_json(record)).items():
            suffix, content = plots.encode(figure)
            file = f"{experiment.name}-{name}.{suffix}"
            figures[name] = {"file": file, "caption": plots.caption_of(figure)}
            pictures[file] = content
    return figures, pictures


def keep(record: dict[str, Any], drawn: Drawn, out: Path) -> None:
    """Write a record and its figures, whose files and captions it gets under "figures"."""
    record["figures"], pictures = drawn
    write_together(
        {
            **{out / "figures" / file: content for file, content in pictures.items()},
            out / f"{record['name']}.json": encode(record),  # last: where it is new, so are they
        }
    )


def build(out: Path) -> Path:
    """Write the page from the records and pictures in a folder.

    Returns:
        Where it is.

    Raises:
        LabError: when the folder has no record.
    """
    path = out / PAGE
    write_atomically(path, page(_parts(out), out / "figures").encode())
    return path


def rebuild(out: Path) -> Path:
    """Draw every figure again from its JSON, then build the page."""
    known = registry.experiments()
    for record in _some(out):
        if record["name"] not in known:
            print(f"{record['name']}: no longer an experiment; its numbers are kept", file=sys.stderr)
            continue
        try:
            drawn = draw(known[record["name"]], record)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            print(f"{record['name']}: its figures could not be drawn again ({reason}); run it again", file=sys.stderr)
            continue
        keep(record, drawn, out)
    return build(out)


def table(out: Path) -> str:
    """The records of a folder as a Markdown table."""
    return verdicts.table(_parts(out))


def _some(out: Path) -> list[dict[str, Any]]:
    records = read_records(out)
    if not records:
        raise LabError(f"{out} has no results. Run: python -m experiments run all --out {out}")
    return records


def _parts(out: Path) -> list[Part]:
    """The records of a folder by the part of the lab, in its order; those of no part last."""
    known = registry.experiments()
    order = {name: position for position, name in enumerate(known)}
    parts: dict[str, list[Record]] = {part: [] for part in (*registry.PARTS, "")}
    for record in sorted(_some(out), key=lambda record: order.get(record["name"], len(order))):
        part = known[record["name"]].part if record["name"] in known else record["part"]
        parts[part if part in parts else ""].append(record)
    titles = {**{part: f"{part}. {title}" for part, title in registry.PARTS.items()}, "": "Others"}
    return [Part(part, titles[part], some) for part, some in parts.items() if some]
