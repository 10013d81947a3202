"""Argument checks: every refusal names the argument, its value, what is allowed, and the next step.

Python numbers are range-checked; tensors are not, because a check would have to read
them, which `vmap` and `torch.compile` forbid and which would stall a GPU.
"""

import math
from collections.abc import Collection
from typing import Any, NoReturn

import torch
from torch import Tensor


class FuncregError(ValueError):
    """A bad argument: the message has its name, its value, what is allowed, and what to do."""


def fail(argument: str, got: object, allowed: str, remedy: str = "") -> NoReturn:
    """Raise `FuncregError` in the one wording that all of funcreg uses."""
    raise FuncregError(f"{argument}: got {got}; expected {allowed}.{' ' + remedy if remedy else ''}")


def describe(value: object) -> str:
    """A value as an error message shows it: a tensor by dtype and shape, the rest by type and repr.

    >>> describe(torch.zeros(2, 3)), describe("half")
    ('a float32 tensor of shape (2, 3)', "'half' (str)")
    """
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    text = " ".join(repr(value).split())  # a module's has many lines
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"


def check_number(
    argument: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    exclusive: str = "",
) -> None:
    """Refuse a Python value that is not a finite number in [low, high]; let tensors pass.

    `exclusive` opens an end of the interval: "low", "high" or "both".
    """
    if isinstance(value, Tensor):
        if value.is_complex() or value.dtype == torch.bool:
            fail(argument, describe(value), "a real number or a tensor of real numbers")
        return
    open_low, open_high = exclusive in ("low", "both"), exclusive in ("high", "both")
    interval = f"a number in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}, or a tensor"
    if isinstance(value, bool) or not isinstance(value, int | float):
        fail(argument, describe(value), interval)
    above = low < value if open_low else low <= value
    below = value < high if open_high else value <= high
    # The comparison is also false for NaN; an infinity is never a setting.
    if not (above and below) or math.isinf(value):
        fail(argument, value, interval)


def check_setting(argument: str, value: Any, low: float = 0.0, high: float = math.inf, *, exclusive: str = "") -> None:
    """Refuse what tunes a function but is neither a number in [low, high] nor a tensor of shape ()."""
    check_number(argument, value, low, high, exclusive=exclusive)
    if isinstance(value, Tensor) and value.ndim:
        fail(argument, describe(value), "a number or a tensor of shape ()", "Batch it with vmap.")


def check_count(argument: str, value: Any, low: int = 1, high: int | None = None) -> None:
    """Refuse anything but a Python integer of at least `low` (and at most `high`)."""
    allowed = f"an integer of at least {low}" + ("" if high is None else f" and at most {high}")
    if isinstance(value, bool) or not isinstance(value, int | torch.SymInt):
        fail(argument, describe(value), allowed)
    if value < low or (high is not None and value > high):
        fail(argument, value, allowed)


def check_chunk_size(value: Any) -> None:
    """Refuse what is neither "auto" nor a positive integer."""
    if isinstance(value, str) and value == "auto":
        return
    if value is None or isinstance(value, str):
        fail("chunk_size", describe(value), "'auto' or an integer of at least 1", "A large one takes all at once.")
    check_count("chunk_size", value)


def check_choice(argument: str, value: Any, choices: Collection[object]) -> None:
    """Refuse a value that is not one of `choices`."""
    if value not in choices:
        fail(argument, describe(value), "one of " + ", ".join(repr(choice) for choice in choices))


def check_device(argument: str, value: Any) -> None:
    """Refuse what torch does not know as a device."""
    try:
        torch.device(value)
    except (RuntimeError, TypeError):
        fail(argument, describe(value), 'a device, such as "cpu" or torch.device("cuda", 0)')


def check_tensor(argument: str, value: Any, *, ndim: int | None = None) -> None:
    """Refuse what is not a tensor, or has not `ndim` dimensions."""
    if not isinstance(value, Tensor):
        fail(argument, describe(value), "a torch.Tensor", "Convert it with torch.as_tensor.")
    if ndim is not None and value.ndim != ndim:
        fail(argument, describe(value), f"a tensor of {ndim} dimension(s)")


def check_floating(argument: str, value: Any, *, ndim: int | None = None) -> None:
    """Refuse what is not a tensor of floating-point numbers, or has not `ndim` dimensions."""
    check_tensor(argument, value, ndim=ndim)
    if not value.is_floating_point():
        fail(argument, describe(value), "a floating-point tensor", f"Convert it: {argument}.float().")


def check_callable(argument: str, value: Any, what: str) -> None:
    """Refuse what cannot be called; `what` says what it should be, e.g. "a function (params) -> loss"."""
    if not callable(value):
        fail(argument, describe(value), what)


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
    if beside is not None and key.device != beside.device:
        remedy = "Move it: key.to(device)."
        fail("key", f"one on {key.device}", f"one on {beside.device}, where its inputs are", remedy)
