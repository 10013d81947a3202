"""Pytrees: what parameters, state and train states are made of. Built on optree.

A tree is a tensor, or a dict, tuple, list or NamedTuple of trees. A leaf's name is its path
joined by dots: `{"0": {"weight": w}}` and `{"0.weight": w}` both name `0.weight`.

    structure.py  map, leaves, names
    traced.py     the same in a program that is being traced
    values.py     where, copies, conversions
    norms.py      norm; the lengths of slices
    stacking.py   K trees as one with a leading axis, and back
    masks.py      partition, merge and select by name
    checks.py     what a tree is refused for
"""

from .masks import Mask, is_weight, merge, partition, select
from .norms import norm
from .stacking import index, members, stack, unstack
from .structure import Tree, leaves, map, map_named, names
from .values import cast, clone, count, to, where, zeros_like

__all__ = [
    "Mask",
    "Tree",
    "cast",
    "clone",
    "count",
    "index",
    "is_weight",
    "leaves",
    "map",
    "map_named",
    "members",
    "merge",
    "names",
    "norm",
    "partition",
    "select",
    "stack",
    "to",
    "unstack",
    "where",
    "zeros_like",
]
