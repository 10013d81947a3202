"""Sharpness-aware minimisation: losses in, losses out, for minima whose whole neighbourhood is low."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import _checks, tree
from ._functorch import constant, gradients

LossFn = Callable[..., tuple[Tensor, tuple[Any, dict[str, Tensor]]]]
Radius = float | Tensor | Callable[[Any], float | Tensor]


def sam(loss_fn: LossFn, radius: Radius = 0.05, *, adaptive: bool = False) -> LossFn:
    """A loss with the value of loss_fn at w, and its gradient at w + e, the worst place within the radius.

    To first order that is `e = radius * g / ||g||`, g the gradient at w and the norm over all
    parameters together; adaptive: `e = radius * w**2 * g / ||w * g||`, in a neighbourhood that scales
    with each parameter (ASAM). e is a constant of the gradient; derivatives taken from outside, as
    through `fr.train.unroll`, know where it came from.

    Args:
        loss_fn: (params, state, batch, *, key, hparams) -> (loss of shape (), (state, metrics)), as
            `fr.train.make_step` takes it. Called twice with one key, so both passes see the same noise.
        radius: at least 0; a number, a tensor of shape (), or a function hparams -> either.
        adaptive: scale by the parameters' magnitude; sensible radii are about ten times larger.

    Returns:
        A loss_fn of the same signature; state and metrics are those of the pass at w. The step's
        penalties are not part of it, and act at w.

    Raises:
        FuncregError: when loss_fn cannot be called, or radius is negative or not of shape ().

    >>> def loss_fn(params, state, batch, *, key, hparams):
    ...     return (params["w"] ** 2).sum(), (state, {})
    >>> def loss(w):
    ...     return sam(loss_fn, 0.5)({"w": w}, {}, None, key=None, hparams=None)[0]
    >>> torch.func.grad_and_value(loss)(torch.tensor([1.0]))
    (tensor([3.]), tensor(1.))

    Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-aware minimization", ICLR 2021; Kwon et al.,
    "ASAM", ICML 2021.
    """
    _checks.check_callable("loss_fn", loss_fn, "a function (params, state, batch, *, key, hparams)")
    _checks.check_choice("adaptive", adaptive, (True, False))
    if not callable(radius):
        _checks.check_setting("radius", radius)

    def sharp(params: tree.Tree, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        def loss(params: tree.Tree) -> Any:
            return _checked(loss_fn(params, state, batch, key=key, hparams=hparams))

        here = tree.map(constant, params)
        grads, (value, aux) = gradients(loss, here, watched=False)
        ascent = _ascent(here, grads, radius(hparams) if callable(radius) else radius, adaptive)
        worst, _ = loss(tree.map(lambda w, e: w + constant(e), params, ascent))
        return constant(value) + (worst - constant(worst)), aux

    return sharp


def _ascent(params: tree.Tree, grads: tree.Tree, radius: Any, adaptive: bool) -> tree.Tree:
    """The step of length radius along the gradient, in float32 at least; none where the gradient is 0."""
    _checks.check_setting("radius", radius)

    def scaled(w: Tensor, g: Tensor) -> Tensor:
        wide = g.to(torch.promote_types(g.dtype, torch.float32))
        return w.abs() * wide if adaptive else wide

    direction = tree.map(scaled, params, grads)
    norm = tree.norm(direction)
    length = radius / torch.where(norm == 0, 1.0, norm)
    return tree.map(lambda w, d: (length * scaled(w, d)).to(w.dtype), params, direction)


def _checked(output: Any) -> Any:
    if not isinstance(output, tuple) or len(output) != 2 or not isinstance(output[0], Tensor) or output[0].ndim:
        got = _checks.describe(output[0] if isinstance(output, tuple) and output else output)
        _checks.fail("loss_fn", f"a return of {got}", "(loss of shape (), (state, metrics))")
    return output
