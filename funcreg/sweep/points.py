"""The points of a sweep: settings -> hparams whose every leaf has a leading axis of K members."""

import itertools
import zlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .. import _checks, random
from .._functorch import traced_as_constant
from .ranges import Range, as_column, uniform


def grid(**axes: Iterable[float] | Tensor) -> dict[str, Tensor]:
    """Every combination of the values of each axis; the last axis varies fastest.

    Args:
        axes: name = values: Python numbers, or a 1-d tensor, which keeps its dtype. At least one value each.
            `seed=range(8)` makes eight members of each combination; `paired_keys(hparams["seed"], key=key)`
            gives those of one seed the same key, and so weights and noise. What is no number: `each`.

    Returns:
        dict name -> tensor (K,), K the product of the lengths: `hparams` of `train.fit(members=K)`.
        Floats become float64, integers int64.

    Raises:
        FuncregError: without axes, or for an axis that is empty, or not of numbers.

    >>> grid(rate=[0.0, 0.5], lr=[0.1, 0.2, 0.3])
    {'rate': tensor([0.0000, 0.0000, 0.0000, 0.5000, 0.5000, 0.5000], dtype=torch.float64),
     'lr': tensor([0.1000, 0.2000, 0.3000, 0.1000, 0.2000, 0.3000], dtype=torch.float64)}
    """
    if not axes:
        _checks.fail("axes", "none", "at least one, such as grid(rate=[0.0, 0.5])")
    values = {name: as_column(name, axis) for name, axis in axes.items()}
    combinations = list(itertools.product(*(range(len(axis)) for axis in values.values())))
    indices = torch.tensor(combinations).unbind(1)
    return {name: axis[index.to(axis.device)] for (name, axis), index in zip(values.items(), indices, strict=True)}


def random_search(key: Tensor, n: int, /, **ranges: Range | tuple[float, float]) -> dict[str, Tensor]:
    """n points, each number drawn on its own.

    A range draws from `fold_in(key, crc32(name))`. So what one name gets depends on the key and its own
    range only: ranges may be added, removed or put in another order, and of more points the first n
    are these.

    Args:
        key: int64 (2,).
        n: how many, K.
        ranges: name = `uniform`, `log_uniform`, `integers` or `choice`, or any function
            (key, n) -> tensor (n,). A tuple (low, high) is `uniform(low, high)`.

    Returns:
        dict name -> tensor (n,), on the key's device: `hparams` of `train.fit(members=n)`.

    Raises:
        FuncregError: without ranges, or for one that is none of these.

    >>> from funcreg.sweep import integers
    >>> random_search(random.key(0), 3, rate=(0.0, 0.5), width=integers(8, 65))
    {'rate': tensor([0.2661, 0.3442, 0.2619], dtype=torch.float64), 'width': tensor([26, 36, 61])}

    Bergstra and Bengio, "Random search for hyper-parameter optimization", JMLR 2012.
    """
    _checks.check_key(key)
    _checks.check_count("n", n)
    if not ranges:
        _checks.fail("ranges", "none", "at least one, such as random_search(key, n, rate=(0.0, 0.5))")
    return {name: _drawn(name, given, random.fold_in(key, _number(name)), n) for name, given in ranges.items()}


def _drawn(name: str, given: Any, key: Tensor, n: int) -> Tensor:
    if isinstance(given, tuple):
        given = _between(name, given)
    if not callable(given) or isinstance(given, type):
        remedy = f"One of some values: {name}=choice([...])." if isinstance(given, Iterable) else ""
        _checks.fail(name, _checks.describe(given), "(low, high), or a range such as log_uniform(low, high)", remedy)
    draws = given(key, n)
    if not isinstance(draws, Tensor) or draws.shape != (n,):
        _checks.fail(name, f"a range that gives {_checks.describe(draws)}", f"one that gives a tensor of shape ({n},)")
    return draws


def _between(name: str, ends: tuple[Any, ...]) -> Range:
    try:
        return uniform(*ends)
    except (TypeError, _checks.FuncregError):
        _checks.fail(name, ends, "two numbers (low, high), low below high")


@traced_as_constant
def _number(name: str) -> int:
    """A number for a name: the same in every process, unlike `hash`."""
    return zlib.crc32(name.encode())
