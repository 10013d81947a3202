"""`jit`: a whole step, sweep or Monte Carlo loop as one compiled program."""

import functools
import operator
import os
import shutil
import sys
import sysconfig
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import optree
import torch
from torch import Tensor

from . import _checks
from ._functorch import readable

P = ParamSpec("P")
R = TypeVar("R")
Result = TypeVar("Result", covariant=True)
T = TypeVar("T")

# Where a guard's name says that it looks at what nobody changes: libraries, and the inside of a Model's apply.
_FIXED = (
    *("__import_torch", "__import__('torch')", "__import_optree", "__import_funcreg", "__builtins_dict__"),
    *(".apply.", "___unnamed_scope"),
)
_IDENTITY = ".apply.identity"  # which Model it is
_recording = False


class Compiled(Protocol[P, Result]):
    """What `jit` returns: the function, and how often it was compiled."""

    compilations: int

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result: ...


def jit(function: Callable[P, R]) -> Compiled[P, R]:
    """Compile a pure function whole: `torch.compile(fullgraph=True, dynamic=False)`.

    Python numbers in the arguments become 0-dimensional tensors first, so that a new learning
    rate or step number is data, not a reason to compile again; a new shape is one. Nor is it one that
    a tensor comes twice, or as a parameter of a module; and results lie in memory as new tensors do, so
    that a state goes in as it came out. `vmap` goes inside: `jit(vmap(f))`, not `vmap(jit(f))`.

    Args:
        function: of trees of tensors and numbers; other leaves (strings, None) are passed as they are.

    Returns:
        A function of the same arguments and results, whose `compilations` says how often it was compiled.

    Raises:
        FuncregError: when function cannot be called, or this machine has no C++ compiler.

    Warns:
        UserWarning: once, when it is compiled again for fewer rows than before: a smaller last batch.

    >>> double = jit(lambda x, factor: x * factor) if can_compile() else lambda x, factor: x * factor
    >>> double(torch.ones(2), 2.0), double(torch.ones(2), 3.0)  # compiled once
    (tensor([2., 2.]), tensor([3., 3.]))
    """
    _checks.check_callable("function", function, "a pure function of tensors")
    if not can_compile():
        needed = f"a C++ compiler ({_compiler()}) and Python's headers, which torch.compile needs"
        _checks.fail("jit", "a machine without them", needed, "Install them, set CXX, or call the function as it is.")
    # Waking a second thread takes as long as a few thousand elements; torch's own limit is 512.
    options: dict[str, Any] = {"cpp.min_chunk_size": 4096}
    options["size_asserts"] = False  # the guards have looked at the arguments
    # On a CPU, channels last makes the reductions of a backward pass through batch norm stride over all channels.
    options["layout_optimization"] = torch.cuda.is_available()
    return traced(function, "inductor", options)


def traced(
    function: Callable[P, R], backend: str | Callable[..., Any], options: Mapping[str, Any] | None = None
) -> Compiled[P, R]:
    """A function that is traced whole, once, as `jit` has it, and run by any backend of `torch.compile`.

    >>> traced(lambda x: x + 1, lambda graph, inputs: graph.forward)(torch.ones(1))
    tensor([2.])
    """

    def program(*args: P.args, **kwargs: P.kwargs) -> R:
        return optree.tree_map(_whole, function(*args, **kwargs))  # type: ignore[return-value]

    # To look at all arguments at each call would take as long as a few small layers. So: always, once some were
    # unlike what a program takes; else (None) at the first call, and at the next one after compiling for new ones.
    unlike: bool | None = None
    shapes: list[list[torch.Size]] = []

    def guards(all_of: Sequence[Any]) -> list[bool]:
        nonlocal unlike
        unlike = unlike or None
        result.compilations += 1
        return _guards_that_can_fail(all_of)

    # torch counts recompilations by code object, and gives up at the ninth: each program has its own.
    program.__code__ = program.__code__.replace()
    kept: dict[str, Any] = {**(options or {}), "guard_filter_fn": guards}
    compiled: Callable[..., R] = torch.compile(program, fullgraph=True, dynamic=False, backend=backend, options=kept)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal unlike
        if compiling():
            return function(*args, **kwargs)
        given: Any = (args, kwargs)
        if unlike is not False:
            leaves, structure = optree.tree_flatten(given)
            alike = _each_once(leaves)
            unlike = unlike or alike is not leaves
            given = structure.unflatten(alike)
        made = result.compilations
        try:
            results = compiled(*given[0], **given[1])
        except Exception as error:
            if not type(error).__module__.startswith("torch._dynamo"):
                raise
            raise _explained(function, given, error) from error
        if result.compilations > made and len(shapes) < 2:
            shapes.append([leaf.shape for leaf in optree.tree_leaves(given) if isinstance(leaf, Tensor)])
            if len(shapes) == 2:
                _warn_of_fewer_rows(getattr(function, "__name__", "a function"), shapes)
        return results

    result = cast("Compiled[P, R]", call)
    result.compilations = 0
    return result


def _each_once(leaves: list[Any]) -> list[Any]:
    """Leaves as a program takes them: numbers as tensors, plain tensors for parameters, and each tensor once."""
    seen, alike = set[int](), list[Any]()
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            alike.append(as_data(leaf))
        else:
            watched = leaf.requires_grad and torch.is_grad_enabled()
            other = id(leaf) in seen or type(leaf) is torch.nn.Parameter
            alike.append(leaf.detach() if other and not watched else leaf)
        seen.add(id(leaf))
    return leaves if all(map(operator.is_, leaves, alike)) else alike


