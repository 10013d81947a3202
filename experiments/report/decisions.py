"""Three verdicts on a claim, by the 95% interval of what it is about.

confirmed   the interval lies on the claim's side; or an exact comparison holds
refuted     it lies on the other side; or an exact comparison fails
undecided   neither: the interval still allows effects on both sides
"""

from collections.abc import Iterable
from typing import NamedTuple

CONFIRMED, REFUTED, UNDECIDED = OUTCOMES = ("confirmed", "refuted", "undecided")


class Verdict(NamedTuple):
    """An outcome; of an undecided one, what effects its interval still allows.

    `open`: whether more members could say more: it is undecided, and not yet sure to be smaller than what matters.
    """

    outcome: str
    allows: str = ""
    open: bool = False

    def __and__(self, other: "Verdict | bool") -> "Verdict":
        """Of a claim that says both."""
        return every([self, other])

    __rand__ = __and__


def exactly(held: bool) -> Verdict:
    """Of an exact comparison.

    >>> exactly(0.1 + 0.2 == 0.3).outcome
    'refuted'
    """
    return Verdict(CONFIRMED if held else REFUTED)


def every(verdicts: Iterable[Verdict | bool]) -> Verdict:
    """Of a claim that says several things: confirmed where all are, refuted where one is.

    >>> every([True, Verdict(UNDECIDED, "-1 to 2")]).allows
    '-1 to 2'
    """
    each = [verdict if isinstance(verdict, Verdict) else exactly(bool(verdict)) for verdict in verdicts]
    outcomes = {verdict.outcome for verdict in each}
    if REFUTED in outcomes:
        return Verdict(REFUTED)
    undecided = [verdict for verdict in each if verdict.outcome == UNDECIDED]
    allows = "; ".join(dict.fromkeys(verdict.allows for verdict in undecided))
    outcome = UNDECIDED if undecided else CONFIRMED
    return Verdict(outcome, allows, any(verdict.open for verdict in undecided))
