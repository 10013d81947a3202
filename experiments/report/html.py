"""HTML by jinja2: the templates in `templates/`, and what they call to show a record's numbers."""

import base64
import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .estimates import Estimate, number
from .verdicts import SIGNS, Record, counts, machine, summary

FOLDER = Path(__file__).parent / "templates"
_GOES_ON = re.compile(r"(\(\w\) )?(\.\.\.|It |So |That of )")  # a claim that leans on the one before


class Image(NamedTuple):
    """A PNG or GIF file as the text of a link that holds all of it, and its size in pixels."""

    source: str
    width: int
    height: int


def image(content: bytes) -> Image:
    """A PNG or GIF file, to stand inside a page."""
    is_gif = content.startswith(b"GIF")
    size = struct.unpack("<HH", content[6:10]) if is_gif else struct.unpack(">II", content[16:24])
    kind = "gif" if is_gif else "png"
    return Image(f"data:image/{kind};base64,{base64.b64encode(content).decode()}", *size)


def render(template: str, **given: Any) -> str:
    """A template of the folder with what it is given."""
    return _ENVIRONMENT.get_template(template).render(given)


def piece(name: str, *given: Any) -> str:
    """One of the pieces that records are shown by, such as `claims` or `tables`, alone."""
    return str(getattr(_ENVIRONMENT.get_template("pieces.html").module, name)(*given))


def _shown(cell: Any) -> str:
    """What stands in a table's cell."""
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return number(cell) if isinstance(cell, float) else f"{cell:,}"
    return "" if cell is None else str(cell).replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


def _numbers_behind(claim: Mapping[str, Any]) -> list[list[Any]]:
    """A claim's numbers as rows: name, mean or value, and where any is an estimate sd, interval and n."""
    found = list(_flat(claim["numbers"], ()))
    estimated = any(isinstance(value, Estimate) for _, value in found)
    return [_row(name, value)[: 5 if estimated else 2] for name, value in found]


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


def _settings(record: Record) -> list[list[str]]:
    return [[name, _setting(value)] for name, value in record["settings"].items()]


def _setting(value: Any) -> str:
    """A setting's value as text: lists and what is nested in them spelt out."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_setting(each)}" for key, each in value.items())
    if isinstance(value, list):
        nested = any(isinstance(each, Mapping) for each in value)
        return (" | " if nested else ", ").join(_setting(each) for each in value)
    return str(value)


def _leads_to(claim: Mapping[str, Any], record: Record) -> str:
    """The claim that one goes on from (It, So, That of, ...), for where it stands alone."""
    claims = list(record["claims"])
    before = claims[: claims.index(claim)]
    while before and _GOES_ON.match(claim["text"]):
        claim = before.pop()
        if not _GOES_ON.match(claim["text"]):
            return f"{claim['text']}. "
    return ""


def _having(records: Iterable[Record], verdict: str, open: bool = False) -> list[tuple[Record, Mapping[str, Any]]]:
    """The claims of one verdict, each with its record; `open`: whether more members could say more of an undecided."""
    found = ((record, claim) for record in records for claim in record["claims"])
    return [(record, claim) for record, claim in found if (claim["verdict"], claim["open"]) == (verdict, open)]


def _members(record: Record) -> str:
    """Whether more members were taken to decide the claims."""
    if "members_up_to" not in record:
        return "as many as the preset has"
    together = f"{record['members_up_to']:,}; intervals hold at all of {record['looks']} looks together"
    if record.get("at_once"):
        return f"raised, after an earlier look had left a claim undecided, at once to {together}"
    return f"raised until each claim was decided or its smallest effect of interest excluded, to at most {together}"


def _versions(record: Record) -> str:
    return ", ".join(f"{name} {version}" for name, version in record["versions"].items())


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
)
_ENVIRONMENT.filters |= {
    "counts": counts,
    "having": _having,
    "leads_to": _leads_to,
    "machine": machine,
    "members": _members,
    "numbers_behind": _numbers_behind,
    "settings": _settings,
    "shown": _shown,
    "sign": SIGNS.get,
    "summary": summary,
    "versions": _versions,
}
