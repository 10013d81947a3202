"""Every specimen by name, built when it is asked for."""

from collections.abc import Callable

from tests.zoo.specimen import Specimen


def catalogue() -> dict[str, Callable[[], Specimen]]:
    """name -> () -> Specimen."""
    from tests.zoo import hand_written, of_timm, of_torchvision, of_transformers

    found: dict[str, Callable[[], Specimen]] = {}
    for source in (hand_written, of_timm, of_torchvision, of_transformers):
        for specimen in source.specimens():
            found[specimen.name] = lambda specimen=specimen: specimen
    return found
