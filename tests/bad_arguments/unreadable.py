"""What is refused where it can be read, where nobody looks: NaN, or refused all the same.

Numbers among the members of a vmap, and values in a tensor in a program. Of uint8 images, which have no NaN, 0
stands for it.
"""

import math
from collections.abc import Iterator
from typing import Any

import optree
import pytest
import torch
from torch import Tensor
from torch.func import vmap

import funcreg as fr
from funcreg import _jit
from tests.bad_arguments.call import Call
from tests.bad_arguments.judged import CALLS
from tests.bad_arguments.values import bad_values

NUMBERS = (-1.0, 2.0, 95.0, 1e5, math.nan, math.inf)

# (call, argument): why such a number changes nothing
NO_PART = {
    ("norm.batch_norm in evaluation", "momentum"): "evaluation moves no statistics",
    ("from_module().apply", "momentum"): "evaluation moves no statistics",
    ("augment.apply_operation", "fill"): "what moves nothing fills nothing",
}


# (call, argument): what stands for NaN in results that have none
NO_NAN = {
    ("random.categorical", "logits"): "-1, which is no class",
    ("sweep.choice of a tensor", "values"): "what is drawn later is NaN",
    ("uncertainty.prediction_sets", "scores"): "all classes",
}


def with_tensors() -> list[Call]:
    """The calls that take a tensor."""
    return [call for call in CALLS if any(isinstance(value, Tensor) for value in call.arguments.values())]


def hidden(call: Call) -> Iterator[tuple[str, str, Any]]:
    """(argument, kind, result): what a program that cannot read makes of a bad value in a tensor, and looks right."""
    for argument, good in call.arguments.items():
        for kind, value in bad_values(good) if isinstance(good, Tensor) else ():
            if "value: " not in kind or (call.name, argument) in NO_NAN or not _is_refused(call, argument, value):
                continue
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_jit, "known", lambda tensor: None)
                result = _result(call, **{argument: value})
            if result is not None and not _has_nan(result):
                yield argument, kind, result


def with_numbers() -> list[Call]:
    """The calls that take a Python float and give tensors; those of images with uint8 ones, too."""
    calls = [call for call in CALLS if float in map(type, call.arguments.values()) and _tensors(_result(call))]
    of_images = [_of_uint8(call) for call in calls if "images" in call.arguments]
    return calls + [call for call in of_images if _result(call) is not None]


def plausible(call: Call) -> Iterator[tuple[str, float, Any]]:
    """(argument, number, result): what a member that is out of range got, and looks like a result."""
    for argument, good in call.arguments.items():
        if type(good) is not float or (call.name.removesuffix(" of uint8"), argument) in NO_PART:
            continue
        for number in NUMBERS:
            if _result(call, **{argument: number}) is not None:
                continue

            def one(setting: Tensor, argument: str = argument) -> Any:
                return call.function(**{**call.arguments, argument: setting})

            try:
                results = vmap(one)(torch.tensor([good, number]))
            except fr.FuncregError:
                continue
            if not any(_is_none(*result) for result in _tensors(results)):
                yield argument, number, results


def _result(call: Call, **changed: Any) -> Any:
    """What a call gives; None where it is refused."""
    try:
        return call.function(**{**call.arguments, **changed})
    except fr.FuncregError:
        return None


def _is_refused(call: Call, argument: str, value: Any) -> bool:
    return _result(call, **{argument: value}) is None


def _has_nan(result: Any) -> bool:
    return any(bool(leaf.isnan().any()) for leaf in _tensors(result) if leaf.is_floating_point())


def _is_none(good: Tensor, bad: Tensor) -> bool:
    return bool((bad.isnan() if bad.is_floating_point() else (bad == 0) & (good != 0)).any())


def _tensors(result: Any) -> list[Tensor]:
    leaves = optree.tree_leaves(result)
    return leaves if all(isinstance(leaf, Tensor) for leaf in leaves) else []


def _of_uint8(call: Call) -> Call:
    changed = {"images": (200 * call.arguments["images"] + 20).to(torch.uint8)}
    if type(call.arguments.get("fill")) is float:
        changed["fill"] = 7.0
    return Call(f"{call.name} of uint8", call.function, {**call.arguments, **changed})
