"""The reference of the library, made from its docstrings by pdoc: a module's map first, names that are links."""

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import funcreg as fr

from ..errors import LabError
from .html import FOLDER

_NAME = re.compile(r"(?<![\w.])(?:fr\.)?([a-z]\w*(?:\.\w+)*)")
# What Python says of the fields of every NamedTuple.
_UNTOLD = re.compile(r"<p>(?:Alias for field number \d+|Create new instance of \w+\(.*?\))</p>\s*")


def build(folder: Path) -> Path:
    """Write the pages of the whole library, and return the first.

    Raises:
        LabError: without pdoc.
    """
    try:
        import pdoc
        from pdoc import render
    except ModuleNotFoundError as error:
        raise LabError("the reference is made by pdoc: pip install -e '.[docs]'") from error
    linkify = render.env.filters["linkify"]

    def with_full_names(context: Any, code: str, *settings: Any, **named: Any) -> Any:
        """Docstrings say `fr.noise.dropout` or `noise.dropout`, as users write it."""
        told = _UNTOLD.sub("", str(code))
        full = re.sub(r"<code>[^<]+</code>", lambda found: _NAME.sub(_full_name, found[0]), told)
        return linkify(context, full, *settings, **named)

    with_full_names.jinja_pass_arg = linkify.jinja_pass_arg  # type: ignore[attr-defined]
    looks: Any = {"template_directory": FOLDER / "reference"}
    render.configure(docformat="google", show_source=False, footer_text=f"funcreg {version('funcreg')}", **looks)
    render.env.filters["linkify"] = with_full_names
    try:
        pdoc.pdoc("funcreg", "!funcreg[.][a-z]+[.]", output_directory=folder)
    finally:
        render.env.filters["linkify"] = linkify
    return folder / "funcreg.html"


def _full_name(found: re.Match[str]) -> str:
    """The name with the library's in front, if the library has it: what pdoc links."""
    value: Any = fr
    for part in found[1].split("."):
        value = getattr(value, part, None)
        if part.startswith("_") or value is None:
            return found[0]
    told = found[0].startswith("fr.") or ("." in found[1] and found[1].partition(".")[0] in fr.__all__)
    return f"funcreg.{found[1]}" if told else found[0]
