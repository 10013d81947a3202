"""Whether a call gives one answer for one key, and the next call one of its own.

A generator that is made anew at each call or lies outside of the module, the system's entropy and a
clock tell nobody; but two runs that should be the same are not. What a function or a file keeps, such
as `functools.lru_cache`, outlives a call; where it was computed from parameters, the next has others.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .differences import difference
from .purity import Impurity
from .runs import Rehearsal, hooked
from .snapshots import put_back, values_put_back

_DID = "gives two answers for one key"
_STALE = "uses what an earlier call has computed from its parameters or inputs"


def unrepeatable(
    rehearsal: Rehearsal, output: Any, seed: int = 0, *, runs: int = 1, **settings: Any
) -> tuple[Impurity, ...]:
    """The layer, innermost, that gives another answer to the same call or keeps an old one; () where there is none.

    Args:
        rehearsal: of the call.
        output: what a run of it with this seed and these settings gave.
        runs: how often to run it again: what takes turns may be back at where it was.
    """
    for _ in range(runs):
        rehearsal.run(seed, **settings)
        if rehearsal.stale:
            return tuple(Impurity(rehearsal.labels[name], _STALE, "") for name in sorted(rehearsal.stale))
        if difference(output, rehearsal.output, repeated=True):
            break
    else:
        return ()
    one, other = _summaries(rehearsal, seed, **settings), _summaries(rehearsal, seed, **settings)
    first = next((name for (name, was), (_, now) in zip(one, other, strict=False) if was != now), "")
    return (Impurity(rehearsal.labels[first], _DID, ""),)


def carried_over(rehearsal: Rehearsal) -> tuple[Impurity, ...]:
    """The attributes that a call sets, where the next one, which does not find them, would give another answer by them.

    A cache makes no difference to it; the state of a recurrence, a counter that a rate depends on, does.
    """
    slots, left, caches = rehearsal.skeleton.slots, list[Any](), dict[str, Tensor]()
    places = slots.places

    def look(output: Any) -> None:
        left.extend(slots.attributes.now())
        caches.update((name, places[name][0][places[name][1]]) for name in slots.caches)

    generators = rehearsal.generators()
    try:
        with put_back(rehearsal.layers), values_put_back(rehearsal.own_tensors):
            one = rehearsal.run_on(rehearsal.mode(), *rehearsal.copied(), then=look)
            moves = slots.moved
            slots.attributes.put_back(left)
            tensors, args, kwargs = rehearsal.copied()
            tensors.update((name, caches[name]) for name in slots.moved_caches())
            second = rehearsal.mode()
            second.earlier = {}
            other = rehearsal.run_on(second, tensors, args, kwargs)
    finally:
        generators.put_back()
    if not difference(one, other, repeated=True):
        return ()
    return tuple(
        Impurity(rehearsal.labels[layer], f"sets {name!r}, which its next call uses", "") for layer, name in moves
    )


def _summaries(rehearsal: Rehearsal, seed: int, **settings: Any) -> list[tuple[str, list[float]]]:
    """What each layer gave in a run, as sums of it, in the order in which they were done."""
    found: list[tuple[str, list[float]]] = []

    def notes(name: str) -> Any:
        def hook(layer: nn.Module, args: Any, output: Any) -> None:
            tensors = [leaf.detach() for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
            dense = [each for each in tensors if each.layout == torch.strided and not each.is_quantized]
            found.append((name, [float(each.double().sum().nan_to_num()) for each in dense]))

        return hook

    handles = [layer.register_forward_hook(notes(name)) for name, layer in hooked(rehearsal.layers)]
    try:
        rehearsal.run(seed, **settings)
    finally:
        for handle in handles:
            handle.remove()
    return found
