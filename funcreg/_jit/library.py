"""A graph of operators as a library of machine code, in a file: torch's AOTInductor.

The name of a file says what it computes, on which machine and by which torch; its last bytes are a
digest of the name and all others.
"""

import functools
import hashlib
import os
import platform
import secrets
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .backend import vectors
from .modes import recording

Run = Callable[[list[Tensor]], list[Tensor]]

_ENDING = ".so"  # what torch loads
_SIZE = hashlib.sha256().digest_size
_READ_OUTSIDE = {"numpy", "tolist", "__array__", "__dlpack__"}


class ValuesNeeded(Exception):
    """What a function does depends on the values of tensors."""


def name_of(digest: str, options: Mapping[str, Any]) -> str:
    """The name of the file of what computes a thing here."""
    settings = (
        *(digest, torch.__version__, torch.version.git_version, _processor(), sorted(options.items())),
        *(torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()),
    )
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:32] + _ENDING


def loaded(path: Path) -> Run | None:
    """What a file computes, where it is whole, and as it was written."""
    try:
        content = path.read_bytes()
        if len(content) <= _SIZE or _seal(path, content[:-_SIZE]) != content[-_SIZE:]:
            return None
        aoti: Any = torch._C._aoti  # pyright: ignore[reportAttributeAccessIssue]  (it has no stub)
        return aoti.AOTIModelContainerRunnerCpu(str(path), 1).run
    except (OSError, RuntimeError):  # there is none, or the system refuses to load it
        return None


def written(
    path: Path, function: Callable[..., list[Tensor]], tensors: list[Tensor], options: Mapping[str, Any]
) -> Run | None:
    """Compile a function of tensors into a file; None, with a warning, where torch cannot.

    Raises:
        ValuesNeeded: when there is no one program for all values.
    """
    if not os.access(path.parent, os.W_OK):
        _not_kept(f"{path.parent} is not there any more, or cannot be written")
        return None
    try:
        content = _built(_graph(function, tensors), tensors, options)
    except ValuesNeeded:
        raise
    except Exception as error:
        _not_kept(f"{type(error).__name__}: {error}".splitlines()[0])
        return None
    try:
        _save(path, content + _seal(path, content))
    except OSError as error:  # a full disk
        _not_kept(f"{path.parent}: {error.strerror}")
        return None
    if (run := loaded(path)) is None:
        _not_kept(f"the system does not load what lies in {path.parent}")
    return run


def _not_kept(why: str) -> None:
    warnings.warn(f"torch cannot keep a program in a file ({why}): each process compiles it anew.", stacklevel=5)


def _save(path: Path, content: bytes) -> None:
    beside = path.with_name(f"{path.stem}-{secrets.token_hex(4)}.unfinished")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)  # so that a file is whole, whenever a process is killed
    finally:
        beside.unlink(missing_ok=True)


class _WithoutValues(TorchFunctionMode):
    """Refuses what hands a tensor's numbers to others, who would find none in a traced one, and say nothing."""

    @classmethod
    def around(cls, function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*tensors: Tensor) -> Any:
            with cls():
                return function(*tensors)

        return guarded

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _READ_OUTSIDE:
            raise NotImplementedError(f"of Tensor.{func.__name__}")
        return func(*args, **(kwargs or {}))


def _graph(function: Callable[..., list[Tensor]], tensors: list[Tensor]) -> torch.fx.GraphModule:
    # The compiler's modules take longer to import than torch.
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

    try:
        with recording():
            pure = torch.func.functionalize(_WithoutValues.around(function))
            return make_fx(pure, tracing_mode="fake", _allow_non_fake_inputs=True)(*tensors)
    except (DataDependentOutputException, DynamicOutputShapeException, GuardOnDataDependentSymNode) as error:
        raise ValuesNeeded(str(error)) from error


def _built(graph: torch.fx.GraphModule, tensors: list[Tensor], options: Mapping[str, Any]) -> bytes:
    import torch._inductor

    with tempfile.TemporaryDirectory() as work:
        settings = {**vectors(), **options, "aot_inductor.output_path": work}
        built = Path(str(torch._inductor.aot_compile(graph, tuple(tensors), options=settings)))
        if built.with_suffix(".json").exists():
            raise RuntimeError("it calls operators that are not torch's own")
        return built.read_bytes()


def _seal(path: Path, content: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + content).digest()


@functools.cache
def _processor() -> str:
    """What machine code is compiled for."""
    known = [platform.system(), platform.machine(), torch.backends.cpu.get_cpu_capability()]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return " ".join((*known, platform.processor()))
    return " ".join((*known, *sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})))
