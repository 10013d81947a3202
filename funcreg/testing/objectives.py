"""Losses and penalties: what training adds up."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import grad

from .. import _checks, tree
from .check import begun
from .example import Example, Settings, example, replaced, title
from .reports import Finding, Report, refuse_broken
from .trees import fresh

CLASSES = 8  # of which each is the predicted one
LARGE = 200.0  # the exponential of its negative is 0 in float32


def check_loss(
    loss: Callable[..., Tensor],
    predictions: Tensor,
    targets: Any,
    *args: Any,
    key: Tensor | None = None,
    batched: Settings = (),
    jit: bool = False,
    **kwargs: Any,
) -> None:
    """Refuse a loss that breaks a rule: those of `report`, and

    - scalar: it has the shape ().
    - slope: its gradient by the predictions is not zero everywhere; targets need none.
    - pairs: other targets for the same predictions change it, but the same pairs in another order do not.
    - large predictions: of 200 and -200, or 0 and 1 where they are probabilities, give no NaN or infinity, nor do
      their gradients.
    - other arguments: a mask, or weights, matter.

    Args:
        loss: `loss(predictions, targets, *args, key=key, **kwargs)`.
        predictions: (batch, ...), floating-point.
        targets: a tensor (batch, ...), integers or not, or a tree of them.
        key, batched, jit: as for `check`.

    Raises:
        AssertionError: lists each broken rule with its evidence.
        FuncregError: for arguments of `check_loss` itself.

    >>> import funcreg as fr
    >>> logits, classes = torch.tensor([[1.0, 2.0, 0.5], [0.1, 0.3, -1.0]]), torch.tensor([0, 2])
    >>> check_loss(fr.losses.cross_entropy, logits, classes)
    >>> naive = lambda logits, classes: -torch.softmax(logits, 1).log().gather(1, classes[:, None]).mean()
    >>> check_loss(naive, logits, classes)
    Traceback (most recent call last):
    AssertionError: <lambda> breaks 1 rule:
      large predictions: of 200 and -200: the loss is inf
    """
    _checks.check_floating("predictions", predictions)
    given: dict[str, Any] = {"key": key, "batched": batched, **kwargs}
    tried = example(loss, predictions, targets, *args, **given)
    by = [tried.names[place] for place in (*tried.floating, *tried.settings) if _has_slope(tried, place)]
    found, leaves, value = begun(title(loss), tried, jit=jit, gradients=by, dtype="either")
    found.append(Finding("scalar", _not_scalar(value)))
    if not found[-1].broken:
        slope = grad(lambda given: tried.call(replaced(leaves, [0], [given])))(leaves[0])
        dead = () if bool(slope.any()) else ("the gradient by the predictions is zero everywhere",)
        found += [
            Finding("slope", dead),
            _pairs(tried, leaves, value),
            Finding("large predictions", _at_large(tried, leaves)),
            Finding("other arguments", tuple(_idle(tried, leaves, value))),
        ]
    refuse_broken(Report(title(loss), tuple(found)))


def check_penalty(
    penalty: Callable[..., Tensor],
    params: tree.Tree,
    strength: float = 0.1,
    *,
    key: Tensor | None = None,
    jit: bool = False,
    **kwargs: Any,
) -> None:
    """Refuse a penalty that breaks a rule: those of `report`, and

    - scalar: it has the shape ().
    - strength: none gives 0, and twice as much twice the penalty.
    - slope: its gradient is not zero everywhere.
    - at zero: where all parameters are 0 it and its gradient are finite.
    - bound: it does not fall without end as the parameters grow.

    Args:
        penalty: `penalty(params, strength, key=key, **kwargs)`; the strength may be a tensor, batched.
        params: a tree of floating-point tensors, or the inputs of a function that is penalized.
        strength: above 0.
        key, jit: as for `check`.

    Raises:
        AssertionError: lists each broken rule with its evidence.
        FuncregError: for arguments of `check_penalty` itself.

    >>> import funcreg as fr
    >>> params = {"w": torch.tensor([1.0, -2.0])}
    >>> check_penalty(fr.penalties.l2, params)
    >>> check_penalty(lambda params, strength: strength * params["w"].square().sum().sqrt(), params)
    Traceback (most recent call last):
    AssertionError: <lambda> breaks 1 rule:
      at zero: the gradient of params.w is nan
    """
    _checks.check_setting("strength", strength, exclusive="low")

    def penalized(params: tree.Tree, strength: Any, **kwargs: Any) -> Tensor:
        return penalty(params, strength, **kwargs)

    settings = {"strength": (0.0, strength, 2 * strength)}
    tried = example(penalized, params, key=key, batched=settings, **kwargs)
    found, leaves, value = begun(title(penalty), tried, jit=jit, gradients=True, dtype="either")
    found.append(Finding("scalar", _not_scalar(value)))
    if not found[-1].broken:
        idle = "settings" in Report("", tuple(found)).broken
        scale = (
            Finding("strength", (), "not judged: settings")
            if idle
            else Finding("strength", _by_strength(tried, leaves))
        )
        found += [scale, *_slopes(tried, leaves)]
    refuse_broken(Report(title(penalty), tuple(found)))


def _is_target(names: Sequence[str], place: int) -> bool:
    """Whether a leaf is one of the second argument's."""
    return names[place].split(".")[0] == names[1].split(".")[0]


