"""The records by part: how many of their claims held, in words and as a Markdown table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Record = Mapping[str, Any]


class Part(NamedTuple):
    """The records of one part of the lab."""

    letter: str
    title: str
    records: Sequence[Record]

    @property
    def anchor(self) -> str:
        """Where it is in the page."""
        return f"part-{self.letter.lower() or 'others'}"


def confirmed(record: Record, of: str = " of ") -> str:
    """How many of a record's claims were confirmed: "3 of 5"."""
    return f"{sum(claim['confirmed'] for claim in record['claims'])}{of}{len(record['claims'])}"


def tally(records: Iterable[Record]) -> str:
    """How many claims were confirmed, in words."""
    each = list(records)
    every = [claim for record in each for claim in record["claims"]]
    held = sum(claim["confirmed"] for claim in every)
    return f"{held} of {len(every)} claims confirmed in {len(each)} experiment{'s' * (len(each) != 1)}"


def machine(record: Record) -> str:
    """What a record was made on."""
    hardware = record["hardware"]
    gpu = f"{hardware['gpu']}, " if hardware["gpu"] else ""
    return f"{gpu}{hardware['cpu']} ({hardware['threads']} of {hardware['cores']} cores)"


def table(parts: Iterable[Part]) -> str:
    """A Markdown table with a row for each experiment: its question, its first claim, how many held."""
    lines = [
        "| experiment | question | its first claim, and what was measured | confirmed | preset |",
        "|---" * 5 + "|",
    ]
    everything = []
    for part in parts:
        lines.append(f"| **{part.title}** | | | | |")
        everything += part.records
        for record in part.records:
            first = record["claims"][0]
            file = f"../questions/{record['name'].replace('-', '_')}.py"
            measured = f"{'✓' if first['confirmed'] else '✗'} {first['text']}<br>{first['measured']}"
            cells = (record["question"], measured, confirmed(record, "/"), record["preset"])
            escaped = (" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
            lines.append(f"| [`{record['name']}`]({file}) | {' | '.join(escaped)} |")
    minutes = sum(record["seconds"] for record in everything) / 60
    machines = "; ".join(sorted({machine(record) for record in everything}))
    return "\n".join([*lines, "", f"{tally(everything)}, in {minutes:.0f} minutes on {machines}."])
