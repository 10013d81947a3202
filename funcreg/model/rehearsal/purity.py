"""What a call does that a pure function may not: the one who did it, and cheap checks around later calls.

A write through `.data` or by `F.batch_norm` bumps no version counter, numpy's and Python's
generators tell nobody, an attribute that a forward sets is there at the next call. So a rehearsal
compares everything before and after by value; later calls are watched by what is cheap to read.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ... import _generators
from ..._functorch import outside_transforms
from ..keyed import running
from .generators import GLOBAL, comparable

REMEDY = (
    "Keep what a forward moves in buffers, draw by torch's functions or fr.random, or give the layer a pure forward "
    "with fr.register_layer."
)


_version = attrgetter("_version")
_state = torch.default_generator.get_state
_STATE_SIZE = _state().numel()
# torch.equal takes seven times as long.
_differ = ctypes.PyDLL(None if os.name == "posix" else "msvcrt").memcmp
_differ.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class Impurity(NamedTuple):
    """One thing that a layer did: its name and type, what it did, and the operator it did it with."""

    layer: str
    did: str
    operator: str

    def __str__(self) -> str:
        return f"{self.layer} {self.did}" + (f" ({self.operator})" if self.operator else "")


class Spy(TorchDispatchMode):
    """Writes down which layer writes into a watched tensor or draws from torch's global generator, by which operator.

    Args:
        watched: storage address -> the name of the tensor in it.
        names: id -> dotted name of the layers; labels: the name -> what messages call it.
    """

    def __init__(self, watched: Mapping[int, str], names: Mapping[int, str], labels: Mapping[str, str]) -> None:
        super().__init__()
        self.watched, self.names, self.labels = watched, names, labels
        self.found: list[Impurity] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """To keep the compiler away torch would import it; nothing is compiled here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        before = _states() if torch.Tag.nondeterministic_seeded in func.tags else None
        if func._schema.is_mutable:
            for argument, value in zip(func._schema.arguments, args, strict=False):
                written = argument.alias_info is not None and argument.alias_info.is_write
                if written and isinstance(value, Tensor) and value.untyped_storage().data_ptr() in self.watched:
                    target = self.watched[value.untyped_storage().data_ptr()]
                    self._add(f"writes into {target} in place", name)
        result = func(*args, **(kwargs or {}))
        # An operator that may draw need not: attention without dropout carries the tag too.
        if before is not None and before != _states():
            self._add(GLOBAL, name)
        return result

    def _add(self, did: str, operator: str) -> None:
        impurity = Impurity(self.labels.get(running(dict(self.names)), "the module itself"), did, operator)
        if impurity not in self.found:
            self.found.append(impurity)


class Watch:
    """Cheap checks around one eager call: tensors not written into, torch's global generators not advanced.

    generators: whether these are looked at, which takes 4 microseconds.
    """

    __slots__ = ("cpu", "generators", "gpus", "tensors", "versions")

    def __init__(self, tensors: list[Tensor], generators: bool = True) -> None:
        self.tensors, self.versions, self.generators = tensors, versions(tensors), generators
        if generators:
            self.cpu, self.gpus = _state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None

    def unbroken(self) -> bool:
        """Whether nothing has changed."""
        if versions(self.tensors) != self.versions:
            return False
        return not self.generators or (self.gpus is None and not self._drew())

    def _drew(self) -> bool:
        cpu = _state()  # held while it is compared
        return bool(_differ(cpu.data_ptr(), self.cpu.data_ptr(), _STATE_SIZE))

    def broken(self, names: Iterable[str], elsewhere: Callable[[], bool]) -> Sequence[str]:
        """What was done, in words; empty when the call was pure. The generators are put back.

        Args:
            names: of the tensors.
            elsewhere: asked, where there are other threads, whether it was one of them that drew.
        """
        every = zip(names, self.versions, versions(self.tensors), strict=False)  # what was lent later follows
        found = [f"writes into {name} in place" for name, before, after in every if before != after]
        if not self.generators:
            return found
        if self._drew() and not (threading.active_count() > 1 and elsewhere()):
            torch.random.set_rng_state(self.cpu)
            found.append(GLOBAL)
        if self.gpus is not None and not all(map(torch.equal, self.gpus, torch.cuda.get_rng_state_all())):
            torch.cuda.set_rng_state_all(self.gpus)
            found.append(f"{GLOBAL} of a GPU")
        return found


def _states() -> Any:
    return comparable(_generators.states())


def versions(tensors: Collection[Tensor]) -> list[int]:
    """How often each was written into; those of inference mode do not count.

    >>> versions([torch.zeros(1).add_(1), torch.zeros(1)])
    [1, 0]
    """
    try:
        return list(map(_version, tensors))
    except RuntimeError:
        return [0 if tensor.is_inference() else tensor._version for tensor in tensors]


def shielded(call: Callable[[], Any]) -> Any:
    """Run a call outside of every transform and of every mode that sees operators, one thread at a time.

    >>> torch.func.vmap(lambda x: x + shielded(lambda: torch.ones(()).item()))(torch.zeros(2))
    tensor([1., 1.])
    """
    from torch.utils._python_dispatch import _disable_current_modes

    with _generators.turn(), _disable_current_modes():
        return outside_transforms(call)
