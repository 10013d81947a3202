"""Argument checks: every refusal names the argument, its value, what is allowed, and the next step.

A number out of range is refused, as a Python number or as a tensor of shape () on the CPU.
Where it cannot be read (under `vmap`, in a compiled program, on a GPU, which would have to wait)
it becomes NaN, and so does the result: never a number that is wrong. Integers have no NaN: 0 stands for it in
uint8 images, -1 where it would be a class, False for a coin flip.
"""

import math
import os
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from ._compiling import is_compiling
from ._functorch import readable

_HALF = (torch.float16, torch.bfloat16)
FLOATING = frozenset((torch.float32, torch.float64, *_HALF))  # none of 8 bits, which torch does not compute with
_MOST, _LARGEST = sys.float_info.max, 2**63 - 1  # that a float and an int64 can hold
_MOST_SINGLE = torch.finfo(torch.float32).max


class FuncregError(ValueError):
    """A bad argument: the message has its name, its value, what is allowed, and what to do."""


def fail(argument: str, got: object, allowed: str, remedy: str = "") -> NoReturn:
    """Raise `FuncregError` in the one wording that all of funcreg uses."""
    raise FuncregError(f"{argument}: got {got}; expected {allowed}.{' ' + remedy if remedy else ''}")


def describe(value: object) -> str:
    """A value as an error message shows it: a tensor by dtype and shape, the rest by type and repr.

    >>> describe(torch.zeros(2, 3)), describe("half"), describe((torch.zeros(2, 3), {}))
    ('a float32 tensor of shape (2, 3)', "'half' (str)", 'a tuple of 2')
    """
    if isinstance(value, Tensor):
        if value.is_nested:
            return "a nested tensor"
        where = " on meta" if value.is_meta else ""
        if value.layout != torch.strided:
            where += f" in the layout {value.layout}"
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}{where}"
    if isinstance(value, tuple | list) and any(isinstance(each, Tensor) for each in value):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{_shortened(repr(value))} ({type(value).__name__})"


def _shortened(text: str) -> str:
    text = " ".join(text.split())  # a module's has many lines
    return text if len(text) <= 80 else text[:77] + "..."


def check_number(
    argument: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    exclusive: str = "",
) -> Any:
    """The value, if it is a finite number in [low, high], or a tensor of such; NaN in one that cannot be read.

    A tensor of 16 bits becomes one of 32. `exclusive` opens an end of the interval: "low", "high" or "both".

    >>> check_number("rate", 0.5, 0.0, 1.0), check_number("rate", torch.tensor([0.5, 1.5]), 0.0, 1.0)
    (0.5, tensor([0.5000,    nan]))
    """
    number = value
    if isinstance(value, Tensor):
        real = value.dtype in FLOATING or not (value.is_floating_point() or value.is_complex())
        if not real or value.dtype == torch.bool or value.is_meta:
            fail(argument, describe(value), "a real number or a tensor of real numbers")
        if value.dtype in _HALF:
            value = value.to(torch.float32)  # or what is computed of it alone would be rounded to 16 bits
        number = _read(value)
        if number is None:
            return _within(value, low, high, exclusive)
        if math.isnan(number):
            return value  # and so is the result
    elif isinstance(value, bool) or not isinstance(value, int | float):
        remedy = "Convert it: float(value)." if hasattr(value, "dtype") else ""
        fail(argument, describe(value), _interval(low, high, exclusive), remedy)
    above = low < number if exclusive in ("low", "both") else low <= number
    below = number < high if exclusive in ("high", "both") else number <= high
    # The comparisons are also false for NaN; an infinity is never a setting, nor what no float can hold.
    if not (above and below and -_MOST <= number <= _MOST):
        fail(argument, _shortened(repr(number)), _interval(low, high, exclusive))
    return float(value) if isinstance(value, int) and abs(value) > _LARGEST else value


def _read(tensor: Tensor) -> float | None:
    """The number that a tensor is, if it is one, and can be had now; None for those of the members of a vmap."""
    if tensor.ndim or is_compiling():
        return None
    value = readable(tensor)
    return None if value is None or value.ndim else value.item()


def _within(value: Tensor, low: float, high: float, exclusive: str) -> Tensor:
    """A tensor with NaN in the place of what is outside, and of infinities."""
    if not value.is_floating_point():
        if (low, high) == (-math.inf, math.inf):
            return value
        value = value.to(torch.float64)  # which has a NaN
    above = value > low if exclusive in ("low", "both") or low == -math.inf else value >= low
    below = value < high if exclusive in ("high", "both") or high == math.inf else value <= high
    return torch.where(above & below, value, math.nan)


