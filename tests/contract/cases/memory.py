"""Cases of `keep_memory`."""

from tests.contract.case import Case

CASES: list[Case] = []

# name: (why the contract does not fit, the file that tests it)
EXEMPT: dict[str, tuple[str, str]] = {"keep_memory": ("a setting of the process, of no tensors", "test_memory.py")}
