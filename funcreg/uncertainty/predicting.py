"""What a function says for many members, or keys: all at once, or a chunk at a time, and compiled."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _checks, _jit, tree
from .._compiling import is_compiling
from .._functorch import in_transform
from ..tree.checks import check_values
from .chunking import Chunking, evenly
from .heads import Head
from .program import program_of
from .replay import recorded

# How torch says that something batched is written into something that is not.
_WRITES = ("inplace arithmetic", "in place", "(self, *extra_args)", "match the broadcast shape")


def predict(
    function: Callable[[Any, Any], Tensor],
    owner: Any,
    head: Head,
    stacked: tree.Tree,
    shared: Any,
    members: int,
    how: Chunking,
) -> Any:
    """What a head's readings of a function of (member, shared) say, a chunk of a stacked tree's members at a time."""
    _checks.check_choice("jit", how.jit, (True, False))
    jit = how.jit and not is_compiling()
    if jit and in_transform():
        _checks.fail("jit", True, "False inside of vmap, grad and other transforms", "Or compile them whole: fr.jit.")
    if jit:
        shared = tree.map(_jit.as_data, shared)

    def some(start: int, stop: int) -> Any:
        return tree.map(lambda leaf: leaf[start:stop], stacked)

    def draw(some: Any) -> Tensor:
        return _over_members(function, some, shared)

    size, so_far = how.size(members, owner, (stacked, shared), lambda: draw(some(0, 1))), None
    again = program_of(function, owner, some(0, size), shared) if jit else None
    for stop in range(size, members + size, size):
        if again is not None:  # a program is for one size: the last chunk begins with some that were in another
            whole = again(tree.leaves(some(min(stop, members) - size, stop)))
            drawn = whole[max(0, stop - members) :]
        elif stop == size < members and not in_transform() and not _jit.compiling():
            first = some(0, size)
            drawn, again = recorded(lambda first=first: draw(first), tree.leaves(first))
        else:
            drawn = draw(some(stop - size, stop))
        each = head.begin(drawn)
        so_far = each if so_far is None else head.merge(so_far, each)
    return head.end(so_far)


def batches_of(x: Tensor, batch_size: int | None) -> list[slice]:
    """The inputs in batches of one size, of which the last may begin with some that were in another."""
    _checks.check_tensor("x", x)
    if x.ndim == 0:
        _checks.fail("x", _checks.describe(x), "inputs (N, ...)")
    if batch_size is None:
        return [slice(None)]
    _checks.check_count("batch_size", batch_size)
    if len(x) == 0:
        _checks.fail("x", _checks.describe(x), "inputs (N, ...), N at least 1, since there is a batch_size")
    size = evenly(len(x), batch_size)
    return [slice(min(stop, len(x)) - size, stop) for stop in range(size, len(x) + size, size)]


def joined(parts: list[Any], batches: list[slice], axis: int) -> Any:
    """The predictions of batches as one, each input's once; inputs are this axis."""
    if len(parts) == 1:
        return parts[0]
    size = batches[0].stop
    for leaf in tree.leaves(parts):
        if leaf.ndim <= axis or leaf.shape[axis] != size:
            allowed = f"a row for each of {size} inputs, since there is a batch_size"
            _checks.fail("model", f"an output that gives {_checks.describe(leaf)}", allowed)
    again = batches[-1].stop - batches[-1].start - size
    last = tree.map(lambda leaf: leaf.narrow(axis, again, size - again), parts[-1])
    return tree.map(lambda *leaves: torch.cat(leaves, dim=axis), *parts[:-1], last)


def _over_members(function: Callable[[Any, Any], Tensor], stacked: tree.Tree, shared: Any) -> Tensor:
    """vmap, with torch's two complaints about impure models in terms of the model."""
    if is_compiling():
        return torch.func.vmap(function, (0, None))(stacked, shared)
    try:
        return torch.func.vmap(function, (0, None))(stacked, shared)
    except RuntimeError as error:
        message = str(error)
        remedy = "Build it with fr.from_module, and see fr.check(model, params, state, x)."
        if "randomness" in message:
            impure = "a model that draws from the global generator"
        elif any(words in message for words in _WRITES):
            impure = "a model that writes to its buffers"
        else:
            raise
        raise _checks.FuncregError(f"model: got {impure}; expected one whose noise is keyed. {remedy}") from error


def check_model(model: Any, params: Any, state: Any, x: Any) -> None:
    """Refuse what has no `apply` of a model's, and tensors without values."""
    for name, given in (("params", params), ("state", state), ("x", x)):
        check_values(name, given)
    # An nn.Module has an apply of its own, which does something else.
    if isinstance(model, torch.nn.Module) or not callable(getattr(model, "apply", None)):
        allowed = "a model with apply(params, state, x, *, key, rates)"
        _checks.fail("model", _checks.describe(model), allowed, "Make one: fr.from_module(module).")


def output_of(results: tuple[Any, Any]) -> Tensor:
    """The output that a model returned, with its state."""
    output, _ = results
    if not isinstance(output, Tensor):
        remedy = "Of a model with several outputs: one whose apply returns this one."
        _checks.fail("model", f"an output of {_checks.describe(output)}", "a tensor (N, ...)", remedy)
    return output
