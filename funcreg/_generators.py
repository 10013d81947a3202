"""The global generators that code without a key draws from: torch's, numpy's and Python's."""

import random as python_random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_turn = threading.RLock()


def seed(number: int) -> None:
    """Seed the global generators; those of GPUs too, if they are in use.

    Args:
        number: an integer of 64 bits, of which numpy's takes the lowest 32.
    """
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)
    python_random.seed(number)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(number % 2**32)


def states() -> dict[str, Any]:
    """Where the global generators are."""
    found: dict[str, Any] = {"torch": torch.random.get_rng_state(), "python": python_random.getstate()}
    if torch.cuda.is_initialized():
        found["cuda"] = torch.cuda.get_rng_state_all()
    if "numpy" in sys.modules:
        found["numpy"] = sys.modules["numpy"].random.get_state()
    return found


def put_back(states: dict[str, Any]) -> None:
    """Put the global generators where they were."""
    torch.random.set_rng_state(states["torch"])
    python_random.setstate(states["python"])
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])
    if "numpy" in states:
        sys.modules["numpy"].random.set_state(states["numpy"])


@contextmanager
def turn() -> Iterator[None]:
    """A block that no other thread is in, since the generators are the process's.

    After a minute it is entered all the same: what another thread is waiting for may be this one.
    """
    held = _turn.acquire(timeout=60)
    try:
        yield
    finally:
        if held:
            _turn.release()


@contextmanager
def left_alone() -> Iterator[None]:
    """After the block, the global generators are where they were.

    >>> with left_alone():
    ...     seed(0)
    ...     first = torch.rand(2)
    >>> with left_alone():
    ...     seed(0)
    ...     torch.equal(torch.rand(2), first)
    True
    """
    with turn():
        before = states()
        try:
            yield
        finally:
            put_back(before)
