"""Passes over a source: anything that gives batches when it is iterated, such as a DataLoader."""

import hashlib
import inspect
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import optree
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from .. import _checks, tree
from ..tree.structure import entry
from .arrays import as_tensors
from .feed import Passes
from .fingerprint import fingerprint
from .generators import Draws
from .loader import Loader
from .step import Batch

Kind = list[list[Any]]  # of a batch: the name, dtype and shape of each leaf


def is_source(data: Any) -> bool:
    """Whether data is iterated for batches, and is no tree of tensors.

    A list of trees, such as `list(loader)`, is one of batches.

    Raises:
        FuncregError: for a data set, which gives samples, and for a function that has to be called first.

    >>> is_source(iter([torch.ones(2)])), is_source([{"x": torch.ones(2)}]), is_source([torch.ones(2)])
    (True, True, False)
    """
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        remedy = "Make batches of it: fr.train.loader(dataset, batch_size, key=key)."
        _checks.fail("data", f"a data set, which gives samples ({type(data).__name__})", "a source of batches", remedy)
    if _is_array(data) or isinstance(data, str | bytes):
        return False
    if inspect.isroutine(data):
        remedy = "Call it; one whose passes begin anew is a class with __iter__."
        _checks.fail("data", f"a function ({_checks.describe(data)})", "what it gives", remedy)
    if type(data) is list and data and all(isinstance(part, tuple | list | dict) for part in data):
        return any(map(_is_array, tree.leaves(data[0])))
    return isinstance(data, Iterable) and any(leaf is data for leaf in tree.leaves(data))


def _is_array(data: Any) -> bool:
    return isinstance(data, Tensor) or hasattr(data, "__array_interface__")


def as_batch(raw: Any) -> Any:
    """A source's batch as a tree of tensors; a pair as a `Batch`.

    Raises:
        FuncregError: for leaves that are neither tensors nor numpy's arrays, by name.

    >>> as_batch([torch.ones(1), torch.zeros(1)])
    Batch(x=tensor([1.]), y=tensor([0.]))
    """
    if type(raw) in (list, tuple) and len(raw) == 2:
        raw = Batch(*raw)
    batch = as_tensors("data", raw)
    if not tree.leaves(batch):
        _checks.fail("data", f"a batch without tensors ({_checks.describe(raw)})", "batches of tensors")
    if not all(isinstance(leaf, Tensor) for leaf in tree.leaves(batch)):
        for name, leaf in zip(tree.names(batch), tree.leaves(batch), strict=True):
            if not isinstance(leaf, Tensor):
                got = f"a batch with {_checks.describe(leaf)}"
                _checks.fail(entry("data", name), got, "tensors", "Leave it out of the batch.")
    return batch


def to_device(batch: tree.Tree, device: torch.device) -> tree.Tree:
    """A batch where it is needed; out of pinned memory without waiting.

    >>> to_device(torch.ones(1), torch.device("cpu"))
    tensor([1.])
    """
    if all(leaf.device == device for leaf in tree.leaves(batch)):
        return batch
    return tree.map(lambda leaf: leaf.to(device, non_blocking=leaf.device.type == "cpu"), batch)


def described(source: Any) -> dict[str, Any]:
    """What is known of a source before it is iterated: of a list, all.

    >>> described(iter([]))
    {'data': 'a list_iterator'}
    """
    if isinstance(source, Loader):
        return {f"data's {name}": value for name, value in source.described().items()}
    size = _length(source)
    if type(source) is list:
        digest = hashlib.sha256(repr(fingerprint("data", as_tensors("data", source))).encode()).hexdigest()
        return {"data": f"a list of {size} batches sha256:{digest[:16]}"}
    return {"data": f"a {type(source).__name__}" + ("" if size is None else f" of {size} batches")}


def check_resumable(source: Any) -> None:
    """Refuse a source that a checkpoint cannot go on with, bit by bit."""
    remedy = "Use fr.train.loader, or a DataLoader without that option."
    if getattr(source, "num_workers", 0) and getattr(source, "persistent_workers", False):
        got = "a DataLoader whose workers persist, and so draw on from where the pass before ended"
        _checks.fail("data", got, "with checkpoint, one whose passes do not depend on each other", remedy)
    if not getattr(source, "in_order", True):
        got = "a DataLoader with in_order=False, whose order depends on the pace of its workers"
        _checks.fail("data", got, "with checkpoint, one of a fixed order", remedy)


