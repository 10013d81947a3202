"""The report's page: one HTML file of all records, without scripts or requests."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import html
from .html import text
from .verdicts import Part, Record, confirmed, machine, tally


def page(parts: Sequence[Part], figures: Path) -> str:
    """The page of some parts' records; their pictures are read from a folder."""
    records = [record for part in parts for record in part.records]
    body = [
        "<header><h1>funcreg: the lab</h1>",
        f"<p>What regularizers do, measured: {text(tally(records))}. A claim that did not hold is reported with its "
        "numbers. Where n members are given they were trained side by side, and ± is the standard deviation over them; "
        "intervals are Student's, of 95%.</p>",
        *(f'<p class="note">{note}</p>' for note in _circumstances(records)),
        f'<nav class="top" aria-label="Contents"><details id="contents"><summary>Contents</summary>{_links(parts)}'
        "</details></nav></header>",
        _verdicts(parts),
        *(_part(part, figures) for part in parts),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>funcreg: the lab</title>\n<style>{html.STYLE}</style>\n</head>\n<body>\n"
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


def _links(parts: Sequence[Part]) -> str:
    """The contents: every experiment under its part, with how many of its claims were confirmed."""
    items = ['<a href="#verdicts">Verdicts</a>']
    for part in parts:
        items.append(f'<b><a href="#{part.anchor}">{text(part.title)}</a></b><ul>')
        for record in part.records:
            name = text(record["name"])
            count = f'<small title="claims confirmed">{confirmed(record, "/")}</small>'
            items.append(f'<li><a href="#{name}"><span>{name}</span>{count}</a></li>')
        items.append("</ul>")
    return "".join(items)


def _verdicts(parts: Sequence[Part]) -> str:
    """The counts by part; then, by part, each experiment's first claim, and all claims on demand."""
    rows = []
    everything = [record for part in parts for record in part.records]
    for title, records in [*((part.title, part.records) for part in parts), ("All", everything)]:
        claims = [claim["confirmed"] for record in records for claim in record["claims"]]
        total = ' class="total"' if title == "All" else ""
        cells = "".join(f"<td>{cell}</td>" for cell in (len(records), len(claims), sum(claims), claims.count(False)))
        rows.append(f"<tr{total}><td>{text(title)}</td>{cells}</tr>")
    heads = ("Part", "Experiments", "Claims", "✓ held", "✗ not")
    head = "".join(f"<th>{each}</th>" for each in heads)
    counts = f'<table class="counts"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    body = []
    for part in parts:
        body.append(f'<p class="title">{text(part.title)}</p>')
        body.append(_summary(part.records, "Experiment", "First claim, and what was measured", first=True))
        every = _summary(part.records, "Experiment", "Claim, and what was measured", first=False)
        count = sum(len(record["claims"]) for record in part.records)
        body.append(f"<details><summary>All {count} claims of {text(part.title)}</summary>{every}</details>")
    return f'<section id="verdicts"><h2>Verdicts</h2>{counts}{"".join(body)}</section>'


def _summary(records: Iterable[Record], *heads: str, first: bool) -> str:
    rows = []
    for record in records:
        for position, claim in enumerate(record["claims"][: 1 if first else None]):
            link = _link(record) if position == 0 else ""
            start = ' class="first"' if position == 0 else ""
            count = f"<small>{confirmed(record)} claims confirmed</small>" if first else ""
            rows.append(
                f'<tr{start}><th scope="row">{link}</th><td>{text(claim["text"])}'
                f"<small>{text(claim['measured'])}</small></td><td>{html.pill(claim)}{count}</td></tr>"
            )
    head = "".join(f"<th>{each}</th>" for each in (*heads, "Verdict"))
    return f'<table class="summary"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _part(part: Part, figures: Path) -> str:
    articles = "\n".join(_article(record, figures) for record in part.records)
    return f'<section id="{part.anchor}"><h2>{text(part.title)}</h2>\n{articles}\n</section>'


def _article(record: Record, figures: Path) -> str:
    """One experiment: its question, data, claims, figures, tables, and all that its numbers come from."""
    name = text(record["name"])
    pictures = "".join(
        _figure(figures / Path(each["file"]).name, each["caption"]) for each in record["figures"].values()
    )
    data = "".join(f'<p class="facts"><b>Data.</b> {text(source)}</p>' for source in record["data"])
    settings = [[key, html.setting(value)] for key, value in record["settings"].items()]
    run = [
        [
            "preset",
            f"{record['preset']}, seed {record['seed']}, {record['seconds']:.1f} s on {record['hardware']['device']}",
        ],
        ["hardware", f"{machine(record)}; {record['hardware']['system']}"],
        ["versions", ", ".join(f"{each} {version}" for each, version in record["versions"].items())],
    ]
    return (
        f'<article id="{name}"><h3>{name} <span class="count">{confirmed(record)} claims confirmed</span></h3>'
        f'<p class="question">{text(record["question"])}</p>'
        f"<pre><code>{text(record['command'])}</code></pre>"
        f"{data}{html.claims(record)}{pictures}{html.tables(record)}"
        f"<details><summary>Numbers behind the claims, with n and sd</summary>{html.numbers(record)}</details>"
        f"<details><summary>Settings</summary>{html.table(['setting', 'value'], settings)}</details>"
        f"<details open><summary>Run</summary>{html.table(['', ''], run)}</details>"
        '<p class="up"><a href="#top">Back to the contents</a></p></article>'
    )


def _figure(path: Path, caption: str) -> str:
    if not path.exists():
        return f"<p>(The figure {text(path.stem)} is missing: python -m experiments report draws it.)</p>"
    return html.picture(path.read_bytes(), caption)
