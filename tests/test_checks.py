"""Every bad argument gets a FuncregError that names it: one row a case, for all public functions."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import funcreg as fr
from funcreg import _checks, losses, noise, norm
from tests.public import public_functions, tables
from tests.refusals import CLASSES, INTEGERS, KEY, KEYS, X, bad

TABLES = tables("tests.refusals")
REFUSALS = [row for table in TABLES.values() for row in table.REFUSALS]
# name: why no argument of it can be bad
WITHOUT_BAD_INPUT: dict[str, str] = {}
for _table in TABLES.values():
    WITHOUT_BAD_INPUT |= getattr(_table, "WITHOUT_BAD_INPUT", {})


@pytest.mark.parametrize(
    ("argument", "call"),
    [row[1:] for row in REFUSALS],
    ids=[f"{number}-{function}-{argument}" for number, (function, argument, _) in enumerate(REFUSALS)],
)
def test_a_bad_argument_is_named(argument: str, call: Callable[[], Any]) -> None:
    with pytest.raises(fr.FuncregError) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(f"{argument}: got "), message
    assert "; expected " in message


def test_every_public_function_refuses_something() -> None:
    covered, public = {function for function, _, _ in REFUSALS}, set(public_functions())
    assert public - covered - set(WITHOUT_BAD_INPUT) == set(), "add these to tests/refusals"
    assert covered - public == set(), "these are not public"
    assert set(WITHOUT_BAD_INPUT) & covered == set(), "these do refuse something"


def test_a_key_that_is_missing_is_pythons_own_error() -> None:
    for function in (noise.dropout, noise.drop_path, noise.gaussian_dropout):
        with pytest.raises(TypeError, match="key"):
            bad(function)(X, 0.5)


def test_the_remedy_is_in_the_message() -> None:
    for call, remedy in (
        (lambda: fr.random.uniform(KEYS, 2), "torch.func.vmap"),
        (lambda: fr.random.split(bad(7)), r"fr.random.key\(7\)"),
        (lambda: losses.cross_entropy(X, CLASSES.float()), r"targets.long\(\)"),
        (lambda: noise.dropout(INTEGERS, 0.5, key=KEY), r"x.float\(\)"),
        (lambda: noise.dropout(X, torch.ones(3), key=KEY), "vmap"),
        (lambda: norm.batch_norm(torch.ones(1, 3), norm.init_batch_stats(3), train=True), "larger batch"),
    ):
        with pytest.raises(fr.FuncregError, match=remedy):
            call()


def test_what_cannot_be_read_is_nan_where_it_is_out_of_range() -> None:
    """A check that read a number would fail under vmap, and stall a GPU."""
    rates = torch.tensor([-1.0, 0.0, 1.0, 2.0])
    dropped = torch.func.vmap(lambda rate: noise.dropout(X, rate, key=KEY))(rates)
    assert dropped.isnan().flatten(1).all(1).tolist() == [True, False, False, True]
    assert torch.equal(dropped[1:3], torch.stack((X, 0 * X)))
    # An end of the interval that is open is outside of it, and so is an infinity.
    ends = torch.tensor([-math.inf, -1.0, 0.0, 0.5, 1.0, math.inf, math.nan])
    for exclusive, inside in (("", 3), ("low", 2), ("high", 2), ("both", 1)):
        assert _checks.check_number("p", ends, 0.0, 1.0, exclusive=exclusive).isfinite().sum() == inside
    assert _checks.check_number("p", ends).isfinite().sum() == 4
    integers = _checks.check_number("p", torch.tensor([-1, 0, 1, 2]), 0.0, 1.0)
    assert integers.isnan().tolist() == [True, False, False, True]
    for low, high in ((0.5, 0.0), (torch.tensor(0.5), 0.0), (0.5, torch.tensor(0.0))):
        with pytest.raises(fr.FuncregError, match=r"^low: got"):
            _checks.check_order("low", low, high, "high")
    assert _checks.check_order("low", 0.5, torch.tensor([0.0, 1.0]), "high").isnan().tolist() == [True, False]


def test_numbers() -> None:
    for good in (0, 0.0, 1, 0.5, torch.tensor(0.25), torch.tensor(1), torch.tensor([0.0, 1.0])):
        assert _checks.check_number("p", good, 0.0, 1.0) is good or isinstance(good, torch.Tensor)
    tensors = (torch.tensor(7.0), torch.tensor(-math.inf), torch.tensor(1j), torch.tensor(True), X.to("meta"))
    for wrong in (-1e-9, 1.1, math.nan, math.inf, 2**2000, True, "1", None, *tensors):
        with pytest.raises(fr.FuncregError, match=r"^p: got"):
            _checks.check_number("p", wrong, 0.0, 1.0)
    for wrong, exclusive in ((0.0, "low"), (1.0, "high"), (0.0, "both"), (1.0, "both")):
        with pytest.raises(fr.FuncregError, match=r"[(\[]0, 1[)\]]"):
            _checks.check_number("p", wrong, 0.0, 1.0, exclusive=exclusive)


def test_counts_choices_tensors_and_callables() -> None:
    _checks.check_count("n", 3, 1, 3)
    _checks.check_choice("mode", "row", ("row", "batch"))
    _checks.check_tensor("x", X, ndim=2)
    _checks.check_floating("x", X)
    _checks.check_callable("f", len, "a function")
    for call in (
        lambda: _checks.check_count("n", 4, 1, 3),
        lambda: _checks.check_count("n", True),
        lambda: _checks.check_choice("mode", "col", ("row", "batch")),
        lambda: _checks.check_tensor("x", X, ndim=1),
        lambda: _checks.check_floating("x", INTEGERS),
        lambda: _checks.check_callable("f", 3, "a function"),
    ):
        with pytest.raises(fr.FuncregError, match="expected"):
            call()


def test_descriptions_are_short() -> None:
    assert _checks.describe(torch.zeros(1000)) == "a float32 tensor of shape (1000,)"
    assert len(_checks.describe("a" * 1000)) < 100
    assert issubclass(fr.FuncregError, ValueError)
