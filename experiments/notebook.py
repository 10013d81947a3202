"""What the notebooks call: run an experiment once, then show its claims, tables and figures.

The preset is FUNCREG_PRESET's (smoke, quick or full), else quick; the data are FUNCREG_DATA's.
"""

import os
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from . import data, plots, registry, report
from .context import Context
from .results import Result


class Run(NamedTuple):
    """An experiment that has run: its settings, its result, its module."""

    settings: Any
    result: Result
    module: Any

    def figure(self, name: str) -> "Picture":
        """One of its figures, by name."""
        with plots.style():
            return Picture(plots.png(self.module.figures(self.result)[name]))

    def claims(self) -> "Html":
        """Its claims with their verdicts."""
        return Html(report.claims(self.result.to_json()))

    def tables(self) -> "Html":
        """Its tables."""
        return Html(report.tables(self.result.to_json()))


class Html(NamedTuple):
    """What a notebook shows as HTML."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


class Picture(NamedTuple):
    """What a notebook shows as a PNG."""

    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png


def run(name: str, **changes: Any) -> Run:
    """Run an experiment by its command-line name; `changes` replace settings of the preset.

    The settings are printed, and what data it was.
    """
    module = registry.choose([name])[0].load()
    preset = module.PRESETS[os.environ.get("FUNCREG_PRESET", "quick")]
    settings = replace(preset, **changes)
    result = module.main(settings, Context(data=data.data_root()))
    print("\n".join(f"data: {source}" for source in result.data))
    print("settings:", ", ".join(f"{key} = {value}" for key, value in asdict(settings).items()))
    return Run(settings, Result.from_json(result.to_json()), module)
