"""The pure forwards of torch's dropout, normalisation and spectral-norm layers, and of stochastic depth."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import _checks, noise, norm
from .registry import Draw, momentum_of, register_layer


def _noise_forward(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The forward of a layer that is one call of a `noise` function."""

    def forward(layer: Any, draw: Draw | None, x: Tensor) -> Tensor:
        return x if draw is None else function(x, draw.rate, key=draw.key)

    return forward


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


def _stochastic_depth(layer: Any, draw: Draw | None, x: Tensor) -> Tensor:
    return x if draw is None else noise.drop_path(x, draw.rate, key=draw.key, mode=layer.mode)


def _batch_norm(layer: Any, x: Tensor) -> Tensor:
    layer._check_input_dim(x)
    tracked = layer.running_mean is not None
    if not layer.training and tracked:
        return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)
    stats = (
        norm.BatchStats(layer.running_mean, layer.running_var, layer.num_batches_tracked)
        if tracked
        else norm.init_batch_stats(x.shape[1], device=x.device)
    )
    y, stats = norm.batch_norm(
        x, stats, scale=layer.weight, shift=layer.bias, train=True, momentum=momentum_of(layer), eps=layer.eps
    )
    if tracked:
        layer.running_mean, layer.running_var, layer.num_batches_tracked = stats
    return y


def _instance_norm(layer: Any, x: Tensor) -> Tensor:
    """Tracked instance norm: its running statistics are the mean over the batch of each image's own."""
    layer._check_input_dim(x)
    batched = x.ndim != layer._get_no_batch_dim()
    images = x if batched else x.unsqueeze(0)
    use_own = layer.training or layer.running_mean is None
    mean, var = (None, None) if use_own else (layer.running_mean, layer.running_var)
    y = F.instance_norm(images, mean, var, layer.weight, layer.bias, use_input_stats=use_own, eps=layer.eps)
    if layer.training and layer.running_mean is not None:
        axes = tuple(range(2, images.ndim))
        image_var, image_mean = torch.var_mean(images, dim=axes)
        momentum = momentum_of(layer)
        layer.running_mean = layer.running_mean + momentum * (image_mean.mean(0) - layer.running_mean)
        layer.running_var = layer.running_var + momentum * (image_var.mean(0) - layer.running_var)
    return y if batched else y.squeeze(0)


def _spectral_norm(layer: Any, weight: Tensor) -> Tensor:
    if weight.ndim == 1:
        return F.normalize(weight, dim=0, eps=layer.eps)
    matrix = layer._reshape_weight_to_matrix(weight)
    u, v = layer._u, layer._v
    if layer.training:
        # The power method's vectors are constants of the gradient (Miyato et al., 2018).
        fixed = matrix.detach()
        for _ in range(layer.n_power_iterations):
            u = F.normalize(fixed @ v, dim=0, eps=layer.eps)
            v = F.normalize(fixed.mH @ u, dim=0, eps=layer.eps)
        layer._u, layer._v = u, v
    return weight / torch.vdot(u, matrix @ v)


def _refuse_in_training(why: str, remedy: str) -> Callable[[Any], None]:
    def prepare(layer: Any) -> None:
        own = layer.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if layer.training:
                _checks.fail("module", f"a {type(layer).__name__} that {why}", "pure layers", remedy)
            return own(*args, **kwargs)

        layer.forward = forward

    return prepare


def _avoid_fused_evaluation(layer: Any) -> None:
    """Keep a TransformerEncoderLayer off its fused path, which skips every dropout and has no vmap rule."""
    layer.activation_relu_or_gelu = 0


def _avoid_nested_tensors(encoder: Any) -> None:
    encoder.use_nested_tensor = False


register_layer(nn.Dropout, _noise_forward(noise.dropout), rate="p")
register_layer(nn.AlphaDropout, _noise_forward(noise.alpha_dropout), rate="p")
register_layer(nn.Dropout1d, _noise_forward(channel_dropout(2)), rate="p")
register_layer(nn.Dropout2d, _noise_forward(channel_dropout(3)), rate="p")
register_layer(nn.Dropout3d, _noise_forward(channel_dropout(4)), rate="p")
register_layer("torchvision.ops.stochastic_depth.StochasticDepth", _stochastic_depth, rate="p")
for _type in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
    register_layer(_type, _batch_norm, tracks=True)
for _type in (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d):
    register_layer(_type, _instance_norm, tracks=True)
register_layer("torch.nn.utils.parametrizations._SpectralNorm", _spectral_norm)
register_layer(nn.TransformerEncoderLayer, None, prepare=_avoid_fused_evaluation)
register_layer(nn.TransformerEncoder, None, prepare=_avoid_nested_tensors)
_REGISTER = "Replace it, or register a pure forward for it with fr.register_layer."
for _type in (nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d, nn.FeatureAlphaDropout):
    register_layer(_type, None, prepare=_refuse_in_training("draws from the global generator", _REGISTER))
register_layer(nn.SyncBatchNorm, None, prepare=_refuse_in_training("overwrites its buffers", _REGISTER))
