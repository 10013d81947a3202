"""What a forward leaves for the backward pass: hooks on gradients, autograd functions; is it pure too?

Where it leaves such code, a gradient is taken twice: inside of the call, as the module itself would,
and after it, as a pure call's is, when the skeleton has been put back. What draws without a key,
reads what only the call lends, or keeps something for the next call, shows.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ... import _checks
from ..._functorch import differentiated, in_vmap
from ..keyed import Event, Rehearsed
from . import snapshots
from .differences import difference, same_values
from .runs import Rehearsal

_REMEDY = "Let it close over the values that it needs, draw by torch's functions, and return what it computes."


class Backward(NamedTuple):
    """What gradients of calls of a kind need.

    layers: those, as messages call them, that leave code for the backward pass. keyed: whether it draws.
    hooks: whether there are hooks on gradients. refused: why no gradient can be taken, or "".
    """

    layers: str = ""
    keyed: bool = False
    hooks: bool = False
    refused: str = ""

    def check(self, arguments: Any) -> None:
        """Refuse a call whose gradient is taken where its backward pass would not be right."""
        if not differentiated(arguments):
            return
        self._refuse()
        if in_vmap() and (self.hooks or self.keyed):
            did = f"{self.layers}, whose code for the backward pass is lost in a vmap inside of the derivative"
            _checks.fail("module", did, "the derivative inside of the vmap", "vmap(grad(f)) instead of grad(vmap(f)).")

    def check_traced(self) -> None:
        """Refuse the same in a program that is being traced."""
        self._refuse()
        if self.keyed:
            _checks.fail("module", f"{self.layers}, which draws in the backward pass", "eager mode for its gradients")

    def _refuse(self) -> None:
        if self.refused:
            raise _checks.FuncregError(self.refused)


def rehearse_backward(rehearsal: Rehearsal) -> tuple[Backward | None, list[Event], Any]:
    """What gradients need, if anything, the draws in the backward pass, and the output of a run that kept a graph.

    The output is None where the call cannot be differentiated.
    """
    with torch.inference_mode(False), torch.enable_grad():
        once = _Gradient(rehearsal)
        if not once.run(inside=True):
            return Backward(refused=str(once.error)) if once.error else None, [], None
        output = rehearsal.output
        if not once.leaves_code():
            return None, [], output
        again = _Gradient(rehearsal)
        again.run(inside=False)
    names = sorted(once.seen.leaves | once.seen.hooks) or [""]
    layers = ", ".join(rehearsal.labels[name] for name in names)
    events = [event for event in (*once.seen.events, *again.seen.events) if event.kind == "backward"]
    did = again.why(once)
    if did and not isinstance(did, _checks.FuncregError):
        did = f"module: got {layers}, whose code in the backward pass {did}; expected a pure one. {_REMEDY}"
    found = Backward(layers, bool(events), bool(once.seen.hooks), str(did))
    return found if any(found[1:]) else None, events, output


class _Gradient:
    """A run of a call and its gradient by all that it could be taken by."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self.rehearsal = rehearsal
        self.seen: Rehearsed = rehearsal.mode()
        self.others = False  # code that no layer's mode has seen
        self.did: set[str] = set()
        self.error: Exception | None = None
        self.gradients: Any = None

    def leaves_code(self) -> bool:
        """Whether the forward has left code for the backward pass."""
        return bool(self.seen.leaves or self.seen.hooks or self.others or self.did)

    def run(self, *, inside: bool) -> bool:
        """Take it inside of the call, or after it, if there is code that it would run; False: the forward failed."""
        rehearsal = self.rehearsal
        tensors, args, kwargs = rehearsal.copied()
        values = {id(tensor): _leaf(tensor) for tensor in tensors.values()}  # ties stay ties
        tensors = {n: tensor if n in rehearsal.buffers else values[id(tensor)] for n, tensor in tensors.items()}
        leaves, structure = pytree.tree_flatten((args, kwargs))
        leaves = [_leaf(leaf) for leaf in leaves]
        wanted = [leaf for leaf in (*tensors.values(), *leaves) if isinstance(leaf, Tensor) and leaf.requires_grad]
        # A forward may write into its inputs in place, but not into leaves.
        leaves = [leaf.clone() if isinstance(leaf, Tensor) and leaf.requires_grad else leaf for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(leaves, structure)

        ran = False

        def differentiate(output: Any) -> None:
            nonlocal ran
            ran = True
            self.did |= {f"leaves a hook on {name}" for name, tensor in tensors.items() if _has_hooks(tensor)}
            if self.leaves_code():
                self._differentiate(output, wanted)

        try:
            watching = {"then": differentiate} if inside else {}
            rehearsal.run_and_put_back(self.seen, tensors, args, kwargs, otherwise=self._another, **watching)
        except Exception as error:
            if ran:
                raise
            # Any other, the module itself would raise.
            self.error = error if isinstance(error, _checks.FuncregError) else None
            return False
        if not inside:
            differentiate(rehearsal.output)
        return True

    def why(self, inside: "_Gradient") -> str | Exception:
        """What is not pure, or "", given the gradient that was taken inside of a call."""
        for each in (self, inside):
            if isinstance(each.error, _checks.FuncregError):
                return each.error
        if inside.error is not None:
            return ""  # nor has the module one
        if self.did or inside.did:
            return " and ".join(sorted(self.did | inside.did))
        if self.error is not None:
            return f"cannot run after the call ({str(self.error).strip().splitlines()[0]})"
        differ = difference(inside.gradients, self.gradients, repeated=True)
        return differ and "gives another gradient after the call than within it"

    def _differentiate(self, output: Any, wanted: list[Tensor]) -> None:
        rehearsal = self.rehearsal
        outputs = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor) and leaf.requires_grad]
        if not outputs:
            return
        slots = {name: rehearsal.skeleton.slots.places[name] for name in rehearsal.buffers}
        before = {name: (own[slot], own[slot].clone()) for name, (own, slot, _) in slots.items()}
        snapshot = snapshots.Snapshot(rehearsal.layers)
        generators = rehearsal.generators()
        try:
            ones = [torch.ones_like(each) for each in outputs]
            with snapshots.values_put_back(rehearsal.own_tensors) as written:
                self.gradients = torch.autograd.grad(outputs, wanted, ones, allow_unused=True)
            self.did |= {f"writes into {name}" for name in written}
        except Exception as error:
            self.error = error
        finally:
            self.did |= set(generators.put_back())
        for name, (tensor, values) in before.items():
            own, slot, _ = slots[name]
            if own[slot] is not tensor or not same_values(tensor, values):
                self.did.add(f"writes into {name}")
        self.did |= {f"sets attributes of {rehearsal.labels[name]}" for name in snapshot.changed()}
        snapshot.put_back()

    def _another(self) -> None:
        self.others = True


def _has_hooks(tensor: Tensor) -> bool:
    return bool(tensor._backward_hooks or tensor._post_accumulate_grad_hooks)


def _leaf(value: Any) -> Any:
    if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()):
        return value.detach().requires_grad_()
    return value
