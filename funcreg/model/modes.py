"""The modes of a call: what decides, beside its inputs, which code of a module runs."""

import itertools
from collections.abc import Collection, Iterable
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


def modes() -> Iterable[Mode]:
    """Those without a frozen part, which every model has from the start.

    >>> len(list(modes()))
    6
    """
    for (noise, rated), train in itertools.product(((False, False), (True, False), (True, True)), (False, True)):
        yield Mode(noise, rated, train)
