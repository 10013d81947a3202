"""Files that are there whole, or as they were before: whatever happens while they are written."""

import errno
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from ..errors import WriteError

try:
    import fcntl
except ImportError:  # Windows: nothing is held
    fcntl = None


def try_folder(folder: Path) -> None:
    """Make a folder and write to it, to know before the work whether its results can be kept.

    Raises:
        WriteError: when they cannot.
    """
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"?")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it: it is there whole, or as it was before.

    Raises:
        WriteError: when it cannot be written.
    """
    write_together({path: content})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files beside their places, then rename them all, in order: all are there, or as they were before.

    What goes wrong, such as a full disk, does so before the first is renamed. Ctrl-C waits for the
    end; pressed again, it does not.

    Raises:
        WriteError: when one of them cannot be written.
    """
    staged: dict[str, Path] = {}
    with _undisturbed():
        try:
            for path, content in files.items():
                with told(path.parent):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    if path.is_dir():
                        raise IsADirectoryError(errno.EISDIR, f"{path.name} is a folder")
                    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
                    staged[name] = path
                    with os.fdopen(handle, "wb") as file:
                        file.write(content)
                        file.flush()
                        os.fsync(file.fileno())
                    os.chmod(name, 0o644)
            for name, path in staged.items():
                with told(path.parent):
                    os.replace(name, path)
        finally:
            for name in staged:
                Path(name).unlink(missing_ok=True)


def hold(path: Path) -> IO[bytes] | None:
    """Hold a file until what is returned is closed, or the process ends; None where somebody else holds it.

    Raises:
        WriteError: when it cannot be made.
    """
    with told(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError:  # a file system without locks
            pass
    return file


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Inside, an OSError becomes a WriteError, one sentence that names the folder."""
    try:
        yield
    except OSError as error:
        in_place = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "a file is in its place" if in_place else error.strerror or str(error)
        raise WriteError(f"cannot write to {folder}: {reason}. Choose another folder with --out.") from None


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Inside, Ctrl-C is noted, and takes effect at the end."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    pressed: list[tuple[int, FrameType | None]] = []

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append((number, frame))
        if len(pressed) > 1:
            before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        before(*pressed[0])
