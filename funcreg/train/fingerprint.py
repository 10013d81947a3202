"""What a fit is called with, in words and digests that a checkpoint can compare."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .. import tree
from ..tree.structure import entry

_WHOLE = 2**25  # bytes of a tensor that are all read; of a larger one as many, in blocks all over it
_BLOCK = 2**16


def fingerprint(argument: str, value: tree.Tree) -> dict[str, str]:
    """Each leaf's name -> its dtype, its shape, and its value or a digest of its bits and their order.

    Args:
        argument: what the names begin with.
        value: a tree of tensors.

    >>> fingerprint("hparams", {"lr": torch.tensor(0.1, dtype=torch.float64)})
    {"hparams's lr": 'float64 () 0.1'}
    """
    leaves = zip(tree.names(value), tree.leaves(value), strict=True)
    return {entry(argument, name): _described(leaf) for name, leaf in leaves}


def _described(leaf: Tensor) -> str:
    leaf = leaf.detach().resolve_conj().resolve_neg()
    kind = f"{str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}"
    if leaf.numel() <= 8:
        return f"{kind} {leaf.tolist()}"
    digest = hashlib.sha256()
    for rows in _sample(leaf):
        digest.update(rows.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"{kind} sha256:{digest.hexdigest()[:16]}"


def _sample(leaf: Tensor) -> Iterator[Tensor]:
    """Rows of a tensor: all, or where it is large some blocks of neighbours, the first and the last among them.

    Blocks lie as far apart as can be, each somewhere in its stretch, so that no period escapes.
    """
    if leaf.nbytes <= _WHOLE or leaf.ndim == 0:
        yield leaf
        return
    each = leaf.nbytes // len(leaf)
    rows = max(1, _BLOCK // each)
    blocks = max(8, min(len(leaf) // rows, _WHOLE // (rows * each)))
    if blocks * rows >= len(leaf):
        yield leaf
        return
    stretch = (len(leaf) - rows) / (blocks - 1)
    for block in range(blocks):
        shift = (block * 0.6180339887498949) % 1 if 0 < block < blocks - 1 else 0.0
        first = min(int((block + shift) * stretch), len(leaf) - rows)
        yield leaf[first : first + rows]


def compared(saved: dict[str, Any], given: dict[str, Any]) -> tuple[str, str] | None:
    """In words, the first fact that differs: what was saved, and what is given; None where none does.

    >>> compared({"epochs": 3}, {"epochs": 4}), compared({"a": 1}, {}), compared({"a": 1}, {"a": 1})
    (('with epochs = 3', 'with epochs = 4'), ('with a = 1', 'without a'), None)
    """
    for name in {**given, **saved}:
        here, there = ({name: facts[name]} if name in facts else {} for facts in (saved, given))
        if json.dumps(here) != json.dumps(there):  # as a file has them: tuples are lists
            was, now = (f"with {name} = {facts[name]}" if facts else f"without {name}" for facts in (here, there))
            return was, now
    return None
