"""Sweeps: the settings of K members, what came of each, and the best one.

From settings to the best of the members, as a module:

    hparams = random_search(key, 64, lr=log_uniform(1e-4, 1e-1), rate=(0.0, 0.6))
    result = fr.train.fit(step, train_state, data, key=other_key, epochs=30, hparams=hparams, members=64)
    print(table(hparams, at_best(result)).sort("loss"))
    member = best(result, hparams)
    module = fr.to_module(module, member.params, member.state)

    ranges.py   what random_search draws from: uniform, log_uniform, integers, choice
    points.py   grid and random_search: hparams whose every leaf has a leading axis of K
    pairing.py  members of the same seed alike: paired_keys
    results.py  at_best, best
    tables.py   table, with means over seeds; each, for choices that are not numbers
"""

from .pairing import paired_keys
from .points import grid, random_search
from .ranges import Range, choice, integers, log_uniform, uniform
from .results import Member, at_best, best
from .tables import Table, each, table

__all__ = [
    "Member",
    "Range",
    "Table",
    "at_best",
    "best",
    "choice",
    "each",
    "grid",
    "integers",
    "log_uniform",
    "paired_keys",
    "random_search",
    "table",
    "uniform",
]
