"""Bad arguments of `tree`."""

from typing import NamedTuple

import torch

from funcreg import tree
from tests.refusals import INTEGERS, PARAMS, Refusal, X, bad


class Unsorted(NamedTuple):
    w: torch.Tensor
    b: torch.Tensor


REFUSALS: list[Refusal] = [
    ("tree.map", "others", lambda: tree.map(lambda a, b: a, PARAMS, {"other": X})),
    ("tree.map_named", "others", lambda: tree.map_named(lambda name, a, b: a, PARAMS, {"other": X})),
    ("tree.stack", "trees", lambda: tree.stack([])),
    ("tree.members", "tree's 0.bias", lambda: tree.members({"0.bias": torch.tensor(1.0)})),
    ("tree.members", "tree's b", lambda: tree.members({"a": torch.ones(3), "b": torch.ones(2)})),
    ("tree.members", "tree", lambda: tree.members({})),
    ("tree.partition", "tree", lambda: tree.partition(bad((X,)), tree.is_weight)),
    ("tree.merge", "trees", lambda: tree.merge({"a": X}, {"a": X})),
    ("tree.select", "mask", lambda: tree.select(PARAMS, bad("weight"))),
    ("tree.select", "mask", lambda: tree.select(PARAMS, lambda name, leaf: False)),
    ("tree.map", "others", lambda: tree.map(lambda a, b: a, (X, X), [X, X])),
    ("tree.map", "function", lambda: tree.map(bad(X), PARAMS)),
    ("tree.map_named", "function", lambda: tree.map_named(bad(None), PARAMS)),
    ("tree.map_named", "others", lambda: tree.map_named(lambda name, a, b: a, Unsorted(X, X), {"w": X, "b": X})),
    ("tree.names", "tree", lambda: tree.names({1: X, "a": X})),
    ("tree.norm", "tree's n", lambda: tree.norm({"n": INTEGERS, "w": X})),
    ("tree.norm", "tree", lambda: tree.norm(3.0)),
    ("tree.where", "condition", lambda: tree.where(bad(True), PARAMS, PARAMS)),
    ("tree.where", "condition", lambda: tree.where(torch.tensor(1), PARAMS, PARAMS)),
    ("tree.where", "false", lambda: tree.where(torch.tensor(True), PARAMS, {"other": X})),
    ("tree.stack", "trees", lambda: tree.stack([PARAMS, {"other": X}])),
    ("tree.stack", "trees's w", lambda: tree.stack([{"w": torch.ones(2)}, {"w": torch.ones(3)}])),
    ("tree.stack", "trees's w", lambda: tree.stack([{"w": "sgd"}, {"w": "adam"}])),
    ("tree.unstack", "tree's rate", lambda: tree.unstack({"rate": 0.5})),
    ("tree.index", "member", lambda: tree.index(PARAMS, 2)),
    ("tree.index", "member", lambda: tree.index(PARAMS, bad(0.0))),
    ("tree.index", "member", lambda: tree.index(PARAMS, torch.tensor([True, False]))),
    ("tree.index", "tree's rate", lambda: tree.index({"rate": torch.tensor(0.5)}, 0)),
    ("tree.partition", "mask", lambda: tree.partition(PARAMS, bad("weight"))),
    ("tree.merge", "trees", lambda: tree.merge({"a": X}, bad([X]))),
    ("tree.is_weight", "name", lambda: tree.is_weight(bad(X))),
    ("tree.to", "device", lambda: tree.to(PARAMS, "gpu")),
    ("tree.to", "device", lambda: tree.to(PARAMS, bad(torch.float64))),
    ("tree.cast", "dtype", lambda: tree.cast(PARAMS, torch.int64)),
    *(
        (f"tree.{name}", "tree's head.rate", lambda function=function: function({"head": {"rate": 0.5, "w": X}}))
        for name, function in {
            "cast": lambda of: tree.cast(of, torch.float64),
            "clone": tree.clone,
            "count": tree.count,
            "to": lambda of: tree.to(of, "cpu"),
            "zeros_like": tree.zeros_like,
        }.items()
    ),
]

# name: why no argument of it can be bad
WITHOUT_BAD_INPUT = {"tree.leaves": "anything is a tree: what is not a container is a leaf"}
