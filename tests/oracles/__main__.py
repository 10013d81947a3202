"""Print the table, in Markdown: `python -m tests.oracles [MODULE ...]`."""

import sys

import pytest

from tests.oracles import ORACLES, Oracle, difference
from tests.public import tables


def measured(row: Oracle) -> str:
    """The largest difference, or why there is none."""
    try:
        gap = difference(row)
    except pytest.skip.Exception as skipped:
        return f"not here: {skipped}"
    failed = "" if gap <= row.tolerance else " **FAILS**"
    return "the same bits" if gap == 0 else f"{gap:.1e}{failed}"


tables("tests.oracles")
chosen = sys.argv[1:]
print("| function | compared with | tolerance | measured | why not closer |\n|---|---|---|---|---|")
for row in ORACLES:
    if not chosen or row.function.split(".")[0] in chosen:
        print(f"| `{row.function}` | {row.against} | {row.tolerance:.0g} | {measured(row)} | {row.because} |")
