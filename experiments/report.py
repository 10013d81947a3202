"""The report: one self-contained HTML page of all records in a folder; and their table for the README."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import page, registry
from .errors import LabError
from .files import write_atomically
from .page import text
from .results import read_record

NAME = "report.html"
Record = Mapping[str, Any]
Parts = Mapping[str, Sequence[Record]]


def build(out: Path) -> Path:
    """Write the page from the records and pictures in a folder.

    Returns:
        Where it is.

    Raises:
        LabError: when the folder has no record.
    """
    path = out / NAME
    write_atomically(path, _page(_by_part(_some(out)), out / "figures").encode())
    return path


def rebuild(out: Path) -> Path:
    """Draw every figure again from its JSON, then build the page."""
    from . import runner  # it imports this file

    known = registry.experiments()
    for record in _some(out):
        if record["name"] not in known:
            print(f"{record['name']}: no longer an experiment; its numbers are kept", file=sys.stderr)
            continue
        try:
            drawn = runner.draw(known[record["name"]], record)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            print(f"{record['name']}: its figures could not be drawn again ({reason}); run it again", file=sys.stderr)
            continue
        runner.keep(record, drawn, out)
    return build(out)


def table(out: Path) -> str:
    """The records of a folder as the Markdown table that the README shows."""
    lines = [
        "| experiment | question | its first claim, and what was measured | confirmed | preset |",
        "|---" * 5 + "|",
    ]
    everything = _some(out)
    for part, records in _by_part(everything).items():
        lines.append(f"| **{_title(part)}** | | | | |")
        for record in records:
            first = record["claims"][0]
            file = f"experiments/{record['name'].replace('-', '_')}.py"
            measured = f"{'✓' if first['confirmed'] else '✗'} {first['text']}<br>{first['measured']}"
            cells = (record["question"], measured, _confirmed(record, "/"), record["preset"])
            escaped = (" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
            lines.append(f"| [`{record['name']}`]({file}) | {' | '.join(escaped)} |")
    minutes = sum(record["seconds"] for record in everything) / 60
    machines = "; ".join(sorted({_machine(record) for record in everything}))
    return "\n".join([*lines, "", f"{tally(everything)}, in {minutes:.0f} minutes on {machines}."])


def tally(records: Iterable[Record]) -> str:
    """How many claims were confirmed, in words."""
    each = list(records)
    every = [claim for record in each for claim in record["claims"]]
    held = sum(claim["confirmed"] for claim in every)
    return f"{held} of {len(every)} claims confirmed in {len(each)} experiment{'s' * (len(each) != 1)}"


def read(out: Path) -> list[dict[str, Any]]:
    """The records in a folder by name; other JSON files are passed over with a word on stderr."""
    records = []
    for path in sorted(out.glob("*.json")):
        try:
            records.append(read_record(path))
        except LabError as error:
            print(f"skipped: {error}", file=sys.stderr)
    return records


def _some(out: Path) -> list[dict[str, Any]]:
    records = read(out)
    if not records:
        raise LabError(f"{out} has no results. Run: python -m experiments run all --out {out}")
    return records


def _by_part(records: Iterable[Record]) -> Parts:
    """Records by the part of the lab, in its order; those of no part last."""
    known = registry.experiments()
    order = {name: position for position, name in enumerate(known)}
    parts: dict[str, list[Record]] = {part: [] for part in (*registry.PARTS, "")}
    for record in sorted(records, key=lambda record: order.get(record["name"], len(order))):
        part = known[record["name"]].part if record["name"] in known else record["part"]
        parts[part if part in parts else ""].append(record)
    return {part: some for part, some in parts.items() if some}


def _title(part: str) -> str:
    return f"{part}. {registry.PARTS[part]}" if part else "Others"


def _anchor(part: str) -> str:
    return f"part-{part.lower() or 'others'}"


def _confirmed(record: Record, of: str = " of ") -> str:
    return f"{sum(claim['confirmed'] for claim in record['claims'])}{of}{len(record['claims'])}"


def _page(parts: Parts, figures: Path) -> str:
    records = [record for some in parts.values() for record in some]
    body = [
        "<header><h1>funcreg: the lab</h1>",
        f"<p>What regularizers do, measured: {text(tally(records))}. A claim that did not hold is reported with its "
        "numbers. Where n members are given they were trained side by side, and ± is the standard deviation over them; "
        "intervals are Student's, of 95%.</p>",
        *(f'<p class="note">{note}</p>' for note in _circumstances(records)),
        f'<nav class="top" aria-label="Contents"><details id="contents"><summary>Contents</summary>{_links(parts)}'
        "</details></nav></header>",
        _verdicts(parts),
        *(_part(part, some, figures) for part, some in parts.items()),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>funcreg: the lab</title>\n<style>{page.STYLE}</style>\n</head>\n<body>\n"
        f'<div class="columns">\n<nav class="side" aria-label="Contents">{_links(parts)}</nav>\n<main id="top">\n'
        + "\n".join(body)
        + "\n</main>\n</div>\n</body>\n</html>\n"
    )


def _circumstances(records: Sequence[Record]) -> list[str]:
    """What a reader has to know before the numbers: presets, machines, data."""
    presets = Counter(record["preset"] for record in records)
    notes = []
    if len(presets) > 1:
        each = "; ".join(f"{preset}: {_names(records, preset)}" for preset in presets)
        notes.append(f"The experiments were run with different presets. {each}.")
    gpus = sorted({record["hardware"]["gpu"] for record in records if record["hardware"]["gpu"]})
    where = f"on {text(', '.join(gpus))}" if gpus else "on a CPU"
    if presets["full"] == len(records):
        notes.append(f"All with the preset <b>full</b>, {where}.")
    elif presets["full"] == 0:
        some = " and ".join(f"<b>{preset}</b>" for preset in presets)
        notes.append(
            f"All numbers are from the preset {some}, run {where}: where an experiment is large, with less data and a "
            "smaller network than in <b>full</b>, as its settings say. The preset <b>full</b>, much of which is meant "
            "for a GPU, was <b>not run</b>."
        )
    if presets["smoke"]:
        notes.append("The preset <b>smoke</b> shows that the code runs; its verdicts mean little.")
    stand_ins = [record for record in records if any("in place of" in source for source in record["data"])]
    if stand_ins:
        links = ", ".join(_link(record) for record in stand_ins)
        notes.append(f"Without the real data, on what stands in for it: {links}.")
    return notes


def _names(records: Sequence[Record], preset: str) -> str:
    chosen = [record for record in records if record["preset"] == preset]
    names = ", ".join(_link(record) for record in chosen)
    return names if len(chosen) <= len(records) / 2 else f"the other {len(chosen)}"


def _link(record: Record) -> str:
    return f'<a href="#{text(record["name"])}">{text(record["name"])}</a>'


def _links(parts: Parts) -> str:
    """The contents: every experiment under its part, with how many of its claims were confirmed."""
    items = ['<a href="#verdicts">Verdicts</a>']
    for part, records in parts.items():
        items.append(f'<b><a href="#{_anchor(part)}">{text(_title(part))}</a></b><ul>')
        for record in records:
            name = text(record["name"])
            count = f'<small title="claims confirmed">{_confirmed(record, "/")}</small>'
            items.append(f'<li><a href="#{name}"><span>{name}</span>{count}</a></li>')
        items.append("</ul>")
    return "".join(items)


def _verdicts(parts: Parts) -> str:
    """The counts by part; then, by part, each experiment's first claim, and all claims on demand."""
    rows = []
    everything = [record for records in parts.values() for record in records]
    for title, records in [*((_title(part), some) for part, some in parts.items()), ("All", everything)]:
        claims = [claim["confirmed"] for record in records for claim in record["claims"]]
        total = ' class="total"' if title == "All" else ""
        cells = "".join(f"<td>{cell}</td>" for cell in (len(records), len(claims), sum(claims), claims.count(False)))
        rows.append(f"<tr{total}><td>{text(title)}</td>{cells}</tr>")
    heads = ("Part", "Experiments", "Claims", "✓ held", "✗ not")
    head = "".join(f"<th>{each}</th>" for each in heads)
    counts = f'<table class="counts"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    body = []
    for part, records in parts.items():
        body.append(f'<p class="title">{text(_title(part))}</p>')
        body.append(_summary(records, "Experiment", "First claim, and what was measured", first=True))
        every = _summary(records, "Experiment", "Claim, and what was measured", first=False)
        count = sum(len(record["claims"]) for record in records)
        body.append(f"<details><summary>All {count} claims of {text(_title(part))}</summary>{every}</details>")
    return f'<section id="verdicts"><h2>Verdicts</h2>{counts}{"".join(body)}</section>'


