"""Print the table of the zoo: for each module, what of the promise holds, and what is refused and why."""

import sys
import warnings
from collections import Counter

import torch

from tests.zoo.catalogue import catalogue, table
from tests.zoo.examine import CHECKS, Subjects, examine


def main(wanted: str = "") -> None:
    """Examine every specimen whose name has `wanted` in it."""
    counts: Counter[str] = Counter()
    for name, specimen in catalogue().items():
        if wanted not in name:
            continue
        row, subjects = [], Subjects(specimen)
        for check in CHECKS:
            try:
                verdict = examine(subjects, check)
            except Exception as error:
                verdict = f"WRONG: {type(error).__name__}: {str(error)[:300]}"
            counts[verdict.split(":")[0]] += 1
            row.append(verdict)
        print(f"{name:<45} {'right' if all(verdict == 'right' for verdict in row) else ''}", flush=True)
        for check, verdict in zip(CHECKS, row, strict=True):
            if verdict != "right":
                print(f"    {check}: {verdict}", flush=True)
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    print(*table(), sep="\n")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    main(*sys.argv[1:2])
