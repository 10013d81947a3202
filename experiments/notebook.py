"""What the notebooks call: run an experiment once, then show its claims, tables and figures.

The preset is FUNCREG_PRESET's (smoke, quick or full; long where there is one), else quick; the data FUNCREG_DATA's.
"""

import os
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from . import data
from .errors import LabError
from .harness import registry
from .harness.context import Context
from .report import html, plots
from .report.result import Result


@dataclass(frozen=True)
class Run:
    """An experiment that has run: its settings, its result, its module."""

    settings: Any
    result: Result
    module: Any

    @cached_property
    def _figures(self) -> dict[str, Any]:
        with plots.style():
            return self.module.figures(self.result)

    def figure(self, name: str) -> "Picture | Html":
        """One of its figures, by name; one that moves comes as HTML, which every notebook shows."""
        if name not in self._figures:
            raise LabError(f"there is no figure {name!r}; there are {', '.join(self._figures)}")
        with plots.style():
            kind, content = plots.encode(self._figures[name])
        if kind == "png":
            return Picture(content)
        return Html(html.piece("picture", html.image(content), plots.caption_of(self._figures[name])))

    def claims(self) -> "Html":
        """Its claims with their verdicts."""
        return Html(html.piece("claims", self.result.to_json()))

    def tables(self) -> "Html":
        """Its tables."""
        return Html(html.piece("tables", self.result.to_json()))


class Html(NamedTuple):
    """What a notebook shows as HTML."""

    html: str

    def __repr__(self) -> str:
        return f"<HTML, {len(self.html):,} characters>"

    def _repr_html_(self) -> str:
        return self.html


class Picture(NamedTuple):
    """What a notebook shows as a PNG."""

    png: bytes

    def __repr__(self) -> str:
        return f"<PNG, {len(self.png):,} bytes>"

    def _repr_png_(self) -> bytes:
        return self.png


def run(name: str, **changes: Any) -> Run:
    """Run an experiment by its command-line name; `changes` replace settings of the preset.

    The settings are printed, and what data it was.
    """
    module = registry.choose([name])[0].load()
    preset = os.environ.get("FUNCREG_PRESET") or "quick"
    if preset not in module.PRESETS:
        raise LabError(f"FUNCREG_PRESET is {preset!r}; expected one of {', '.join(module.PRESETS)}")
    settings = replace(module.PRESETS[preset], **changes)
    result = module.main(settings, Context(data=data.data_root()))
    print("\n".join(f"data: {source}" for source in result.data))
    print("settings:", ", ".join(f"{key} = {value}" for key, value in asdict(settings).items()))
    return Run(settings, Result.from_json(result.to_json()), module)