def _interval(low: float, high: float, exclusive: str) -> str:
    opened, closed = "(" if exclusive in ("low", "both") else "[", ")" if exclusive in ("high", "both") else "]"
    return f"a number in {opened}{low:g}, {high:g}{closed}, or a tensor"


def check_setting(argument: str, value: Any, low: float = 0.0, high: float = math.inf, *, exclusive: str = "") -> Any:
    """What tunes a function, as `check_number`: a number in [low, high], or a tensor of shape ()."""
    if isinstance(value, Tensor) and value.ndim:
        fail(argument, describe(value), "a number or a tensor of shape ()", "Batch it with vmap.")
    value = check_number(argument, value, low, high, exclusive=exclusive)
    if not isinstance(value, Tensor) and abs(value) > _MOST_SINGLE:
        fail(argument, value, f"a number of at most {_MOST_SINGLE:.4g}, which float32 can hold")
    return value


def check_order(argument: str, low: Any, high: Any, name: str, *, strict: bool = False) -> Any:
    """`low`, if it is at most `high` (strictly: below it), which has this name; NaN in one that cannot be read.

    >>> check_order("low", 0.0, 1.0, "high")
    0.0
    """
    inside = low < high if strict else low <= high
    known = _read(inside) if isinstance(inside, Tensor) else inside
    if known is None:
        return torch.where(inside, low, torch.full_like(inside, math.nan, dtype=torch.float64))
    if not known:
        fail(argument, describe(low), f"a number {'below' if strict else 'of at most'} {name} = {high}")
    return low


def spoilt(result: Tensor, *settings: Any, none: float | None = None) -> Tensor:
    """A result, NaN (or `none`; 0 of integers) where a setting is: of what only compares, and so would hide it.

    >>> spoilt(torch.ones(2), torch.tensor([0.5, torch.nan]))
    tensor([1., nan])
    """
    if none is None:
        none = math.nan if result.is_floating_point() else 0
    for setting in settings:
        if isinstance(setting, Tensor) and not _has_no_nan(setting):
            result = torch.where(setting.isnan(), none, result)
    return result


def _has_no_nan(setting: Tensor) -> bool:
    """Whether a look at a setting tells so: quicker than to choose each number of a result anew."""
    values = None if is_compiling() else readable(setting)
    return values is not None and not bool(values.isnan().any())


def check_beside(argument: str, value: Tensor, other: Tensor, name: str) -> None:
    """Refuse a tensor on another device than one of this name."""
    if value.device != other.device:
        fail(argument, f"one on {value.device}", f"one on {other.device}, where {name} is", "Move it with .to(device).")


def check_count(argument: str, value: Any, low: int = 1, high: int | None = None) -> None:
    """Refuse anything but a Python integer of at least `low` (and at most `high`)."""
    most = _LARGEST if high is None else high
    if not isinstance(value, int | torch.SymInt) or isinstance(value, bool) or not low <= value <= most:
        huge = isinstance(value, int) and value > most
        allowed = f"an integer of at least {low}" + (f" and at most {most}" if huge or high is not None else "")
        fail(argument, describe(value), allowed, "Convert it: int(value)." if hasattr(value, "dtype") else "")


def check_chunk_size(value: Any) -> None:
    """Refuse what is neither "auto" nor a positive integer."""
    if isinstance(value, str) and value == "auto":
        return
    if value is None or isinstance(value, str):
        fail("chunk_size", describe(value), "'auto' or an integer of at least 1", "A large one takes all at once.")
    check_count("chunk_size", value)


def check_choice(argument: str, value: Any, choices: Collection[object]) -> None:
    """Refuse a value that is not one of `choices`, texts or True and False."""
    if not isinstance(value, str | bool) or value not in choices:
        fail(argument, describe(value), "one of " + ", ".join(repr(choice) for choice in choices))


def check_device(argument: str, value: Any) -> None:
    """Refuse what torch does not know as a device, or does not find here."""
    try:
        torch.empty(0, device=torch.device(value))
    except (AssertionError, NotImplementedError, RuntimeError, TypeError):
        fail(argument, describe(value), 'a device of this machine, such as "cpu" or torch.device("cuda", 0)')


def check_path(argument: str, value: Any, *, writes: bool = False) -> Path:
    """A path; with `writes`, one that a file may be written to."""
    if not isinstance(value, str | os.PathLike):
        fail(argument, describe(value), "a path: a string or a pathlib.Path")
    path = Path(value)
    if writes and path.exists() and not path.is_file():
        fail(argument, f"{path}, {'a folder' if path.is_dir() else 'a device'}", "the path of a file")
    if writes and not path.parent.is_dir():
        fail(argument, path, "a path whose folder exists", f"Make it: Path({str(path.parent)!r}).mkdir().")
    return path


