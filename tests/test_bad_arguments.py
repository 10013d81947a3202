"""Every public function, every argument, every kind of bad value: refused by name, or documented."""

from pathlib import Path
from typing import Any

import pytest

import funcreg as fr
from tests.bad_arguments import judged
from tests.bad_arguments.call import Call
from tests.bad_arguments.compiled import SETTINGS, VALUES, is_none, turns
from tests.bad_arguments.judged import CALLS
from tests.bad_arguments.unreadable import hidden, plausible, with_numbers, with_tensors
from tests.public import public_functions

# module: why its functions are not among the calls
EXEMPT = {"testing": "it finds fault with anything, by an AssertionError; tests/faults"}


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_a_bad_argument_is_refused_by_name_or_documented(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a text is a path
    wrong = [verdict for verdict in judged.judged(call) if verdict.outcome == judged.WRONG]
    assert not wrong, "\n".join(f"{each.argument} | {each.kind} | {each.seen}" for each in wrong)


def test_what_eager_code_refuses_is_nan_in_a_compiled_program() -> None:
    """Of every number: one program for all, as each takes seconds to compile."""
    for function, bad in SETTINGS.values():
        with pytest.raises(fr.FuncregError, match=r": got .*; expected "):
            function(bad)

    def program(settings: dict[str, Any]) -> dict[str, Any]:
        return {name: function(settings[name]) for name, (function, _) in SETTINGS.items()}

    results = fr.jit(program)({name: bad for name, (_, bad) in SETTINGS.items()})
    # What a setting has no part in is as it was: rrelu's positive inputs.
    plausible = {
        name: leaf for name, result in results.items() for leaf in fr.tree.leaves(result) if not leaf.isnan().any()
    }
    assert not plausible


def test_values_that_eager_code_refuses_are_nan_in_a_compiled_program() -> None:
    """Targets that are no class, probabilities that are none, steps before the first: one program, several turns."""
    program, values = turns([call for call in CALLS if call.name in VALUES])
    compiled = fr.jit(program)
    for turn in values:
        results = compiled([value for _, value in turn])
        assert not [name for (name, _), result in zip(turn, results, strict=True) if not is_none(result)]


@pytest.mark.parametrize("call", with_numbers(), ids=str)
def test_a_number_that_is_refused_is_none_among_the_members_of_a_vmap(call: Call) -> None:
    assert not list(plausible(call))


@pytest.mark.parametrize("call", with_tensors(), ids=str)
def test_a_value_that_is_refused_is_nan_in_a_program_that_cannot_read_it(call: Call) -> None:
    assert not list(hidden(call))


def test_every_public_function_is_tried() -> None:
    tried = {str(call).split(" ")[0].split("(")[0] for call in CALLS}
    assert tried == {name for name in public_functions() if name.partition(".")[0] not in EXEMPT}
