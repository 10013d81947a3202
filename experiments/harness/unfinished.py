"""The finished pieces of a run that takes hours: what is killed goes on from them, with the same result."""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import LabError
from ..report.result import plain
from .files import hold, write_atomically


class Unfinished:
    """A folder of pieces, a file of JSON each, made for one request: those of another are made again.

    One run at a time has it, from its first piece, or from the first where it is there, until it is closed.
    `saved`: the seconds that the pieces which an earlier process made had taken.

    Raises:
        LabError: where another run has it.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any], *, resume: bool) -> None:
        self.folder, self.saved, self.made, self.lock = folder, 0.0, set[str](), None
        self.request = hashlib.sha256(json.dumps(plain(request), sort_keys=True).encode()).hexdigest()
        if folder.exists():
            self._take()
            for piece in [] if resume else folder.glob("*.json"):
                piece.unlink(missing_ok=True)

    def piece(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, as JSON's types; or what it returned before."""
        self._take()
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
        """Take all pieces away: the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Leave the pieces to another run."""
        if self.lock is not None:
            self.lock.close()

    def _take(self) -> None:
        if self.lock is None:
            self.lock = hold(self.folder / "lock")
        if self.lock is None:
            raise LabError(
                f"another run is at work on it, and keeps what is finished in {self.folder}. Wait for it, end it, or "
                "choose another folder with --out."
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        piece = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or not one of ours
        return {}
    return piece if isinstance(piece, dict) else {}