def _has_slope(tried: Example, place: int) -> bool:
    """Whether it is differentiated by a leaf: not by targets, nor by weights where torch has no derivative."""
    if not place or place in tried.settings:
        return True
    if _is_target(tried.names, place):
        return False
    leaves = fresh(tried.member(tried.base))
    try:
        grad(lambda given: tried.call(replaced(leaves, [place], [given])).sum())(leaves[place])
    except Exception:
        return False
    return True


def _not_scalar(value: Any) -> tuple[str, ...]:
    if isinstance(value, Tensor) and value.ndim == 0:
        return ()
    return (f"the result is {_checks.describe(value)}, not a tensor of shape ()",)


def _pairs(tried: Example, leaves: list[Any], value: Tensor) -> Finding:
    """Whether it looks at each prediction together with its own target."""
    count = leaves[0].shape[0] if leaves[0].ndim else 0
    at = [place for place in range(len(tried.names)) if _is_target(tried.names, place)]
    at = [place for place in at if isinstance(leaves[place], Tensor) and leaves[place].shape[:1] == (count,)]
    if count < 2 or not at:
        return Finding("pairs", (), "needs two samples")
    others = [
        place
        for place, leaf in enumerate(leaves)
        if place
        and place not in at
        and place != tried.keyed
        and isinstance(leaf, Tensor)
        and leaf.shape[:1] == (count,)
    ]
    turned = [leaves[place].roll(1, 0) for place in at]
    if all(torch.equal(one, leaves[place]) for one, place in zip(turned, at, strict=True)):
        return Finding("pairs", (), "all targets are the same")
    near = 1e-5 * (1 + abs(float(value)))
    apart = float(tried.call(replaced(leaves, at, turned)))
    # A mask, or weights, may be of the samples or not.
    moved = ([0, *at], [0, *at, *others])
    again = [float(tried.call(replaced(leaves, each, [leaves[place].roll(1, 0) for place in each]))) for each in moved]
    together = min(again, key=lambda sum_: abs(sum_ - float(value)))
    lines = []
    if apart == float(value) or abs(apart - float(value)) < near / 100:
        lines.append(f"each prediction with another's target gives the same, {apart:.6g}: a shape that broadcasts?")
    if abs(together - float(value)) > near and tried.keyed is None:
        lines.append(f"the same pairs in another order give {together:.6g}, not {float(value):.6g}")
    return Finding("pairs", tuple(lines))


