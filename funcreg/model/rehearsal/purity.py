"""What a call does that a pure function may not: the one who did it, and cheap checks around later calls.

A write through `.data` or by `F.batch_norm` bumps no version counter, numpy's and Python's
generators tell nobody, an attribute that a forward sets is there at the next call. So a rehearsal
compares everything before and after by value; later calls are watched by what is cheap to read.
"""

import ctypes
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..._functorch import outside_transforms
from ..keyed import running
from .generators import GLOBAL, torch_states

REMEDY = (
    "Assign the buffer (self.buffer = new) instead of writing into it, draw by torch's functions or fr.random, "
    "or give the layer a pure forward with fr.register_layer."
)


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
        before = torch_states() if torch.Tag.nondeterministic_seeded in func.tags else None
        if func._schema.is_mutable:
            for argument, value in zip(func._schema.arguments, args, strict=False):
                written = argument.alias_info is not None and argument.alias_info.is_write
                if written and isinstance(value, Tensor) and value.untyped_storage().data_ptr() in self.watched:
                    target = self.watched[value.untyped_storage().data_ptr()]
                    self._add(f"writes into {target} in place", name)
        result = func(*args, **(kwargs or {}))
        # An operator that may draw need not: attention without dropout carries the tag too.
        if before is not None and before != torch_states():
            self._add(GLOBAL, name)
        return result

    def _add(self, did: str, operator: str) -> None:
        impurity = Impurity(self.labels.get(running(dict(self.names)), "the module itself"), did, operator)
        if impurity not in self.found:
            self.found.append(impurity)


def same_values(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same values, NaN included.

    >>> same_values(torch.tensor([1.0, torch.nan]), torch.tensor([1.0, torch.nan]))
    True
    """
    if one.shape != other.shape or one.dtype != other.dtype or one.layout != other.layout:
        return False
    if one.layout != torch.strided or one.is_quantized or one.is_meta:
        return True
    if torch.equal(one, other):
        return True
    return bool(((one == other) | ((one != one) & (other != other))).all())


class Watch:
    """Cheap checks around one eager call: tensors not written into, torch's global generators not advanced."""

    def __init__(self, tensors: Mapping[str, Tensor], *, but: Collection[str] = ()) -> None:
        self.versions = [
            (name, tensor, tensor._version)
            for name, tensor in tensors.items()
            if not tensor.is_inference() and name not in but
        ]
        self.generator = _generator_state()

    def broken(self) -> list[str]:
        """What was done, in words; empty when the call was pure. The generators are put back."""
        found = [f"writes into {name} in place" for name, tensor, was in self.versions if tensor._version != was]
        now = _generator_state()
        if now[0] != self.generator[0] or now[2:] != self.generator[2:]:
            torch.random.set_rng_state(self.generator[1])
            if len(self.generator) > 2:
                torch.cuda.set_rng_state(torch.frombuffer(bytearray(self.generator[2]), dtype=torch.uint8))
            found.append(GLOBAL)
        return found


def _generator_state() -> tuple[Any, ...]:
    """(the CPU's state as bytes, quicker to compare, and as a tensor; that of a GPU in use)."""
    state = torch.default_generator.get_state()
    gpu = (torch.cuda.get_rng_state().numpy().tobytes(),) if torch.cuda.is_initialized() else ()
    return ctypes.string_at(state.data_ptr(), state.numel()), state, *gpu


def shielded(call: Callable[[], Any]) -> Any:
    """Run a call outside of every transform and of every mode that sees operators.

    >>> torch.func.vmap(lambda x: x + shielded(lambda: torch.ones(()).item()))(torch.zeros(2))
    tensor([1., 1.])
    """
    from torch.utils._python_dispatch import _disable_current_modes

    with _disable_current_modes():
        return outside_transforms(call)
