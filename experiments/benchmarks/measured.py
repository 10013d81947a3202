"""What a workload's contenders took, what was asked of them, and how they compare."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# What is compared with may be a family: the fastest of the contenders whose names begin so.
FAMILIES = {"best JAX": ("JAX jit", "JAX vmap", "JAX map"), "plain torch": ("stateful", "torch.func")}
# Every contender of funcreg is compared with these, where they are there, and with what its targets name.
ALWAYS = ("best JAX", "stateful eager", "stateful compiled", "torch.func")


@dataclass(frozen=True)
class Measured:
    """Seconds of each contender, a number for each round.

    `targets`: (contender, what it is compared with) -> how many times as fast it is to be; below 1, how much
    slower it may be. `compile_seconds`: what each compiled contender took before its first result.
    """

    name: str
    question: str
    seconds: Mapping[str, Sequence[float]]
    targets: Mapping[tuple[str, str], float]
    compile_seconds: Mapping[str, float] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """As the JSON has it: each contender with the raw time of every round, and the comparisons."""
        contenders = {
            name: {
                "milliseconds": statistics.median(seconds) * 1e3,
                "compile_seconds": self.compile_seconds.get(name),
                "seconds_by_round": seconds,
            }
            for name, seconds in self.seconds.items()
        }
        return {
            "name": self.name,
            "question": self.question,
            "contenders": contenders,
            "comparisons": [
                comparison
                for name in self.seconds
                if name.startswith("funcreg")
                for against in self._others(name)
                if (comparison := self._comparison(name, against)) is not None
            ],
        }

    def _others(self, contender: str) -> list[str]:
        asked = [against for name, against in self.targets if name == contender]
        return [*ALWAYS, *(against for against in asked if against not in ALWAYS)]

    def _comparison(self, contender: str, against: str) -> dict[str, Any] | None:
        found = ratio(self.seconds, contender, against)
        if found is None:
            return None
        target = self.targets.get((contender, against))
        met = None if target is None else found.median >= target
        return {"contender": contender, "against": against, **found._asdict(), "target": target, "met": met}


class Ratio(NamedTuple):
    """How many times as fast as `baseline` a contender is: the median over rounds, and the quartiles."""

    baseline: str
    median: float
    low: float
    high: float


def ratio(seconds: Mapping[str, Sequence[float]], contender: str, against: str) -> Ratio | None:
    """A contender against another, or the fastest of those whose names begin so or of a family; None without any.

    >>> ratio({"JAX jit": [3.0, 4.0, 5.0], "JAX map": [6.0, 6.0, 6.0], "funcreg jit": [1.0, 2.0, 1.0]}, "funcreg jit",
    ...       "best JAX")
    Ratio(baseline='JAX jit', median=3.0, low=2.0, high=5.0)
    """
    prefixes = FAMILIES.get(against, (against,))
    alike = [name for name in seconds if name.startswith(prefixes) and name != contender]
    others = [against] if against in alike else alike
    if contender not in seconds or not others:
        return None
    baseline = min(others, key=lambda name: statistics.median(seconds[name]))
    ratios = [theirs / own for theirs, own in zip(seconds[baseline], seconds[contender], strict=True)]
    middle = statistics.median(ratios)
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [middle] * 3
    return Ratio(baseline, middle, low, high)
