"""What all of `norm` shares: checks of vectors."""

from collections.abc import Mapping

from torch import Tensor

from .. import _checks


def check_vectors(vectors: Mapping[str, Tensor | None], shape: tuple[int, ...], what: str) -> None:
    """Refuse what is neither None nor floating-point of one shape, that of `what`."""
    for name, vector in vectors.items():
        if vector is None:
            continue
        _checks.check_floating(name, vector)
        if vector.shape != shape:
            _checks.fail(name, _checks.describe(vector), f"shape {tuple(shape)}, {what}")
