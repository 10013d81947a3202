"""What is known of the calls of a module: a plan for each kind, from rehearsals of those that were new."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from .. import _checks, _jit, random
from . import traced
from .arguments import sizes_of
from .copies import Eager
from .explained import explained
from .handed import copied
from .lending import Given, lend
from .rehearsal import Call, Originals, Plan, refused, rehearse, shielded, sleeps
from .rehearsal.generators import GLOBAL_DRAWS
from .skeleton import Skeleton

Known = tuple[Skeleton, Plan]


class Planner:
    """Looks at calls before they are made.

    eager: the skeletons, and what is known of kinds of calls. buffers: by name, whether each is part of the state
    dict. originals: the modules that the model was made of. writable: what comes back in the state when it was
    written into. ties: for each further name of a tensor, its own.
    """

    def __init__(
        self,
        eager: Eager,
        buffers: Mapping[str, bool],
        originals: Originals,
        writable: frozenset[str],
        ties: Mapping[str, str],
    ) -> None:
        self.eager, self.buffers, self.originals, self.writable, self.ties = eager, buffers, originals, writable, ties

    def first(
        self, kind: Any, skeleton: Skeleton, tensors: dict[str, Tensor], given: Given, trained: Collection[str]
    ) -> Known:
        """What is known of a kind of calls, from the first one."""
        self.eager.sizes.add(_sized(kind, given))
        return skeleton, self._plan(skeleton, tensors, given, trained)

    def of_other_sizes(self, kind: Any, skeleton: Skeleton, plan: Plan, *call: Any) -> Known:
        """What is known of a kind of Monte Carlo calls, once it is known of this one.

        A draw behind a switch of training that is off tells nobody, and other shapes or numbers may ask for it.
        """
        sizes = _sized(kind, call[1])
        if sizes not in self.eager.sizes:
            if self.look(skeleton, *call, looks=sleeps):
                plan = plan.joined(self._plan(skeleton, *call))
            self.eager.sizes.add(sizes)
        return skeleton, plan

    def again(self, skeleton: Skeleton, plan: Plan, written: str, *call: Any) -> Known:
        """What is known of a kind, with a call that draws, or writes into this tensor, as those so far have not."""
        *_, trained = call
        plan = plan.joined(self._plan(skeleton, *call))
        if not written:
            skeleton.draws_in_modes()
        elif written in self.writable.difference(trained):
            plan = replace(plan, written=plan.written | {written})
        else:
            plan = replace(plan, touched=plan.touched | {written})
        return skeleton, plan

    def knows_draws(self, skeleton: Skeleton, tensors: dict[str, Tensor], given: Given) -> bool:
        """Whether all that a call draws has a key, so that it was another thread that moved a generator."""
        anew = self.eager.made(skeleton.mode)
        try:
            plan = self.look(anew, tensors, given)
        except _checks.FuncregError:
            return False  # such as of a draw in a call without a key
        known = {name for name, drawing in skeleton.drawing.items() if drawing.always}
        drawing = {name for name, drawing in anew.drawing.items() if drawing.always}
        return drawing <= known and not any(each.did in GLOBAL_DRAWS for each in plan.impure)

    def look(
        self,
        skeleton: Skeleton,
        tensors: dict[str, Tensor],
        given: Given,
        trained: Collection[str] = (),
        looks: Callable[..., Any] = rehearse,
    ) -> Any:
        """Look at a call on copies and in plain torch.

        trained: those of the parameters that ask for no gradient which the call has among its params.
        looks: gives a plan, or what else there is to see.
        """
        wrapped = (tensors, given.args, given.named, given.rates)

        def look() -> Any:
            tensors, args, named, rates = copied(wrapped, traced.concrete, if_possible=True)
            # A rate of 0 now may be another at the next call of the kind: as a tensor it is any.
            rates = pytree.tree_map(_jit.as_data, rates)
            key = random.key(0, device=next(iter(tensors.values())).device if tensors else None)
            key = key if skeleton.mode.noise else None
            lend(skeleton, tensors, Given(args, named, key, rates, None, given.method), self.ties)
            call = Call(tensors, args, named, given.method, rates)
            return looks(skeleton, call, self.buffers, self.originals, self.writable.difference(trained))

        try:
            return shielded(look)
        except (RuntimeError, TypeError, AssertionError, _checks.FuncregError) as error:
            raise explained(error, skeleton) from error

    def _plan(self, *call: Any) -> Plan:
        plan: Plan = self.look(*call)
        if plan.impure:
            raise refused(plan.impure)
        return plan


def _sized(kind: Any, given: Given) -> Any:
    return kind, sizes_of(given.args), sizes_of(given.named)
