"""Strategies of hypothesis: what functions of tensors are tried on. hypothesis is imported only when one is made."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _checks, random

FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
DTYPES = (*FLOATING, *INTEGERS, torch.bool)


def keys() -> Any:
    """Keys: of any seed, at the start of their stream or far into it."""
    st = _strategies()
    words = st.one_of(st.integers(0, 9), st.integers(-(2**63), 2**63 - 1))
    offsets = st.one_of(st.just(0), st.integers(0, 2**40))
    return st.builds(lambda seed, offset: random.key(seed) + torch.tensor([0, offset]), words, offsets)


def shapes(*, min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 4) -> Any:
    """Tuples of lengths, empty axes and axes of one too."""
    st = _strategies()
    _checks.check_count("min_dims", min_dims, low=0)
    _checks.check_count("max_dims", max_dims, low=min_dims)
    _checks.check_count("min_side", min_side, low=0)
    _checks.check_count("max_side", max_side, low=min_side)
    return st.lists(st.integers(min_side, max_side), min_size=min_dims, max_size=max_dims).map(tuple)


def tensors(
    shape: Any = None,
    dtypes: Sequence[torch.dtype] = DTYPES,
    *,
    finite: bool = True,
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """Tensors of any dtype, with the values that break things among them.

    Those are zero, minus zero, the smallest and largest numbers of the dtype, its spacing at 1, ties, and without
    `finite` infinities and NaN.

    Args:
        shape: a tuple, or a strategy of them. Default: `shapes()`.
        dtypes: of which one is chosen.
        finite: whether all values are.
        low, high: bounds of every value.
    """  # fmt: skip
    st = _strategies()
    dims = st.just(shape) if isinstance(shape, tuple) else shapes() if shape is None else shape

    @st.composite
    def drawn(draw: Any) -> Tensor:
        dtype, size = draw(st.sampled_from(list(dtypes))), draw(dims)
        count = int(torch.Size(size).numel())
        values = st.one_of(st.sampled_from(_awkward(dtype, finite, low, high)), _ordinary(dtype, low, high))
        return torch.tensor(draw(st.lists(values, min_size=count, max_size=count)), dtype=dtype).reshape(size)

    return drawn()


def trees(leaves: Any = None, *, max_leaves: int = 5) -> Any:
    """Nested dicts, lists and tuples of leaves: tensors by default, none at all sometimes."""
    st = _strategies()
    names = st.sampled_from(["weight", "bias", "0.weight", "head", "a"])
    inner = lambda each: st.one_of(  # noqa: E731
        st.dictionaries(names, each, max_size=3), st.lists(each, max_size=3), st.tuples(each, each)
    )
    return st.recursive(tensors() if leaves is None else leaves, inner, max_leaves=max_leaves)


def rates(low: float = 0.0, high: float = 1.0, *, tensor: bool = True) -> Any:
    """Numbers in [low, high], the ends and what is next to them; as Python numbers, or as tensors of shape () too."""
    st = _strategies()
    _checks.check_number("low", low)
    _checks.check_number("high", high, low)
    near = (high - low) * 2**-20
    numbers = st.one_of(st.sampled_from([low, high, low + near, high - near, (low + high) / 2]), st.floats(low, high))
    if not tensor:
        return numbers
    dtype = st.sampled_from([torch.float64, torch.float32])
    within = numbers.filter(lambda number: low <= float(torch.tensor(number, dtype=torch.float32)) <= high)
    return st.one_of(numbers, st.builds(lambda number, dtype: torch.tensor(number, dtype=dtype), within, dtype))


def _strategies() -> Any:
    try:
        from hypothesis import strategies
    except ImportError:
        remedy = "Install it: pip install hypothesis."
        _checks.fail("hypothesis", "an environment without it", "the package that strategies are of", remedy)
    return strategies


def _awkward(dtype: torch.dtype, finite: bool, low: float | None, high: float | None) -> list[Any]:
    if dtype == torch.bool:
        return [False, True]
    if not dtype.is_floating_point:
        info = torch.iinfo(dtype)
        values: list[Any] = [0, 1, info.min, info.max]
    else:
        kind = torch.finfo(dtype)
        values = [0.0, -0.0, 1.0, -1.0, 1.0 + kind.eps, 0.5, kind.tiny, kind.smallest_normal / 2, kind.max, kind.min]
        values += [] if finite else [float("inf"), float("-inf"), float("nan")]
    return [each for each in values if (low is None or each >= low) and (high is None or each <= high)] or [low or high]


def _ordinary(dtype: torch.dtype, low: float | None, high: float | None) -> Any:
    st = _strategies()
    if dtype == torch.bool:
        return st.booleans()
    if not dtype.is_floating_point:
        info = torch.iinfo(dtype)
        bounds = [max(-100, info.min if low is None else int(low)), min(100, info.max if high is None else int(high))]
        return st.integers(*bounds)
    wide = st.floats(-10.0 if low is None else low, 10.0 if high is None else high)
    return wide.map(lambda number: float(torch.tensor(number, dtype=dtype)))
