"""The modes of a call: what decides, beside its inputs, which code of a module runs."""

from collections.abc import Collection
from typing import NamedTuple


class Mode(NamedTuple):
    """Whether noise is on, whether its rates are given with the call, whether this is training, and what is not."""

    noise: bool
    rated: bool
    train: bool
    frozen: frozenset[str] = frozenset()


def within(name: str, parts: Collection[str]) -> bool:
    """Whether a layer is one of some parts, or inside of one.

    >>> within("body.0.norm", ("body",)), within("bodywork", ("body",))
    (True, False)
    """
    return any(part in ("", name) or name.startswith(f"{part}.") for part in parts)
