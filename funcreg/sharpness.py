"""Sharpness: minima whose whole neighbourhood is low, sought (`sam`) and measured (`hessian_eigenvalue`).

A loss for `fr.train.make_step`, and a number:

    sharp = sam(loss_fn, 0.05)
    hessian_eigenvalue(lambda params: loss, params, key=key)
"""

from collections.abc import Callable
from typing import Any

import optree
import torch
from torch import Tensor

from . import _checks, random, tree
from ._compiling import is_compiling
from ._functorch import constant, derivative_along, gradients, recordable
from .tree.checks import check_floating, check_tensors, check_values
from .tree.norms import over_norm
from .tree.values import precise, wide, widest

__all__ = ["LossFn", "Radius", "hessian_eigenvalue", "sam"]

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
    if callable(radius):
        _checks.check_callable("radius", radius, "a number, or a function hparams -> a number")
    else:
        radius = _checks.check_setting("radius", radius)

    def sharp(params: tree.Tree, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        def loss(params: tree.Tree) -> Any:
            return _checked(loss_fn(params, *rest, key=key, hparams=settings))

        check_floating("params", params)
        check_values("params", params)
        check_tensors("state", state)
        here, rest, settings = recordable((tree.map(constant, params), (state, batch), hparams))
        grads, (value, aux) = gradients(loss, here, watched=False)
        ascent = _ascent(here, grads, radius(hparams) if callable(radius) else radius, adaptive)
        worst, _ = loss(tree.map(lambda w, e: w + constant(e), params, ascent))
        return constant(value) + (worst - constant(worst)), aux

    return sharp


def hessian_eigenvalue(function: Callable[[Any], Tensor], params: tree.Tree, *, key: Tensor, steps: int = 20) -> Tensor:
    """The eigenvalue of a function's Hessian that is largest in magnitude, with its sign, by power iteration.

    From a random direction, `v = H v / ||H v||` for all steps but the last, which gives `v . H v`. A
    product `H v` is the derivative of the gradient along v, `jvp` of `grad`: H itself is never formed.
    The magnitude is approached from below, the faster the further the next eigenvalue is.

    Args:
        function: params -> a tensor of shape (), the loss on fixed samples with fixed noise.
        params: a tree of floating-point tensors, the place.
        key: int64 (2,), of the first direction.
        steps: products with H, at least 1; each takes a few times as long as a gradient.

    Returns:
        A tensor of shape (), in the parameters' dtype, in float32 for 16-bit ones. 0 where H is 0.

    Raises:
        FuncregError: when function cannot be called or returns something else, for no parameters or
            such that are not floating-point, and for steps below 1.

    >>> def function(w):
    ...     return (torch.tensor([1.0, -3.0]) * w**2).sum() / 2
    >>> hessian_eigenvalue(function, torch.ones(2), key=random.key(0))
    tensor(-3.)

    Yao, Gholami, Keutzer and Mahoney, "PyHessian: neural networks through the lens of the Hessian", 2020
    (arXiv:1912.07145).
    """
    _checks.check_callable("function", function, "a function params -> tensor of shape ()")
    _checks.check_count("steps", steps)
    check_floating("params", params)
    check_values("params", params)
    if not tree.leaves(params):
        _checks.fail("params", "no leaves", "a tree of floating-point tensors")

    if None in optree.tree_leaves(tree.map(lambda leaf: 0, params), none_is_leaf=True):
        _checks.fail("params", "None among its leaves", "a tree of floating-point tensors", "Leave it out.")

    def value(params: tree.Tree) -> Tensor:
        output = function(params)
        if not isinstance(output, Tensor) or output.ndim:
            _checks.fail("function", f"a return of {_checks.describe(output)}", "a tensor of shape ()")
        return output

    slope = torch.func.grad(value)
    direction = _unit(_drawn_like(params, key))
    for _ in range(steps - 1):
        direction = _unit(_product(slope, params, direction))
    return _dot(direction, _product(slope, params, direction))


def _ascent(params: tree.Tree, grads: tree.Tree, radius: Any, adaptive: bool) -> tree.Tree:
    """The step of length radius along the gradient, in float32 at least; none where the gradient is 0."""
    radius = _checks.check_setting("radius", radius)

    def scaled(w: Tensor, g: Tensor) -> Tensor:
        return w.abs() * precise(g) if adaptive else precise(g)

    direction = tree.map(scaled, params, grads)
    norm = tree.norm(direction)
    return tree.map(lambda w, d: (radius * scaled(w, over_norm(d, norm))).to(w.dtype), params, direction)


def _checked(output: Any) -> Any:
    if not isinstance(output, tuple) or len(output) != 2 or not isinstance(output[0], Tensor) or output[0].ndim:
        got = _checks.describe(output[0] if isinstance(output, tuple) and output else output)
        _checks.fail("loss_fn", f"a return of {got}", "(loss of shape (), (state, metrics))")
    return output


def _drawn_like(params: tree.Tree, key: Tensor) -> tree.Tree:
    """Gaussian numbers of the parameters' shapes and dtypes; one draw, as each costs time to compile."""
    flat = tree.leaves(params)
    sizes = [leaf.numel() for leaf in flat]
    numbers = random.normal(key, (sum(sizes),), dtype=widest(flat)).split(sizes)
    own = dict(zip(tree.names(params), numbers, strict=True))
    return tree.map_named(lambda name, leaf: own[name].reshape(leaf.shape).to(leaf.dtype), params)


def _unit(direction: tree.Tree) -> tree.Tree:
    """A direction of length 1, or 0 where it was, with its norm in float32 at least."""
    exact = wide(direction)
    norm = tree.norm(exact)
    return tree.map(lambda v, w: over_norm(w, norm).to(v.dtype), direction, exact)


def _product(slope: Callable[[Any], Any], params: tree.Tree, direction: tree.Tree) -> tree.Tree:
    """The derivative of a gradient along a direction, `H v`."""
    if is_compiling():
        # torch 2.15 cannot compile the jvp of a grad; H is symmetric, so the gradient of `v . grad` is the same.
        return torch.func.grad(lambda w: _dot(direction, slope(w)))(params)
    return derivative_along(slope, params, direction)


def _dot(one: tree.Tree, other: tree.Tree) -> Tensor:
    products = tree.map(lambda a, b: (precise(a) * precise(b)).sum(), one, other)
    return torch.stack(tree.leaves(products)).sum()
