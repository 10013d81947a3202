"""`keep_memory`: what is freed stays in the process, and is not asked of the system again."""

import ctypes
import platform

from . import _checks

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_memory(most: int = 2**30) -> None:
    """Let the C library keep what is freed, for the rest of the process: a step pays for no page twice.

    glibc gives large blocks back to the system as soon as they are freed, and so each step of training
    asks for its memory anew, and the system clears every page of it when it is first touched. Kept
    instead, it is there for the next step. The process may hold more at its peak, since blocks of many
    sizes share one heap. Call it once, before training.

    Args:
        most: bytes of free memory that are kept at the end of the heap, from 0 to 2**31 - 1.

    Raises:
        FuncregError: for another number, or where the C library is not glibc (macOS, Windows, musl),
            which has no such setting.

    >>> keep_memory() if platform.libc_ver()[0] == "glibc" else None

    mallopt(3): M_TRIM_THRESHOLD and M_MMAP_MAX.
    """
    _checks.check_count("most", most, 0, 2**31 - 1)
    if platform.libc_ver()[0] != "glibc":
        remedy = "Leave it out: it changes no number."
        _checks.fail("keep_memory", f"a C library other than glibc ({platform.system()})", "glibc", remedy)
    library = ctypes.CDLL(None)
    if not (library.mallopt(_M_TRIM_THRESHOLD, most) and library.mallopt(_M_MMAP_MAX, 0)):
        _checks.fail("most", most, "what this glibc's mallopt takes")
