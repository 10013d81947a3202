"""The processes of one job: how they find each other, who they are, and what they tell each other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from .. import _checks

Group = Any  # dist.ProcessGroup, which some builds of torch do not have
_REMEDY = "Start the same command again: with a checkpoint it goes on from the last one written."


@contextmanager
def process_group(device: torch.device | str | None = None, *, timeout: float = 600.0) -> Iterator[torch.device]:
    """Inside, the processes that torchrun started are one group; without torchrun, there is one process.

    Args:
        device: where this rank computes. Default: the GPU of its number on this machine, or the CPU
            where there is none. It decides how ranks talk: by NCCL between GPUs, by gloo else.
        timeout: seconds, above 0, that a rank waits for the others in a step before it gives up. A
            process that ends is noticed at once.

    Yields:
        The device, for parameters and keys: `random.key(0, device=device)`.

    Raises:
        FuncregError: for bad arguments, an environment that is not torchrun's, ranks that do not
            come, and more ranks on a machine than it has GPUs.

    >>> with process_group("cpu") as device:
    ...     device, rank(), ranks()
    (device(type='cpu'), 0, 1)
    """
    if isinstance(timeout, torch.Tensor):
        _checks.fail("timeout", _checks.describe(timeout), "a Python number of seconds, above 0")
    _checks.check_number("timeout", timeout, 0.0, exclusive="low")
    here = _device(device)
    if "RANK" not in os.environ and "WORLD_SIZE" not in os.environ:
        yield here
        return
    _join(here, timeout)
    try:
        yield here
    finally:
        dist.destroy_process_group()


def rank(group: Group = None) -> int:
    """The number of this process, from 0; 0 where there is no process group.

    Args:
        group: of torch.distributed. Default: all processes.

    Returns:
        An integer, at least 0 and below `ranks(group)`.

    Raises:
        FuncregError: for what is no group.

    >>> rank()
    0
    """
    check_group(group)
    return dist.get_rank(group) if dist.is_available() and dist.is_initialized() else 0


def ranks(group: Group = None) -> int:
    """How many processes there are; 1 where there is no process group.

    Args:
        group: of torch.distributed. Default: all processes.

    Returns:
        An integer, at least 1.

    Raises:
        FuncregError: for what is no group.

    >>> ranks()
    1
    """
    check_group(group)
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def check_group(group: Any) -> None:
    """Refuse what is no group of torch.distributed's that this rank is in.

    >>> check_group(None)
    """
    if group is not None and not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        allowed = "a group of torch.distributed's that this rank is in, or None for all"
        _checks.fail("group", _checks.describe(group), allowed)


@contextmanager
def answered(group: Group) -> Iterator[None]:
    """Around what needs every rank: a FuncregError where one does not answer."""
    try:
        yield
    except RuntimeError as error:
        got = f"no answer from another rank ({str(error).splitlines()[0]})"
        remedy = f"It ended, or its machine is gone: see its own output. {_REMEDY}"
        _checks.fail(f"rank {rank(group)} of {ranks(group)}", got, "one from each", remedy)


@contextmanager
def room(group: Group, timeout: timedelta | None = None) -> Iterator[Group]:
    """The same ranks as a group that talks by gloo, on the CPU, about other things than gradients."""
    with answered(group):
        members = None if group is None else dist.get_process_group_ranks(group)
        # A name from the members alone, as the local one was before torch 2.15, finds the room before.
        own = dist.new_group(members, timeout, "gloo", use_local_synchronization=group is not None)
    try:
        yield own
    finally:
        dist.destroy_process_group(own)


def gathered(value: Any, room: Group) -> list[Any]:
    """Every rank's value."""
    values: list[Any] = [None] * ranks(room)
    with answered(room):
        dist.all_gather_object(values, value, room)
    return values


def check_alike(arguments: dict[str, Any], room: Group) -> None:
    """Refuse arguments that differ between ranks."""
    everyone = gathered(arguments, room)
    for number, other in enumerate(everyone):
        for name, value in everyone[0].items():
            if other.get(name) != value:
                got = f"{other.get(name)} on rank {number}, where rank 0 has {value}"
                remedy = "Make it the same way everywhere: from the same keys, files and settings."
                _checks.fail(name, got, "the same on every rank", remedy)


def _device(device: torch.device | str | None) -> torch.device:
    if device is not None:
        _checks.check_device("device", device)
        return torch.device(device)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= there:
        _checks.fail("LOCAL_RANK", number, f"a rank for each of {there} GPUs", f"torchrun --nproc-per-node {there}.")
    return torch.device("cuda", number)


def _join(device: torch.device, timeout: float) -> None:
    """Find the other ranks where torchrun's environment says."""
    if not dist.is_available():
        _checks.fail("process_group", "a torch without torch.distributed", "one with it", "Install another build.")
    if dist.is_initialized():
        _checks.fail("process_group", "a second one", "one at a time", "Use the one there is.")
    needed = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in needed if name not in os.environ]
    if missing:
        _checks.fail("process_group", f"no {', '.join(missing)} in the environment", "torchrun's", "Start by torchrun.")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        patience, own = timedelta(seconds=timeout), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        # Both are documented, but not listed.
        store, rank, size = next(dist.rendezvous("env://", timeout=patience))  # pyright: ignore[reportPrivateImportUsage]
        if os.environ.get("GROUP_WORLD_SIZE") == "1":
            # torchrun keeps its store when it restarts, and in it the addresses of those that are gone.
            store = dist.PrefixStore(own, store)  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=patience)
        dist.all_reduce(torch.zeros(()))  # or a rank that is done at once leaves while others still look for it
    except (RuntimeError, ValueError) as error:
        where = "{WORLD_SIZE} ranks at {MASTER_ADDR}:{MASTER_PORT}".format(**os.environ)
        _checks.fail("process_group", str(error).splitlines()[0], f"{where}, within {timeout:g} s", "Start them all.")
