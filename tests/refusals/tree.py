"""Bad arguments of `tree`."""

import torch

from funcreg import tree
from tests.refusals import PARAMS, Refusal, X, bad

REFUSALS: list[Refusal] = [
    ("tree.map", "tree", lambda: tree.map(lambda a, b: a, PARAMS, {"other": X})),
    ("tree.map_named", "tree", lambda: tree.map_named(lambda name, a, b: a, PARAMS, {"other": X})),
    ("tree.stack", "trees", lambda: tree.stack([])),
    ("tree.members", "0.bias", lambda: tree.members({"0.bias": torch.tensor(1.0)})),
    ("tree.members", "b", lambda: tree.members({"a": torch.ones(3), "b": torch.ones(2)})),
    ("tree.members", "tree", lambda: tree.members({})),
    ("tree.partition", "tree", lambda: tree.partition(bad((X,)), tree.is_weight)),
    ("tree.merge", "trees", lambda: tree.merge({"a": X}, {"a": X})),
    ("tree.select", "mask", lambda: tree.select(PARAMS, bad("weight"))),
    ("tree.select", "mask", lambda: tree.select(PARAMS, lambda name, leaf: False)),
]
