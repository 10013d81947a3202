"""`loader`: a `torch.utils.data.DataLoader` whose every draw comes from a key."""

from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from .. import _checks, _generators, random
from .generators import Draws

_OURS = ("batch_size", "sampler", "batch_sampler", "num_workers", "collate_fn", "generator")
_SEEDS = 2**32 - 1  # folded into the key, for a key of its own


class Loader:
    """Batches of a data set, pass after pass; see `loader`."""

    def __init__(
        self, dataset: Any, batch_size: int, *, key: Tensor, shuffle: bool, drop_last: bool, options: dict[str, Any]
    ) -> None:
        self.samples, self.batch_size = len(dataset), batch_size
        self.key, self.shuffle, self.drop_last = key.cpu(), shuffle, drop_last
        collate = options.pop("collate", None) or default_collate
        self.order = _Order()
        self.batches = DataLoader(
            _Batches(dataset, collate),
            batch_size=None,
            sampler=self.order,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # of the workers' seeds, which each batch replaces by its own
            num_workers=options.pop("workers"),
            **options,
        )

    def __len__(self) -> int:
        whole, rest = divmod(self.samples, self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        return self.epoch(0)

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """The batches of a pass, each by its number alone; from one of them on."""
        _checks.check_count("number", number, 0)
        _checks.check_count("start", start, 0)
        order = list(range(self.samples))
        if self.shuffle:
            order = random.permutation(random.fold_in(self.key, number), self.samples).tolist()
        batches = [order[first : first + self.batch_size] for first in range(0, self.samples, self.batch_size)]
        seeds = random.bits(random.fold_in(random.fold_in(self.key, _SEEDS), number), (len(batches),)).tolist()
        self.order.batches = list(zip(seeds, batches, strict=True))[start : len(self)]
        return iter(self.batches)

    def described(self) -> dict[str, Any]:
        """What its batches depend on, beside the data set."""
        settings = {"samples": self.samples, "batch_size": self.batch_size, "shuffle": self.shuffle}
        return settings | {"drop_last": self.drop_last, "key": self.key.tolist()}


def loader(
    dataset: Any,
    batch_size: int,
    *,
    key: Tensor,
    workers: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    collate: Callable[[list[Any]], Any] | None = None,
    **options: Any,
) -> Loader:
    """Batches of a data set that need not fit in memory, by `torch.utils.data.DataLoader`; a source for `fit`.

    Every batch is a function of the key, of the pass's number and of its own: its samples are those that
    `fit` takes of tensors with this key, and whatever its transforms and `collate` draw from torch's, numpy's
    or Python's global generators is seeded for it and put back. So the bits do not depend on the number of
    workers, and a run that was killed goes on with them, in the middle of a pass too.

    Args:
        dataset: a map-style one: `len(dataset)` and `dataset[i]`, a tree of tensors or numbers.
        batch_size: samples a batch, at least 1.
        key: int64 (2,), for the order and for the draws.
        workers: processes that make batches. Default: none, this one does.
        shuffle: a new order for each pass. Default: yes.
        drop_last: leave out a last smaller batch. Default: no; `fit` leaves it out where the step is compiled.
        collate: samples -> batch. Default: torch's `default_collate`; a pair becomes a `Batch` in `fit`.
        options: other arguments of DataLoader, such as pin_memory=True or prefetch_factor.

    Returns:
        A Loader. Iterated, it gives the first pass; `loader.epoch(number, start=0)` any, from any batch on.

    Raises:
        FuncregError: for a data set without length or indices, or an argument out of range.

    >>> from torch.utils.data import TensorDataset
    >>> batches = loader(TensorDataset(torch.arange(6)), 4, key=random.key(0))
    >>> len(batches), [len(batch[0]) for batch in batches]
    (2, [4, 2])
    """
    _checks.check_key(key)
    _checks.check_count("batch_size", batch_size)
    _checks.check_count("workers", workers, 0)
    _checks.check_choice("shuffle", shuffle, (True, False))
    _checks.check_choice("drop_last", drop_last, (True, False))
    if isinstance(dataset, IterableDataset):
        remedy = "Give fit a DataLoader of it, with epoch_steps where it does not end."
        _checks.fail("dataset", f"an iterable one ({type(dataset).__name__})", "one with indices", remedy)
    named = isinstance(dataset, str | bytes) or (isinstance(dataset, Mapping) and 0 not in dataset)
    if named or not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
        _checks.fail("dataset", _checks.describe(dataset), "a map-style data set: len(dataset) and dataset[i]")
    if not len(dataset):
        _checks.fail("dataset", "an empty one", "at least one sample")
    if collate is not None:
        _checks.check_callable("collate", collate, "a function of a list of samples")
    for name in _OURS:
        if name in options:
            instead = {"num_workers": "workers", "collate_fn": "collate"}.get(name, "batch_size, shuffle and key")
            _checks.fail(name, _checks.describe(options[name]), f"none: {instead} instead")
    given = options | {"workers": workers, "collate": collate}
    return Loader(dataset, batch_size, key=key, shuffle=shuffle, drop_last=drop_last, options=given)


class _Order:
    """What DataLoader takes as a sampler: of the pass begun next, each batch's seed and samples."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, list[int]]] = []

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Batches(Dataset[Any]):
    """A data set of batches, each made under its own seed."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any]) -> None:
        self.dataset, self.collate = dataset, collate

    def __getitem__(self, item: tuple[int, list[int]]) -> Any:
        number, indices = item
        with Draws():
            _generators.seed(number)
            several = getattr(self.dataset, "__getitems__", None)
            return self.collate(several(indices) if several else [self.dataset[index] for index in indices])


def _as_it_is(batch: Any) -> Any:
    return batch
