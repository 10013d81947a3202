"""`Transform`, `chain`, and the arithmetic of numbers that may be tensors."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks, tree

Number = float | Tensor


class Transform(NamedTuple):
    """A gradient transform: `init(params) -> state`, `update(grads, state, params) -> (updates, state)`."""

    init: Callable[[tree.Tree], Any]
    update: Callable[[tree.Tree, Any, tree.Tree], tuple[tree.Tree, Any]]


def chain(*transforms: Transform) -> Transform:
    """Transforms one after the other: the updates of each are the gradients of the next.

    Args:
        transforms: any number; none leaves gradients as they are.

    Returns:
        A Transform whose state is the tuple of theirs.

    Raises:
        FuncregError: for what is not a Transform.

    >>> from funcreg import transforms
    >>> sgd = chain(transforms.clip_by_global_norm(1.0), transforms.scale_by_learning_rate(0.1))
    >>> params, grads = {"w": torch.zeros(2)}, {"w": torch.tensor([3.0, 4.0])}
    >>> updates, _ = sgd.update(grads, sgd.init(params), params)
    >>> updates
    {'w': tensor([-0.0600, -0.0800])}
    """
    for index, transform in enumerate(transforms):
        check_transform(f"transforms[{index}]", transform)

    def init(params: tree.Tree) -> tuple[Any, ...]:
        return tuple(transform.init(params) for transform in transforms)

    def update(grads: tree.Tree, state: tuple[Any, ...], params: tree.Tree) -> tuple[tree.Tree, tuple[Any, ...]]:
        if len(state) != len(transforms):
            remedy = "It must come from the init of the same chain."
            _checks.fail("state", f"a tuple of {len(state)}", f"a tuple of {len(transforms)}", remedy)
        states = []
        for transform, own in zip(transforms, state, strict=True):
            grads, own = transform.update(grads, own, params)
            states.append(own)
        return grads, tuple(states)

    return Transform(init, update)


class Scalars:
    """Numbers that meet every leaf of a tree: tensors are cast once for each dtype and device.

    A float64 scalar would otherwise promote nothing, but `lerp` refuses mixed dtypes.
    """

    def __init__(self, *values: Number) -> None:
        self.values = values
        self.cast: dict[tuple[torch.dtype, torch.device], tuple[Any, ...]] = {}

    def like(self, leaf: Tensor) -> tuple[Any, ...]:
        """The numbers, where they are tensors in the leaf's dtype and on its device."""
        kind = leaf.dtype, leaf.device
        if kind not in self.cast:
            self.cast[kind] = tuple(v.to(leaf.device, leaf.dtype) if isinstance(v, Tensor) else v for v in self.values)
        return self.cast[kind]


def scaled(grads: tree.Tree, factor: Number) -> tree.Tree:
    """Every leaf times a number."""
    scalar = Scalars(factor)
    return tree.map(lambda g: g * scalar.like(g)[0], grads)


def add_scaled(tensor: Tensor, other: Tensor, scale: Scalars) -> Tensor:
    """tensor + scale * other, in one pass over memory."""
    (value,) = scale.like(tensor)
    if isinstance(value, Tensor):
        return torch.addcmul(tensor, other, value)
    return torch.add(tensor, other, alpha=value)


def check_transform(argument: str, transform: Any) -> None:
    """Refuse what is not a Transform."""
    if not isinstance(transform, Transform):
        _checks.fail(argument, _checks.describe(transform), "a Transform, such as fr.optim.adam(1e-3)")


def check_mask(mask: Any, argument: str = "mask") -> None:
    """Refuse what is neither a mask nor None."""
    if mask is not None:
        _checks.check_callable(argument, mask, "a function (name, leaf) -> bool, such as fr.tree.is_weight")


def picks_some(mask: tree.Mask | None) -> Callable[[tree.Tree], tuple[()]]:
    """The init of a transform that remembers nothing, and refuses a mask that picks no leaf."""

    def init(params: tree.Tree) -> tuple[()]:
        tree.select(params, mask)
        return ()

    return init


def precise(value: Number) -> Number:
    """A tensor in float64; a Python number is that already."""
    return value.to(torch.float64) if isinstance(value, Tensor) else value


def is_zero(value: Number) -> bool:
    """Whether a Python number is 0; a tensor is not read."""
    return not isinstance(value, Tensor) and value == 0


def zero_step(params: tree.Tree) -> Tensor:
    """The count of updates before the first, beside the parameters."""
    flat = tree.leaves(params)
    return torch.zeros((), dtype=torch.int64, device=flat[0].device if flat else None)


def no_state(params: tree.Tree) -> tuple[()]:
    """The init of a transform that remembers nothing."""
    return ()
