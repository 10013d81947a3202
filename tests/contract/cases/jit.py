"""Cases of `jit`."""

from tests.contract.case import Case

CASES: list[Case] = []

# name: (why the contract does not fit, the file that tests it)
EXEMPT: dict[str, tuple[str, str]] = {
    "jit": ("used by the contract itself", "test_jit.py"),
    "can_compile": ("asks about the machine", "test_jit.py"),
}
