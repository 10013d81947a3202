"""Arms x seeds as the members of one fit: arms differ in their settings, seeds in all that is drawn.

Seed s starts from the same weights in every arm, so that arms can be compared seed by seed. Member
number arm * seeds + seed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import funcreg as fr


@dataclass(frozen=True)
class Arms:
    """The settings of each arm, by its name, with the same settings named in all; and the seeds of each."""

    settings: Mapping[str, Mapping[str, float]]
    seeds: int

    @property
    def names(self) -> list[str]:
        """Of the arms, in order."""
        return list(self.settings)

    @property
    def members(self) -> int:
        """Arms x seeds."""
        return len(self.settings) * self.seeds

    def hparams(self, device: torch.device | None = None) -> dict[str, Tensor]:
        """Each setting as a tensor (members,), and `seed`, the number of a member's seed."""
        first = next(iter(self.settings.values()))
        arms = self.settings.values()
        columns = {name: torch.tensor([arm[name] for arm in arms], dtype=torch.float64) for name in first}
        hparams = {name: column.repeat_interleave(self.seeds) for name, column in columns.items()}
        return fr.tree.to({**hparams, "seed": torch.arange(self.seeds).repeat(len(self.settings))}, device or "cpu")

    def start(
        self, model: fr.Model, optimizer: Any, *, key: Tensor, device: torch.device | None = None
    ) -> fr.train.TrainState:
        """A train state of all members: of one seed, the same weights in every arm.

        Args:
            key: int64 (2,); or two, (2, 2): one of the first weights, one of what is drawn in training.
        """
        init_key, train_key = fr.random.split(key) if key.ndim == 1 else key
        hparams = self.hparams(device)
        weights = fr.sweep.paired_keys(hparams["seed"], key=init_key)
        params, state = fr.tree.to(fr.model_members(model, weights, self.members), device or "cpu")
        return fr.train.init(params, state, optimizer, key=train_key, hparams=hparams, members=self.members)

    def by_arm(self, values: Tensor) -> Tensor:
        """Members' numbers by arm: (members, ...) -> (arms, seeds, ...)."""
        return values.reshape(len(self.settings), self.seeds, *values.shape[1:])

    def curves(self, history: Tensor) -> Tensor:
        """A metric of a fit's history by arm: (epochs, members) -> (arms, seeds, epochs), in float32."""
        return self.by_arm(history.float().T)


def own(everyone: Any, seed: Tensor) -> Any:
    """A member's own samples out of everyone's: leaves (samples, seeds, ...) -> (samples, ...), inside `vmap`."""
    return fr.tree.map(lambda leaf: leaf.index_select(1, seed.reshape(1)).squeeze(1), everyone)
