"""`check` and `report`: a function through every rule that applies to it."""

from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor

from .. import _checks
from . import backward, closures, compiling, purity, transformed
from .example import Example, Settings, example, title
from .reports import Finding, Report, refuse_broken
from .surroundings import put_back
from .trees import fresh

DTYPES = ("kept", "widened", "either", "any")
_FIRST = ("arguments", "global state", "state", "results", "key")


def check(
    function: Callable[..., Any],
    *args: Any,
    key: Tensor | None = None,
    batched: Settings = (),
    jit: bool = False,
    gradients: bool | Collection[str] = True,
    dtype: str = "kept",
    **kwargs: Any,
) -> None:
    """Refuse a function that breaks a rule: pure, keyed, batched, differentiable. See `report` for the rules.

    Args:
        function: any function of trees of tensors: `function(*args, key=key, **kwargs)` is the example that it is
            tried on. Its arguments are copied, so that nothing can happen to them.
        key: int64 (2,), for a function that draws.
        batched: names of the arguments that tune it, with values, {"rate": (0.0, 0.3, 1.0)}, or without, {"rate"}.
        jit: compile it too, which takes seconds.
        gradients: whether it is differentiated, or the names of the arguments by which.
        dtype: of a result: "kept" is the inputs', "widened" float32 for 16 bits, "either" one of the two, settings
            being Python numbers; or "any".

    Raises:
        AssertionError: lists each broken rule with its evidence.
        FuncregError: for arguments of `check` itself.

    >>> import torch
    >>> import funcreg as fr
    >>> check(fr.noise.dropout, torch.ones(4, 3), key=fr.random.key(0), batched={"rate": (0.0, 0.3, 1.0)})
    >>> check(lambda x: x.mul_(2), torch.ones(4, 3))
    Traceback (most recent call last):
    AssertionError: <lambda> breaks 1 rule:
      arguments: x was written into: [0, 0]: got 2, expected 1 (by 1; 12 of 12 elements differ)
    """
    given: dict[str, Any] = {"key": key, "batched": batched, **kwargs}
    refuse_broken(report(function, *args, jit=jit, gradients=gradients, dtype=dtype, **given))


def report(
    function: Callable[..., Any],
    *args: Any,
    key: Tensor | None = None,
    batched: Settings = (),
    jit: bool = False,
    gradients: bool | Collection[str] = True,
    dtype: str = "kept",
    **kwargs: Any,
) -> Report:
    """What `check` finds, as a value that prints as a table.

    - arguments: nothing given is written into.
    - global state: generators and torch's settings are left alone, and have no part in the result.
    - state: the same arguments, the same result, at any time; what the function closes over stays as it was before
      the first call.
    - results: a tree of tensors.
    - key: another one gives another result, none is drawn from twice, and there is none by default, nor a seed
      where none is given.
    - mode: the result depends on no module's `training`, nor on `torch.no_grad`.
    - settings: have an effect, may be tensors, batched alone, and mean the same as Python numbers.
    - vmap: over everything, in chunks and over keys alone, it gives what a loop gives.
    - finite: no NaN, and finite gradients.
    - backward: that of an autograd.Function written by hand is the slope, by finite differences.
    - dtype: the inputs', for float64, float32 and bfloat16.
    - compiled: gives what eager does, and other numbers do not compile again.

    Args:
        function, args, key, batched, jit, gradients, dtype, kwargs: as for `check`.

    Returns:
        A Report: `broken` has the names of the broken rules, `findings` the evidence.

    Raises:
        FuncregError: for arguments of `report` itself. What the function raises for its example comes through.

    >>> import torch
    >>> found = report(lambda x, rate: x * float(rate), torch.ones(3), batched={"rate": (0.1, 0.2, 0.3)})
    >>> found.broken
    ('settings',)
    """
    _checks.check_choice("jit", jit, (True, False))
    _checks.check_choice("dtype", dtype, DTYPES)
    tried = example(function, *args, key=key, batched=batched, **kwargs)
    return Report(title(function), tuple(findings(tried, jit=jit, gradients=gradients, dtype=dtype)))


