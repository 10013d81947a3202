"""A GPU that is not there: tensors compute on the CPU and say that they lie on cuda:0.

Inside `simulated_gpu()`, what is made or moved to "cuda" is tagged, and what is computed from it is
tagged in turn. As on a GPU, an operation on both devices is refused, unless it takes two tensors
element by element and the one on the CPU has shape (); so is `numpy`. What makes the CPU wait for
the GPU is counted: values read from there, and copies to there. Numbers, derivatives and transforms
are the CPU's own.
"""

import collections
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]  (it has no stub)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from funcreg.random import execution

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
# What a formula of torch's own makes, zeros for instance: a GPU's formula makes it on the GPU.
_EITHER = torch.device("cpu", 0)
# An index may lie on the CPU, though it costs a copy; a copy is between devices.
_ANYWHERE = {"aten::copy_", "aten::index", "aten::index_put", "aten::index_put_", "aten::_unsafe_index"}
_FROM_PYTHON = {torch.tensor, torch.as_tensor, torch.asarray}
_READS = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::nonzero", "aten::masked_select"}


class Devices:
    """How often a value was read from the GPU, by operator, or brought there."""

    def __init__(self) -> None:
        self.reads: collections.Counter[str] = collections.Counter()
        self.copies = 0

    def move(self, tensor: Tensor, device: torch.device) -> Tensor:
        if device == of(tensor):
            return tensor
        if device == CPU:
            self.reads["to cpu"] += 1
        self.copies += device == GPU
        return put(tensor.clone(), device)


def of(tensor: Tensor) -> torch.device:
    """Where a tensor is said to lie: its storage, whose Python object torch keeps as long as the storage, knows it."""
    return CPU if (storage := _storage(tensor)) is None else getattr(storage, "place", CPU)


def put(result: Any, device: torch.device) -> Any:
    """Say of every tensor in a result that it lies on a device."""
    for tensor in [result] if isinstance(result, Tensor) else _tensors(result):
        if (storage := _storage(tensor)) is not None:
            storage.place = device
    return result


class _Calls(TorchFunctionMode):
    """What Python asks of a tensor: its device, to move, to be made somewhere."""

    def __init__(self, devices: Devices) -> None:
        self.devices = devices

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        own = args[0] if args and isinstance(args[0], Tensor) else None
        if own is not None:
            if func in _ASKED and not own.is_meta:
                return self._asked(func, own, args, dict(kwargs or {}))
            if not kwargs:
                return func(*args)
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if device is not None:
            device = _device(device)
            kwargs["device"] = device if device.type == "meta" else CPU
        result = func(*args, **kwargs)
        self.devices.copies += device == GPU and func in _FROM_PYTHON
        if device is None and own is None and not _tensors((args, kwargs)):
            device = CPU
        return result if device is None else put(result, device)

    def _asked(self, func: Any, own: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What depends on where a tensor lies."""
        where = of(own)
        if func in _GETTERS:
            return _GETTERS[func](CPU if where == _EITHER else where)
        if func in (Tensor.numpy, Tensor.__array__) and where == GPU:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        if func in (Tensor.cpu, Tensor.cuda):
            return self.devices.move(own, CPU if func is Tensor.cpu else GPU)
        if func in _MOVES:
            return self._moved(func, own, args[1:], kwargs)
        if func is Tensor.tolist and where == GPU:
            self.devices.reads["tolist"] += 1
        if "device" in kwargs:  # of `new_tensor`
            where = _device(kwargs.pop("device"))
            self.devices.copies += where == GPU
        return put(func(*args, **kwargs), where)

    def _moved(self, func: Any, own: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """`to` and its like: its dtype first, then its device."""
        wanted = kwargs.pop("device", None)
        left = []
        for each in args:
            if isinstance(each, Tensor):
                wanted = of(each)
                left.append(each.dtype)
            elif isinstance(each, str | torch.device):
                wanted = each
            elif isinstance(each, torch.dtype):  # not None, nor whether to wait
                left.append(each)
        if wanted is not None and torch.device(wanted).type == "meta":
            return func(own, *left, **kwargs, device="meta")
        changed = put(func(own, *left, **kwargs), of(own)) if left or kwargs else own
        return changed if wanted is None else self.devices.move(changed, _device(wanted))


class _Operators(TorchDispatchMode):
    """What torch computes: where the result lies, and whether it may be computed at all."""

    def __init__(self, devices: Devices) -> None:
        super().__init__()
        self.devices = devices

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [tensor for tensor in _tensors((args, kwargs) if kwargs else args) if not tensor.is_meta]
        where = [of(tensor) for tensor in given]
        result = func(*args, **kwargs) if kwargs else func(*args)
        if GPU not in where:
            return put(result, CPU if CPU in where else _EITHER)
        name = _name(func)
        if CPU in where and name not in _ANYWHERE:
            light = all(tensor.ndim == 0 for tensor, place in zip(given, where, strict=True) if place == CPU)
            two = torch.Tag.pointwise in func.tags and (len(given) <= 2 or name == "aten::where")
            if not (light and two):
                shapes = [(place.type, tuple(tensor.shape)) for tensor, place in zip(given, where, strict=True)]
                raise RuntimeError(f"Expected all tensors to be on the same device: {name} of {shapes}")
        if name in _READS:
            self.devices.reads[name] += 1
        return put(result, where[0] if name == "aten::copy_" else GPU)


@contextmanager
def simulated_gpu() -> Iterator[Devices]:
    """A GPU for the code inside."""
    devices = Devices()
    with pytest.MonkeyPatch.context() as patch:
        # Whether it has native kernels is asked of this GPU, and of a real one again.
        patch.setattr(execution, "_native_devices", dict(execution._native_devices))
        patch.setattr(torch.cuda, "synchronize", lambda *_: None)
        patch.setattr(torch.cuda, "get_device_name", lambda *_: "simulated")
        with _Operators(devices), _Calls(devices):
            execution._native_agrees("cuda")
            devices.reads.clear()
            yield devices


_GETTERS: dict[Any, Callable[[torch.device], Any]] = {
    Tensor.device.__get__: lambda device: device,  # type: ignore[attr-defined]
    Tensor.is_cuda.__get__: lambda device: device == GPU,  # type: ignore[attr-defined]
    Tensor.is_cpu.__get__: lambda device: device == CPU,  # type: ignore[attr-defined]
}
_MOVES = {Tensor.to, torch.as_tensor, torch.asarray}
_READERS = {Tensor.numpy, Tensor.__array__, Tensor.tolist, Tensor.cpu}
_ASKED = {*_GETTERS, *_MOVES, *_READERS, Tensor.cuda, Tensor.new_tensor, Tensor.__deepcopy__}
_SEVERAL = (tuple, list, dict)
_name = functools.cache(lambda func: func._schema.name)


def _device(name: Any) -> torch.device:
    device = torch.device(name)
    return GPU if device.type == "cuda" else device


def _tensors(values: Any) -> list[Tensor]:
    """Those among an operator's arguments or results."""
    found: list[Tensor] = []
    if isinstance(values, _SEVERAL):
        for each in values.values() if isinstance(values, dict) else values:
            if isinstance(each, Tensor):
                found.append(each)
            elif isinstance(each, _SEVERAL):
                found += _tensors(each)
    return found


def _storage(tensor: Tensor) -> Any:
    """What holds a tensor's numbers, beneath the wrappers of transforms; None on the meta device."""
    while _functorch.is_functorch_wrapped_tensor(tensor):
        tensor = _functorch.get_unwrapped(tensor)
    return None if tensor.is_meta else tensor.untyped_storage()
