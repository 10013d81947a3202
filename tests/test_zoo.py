"""Other people's modules: right, or refused by the name of a layer. `python -m tests.zoo` prints the table."""

from pathlib import Path

import pytest

from tests.zoo.catalogue import catalogue, table
from tests.zoo.examine import CHECKS, Subjects, examine

CATALOGUE = catalogue()

# They are these libraries' own, and torch's about what they call; none of funcreg's comes from a call of a model.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_module_is_right_or_refused_by_name(name: str) -> None:
    subjects = Subjects(CATALOGUE[name])
    for check in CHECKS:
        examine(subjects, check)


def test_the_readmes_have_the_counts() -> None:
    tests = Path(__file__).parent
    rows = table()
    assert "\n".join(rows) in (tests / "zoo" / "README.md").read_text(encoding="utf-8")
    architectures, checks, refused = (sum(int(row.split("|")[column]) for row in rows) for column in (2, 3, 4))
    told = (
        f"[{architectures} architectures](tests/zoo/README.md) are examined in {checks:,} checks; {refused} are refused"
    )
    assert told in (tests.parent / "README.md").read_text(encoding="utf-8")


def test_the_zoo_is_as_large_as_it_says() -> None:
    sizes = {
        source: sum(name.startswith(f"{source}/") for name in CATALOGUE)
        for source in ("timm", "transformers", "torchvision", "hand_written")
    }
    assert sizes["timm"] >= 60
    assert sizes["transformers"] >= 35
    assert sizes["hand_written"] >= 60
    assert sizes["torchvision"] >= 10
