"""`fr.keep_memory`: the system's own count of pages that a process touched for the first time."""

import platform
import subprocess
import sys

import pytest

import funcreg as fr

FAULTS = """
import resource, torch, funcreg as fr

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given = [faults(), faults()][1]
fr.keep_memory()
# What else there is in the heap may leave the first blocks too small for the next, by some bytes.
kept = [faults() for _ in range(8)]
print(given, max(kept[4:]))
"""


def faults() -> tuple[int, int]:
    """Page faults of a block of 64 MiB that was there before: as glibc has it, and kept."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    given, kept = done.stdout.split()
    return int(given), int(kept)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such setting")
def test_a_block_that_was_freed_is_there_again() -> None:
    given, kept = faults()
    assert given > 100  # 2**14 pages, or 32 huge ones
    assert kept < given / 10


def test_another_c_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(fr.FuncregError, match=r"other than glibc \(Darwin\).*changes no number"):
        fr.keep_memory()
