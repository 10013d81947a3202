"""Stand-ins for functions of torch's, while any thread is in a block."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class StandIns:
    """Some functions: those in the place of torch's own from when the first thread enters until the last one leaves.

    >>> import types
    >>> owner, stand_ins = types.SimpleNamespace(number=1), StandIns()
    >>> with stand_ins.standing([(owner, "number", 2), (owner, "absent", 2)]):
    ...     with stand_ins.standing([(owner, "number", 2)]):
    ...         pass
    ...     vars(owner)
    {'number': 2}
    >>> owner.number
    1
    """

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.own: list[tuple[Any, str, Any]] = []

    @contextmanager
    def standing(self, places: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
        """A block in which they stand.

        Args:
            places: (owner, attribute, what stands there); one that is not there is left out.
        """
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                there = [(owner, name, function) for owner, name, function in places if hasattr(owner, name)]
                self.own = [(owner, name, getattr(owner, name)) for owner, name, _ in there]
                _set(there)
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    _set(self.own)


def _set(places: list[tuple[Any, str, Any]]) -> None:
    for owner, name, function in places:
        setattr(owner, name, function)
