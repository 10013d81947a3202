"""Members that differ in one thing only: the same weights, noise and order of data for the same seed."""

import torch
from torch import Tensor

from .. import _checks, random


def paired_keys(seeds: Tensor, *, key: Tensor) -> Tensor:
    """A key for each member, the same for members of the same seed: `fold_in(key, seed)`.

    So the arms of a sweep can be compared seed by seed: what is left of a difference is theirs. From such keys
    members start with the same weights, draw the same noise and, by `fit`'s batches="own", shuffle alike; its
    batches="shared" are the same for all members anyway.

        hparams = fr.sweep.grid(rate=[0.0, 0.5], seed=range(8))
        weights, noise = (fr.sweep.paired_keys(hparams["seed"], key=each) for each in fr.random.split(key))
        params, state = fr.model_members(model, weights, 16)
        first = fr.train.init(params, state, optimizer, key=noise, hparams=hparams, members=16)

    Args:
        seeds: integers (K,).
        key: int64 (2,).

    Returns:
        int64 (K, 2), on the key's device.

    Raises:
        FuncregError: for seeds that are not integers, or what is not one key.

    >>> keys = paired_keys(torch.tensor([0, 1, 0]), key=random.key(5))
    >>> torch.equal(keys[0], keys[2]), torch.equal(keys[:2], random.split(random.key(5), 2))
    (True, True)
    """
    _checks.check_key(key)
    _checks.check_integers("seeds", seeds)
    if seeds.ndim != 1 or not len(seeds):
        remedy = 'They are an axis of the grid: seed=range(8), then hparams["seed"].'
        _checks.fail("seeds", _checks.describe(seeds), "a tensor of integers (members,)", remedy)
    return torch.func.vmap(lambda seed: random.fold_in(key, seed))(seeds.to(key.device))
