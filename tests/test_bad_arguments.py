"""Every public function, every argument, every kind of bad value: refused by name, or documented."""

from pathlib import Path

import pytest

from tests.bad_arguments import judged
from tests.bad_arguments.call import Call
from tests.bad_arguments.judged import CALLS
from tests.bad_arguments.known import KNOWN
from tests.public import public_functions

# module: why its functions are not among the calls
EXEMPT = {"testing": "it finds fault with anything, by an AssertionError; tests/faults"}


@pytest.mark.parametrize(
    "call",
    [pytest.param(call, marks=[pytest.mark.xfail(strict=True)] if call.name in KNOWN else []) for call in CALLS],
    ids=str,
)
def test_a_bad_argument_is_refused_by_name_or_documented(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a text is a path
    wrong = [verdict for verdict in judged.judged(call) if verdict.outcome == judged.WRONG]
    assert not wrong, "\n".join(f"{each.argument} | {each.kind} | {each.seen}" for each in wrong)


def test_every_public_function_is_tried() -> None:
    tried = {str(call).split(" ")[0].split("(")[0] for call in CALLS}
    assert tried == {name for name in public_functions() if name.partition(".")[0] not in EXEMPT}
