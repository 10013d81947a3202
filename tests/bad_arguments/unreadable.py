"""Numbers that are refused where they can be read, among the members of a vmap, where nobody looks: NaN, or refused.

Of uint8 images, which have no NaN, 0 stands for it.
"""

import math
from collections.abc import Iterator
from typing import Any

import optree
import torch
from torch import Tensor
from torch.func import vmap

import funcreg as fr
from tests.bad_arguments.call import Call
from tests.bad_arguments.judged import CALLS

NUMBERS = (-1.0, 2.0, 95.0, 1e5, math.nan, math.inf)

# (call, argument): why such a number changes nothing
NO_PART = {
    ("norm.batch_norm in evaluation", "momentum"): "evaluation moves no statistics",
    ("from_module().apply", "momentum"): "evaluation moves no statistics",
    ("augment.apply_operation", "fill"): "what moves nothing fills nothing",
}


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
