"""The modules that a model was made of, which its forward is not to reach: it has the copy's values, not theirs.

A copy's code looks at the copy, whatever way a layer keeps the other. What it finds by a name of its file, an
attribute of its class, or in an object that no layer holds, is the module itself: its values, which no call has lent.
"""

import threading
import weakref
from typing import Any

from torch import nn

_turn = threading.Lock()  # of the thread that notes; a model has none of its own, since it can be pickled


class Originals:
    """Modules, and their parameters and buffers, by dotted name; none is kept alive.

    >>> layer = nn.Linear(2, 2)
    >>> originals = Originals(layer)
    >>> originals.name_of(layer.weight), originals.name_of(nn.Linear(2, 2))
    ('weight', None)
    """

    def __init__(self, *modules: nn.Module) -> None:
        self.known: dict[int, tuple[str, weakref.ref[Any]]] = {}
        for module in modules:
            self.note(module)

    def note(self, module: nn.Module) -> None:
        """Add a module that the model is made of."""
        with _turn:
            self.known = {place: each for place, each in self.known.items() if each[1]() is not None}
            for named in (module.named_modules(), module.named_parameters(), module.named_buffers()):
                self.known.update((id(each), (name, weakref.ref(each))) for name, each in named)

    def name_of(self, thing: Any) -> str | None:
        """The name of a layer or tensor in a module that was noted; None for any other thing."""
        name, reference = self.known.get(id(thing), ("", None))
        return name if reference is not None and reference() is thing else None
