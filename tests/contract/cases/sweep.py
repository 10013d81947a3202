"""Cases of `sweep`."""

from tests.contract.case import Case

CASES: list[Case] = []

# name: (why the contract does not fit, the file that tests it)
EXEMPT: dict[str, tuple[str, str]] = {
    "sweep.grid": ("takes Python numbers", "test_sweep.py"),
}
