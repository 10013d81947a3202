"""One algorithm, two executions with identical bits: PyTorch's native kernels, or tensor operations.

- *pure* (`philox.py`) runs on any torch and device, under any transform, and fuses under
  `torch.compile`.
- *native* calls the kernels behind `torch.func._random`, private and missing on older
  builds, through custom operators that know `vmap`. It is used only on a device where it
  agrees with the pure execution on a one-off check.

Eager calls are native where that is possible. Compiled ones are pure, because a fused draw
is about twice as fast, unless the program holds many: each costs some 4 s to compile, so
`compiled_draws_are("native")` is what a model with many noise layers asks for.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .. import _checks, _jit
from .._functorch import is_wrapped
from . import philox

_CHOICES = ("auto", "native", "pure")
# Before 2.13 torch cannot batch a view of other bytes.
_PACKS = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 13)
_aten: Any = torch.ops.aten
_native_devices: dict[str, bool] = {}
_forced: str = "auto"
_compiled: str = "pure"
_seen: Callable[[Tensor, int, bool], None] | None = None


def backend(device: str = "cpu") -> str:
    """The execution that eager draws use on a device: "native" or "pure", with the same bits.

    Args:
        device: as torch names it.

    Returns:
        "native" or "pure".

    Raises:
        FuncregError: when torch does not know the device.

    >>> backend() in ("native", "pure")
    True
    """
    _checks.check_device("device", device)
    if _forced != "auto":
        return _forced
    return "native" if _native_agrees(torch.device(device).type) else "pure"


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Force the execution of every draw inside the block: "auto", "native" or "pure".

    The numbers are the same; this is for tests and measurements.

    Args:
        name: "auto" is native where that agrees with pure.

    Returns:
        A context manager.

    Raises:
        FuncregError: for another name, or "native" where this build of torch has no kernels.

    >>> with use_backend("pure"):
    ...     backend()
    'pure'
    """
    global _forced
    _checks.check_choice("name", name, _CHOICES)
    if name == "native" and not _native_agrees("cpu"):
        _checks.fail("name", "'native'", "an execution that this torch has", 'Use "auto" or "pure".')
    previous, _forced = _forced, name
    try:
        yield
    finally:
        _forced = previous


class compiled_draws_are:
    """While a program is traced by `torch.compile`, draw by this execution ("pure" or "native").

    A class, because `torch.compile` traces its two methods whole; in eager code it does nothing.

    Raises:
        FuncregError: for another name.
    """

    def __init__(self, name: str) -> None:
        _checks.check_choice("name", name, ("pure", "native"))
        self.name = name
        self.previous = "pure"

    def __enter__(self) -> None:
        global _compiled
        self.previous = _compiled
        _compiled = self.name

    def __exit__(self, *exception: object) -> None:
        global _compiled
        _compiled = self.previous


@contextmanager
def watched(seen: Callable[[Tensor, int, bool], None]) -> Iterator[None]:
    """Inside the block, tell of each draw its key (..., 2), how many blocks of the stream it takes, and if for keys.

    >>> with watched(lambda key, blocks, for_keys: print(key, blocks, for_keys)):
    ...     _ = words(torch.tensor([7, 0]), (5,))
    tensor([7, 0]) 2 False
    """
    global _seen
    previous, _seen = _seen, seen
    try:
        yield
    finally:
        _seen = previous


def split(key: Tensor, num: int) -> Tensor:
    """`num` keys from one, as a (num, 2) tensor."""
    _checks.check_key(key)
    if _seen is not None:
        _seen(key, num, True)
    execution = _execution(key)
    if execution == "kernel":
        return _split_kernel(key, num)
    return _split_operator(key, num) if execution == "operator" else philox.split(key, num)


def words(key: Tensor, shape: tuple[int, ...]) -> Tensor:
    """32-bit words in an int64 tensor of the given shape."""
    _checks.check_key(key)
    if _seen is not None:
        _seen(key, _blocks(shape), False)
    execution = _execution(key)
    if execution == "kernel":
        return _words_kernel(key, shape)
    if execution == "operator":
        return _words_operator(key, shape)
    return philox.words(key, _size(shape)).reshape(shape)


def uniform(key: Tensor, shape: tuple[int, ...]) -> Tensor:
    """float32 numbers in [0, 1) of the given shape."""
    _checks.check_key(key)
    if _seen is not None:
        _seen(key, _blocks(shape), False)
    execution = _execution(key)
    if execution == "kernel":
        return _uniform_kernel(key, shape)
    if execution == "operator":
        return _uniform_operator(key, shape)
    return philox.uniform(key, _size(shape)).reshape(shape)


def kept(key: Tensor, shape: tuple[int, ...], rate: float | Tensor) -> Tensor:
    """`uniform(key, shape) >= rate`, to multiply with: bool, or int8, which is quicker to compute."""
    execution = _execution(key)
    if _PACKS and execution == "pure" and _seen is None:
        return philox.kept(key, _size(shape), rate).reshape(shape)
    return (_uniform_kernel(key, shape) if execution == "kernel" and _seen is None else uniform(key, shape)) >= rate


