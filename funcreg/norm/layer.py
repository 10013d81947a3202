"""Normalisation of each example by itself: `x -> y`, the same in training and evaluation.

    y = (x - mean) / sqrt(var + eps) * scale + shift

Mean and biased variance are of the example's own numbers: all of its features (layer), or those
of a group of channels (group) or of one channel (instance). Statistics in float32 for 16-bit inputs.
"""

import math

import torch
from torch import Tensor

from .. import _checks
from .._functorch import needs_formulas
from ..tree.values import precise
from .shared import affine, check_vectors, inverse_root, without_overflow


def layer_norm(
    x: Tensor,
    *,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    dims: int = 1,
    eps: float | Tensor = 1e-5,
) -> Tensor:
    """Layer normalisation over the last axes.

    Args:
        x: floating-point (..., *features), features being its last `dims` axes.
        scale, shift: of shape features, learned; None leaves them out.
        dims: how many axes, at least 1.
        eps: at least 0, added to the variance; a number or a tensor of shape ().

    Returns:
        x's shape and dtype.

    Raises:
        FuncregError: when x is not floating-point, has fewer axes or one feature alone, scale or shift
            has another shape, or eps is negative.

    >>> layer_norm(torch.tensor([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]]))
    tensor([[-1.2247,  0.0000,  1.2247],
            [ 0.0000,  0.0000,  0.0000]])

    Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450, 2016.
    """
    features = _check_last(x, dims, scale, shift)
    _check_size(x, math.prod(features), "feature")
    eps = _checks.check_setting("eps", eps, 0.0)
    inputs, scale, shift = _all_precise(x, scale, shift)
    if isinstance(eps, Tensor):
        y = _standardise(inputs, tuple(range(-dims, 0)), eps)
    elif not needs_formulas():
        # One fused kernel, four times as fast as the formula where that is not compiled.
        y, _, root = torch.native_layer_norm(inputs, features, scale, shift, eps)
        return without_overflow(y, root).to(x.dtype)
    else:
        y, _, root = torch.native_layer_norm(inputs, features, None, None, eps)
        y = without_overflow(y, root)
    return affine(y, scale, shift).to(x.dtype)


def rms_norm(
    x: Tensor,
    *,
    scale: Tensor | None = None,
    dims: int = 1,
    eps: float | Tensor = 1e-6,
) -> Tensor:
    """Layer normalisation without the mean: `x / sqrt(mean(x**2) + eps) * scale`, over the last axes.

    Args:
        x: floating-point (..., *features), features being its last `dims` axes.
        scale: of shape features, learned; None leaves it out.
        dims: how many axes, at least 1.
        eps: at least 0, added to the mean square; a number or a tensor of shape ().

    Returns:
        x's shape and dtype.

    Raises:
        FuncregError: when x is not floating-point or has fewer axes, scale has another shape, or eps is
            negative.

    >>> rms_norm(torch.tensor([[1.0, 7.0], [0.0, 0.0]]))
    tensor([[0.2000, 1.4000],
            [0.0000, 0.0000]])

    Zhang and Sennrich, "Root mean square layer normalization", NeurIPS 2019.
    """
    _check_last(x, dims, scale, None)
    eps = _checks.check_setting("eps", eps, 0.0)
    inputs, scale, _ = _all_precise(x, scale, None)
    y = inputs * inverse_root((inputs * inputs).mean(dim=tuple(range(-dims, 0)), keepdim=True), eps)
    return (y if scale is None else y * scale).to(x.dtype)


