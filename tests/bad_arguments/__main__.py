"""`python -m tests.bad_arguments`: how many bad arguments there are, and what becomes of them; some minutes."""

import os
import tempfile
from collections import Counter

from tests.bad_arguments.compiled import disagreements
from tests.bad_arguments.judged import CALLS, DOCUMENTED, NOTHING, REFUSED, THEIRS, WRONG, judged


def main() -> None:
    """Try them all, show the wrong ones and what traced code takes, and print the table of counts, a row a module."""
    modules: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # a text is a path
        for call in CALLS:
            counts = modules.setdefault(call.name.partition(".")[0].partition("(")[0], Counter())
            for verdict in judged(call):
                counts[verdict.outcome] += 1
                if verdict.outcome == WRONG:
                    print(call, *verdict, sep=" | ")
        for disagreement in disagreements():
            print(*disagreement, sep=" | ")
        os.chdir("/")
    outcomes = (REFUSED, THEIRS, NOTHING, DOCUMENTED, WRONG)
    print("|".join(("", "module", *outcomes, "")), "|".join(("", "---", *("---:" for _ in outcomes), "")), sep="\n")
    total = sum(modules.values(), Counter())
    for module, counts in {**modules, "all": total}.items():
        print("|".join(("", module, *(str(counts[outcome]) for outcome in outcomes), "")))


if __name__ == "__main__":
    main()
