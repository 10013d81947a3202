"""Attacks: inputs within epsilon of x, by the sign of a gradient or by projected gradient steps."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .. import _checks, _jit
from .._functorch import gradients, recordable
from ..tree.values import precise, sign
from .balls import BALLS

LossFn = Callable[[Tensor], Tensor]
Bound = float | Tensor | None


def fgsm(
    loss_fn: LossFn,
    x: Tensor,
    epsilon: float | Tensor,
    *,
    low: Bound = 0.0,
    high: Bound = 1.0,
    targeted: bool = False,
) -> Tensor:
    """Fast gradient sign method, one step to the border: `clip(x + epsilon * sign(grad loss(x)), low, high)`.

    Args:
        loss_fn: x -> losses of shape () or (N,).
        x: floating-point (N, ...), within [low, high].
        epsilon: at least 0, in x's unit; a number or a tensor of shape ().
        low, high: what an input may be; numbers, tensors of shape (), or None.
        targeted: go down instead, for the loss of a class that the model shall see.

    Returns:
        x's shape and dtype, at most epsilon from x in each element, 16-bit ones too; no gradient flows through it.

    Raises:
        FuncregError: when x is not floating-point (N, ...) or outside [low, high] by more than rounding (in a
            compiled program, and on a GPU, such elements become NaN instead), a number is out of range, or
            loss_fn gives another shape, or losses that do not depend on x.

    >>> fgsm(lambda x: (x * torch.tensor([1.0, -2.0, 0.0])).sum(dim=1), torch.full((1, 3), 0.5), 0.1)
    tensor([[0.6000, 0.4000, 0.5000]])

    Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015.
    """
    epsilon = _checks.check_setting("epsilon", epsilon)
    start = _start(loss_fn, x, low, high, targeted)
    moved = start + epsilon * sign(_ascent(loss_fn, start, x.dtype, targeted))
    return _rounded(_clip(moved, low, high), start, x.dtype).detach()


def pgd(
    loss_fn: LossFn,
    x: Tensor,
    epsilon: float | Tensor,
    *,
    key: Tensor,
    steps: int = 10,
    step_size: float | Tensor | None = None,
    norm: str = "linf",
    low: Bound = 0.0,
    high: Bound = 1.0,
    targeted: bool = False,
) -> Tensor:
    """Projected gradient descent, the strongest first-order attack: steps of one size, each back into the ball.

    From a uniform point of the ball of radius epsilon around each example, `steps` times
    `x = clip(project(x + step_size * d), low, high)`, d the sign of the gradient for "linf", the
    gradient over its norm for "l2" (0 where it is 0), the norm being over all elements of an example.

    Args:
        loss_fn: x -> losses of shape () or (N,).
        x: floating-point (N, ...), within [low, high].
        epsilon: the radius, at least 0; a number or a tensor of shape ().
        key: int64 (2,); draws the start.
        steps: at least 1, each a gradient.
        step_size: at least 0, a number or a tensor of shape (). Default: 2.5 * epsilon / steps.
        norm: "linf" or "l2".
        low, high: what an input may be; numbers, tensors of shape (), or None.
        targeted: go down instead, for the loss of a class that the model shall see.

    Returns:
        x's shape and dtype, at most epsilon from x in that norm, 16-bit ones too; no gradient flows through it.

    Raises:
        FuncregError: as `fgsm`, and when norm is another.

    >>> from funcreg import random
    >>> pgd(lambda x: (x * torch.tensor([3.0, -4.0])).sum(dim=1), torch.full((1, 2), 0.5), 0.1, key=random.key(0))
    tensor([[0.6000, 0.4000]])

    Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards deep learning models resistant to adversarial
    attacks", ICLR 2018.
    """
    epsilon = _checks.check_setting("epsilon", epsilon)
    centre = _start(loss_fn, x, low, high, targeted)
    _checks.check_choice("norm", norm, tuple(BALLS))
    _checks.check_count("steps", steps)
    stride = _checks.check_setting("step_size", 2.5 * epsilon / steps if step_size is None else step_size)
    _checks.check_key(key, x)
    ball = BALLS[norm]
    radius = torch.as_tensor(epsilon, dtype=centre.dtype, device=centre.device)
    found = _clip(centre + radius * ball.draw(key, centre), low, high)
    for _ in range(steps):
        moved = found + stride * ball.direction(_ascent(loss_fn, found, x.dtype, targeted))
        # The box is clipped to last: as x is in it, that brings no point further from x.
        found = _clip(centre + ball.project(moved - centre, radius), low, high)
    return _rounded(found, centre, x.dtype).detach()


def _ascent(loss_fn: LossFn, x: Tensor, dtype: torch.dtype, targeted: bool) -> Tensor:
    """The gradient of the losses; of minus them for a targeted attack."""

    def total(x: Tensor) -> tuple[Tensor, tuple[()]]:
        losses = loss_fn(x.to(dtype))
        if not isinstance(losses, Tensor) or losses.shape not in ((), x.shape[:1]):
            got = f"one that gives {_checks.describe(losses)}"
            _checks.fail("loss_fn", got, f"one that gives a loss of shape (), or losses ({x.shape[0]},)")
        return -losses.sum() if targeted else losses.sum(), ()

    def refuse() -> None:
        remedy = "Detached (detach, argmax, torch.no_grad) it has no gradient to follow."
        _checks.fail("loss_fn", "losses that do not depend on x", "losses computed from x", remedy)

    with torch.no_grad():  # for the parameters, whose gradient through here nobody wants
        return gradients(total, x, watched=False, unrelated=refuse)[0]


def _clip(x: Tensor, low: Bound, high: Bound) -> Tensor:
    if low is not None:
        x = torch.maximum(x, torch.as_tensor(low, dtype=x.dtype, device=x.device))
    if high is not None:
        x = torch.minimum(x, torch.as_tensor(high, dtype=x.dtype, device=x.device))
    return x


def _rounded(moved: Tensor, start: Tensor, dtype: torch.dtype) -> Tensor:
    """A point in 16 bits: the nearest number that is no further from where it started than the point is."""
    nearest = moved.to(dtype)
    if dtype == moved.dtype:
        return nearest
    info, wide = torch.finfo(dtype), nearest.to(moved.dtype)
    # Between half and the whole of a number's distance to the next, which what is subtracted so rounds to.
    spacing = (wide.abs() * (0.505 * info.eps)).clamp(min=0.75 * info.smallest_normal * info.eps)
    back = (wide - torch.sign(wide - start) * spacing).to(dtype)
    return torch.where((wide - start).abs() > (moved - start).abs(), back, nearest)


def _start(loss_fn: LossFn, x: Tensor, low: Bound, high: Bound, targeted: bool) -> Tensor:
    """The inputs in at least float32, all arguments checked."""
    _checks.check_callable("loss_fn", loss_fn, "a function x -> losses of shape () or (N,)")
    _checks.check_floating("x", x)
    if x.ndim == 0:
        _checks.fail("x", _checks.describe(x), "a tensor (N, ...)")
    low, high = (
        bound if bound is None else _checks.check_setting(name, bound, -math.inf)
        for name, bound in (("low", low), ("high", high))
    )
    if low is not None and high is not None:
        low = _checks.check_order("low", low, high, "high")
    _checks.check_choice("targeted", targeted, (True, False))
    start, eps = recordable(precise(x).detach()), torch.finfo(x.dtype).eps
    outside = torch.zeros_like(start, dtype=torch.bool)
    for bound, side in ((low, 1.0), (high, -1.0)):
        if bound is not None:
            edge = torch.as_tensor(bound, dtype=start.dtype, device=x.device)
            outside = outside | (side * (edge - start) > eps * edge.abs()) | edge.isnan()
    values = _jit.known(outside)
    if values is None:
        return torch.where(outside, torch.nan, start)
    if bool(values.any()):
        got = f"{int(values.sum())} of {values.numel()} elements outside of [low, high]"
        # A member's own bound under vmap has no text.
        known = not isinstance(low, Tensor) and not isinstance(high, Tensor)
        allowed = f"numbers in [{low}, {high}]" if known else "numbers in [low, high]"
        _checks.fail("x", got, allowed, "Clamp x, or give the bounds of its own unit, or None.")
    return start
