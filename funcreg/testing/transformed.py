"""The rules of a function that is batched, tuned and differentiated."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import optree
import torch
from torch import Tensor
from torch.func import grad

from .calls import compared, first_of, is_exact, numbers, said
from .closures import held_by
from .example import Example, is_floating, replaced
from .surroundings import put_back
from .trees import differences, fresh, named_leaves

DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def batches(example: Example) -> list[str]:
    """`vmap` over everything, in chunks too, and over the keys alone, gives what a loop gives."""
    loop = [numbers(example.call(fresh(example.member(member)))) for member in range(example.members)]
    found = _against_loop(example, None, loop)
    if not found and example.keyed is not None and len(example.tensors) > 1:
        shared, keys = example.member(example.base), example.stacked([example.keyed])[0]
        alone = [numbers(example.call(fresh(replaced(shared, [example.keyed], [each])))) for each in keys]
        found = [f"over keys alone: {line}" for line in _against_loop(example, [example.keyed], alone)]
    return found


def refused(example: Example) -> list[str]:
    """Whether a setting may be no tensor at all, but a Python number."""
    try:
        with put_back():
            example.call(fresh(example.member(example.base)))
    except Exception as error:
        if not example.settings:
            raise
        with put_back():
            example.call(fresh(example.leaves))
        return [f"a tensor is refused: {said(error)}"]
    return []


def settings(example: Example) -> list[str]:
    """Numbers that tune may be tensors, batched alone, and mean the same as Python numbers."""
    idle = [f"{example.names[place]} has no effect" for place in example.settings if _has_no_effect(example, place)]
    if idle:
        return idle
    together = _settings_at(example, list(example.settings))
    if not together or len(example.settings) == 1:
        return [f"{example.names[next(iter(example.settings))]}: {line}" for line in together]
    alone = [f"{example.names[place]}: {line}" for place in example.settings for line in _settings_at(example, [place])]
    return alone or [f"together: {line}" for line in together]


def finite(example: Example, gradients: Sequence[int]) -> list[str]:
    """Finite arguments give no NaN, and finite gradients with respect to the leaves at these places."""
    found: dict[str, str] = {}
    for member in range(example.members):
        leaves = fresh(example.member(member))
        if not all(bool(leaf.isfinite().all()) for leaf in leaves if is_floating(leaf)):
            continue
        for name, leaf in named_leaves(example.call(leaves), "result"):
            if is_floating(leaf) and bool(leaf.isnan().any()):
                found.setdefault(name, f"{name}{_where(leaf.isnan())} is NaN{_at(example, member)}")
        if not gradients:
            continue
        try:
            slopes = grad(_total)([leaves[place] for place in gradients], example, leaves, gradients)
        except Exception as error:
            return [*found.values(), f"no gradient: {said(error)}"]
        for place, slope in zip(gradients, slopes, strict=True):
            if not bool(slope.isfinite().all()):
                name = f"gradient of {example.names[place]}"
                bad = ~slope.isfinite()
                line = f"the {name}{_where(bad)} is {float(slope[bad][0])}{_at(example, member)}"
                found.setdefault(name, line)
    return list(found.values())


def dtype(example: Example, kept: str) -> list[str]:
    """The results' dtype is the inputs': "kept", "widened" (16-bit inputs give float32), or "either"."""
    if kept == "either":  # a number that tunes is a Python number: a tensor of shape () in float64 would promote others
        example = example.untuned()
    closes_over = any(
        is_floating(leaf) for held in held_by(example.function) for leaf in optree.tree_leaves(held.read())
    )
    found = []
    for given in DTYPES:
        wide = torch.promote_types(given, torch.float32)
        allowed = {"kept": {given}, "widened": {wide}, "either": {given, wide}}[kept]
        try:
            named = named_leaves(example.call(fresh(example.member(example.base, given))), "result")
        except Exception as error:
            # No wrong number: torch has not all operators for 16 bits, and what is closed over has its own dtype.
            if not closes_over and (found or given.itemsize > 2):
                found.append(f"{_short(given)} inputs: {said(error)}")
            continue
        wrong = [(name, leaf.dtype) for name, leaf in named if is_floating(leaf) and leaf.dtype not in allowed]
        expected = " or ".join(sorted(_short(each) for each in allowed))
        found += [f"{name} is {_short(own)} for {_short(given)} inputs, not {expected}" for name, own in wrong]
    return found


def _against_loop(example: Example, places: Sequence[int] | None, loop: list[list[Tensor]]) -> list[str]:
    for chunk_size in (None, 2):
        how = "vmap" if chunk_size is None else "vmap in chunks"
        try:
            batched = _over(example, places, chunk_size)
        except Exception as error:
            return [f"{how} is not possible: {said(error)}"]
        expected = [torch.stack(each) for each in zip(*loop, strict=True)]
        found = compared(example, batched, expected)
        if found:
            return [f"{how} and a loop differ: {first_of(found)}"]
    return []


def _over(example: Example, places: Sequence[int] | None, chunk_size: int | None = None) -> list[Tensor]:
    with warnings.catch_warnings():  # an operator whose rule is a loop is slow, not wrong
        warnings.filterwarnings("ignore", "There is a performance drop")
        return numbers(example.over(places, chunk_size)(fresh(example.stacked(places))))


def _settings_at(example: Example, places: Sequence[int]) -> list[str]:
    base = example.member(example.base)
    try:
        batched = _over(example, places)
    except Exception as error:
        return [f"cannot be batched: {said(error)}"]
    for member in range(example.members):
        own = [leaf[member] for leaf in batched]
        values = [example.settings[place][member] for place in places]
        tensors = [torch.tensor(value, dtype=torch.float64, device=_device(example)) for value in values]
        alone = numbers(example.call(fresh(replaced(base, places, tensors))))
        found = compared(example, own, alone)
        if found:
            return [f"batched and alone differ at {values}: {first_of(found)}"]
        try:
            plain = numbers(example.call(fresh(replaced(base, places, values))))
        except Exception as error:
            return [f"{values} are refused as Python numbers: {said(error)}"]
        # A Python number means float32 where nothing in the call is in float64.
        found = differences(own, plain, (1e-5, 1e-6) if is_exact(example) else (1e-3, 1e-4), dtypes=False)
        if found:
            return [f"tensors and Python numbers differ at {values}: {first_of(found)}"]
    return []


def _has_no_effect(example: Example, place: int) -> bool:
    """Whether the result is the same for every value, and even for NaN, which what is multiplied by 0 would show.

    Where a mode is given, as True or False, it may be the other one's.
    """
    if any(isinstance(leaf, bool) for leaf in example.leaves):
        return False
    base = example.member(example.base)
    values = [*example.settings[place], math.nan]
    tensors = [torch.tensor(value, dtype=torch.float64, device=_device(example)) for value in values]
    try:
        first, *others = (example.call(fresh(replaced(base, [place], [each]))) for each in tensors)
    except Exception:
        return False
    return not any(differences(other, first, (0.0, 0.0)) for other in others)


def _device(example: Example) -> torch.device | None:
    return next((leaf.device for leaf in example.leaves if isinstance(leaf, Tensor)), None)


def _total(chosen: list[Tensor], example: Example, leaves: list[Any], places: Sequence[int]) -> Tensor:
    """The sum of every floating-point number in the result, as a function of some leaves."""
    copies = [leaf.clone() for leaf in chosen]  # which the function may write into
    tensors = optree.tree_leaves(example.call(replaced(leaves, places, copies)))
    sums = [leaf.double().sum() for leaf in tensors if is_floating(leaf)]  # pyright: ignore
    return torch.stack([*sums, 0.0 * chosen[0].double().sum()]).sum()


def _where(bad: Tensor) -> str:
    place = torch.unravel_index(bad.flatten().to(torch.int8).argmax(), bad.shape) if bad.ndim else ()
    return f"[{', '.join(str(int(each)) for each in place)}]" if len(place) else ""


def _at(example: Example, member: int) -> str:
    values = [f"{example.names[place]}={value[member]:g}" for place, value in example.settings.items()]
    return f" at {', '.join(values)}" if values else ""


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