def check_tensor(argument: str, value: Any, *, ndim: int | None = None) -> None:
    """Refuse what is not a tensor, or has not `ndim` dimensions."""
    if not isinstance(value, Tensor):
        fail(argument, describe(value), "a torch.Tensor", "Convert it with torch.as_tensor.")
    if value.is_nested:
        fail(argument, "a nested tensor", "a dense one", "Pad it: torch.nested.to_padded_tensor(tensor, 0.0).")
    if value.layout is not torch.strided:
        fail(argument, describe(value), "a dense one", "Convert it with .to_dense().")
    if ndim is not None and value.ndim != ndim:
        fail(argument, describe(value), f"a tensor of {ndim} dimension(s)")


def check_floating(argument: str, value: Any, *, ndim: int | None = None) -> None:
    """Refuse what is not a tensor of floating-point numbers, or has not `ndim` dimensions."""
    check_tensor(argument, value, ndim=ndim)
    if value.dtype not in FLOATING:
        convert = f"torch.view_as_real({argument})" if value.dtype.is_complex else f"{argument}.float()"
        fail(argument, describe(value), "a floating-point tensor", f"Convert it: {convert}.")


def check_integers(argument: str, value: Any, *, ndim: int | None = None) -> None:
    """Refuse what is not a tensor of integers, with values, or has not `ndim` dimensions."""
    check_tensor(argument, value, ndim=ndim)
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool or value.is_meta:
        fail(argument, describe(value), "a tensor of integers", f"Convert it: {argument}.long().")


def check_iterable(argument: str, value: Any, what: str) -> None:
    """Refuse what is not several of something, such as a list of them; `what` says of what, e.g. "schedules"."""
    alone = isinstance(value, str | bytes | Mapping) or (isinstance(value, Tensor) and not value.ndim)
    if alone or not isinstance(value, Iterable):
        fail(argument, describe(value), f"several {what}, such as a list of them")


def check_several(argument: str, value: Any, what: str) -> list[Any]:
    """A list of several, as `check_iterable`."""
    check_iterable(argument, value, what)
    return list(value)


def check_mapping(argument: str, value: Any, what: str) -> dict[Any, Any]:
    """A dict of the same items; `what` says what they are, e.g. "name -> function"."""
    if not isinstance(value, Mapping):
        fail(argument, describe(value), f"a dict of {what}")
    return dict(value)


def check_callable(argument: str, value: Any, what: str) -> None:
    """Refuse what cannot be called; `what` says what it should be, e.g. "a function (params) -> loss"."""
    remedy = not_torchs(value)
    if remedy or not callable(value):
        fail(argument, describe(value), what, remedy)


def not_torchs(value: Any) -> str:
    """What to say of an optimizer or a schedule of torch's, or of its class; "" of anything else.

    >>> not_torchs(torch.optim.Adam)
    'Those of torch.optim hold parameters; those of fr.optim are functions.'
    """
    kind = value if isinstance(value, type) else type(value)
    of_torch = issubclass(kind, torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler)
    return "Those of torch.optim hold parameters; those of fr.optim are functions." if of_torch else ""


def check_key(key: Any, beside: Tensor | None = None) -> None:
    """Refuse what is not one key, an int64 tensor of shape (2,), on the device of the tensor that it draws for."""
    if not isinstance(key, Tensor):
        remedy = "Make one: fr.random.key(seed)."
        if isinstance(key, int):
            remedy = f"Make one: fr.random.key({key})."
        fail("key", describe(key), "a key, an int64 tensor of shape (2,)", remedy)
    if key.dtype != torch.int64:
        fail("key", describe(key), "a key, an int64 tensor of shape (2,)", "Make one: fr.random.key(seed).")
    if key.shape != (2,):
        batch = key.ndim > 1 and key.shape[-1] == 2
        remedy = "For a batch of keys use torch.func.vmap over them." if batch else "Make one: fr.random.key(seed)."
        fail("key", describe(key), "one key, an int64 tensor of shape (2,)", remedy)
    if key.is_meta:
        fail("key", "one on meta", "a key with values", "Make one: fr.random.key(seed).")
    if beside is not None and key.device != beside.device:
        remedy = "Move it: key.to(device)."
        fail("key", f"one on {key.device}", f"one on {beside.device}, where its inputs are", remedy)
