"""The epochs of a fit: each is a pass over its data, or a number of steps, whatever passes they are of."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from .. import _checks


class Place(NamedTuple):
    """Where an epoch begins: in which pass, after how many of its batches; and of what kind they are, if known."""

    number: int = 0
    taken: int = 0
    kind: Any = None


class Passes(ABC):
    """Data that is gone through again and again.

    `steps`: batches of a pass, None where they are not counted before, and `length`: what there is to
    go by then. `own`: members of which each has its own batches; theirs are `taken` of what `open`
    gives. `kind`: of batches, as a checkpoint keeps it.
    """

    steps: int | None = None
    length: int | None = None
    own: int | None = None
    kind: Any = None

    @abstractmethod
    def open(self, number: int, start: int) -> Iterator[Any]:
        """The batches of a pass, from one of them on."""

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """The facts that batches depend on."""

    def drawing(self) -> AbstractContextManager[Any]:
        """Inside, batches are made."""
        return nullcontext()

    def taken(self, chosen: Any) -> Any:
        """The samples of some members' batches."""
        return chosen


class Feed:
    """Passes cut into epochs.

    Args:
        passes: over tensors, or over a source.
        steps: of an epoch. None: an epoch is a pass.
        place: where the first epoch begins.
    """

    def __init__(self, passes: Passes, steps: int | None, place: Place) -> None:
        self.passes, self.steps = passes, passes.steps if steps is None else steps
        passes.kind = place.kind
        self.number, self.taken = place.number, place.taken
        self.opened: Any = None
        self.held: list[Any] = []
        self.whole = False  # whether the epoch that was begun last has come to its end

    @property
    def length(self) -> int | None:
        """Steps of an epoch, or about so many, or None where nobody knows."""
        return self.passes.length if self.steps is None else self.steps

    @property
    def place(self) -> Place:
        """After the end of an epoch: where the next begins."""
        return Place(self.number, self.taken, self.passes.kind)

    def first(self) -> Any:
        """The batch that the next epoch will begin with."""
        with self.passes.drawing():
            if not self.held:
                self.opened = self.opened or self.passes.open(self.number, self.taken)
                self.held = list(itertools.islice(self.opened, 1))
        return self.held[0] if self.held else None

    def epoch(self) -> Generator[Any, None, None]:
        """The batches of the next epoch."""
        made, self.whole = 0, False
        with self.passes.drawing():
            while not self.whole:
                self.opened = self.opened or self.passes.open(self.number, self.taken)
                for batch in self._rest():
                    self.taken, made = self.taken + 1, made + 1
                    self.whole = made == self.steps
                    yield batch
                    if self.whole:
                        return
                if not self.taken:
                    remedy = "It is iterated once for each pass: give what can be iterated again, such as a DataLoader."
                    got = f"a source that has no batch in pass {self.number + 1}"
                    _checks.fail("data", got, "one with batches in each", remedy)
                self.number, self.taken, self.opened = self.number + 1, 0, None
                self.whole = self.steps is None

    def _rest(self) -> Iterator[Any]:
        while self.held:
            yield self.held.pop()
        # `yield from` would close the pass with the epoch.
        for batch in self.opened:  # noqa: UP028
            yield batch

    def close(self) -> None:
        """Let go of the pass that is open, and so of a source's workers."""
        if self.opened is not None:
            self.opened.close()
            self.opened = None
