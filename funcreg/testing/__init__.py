"""The six rules as checks for anyone's functions: each refuses with an AssertionError that lists the evidence.

`check` takes any function; the other names are for losses, penalties, optimizers, augmentations and modules.

    trees.py          whether two trees are the same, leaf by leaf
    example.py        a call, others like it, all of them stacked
    surroundings.py   what is global: generators, settings, the environment
    closures.py       what a function closes over
    calls.py          what every rule does with an example
    drawing.py        what is drawn from which key
    purity.py         rules of what stays as it is: arguments, global state, state; of results, keys and modes
    transformed.py    rules of vmap, of settings, of gradients, of dtypes
    backward.py       gradients that are written by hand
    compiling.py      compiled is eager, and compiles once
    reports.py        what was found
    check.py          a function through every rule
    optimizers.py     gradient transforms and optimizers
    objectives.py     losses and penalties
    augmentations.py  augmentations
    modules.py        modules
    resuming.py       runs that are killed
    strategies.py     hypothesis' strategies of keys, shapes, tensors, trees and rates
"""

from . import strategies
from .augmentations import check_augmentation
from .check import check, report
from .compiling import assert_compiles_once, check_compiled
from .example import Example, example
from .modules import check_module
from .objectives import check_loss, check_penalty
from .optimizers import check_optimizer, check_transform
from .reports import Finding, Report
from .resuming import assert_resumes
from .trees import assert_trees_close, assert_trees_equal

__all__ = [
    "Example",
    "Finding",
    "Report",
    "assert_compiles_once",
    "assert_resumes",
    "assert_trees_close",
    "assert_trees_equal",
    "check",
    "check_augmentation",
    "check_compiled",
    "check_loss",
    "check_module",
    "check_optimizer",
    "check_penalty",
    "check_transform",
    "example",
    "report",
    "strategies",
]