def group_norm(
    x: Tensor,
    groups: int,
    *,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    eps: float | Tensor = 1e-5,
) -> Tensor:
    """Group normalisation: of each example's groups of adjacent channels.

    Args:
        x: floating-point (N, C, *spatial).
        groups: how many, a divisor of C.
        scale, shift: (C,), learned; None leaves them out.
        eps: at least 0, added to the variance; a number or a tensor of shape ().

    Returns:
        x's shape and dtype.

    Raises:
        FuncregError: when x is not floating-point (N, C, *spatial), groups does not divide C or leaves one
            value in each, scale or shift is not (C,), or eps is negative.

    >>> group_norm(torch.tensor([[1.0, 3.0, 10.0, 30.0]]), 2)
    tensor([[-1.0000,  1.0000, -1.0000,  1.0000]])

    Wu and He, "Group normalization", ECCV 2018.
    """
    _checks.check_floating("x", x)
    if x.ndim < 2:
        _checks.fail("x", _checks.describe(x), "a tensor (N, C, *spatial)")
    _checks.check_count("groups", groups)
    channels = x.shape[1]
    if channels % groups:
        _checks.fail("groups", groups, f"a divisor of the channels of x, {channels}")
    check_vectors({"scale": scale, "shift": shift}, x, (channels,), "the channels of x")
    _check_size(x, math.prod(x.shape[1:]) // groups, "value in a group")
    eps = _checks.check_setting("eps", eps, 0.0)
    inputs, scale, shift = _all_precise(x, scale, shift)
    if not isinstance(eps, Tensor):
        shape = (x.shape[0], channels, math.prod(x.shape[2:]))
        y, _, root = torch.native_group_norm(inputs.contiguous(), scale, shift, *shape, groups, eps)
        channelwise = root.repeat_interleave(channels // groups, dim=1).reshape(*x.shape[:2], *(1 for _ in x.shape[2:]))
        return without_overflow(y, channelwise).to(x.dtype)
    y = _standardise(inputs.reshape(x.shape[0], groups, -1), (-1,), eps).reshape(x.shape)
    spread = (-1, *(1 for _ in x.shape[2:]))
    scale, shift = (None if each is None else each.reshape(spread) for each in (scale, shift))
    return affine(y, scale, shift).to(x.dtype)


def instance_norm(
    x: Tensor,
    *,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    eps: float | Tensor = 1e-5,
) -> Tensor:
    """Instance normalisation: of each example's channels, one by one. Group norm with C groups.

    Args:
        x: floating-point (N, C, *spatial), at least one spatial axis.
        scale, shift: (C,), learned; None leaves them out.
        eps: at least 0, added to the variance; a number or a tensor of shape ().

    Returns:
        x's shape and dtype.

    Raises:
        FuncregError: when x is not floating-point (N, C, *spatial) or has one value per channel, scale or
            shift is not (C,), or eps is negative.

    >>> instance_norm(torch.tensor([[[1.0, 3.0], [10.0, 30.0]]]))
    tensor([[[-1.0000,  1.0000],
             [-1.0000,  1.0000]]])

    Ulyanov, Vedaldi and Lempitsky, "Instance normalization", arXiv:1607.08022, 2016.
    """
    _checks.check_floating("x", x)
    if x.ndim < 3 or not x.shape[1]:
        _checks.fail("x", _checks.describe(x), "a tensor (N, C, *spatial) with C at least 1 and a spatial axis")
    _check_size(x, math.prod(x.shape[2:]), "value per channel")
    return group_norm(x, x.shape[1], scale=scale, shift=shift, eps=eps)


def _standardise(inputs: Tensor, dim: tuple[int, ...], eps: Tensor) -> Tensor:
    centred = inputs - inputs.mean(dim=dim, keepdim=True)
    return centred * inverse_root((centred * centred).mean(dim=dim, keepdim=True), eps)


def _all_precise(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """All three in the dtype that x's statistics are computed in."""
    inputs = precise(x)
    scale, shift = (None if each is None else each.to(inputs.dtype) for each in (scale, shift))
    return inputs, scale, shift


def _check_last(x: Tensor, dims: int, scale: Tensor | None, shift: Tensor | None) -> tuple[int, ...]:
    """The lengths of the last axes, which scale and shift must have too."""
    _checks.check_floating("x", x)
    _checks.check_count("dims", dims)
    if x.ndim < dims:
        _checks.fail("x", _checks.describe(x), f"a tensor of at least {dims} dimension(s)")
    features = tuple(x.shape[-dims:])
    check_vectors({"scale": scale, "shift": shift}, x, features, "the features of x")
    return features


def _check_size(x: Tensor, size: int, what: str) -> None:
    if size <= 1:
        remedy = "One value has no variance: it would be normalised to 0."
        _checks.fail("x", _checks.describe(x), f"more than one {what}", remedy)
