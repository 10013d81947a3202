"""Activation checkpointing, which a pure call goes without.

A checkpointed part runs again in the backward pass, after the call has returned: a module that has
been lent its tensors has none by then, and keys have moved on. It saves memory and changes no
number, so during a call `torch.utils.checkpoint` runs the part once, as if it were not there.
"""

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .standing import StandIns


class _Once:
    """In the place of the reentrant checkpoint's autograd function."""

    @staticmethod
    def apply(function: Any, preserve: Any, *args: Any) -> Any:
        return function(*args)


def _once(*args: Any, **kwargs: Any) -> Generator[None, None, None]:
    """In the place of the other's generator, which is advanced before and after the part runs."""
    yield


# The second's name is one of two, by torch's version.
_STAND_INS = {
    "CheckpointFunction": _Once,
    "_checkpoint_without_reentrant_generator": _once,
    "_checkpoint_without_reentrant_generator_impl": _once,
}


_stand_ins = StandIns()


def without_checkpoints() -> AbstractContextManager[None]:
    """Run what is checkpointed inside the block once, and keep what its gradient needs: other threads', too."""
    module = sys.modules.get("torch.utils.checkpoint")
    if module is None:  # nobody has imported it
        return nullcontext()
    return _stand_ins.standing([(module, name, function) for name, function in _STAND_INS.items()])
