"""The report's page: one HTML file of all records, without scripts or requests."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from . import html
from .verdicts import Part, Record, tally


def page(parts: Sequence[Part], figures: Path) -> str:
    """The page of some parts' records; their pictures are read from a folder."""
    records = [record for part in parts for record in part.records]
    return html.render(
        "page.html",
        parts=parts,
        records=records,
        tally=tally(records),
        presets=_by_preset(records),
        where=_where(records),
        stand_ins=[record for record in records if any("in place of" in source for source in record["data"])],
        images=_images(records, figures),
        style=Markup((html.FOLDER / "style.css").read_text(encoding="utf-8")),
    )


def _by_preset(records: Sequence[Record]) -> dict[str, list[Record]]:
    presets = dict.fromkeys(record["preset"] for record in records)
    return {preset: [record for record in records if record["preset"] == preset] for preset in presets}


def _where(records: Sequence[Record]) -> str:
    gpus = sorted({record["hardware"]["gpu"] for record in records if record["hardware"]["gpu"]})
    return f"on {', '.join(gpus)}" if gpus else "on a CPU"


def _images(records: Sequence[Record], folder: Path) -> dict[str, html.Image | None]:
    """Each figure by its file's name; None where the file is missing."""
    files = [Path(each["file"]).name for record in records for each in record["figures"].values()]
    return {name: html.image(path.read_bytes()) if (path := folder / name).exists() else None for name in files}
