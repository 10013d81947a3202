"""Every specimen by name; modules are built when they are examined."""

from tests.zoo import hand_written, of_timm, of_torchvision, of_transformers
from tests.zoo.specimen import Specimen


def catalogue() -> dict[str, Specimen]:
    """name -> Specimen."""
    sources = (hand_written, of_timm, of_torchvision, of_transformers)
    return {specimen.name: specimen for source in sources for specimen in source.specimens()}
