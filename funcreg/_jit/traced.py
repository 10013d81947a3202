"""`traced`: a function that is made into a program by `torch.compile`, once for what it is called with."""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import optree
import torch
from torch import Tensor

from .. import _checks
from .kinds import as_argument, flattened
from .modes import compiling, register_operators
from .notices import FEWER, noticing_kinds
from .ready import ready

P = ParamSpec("P")
R = TypeVar("R")
Result = TypeVar("Result", covariant=True)

# Where a guard's name says that it looks at what nobody changes: libraries, and what `program` below calls.
_FIXED = (
    *("__import_torch", "__import__('torch')", "__import_optree", "__import_funcreg", "__import_contextlib"),
    *("__builtins_dict__", "G['optree']", "G['whole']", "G['Tensor']"),
)
_IDENTITY = ".identity"  # which Model a Model's apply is of

_MOST = 256  # programs of a function, as many as torch allows in all; it would stop at the eighth


class Compiled(Protocol[P, Result]):
    """What `jit` returns: the function, and how often it was compiled."""

    compilations: int

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result: ...


def traced(
    function: Callable[P, R], backend: str | Callable[..., Any], options: Mapping[str, Any] | None = None
) -> Compiled[P, R]:
    """A function that is traced whole, once, as `jit` has it, and run by any backend of `torch.compile`.

    >>> traced(lambda x: x + 1, lambda graph, inputs: graph.forward)(torch.ones(1))
    tensor([2.])
    """

    def program(*args: P.args, **kwargs: P.kwargs) -> R:
        return optree.tree_map(whole, function(*args, **kwargs))  # type: ignore[return-value]

    compiled_for = noticing_kinds(function)

    def guards(all_of: Sequence[Any]) -> list[bool]:
        result.compilations += 1
        return _guards_that_can_fail(all_of)

    # torch counts recompilations by code object: each program has its own.
    program.__code__ = program.__code__.replace()
    register_operators()
    known = ready(program)
    kept = {"options": {**(options or {}), "guard_filter_fn": guards}, "recompile_limit": _MOST}
    untyped: Any = torch.compile  # whose stub does not know the limit
    compiled: Callable[..., R] = untyped(program, fullgraph=True, dynamic=False, backend=backend, **kept)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if compiling():
            return function(*args, **kwargs)
        run = known(args, kwargs)
        if run is not None:
            return run(*args, **kwargs)
        # To look at all arguments takes as long as a few small layers.
        given: Any = (args, kwargs)
        leaves, structure = optree.tree_flatten(given)
        given = structure.unflatten(_each_once(leaves))
        run = known(*given)
        if run is not None:
            return run(*given[0], **given[1])
        made = result.compilations
        if made >= _MOST:
            _checks.fail("function", f"one that was compiled {made} times", f"at most {_MOST} kinds of calls", FEWER)
        try:
            with torch._dynamo.config.patch(skip_nnmodule_hook_guards=False):  # or a hook that is added is not seen
                results = compiled(*given[0], **given[1])
        except Exception as error:
            if not type(error).__module__.startswith("torch._dynamo"):
                raise
            raise explained(function, given, error) from error
        if result.compilations > made:
            compiled_for(*flattened(given))
        return results

    result = cast("Compiled[P, R]", call)
    result.compilations = 0
    return result


def _each_once(leaves: list[Any]) -> list[Any]:
    """Leaves as a program takes them: numbers as tensors, plain tensors for parameters, and each tensor once."""
    seen, alike = set[int](), list[Any]()
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            alike.append(as_argument(leaf))
        else:
            watched = leaf.requires_grad and torch.is_grad_enabled()
            other = id(leaf) in seen or type(leaf) is torch.nn.Parameter
            alike.append(leaf.detach() if other and not watched else leaf)
        seen.add(id(leaf))
    return leaves if all(map(operator.is_, leaves, alike)) else alike


def whole(leaf: Any) -> Any:
    """A result as it is, or copied out of a larger tensor, or from one that repeats: else it has other strides."""
    if not isinstance(leaf, Tensor) or leaf.layout != torch.strided or not leaf.numel():
        return leaf
    size = 1
    for stride, length in sorted(zip(leaf.stride(), leaf.shape, strict=True)):
        if length != 1:
            if stride != size:
                return leaf.clone(memory_format=torch.contiguous_format)
            size *= length
    return leaf


def explained(function: Callable[..., Any], given: Any, error: Exception) -> Exception:
    """Why a function cannot be compiled: what the function itself raises, or else what the compiler says."""
    try:
        function(*given[0], **given[1])
    except Exception as own:
        return own
    *_, where = [line.strip() for line in str(error).splitlines() if line.lstrip().startswith("File ")] or [""]
    first = str(error).strip().splitlines()[0]
    if first.startswith("FuncregError: "):  # of what is refused in compiled programs alone
        return _checks.FuncregError(first.removeprefix("FuncregError: "))
    remedy = "Call it without fr.jit (jit=False)."
    if any(_is_count(leaf) for leaf in optree.tree_leaves(given)):
        remedy += " Whole numbers in its arguments are data; one that sets a shape is closed over: functools.partial."
    return _checks.FuncregError(
        f"function: got one that cannot be compiled whole ({first}{f', in {where}' if where else ''}); expected one "
        f"that does the same whatever the values. {remedy}"
    )


def _is_count(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and not leaf.ndim and not leaf.is_floating_point()


def _guards_that_can_fail(guards: Sequence[Any]) -> list[bool]:
    """Which of the conditions on a compiled program are worth a check at each call.

    Arguments, the caller's closures and globals, modules among them, and which model it is, are. The insides of
    torch, optree and funcreg, and of a Model's apply, are not; checking them takes a third of the time of a small step.
    """
    models = {guard.name for guard in guards if guard.has_value and _is_apply(guard.value)}
    tuples = {guard.name for guard in guards if guard.has_value and _is_scope_of_a_named_tuple(guard.value)}
    inside = *_FIXED, *tuples, *(f"{model}{after}" for model in models for after in (".", ")"))
    identities = {model + _IDENTITY for model in models}
    return [guard.name in identities or not any(part in guard.name for part in inside) for guard in guards]


def _is_apply(value: Any) -> bool:
    """Whether it is a Model's, or a part of one."""
    return type(value).__module__.startswith("funcreg.model.")


def _is_scope_of_a_named_tuple(value: Any) -> bool:
    return isinstance(value, dict) and str(value.get("__name__")).startswith("namedtuple_")
