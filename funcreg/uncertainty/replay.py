"""A call for other members of the same number, without what no member changes: that is done once.

`vmap` does once what no member reaches, but again for each chunk of members. So the first chunk's call is
recorded, operator by operator, beneath `vmap`: those that a member reaches, with the tensors that they take
from the others. Further chunks run these operators again, and nothing of the model's own code.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import optree
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from .memory import storage_of

Program = Callable[[list[Tensor]], Tensor]


def recorded(call: Callable[[], Tensor], given: list[Tensor]) -> tuple[Tensor, Program | None]:
    """(what a call returns, the same call for others in place of the tensors given to it).

    Args:
        call: computes with the tensors in `given`, outside of transforms, and without plain autograd.
        given: stacked members.

    Returns:
        The second is None where that cannot be said, such as for a call that writes what depends on members
        into what did not.

    >>> x, key = torch.ones(2), torch.tensor([1.0])
    >>> result, again = recorded(lambda: x.exp().log() + key, [key])
    >>> again and again([torch.tensor([5.0])])
    tensor([6., 6.])
    """
    with _Recording(given) as recording:
        result = call()
    return result, recording.program(result)


class _Step(NamedTuple):
    """An operator's call: its arguments flat, where a slot's tensor goes among them, and the slots of its results."""

    operator: Callable[..., Any]
    arguments: tuple[Any, ...]
    structure: Any
    takes: tuple[tuple[int, int], ...]
    gives: tuple[int, ...]
    writes: bool


class _Recording(TorchDispatchMode):
    """Numbers each tensor that depends on the given ones, or is made of no tensor, by a slot, and keeps what made it.

    What is made of no tensor, such as zeros, is cheaper made again than kept, and may be drawn into.
    """

    def __init__(self, given: list[Tensor]) -> None:
        super().__init__()
        self.steps: list[_Step] = []
        self.slots: Any = WeakIdKeyDictionary()
        self.storages: dict[int, StorageWeakRef] = {}  # of these tensors; a weak reference keeps an address from reuse
        self.varying: set[int] = set()  # those of them that depend on the given
        self.taken: set[int] = set()  # the storages of other tensors that a step takes
        self.possible, self.count = True, 0
        self.given = tuple(map(self._number, given))
        self.whole = frozenset(self.storages)  # of all members: where some of them lie in it differs
        self.varying = set(self.whole)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """To keep the compiler away torch would import it; nothing is compiled here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.possible:
            self._note(func, (args, kwargs or {}), result)
        return result

    def _note(self, operator: Any, arguments: Any, result: Any) -> None:
        flat, structure = optree.tree_flatten(arguments)
        tensors = list(_tensors(flat))
        own = [leaf for leaf in tensors if storage_of(leaf) in self.storages]
        varies = any(storage_of(leaf) in self.varying for leaf in own)
        written = {storage_of(leaf) for leaf in _written(operator, *arguments)}
        again = varies or not tensors or (len(own) == len(tensors) and _aliases(operator))
        if not again:
            self.possible = self.possible and self.taken.isdisjoint(written)
            for storage in written & self.storages.keys():  # made of nothing, until now
                del self.storages[storage]
            return
        results = optree.tree_leaves(result)
        others = {storage_of(leaf) for leaf in tensors} - self.storages.keys()
        self.possible = (
            isinstance(operator, torch._ops.OpOverload)
            and ("as_strided" not in str(operator) or self.whole.isdisjoint(map(storage_of, own)))
            and all(leaf in self.slots for leaf in own)
            and all(isinstance(leaf, Tensor) for leaf in results)
            and others.isdisjoint(written)
            and others.isdisjoint(map(storage_of, results))
            and all(map(storage_of, results))
        )
        if not self.possible:
            return
        self.taken |= others
        takes = tuple((place, self.slots[leaf]) for place, leaf in enumerate(flat) if self._is_own(leaf))
        places = {place for place, _ in takes}
        kept = tuple(None if place in places else leaf for place, leaf in enumerate(flat))
        gives = tuple(map(self._number, results))
        if varies:
            self.varying |= written | set(map(storage_of, results))
        self.steps.append(_Step(operator, kept, structure, takes, gives, bool(written)))

    def _is_own(self, leaf: Any) -> bool:
        return isinstance(leaf, Tensor) and storage_of(leaf) in self.storages

    def _number(self, leaf: Tensor) -> int:
        """A slot for a tensor; one that is written into has it already, and keeps it."""
        if leaf not in self.slots:
            self.slots[leaf], self.count = self.count, self.count + 1
        self.storages.setdefault(storage_of(leaf), StorageWeakRef(leaf.untyped_storage()))
        return self.slots[leaf]

    def program(self, result: Tensor) -> Program | None:
        """The recorded steps that matter for the result, as a function of what was given."""
        if not self.possible or result.requires_grad or (self._is_own(result) and result not in self.slots):
            return None
        output = self.slots.get(result)
        needed, steps = {output}, list[_Step]()
        for step in reversed(self.steps):
            if step.writes or not needed.isdisjoint(step.gives):
                needed.update(slot for _, slot in step.takes)
                steps.append(step)
        last: dict[int, int] = {}
        for place, step in enumerate(reversed(steps)):
            last.update((slot, place) for slot in (*step.gives, *(slot for _, slot in step.takes)))
        over: list[list[int]] = [[] for _ in steps]
        for slot, place in last.items():
            if slot != output:
                over[place].append(slot)
        ordered, same_for_all = list(zip(reversed(steps), over, strict=True)), result if output is None else None
        return functools.partial(_run, ordered, self.given, output, same_for_all, result.device.type)


def _run(
    steps: list[tuple[_Step, list[int]]],
    slots: tuple[int, ...],
    output: int | None,
    same_for_all: Any,
    device: str,
    given: list[Tensor],
) -> Tensor:
    values = dict(zip(slots, given, strict=True))
    # What autocast would cast was recorded after it had.
    with torch.autocast(device, enabled=False):
        for step, over in steps:
            flat = list(step.arguments)
            for place, slot in step.takes:
                flat[place] = values[slot]
            args, kwargs = step.structure.unflatten(flat)
            values.update(zip(step.gives, _tensors(step.operator(*args, **kwargs)), strict=True))
            for slot in over:
                values.pop(slot, None)
    return same_for_all if output is None else values[output]


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in optree.tree_leaves(tree) if isinstance(leaf, Tensor))


def _written(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """The arguments that an operator writes into."""
    for place, argument in enumerate(operator._schema.arguments if hasattr(operator, "_schema") else ()):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from _tensors(args[place] if place < len(args) else kwargs.get(argument.name))


def _aliases(operator: Any) -> bool:
    """Whether what an operator returns may be, or look at, one of its arguments."""
    schema = getattr(operator, "_schema", None)
    return schema is None or any(argument.alias_info is not None for argument in schema.arguments)
