"""The rules of a pure function: what is given, what is global and what is closed over stays as it is."""

import inspect
from typing import Any

import optree
import torch
from torch import Tensor

from .. import random
from . import closures, drawing, surroundings
from .calls import first_of, is_exact, result, tolerances_of
from .example import Example, replaced
from .trees import differences, fresh, named_leaves

KEYS = 8  # that are tried until one gives another result


def arguments(example: Example) -> list[str]:
    """Nothing given is written into, given a gradient, or replaced in its container."""
    leaves = fresh(example.member(example.base))
    before = [(leaf._version, leaf.data_ptr(), leaf.requires_grad) for leaf in leaves if isinstance(leaf, Tensor)]
    copies = fresh(leaves)
    args, kwargs = example.arguments(leaves)
    example.function(*args, **kwargs)
    left, structure = optree.tree_flatten((args, kwargs))  # pyright: ignore[reportArgumentType]
    if structure != optree.tree_structure(example.places):
        return ["a container that was given has other entries than before"]
    found = []
    tensors = iter(before)
    for name, leaf, own, copy in zip(example.names, left, leaves, copies, strict=True):
        was = next(tensors) if isinstance(own, Tensor) else None
        if leaf is not own:
            found.append(f"{name} was replaced in what was given")
        elif isinstance(own, Tensor) and was is not None:
            if own.data_ptr() != was[1] or own.shape != copy.shape or own.dtype != copy.dtype:
                found.append(f"{name} was given other data")
            elif not torch.equal(own.detach().nan_to_num(), copy.nan_to_num()):
                found.append(f"{name} was written into: {differences(own.detach(), copy, (0.0, 0.0))[0].lstrip(': ')}")
            elif own._version != was[0]:
                found.append(f"{name} was written into, with what it held")
            elif own.requires_grad != was[2]:
                found.append(f"{name} was made to require gradients")
            elif own.is_leaf and own.grad is not None:
                found.append(f"{name} was given a gradient")
    return found


def global_state(example: Example) -> list[str]:
    """Generators and torch's settings are as they were, and have no part in the result."""
    with surroundings.generators_elsewhere() as changed:
        elsewhere = result(example)
        moved = [f"{name} is not as it was" for name in changed()]
    if moved:
        return moved
    first, again = result(example), result(example)
    apart = differences(elsewhere, first, (0.0, 0.0))
    if not apart or differences(again, first, (0.0, 0.0)):  # or it is not the generators' doing
        return []
    return [f"the result depends on the global generators: {first_of(apart)}"]


def state(example: Example, held: closures.Snapshot) -> list[str]:
    """The same arguments give the same result, and what the function closes over is as it was before any call."""
    first = result(example)
    with surroundings.clocks_ahead():
        later = result(example)
    again = differences(later, first, (0.0, 0.0)) or _again_in_float64(example)
    found = [f"the same arguments give another result: {first_of(again)}"] if again else []
    return found + [
        f"the function changed what it closes over: {line}" for line in closures.changes(example.function, held)
    ]


def results(example: Example) -> list[str]:
    """The result is a tree of tensors."""
    found = []
    for name, leaf in named_leaves(example.call(fresh(example.member(example.base))), "result", none_is_leaf=True):
        if not isinstance(leaf, Tensor):
            found.append(f"{name} is {'None' if leaf is None else f'a {type(leaf).__name__}'}, not a tensor")
    return found


def key(example: Example) -> list[str]:
    """Another key gives another result, no part of its stream is drawn twice, and there is no key by default."""
    assert example.keyed is not None
    reused = drawing.twice(lambda: result(example))
    if reused:
        return reused
    found = [f"{line}: a call that forgets the key draws the same every time" for line in _by_default(example)]
    leaves = example.member(example.base)
    first = result(example)
    for other in range(KEYS):
        another = random.fold_in(leaves[example.keyed], 100 + other)
        drawn = example.call(fresh(replaced(leaves, [example.keyed], [another])))
        if differences(drawn, first, (0.0, 0.0)):
            return found
    return [*found, f"the key does not matter: {KEYS} others give the same result"]


def mode(example: Example) -> list[str]:
    """No module's `training` has a part in the result, nor has whether gradients are recorded."""
    first = result(example)
    with torch.no_grad():
        unrecorded = differences(result(example), first, tolerances_of(example))
    found = [f"the result depends on torch.no_grad(): {first_of(unrecorded)}"] if unrecorded else []
    modules = closures.modules_of(example.function, *example.leaves)
    for name, module in modules.items():
        with closures.modes_flipped([module]):
            flipped = differences(result(example), first, tolerances_of(example))
        if flipped:
            found.append(f"the result depends on the training mode of {name}: {first_of(flipped)}")
    return found


def _by_default(example: Example) -> list[str]:
    """Whether there is a key where none is given."""
    try:
        parameter = inspect.signature(example.function).parameters.get("key")
    except (TypeError, ValueError):
        return []
    if parameter is None or parameter.default is parameter.empty:
        return []
    if parameter.default is not None:
        return [f"key has a default, {parameter.default}"]
    leaves = example.member(example.base)

    def called(key: Tensor | None) -> Any:
        return example.call(fresh([key if place == example.keyed else leaf for place, leaf in enumerate(leaves)]))

    try:
        called(None)  # the first call may be special
        with surroundings.put_back() as changed, drawing.draws() as without:
            called(None)
            moved = changed()
    except Exception:  # it asks for one
        return []
    with drawing.draws() as given:
        result(example)
    known = {draw[:2] for draw in given}
    hidden = [f"without a key it draws from fr.random.key({draw.seed})" for draw in without if draw[:2] not in known]
    return hidden[:1] or [f"without a key it draws: {name} is not as it was" for name in moved]


def _again_in_float64(example: Example) -> list[str]:
    """How two results in float64 differ, where smaller changes show, as those of a clock."""
    if not example.floating or is_exact(example):
        return []
    try:
        return differences(result(example, torch.float64), result(example, torch.float64), (0.0, 0.0))
    except Exception:  # what it closes over has another dtype
        return []