def _at_large(tried: Example, leaves: list[Any]) -> tuple[str, ...]:
    x = leaves[0]
    probable = bool(((x >= 0) & (x <= 1)).all())
    upper, lower, what = (1.0, 0.0, "0 and 1") if probable else (LARGE, -LARGE, f"{LARGE:g} and {-LARGE:g}")
    for chosen in _patterns(x):
        large = torch.where(chosen, upper, lower).to(x.dtype)
        value = tried.call(replaced(leaves, [0], [large]))
        if not bool(value.isfinite()):
            return (f"of {what}: the loss is {float(value)}",)
        slope = grad(lambda given: tried.call(replaced(leaves, [0], [given])))(large)
        if not bool(slope.isfinite().all()):
            return (f"of {what}: a gradient is {float(slope[~slope.isfinite()][0])}",)
    return ()


def _patterns(x: Tensor) -> Iterator[Tensor]:
    """Every other number; and one class after the other, where there are some."""
    flat = torch.arange(x.numel(), device=x.device).reshape(x.shape)
    yield from (flat % 2 == odd for odd in (0, 1))
    if x.ndim > 1:
        classes = torch.arange(x.shape[1], device=x.device).reshape(-1, *(1 for _ in x.shape[2:]))
        yield from ((classes == each).expand_as(x) for each in range(min(x.shape[1], CLASSES)))


def _idle(tried: Example, leaves: list[Any], value: Tensor) -> Iterator[str]:
    """Masks and weights that change nothing."""
    for place, leaf in enumerate(leaves):
        known = not place or place == tried.keyed or place in tried.settings or _is_target(tried.names, place)
        if known or not isinstance(leaf, Tensor) or not leaf.numel():
            continue
        if leaf.dtype == torch.bool:
            other = leaf.logical_not()
        elif leaf.is_floating_point():
            other = leaf * torch.linspace(1.5, 2.5, leaf.numel(), device=leaf.device).to(leaf.dtype).reshape(leaf.shape)
        else:
            continue
        if torch.equal(other, leaf):
            continue
        try:
            same = torch.equal(tried.call(replaced(leaves, [place], [other])), value)
        except Exception:  # a value that it refuses
            continue
        if same:
            yield f"{tried.names[place]} has no effect"


def _by_strength(tried: Example, leaves: list[Any]) -> tuple[str, ...]:
    (place,) = tried.settings
    values = tried.settings[place]
    tensors = [torch.tensor(value, dtype=torch.float64) for value in values]
    none, once, twice = (float(tried.call(replaced(leaves, [place], [each]))) for each in tensors)
    lines = [f"a strength of 0 gives {none:.6g}"] if none != 0 else []
    if abs(twice - none - 2 * (once - none)) > 1e-4 * abs(twice - none):
        lines.append(f"a strength of {values[1]:g} gives {once:.6g}, one of {values[2]:g} gives {twice:.6g}")
    return tuple(lines)


def _slopes(tried: Example, leaves: list[Any]) -> list[Finding]:
    at = [place for place in tried.floating if tried.names[place].split(".")[0] == "params"]
    slope = grad(lambda given: tried.call(replaced(leaves, at, given)))
    dead = not any(bool(each.any()) for each in slope([leaves[place] for place in at]))
    zeros = [torch.zeros_like(leaves[place]) for place in at]
    lines = [] if bool(tried.call(replaced(leaves, at, zeros)).isfinite()) else ["the penalty is not finite"]
    for place, each in zip(at, slope(zeros), strict=True):
        if not bool(each.isfinite().all()):
            lines.append(f"the gradient of {tried.names[place]} is {float(each[~each.isfinite()][0])}")
    far, further = (float(tried.call(replaced(leaves, at, [leaves[place] * by for place in at]))) for by in (1e2, 1e4))
    falls = f"where the parameters are 10,000 times as large it is {further:.4g}: training would make them grow"
    return [
        Finding("bound", (falls,) if further < 10 * far < 0 else ()),
        Finding("slope", ("the gradient is zero everywhere",) if dead else ()),
        Finding("at zero", tuple(lines)),
    ]
