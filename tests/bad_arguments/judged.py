"""What became of a bad argument: refused by name, no number at all, documented, or wrong."""

import functools
import inspect
import re
import traceback
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import optree
import torch
from torch import Tensor

import funcreg as fr
from tests.bad_arguments.call import Call
from tests.bad_arguments.documented import why
from tests.bad_arguments.values import bad_values
from tests.public import tables

CALLS: list[Call] = [call for table in tables("tests.bad_arguments.calls").values() for call in table.CALLS]

REFUSED, THEIRS, NOTHING = "refused by name", "by the function that was given", "no number"
DOCUMENTED, WRONG = "documented", "wrong"

# These are documented to be taken as the same numbers in the good one's dtype (but for images, whose unit they tell).
OF_A_DTYPE = ("dtype: int64", "dtype: uint8", "dtype: bool", "a tensor: int64", "a tensor: float16")

NOT_SO_CALLED = re.compile(r"\(\) (got an unexpected keyword|missing \d|takes \d)")  # Python says it, and names it
THEIR_CODE = re.compile(r"/bad_arguments/calls/|/torch/nn/modules/")


class Verdict(NamedTuple):
    """Of one bad value: the argument, the kind of value, what became of it, and how that was seen."""

    argument: str
    kind: str
    outcome: str
    seen: str


def judged(call: Call) -> Iterator[Verdict]:
    """A verdict for each bad value of each argument."""
    for argument, good in call.arguments.items():
        for kind, value in bad_values(good):
            yield Verdict(argument, kind, *_tried(call, argument, kind, value))


def _tried(call: Call, argument: str, kind: str, value: Any) -> tuple[str, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = call.function(**{**call.arguments, argument: value})
    except fr.FuncregError as error:
        named = _is_named(str(error), argument, kind, value, call) or _is_theirs(error, call, argument, value)
        documented = not named and why(call.name, argument, kind)
        return REFUSED if named else DOCUMENTED if documented else WRONG, str(error)
    except Exception as error:
        seen = f"{type(error).__name__}: {error}"
        return THEIRS if _is_theirs(error, call, argument, value) else WRONG, seen
    if _has_no_number(result, kind):
        return NOTHING, ""
    if kind in OF_A_DTYPE and argument != "images" and not _as_of_the_good_dtype(call, argument, value, result):
        return WRONG, f"another result than of the same numbers in the good one's dtype: {_shown(result)}"
    reason = "its default" if value is None and _is_optional(call, argument) else why(call.name, argument, kind)
    return (DOCUMENTED, reason) if reason else (WRONG, f"a result: {_shown(result)}")


def _is_theirs(error: BaseException, call: Call, argument: str, value: Any) -> bool:
    """Whether a function or module that is an argument raised it, on what it was handed, or cannot be called so."""
    if callable(call.arguments[argument]) and callable(value):
        return True
    if isinstance(error, TypeError) and NOT_SO_CALLED.search(str(error)):
        return True
    both = (error, error.__cause__) if error.__cause__ else (error,)  # a layer's, told by its name
    files = [frame.f_code.co_filename for each in both for frame, _ in traceback.walk_tb(each.__traceback__)]
    ours = [number for number, file in enumerate(files) if "/funcreg/" in file]
    return bool(ours) and any(THEIR_CODE.search(file) for file in files[ours[0] :])


def _is_optional(call: Call, argument: str) -> bool:
    """Whether an argument may be left out, which None says."""
    parameter = inspect.signature(call.function).parameters.get(argument)
    return parameter is not None and parameter.default is None


def _is_named(message: str, argument: str, kind: str, value: Any, call: Call) -> bool:
    """Whether a message is in funcreg's wording, about this argument, or about another that it does not fit."""
    head, _, found = message.partition(": got ")
    if "; expected " not in found:
        return False
    names = {argument.rstrip("_")}
    if ":" in kind or re.search(rf"\b{argument.rstrip('_')}\b", found):
        names |= {name.rstrip("_") for name in call.arguments}
    names |= {"state"} if "train_state" in call.arguments else set()  # the optimizer's
    maker, made, _ = call.name.partition("(")
    names |= _settings(maker) | {"mask"} if made else set()
    leaves = set(fr.tree.names(value)) | set(fr.tree.names(call.arguments[argument]))
    words = set(re.findall(r"\w+", head))
    return bool(words & names) or any(head.endswith(leaf) for leaf in leaves if leaf)


def _settings(name: str) -> set[str]:
    """The parameters of a public function: those of what it made may not fit them."""
    function: Any = functools.reduce(getattr, name.split("."), fr)
    return set(inspect.signature(function).parameters)


def _has_no_number(result: Any, kind: str) -> bool:
    """Whether a result is as empty as what went in: of shapes alone, of no elements, or not finite."""
    tensors = [leaf for leaf in optree.tree_leaves(result) if isinstance(leaf, Tensor)]
    if not tensors:
        return False
    if "meta" in kind:
        return any(tensor.is_meta for tensor in tensors)
    if "inf" in kind and any(not tensor.isfinite().all() for tensor in tensors):
        return True
    if "empty" in kind and not any(tensor.numel() for tensor in tensors):
        return True
    return any(tensor.isnan().any() for tensor in tensors)


def _as_of_the_good_dtype(call: Call, argument: str, value: Tensor, result: Any) -> bool:
    """Whether the same numbers, in the dtype that a good value has, give the same."""
    good = call.arguments[argument]
    same = value.to(good.dtype) if isinstance(good, Tensor) else value.item()
    try:
        other = call.function(**{**call.arguments, argument: same})
    except fr.FuncregError:
        return False
    pairs = zip(optree.tree_leaves(result), optree.tree_leaves(other), strict=True)
    return all(
        torch.allclose(mine.double(), theirs.double(), rtol=_rounding(mine), atol=1e-6, equal_nan=True)
        for mine, theirs in pairs
        if isinstance(mine, Tensor) and isinstance(theirs, Tensor)
    )


def _rounding(result: Tensor) -> float:
    return max(1e-6, torch.finfo(result.dtype).eps) if result.is_floating_point() else 0.0


def _shown(result: Any) -> str:
    try:
        return " ".join(str(result).split())[:160]
    except Exception as error:
        return f"what cannot be shown: {error}"
