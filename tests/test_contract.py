"""What every public function promises, checked for each by its cases in `contract/cases`.

Inputs and the global generator are left alone; the same key gives the same result; a `vmap` over
everything equals a loop, in chunks and compiled too; settings can be batched alone; gradients are
finite; the dtype is the inputs'.
"""

from pathlib import Path
from typing import Any

import optree
import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

import funcreg as fr
from tests.contract.case import Case
from tests.public import public_functions, tables

TABLES = tables("tests.contract.cases")
GROUPS: dict[str, list[Case]] = {name: table.CASES for name, table in TABLES.items() if table.CASES}
CASES = [case for cases in GROUPS.values() for case in cases]
EXEMPT: dict[str, tuple[str, str]] = {}
for _table in TABLES.values():
    EXEMPT |= getattr(_table, "EXEMPT", {})
MEMBERS = 3
KEYED = [case for case in CASES if case.keyed]
TUNED = [case for case in CASES if case.settings]


def tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in optree.tree_leaves(value) if isinstance(leaf, Tensor)]


def arguments(case: Case, member: int = 1, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Inputs that differ by member, its settings as tensors, and its key."""

    def varied(leaf: Tensor) -> Tensor:
        return (leaf * (1 + 0.1 * member)).to(dtype) if leaf.is_floating_point() else leaf

    inputs = fr.tree.map(varied, dict(case.inputs))
    if case.name.startswith("uncertainty.") and "probabilities" in inputs:
        inputs["probabilities"] = inputs["probabilities"] / inputs["probabilities"].sum(dim=-1, keepdim=True)
    settings = {name: torch.tensor(values[member], dtype=torch.float64) for name, values in case.settings.items()}
    key = {"key": fr.random.fold_in(fr.random.key(5), member)} if case.keyed else {}
    return {**inputs, **settings, **key}


def everyone(case: Case) -> dict[str, Any]:
    return fr.tree.stack([arguments(case, member) for member in range(MEMBERS)])


def over_members(case: Case, chunk_size: int | None = None) -> Any:
    return vmap(lambda given: case.call(**given), chunk_size=chunk_size)


def assert_same(one: Any, other: Any) -> None:
    """Equal to the rounding of float64 sums in another order, or of a float32 in the function."""
    pairs = list(zip(tensors(one), tensors(other), strict=True))
    assert pairs
    for a, b in pairs:
        loose = 1e-6 if a.dtype == torch.float32 else 1e-10
        torch.testing.assert_close(a, b, rtol=loose, atol=loose / 10)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_arguments_and_the_global_generator_are_left_alone(case: Case) -> None:
    given = arguments(case)
    copies, versions = fr.tree.clone(given), [leaf._version for leaf in tensors(given)]
    generator = torch.get_rng_state()
    first = case.call(**given)
    again = case.call(**given)
    assert torch.equal(torch.get_rng_state(), generator), "the global generator moved"
    assert [leaf._version for leaf in tensors(given)] == versions, "an argument was written to"
    assert all(torch.equal(a, b) for a, b in zip(tensors(given), tensors(copies), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(again), strict=True)), (
        "same arguments, other result"
    )


@pytest.mark.parametrize("case", KEYED, ids=str)
def test_another_key_gives_another_result(case: Case) -> None:
    given = arguments(case)
    one, other = tensors(case.call(**given)), tensors(case.call(**{**given, "key": fr.random.key(6)}))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_vmap_over_everything_is_a_loop(case: Case) -> None:
    looped = fr.tree.stack([tensors(case.call(**arguments(case, member))) for member in range(MEMBERS)])
    assert_same(over_members(case)(everyone(case)), looped)
    assert_same(over_members(case, chunk_size=2)(everyone(case)), looped)


@pytest.mark.parametrize("case", TUNED, ids=str)
def test_settings_may_be_batched_alone(case: Case) -> None:
    given, members = arguments(case), everyone(case)
    settings = {name: members[name] for name in case.settings}
    batched = tensors(vmap(lambda settings: case.call(**{**given, **settings}))(settings))
    for member in range(MEMBERS):
        alone = {name: each[member] for name, each in settings.items()}
        assert_same([leaf[member] for leaf in batched], case.call(**{**given, **alone}))
        numbers = {name: float(each) for name, each in alone.items()}
        for one, other in zip(batched, tensors(case.call(**{**given, **numbers})), strict=True):
            # A Python number means float32 where nothing in the call is in float64.
            torch.testing.assert_close(one[member], other, rtol=1e-5, atol=1e-6, check_dtype=False)


# Once in a process, about spectral_l2: its Fourier transform is a call of a library, not generated code.
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
@pytest.mark.parametrize("group", GROUPS)
def test_compiled_is_eager(group: str) -> None:
    """One program for each module, as compiling costs about a second a function."""
    torch.compiler.reset()
    cases = GROUPS[group]

    def program(given: list[dict[str, Any]]) -> list[Any]:
        with fr.random.compiled_draws_are("native"):
            return [over_members(case)(each) for case, each in zip(cases, given, strict=True)]

    given = [everyone(case) for case in cases]
    for case, compiled, eager in zip(cases, fr.jit(program)(given), program(given), strict=True):
        try:
            assert_same(compiled, eager)
        except AssertionError as error:
            raise AssertionError(f"{case}: {error}") from error


@pytest.mark.parametrize("case", [case for case in CASES if case.has_slope], ids=str)
def test_gradients_are_finite(case: Case) -> None:
    for member in range(MEMBERS):
        given = arguments(case, member)
        constant = {name: given.pop(name) for name in case.constant}
        flat, structure = optree.tree_flatten(given)  # pyright: ignore[reportArgumentType]
        places = [place for place, leaf in enumerate(flat) if leaf.is_floating_point()]
        if not places:
            pytest.skip("no floating-point argument")
        slopes = grad(total)([flat[place] for place in places], case, flat, places, structure, constant)
        assert all(bool(torch.isfinite(slope).all()) for slope in slopes)


def total(
    chosen: list[Tensor], case: Case, flat: list[Any], places: list[int], structure: Any, constant: Any
) -> Tensor:
    """The sum of every floating-point number in a case's result, as a function of some of its leaves."""
    leaves = list(flat)
    for place, leaf in zip(places, chosen, strict=True):
        leaves[place] = leaf
    results = tensors(case.call(**structure.unflatten(leaves), **constant))
    sums = [leaf.double().sum() for leaf in results if leaf.is_floating_point()]
    return torch.stack([*sums, 0.0 * chosen[0].double().sum()]).sum()


@pytest.mark.parametrize("case", [case for case in CASES if case.inputs and not case.fixed_dtype], ids=str)
def test_the_dtype_is_kept(case: Case) -> None:
    for dtype in case.dtypes:
        given = arguments(case, dtype=dtype)
        if not any(leaf.is_floating_point() for leaf in tensors({name: given[name] for name in case.inputs})):
            continue
        expected = torch.promote_types(dtype, torch.float32) if case.at_least_float32 else dtype
        results = [leaf for leaf in tensors(case.call(**given)) if leaf.is_floating_point()]
        assert {leaf.dtype for leaf in results} == {expected}


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
