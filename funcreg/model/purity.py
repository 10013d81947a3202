"""What a layer does that a pure function may not: seen by running it once under a spy.

Two things cannot be made pure from outside, and are reported with the layer's name: writing
into a buffer or parameter in place, and drawing from the global generator.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

REMEDY = (
    "Assign the buffer (self.buffer = new) instead of writing into it, draw with fr.noise and a key, "
    "or give the layer a pure forward with fr.register_layer."
)


class Impurity(NamedTuple):
    """One thing that a layer did: its name and type, what it did, and the operator it did it with."""

    layer: str
    did: str
    operator: str

    def __str__(self) -> str:
        return f"{self.layer} {self.did} ({self.operator})"


class _Spy(TorchDispatchMode):
    def __init__(self, watched: Mapping[int, str]) -> None:
        super().__init__()
        self.watched = watched  # storage address -> the name of the parameter or buffer in it
        self.running: list[str] = []
        self.found: list[Impurity] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        layer = self.running[-1] if self.running else "the module"
        name = str(func)
        before = _generators() if torch.Tag.nondeterministic_seeded in func.tags else None
        if func._schema.is_mutable:
            for argument, value in zip(func._schema.arguments, args, strict=False):
                written = argument.alias_info is not None and argument.alias_info.is_write
                if written and isinstance(value, Tensor) and value.untyped_storage().data_ptr() in self.watched:
                    target = self.watched[value.untyped_storage().data_ptr()]
                    self._add(Impurity(layer, f"writes into {target} in place", name))
        result = func(*args, **(kwargs or {}))
        # An operator that may draw need not: attention without dropout carries the tag too.
        if before is not None and any(not torch.equal(a, b) for a, b in zip(before, _generators(), strict=True)):
            self._add(Impurity(layer, "draws from the global generator", name))
        return result

    def _add(self, impurity: Impurity) -> None:
        if impurity not in self.found:
            self.found.append(impurity)


def spy(module: nn.Module, tensors: Mapping[str, Tensor], call: Callable[[], Any]) -> tuple[Impurity, ...]:
    """Run a call of a module and report what it did that is impure; the global generator is put back."""
    watched = {tensor.untyped_storage().data_ptr(): name for name, tensor in tensors.items() if tensor.numel()}
    watcher = _Spy(watched)
    devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    with _tracked(module, watcher.running), torch.random.fork_rng(devices), watcher:
        call()
    return tuple(watcher.found)


@contextmanager
def _tracked(module: nn.Module, running: list[str]) -> Iterator[None]:
    """Keep the names of the modules whose forward is running, innermost last."""
    handles = []
    for name, layer in module.named_modules():
        label = f"{name or 'the module'} ({type(layer).__name__.removeprefix('Pure')})"
        handles.append(layer.register_forward_pre_hook(lambda *_, label=label: running.append(label)))
        handles.append(layer.register_forward_hook(lambda *_: (running.pop(), None)[1], always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _generators() -> list[Tensor]:
    cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else []
    return [torch.random.get_rng_state(), *cuda]


class Watch:
    """Cheap checks around one eager call: tensors not written into, the global generator not advanced."""

    def __init__(self, tensors: Mapping[str, Tensor], *, generator: bool) -> None:
        self.versions = {
            name: (tensor, tensor._version) for name, tensor in tensors.items() if not tensor.is_inference()
        }
        self.generator = _generators() if generator else None

    def broken(self) -> list[str]:
        """What was done, in words; empty when the call was pure. The generator is put back."""
        found = [
            f"writes into {name} in place" for name, (tensor, was) in self.versions.items() if tensor._version != was
        ]
        if self.generator is not None:
            now = _generators()
            if any(not torch.equal(a, b) for a, b in zip(self.generator, now, strict=False)):
                torch.random.set_rng_state(self.generator[0])
                if len(self.generator) == len(now) == 2:
                    torch.cuda.set_rng_state(self.generator[1])
                found.append("draws from the global generator")
        return found