def by_kernel(key: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """`uniform` where it is a call of a native kernel, whose result nobody else holds, so that it may be written in."""
    if _execution(key) != "kernel":
        return None
    return _uniform_kernel(key, shape) if _seen is None else uniform(key, shape)


def each_by_kernel(keys: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """The same for several keys (n, 2): (n, *shape)."""
    if _execution(keys) != "kernel":
        return None
    if _seen is not None:
        _seen(keys, _blocks(shape), False)
    return _uniform_kernel(_aligned(keys, shape), (len(keys), *shape))


def _execution(key: Tensor) -> str:
    """ "kernel" (called directly), "operator" (the kernel as a custom operator) or "pure"."""
    if _jit.compiling():
        native = (_compiled if _forced == "auto" else _forced) == "native"
        return "operator" if native and _native_devices.get(key.device.type, False) else "pure"
    if _forced == "pure" or not _native_agrees(key.device.type):
        return "pure"
    return "operator" if is_wrapped(key) else "kernel"


def _native_agrees(device: str) -> bool:
    """Whether the native kernels exist on this kind of device and give the pure execution's bits."""
    if device not in _native_devices:
        _native_devices[device] = _agreement(device)
    return _native_devices[device]


def _agreement(device: str) -> bool:
    if not hasattr(_aten, "_philox_uniform_") or device == "meta":
        return False
    key = torch.tensor([0x0123456789ABCDEF, 0xFFFFFFFE], device=device)
    try:
        same = (
            torch.equal(_split_kernel(key, 3), philox.split(key, 3)),
            torch.equal(_words_kernel(key, (7,)), philox.words(key, 7)),
            torch.equal(_uniform_kernel(key, (7,)), philox.uniform(key, 7)),
        )
    except (RuntimeError, TypeError, AttributeError):  # no kernel for this device, or another signature
        return False
    return all(same)


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _blocks(shape: Sequence[int]) -> int:
    """How many blocks, of four words each, a draw takes."""
    return -(-_size(tuple(shape)) // 4)


# The kernels take keys (*batch, 2) for results (*batch, *shape): what vmap needs.


def _split_kernel(key: Tensor, num: int) -> Tensor:
    return _aten._philox_key_split(key.view(torch.uint64), num).view(torch.int64)


def _words_kernel(key: Tensor, shape: tuple[int, ...]) -> Tensor:
    out = torch.empty(shape, dtype=torch.int32, device=key.device)
    # A full-range int32 draw is the word itself; widening must not carry its sign along.
    return _aten._philox_randint_(out, key.view(torch.uint64), -(2**31), None).to(torch.int64) & philox.WORD


def _uniform_kernel(key: Tensor, shape: tuple[int, ...]) -> Tensor:
    out = key.new_empty(shape, dtype=torch.float32)
    return _aten._philox_uniform_.default(out, key.view(torch.uint64))


# What torch.library.custom_op makes of a function is slower, and wakes the compiler at its first call, for 2 s.
_library = torch.library.Library("funcreg", "DEF")


def _operator(schema: str, kernel: Callable[..., Tensor], fake: Callable[..., Tensor]) -> Any:
    """A kernel (key (*batch, 2), size) as an operator that `torch.compile` and `vmap` know.

    Keys carry the axis of a vmap in front, so nested ones are one call of the kernel.
    """

    def rule(info: Any, in_dims: tuple[int | None, ...], key: Tensor, size: Any) -> tuple[Tensor, int]:
        return operator(key.movedim(in_dims[0] or 0, 0), size), 0

    name = f"funcreg::{_library.define(schema, tags=torch.Tag.pt2_compliant_tag)}"
    torch.library.impl(name, "CompositeExplicitAutograd", kernel, lib=_library)
    torch.library.register_fake(name, fake, lib=_library)
    torch.library.register_vmap(name, rule, lib=_library)
    operator = getattr(torch.ops.funcreg, name.removeprefix("funcreg::")).default
    return operator


def _aligned(key: Tensor, shape: Sequence[int]) -> Tensor:
    """Keys (*batch, 2) as (*batch, 1, ..., 1, 2), one axis for each of a member's own."""
    return key.contiguous().reshape(*key.shape[:-1], *(1 for _ in shape), 2)


_split_operator = _operator(
    "philox_split(Tensor key, int num) -> Tensor",
    lambda key, num: _split_kernel(key.contiguous(), num).movedim(0, -2).contiguous(),
    lambda key, num: key.new_empty((*key.shape[:-1], num, 2)),
)
_words_operator = _operator(
    "philox_words(Tensor key, int[] shape) -> Tensor",
    lambda key, shape: _words_kernel(_aligned(key, shape), (*key.shape[:-1], *shape)),
    lambda key, shape: key.new_empty((*key.shape[:-1], *shape)),
)
_uniform_operator = _operator(
    "philox_uniform(Tensor key, int[] shape) -> Tensor",
    lambda key, shape: _uniform_kernel(_aligned(key, shape), (*key.shape[:-1], *shape)),
    lambda key, shape: key.new_empty((*key.shape[:-1], *shape), dtype=torch.float32),
)

_native_agrees("cpu")  # settled here, since a compiled program cannot run the check while it is traced
