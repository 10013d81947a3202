"""The gradient of each example of a batch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _checks, random, tree
from .._functorch import gradients
from .returns import refuse_constant


def gradients_of_each(
    function: Callable[..., Any], params: tree.Tree, batch: Any, *, key: Tensor
) -> tuple[tree.Tree, Any]:
    """(gradients (N, ...), (mean value, (state, mean metrics))) of a function of (params, batch, key).

    >>> def loss(w, batch, key):
    ...     return (w * batch).sum(), ({}, {})
    >>> gradients_of_each(loss, torch.ones(()), torch.tensor([1.0, 2.0]), key=random.key(0))
    (tensor([1., 2.]), (tensor(1.5000), ({}, {})))
    """

    def one(example: Any, key: Tensor) -> tuple[tree.Tree, Any]:
        alone = tree.map(lambda leaf: leaf.unsqueeze(0), example)
        return gradients(lambda p: function(p, alone, key), params, watched=True, unrelated=refuse_constant)

    keys = random.split(key, tree.members(batch))
    grads, (values, (states, metrics)) = torch.func.vmap(one)(batch, keys)
    for name, leaf in zip(tree.names(states), tree.leaves(states), strict=True):
        # What no example took part in is one tensor, seen by all of them through a stride of 0.
        if len(leaf) > 1 and leaf.stride(0) != 0:
            remedy = "Batch statistics have no gradient of one example: run the model with train=False, or by groups."
            _checks.fail("loss_fn's state", f"another {name} for each example", "a state they do not change", remedy)
    state = tree.index(states, 0)
    metrics = tree.map(lambda m: m.mean(dtype=torch.promote_types(m.dtype, torch.float32)), metrics)
    return grads, (values.mean(), (state, metrics))
