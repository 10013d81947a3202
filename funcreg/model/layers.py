"""The pure forwards of torch's dropout, normalisation and spectral-norm layers, and of stochastic depth."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import noise, norm
from .._compiling import is_compiling
from .._functorch import needs_formulas
from ..norm.shared import affine, moved
from ..tree.values import precise
from .registry import Draw, momentum_of, register_layer


def _noise_forward(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The forward of a layer that is one call of a `noise` function."""

    def forward(layer: Any, draw: Draw | None, x: Tensor) -> Tensor:
        return x if draw is None else function(x, draw.rate, key=draw.key)

    return forward


dropout = _noise_forward(noise.dropout)


def channel_dropout(unbatched_ndim: int) -> Callable[..., Tensor]:
    """`noise.channel_dropout` that also takes one example without its batch axis, as `Dropout1d`, `2d` and `3d` do.

    >>> from funcreg import random
    >>> channel_dropout(2)(torch.ones(2, 3), 0.0, key=random.key(0)).shape
    torch.Size([2, 3])
    """

    def function(x: Tensor, rate: float | Tensor, *, key: Tensor) -> Tensor:
        if x.ndim == unbatched_ndim:
            return noise.channel_dropout(x.unsqueeze(0), rate, key=key).squeeze(0)
        return noise.channel_dropout(x, rate, key=key)

    return function


def _drop_path(layer: Any, draw: Draw | None, x: Tensor) -> Tensor:
    if draw is None:
        return x
    kept = noise.drop_path(x, draw.rate, key=draw.key)
    # Some leave the scale of what is kept as it is.
    return kept if getattr(layer, "scale_by_keep", True) else (kept * (1 - draw.rate)).to(x.dtype)


def _stochastic_depth(layer: Any, draw: Draw | None, x: Tensor) -> Tensor:
    return x if draw is None else noise.drop_path(x, draw.rate, key=draw.key, mode=layer.mode)


def mask_shape(forward: Callable[..., Any], layer: Any) -> Callable[[Tensor], tuple[int, ...]] | None:
    """What gives the shape of the mask, if a layer's noise is but x times one of dropout's.

    >>> mask_shape(dropout, nn.Dropout())(torch.ones(2, 3))
    torch.Size([2, 3])
    """
    if forward is dropout:
        return lambda x: x.shape
    whole = forward is _stochastic_depth and layer.mode == "batch"
    if whole or forward is _stochastic_depth or (forward is _drop_path and getattr(layer, "scale_by_keep", True)):
        return lambda x: (1 if whole else x.shape[0], *[1] * (x.ndim - 1))
    return None


def batch_norm(layer: Any, x: Tensor) -> Tensor:
    """Batch norm, its new statistics assigned."""
    layer._check_input_dim(x)
    tracked = layer.running_mean is not None
    if tracked and not layer.training and _fused(layer, x):
        return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)
    stats = (
        norm.BatchStats(layer.running_mean, layer.running_var, layer.num_batches_tracked)
        if tracked
        else norm.init_batch_stats(x.shape[1], device=x.device)
    )
    y, stats = norm.batch_norm(
        x,
        stats,
        scale=layer.weight,
        shift=layer.bias,
        train=layer.training or not tracked,
        momentum=momentum_of(layer),
        eps=layer.eps,
    )
    if tracked and layer.training:
        layer.running_mean, layer.running_var, layer.num_batches_tracked = stats
    return y


def _fused(layer: Any, x: Tensor) -> bool:
    """Whether torch's kernel for evaluation will do: compiled it has no vmap rule, and its vectors are of one dtype.

    Under vmap x is of that one too, which with autocast it need not be.
    """
    alike = layer.weight is None or layer.weight.dtype == layer.running_mean.dtype
    return alike and not is_compiling() and (x.dtype == layer.running_mean.dtype or not needs_formulas())


def _instance_norm(layer: Any, x: Tensor) -> Tensor:
    """Tracked instance norm: its running statistics are the mean over the batch of each image's own."""
    layer._check_input_dim(x)
    batched = x.ndim != layer._get_no_batch_dim()
    images = x if batched else x.unsqueeze(0)
    running: tuple[Tensor, ...] = () if layer.running_mean is None else (layer.running_mean, layer.running_var)
    use_own = layer.training or not running
    if use_own:
        y = instance_norm(images, layer.weight, layer.bias, layer.eps)
    else:
        mean, var = (each.to(x.dtype) for each in running)
        y = F.instance_norm(images, mean, var, layer.weight, layer.bias, use_input_stats=False, eps=layer.eps)
    if layer.training and running:
        axes = tuple(range(2, images.ndim))
        old_mean, old_var = running
        var, mean = torch.var_mean(images.to(old_mean.dtype), dim=axes)
        momentum = momentum_of(layer)
        momentum = 0.0 if momentum is None else momentum  # as torch's
        layer.running_mean = moved(old_mean, mean.mean(0), momentum)
        layer.running_var = moved(old_var, var.mean(0), momentum)
    return y if batched else y.squeeze(0)


