"""`Transform`, `chain`, what all of ours are made by, and the arithmetic of numbers that may be tensors."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks, tree
from ..tree.checks import check_floating, check_like
from ..tree.structure import flatten_up_to, unflatten
from ..tree.values import wide

_WIDE = (torch.float32, torch.float64)
_INTEGERS = (torch.int64, torch.int32)
_COUNTS = ("step", "count", "skipped")
_SAME_INIT = "It must come from the init of the same transform, for these parameters."

Number = float | Tensor
Init = Callable[[tree.Tree], Any]
Update = Callable[[tree.Tree, Any, tree.Tree], tuple[tree.Tree, Any]]


def no_rates(state: Any) -> dict[str, Number]:
    """The learning rates of a transform that has none."""
    return {}


class Transform(NamedTuple):
    """A gradient transform: `init(params) -> state`, `update(grads, state, params) -> (updates, state)`.

    `rates(state)`: the learning rates that the next update takes, by the label of their group, "" without groups.
    """

    init: Init
    update: Update
    rates: Callable[[Any], dict[str, Number]] = no_rates


Check = Callable[[tree.Tree, tree.Tree], None]


def check_alike(grads: tree.Tree, params: tree.Tree) -> None:
    """Refuse gradients that have not the parameters' structure and shapes."""
    remedy = "Those of each example are for fr.transforms.clip_per_example, first in the chain."
    check_like("grads", grads, "params", params, remedy)


class Whole:
    """An update that refuses what does not fit, and computes 16-bit leaves in float32.

    Updates of 16-bit gradients are rounded once, at the end, which for a chain is the end of the chain.

    Args:
        inside: (grads, state, params) -> (updates, state), of leaves that `check` let pass, none below
            float32. Its params are None where the caller's are; see `check_given`.
        check: refuses (grads, params) by their names.
    """

    def __init__(self, inside: Update, check: Check) -> None:
        self.inside = inside
        self.check = check

    def __call__(self, grads: tree.Tree, state: Any, params: tree.Tree) -> tuple[tree.Tree, Any]:
        if params is None:
            check_floating("grads", grads)
        else:
            self.check(grads, params)
        like = grads if params is None else params
        flat, given = flatten_up_to(like, grads)
        if all(w.dtype == g.dtype and w.dtype in _WIDE for w, g in zip(flat, given, strict=True)):
            return self.inside(grads, state, params)
        exact = wide(flat)
        grads = unflatten(like, [g.to(w.dtype) for g, w in zip(given, exact, strict=True)])
        updates, state = self.inside(grads, state, None if params is None else unflatten(like, exact))
        _, moves = flatten_up_to(like, updates)
        # Gradients that were wider than the parameters keep what they have.
        each = zip(moves, given, flat, strict=True)
        return unflatten(like, [u.to(g.dtype) if g.dtype == w.dtype else u for u, g, w in each]), state


def transform(init: Init, update: Update, check: Check = check_alike) -> Transform:
    """A Transform of two functions that see no leaf below float32, so that what they remember is float32 too.

    >>> thrice = transform(no_state, lambda grads, state, params: (tree.map(lambda g: g * 3 / 3, grads), state))
    >>> thrice.update({"w": torch.tensor([60000.0], dtype=torch.float16)}, (), None)
    ({'w': tensor([60000.], dtype=torch.float16)}, ())
    """

    def whole_init(params: tree.Tree) -> Any:
        check_floating("params", params)
        return init(wide(params))

    return Transform(whole_init, Whole(update, check))


def stateless(
    update: Callable[[tree.Tree, tree.Tree], tree.Tree], init: Init | None = None, check: Check = check_alike
) -> Transform:
    """`transform` of a function (grads, params) -> updates that remembers nothing; `init` refuses parameters.

    >>> stateless(lambda grads, params: grads).update(torch.ones(1), {}, None)
    Traceback (most recent call last):
    ...
    funcreg._checks.FuncregError: state: got {} (dict); expected (). It must come from the init of the same \
transform, for these parameters.
    """

    def inside(grads: tree.Tree, state: tuple[()], params: tree.Tree) -> tuple[tree.Tree, tuple[()]]:
        if not is_nothing(state):
            _checks.fail("state", _checks.describe(state), "()", _SAME_INIT)
        return update(grads, params), state

    return transform(no_state if init is None else init, inside, check)


def check_structure(grads: tree.Tree, params: tree.Tree) -> None:
    """Refuse gradients of another structure; their shapes are for the transforms inside to judge."""
    check_like("grads", grads, "params", params, shapes=False)


