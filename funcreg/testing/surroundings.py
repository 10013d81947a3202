"""What is global, and a pure function leaves alone: generators, settings, the environment."""

import logging
import os
import random as python_random
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

_CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
_DAYS = 40 * 86_399  # seconds
# What importing a module may change, which is not the doing of the function that came to need it.
_BY_IMPORTS = ("the environment", "the filters of warnings", "the path of imports", "the level of the log")


class Global(NamedTuple):
    """Something global: how to read it, and how to put it back."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


@contextmanager
def put_back() -> Iterator[Callable[[], list[str]]]:
    """Everything global is as it was after the block; inside, the function says which of it changed so far.

    >>> with put_back() as changed:
    ...     _ = torch.default_generator.manual_seed(1)
    ...     changed()
    ["torch's generator"]
    """
    known = _globals()
    before, modules = {name: each.read() for name, each in known.items()}, len(sys.modules)

    def changed() -> list[str]:
        found = [name for name, each in known.items() if not _same(each.read(), before[name])]
        return [name for name in found if len(sys.modules) == modules or name not in _BY_IMPORTS]

    try:
        yield changed
    finally:
        for name in changed():
            known[name].write(before[name])


@contextmanager
def generators_elsewhere() -> Iterator[Callable[[], list[str]]]:
    """`put_back`, where the global generators stand inside the block where they hardly stood before."""
    with put_back():
        torch.default_generator.manual_seed(0x5EED)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(0x5EED)
        python_random.seed(0x5EED)
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            numpy.random.seed(0x5EED)
        with put_back() as changed:
            yield changed


@contextmanager
def clocks_ahead() -> Iterator[None]:
    """Inside the block, the functions of `time` tell a later time."""

    def ahead(clock: Callable[[], Any], by: int) -> Callable[[], Any]:
        return lambda: clock() + by

    clocks = {name: getattr(time, name) for name in _CLOCKS}
    for name, clock in clocks.items():
        setattr(time, name, ahead(clock, _DAYS * (10**9 if name.endswith("_ns") else 1)))
    try:
        yield
    finally:
        for name, clock in clocks.items():
            setattr(time, name, clock)


def _globals() -> dict[str, Global]:
    known = {
        "torch's generator": Global(torch.get_rng_state, torch.set_rng_state),
        "Python's generator": Global(python_random.getstate, python_random.setstate),
        "the default dtype": Global(torch.get_default_dtype, torch.set_default_dtype),
        "the default device": Global(torch.get_default_device, _set_default_device),
        "whether gradients are recorded": Global(torch.is_grad_enabled, torch.set_grad_enabled),
        "whether algorithms are deterministic": Global(
            torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
        ),
        "the number of threads": Global(torch.get_num_threads, torch.set_num_threads),
        "the precision of matrix products": Global(
            torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
        ),
        "whether anomalies are detected": Global(torch.is_anomaly_enabled, torch.set_anomaly_enabled),
        "whether torch warns always": Global(torch.is_warn_always_enabled, torch.set_warn_always),
        "autocast": Global(
            lambda: torch.is_autocast_enabled("cpu"), lambda enabled: torch.set_autocast_enabled("cpu", enabled)
        ),
        "cuDNN's settings": Global(_cudnn, lambda flags: torch.backends.cudnn.set_flags(**flags)),
        "attention's kernels": Global(_attention, _set_attention),
        "whether oneDNN is used": Global(
            lambda: torch.backends.mkldnn.enabled, lambda enabled: torch.backends.mkldnn.set_flags(enabled)
        ),
        "whether denormals are 0": Global(_flushes, torch.set_flush_denormal),
        "how torch prints": Global(_printing, lambda how: torch.set_printoptions(**how)),
        "the working directory": Global(os.getcwd, os.chdir),
        "the recursion limit": Global(sys.getrecursionlimit, sys.setrecursionlimit),
        "the path of imports": Global(lambda: list(sys.path), lambda path: sys.path.__setitem__(slice(None), path)),
        "the level of the log": Global(lambda: logging.getLogger().level, logging.getLogger().setLevel),
        "the environment": Global(lambda: dict(os.environ), _set_environment),
        "the filters of warnings": Global(lambda: list(warnings.filters), _set_filters),
    }
    if torch.cuda.is_initialized():
        known["CUDA's generators"] = Global(torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        known["numpy's generator"] = Global(numpy.random.get_state, numpy.random.set_state)
        known["how numpy prints"] = Global(numpy.get_printoptions, lambda how: numpy.set_printoptions(**how))
        known["numpy's handling of errors"] = Global(numpy.geterr, lambda how: numpy.seterr(**how))
    return known


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


def _cudnn() -> dict[str, bool]:
    flags = torch.backends.cudnn
    return {"_enabled": flags.enabled, "_benchmark": flags.benchmark, "_deterministic": flags.deterministic}


_KERNELS = ("flash", "mem_efficient", "math", "cudnn")


def _attention() -> dict[str, bool]:
    return {kind: getattr(torch.backends.cuda, f"{kind}_sdp_enabled")() for kind in _KERNELS}


def _set_attention(enabled: dict[str, bool]) -> None:
    for kind, each in enabled.items():
        getattr(torch.backends.cuda, f"enable_{kind}_sdp")(each)


def _flushes() -> bool:
    return not bool(torch.tensor(1e-310, dtype=torch.float64, device="cpu") * 1.0)


def _printing() -> dict[str, Any]:
    return dict(vars(vars(torch)["_tensor_str"].PRINT_OPTS))


def _set_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _set_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # pyright: ignore[reportIndexIssue]
    with warnings.catch_warnings():  # which forgets what was decided by the others
        pass


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    equal = one == other
    return bool(equal) if isinstance(equal, bool) else bool(equal.all())