def instance_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """`F.instance_norm` by each image's own statistics, right in its second derivatives too.

    >>> instance_norm(torch.tensor([[[1.0, 3.0]]]), torch.tensor([2.0]), torch.tensor([1.0]), 1e-5)
    tensor([[[-1.0000,  3.0000]]])
    """
    if not needs_formulas():
        return F.instance_norm(x, None, None, weight, bias, eps=eps)
    spread = (-1, *(1 for _ in x.shape[2:]))
    weight, bias = (None if each is None else each.reshape(spread) for each in (weight, bias))
    return _apart(lambda x: F.instance_norm(x, eps=eps), x, weight, bias)


def layer_norm(x: Tensor, features: Any, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """`F.layer_norm`, right in its second derivatives too.

    >>> layer_norm(torch.tensor([[1.0, 3.0]]), (2,), torch.tensor([2.0, 1.0]), None, 1e-5)
    tensor([[-2.0000,  1.0000]])
    """
    if not needs_formulas():
        return F.layer_norm(x, features, weight, bias, eps)
    return _apart(lambda x: F.layer_norm(x, features, eps=eps), x, weight, bias)


def _apart(normalise: Callable[[Tensor], Tensor], x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scale and shift after a kernel that gets neither, rounded once as the whole kernel does."""
    y = affine(normalise(precise(x)), weight, bias)
    return y if torch.is_autocast_enabled(x.device.type) else y.to(x.dtype)


def _layer_norm(layer: Any, x: Tensor) -> Tensor:
    return layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


def _in_the_weights_dtype(own: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A layer's forward that also takes 16-bit inputs beside float32 weights: vmap refuses their backward."""

    def forward(layer: Any, x: Tensor) -> Tensor:
        if layer.weight is None or layer.weight.dtype == x.dtype:
            return own(layer, x)
        return own(layer, x.to(layer.weight.dtype)).to(x.dtype)

    return forward


def _spectral_norm(layer: Any, weight: Tensor) -> Tensor:
    if weight.ndim == 1:
        return F.normalize(weight, dim=0, eps=layer.eps)
    scaled, state = norm.spectral_norm(
        weight,
        norm.SpectralState(layer._u, layer._v),
        steps=layer.n_power_iterations if layer.training else 0,
        dim=layer.dim,
        eps=layer.eps,
    )
    if layer.training:
        layer._u, layer._v = state
    return scaled


def _avoid_fused_evaluation(layer: Any) -> None:
    """Keep a TransformerEncoderLayer off its fused path, which skips every dropout and has no vmap rule."""
    layer.activation_relu_or_gelu = 0


def _avoid_nested_tensors(encoder: Any) -> None:
    encoder.use_nested_tensor = False


register_layer(nn.Dropout, dropout, rate="p")
register_layer(nn.AlphaDropout, _noise_forward(noise.alpha_dropout), rate="p")
register_layer(nn.FeatureAlphaDropout, _noise_forward(noise.feature_alpha_dropout), rate="p")
register_layer(nn.Dropout1d, _noise_forward(channel_dropout(2)), rate="p")
register_layer(nn.Dropout2d, _noise_forward(channel_dropout(3)), rate="p")
register_layer(nn.Dropout3d, _noise_forward(channel_dropout(4)), rate="p")
register_layer("torchvision.ops.stochastic_depth.StochasticDepth", _stochastic_depth, rate="p")
register_layer("timm.layers.drop.DropPath", _drop_path, rate="drop_prob")
for _type in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
    register_layer(_type, batch_norm, tracks=True)
for _type in (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d):
    register_layer(_type, _instance_norm, tracks=True)
register_layer(nn.LayerNorm, _in_the_weights_dtype(_layer_norm))
register_layer(nn.RMSNorm, _in_the_weights_dtype(nn.RMSNorm.forward))
register_layer("torch.nn.utils.parametrizations._SpectralNorm", _spectral_norm)
register_layer(nn.TransformerEncoderLayer, None, prepare=_avoid_fused_evaluation)
register_layer(nn.TransformerEncoder, None, prepare=_avoid_nested_tensors)
