"""Finds the experiments: every file of `questions/` that defines Settings, main and figures.

The files are parsed, not imported, so that `list` needs neither torch nor a second.
"""

import ast
import difflib
import functools
import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import LabError

FOLDER = Path(__file__).parents[1] / "questions"
PARTS = {
    "A": "The regularization lab",
    "B": "Toy classification",
    "C": "Normalisation, gradient flow, custom losses",
    "D": "Stopping, augmentation, images",
}
_QUESTIONS = f"{__name__.split('.')[0]}.questions"
_FIELDS = ("Part", "Command", "Runtime", "Answer")


class Experiment(NamedTuple):
    """One experiment, as its file's docstring introduces it."""

    name: str
    question: str
    part: str
    command: str
    runtime: str
    answer: str

    def seconds(self, preset: str) -> int:
        """How long a preset takes, about: 0 where its file gives no seconds."""
        found = re.search(rf"\b{preset} (?:about )?(\d+) s\b", self.runtime)
        return int(found[1]) if found else 0

    def load(self) -> Any:
        """Its module: Settings, PRESETS, main and figures."""
        return importlib.import_module(f"{_QUESTIONS}.{self.name.replace('-', '_')}")


def experiments() -> dict[str, Experiment]:
    """Every experiment by its command-line name: by part, and in alphabetical order within one.

    Raises:
        LabError: for a file that is not Python.
    """
    found = [each for path in FOLDER.glob("*.py") if (each := _read(path)) is not None]
    return {each.name: each for each in sorted(found, key=lambda each: (each.part, each.name))}


def by_part(found: Iterable[Experiment]) -> dict[str, list[Experiment]]:
    """Experiments by the letter of their part, in the parts' order."""
    each = list(found)
    return {part: some for part in PARTS if (some := [one for one in each if one.part == part])}


def choose(names: Iterable[str]) -> list[Experiment]:
    """The experiments of some names, `all` for every one; each once, in the order asked for.

    Raises:
        LabError: for an unknown name; the message has those that are close.
    """
    known = experiments()
    chosen: dict[str, Experiment] = {}
    for name in names:
        if name == "all":
            chosen.update(known)
        elif name.replace("_", "-") in known:
            chosen[name.replace("_", "-")] = known[name.replace("_", "-")]
        else:
            close = difflib.get_close_matches(name.replace("_", "-"), known, n=3, cutoff=0.4)
            hint = f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(known)}."
            raise LabError(f"there is no experiment {name!r}. {hint}")
    return list(chosen.values())


def check_preset(chosen: Iterable[Experiment], preset: str) -> None:
    """Refuse a preset that not all of them have.

    Raises:
        LabError: for those without it; the message has those with it.
    """
    without = [each.name for each in chosen if "long" not in each.runtime]
    if preset == "long" and without:
        some = ", ".join(each.name for each in experiments().values() if "long" in each.runtime)
        raise LabError(f"{', '.join(without)}: there is no preset long. It is there for {some}.")


@functools.cache
def _read(path: Path) -> Experiment | None:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise LabError(f"{path}, line {error.lineno}: {error.msg}") from None
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    if not {"Settings", "main", "figures"} <= defined:
        return None
    question, *rest = re.split(rf"\n\s*(?=(?:{'|'.join(_FIELDS)}):)", ast.get_docstring(tree) or "")
    parts = (part.partition(":") for part in rest)
    fields = {label: " ".join(text.split("\n\n")[0].split()) for label, _, text in parts}
    name = path.stem.replace("_", "-")
    return Experiment(name, " ".join(question.split()), *(fields.get(label, "") for label in _FIELDS))
