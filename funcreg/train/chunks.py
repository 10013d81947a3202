"""K members in chunks of one size, one after the other: memory for a chunk's work, not for everyone's."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import torch

from .. import _checks, tree
from .step import Metrics, Step


class Chunks:
    """Which members are in which chunk.

    Chunks have one size, so that a program is compiled once: the last is filled up with repeats of
    the last member, which are dropped again. One model, and members all at once, are no chunks:
    they stay the tree that they are.

    Args:
        members: K, or None for one model.
        chunk_size: members in a chunk. None, and where it is not below K: all.

    Raises:
        FuncregError: for a chunk_size that is no positive integer, or without members.
    """

    def __init__(self, members: int | None, chunk_size: int | None) -> None:
        self.rows, self.spare = (), 0
        self.shape = () if members is None else (members,)  # the leading axis of what runs at once
        self.size = members or 1
        if chunk_size is None:
            return
        _checks.check_count("chunk_size", chunk_size)
        if members is None:
            _checks.fail("chunk_size", f"{chunk_size} for one model", "none given", "Pass members=K for K models.")
        if chunk_size < members:
            self.shape, self.size, self.spare = (chunk_size,), chunk_size, -members % chunk_size
            self.rows = torch.arange(members + self.spare).clamp_max(members - 1).split(chunk_size)

    def split(self, stacked: tree.Tree) -> Any:
        """The chunks of a stacked tree, a list."""
        return [tree.index((stacked,), rows)[0] for rows in self.rows] if self.rows else stacked

    def each(self, function: Callable[[Any], Any], parts: Any) -> Any:
        """A function of each chunk."""
        return [function(part) for part in parts] if self.rows else function(parts)

    def lazily(self, function: Callable[[Any], Any], stacked: tree.Tree) -> Any:
        """A function of each chunk of a stacked tree, taken when its turn comes."""
        return map(function, self.split(stacked)) if self.rows else function(stacked)

    def repeated(self, value: Any) -> Any:
        """One value for every chunk."""
        return itertools.repeat(value) if self.rows else value

    def join(self, parts: Any) -> tree.Tree:
        """The stacked tree of some chunks."""
        if not self.rows:
            return parts
        *full, last = parts
        last = tree.map(lambda leaf: leaf[: len(leaf) - self.spare], last)
        return tree.map(lambda *leaves: torch.cat(leaves), *full, last)

    def over(self, program: Step) -> Step:
        """A program that takes chunks of the train state and of hparams, and an iterable of their batches."""
        if not self.rows:
            return program

        def programs(parts: list[Any], batches: Iterable[Any], hparams: list[Any]) -> tuple[Any, Metrics]:
            metrics: list[Metrics] = []
            for place, batch in zip(range(len(parts)), batches, strict=False):
                # In place: a chunk's last state is gone before the next chunk's new one comes.
                parts[place], measured = program(parts[place], batch, hparams[place])
                metrics.append(measured)
            return parts, self.join(metrics)

        return programs
