"""What every public function promises: `fr.testing` on each, by its cases in `contract/cases`."""

import inspect
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import funcreg as fr
from tests.contract.case import Case
from tests.public import public_functions, tables

TABLES = tables("tests.contract.cases")
GROUPS: dict[str, list[Case]] = {name: table.CASES for name, table in TABLES.items() if table.CASES}
CASES = [case for cases in GROUPS.values() for case in cases]
EXEMPT: dict[str, tuple[str, str]] = {}
for _table in TABLES.values():
    EXEMPT |= getattr(_table, "EXEMPT", {})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_rule_holds(case: Case) -> None:
    inputs = set(case.inputs) - set(case.constant)
    floating = {name for name in inputs if any(map(torch.is_floating_point, fr.tree.leaves(case.inputs[name])))}
    fr.testing.check(
        case.call,
        gradients=case.has_slope and sorted({*floating, *case.settings}),
        dtype="any" if case.fixed_dtype else "widened" if case.at_least_float32 else "kept",
        **case.arguments(),
    )


# Once in a process, about spectral_l2: its Fourier transform is a call of a library, not generated code.
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
@pytest.mark.parametrize("group", GROUPS)
def test_compiled_is_eager(group: str, request: pytest.FixtureRequest) -> None:
    torch.compiler.reset()
    if group in ("losses", "noise"):
        request.getfixturevalue("compiled_as_users_do")
    with fr.random.compiled_draws_are("native"):
        fr.testing.check_compiled(*[case.example() for case in GROUPS[group] if not case.within])


@pytest.mark.parametrize("case", [case for case in CASES if case.within], ids=str)
def test_what_another_case_compiles_is_called_there_with_the_like(case: Case) -> None:
    (other,) = [each for each in CASES if str(each) == case.within]
    assert not other.within
    own, others = kinds_of_calls(case.name, case), kinds_of_calls(case.name, other)
    assert own
    assert all(any(alike(one, each) for each in others) for one in own)


def alike(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether tensors have the same names and dtypes, and axes: what one has for all, another may have for each."""
    return [each[:2] for each in one] == [each[:2] for each in other] and all(
        own == axes or (own, axes) == (0, 1) for (*_, own), (*_, axes) in zip(one, other, strict=True)
    )


def kinds_of_calls(name: str, case: Case) -> set[tuple[Any, ...]]:
    """The names, dtypes and axes of the tensors that a public function gets when a case is called."""
    module, _, function = name.rpartition(".")
    code = inspect.unwrap(getattr(getattr(fr, module), function)).__code__
    example, found = case.example(), set()

    def see(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is code:
            given = [(word, leaf) for word, value in frame.f_locals.items() for leaf in fr.tree.leaves(value)]
            found.add(tuple((word, leaf.dtype, leaf.ndim) for word, leaf in given if isinstance(leaf, torch.Tensor)))

    sys.setprofile(see)
    try:
        example.over()(example.stacked())
    finally:
        sys.setprofile(None)
    return found


def test_every_public_function_is_registered() -> None:
    registered = {case.name for case in CASES} | set(EXEMPT)
    public = set(public_functions())
    assert public - registered == set(), "add these to tests/contract/cases"
    assert registered - public == set(), "these are not public"


@pytest.mark.parametrize("name", EXEMPT)
def test_what_is_exempt_is_tested_elsewhere(name: str) -> None:
    reason, file = EXEMPT[name]
    assert reason
    assert name.split(".")[-1] in (Path(__file__).parent / file).read_text()
