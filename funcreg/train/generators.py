"""What a source draws from: torch's, numpy's and Python's global generators, and a DataLoader's own.

They are seeded from a key and a number, and put back, so that a source's draws are a function of the key.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from .. import _generators, random


class Draws(AbstractContextManager[None]):
    """Inside, the global generators are those of this one; outside, everyone's.

    Args:
        own: generators that belong to a source, which are the same inside and out until it is left.
    """

    def __init__(self, own: tuple[torch.Generator, ...] = ()) -> None:
        self.own, self.state = own, None

    def seed(self, key: Tensor, number: int) -> None:
        """Begin again, inside: with the numbers of this key and number."""
        _generators.seed(int(random.bits(random.fold_in(key, number), ())))
        for place, generator in enumerate(self.own, start=1):
            generator.manual_seed(int(random.bits(random.fold_in(random.fold_in(key, number), place), ())))

    def __enter__(self) -> None:
        self.outside = self._states()
        if self.state is not None:
            self._set(self.state)

    def __exit__(self, *exception: object) -> None:
        self.state = self._states()
        self._set(self.outside)

    def _states(self) -> list[Any]:
        return [_generators.states(), [generator.get_state() for generator in self.own]]

    def _set(self, states: list[Any]) -> None:
        _generators.put_back(states[0])
        for generator, state in zip(self.own, states[1], strict=True):
            generator.set_state(state)
