"""Gaussian noise on gradients, from a key."""

from typing import Any

from torch import Tensor

from .. import _checks, random, tree
from ..tree.structure import unflatten
from ..tree.values import widest
from . import core
from .core import Number, Transform
from .learning_rate import Schedule, ScheduleState


def add_noise(std: Number | Schedule, *, key: Tensor) -> Transform:
    """Add Gaussian noise: g + std * n, n ~ N(0, 1), drawn anew for each update.

    Update t, counting from 0, draws from `random.fold_in(key, t)`: one stream for all leaves, in the
    order of `tree.leaves`. The paper's std falls as sqrt(eta / (1 + t)**0.55).

    Args:
        std: at least 0, in the gradient's unit; or a schedule, a function of the number of updates made.
        key: int64 (2,). Members of a sweep give each their own, through hparams.

    Returns:
        A Transform with a ScheduleState.

    Raises:
        FuncregError: for a negative number, or what is not one key.

    >>> import torch
    >>> transform = add_noise(lambda t: (0.01 / (1 + t) ** 0.55) ** 0.5, key=random.key(0))
    >>> grads = {"w": torch.zeros(100_000)}
    >>> updates, _ = transform.update(grads, transform.init(grads), grads)
    >>> updates["w"].std()
    tensor(0.1...)

    Neelakantan et al., "Adding gradient noise improves learning for very deep networks", 2015
    (arXiv:1511.06807).
    """
    if callable(std):
        _checks.check_callable("std", std, "a number, or a function of the number of updates made")
    else:
        std = _checks.check_setting("std", std)
    _checks.check_key(key)

    def init(params: tree.Tree) -> ScheduleState:
        return ScheduleState(core.zero_step(params))

    def update(grads: tree.Tree, state: ScheduleState, params: tree.Tree) -> tuple[tree.Tree, ScheduleState]:
        core.check_state(state, ScheduleState)
        value = _checks.check_setting("std", std(state.step)) if callable(std) else std
        noise = random.fold_in(key.to(state.step.device), state.step)
        return _noisy(grads, value, noise), ScheduleState(state.step + 1)

    return core.transform(init, update)


def _noisy(grads: tree.Tree, std: Any, key: Tensor) -> tree.Tree:
    """With one draw for all leaves, since a compiled program pays for each."""
    flat = tree.leaves(grads)
    sizes = [g.numel() for g in flat]
    draws = random.normal(key, (sum(sizes),), dtype=widest(flat)).split(sizes)
    return unflatten(grads, [(g + std * n.view_as(g)).to(g.dtype) for g, n in zip(flat, draws, strict=True)])
