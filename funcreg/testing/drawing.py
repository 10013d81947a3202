"""What a function draws: whether any part of a key's stream is drawn twice, and what is drawn without a key."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from torch import Tensor

from .._functorch import innermost
from ..random import execution

_OURS = __name__.split(".")[0]
_WORD = 2**64 - 1


class Draw(NamedTuple):
    """Blocks [start, end) of the stream of a seed, and the calls that led there, the innermost first.

    `for_keys`: by `split` and `fold_in`.
    """

    seed: int
    start: int
    end: int
    for_keys: bool
    calls: tuple[FrameType, ...]


@contextmanager
def draws() -> Iterator[list[Draw]]:
    """The draws inside the block, as they are made; not those of a program that is compiled.

    >>> from funcreg import random
    >>> with draws() as found:
    ...     _ = random.uniform(random.key(7), 5)
    >>> found[0][:3]
    (7, 0, 2)
    """
    found: list[Draw] = []

    def see(key: Tensor, blocks: int, for_keys: bool) -> None:
        values = innermost(key)
        if type(values) is not Tensor or values.is_meta or not blocks:  # a program is being traced
            return
        calls = tuple(_calls(sys._getframe(2)))
        for seed, offset in {(seed, offset & _WORD) for seed, offset in values.reshape(-1, 2).tolist()}:
            found.append(Draw(seed, offset, offset + blocks, for_keys, calls))

    with execution.watched(see):
        yield found


def twice(function: Callable[[], Any]) -> list[str]:
    """Where a call draws what it had drawn before: numbers that should be independent are the same.

    What the library draws again on purpose, as `fr.sharpness.sam` does for its second pass, is no fault of its caller;
    nor is it to split a key twice, if not both halves are used twice.
    """
    with draws() as found:
        function()
    last: dict[tuple[int, bool], Draw] = {}
    for each in sorted(found, key=lambda draw: draw[:2]):
        for for_keys in (False,) if each.for_keys else (False, True):
            before = last.get((each.seed, for_keys))
            if before is not None and each.start < before.end and (said := _together(before, each)):
                return [said]
        longest = last.get((each.seed, each.for_keys))
        if longest is None or each.end > longest.end:
            last[each.seed, each.for_keys] = each
    return []


def _together(one: Draw, other: Draw) -> str:
    """What to say of two draws of the same blocks; nothing if the library called for both."""
    common = next((frame for frame in one.calls if any(frame is each for each in other.calls)), None)
    if common is None or _is_ours(common):
        return ""
    places = sorted({_place(draw) for draw in (one, other)})
    seen = " and ".join(places) if len(places) > 1 else f"{places[0]}, twice"
    return f"the same numbers are drawn more than once, at {seen}: a key is consumed once (split it)"


def _calls(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _place(draw: Draw) -> str:
    """The line of the innermost call that is not the library's."""
    frame = next(frame for frame in draw.calls if not _is_ours(frame))
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _is_ours(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").split(".")[0] == _OURS
