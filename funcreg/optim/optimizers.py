"""Optimizers as chains of transforms. Each step equals that of `torch.optim`'s optimizer of the same name."""

from torch import Tensor

from .. import _checks, transforms, tree
from ..transforms import Number, Schedule, Transform
from ..tree.checks import check_like


def apply_updates(params: tree.Tree, updates: tree.Tree) -> tree.Tree:
    """params + updates, each leaf in its parameter's dtype.

    Args:
        params: a tree of tensors.
        updates: a tree of the same structure and shapes.

    Returns:
        The new parameters.

    Raises:
        FuncregError: for leaves that are not floating-point, or updates of another structure or shape.

    >>> import torch
    >>> apply_updates({"w": torch.ones(2)}, {"w": torch.tensor([0.5, -0.5])})
    {'w': tensor([1.5000, 0.5000])}
    """
    check_like("updates", updates, "params", params)
    return tree.map(lambda w, u: (w + u).to(w.dtype), params, updates)


def sgd(
    lr: Number | Schedule,
    *,
    momentum: Number = 0.0,
    dampening: Number = 0.0,
    weight_decay: Number = 0.0,
    nesterov: bool = False,
    mask: tree.Mask | None = None,
) -> Transform:
    """Stochastic gradient descent: w - lr * b, b = momentum * b + (1 - dampening) * (g + weight_decay * w).

    As `torch.optim.SGD`.

    Args:
        lr: the learning rate, at least 0, or a schedule.
        momentum, dampening: in [0, 1]; b is the gradient itself at first, and where momentum is the number 0.
        weight_decay: at least 0; added to the gradient, so multiplied by lr: `penalties.l2(params, weight_decay / 2)`.
        nesterov: step along g + momentum * b.
        mask: (name, leaf) -> bool, which leaves decay. Default: all.

    Returns:
        A Transform.

    Raises:
        FuncregError: for a number out of range; nesterov without momentum or with dampening.

    >>> import torch
    >>> optimizer, params = sgd(0.1), {"w": torch.ones(1)}
    >>> updates, _ = optimizer.update({"w": torch.ones(1)}, optimizer.init(params), params)
    >>> apply_updates(params, updates)
    {'w': tensor([0.9000])}
    """
    momentum = _checks.check_setting("momentum", momentum, 0.0, 1.0)
    weight_decay = _checks.check_setting("weight_decay", weight_decay)
    _checks.check_choice("nesterov", nesterov, (True, False))
    if nesterov and not isinstance(momentum, Tensor) and momentum == 0:
        _checks.fail("momentum", momentum, "a number above 0 when nesterov=True")
    return transforms.chain(
        transforms.add_decayed_weights(weight_decay, mask=mask),
        transforms.momentum(momentum, dampening=dampening, nesterov=nesterov),
        transforms.scale_by_learning_rate(lr),
    )


def adam(
    lr: Number | Schedule,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    mask: tree.Mask | None = None,
) -> Transform:
    """Adam, with L2 decay coupled into the gradient, as `torch.optim.Adam`.

    w - lr * m / (sqrt(v) + eps), m and v the bias-corrected averages of g' = g + weight_decay * w
    and its square. Kingma and Ba 2015 (arXiv:1412.6980).

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
    >>> optimizer, params = adam(0.1), {"w": torch.ones(1)}
    >>> updates, _ = optimizer.update({"w": torch.tensor([7.0])}, optimizer.init(params), params)
    >>> updates
    {'w': tensor([-0.1000])}
    """
    weight_decay = _checks.check_setting("weight_decay", weight_decay)
    return transforms.chain(
        transforms.add_decayed_weights(weight_decay, mask=mask),
        transforms.scale_by_adam(b1, b2, eps),
        transforms.scale_by_learning_rate(lr),
    )


def adamw(
    lr: Number | Schedule,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 1e-2,
    mask: tree.Mask | None = None,
) -> Transform:
    """Adam with decoupled decay, as `torch.optim.AdamW`: w - lr * (m / (sqrt(v) + eps) + weight_decay * w).

    Loshchilov and Hutter 2019 (arXiv:1711.05101).

    Args:
        lr: the learning rate, at least 0, or a schedule; it multiplies the decay.
        b1, b2: in [0, 1).
        eps: at least 0.
        weight_decay: at least 0.
        mask: (name, leaf) -> bool, which leaves decay. Default: all.

    Returns:
        A Transform.

    Raises:
        FuncregError: for a number out of range.

    >>> import torch
    >>> optimizer, params = adamw(0.1, weight_decay=0.5), {"w": torch.ones(1)}
    >>> updates, _ = optimizer.update({"w": torch.tensor([7.0])}, optimizer.init(params), params)
    >>> updates
    {'w': tensor([-0.1500])}
    """
    weight_decay = _checks.check_setting("weight_decay", weight_decay)
    return transforms.chain(
        transforms.scale_by_adam(b1, b2, eps),
        transforms.add_decayed_weights(weight_decay, mask=mask),
        transforms.scale_by_learning_rate(lr),
    )


def rmsprop(
    lr: Number | Schedule,
    *,
    decay: Number = 0.99,
    eps: Number = 1e-8,
    momentum: Number = 0.0,
    centered: bool = False,
    weight_decay: Number = 0.0,
    mask: tree.Mask | None = None,
) -> Transform:
    """RMSprop, as `torch.optim.RMSprop`: w - lr * b, b = momentum * b + g' / (sqrt(v) + eps).

    g' = g + weight_decay * w, v the moving average of its square, which starts at 0 and is not
    corrected for it. Tieleman and Hinton 2012 (lecture 6.5).

    Args:
        lr: the learning rate, at least 0, or a schedule.
        decay: of v, in [0, 1); torch calls it alpha.
        eps: at least 0.
        momentum: in [0, 1].
        centered: divide by the root of the variance, v minus the squared moving average of g'.
        weight_decay: at least 0; the same as adding `penalties.l2(params, weight_decay / 2)` to the loss.
        mask: (name, leaf) -> bool, which leaves decay. Default: all.

    Returns:
        A Transform.

    Raises:
        FuncregError: for a number out of range.

    >>> import torch
    >>> optimizer, params = rmsprop(0.1, decay=0.75), {"w": torch.ones(1)}
    >>> updates, _ = optimizer.update({"w": torch.tensor([7.0])}, optimizer.init(params), params)
    >>> updates
    {'w': tensor([-0.2000])}
    """
    momentum = _checks.check_setting("momentum", momentum, 0.0, 1.0)
    weight_decay = _checks.check_setting("weight_decay", weight_decay)
    return transforms.chain(
        transforms.add_decayed_weights(weight_decay, mask=mask),
        transforms.scale_by_rms(decay, eps, centered=centered),
        transforms.momentum(momentum),
        transforms.scale_by_learning_rate(lr),
    )
