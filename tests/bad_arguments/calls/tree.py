"""Good calls of `tree`."""

import torch

from funcreg import tree
from tests.bad_arguments.call import GRADS, PARAMS, Call, call

STACKED = {"w": torch.ones(3, 2), "b": torch.ones(3)}

CALLS: list[Call] = [
    call("tree.is_weight", tree.is_weight, name="weight", leaf=PARAMS["weight"]),
    call("tree.select", tree.select, tree=PARAMS, mask=tree.is_weight),
    call("tree.partition", tree.partition, tree=PARAMS, mask=tree.is_weight),
    call("tree.merge", lambda trees: tree.merge(trees, {"head": GRADS}), trees=PARAMS),
    call("tree.merge of another", lambda trees: tree.merge(PARAMS, trees), trees={"head": GRADS}),
    call("tree.index", tree.index, tree=STACKED, member=1),
    call("tree.members", tree.members, tree=STACKED),
    call("tree.stack", tree.stack, trees=[PARAMS, GRADS]),
    call("tree.unstack", tree.unstack, tree=STACKED),
    call("tree.leaves", tree.leaves, tree=PARAMS),
    call("tree.names", tree.names, tree=PARAMS),
    call("tree.map", lambda function, tree_, others: tree.map(function, tree_, others), function=lambda a, b: a + b,
         tree_=PARAMS, others=GRADS),
    call("tree.map_named", lambda function, tree_, others: tree.map_named(function, tree_, others),
         function=lambda name, a, b: a + b, tree_=PARAMS, others=GRADS),
    call("tree.cast", tree.cast, tree=PARAMS, dtype=torch.float64),
    call("tree.clone", tree.clone, tree=PARAMS),
    call("tree.count", tree.count, tree=PARAMS),
    call("tree.norm", tree.norm, tree=PARAMS),
    call("tree.to", tree.to, tree=PARAMS, device="cpu"),
    call("tree.where", tree.where, condition=torch.tensor(True), true=PARAMS, false=GRADS),
    call("tree.zeros_like", tree.zeros_like, tree=PARAMS),
]  # fmt: skip