class Sourced(Passes):
    """Passes over a source, whose draws are those of the key and of the pass's number.

    Args:
        source: is iterated once for each pass; an iterator, only once.
        key: int64 (2,).
        one_shape: batches have the shape of the first, for a compiled step; a last smaller one is left out.
        device: where batches go.
    """

    def __init__(self, source: Any, *, key: Tensor, one_shape: bool, device: torch.device) -> None:
        self.source, self.key, self.one_shape, self.device = source, key, one_shape, device
        self.kind: Kind | None = None  # of the first batch, here or before a checkpoint
        self.like: Any = None  # what of each batch is compared with the first's, quickly
        self.first: Any = None  # the first batch's structure and kinds of tensors, and both in words
        self.warned = False
        self.length = _length(source)
        parts = list(_parts(source))
        own = [getattr(part, "generator", None) for part in parts]
        self.draws = Draws(tuple({id(each): each for each in own if isinstance(each, torch.Generator)}.values()))
        self.epochs = [part.set_epoch for part in parts if callable(getattr(part, "set_epoch", None))]

    def drawing(self) -> Draws:
        return self.draws

    def open(self, number: int, start: int) -> Iterator[Any]:
        self.draws.seed(self.key, number)
        for set_epoch in self.epochs:
            set_epoch(number)
        behind, smaller = start, None
        if start and inspect.isgenerator(self.source) and inspect.getgeneratorstate(self.source) != "GEN_CREATED":
            remedy = "Give a new one, whose batches before the checkpoint are read again."
            _checks.fail("data", "a generator that has begun", "one that has not, to go on from a checkpoint", remedy)
        if isinstance(self.source, Loader):  # which need not read what is behind
            batches, behind = self.source.epoch(number, start), 0
        elif number and isinstance(self.source, Iterator):
            remedy = "Give what can be iterated again, such as a DataLoader, or ask for fewer steps."
            got = f"an iterator that ended ({type(self.source).__name__})"
            _checks.fail("data", got, "a batch for each step of each epoch", remedy)
        else:
            batches = iter(self.source)
        for raw in batches:
            batch = as_batch(raw)
            if smaller is not None:
                got = f"a batch with {smaller} of another number of samples, and one after it"
                _checks.fail("data", got, "a smaller batch only as the last, for a compiled step", "Pass jit=False.")
            if self.one_shape and (smaller := self._smaller(batch)) is not None:
                continue
            self._check(batch)
            if behind:
                behind -= 1
            else:
                yield to_device(batch, self.device)

    def described(self) -> dict[str, Any]:
        return described(self.source)

    def _check(self, batch: Any) -> None:
        """Refuse a batch of another structure, dtype or number of axes than the first, or of no samples."""
        leaves, structure = optree.tree_flatten(batch)
        kinds = [(leaf.dtype, leaf.ndim) for leaf in leaves]
        if self.first is None:
            self.first = structure, kinds, _described(batch)
        elif (structure, kinds) != self.first[:2]:
            self._refuse(batch, structure, kinds)
        if not any(leaf.numel() for leaf in leaves):
            _checks.fail("data", "a batch without a sample", "at least one in each", "Leave it out.")

    def _refuse(self, batch: Any, structure: Any, kinds: Any) -> NoReturn:
        """Say what of a batch is of another kind than in the first."""
        (got, tensors), (first, like) = _described(batch), self.first[2]
        if structure != self.first[0]:
            _checks.fail("data", f"a batch of {got}", f"the tree of the first, of {first}")
        place = next(place for place, kind in enumerate(kinds) if kind != self.first[1][place])
        remedy = "Convert it in the source: lengths may differ from batch to batch, dtypes and axes may not."
        allowed = f"{like[place]}, as in the first, or of other lengths"
        _checks.fail(entry("data", tree.names(batch)[place]), f"a batch with {tensors[place]}", allowed, remedy)

    def _smaller(self, batch: Any) -> str | None:
        """None for a batch like the first; in words what makes it a smaller one; or an error."""
        leaves, structure = optree.tree_flatten(batch)
        like = (structure, [(leaf.dtype, leaf.shape) for leaf in leaves])
        if like == self.like:
            return None
        kind = [
            [name, str(leaf.dtype).removeprefix("torch."), list(leaf.shape)]
            for name, leaf in zip(tree.names(batch), leaves, strict=True)
        ]
        if self.kind is None or kind == self.kind:
            self.kind, self.like = kind, like
            return None
        found = ""
        for (name, dtype, shape), (known, known_dtype, known_shape) in zip(kind, self.kind, strict=False):
            got, first = f"{dtype} {tuple(shape)}", f"{known_dtype} {tuple(known_shape)}"
            fewer = bool(shape and known_shape) and shape[1:] == known_shape[1:] and shape[0] < known_shape[0]
            if (name, dtype) != (known, known_dtype) or not (fewer or shape == known_shape):
                remedy = "A compiled step is of one shape: pad, or pass jit=False."
                _checks.fail(f"data's {name}", f"a batch of {got}", f"{known}: {first}, as the first", remedy)
            found = found or (f"{got} where the others have {first}" if fewer else "")
        if len(kind) != len(self.kind):
            _checks.fail("data", f"a batch of {len(kind)} tensors", f"{len(self.kind)}, as the first has")
        if not self.warned:
            self.warned = True
            message = f"data: the last batch of a pass is smaller ({found}) and is left out, as the step is compiled."
            warnings.warn(f"{message} Make it so with drop_last=True, or pass jit=False.", UserWarning, stacklevel=2)
        return found


def _length(source: Any) -> int | None:
    try:
        return len(source)
    except TypeError:
        return None


def _described(batch: Any) -> tuple[str, list[str]]:
    """A batch's tree, and each of its tensors, in words."""
    return f"({', '.join(tree.names(batch))}), a {type(batch).__name__}", [*map(_checks.describe, tree.leaves(batch))]


def _parts(source: Any) -> Iterator[Any]:
    """A source, and what of a DataLoader's may have a generator, or an epoch, of its own."""
    sampler = getattr(source, "batch_sampler", None)
    parts = (source, getattr(source, "sampler", None), sampler, getattr(sampler, "sampler", None))
    yield from (part for part in (*parts, getattr(source, "dataset", None)) if part is not None)
