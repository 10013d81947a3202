"""How many members a step takes at a time, where nobody says so: what is quickest on this machine."""

import time
from collections.abc import Callable
from typing import Any

import torch

from .. import _jit, tree
from .program import program_of
from .step import Step, TrainState

FEW = 32  # steps of a fit that are over before a measurement pays
_ROUNDS = 2
_MARGIN = 1.1  # below it a difference may be chance, and larger chunks need fewer calls


def quickest(step: Step, train_state: TrainState, batch: Any, hparams: Any, *, own: bool) -> int:
    """The size of chunk by which a step of all members takes least time, measured once for a step and its shapes.

    Args:
        step: from `make_step`; it runs as it is, not compiled, and what it gives is thrown away.
        train_state, hparams: of all members.
        batch: the members' shared one, or with `own` one for each.
    """
    device, members = train_state.step.device, len(train_state.step)

    def measured() -> int:
        program = program_of(step, batched=True, own=own, bare=hparams is None, jit=False)

        def seconds(size: int) -> float:
            stacked = (train_state, batch, hparams) if own else (train_state, hparams)
            some = tree.map(lambda leaf: leaf[:size], stacked)
            begin = clock(device)
            try:
                program(some[0], some[1] if own else batch, some[-1])
            except torch.OutOfMemoryError:
                return torch.inf
            return clock(device) - begin

        return choose(seconds, members)

    # Another choice in a second fit would compile a second program.
    kind = ("chunk size", own, torch.get_num_threads(), _jit.kind_of((train_state, batch, hparams)))
    return _jit.remembered(step, kind, measured)


def choose(seconds: Callable[[int], float], members: int) -> int:
    """The largest chunk that is about as quick as any, among about 1, 4, 16, ... and all.

    Chunks of one size leave next to none to fill up. One of each size is timed, so that a round costs
    little more than a step of all members; sizes take turns, as a machine's pace changes, and the first
    round, which warms up, does not count.

    Args:
        seconds: the time that a chunk of a size takes.
        members: K.
    """
    powers = [4**power for power in range(members.bit_length()) if 4**power < members]
    sizes = [*(-(-members // -(-members // size)) for size in powers), members]
    rounds = [[seconds(size) for size in sizes] for _ in range(1 + _ROUNDS)]
    times = {size: min(each) * -(-members // size) for size, *each in zip(sizes, *rounds[1:], strict=True)}
    return max(size for size, spent in times.items() if spent <= _MARGIN * min(times.values()))


def clock(device: torch.device) -> float:
    """Seconds, when a device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()