def _summary(records: Iterable[Record], *heads: str, first: bool) -> str:
    rows = []
    for record in records:
        for position, claim in enumerate(record["claims"][: 1 if first else None]):
            link = _link(record) if position == 0 else ""
            start = ' class="first"' if position == 0 else ""
            count = f"<small>{_confirmed(record)} claims confirmed</small>" if first else ""
            rows.append(
                f'<tr{start}><th scope="row">{link}</th><td>{text(claim["text"])}'
                f"<small>{text(claim['measured'])}</small></td><td>{page.pill(claim)}{count}</td></tr>"
            )
    head = "".join(f"<th>{each}</th>" for each in (*heads, "Verdict"))
    return f'<table class="summary"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _part(part: str, records: Iterable[Record], figures: Path) -> str:
    articles = "\n".join(_article(record, figures) for record in records)
    return f'<section id="{_anchor(part)}"><h2>{text(_title(part))}</h2>\n{articles}\n</section>'


def _machine(record: Record) -> str:
    """What a record was made on."""
    machine = record["hardware"]
    gpu = f"{machine['gpu']}, " if machine["gpu"] else ""
    return f"{gpu}{machine['cpu']} ({machine['threads']} of {machine['cores']} cores)"


def _article(record: Record, figures: Path) -> str:
    """One experiment: its question, data, claims, figures, tables, and all that its numbers come from."""
    name = text(record["name"])
    pictures = "".join(
        _figure(figures / Path(each["file"]).name, each["caption"]) for each in record["figures"].values()
    )
    data = "".join(f'<p class="facts"><b>Data.</b> {text(source)}</p>' for source in record["data"])
    settings = [[key, page.setting(value)] for key, value in record["settings"].items()]
    run = [
        [
            "preset",
            f"{record['preset']}, seed {record['seed']}, {record['seconds']:.1f} s on {record['hardware']['device']}",
        ],
        ["hardware", f"{_machine(record)}; {record['hardware']['system']}"],
        ["versions", ", ".join(f"{each} {version}" for each, version in record["versions"].items())],
    ]
    return (
        f'<article id="{name}"><h3>{name} <span class="count">{_confirmed(record)} claims confirmed</span></h3>'
        f'<p class="question">{text(record["question"])}</p>'
        f"<pre><code>{text(record['command'])}</code></pre>"
        f"{data}{page.claims(record)}{pictures}{page.tables(record)}"
        f"<details><summary>Numbers behind the claims, with n and sd</summary>{page.numbers(record)}</details>"
        f"<details><summary>Settings</summary>{page.table(['setting', 'value'], settings)}</details>"
        f"<details open><summary>Run</summary>{page.table(['', ''], run)}</details>"
        '<p class="up"><a href="#top">Back to the contents</a></p></article>'
    )


def _figure(path: Path, caption: str) -> str:
    if not path.exists():
        return f"<p>(The figure {text(path.stem)} is missing: python -m experiments report draws it.)</p>"
    return page.picture(path.read_bytes(), caption)
