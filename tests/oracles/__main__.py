"""Print the table, in Markdown: `python -m tests.oracles [MODULE ...]`."""

import sys

from tests.oracles import ORACLES, difference
from tests.public import tables

tables("tests.oracles")
chosen = sys.argv[1:]
print("| function | compared with | tolerance | measured | why not closer |\n|---|---|---|---|---|")
for row in ORACLES:
    if not chosen or row.function.split(".")[0] in chosen:
        gap = difference(row)
        told = "the same bits" if gap == 0 else f"{gap:.1e}{'' if gap <= row.tolerance else ' **FAILS**'}"
        print(f"| `{row.function}` | {row.against} | {row.tolerance:.0e} | {told} | {row.because} |")
