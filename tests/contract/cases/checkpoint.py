"""Cases of `checkpoint`."""

from tests.contract.case import Case

CASES: list[Case] = []

# name: (why the contract does not fit, the file that tests it)
EXEMPT: dict[str, tuple[str, str]] = {
    "checkpoint.save": ("writes a file", "test_checkpoint.py"),
    "checkpoint.load": ("reads a file", "test_checkpoint.py"),
    "checkpoint.read_leaves": ("reads a file", "test_checkpoint.py"),
    "checkpoint.read_metadata": ("reads a file", "test_checkpoint.py"),
}
