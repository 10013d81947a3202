"""The finished pieces of a run that takes hours: what is killed goes on from them, with the same result."""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..report.result import plain
from .files import write_atomically


class Unfinished:
    """A folder of pieces, a file of JSON each, made for one request: those of another are made again.

    `saved`: the seconds that the pieces which an earlier process made had taken.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any], *, resume: bool) -> None:
        self.folder, self.saved, self.made = folder, 0.0, set[str]()
        self.request = hashlib.sha256(json.dumps(plain(request), sort_keys=True).encode()).hexdigest()
        if not resume:
            self.clear()

    def piece(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, as JSON's types; or what it returned before."""
        path = self.folder / f"{re.sub(r'[^a-zA-Z0-9]+', '-', name)}.json"
        found = _read(path)
        if found.get("request") == self.request and found.get("name") == name:
            self.saved += 0.0 if name in self.made else found["seconds"]
            self.made.add(name)
            return found["value"]
        start = time.perf_counter()
        value = plain(make())
        seconds = time.perf_counter() - start
        self.made.add(name)
        piece = {"request": self.request, "name": name, "seconds": seconds, "value": value}
        write_atomically(path, json.dumps(piece).encode())
        return value

    def clear(self) -> None:
        """Take all pieces away: the run is finished, or begins anew."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        piece = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or not one of ours
        return {}
    return piece if isinstance(piece, dict) else {}
