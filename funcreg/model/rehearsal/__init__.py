"""The first call of a kind, made once on copies, in plain torch, before it is made.

A rehearsal answers, for one mode, method and kind of arguments: which layers draw by themselves, or
move batch statistics; which of them are to be in training mode for a Monte Carlo call; whether the
call is pure. Everything is compared by value, and everything is as it was afterwards.

    runs.py        runs on copies
    differences.py whether two results are the same
    noise.py       which layers draw in training mode
    repeats.py     whether a call gives one answer for one key
    plan.py        what calls of a kind need
    backward.py    what a call leaves for the backward pass
    purity.py      who was not pure; cheap checks around later calls
    generators.py  the generators that code without a key may draw from
    snapshots.py   what layers hold beside their tensors
    originals.py   the modules that a model was made of, which its forward is not to reach
"""

import threading
from collections.abc import Iterable, Mapping, Set

from ... import _checks
from ..skeleton import Skeleton
from .differences import same_values
from .generators import GLOBAL_DRAWS, others_draw
from .noise import noise_sleeps, wake_noise
from .originals import Originals
from .plan import Plan, named, plan
from .purity import REMEDY, Impurity, Watch, shielded
from .runs import Call, Rehearsal, running_at
from .snapshots import put_back

__all__ = [
    "Call",
    "Impurity",
    "Originals",
    "Plan",
    "Watch",
    "put_back",
    "refused",
    "rehearse",
    "running_at",
    "same_values",
    "shielded",
    "sleeps",
]


def rehearse(
    skeleton: Skeleton,
    call: Call,
    buffers: Mapping[str, bool],
    originals: Originals | None = None,
    writable: Set[str] = frozenset(),
) -> Plan:
    """Run a call of a kind on copies; teach the skeleton which of its layers draw.

    Args:
        skeleton: of the call's mode.
        call: the call.
        buffers: the names of the module's buffers, and whether each is part of its state dict.
        originals: the modules that the model was made of.
        writable: the names of what comes back in the state when it was written into.

    Raises:
        FuncregError: for a draw without a key or that no key reaches, and for a noisy layer that does something
            else in training mode too; and whatever the forward raises.

    >>> import torch
    >>> from torch import nn
    >>> from funcreg.model.modes import Mode
    >>> skeleton = Skeleton(nn.ReLU(inplace=True), Mode(False, False, False), rnn="native")
    >>> rehearse(skeleton, Call({}, (torch.ones(2),), {}, None, None), {}).copies_inputs  # ReLU(1) is 1
    False
    """
    originals = originals or Originals()
    found = _look(Rehearsal(skeleton, call, buffers, originals, writable))
    if threading.active_count() > 1 and any(did in _told(found) for did in GLOBAL_DRAWS):
        again = _look(Rehearsal(skeleton, call, buffers, originals, writable, others_draw=others_draw()))
        found = found if _told(again) else again
    if isinstance(found, _checks.FuncregError):
        raise found
    return found


def sleeps(
    skeleton: Skeleton, call: Call, buffers: Mapping[str, bool], originals: Originals, writable: Set[str]
) -> bool:
    """Whether a Monte Carlo call, of a kind that was rehearsed with other shapes or numbers, has noise that is off.

    >>> from torch import nn
    >>> from funcreg.model.modes import Mode
    >>> skeleton = Skeleton(nn.Dropout(0.5), Mode(True, False, False), rnn="native")
    >>> sleeps(skeleton, Call({}, (), {}, "train", None), {}, Originals(), set())
    False
    """
    return noise_sleeps(Rehearsal(skeleton, call, buffers, originals, writable))


def _told(found: Plan | _checks.FuncregError) -> str:
    """What a look says against the call."""
    return "; ".join(map(str, found.impure)) if isinstance(found, Plan) else str(found)


def _look(rehearsal: Rehearsal) -> Plan | _checks.FuncregError:
    try:
        return _looked_at(rehearsal)
    except _checks.FuncregError as error:
        return error


def _looked_at(rehearsal: Rehearsal) -> Plan:
    skeleton = rehearsal.skeleton
    if skeleton.mode.noise and not skeleton.mode.train:
        impure = wake_noise(rehearsal)
        if rehearsal.unseen:
            return Plan(impure=named(rehearsal, [], sorted(rehearsal.unseen), evaluates=True))
        if impure:
            return Plan(impure=impure)
    return plan(rehearsal)


def refused(impure: Iterable[object], hint: str = "") -> _checks.FuncregError:
    """The error for what a call did.

    >>> raise refused(["1 (Counter) writes into 1.calls in place"])
    Traceback (most recent call last):
    funcreg._checks.FuncregError: module: got one that is not pure: 1 (Counter) writes into 1.calls in place; ...
    """
    told = "; ".join(map(str, impure))
    return _checks.FuncregError(f"module: got one that is not pure: {told}; expected a pure module. {hint}{REMEDY}")
