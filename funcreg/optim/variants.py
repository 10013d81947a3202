"""Lion, NAdam and RAdam as chains; `torch.optim` has the last two."""

from .. import _checks, transforms, tree
from ..transforms import Number, Schedule, Transform


def lion(
    lr: Number | Schedule,
    *,
    b1: Number = 0.9,
    b2: Number = 0.99,
    weight_decay: Number = 0.0,
    mask: tree.Mask | None = None,
) -> Transform:
    """Lion, with decoupled decay: w - lr * (sign(b1 * m + (1 - b1) * g) + weight_decay * w).

    Then m = b2 * m + (1 - b2) * g. Every weight moves by lr, so lr is 3 to 10 times smaller than AdamW's, and
    weight_decay as many times larger.

    Args:
        lr: the learning rate, at least 0, or a schedule; it multiplies the decay.
        b1, b2: in [0, 1).
        weight_decay: at least 0.
        mask: (name, leaf) -> bool, which leaves decay. Default: all.

    Returns:
        A Transform.

    Raises:
        FuncregError: for a number out of range.

    >>> import torch
    >>> optimizer, params = lion(0.1, weight_decay=0.5), {"w": torch.ones(1)}
    >>> updates, _ = optimizer.update({"w": torch.tensor([7.0])}, optimizer.init(params), params)
    >>> updates
    {'w': tensor([-0.1500])}

    Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023.
    """
    weight_decay = _checks.check_setting("weight_decay", weight_decay)
    return transforms.chain(
        transforms.scale_by_lion(b1, b2),
        transforms.add_decayed_weights(weight_decay, mask=mask),
        transforms.scale_by_learning_rate(lr),
    )


def nadam(
    lr: Number | Schedule,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    momentum_decay: Number = 4e-3,
    weight_decay: Number = 0.0,
    mask: tree.Mask | None = None,
) -> Transform:
    """Adam with Nesterov's momentum and coupled decay, as `torch.optim.NAdam`; see `transforms.scale_by_nadam`.

    Args:
        lr: the learning rate, at least 0, or a schedule.
        b1, b2: in [0, 1).
        eps: at least 0.
        momentum_decay: at least 0; how soon the momentum is b1.
        weight_decay: at least 0; the same as adding `penalties.l2(params, weight_decay / 2)` to the loss.
        mask: (name, leaf) -> bool, which leaves decay. Default: all.

    Returns:
        A Transform.

    Raises:
        FuncregError: for a number out of range.

    >>> import torch
    >>> optimizer, params = nadam(0.1), {"w": torch.ones(1)}
    >>> updates, _ = optimizer.update({"w": torch.tensor([7.0])}, optimizer.init(params), params)
    >>> updates
    {'w': tensor([-0.1056])}

    Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016.
    """
    weight_decay = _checks.check_setting("weight_decay", weight_decay)
    return transforms.chain(
        transforms.add_decayed_weights(weight_decay, mask=mask),
        transforms.scale_by_nadam(b1, b2, eps, momentum_decay=momentum_decay),
        transforms.scale_by_learning_rate(lr),
    )


def radam(
    lr: Number | Schedule,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    mask: tree.Mask | None = None,
) -> Transform:
    """Rectified Adam with coupled decay, as `torch.optim.RAdam`; see `transforms.scale_by_radam`.

    Its first updates, five for b2 = 0.999, are those of gradient descent with momentum.

    Args:
        lr: the learning rate, at least 0, or a schedule.
        b1, b2: in [0, 1).
        eps: at least 0.
        weight_decay: at least 0; the same as adding `penalties.l2(params, weight_decay / 2)` to the loss.
        mask: (name, leaf) -> bool, which leaves decay. Default: all.

    Returns:
        A Transform.

    Raises:
        FuncregError: for a number out of range.

    >>> import torch
    >>> optimizer, params = radam(0.1), {"w": torch.ones(1)}
    >>> updates, _ = optimizer.update({"w": torch.tensor([7.0])}, optimizer.init(params), params)
    >>> updates
    {'w': tensor([-0.7000])}

    Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020.
    """
    weight_decay = _checks.check_setting("weight_decay", weight_decay)
    return transforms.chain(
        transforms.add_decayed_weights(weight_decay, mask=mask),
        transforms.scale_by_radam(b1, b2, eps),
        transforms.scale_by_learning_rate(lr),
    )