def check_given(params: tree.Tree) -> None:
    """Refuse an update without the parameters, where it needs them."""
    if params is None:
        _checks.fail("params", "None", "the parameters, which this transform looks at")


def check_state(state: Any, kind: Any, **trees: tree.Tree) -> None:
    """Refuse a state of another kind, or of other parameters.

    Args:
        state: anything.
        kind: a NamedTuple, whose fields are numbers but for `trees`.
        trees: field -> the tree that it is like, in its dtypes; None for what others judge.
    """
    if not isinstance(state, kind):
        _checks.fail("state", _checks.describe(state), f"a {kind.__name__}", _SAME_INIT)
    for name in kind._fields:
        value = getattr(state, name)
        if trees.get(name) is not None:
            check_like(f"state.{name}", value, "grads", trees[name], _SAME_INIT, dtypes=True)
        elif name not in trees and not _is_number(value, counts=name in _COUNTS):
            what = "an integer" if name in _COUNTS else "a floating-point"
            _checks.fail(f"state.{name}", _checks.describe(value), f"{what} tensor of shape ()", _SAME_INIT)


def _is_number(value: Any, *, counts: bool) -> bool:
    kinds = _INTEGERS if counts else _WIDE
    return isinstance(value, Tensor) and value.ndim == 0 and value.dtype in kinds and not value.is_meta


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
    for index, each in enumerate(transforms):
        check_transform(f"transforms[{index}]", each)

    def init(params: tree.Tree) -> tuple[Any, ...]:
        return tuple(each.init(params) for each in transforms)

    def update(grads: tree.Tree, state: tuple[Any, ...], params: tree.Tree) -> tuple[tree.Tree, tuple[Any, ...]]:
        if not isinstance(state, tuple) or len(state) != len(transforms):
            got = f"a tuple of {len(state)}" if isinstance(state, tuple) else _checks.describe(state)
            _checks.fail("state", got, f"a tuple of {len(transforms)}", "It must come from the init of the same chain.")
        states = []
        for change, own in zip(changes, state, strict=True):
            grads, own = change(grads, own, params)
            states.append(own)
        return grads, tuple(states)

    updates = [each.update for each in transforms]
    ours = [isinstance(update, Whole) for update in updates]
    # What ours gives, ours need not check again.
    changes = [getattr(each, "inside", each) if all(ours[: place + 1]) else each for place, each in enumerate(updates)]
    check = getattr(updates[0], "check", check_structure) if updates else check_alike

    def rates(state: tuple[Any, ...]) -> dict[str, Number]:
        found: dict[str, Number] = {}
        for each, own in zip(transforms, state, strict=True):
            found |= each.rates(own)
        return found

    return transform(init, update, check)._replace(rates=rates)


def check_transform(argument: str, value: Any) -> None:
    """Refuse what is not a Transform; an optimizer of torch's above all."""
    if not (isinstance(value, Transform) and all(map(callable, value))):
        _checks.fail(
            argument, _checks.describe(value), "a Transform, such as fr.optim.adam(1e-3)", _checks.not_torchs(value)
        )


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


def exact(value: Number) -> Number:
    """A tensor in float64; a Python number is that already."""
    return value.to(torch.float64) if isinstance(value, Tensor) else value


def root(square: Tensor) -> Tensor:
    """The square root of a moving average of squares, whose derivative at 0 would be inf * 0.

    Its floor is far below any eps**2, and what rounding made negative has a root too.
    """
    return square.clamp(min=torch.finfo(square.dtype).tiny).sqrt()


def check_betas(b1: Number, b2: Number) -> tuple[Number, Number]:
    """The decays of two moving averages, in [0, 1)."""
    b1 = _checks.check_setting("b1", b1, 0.0, 1.0, exclusive="high")
    return b1, _checks.check_setting("b2", b2, 0.0, 1.0, exclusive="high")


def is_zero(value: Number) -> bool:
    """Whether a Python number is 0; a tensor is not read."""
    return not isinstance(value, Tensor) and value == 0


def zero_step(params: tree.Tree) -> Tensor:
    """The count of updates before the first, beside the parameters."""
    flat = tree.leaves(params)
    return torch.zeros((), dtype=torch.int64, device=flat[0].device if flat else None)


def is_nothing(state: Any) -> bool:
    """Whether a state is that of a transform that remembers nothing."""
    return type(state) is tuple and not state


def no_state(params: tree.Tree) -> tuple[()]:
    """The init of a transform that remembers nothing."""
    return ()
