"""The modes of a call: what decides, beside its inputs, which code of a module runs."""

import itertools
from collections.abc import Iterable
from typing import NamedTuple


class Mode(NamedTuple):
    """Whether noise is on, whether its rates are given with the call, whether this is training, and what is not."""

    noise: bool
    rated: bool
    train: bool
    frozen: frozenset[str] = frozenset()


def modes() -> Iterable[Mode]:
    """Those without a frozen part, which every model has from the start.

    >>> len(list(modes()))
    6
    """
    for (noise, rated), train in itertools.product(((False, False), (True, False), (True, True)), (False, True)):
        yield Mode(noise, rated, train)
