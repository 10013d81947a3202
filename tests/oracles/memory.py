"""What `keep_memory` is compared with: the system's count of pages that a process touches for the first time."""

import platform

from tests.oracles import Pair, oracle
from tests.test_memory import faults


@oracle(
    "keep_memory",
    against="getrusage's page faults: none for a block that was there before",
    tolerance=64,
    because="the interpreter's own, of 16,384 for the block",
    constant=True,
)
def pages() -> Pair:
    return faults()[1] if platform.libc_ver()[0] == "glibc" else 0, 0
