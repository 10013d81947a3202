"""The pieces of HTML that the report and the notebooks are made of, and the report's style sheet."""

import base64
import html
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .estimates import Estimate, number


def text(value: object) -> str:
    """Anything as text that HTML shows as it is."""
    return html.escape(str(value))


def claims(record: Mapping[str, Any]) -> str:
    """A record's claims, each with its verdict and what was measured."""
    items = (
        f"<li>{pill(claim)} <b>{text(claim['text'])}</b><br>{text(claim['measured'])}</li>"
        for claim in record["claims"]
    )
    return f'<ul class="claims">{"".join(items)}</ul>'


def pill(claim: Mapping[str, Any]) -> str:
    """A verdict: a sign and words, which tell it without the colour."""
    kind, sign = ("yes", "✓") if claim["confirmed"] else ("no", "✗")
    return f'<span class="pill {kind}">{sign}&nbsp;{claim["verdict"].replace(" ", "&nbsp;")}</span>'


def tables(record: Mapping[str, Any]) -> str:
    """A record's tables."""
    return "".join(
        f'<p class="title">{text(each["title"])}</p>{table(each["columns"], each["rows"])}' for each in record["tables"]
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows of text and numbers under their heads; wider than the page, it scrolls by itself."""
    head = "".join(f"<th>{text(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: Any) -> str:
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return f'<td class="number">{number(cell) if isinstance(cell, float) else f"{cell:,}"}</td>'
    return f"<td>{text('' if cell is None else cell)}</td>"


def picture(content: bytes, caption: str) -> str:
    """A PNG or GIF file, inside the page, with its caption."""
    is_gif = content.startswith(b"GIF")
    width, height = struct.unpack("<HH", content[6:10]) if is_gif else struct.unpack(">II", content[16:24])
    source = f"data:image/{'gif' if is_gif else 'png'};base64,{base64.b64encode(content).decode()}"
    size = f'width="{width}" height="{height}" loading="lazy" decoding="async"'
    return (
        f'<figure><div class="scroll" tabindex="0"><img src="{source}" {size} alt="{text(caption)}"></div>'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def numbers(record: Mapping[str, Any]) -> str:
    """The numbers behind each claim: mean, sd, 95% interval and n of what was estimated."""
    parts = []
    for claim in record["claims"]:
        found = list(_flat(claim["numbers"], ()))
        estimated = any(isinstance(value, Estimate) for _, value in found)
        heads = ["", "mean, or value", "sd", "95% interval", "n"] if estimated else ["", "value"]
        rows = [_row(name, value)[: len(heads)] for name, value in found]
        parts.append(f'<p class="title">{text(claim["text"])}</p>{table(heads, rows)}')
    return "".join(parts)


def _row(name: str, value: Any) -> list[Any]:
    if not isinstance(value, Estimate):
        return [name, value, None, None, None]
    if value.n == 1:
        return [name, value.mean, None, None, 1]
    return [name, value.mean, value.sd, f"{number(value.low)} to {number(value.high)}", value.n]


def _flat(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """(name, number or Estimate) of everything in a tree of numbers; long lists by their ends."""
    name = " / ".join(path).replace("_", " ")
    if isinstance(value, Mapping):
        if set(Estimate._fields) <= set(value):
            yield name or "estimate", Estimate(*(_finite(value[field]) for field in Estimate._fields))
            value = {key: each for key, each in value.items() if key not in Estimate._fields}
        for key, each in value.items():
            yield from _flat(each, (*path, str(key)))
    elif isinstance(value, list) and len(value) > 16 and all(isinstance(each, int | float) for each in value):
        yield name, f"{len(value)} numbers, {number(min(value))} to {number(max(value))}"
    elif isinstance(value, list):
        for position, each in enumerate(value, start=1):
            yield from _flat(each, (*path, str(position)))
    else:
        yield name, value


def _finite(value: Any) -> Any:
    return math.nan if value is None else value


def setting(value: Any) -> str:
    """A setting's value as text: lists and what is nested in them spelt out."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {setting(each)}" for key, each in value.items())
    if isinstance(value, list):
        nested = any(isinstance(each, Mapping) for each in value)
        return (" | " if nested else ", ").join(setting(each) for each in value)
    return str(value)


STYLE = """
:root { color-scheme: light; --ink: #1c2024; --soft: #545c64; --line: #dfe3e7; --accent: #00619a; }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", sans-serif; }
main { max-width: 56rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; min-width: 0; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .75rem; }
h3 { font-size: 1.25rem; line-height: 1.3; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h3 .count { font-size: .85rem; font-weight: 400; color: var(--soft); white-space: nowrap; margin-left: .5rem; }
section { margin-top: 3rem; padding-top: 1.5rem; border-top: 3px solid var(--ink); }
article { margin-top: 2.5rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
a { color: var(--accent); }
p { margin: .5rem 0; }
.note { border-left: 4px solid #E69F00; background: #fdf6e7; padding: .6rem .9rem; }
.question { font-size: 1.1rem; color: var(--soft); }
.facts { font-size: .92rem; }
.title { font-weight: 600; margin: 1.5rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.counts { max-width: 44rem; }
.counts td:not(:first-child), .counts th:not(:first-child) { text-align: right; white-space: nowrap; }
.counts tr.total > * { border-top: 2px solid var(--ink); font-weight: 600; }
.summary { table-layout: fixed; }
.summary th:first-child { width: 11.5rem; overflow-wrap: anywhere; }
.summary th:last-child { width: 11rem; }
.summary small { display: block; color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }
.summary tr.first:not(:first-child) > * { border-top: 2px solid var(--line); }
.claims { list-style: none; padding: 0; color: var(--soft); counter-reset: claim; }
.claims li { margin: .8rem 0; overflow-wrap: anywhere; }
.claims b { color: var(--ink); }
.pill { display: inline-block; border-radius: 1rem; padding: 0 .6rem; font-size: .82rem; font-weight: 600; }
.yes { background: #dcebf7; color: #00446c; }
.no { background: #fbe3d4; color: #8a3c00; }
pre { background: #f4f6f8; padding: .6rem .8rem; border-radius: .4rem; overflow-x: auto; font-size: .88rem; }
.scroll { overflow-x: auto; }
figure { margin: 1.75rem 0; }
img { display: block; width: 100%; min-width: 36rem; height: auto; }
figcaption, footer { color: var(--soft); font-size: .92rem; margin-top: .4rem; }
details { margin: .75rem 0; }
summary { cursor: pointer; padding: .3rem 0; color: var(--accent); }
nav ul { list-style: none; margin: .2rem 0 .8rem; padding: 0; }
nav a { display: flex; justify-content: space-between; gap: .75rem; padding: .12rem 0; text-decoration: none; }
nav b { display: block; margin-top: .5rem; }
nav small { color: var(--soft); white-space: nowrap; }
nav.side { display: none; }
.up { font-size: .9rem; }
@media (min-width: 76rem) {
  .columns { display: grid; grid-template-columns: 17rem minmax(0, 56rem); gap: 2.5rem; justify-content: center; }
  nav.side { display: block; position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1.5rem 1rem; }
  nav.side { font-size: .88rem; border-right: 1px solid var(--line); }
  nav.top, .up { display: none; }
}
@media (max-width: 40rem) {
  nav.top a { padding: .35rem 0; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  figure::before { content: "↔ scroll sideways"; color: var(--soft); font-size: .8rem; }
  .counts th:nth-child(2), .counts td:nth-child(2) { display: none; }
  .counts th, .counts td { padding-right: .4rem; }
  .summary thead { display: none; }
  .summary tr > td:last-child { display: flex; align-items: baseline; gap: .6rem; }
  .summary, .summary tbody { display: block; }
  .summary tr, .summary th, .summary td { display: block; width: auto !important; border: 0; padding: .1rem 0; }
  .summary tr { border-bottom: 1px solid var(--line); padding: .6rem 0; }
  .summary tr > th:empty { display: none; }
  .summary tr.first > * { border: 0 !important; }
}
@media print {
  nav, .up { display: none !important; }
  figure, .claims li, tr { break-inside: avoid; }
  img { min-width: 0; }
}
"""
