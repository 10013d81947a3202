"""Passes over tensors: the samples in a new order each time, by the shuffling key and the pass's number."""

from collections.abc import Iterator
from typing import Any

import optree
import torch
from torch import Tensor

from .. import random, tree
from ..random.keys import of_members
from .feed import Passes
from .fingerprint import fingerprint

_BLOCK = 2**20  # bytes gathered at once: to gather a few small batches takes as long as one


class Shuffled(Passes):
    """Passes over a tree of tensors in batches (size, ...) on a device.

    A batch of all samples keeps their order; a last smaller one is left out.

    Args:
        data: a tree of tensors with a shared first axis.
        key: int64 (2,); the order of a pass is `random.permutation(random.fold_in(key, number), samples)`.
        size: samples a batch, at most all.
        own: None, or K members with an order each, by `random.split(key, K)`, or by their own keys where key is
            (K, 2). For these a batch is the numbers of its samples, (K, size), which `taken` turns into the
            samples of some or all.
        device: where batches go.
    """

    def __init__(self, data: tree.Tree, *, key: Tensor, size: int, own: int | None, device: torch.device) -> None:
        self.data, self.size, self.own, self.device = data, size, own, device
        self.samples = tree.members(data)
        self.steps = self.length = self.samples // size
        self.key = key.to(tree.leaves(data)[0].device)

    def open(self, number: int, start: int) -> Iterator[Any]:
        if start == self.steps:
            return
        if self.size == self.samples:
            yield tree.to(self.data, self.device)
        elif self.own is None:
            yield from self._together(self._order(self.key, number)[start * self.size :])
        else:
            keys = of_members(self.key, self.own)
            orders = torch.func.vmap(lambda key: self._order(key, number))(keys)
            yield from orders[:, start * self.size :].split(self.size, dim=1)

    def taken(self, chosen: Tensor) -> tree.Tree:
        """Some samples, on the device."""
        return tree.map(lambda leaf: leaf[chosen.to(leaf.device)].to(self.device), self.data)

    def described(self) -> dict[str, Any]:
        return {"batch_size": self.size, **fingerprint("data", self.data)}

    def _order(self, key: Tensor, number: int) -> Tensor:
        order = random.permutation(random.fold_in(key, number), self.samples)
        return order[: self.samples // self.size * self.size]

    def _together(self, order: Tensor) -> Iterator[tree.Tree]:
        """The batches of an order, as views of larger ones."""
        bytes_each = sum(leaf[:1].nbytes for leaf in tree.leaves(self.data))
        batches = max(1, _BLOCK // max(1, bytes_each * self.size))
        for chosen in order.split(batches * self.size):
            leaves, structure = optree.tree_flatten(self.taken(chosen))
            for batch in zip(*(leaf.split(self.size) for leaf in leaves), strict=True):
                yield structure.unflatten(batch)
