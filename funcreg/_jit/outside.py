"""What a function asks of the world outside of the process's memory, while it runs: a clock, a file, a generator."""

import random
import sys
import sysconfig
from types import FrameType, TracebackType
from typing import Any

from .. import _generators

_INSTALLED = ("<frozen", *{sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
_MODULES = {"time", "posix", "nt", "io", "_io"}
_NOW = {"now", "today", "utcnow"}
_HARMLESS = {"fspath", "getpid", "text_encoding"}
_ASKS_FOR_ITSELF = {"torch", "funcreg", "optree", "importlib", "warnings", "linecache", "inspect", "logging"}
_SETTINGS = ("torch.backends", "torch.utils.deterministic", "torch.random")
_FILES = "torch.serialization"


class Outside:
    """While it is entered: notes what the caller's code asks, itself or through a package.

    found: the name of the first that was asked; None for none.

    >>> with Outside() as outside:
    ...     exec("import time; now = time.time()", {"__name__": "of_a_caller"})
    >>> outside.found
    'time.time'
    """

    found: str | None = None

    def __enter__(self) -> "Outside":
        self.before, self.states = sys.getprofile(), _generators.states()
        sys.setprofile(self._called)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        sys.setprofile(self.before)
        if self.found is None and _drawn(self.states, _generators.states()):
            self.found = "a generator of random numbers"
        _generators.put_back(self.states)

    def _called(self, frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and self.found is None and _asks(frame, function) and _for_the_caller(frame):
            self.found = ".".join(filter(None, (function.__module__, function.__qualname__)))


def _drawn(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether Python's generator or NumPy's has moved, where it was there before."""
    if before["python"] != now["python"]:
        return True
    if "numpy" not in before:
        return False
    (_, words, *place), (_, words_now, *place_now) = before["numpy"], now["numpy"]
    return place != place_now or bytes(words) != bytes(words_now)


def _asks(frame: FrameType, function: Any) -> bool:
    owner, name = getattr(function, "__self__", None), function.__name__
    if isinstance(owner, type):
        return owner.__module__ == "datetime" and name in _NOW
    module = function.__module__ or type(owner).__module__
    setting = str(frame.f_globals.get("__name__")).startswith(_SETTINGS)
    return (module in _MODULES and name not in _HARMLESS) or isinstance(owner, random.Random) or setting


def _for_the_caller(frame: FrameType | None) -> bool:
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if not of_library(module, frame.f_code.co_filename):
            return True
        if module.split(".")[0] in _ASKS_FOR_ITSELF and not module.startswith((*_SETTINGS, _FILES)):
            return False
        frame = frame.f_back
    return False


def of_library(module: str | None, file: str | None = None) -> bool:
    """Whether code is of a package that was installed, of Python, or of this one.

    >>> of_library("torch.nn"), of_library("of_a_caller")
    (True, False)
    """
    package = (module or "").split(".")[0]
    if package == "funcreg" or package in sys.stdlib_module_names:
        return package != "__main__"
    return (file or getattr(sys.modules.get(module or ""), "__file__", None) or "").startswith(_INSTALLED)
