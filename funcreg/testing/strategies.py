"""Strategies of hypothesis: what functions of tensors are tried on. hypothesis is imported only when one is made."""

import math
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
        dtypes: of which one is chosen that has a number within the bounds.
        finite: whether all values are.
        low, high: bounds of every value.

    Raises:
        FuncregError: for another shape or dtype, bounds that are no numbers, or no number within them.
    """  # fmt: skip
    st = _strategies()
    if isinstance(shape, tuple):
        for at, side in enumerate(shape):
            _checks.check_count(f"shape[{at}]", side, low=0)
    elif shape is not None:
        _check_strategy("shape", shape)
    dims = st.just(shape) if isinstance(shape, tuple) else shapes() if shape is None else shape
    if not isinstance(dtypes, Sequence) or not dtypes or not set(dtypes) <= set(DTYPES):
        _checks.fail("dtypes", _checks.describe(dtypes), f"some of {', '.join(map(str, DTYPES))}")
    low = -math.inf if low is None else float(_checks.check_number("low", low))
    high = math.inf if high is None else float(_checks.check_number("high", high, low))
    bounds = {dtype: _bounds(dtype, low, high) for dtype in dtypes}
    chosen = [dtype for dtype, (least, most) in bounds.items() if least <= most]
    if not chosen:
        _checks.fail("low", f"{low}, with high = {high}", f"bounds with a number of {', '.join(map(str, dtypes))}")

    @st.composite
    def drawn(draw: Any) -> Tensor:
        dtype, size = draw(st.sampled_from(chosen)), draw(dims)
        count = int(torch.Size(size).numel())
        values = st.one_of(_awkward(dtype, *bounds[dtype], finite, low, high), _ordinary(dtype, *bounds[dtype]))
        return torch.tensor(draw(st.lists(values, min_size=count, max_size=count)), dtype=dtype).reshape(size)

    return drawn()


def trees(leaves: Any = None, *, max_leaves: int = 5) -> Any:
    """Nested dicts, lists and tuples of leaves: tensors by default, none at all sometimes."""
    st = _strategies()
    _checks.check_count("max_leaves", max_leaves)
    if leaves is not None:
        _check_strategy("leaves", leaves)
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
    low, high = float(low), float(high)
    if not math.isfinite(high - low):
        _checks.fail("high", high, "a bound that is finite")
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


def _check_strategy(argument: str, value: Any) -> None:
    if not isinstance(value, _strategies().SearchStrategy):
        _checks.fail(argument, _checks.describe(value), "a strategy of hypothesis")


def _bounds(dtype: torch.dtype, low: float, high: float) -> tuple[Any, Any]:
    """The least and the largest finite number of a dtype in [low, high]; in the wrong order if there is none."""
    if dtype == torch.bool:
        return max(math.ceil(max(low, 0)), 0), math.floor(min(high, 1))
    if not dtype.is_floating_point:
        info = torch.iinfo(dtype)
        return math.ceil(max(low, info.min)), math.floor(min(high, info.max))
    kind = torch.finfo(dtype)
    least, most = max(low, kind.min), min(high, kind.max)
    if least > most:
        return least, most
    return _rounded(least, dtype, up=True), _rounded(most, dtype, up=False)


def _rounded(number: float, dtype: torch.dtype, *, up: bool) -> float:
    """The nearest number of a dtype that is not below, or not above."""
    nearest = torch.tensor(number, dtype=dtype)
    if (float(nearest) < number) if up else (float(nearest) > number):
        nearest = torch.nextafter(nearest, torch.tensor(math.inf if up else -math.inf, dtype=dtype))
    return float(nearest)


def _awkward(dtype: torch.dtype, least: Any, most: Any, finite: bool, low: float, high: float) -> Any:
    if not dtype.is_floating_point:
        values: list[Any] = [0, 1]
    else:
        kind = torch.finfo(dtype)
        values = [0.0, -0.0, 1.0, -1.0, 1.0 + kind.eps, 0.5, kind.tiny, kind.smallest_normal / 2]
    values = [least, most, *(each for each in values if least <= each <= most)]
    if dtype.is_floating_point and not finite:
        values += [each for each in (math.inf, -math.inf) if low <= each <= high] + [math.nan]
    return _strategies().sampled_from(values)


def _ordinary(dtype: torch.dtype, least: Any, most: Any) -> Any:
    st = _strategies()
    if dtype == torch.bool:
        return st.sampled_from([bool(each) for each in range(least, most + 1)])
    wide = 10.0 if dtype.is_floating_point else 100
    bounds = max(least, min(-wide, most - wide)), min(most, max(wide, least + wide))
    if not dtype.is_floating_point:
        return st.integers(*map(int, bounds))
    own = st.floats(*bounds).map(lambda number: float(torch.tensor(number, dtype=dtype)))
    return own.map(lambda number: min(max(number, least), most))
