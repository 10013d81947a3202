"""Looking at a run again with more members, while something is undecided, without being wrong more often.

A run may be looked at K times, with n, 2n, 4n, ... members up to a limit, and ends once every claim is decided. An
interval of 95% at each look would miss its mean more often than in 5% of such runs (in 13% for 4 looks), so inside
`looks(K)` each is Student's of 1 - 5%/K: by the union bound all K together hold it with 95%, whatever the looks share
and however few the members are. That is a group-sequential rule which spends its error evenly over the looks; Pocock's
boundary, which knows how nested looks correlate, is narrower by a twentieth, but holds for many members only.

Jennison and Turnbull, "Interim analyses: the repeated confidence interval approach", 1989.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LOOKS = ContextVar("looks", default=1)


def schedule(first: int, limit: int) -> list[int]:
    """How many members there are at each look: twice as many each time, the last time the limit.

    >>> schedule(64, 512), schedule(5, 12), schedule(8, 8)
    ([64, 128, 256, 512], [5, 10, 12], [8])
    """
    counts = [first]
    while counts[-1] < limit:
        counts.append(min(2 * counts[-1], limit))
    return counts


@contextmanager
def looks(number: int) -> Iterator[None]:
    """Inside, every interval holds at so many looks together."""
    token = _LOOKS.set(number)
    try:
        yield
    finally:
        _LOOKS.reset(token)


def tail(comparisons: int = 1) -> float:
    """What an interval leaves out at either end: 2.5%, shared by the looks and by so many comparisons.

    >>> tail(), tail(5)
    (0.025, 0.005)
    """
    return 0.025 / (comparisons * _LOOKS.get())