def findings(tried: Example, *, jit: bool, gradients: bool | Collection[str], dtype: str) -> list[Finding]:
    """Each rule's finding, for an example that is there already.

    >>> import torch
    >>> [each.rule for each in findings(example(torch.sin, torch.ones(2)), jit=False, gradients=True, dtype="kept")][:2]
    ['arguments', 'global state']
    """
    places = _differentiated(tried, gradients)
    held = closures.snapshot(tried.function)
    refused = transformed.refused(tried)
    if refused:
        tried = tried.untuned()
    rows = [_found("arguments", purity.arguments, tried), _found("global state", purity.global_state, tried)]
    written = "not judged: arguments are written into" if rows[0].broken else ""
    moved = "not judged: global state moves or matters" if rows[1].broken else ""
    rows += [
        _found("state", lambda tried: purity.state(tried, held), tried, moved),
        _found("results", purity.results, tried),
    ]
    unrepeated = moved or ("not judged: results do not repeat" if rows[2].broken else "")
    no_tree = "not judged: the result is no tree of tensors" if rows[3].broken else ""
    batchable = written or unrepeated or no_tree or ("" if tried.tensors else "no tensor is given")
    rows.append(_found("key", purity.key, tried, unrepeated or ("" if tried.keyed is not None else "no key is given")))
    rows.append(_found("mode", purity.mode, tried, unrepeated))
    if refused:
        rows.append(Finding("settings", tuple(refused)))
    else:
        untuned = batchable or ("" if tried.settings else "name them: batched=")
        rows.append(_found("settings", transformed.settings, tried, untuned))
        if rows[-1].broken:  # the other rules are judged at the call's own numbers
            tried = tried.untuned()
    rows.append(_found("vmap", transformed.batches, tried, batchable))
    if written or unrepeated:
        places = []
    places = [place for place in places if place in tried.floating or place in tried.settings]
    rows.append(_found("finite", lambda tried: transformed.finite(tried, places), tried))
    sloped = [] if rows[-1].broken else [place for place in places if place in tried.floating]
    rows.append(_found("backward", lambda tried: backward.slopes(tried, sloped), tried))
    if dtype == "any" or not tried.floating:
        rows.append(Finding("dtype", (), "any is allowed" if dtype == "any" else "no floating-point tensor is given"))
    else:
        rows.append(_found("dtype", lambda tried: transformed.dtype(tried, dtype), tried, unrepeated))
    uncompiled = batchable or ("" if jit else "ask for it: jit=True")
    rows.append(_found("compiled", lambda tried: compiling.compiled(tried)[0], tried, uncompiled))
    return rows


def judged(rows: list[Finding]) -> bool:
    """Whether results can be compared with one another: only then rules of a kind of function say anything.

    >>> judged([Finding("state", ("counts",))]), judged([Finding("finite", ("NaN",))])
    (False, True)
    """
    return not any(each.broken for each in rows if each.rule in _FIRST)


def begun(
    name: str, tried: Example, *, jit: bool, gradients: bool | Collection[str], dtype: str
) -> tuple[list[Finding], list[Any], Any]:
    """What every function is asked, then leaves and the result of a call, for what is asked of a kind of function.

    Raises:
        AssertionError: for a function of this name whose results cannot be compared.

    >>> import torch
    >>> begun("sin", example(torch.sin, torch.zeros(2)), jit=False, gradients=True, dtype="kept")[2]
    tensor([0., 0.])
    """
    found = findings(tried, jit=jit, gradients=gradients, dtype=dtype)
    if not judged(found):
        refuse_broken(Report(name, tuple(found)))
    leaves = fresh(tried.member(tried.base))
    return found, leaves, tried.call(leaves)


def _found(rule: str, evidence: Callable[[Example], list[str]], tried: Example, unasked: str = "") -> Finding:
    if unasked:
        return Finding(rule, (), unasked)
    with put_back():
        return Finding(rule, tuple(evidence(tried)))


def _differentiated(tried: Example, gradients: bool | Collection[str]) -> list[int]:
    """The places of the leaves by which it is differentiated."""
    every = [*tried.floating, *tried.settings]
    if isinstance(gradients, bool):
        return every if gradients else []
    of = {name: [at for at in every if f"{tried.names[at]}.".startswith(f"{name}.")] for name in gradients}
    for name, places in of.items():
        if not places:
            known = ", ".join(tried.names[at] for at in every)
            _checks.fail("gradients", repr(name), f"names of floating-point arguments, here of {known}")
    return [place for places in of.values() for place in places]
