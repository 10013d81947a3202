"""The report: one self-contained HTML page of all records in a folder."""

import base64
import html
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import registry
from .errors import LabError
from .estimates import number
from .results import read_record, write_atomically, write_record

NAME = "report.html"


def build(out: Path) -> Path:
    """Write the page from the records and pictures in a folder.

    Returns:
        Where it is.

    Raises:
        LabError: when the folder has no record.
    """
    records = read(out)
    if not records:
        raise LabError(f"{out} has no results. Run: python -m experiments run all --out {out}")
    path = out / NAME
    write_atomically(path, _page(records, out).encode())
    return path


def rebuild(out: Path) -> Path:
    """Draw every figure again from its JSON, then build the page."""
    from . import runner  # it imports this file

    known = registry.experiments()
    for record in read(out):
        if record["name"] not in known:
            print(f"{record['name']}: no longer an experiment; its numbers are kept", file=sys.stderr)
            continue
        try:
            record["figures"] = runner.draw(known[record["name"]], record, out)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            print(f"{record['name']}: its figures could not be drawn again ({reason}); run it again", file=sys.stderr)
            continue
        write_record(out / f"{record['name']}.json", record)
    return build(out)


def read(out: Path) -> list[dict[str, Any]]:
    """The records in a folder by name; other JSON files are passed over with a word on stderr."""
    records = []
    for path in sorted(out.glob("*.json")):
        try:
            records.append(read_record(path))
        except LabError as error:
            print(f"skipped: {error}", file=sys.stderr)
    return records


def _page(records: Sequence[dict[str, Any]], out: Path) -> str:
    claims = [claim for record in records for claim in record["claims"]]
    held = sum(claim["confirmed"] for claim in claims)
    newest = records[-1]
    machine = newest["hardware"]
    about = (
        f"{held} of {len(claims)} claims confirmed in {len(records)} experiments. A claim that did not hold is "
        "reported with its numbers. Where n members are given they trained together under one <code>vmap</code>; "
        "intervals are Student's 95%."
    )
    where = f"{machine['cpu']}, {machine['threads']} threads" + (f", {machine['gpu']}" if machine["gpu"] else "")
    versions = ", ".join(f"{name} {version}" for name, version in newest["versions"].items())
    body = [
        "<header><h1>funcreg: the lab</h1>",
        f"<p>{about}</p></header>",
        _summary(records),
        *(_section(record, out) for record in records),
        f"<footer><p>Measured on {_text(where)}. {_text(versions)}.</p></footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>funcreg: the lab</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _summary(records: Iterable[dict[str, Any]]) -> str:
    rows = []
    for record in records:
        for position, claim in enumerate(record["claims"]):
            link = f'<a href="#{record["name"]}">{_text(record["name"])}</a>' if position == 0 else ""
            first = ' class="first"' if position == 0 else ""
            rows.append(
                f'<tr{first}><th scope="row">{link}</th><td>{_text(claim["text"])}'
                f"<small>{_text(claim['measured'])}</small></td><td>{_pill(claim)}</td></tr>"
            )
    head = "<tr><th>Experiment</th><th>Claim, and what was measured</th><th>Verdict</th></tr>"
    table = f'<table class="summary"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'
    return f"<section><h2>Verdicts</h2>{table}</section>"


def _section(record: dict[str, Any], out: Path) -> str:
    name = record["name"]
    figures = "".join(_figure(out / "figures" / f"{name}-{each}.png", text) for each, text in record["figures"].items())
    settings = _table(["setting", "value"], [[key, _value(value)] for key, value in record["settings"].items()])
    data = "".join(f"<p><b>Data.</b> {_text(source)}.</p>" for source in record["data"])
    return (
        f'<section id="{name}"><h2>{_text(name)}</h2><p class="question">{_text(record["question"])}</p>{data}'
        f"<p><b>Run.</b> Preset {record['preset']}, seed {record['seed']}, {record['seconds']:.1f} s.</p>"
        f"<pre><code>{_text(record['command'])}</code></pre>{claims(record)}{figures}{tables(record)}"
        f"<details><summary>Settings</summary>{settings}</details></section>"
    )


def claims(record: Mapping[str, Any]) -> str:
    """A record's claims as HTML, each with its verdict and its numbers."""
    items = (
        f"<li>{_pill(claim)} <b>{_text(claim['text'])}</b><br>{_text(claim['measured'])}</li>"
        for claim in record["claims"]
    )
    return f'<ul class="claims">{"".join(items)}</ul>'


def tables(record: Mapping[str, Any]) -> str:
    """A record's tables as HTML."""
    return "".join(f"<h3>{_text(t['title'])}</h3>{_table(t['columns'], t['rows'])}" for t in record["tables"])


def _figure(path: Path, caption: str) -> str:
    if not path.exists():
        return f"<p>(The figure {_text(path.stem)} is missing: python -m experiments report draws it.)</p>"
    data = base64.b64encode(path.read_bytes()).decode()
    source = f"data:image/png;base64,{data}"
    return (
        f'<figure><div class="scroll"><img src="{source}" alt="{_text(caption)}"></div>'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: Any) -> str:
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return f'<td class="number">{number(cell) if isinstance(cell, float) else f"{cell:,}"}</td>'
    return f"<td>{_text('' if cell is None else str(cell))}</td>"


def _value(value: Any) -> Any:
    return ", ".join(str(each) for each in value) if isinstance(value, list) else value


def _pill(claim: dict[str, Any]) -> str:
    kind, sign = ("yes", "✓") if claim["confirmed"] else ("no", "✗")
    return f'<span class="pill {kind}">{sign}&nbsp;{claim["verdict"]}</span>'


def _text(text: str) -> str:
    return html.escape(text)


_CSS = """
:root { color-scheme: light; --ink: #1c2024; --soft: #5b636b; --line: #dfe3e7; --accent: #0072B2; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", sans-serif; }
main { max-width: 58rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.4rem; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
section { margin-top: 2.5rem; padding-top: 1.75rem; border-top: 1px solid var(--line); }
a { color: var(--accent); }
p { margin: .5rem 0; }
.question { font-size: 1.1rem; color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .7rem .4rem 0; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.summary tr.first > * { border-top: 2px solid var(--line); }
.summary th a { white-space: nowrap; }
.summary small, .claims { color: var(--soft); }
.summary small { display: block; overflow-wrap: anywhere; }
.claims { list-style: none; padding: 0; }
.claims li { margin: .7rem 0; }
.claims b { color: var(--ink); }
.pill { display: inline-block; white-space: nowrap; border-radius: 1rem; padding: 0 .6rem; }
.pill { font-size: .82rem; font-weight: 600; }
.yes { background: #d9f0e7; color: #00553e; }
.no { background: #fbe3d4; color: #8a3c00; }
pre { background: #f4f6f8; padding: .6rem .8rem; border-radius: .4rem; overflow-x: auto; font-size: .88rem; }
.scroll { overflow-x: auto; }
figure { margin: 1.5rem 0; }
img { display: block; width: 100%; min-width: 34rem; height: auto; }
figcaption, footer { color: var(--soft); font-size: .92rem; margin-top: .4rem; }
summary { cursor: pointer; margin-top: 1rem; }
@media (max-width: 40rem) {
  .summary thead { display: none; }
  .summary tr, .summary th, .summary td { display: block; border: 0; padding: .15rem 0; }
  .summary tr { border-bottom: 1px solid var(--line); padding: .6rem 0; }
  .summary tr > th:empty { display: none; }
  .summary tr.first { border-top: 2px solid var(--line); }
  .summary tr.first > * { border: 0; }
}
"""
