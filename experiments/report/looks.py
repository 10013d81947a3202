"""Looking at a run again with more members, while something is undecided, without being wrong more often.

A run may be looked at K times, with n, 4n, 16n, ... members up to a limit, and ends once every claim is decided. An
interval of 95% at each look would miss its mean more often than in 5% of such runs (in 11% for 3 looks), so inside
`looks(K)` each is Student's of 1 - 5%/(K + 1): by the union bound K + 1 of them together hold it with 95%, whatever the
looks share and however few the members are. The share to spare is for the look that was taken before anybody thought
of taking more. That is a group-sequential rule which spends its error evenly over the looks. Pocock's boundary, which
knows how nested looks correlate, is narrower by a twentieth, but holds for many members only.

They hold together whatever ends the run, and a look that is left out costs nothing: so one that stopped because an
effect was sure to be small may be taken up again, and go at once to the limit, where K + 1 looks at most were taken.

All of that is for a run whose limit was given at its start. A record that is taken up again later has had a look at
95% already, which could have decided a claim, and left it at that: of runs without an effect 6.3% are then decided at
one look or another with 5 members and then 20, 7.5% with 8, 32, 384 and 1,536 (simulated 10,000 times and more), of
which the looks after the first make 1.3 and 2.6 points.

Jennison and Turnbull, "Interim analyses: the repeated confidence interval approach", 1989.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LOOKS = ContextVar("looks", default=1)


def schedule(first: int, limit: int) -> list[int]:
    """How many members there are at each look: four times as many each time, the last time the limit.

    >>> schedule(64, 512), schedule(5, 20), schedule(8, 8)
    ([64, 256, 512], [5, 20], [8])
    """
    counts = [first]
    while counts[-1] < limit:
        counts.append(min(4 * counts[-1], limit))
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
    """What an interval leaves out at either end: 2.5%, shared by several looks, and by so many comparisons.

    >>> tail(), tail(5)
    (0.025, 0.005)
    """
    number = _LOOKS.get()
    return 0.025 / (comparisons * (1 if number == 1 else number + 1))
