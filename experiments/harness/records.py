"""Records: the JSON that the result of each run is kept in, one file an experiment."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import LabError
from ..report.result import plain
from .files import write_atomically

_FAMILY = "funcreg-experiment/"
FORMAT = f"{_FAMILY}3"


def encode(record: Mapping[str, Any]) -> bytes:
    """A record as JSON: one line a top-level entry, values compact."""
    lines = [f"{json.dumps(name)}: {json.dumps(plain(value), allow_nan=False)}" for name, value in record.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Keep a record in a file."""
    write_atomically(path, encode(record))


def read_record(path: Path) -> dict[str, Any]:
    """The record of one run.

    Raises:
        LabError: when the file is not one, or of another version of the lab.
    """
    record = _read(path)
    if record["format"] != FORMAT:
        raise LabError(f"{path} is of another version of the lab ({record['format']}). Run it again.")
    return record


def check_place(path: Path) -> None:
    """Refuse to put a record where a file is that is not one, of whatever version.

    Raises:
        LabError: for such a file.
    """
    if path.exists():
        try:
            _read(path)
        except LabError as error:
            raise LabError(f"{error}. It is left alone: choose another folder with --out.") from None


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records in a folder by name; other JSON files than the benchmarks' are passed over with a word on stderr."""
    records = []
    for path in sorted(set(folder.glob("*.json")) - {folder / "bench.json"}):
        try:
            records.append(read_record(path))
        except LabError as error:
            print(f"skipped: {error}", file=sys.stderr)
    return records


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabError(f"cannot read {path}: {error}") from None
    if not isinstance(record, dict) or not str(record.get("format")).startswith(_FAMILY):
        raise LabError(f"{path} is not the record of an experiment")
    return record
