"""Programs: what is compiled gives what is eager, and compiles once."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .. import _checks, _jit
from .calls import compared, numbers, said
from .example import Example, title
from .trees import fresh


def check_compiled(*examples: Example) -> None:
    """Refuse functions that give something else when compiled, or that compile again for other numbers.

    All are compiled as one program, which takes much less time than one after the other.

    Args:
        examples: from `example`; each is compiled under `vmap` over its members.

    Raises:
        AssertionError: a line for each function that differs, and by how much.
        FuncregError: for what is not an Example, or on a machine that cannot compile.

    >>> from funcreg import can_compile
    >>> from funcreg.testing import example
    >>> if can_compile():
    ...     check_compiled(example(torch.sin, torch.ones(3)), example(torch.add, torch.ones(2), torch.ones(2)))
    """
    for at, each in enumerate(examples):
        if not isinstance(each, Example):
            _checks.fail(f"examples[{at}]", _checks.describe(each), "an Example", "Make one: fr.testing.example(...).")
    found = {at: lines for at, lines in enumerate(compiled(*examples)) if lines}
    if found:
        lines = [f"{title(examples[at].function)}: {line}" for at, each in found.items() for line in each]
        raise AssertionError("\n  ".join(["compiled and eager differ:", *lines]))


def assert_compiles_once(function: Callable[..., Any], *calls: tuple[Any, ...] | Mapping[str, Any]) -> None:
    """Refuse a function that has to be compiled again for a later call.

    It is traced as `fr.jit` does, but nothing is generated: seconds become fractions of one.

    Args:
        function: of trees of tensors and numbers, whether or not under `fr.jit`.
        calls: at least two: each a tuple of positional arguments, or a dict of keyword arguments.

    Raises:
        AssertionError: how often it was compiled, for which calls, and what was new about each.
        FuncregError: for fewer than two calls, or a function that cannot be compiled whole.

    >>> assert_compiles_once(lambda x, rate: x * rate, (torch.ones(3), 0.1), (torch.zeros(3), 0.2))
    >>> assert_compiles_once(lambda x: x + 1, (torch.ones(3),), (torch.ones(4),))
    Traceback (most recent call last):
    AssertionError: compiled 2 times in 2 calls:
      call 1: tensor 'args[0]' size mismatch at index 0. expected 3, actual 4
    """
    _checks.check_callable("function", function, "a pure function of tensors")
    for at, call in enumerate(calls):
        if not isinstance(call, tuple | Mapping):
            allowed = "a tuple of positional arguments or a dict of keyword arguments"
            _checks.fail(f"calls[{at}]", _checks.describe(call), allowed)
    if len(calls) < 2:
        _checks.fail("calls", f"{len(calls)} of them", "at least two, to compare")
    program, again = _jit.traced(function, _only_trace), []
    for at, call in enumerate(calls):
        args, kwargs = ((), dict(call)) if isinstance(call, Mapping) else (call, {})
        if not at:
            program(*args, **kwargs)
        elif reason := _recompiles(program, args, kwargs):
            again.append(f"call {at}: {reason}")
    if again:
        count = f"compiled {1 + len(again)} times in {len(calls)} calls:"
        raise AssertionError("\n  ".join([count, *again]))


def compiled(*examples: Example) -> list[list[str]]:
    """For each example how its compiled result differs from the eager one; and whether other numbers compile again."""

    calls = [each.over() if each.tensors else _alone(each) for each in examples]  # made here, lest it be traced

    def all_of(given: list[list[Tensor]]) -> list[Any]:
        return [call(leaves) for call, leaves in zip(calls, given, strict=True)]

    program = _jit.jit(all_of)
    given = [fresh(_given(each)) for each in examples]
    eager = all_of(given)
    try:
        results = program(given)
    except Exception as error:
        return [[f"cannot be compiled: {said(error)}"], *([] for _ in examples[1:])]
    pairs = zip(examples, map(numbers, results), map(numbers, eager), strict=True)
    found = [compared(*each) for each in pairs]
    # The same values in another order of members: nothing that a program may depend on.
    turned = [
        [leaf.roll(1, 0) if each.tensors else leaf for leaf in leaves]
        for each, leaves in zip(examples, given, strict=True)
    ]
    reason = _recompiles(program, (turned,), {})
    if reason:
        found[0] = [*found[0], f"other numbers compile again: {reason}"]
    return found


def _given(example: Example) -> list[Tensor]:
    return example.stacked() if example.tensors else []


def _alone(example: Example) -> Callable[[list[Tensor]], Any]:
    return lambda _: example.call(example.leaves)


def _recompiles(program: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Why a call needs the program to be compiled again; nothing if it does not. The call is made in any case."""
    try:
        with torch.compiler.set_stance("fail_on_recompile"):
            program(*args, **kwargs)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        if "recompile" not in lines[0]:
            raise
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it is compiled again is said here
            program(*args, **kwargs)
        reasons = [line.split(": ", 1)[-1] for line in lines if line.startswith("- ")]
        return reasons[0] if reasons else lines[0]
    return ""


def _only_trace(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
    return graph.forward
