"""Muon for matrices, another optimizer for the rest."""

import torch

from .. import _checks, transforms, tree
from ..transforms import Number, Schedule, Transform, core
from ..transforms.groups import grouped
from .optimizers import adam


def muon(
    lr: Number | Schedule,
    *,
    momentum: Number = 0.95,
    nesterov: bool = True,
    steps: int = 5,
    adjust: str = "original",
    weight_decay: Number = 0.1,
    dtype: torch.dtype | None = None,
    matrices: tree.Mask | None = None,
    rest: Transform | None = None,
) -> Transform:
    """Muon: w - lr * (factor * U + weight_decay * w), U the momentum made nearly orthogonal; Adam for the rest.

    Matrices move as by `torch.optim.Muon`, which has no rest, and whose products are in bfloat16. It is meant for
    hidden layers: `matrices=fr.decay_mask(model)` leaves embeddings to the rest, and an output layer is told by its
    name.

    Args:
        lr: the learning rate, at least 0, or a schedule; it multiplies the decay.
        momentum: in [0, 1].
        nesterov: orthogonalize g + momentum * b rather than b.
        steps, adjust, dtype: of `transforms.orthogonalize`.
        weight_decay: of the matrices, at least 0.
        matrices: (name, leaf) -> bool, leaves of two axes or more. Default: all of those.
        rest: the optimizer of all other leaves. Default: `adam(lr)`, which fits adjust="match_rms_adamw"; with
            "original", whose lr is some 0.02, give one of a lower lr.

    Returns:
        A Transform.

    Raises:
        FuncregError: for an argument out of range; from init, where a leaf that matrices picks is none.

    >>> optimizer = muon(0.02, rest=adam(1e-3))
    >>> params = {"weight": torch.ones(1, 2), "bias": torch.ones(1)}
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> updates["bias"]
    tensor([-0.0010])

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024
    (kellerjordan.github.io/posts/muon).
    """
    momentum = _checks.check_setting("momentum", momentum, 0.0, 1.0)
    weight_decay = _checks.check_setting("weight_decay", weight_decay)
    _checks.check_choice("nesterov", nesterov, (True, False))
    core.check_mask(matrices, "matrices")
    if rest is not None:
        core.check_transform("rest", rest)
    of_matrices = transforms.chain(
        transforms.momentum(momentum, nesterov=nesterov),
        transforms.orthogonalize(steps, adjust=adjust, dtype=dtype),
        transforms.add_decayed_weights(weight_decay),
        transforms.scale_by_learning_rate(lr),
    )
    picks: tree.Mask = (lambda name, leaf: leaf.ndim >= 2) if matrices is None else matrices
    return grouped(
        {"matrices": of_matrices, "rest": adam(lr) if rest is None else rest},
        lambda name, leaf: "matrices" if picks(name, leaf) else "rest",
        may_be_empty=True,
    )
