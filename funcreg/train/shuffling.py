"""The batches of an epoch: the samples in a new order, by the shuffling key and the epoch's number."""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .. import random, tree
from .chunks import Chunks


def shuffled(
    data: tree.Tree, *, key: Tensor, epoch: int, size: int, own: int | None, chunks: Chunks, device: torch.device
) -> Iterator[Any]:
    """The batches of an epoch, (size, ...), on a device.

    A batch of all samples keeps their order; a last smaller one is left out. Where each of `own`
    members has an order of its own, a batch is (members, size, ...). For chunks it is an iterable
    of a batch for each: of one and the same, or of those of their members, made when their turn comes.
    """
    samples = tree.members(data)
    if size == samples:
        batch = tree.to(data, device)
        yield itertools.repeat(batch) if chunks.rows else batch
        return
    key = key.to(tree.leaves(data)[0].device)

    def order_by(key: Tensor) -> Tensor:
        return random.permutation(random.fold_in(key, epoch), samples)

    def taken(chosen: Tensor) -> tree.Tree:
        return tree.map(lambda leaf: leaf[chosen.to(leaf.device)].to(device), data)

    order = order_by(key) if own is None else torch.func.vmap(order_by)(random.split(key, own))
    for first in range(0, samples - size + 1, size):
        chosen = order[..., first : first + size]
        if own is None or not chunks.rows:
            batch = taken(chosen)
            yield itertools.repeat(batch) if chunks.rows else batch
        else:
            yield map(taken, chunks.split(chosen))
