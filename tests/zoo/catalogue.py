"""Every specimen by name; modules are built when they are examined."""

from tests.zoo import hand_written, of_timm, of_torchvision, of_transformers
from tests.zoo.examine import CHECKS
from tests.zoo.specimen import Specimen

_SOURCES = {
    "timm": of_timm,
    "transformers": of_transformers,
    "torchvision": of_torchvision,
    "written by hand": hand_written,
}


def catalogue() -> dict[str, Specimen]:
    """name -> Specimen."""
    return {specimen.name: specimen for source in _SOURCES.values() for specimen in source.specimens()}


def table() -> list[str]:
    """The rows of this folder's README: what is examined, and what of it is listed as refused."""
    rows = []
    for name, source in _SOURCES.items():
        specimens = source.specimens()
        refused = sum(len(specimen.refuses) for specimen in specimens)
        rows.append(f"| {name} | {len(specimens)} | {len(specimens) * len(CHECKS)} | {refused} |")
    return rows