def _whole(leaf: Any) -> Any:
    """A result as it is, or copied out of a larger tensor, or from one that repeats: else it has other strides."""
    if not isinstance(leaf, Tensor) or leaf.layout != torch.strided or not leaf.numel():
        return leaf
    size = 1
    for stride, length in sorted(zip(leaf.stride(), leaf.shape, strict=True)):
        if length != 1:
            if stride != size:
                return leaf.clone(memory_format=torch.contiguous_format)
            size *= length
    return leaf


def _warn_of_fewer_rows(name: str, shapes: list[list[torch.Size]]) -> None:
    """Say that a function was compiled again for what looks like a smaller last batch."""
    first, now = shapes
    differ = [(old, new) for old, new in zip(first, now, strict=False) if old != new]
    rows = {(old[0], new[0]) for old, new in differ if old[:1] and old[1:] == new[1:] and len(old) == len(new)}
    if len(first) != len(now) or len(rows) != 1 or any(old[1:] != new[1:] for old, new in differ):
        return
    [(before, after)] = rows
    if after < before:
        warnings.warn(
            f"{name} was compiled a second time, for {after} rows after {before}: a smaller last batch? Leave it "
            f"out, or fill it up to {before} rows; each shape is a program of its own, and `compilations` counts them.",
            stacklevel=3,
        )


def _explained(function: Callable[..., Any], given: Any, error: Exception) -> Exception:
    """Why a function cannot be compiled: what the function itself raises, or else what the compiler says."""
    try:
        function(*given[0], **given[1])
    except Exception as own:
        return own
    *_, where = [line.strip() for line in str(error).splitlines() if line.lstrip().startswith("File ")] or [""]
    first = str(error).strip().splitlines()[0]
    return _checks.FuncregError(
        f"function: got one that cannot be compiled whole ({first}{f', in {where}' if where else ''}); expected one "
        "that does the same whatever the values. Call it without fr.jit (jit=False)."
    )


def compiling() -> bool:
    """Whether what runs is being made into a program: traced by `jit`, or recorded for it.

    >>> compiling()
    False
    """
    return torch.compiler.is_compiling() or _recording


def known(tensor: Tensor) -> Tensor | None:
    """A tensor's values, of all members of a vmap; None where a look would wait, or a program is being made.

    >>> known(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    return None if compiling() else readable(tensor)


@contextmanager
def recording() -> Iterator[None]:
    """While a function is recorded operator by operator, to be compiled afterwards.

    >>> with recording():
    ...     compiling()
    True
    """
    global _recording
    previous, _recording = _recording, True
    try:
        yield
    finally:
        _recording = previous


def remembered(owner: Any, kind: Hashable, make: Callable[[], T]) -> T:
    """What was made for a function and a kind of arguments before, or is now; of the last few functions.

    >>> remembered(abs, 1, lambda: "made"), remembered(abs, 1, lambda: "made again")
    ('made', 'made')
    """
    known = _known(owner)
    if kind not in known:
        known[kind] = make()
    return known[kind]


@functools.lru_cache(maxsize=16)
def _known(owner: Any) -> dict[Hashable, Any]:
    return {}


def kind_of(arguments: Any) -> Hashable:
    """All that a program depends on but values: a tree's structure, its tensors' layouts, and torch's modes.

    >>> kind_of({"x": torch.zeros(2)}) == kind_of({"x": torch.ones(2)}) != kind_of({"x": torch.ones(3)})
    True
    """
    leaves, structure = optree.tree_flatten(arguments)
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    devices = sorted({leaf.device.type for leaf in tensors if not leaf.is_meta})
    casts = [(name, torch.get_autocast_dtype(name)) for name in devices if torch.is_autocast_enabled(name)]
    kinds = (
        (leaf.shape, leaf.dtype, leaf.device, leaf.stride()) if isinstance(leaf, torch.Tensor) else type(leaf)
        for leaf in leaves
    )
    return structure, torch.is_grad_enabled(), *casts, *kinds


def can_compile() -> bool:
    """Whether this machine has what `jit` needs: a C++ compiler, and Python's headers.

    Returns:
        True where `jit` will work.

    >>> can_compile() in (True, False)
    True
    """
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return shutil.which(_compiler()) is not None and headers.exists()


def _compiler() -> str:
    return os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")


def _guards_that_can_fail(guards: Sequence[Any]) -> list[bool]:
    """Which of the conditions on a compiled program are worth a check at each call.

    Arguments, the caller's closures and globals, and which model it is, are. The insides of torch,
    optree and funcreg, and modules, which a pure function does not change, are not; checking them
    takes a third of the time of a small step.
    """
    modules = torch.compiler.skip_guard_on_all_nn_modules_unsafe(guards)
    return [
        guard.name.endswith(_IDENTITY) or (kept and not any(part in guard.name for part in _FIXED))
        for kept, guard in zip(modules, guards, strict=True)
    ]


def as_data(leaf: Any, device: torch.device | None = None) -> Any:
    """A Python number as a 0-d tensor: float64, which changes no tensor's dtype and loses no digit; on a device."""
    if isinstance(leaf, Tensor):
        return leaf if device is None else leaf.to(device)
    if not isinstance(leaf, bool | int | float):
        return leaf
    # A fill, since a copy to a GPU would wait for it.
    return torch.full((), leaf, dtype=torch.float64 if isinstance(leaf, float) else None, device=device)
