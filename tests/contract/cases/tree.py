"""Cases of `tree`."""

import torch

import funcreg as fr
from funcreg import tree
from tests.contract.case import PARAMS, Case, X, drawn

TREES = {"tree": PARAMS}

CASES = [
    Case("tree.map", lambda tree: fr.tree.map(lambda a, b: a * b, tree, tree), TREES),
    Case("tree.map_named", lambda tree: fr.tree.map_named(lambda name, leaf: leaf * len(name), tree), TREES),
    Case("tree.leaves", lambda tree: fr.tree.leaves(tree), TREES),
    Case("tree.norm", lambda tree: fr.tree.norm(tree), TREES, at_least_float32=True),
    Case(
        "tree.where",
        lambda condition, true, false: fr.tree.where(condition, true, false),
        {"condition": torch.tensor(True), "true": PARAMS, "false": tree.zeros_like(PARAMS)},
    ),
    Case("tree.stack", lambda tree: fr.tree.stack([tree, tree]), TREES),
    Case("tree.unstack", lambda tree: fr.tree.unstack(tree), {"tree": {"a": drawn(15, 3, 2), "b": drawn(16, 3)}}),
    Case("tree.index", lambda tree, at: fr.tree.index(tree, at), {"tree": X, "at": torch.tensor([1])}),
    Case("tree.partition", lambda tree: fr.tree.partition(tree, fr.tree.is_weight), TREES),
    Case("tree.merge", lambda one, other: fr.tree.merge(one, other), {"one": X, "other": {"b": drawn(18, 2)}}),
    Case("tree.select", lambda tree: dict(fr.tree.select(tree, fr.tree.is_weight)), TREES),
    Case("tree.zeros_like", lambda tree: fr.tree.zeros_like(tree), TREES),
    Case("tree.cast", lambda tree: fr.tree.cast(tree, torch.float64), TREES, fixed_dtype=True),
    Case("tree.to", lambda tree: fr.tree.to(tree, "cpu"), TREES),
    Case("tree.clone", lambda tree: fr.tree.clone(tree), TREES, has_slope=False),
]  # fmt: skip

# name: (why the contract does not fit, the file that tests it)
EXEMPT: dict[str, tuple[str, str]] = {
    "tree.names": ("gives strings", "test_tree.py"),
    "tree.members": ("gives an integer", "test_tree.py"),
    "tree.count": ("gives an integer", "test_tree.py"),
    "tree.is_weight": ("gives a Python bool", "test_tree.py"),
}
