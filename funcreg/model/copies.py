"""The skeletons that the calls of a module run on, one a mode.

What a call needs is lent to its skeleton, where whoever runs it finds it. So every thread has skeletons
of its own, and programs that are being traced, one at a time, have others.
"""

import threading
from typing import Any

from torch import nn

from .modes import Mode
from .rehearsal import Plan
from .skeleton import Skeleton


class Eager(threading.local):
    """Those of this thread.

    known: for a kind of call, what runs it and how. sizes: of the Monte Carlo calls that were looked at.
    """

    def __init__(self, source: nn.Module, rnn: str) -> None:
        self.source, self.rnn = source, rnn
        self.skeletons: dict[Mode, Skeleton] = {}
        self.known: dict[Any, tuple[Skeleton, Plan]] = {}
        self.sizes: set[Any] = set()

    def skeleton(self, mode: Mode) -> Skeleton:
        """That of a mode, made at its first call."""
        if mode not in self.skeletons:
            self.skeletons[mode] = self.made(mode)
        return self.skeletons[mode]

    def made(self, mode: Mode) -> Skeleton:
        """One that has seen no call."""
        return Skeleton(self.source, mode, rnn=self.rnn)


class Traced:
    """Those of programs. Each is an attribute: a trace does not see what is added to a dict meanwhile.

    plans: for a kind of call, how it is run.
    """

    def __init__(self, source: nn.Module, rnn: str) -> None:
        self.source, self.rnn = source, rnn
        self.names: dict[Mode, str] = {}
        self.plans: dict[Any, Plan] = {}

    def name(self, mode: Mode) -> str:
        """The attribute that holds a mode's, made at its first call."""
        if mode not in self.names:
            name = self.names[mode] = f"skeleton_{len(self.names)}"
            setattr(self, name, Skeleton(self.source, mode, rnn=self.rnn))
        return self.names[mode]
