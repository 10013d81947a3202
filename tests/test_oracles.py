"""Every public function against something that was not written here: the rows of `oracles/`."""

import pytest

from tests.oracles import ORACLES, Oracle, difference
from tests.public import public_functions, tables

TABLES = tables("tests.oracles")
# name: why there is nothing to compare it with
WITHOUT_ORACLE: dict[str, str] = {}
for _table in TABLES.values():
    WITHOUT_ORACLE |= getattr(_table, "WITHOUT_ORACLE", {})


@pytest.mark.parametrize("row", ORACLES, ids=lambda row: f"{row.function} against {row.against}")
def test_agrees(row: Oracle) -> None:
    assert row.because, "a tolerance needs a reason"
    gap = difference(row)
    assert gap <= row.tolerance, f"{row.function} differs by {gap:.3g} from {row.against}"


def test_every_public_function_has_an_oracle() -> None:
    pytest.importorskip("torchvision", reason="some tables need it")
    compared, public = {row.function for row in ORACLES}, set(public_functions())
    assert public - compared - set(WITHOUT_ORACLE) == set(), "add these to tests/oracles"
    assert compared - public == set(), "these are not public"
    assert set(WITHOUT_ORACLE) & compared == set(), "these have one"
