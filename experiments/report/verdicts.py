"""The records by part: how many of their claims came out which way, in words and as a Markdown table."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .decisions import CONFIRMED, OUTCOMES, REFUTED, UNDECIDED

Record = Mapping[str, Any]
SIGNS = {CONFIRMED: "✓", REFUTED: "✗", UNDECIDED: "?"}


class Part(NamedTuple):
    """The records of one part of the lab."""

    letter: str
    title: str
    records: Sequence[Record]

    @property
    def anchor(self) -> str:
        """Where it is in the page."""
        return f"part-{self.letter.lower() or 'others'}"


def counts(records: Iterable[Record]) -> dict[str, int]:
    """How many claims of some records have each verdict, in the order of `OUTCOMES`."""
    found = Counter(claim["verdict"] for record in records for claim in record["claims"])
    return {outcome: found[outcome] for outcome in OUTCOMES}


def summary(record: Record) -> str:
    """The verdicts of a record that it has: "3 confirmed, 1 undecided"."""
    return ", ".join(f"{count} {outcome}" for outcome, count in counts([record]).items() if count)


def tally(records: Iterable[Record]) -> str:
    """How many claims have each verdict, in words."""
    each = list(records)
    found = counts(each)
    told = ", ".join(f"{count} {outcome}" for outcome, count in found.items())
    closed = sum(claim["verdict"] == UNDECIDED and not claim["open"] for record in each for claim in record["claims"])
    told += f" ({closed} of them smaller than what is of interest)" if closed else ""
    return f"{sum(found.values())} claims in {len(each)} experiment{'s' * (len(each) != 1)}: {told}"


def machine(record: Record) -> str:
    """What a record was made on."""
    hardware = record["hardware"]
    gpu = f"{hardware['gpu']}, " if hardware["gpu"] else ""
    return f"{gpu}{hardware['cpu']} ({hardware['threads']} of {hardware['cores']} cores)"


def table(parts: Iterable[Part]) -> str:
    """A Markdown table with a row for each experiment: its question, its first claim, and the verdicts on all."""
    lines = [
        "| experiment | question | its first claim, and what was measured | ✓ / ✗ / ? | preset |",
        "|---" * 5 + "|",
    ]
    everything = []
    for part in parts:
        lines.append(f"| **{part.title}** | | | | |")
        everything += part.records
        for record in part.records:
            first = record["claims"][0]
            file = f"../questions/{record['name'].replace('-', '_')}.py"
            measured = f"{SIGNS[first['verdict']]} {first['text']}<br>{first['measured']}"
            found = " / ".join(map(str, counts([record]).values()))
            cells = (record["question"], measured, found, record["preset"])
            escaped = (" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
            lines.append(f"| [`{record['name']}`]({file}) | {' | '.join(escaped)} |")
    minutes = sum(record["seconds"] for record in everything) / 60
    machines = "; ".join(sorted({machine(record) for record in everything}))
    return "\n".join([*lines, "", f"{tally(everything)}, in {minutes:.0f} minutes on {machines}."])
