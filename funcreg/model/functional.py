"""Noise that a module's forward calls as a function (`F.dropout(x)`), found while it runs.

While a module with a forward of its own runs, a mode of torch sees every torch function it
calls and replaces those that draw: with a key by keyed noise, without one by nothing.
"""

import inspect
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .. import _checks, noise, random
from .._functorch import in_transform
from .attention import scaled_dot_product_attention
from .layers import channel_dropout
from .registry import Draw

CALL_STRIDE = 2**34  # draws between two calls on one key: more than one call can make

_WORDS = ("dropout", "scaled_dot_product_attention")


class FunctionalNoise(TorchFunctionMode):
    """Replaces the noise functions called inside the block, each call with a key of its own.

    Args:
        key: int64 (2,), or None to have them pass their input on.
        rate: in place of each call's own rate, or None to keep it.
        train: whether this is a training step, where noise without a key is an error.
    """

    def __init__(self, key: Tensor | None, rate: float | Tensor | None, train: bool) -> None:
        super().__init__()
        self.key, self.rate, self.train = key, rate, train

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        replacement = _REPLACEMENTS.get(func)
        if replacement is None:
            return func(*args, **(kwargs or {}))
        return replacement(self._draw, *args, **(kwargs or {}))

    def _draw(self, own_rate: float) -> Draw | None:
        rate = own_rate if self.rate is None else self.rate
        if self.key is None:
            if self.train and own_rate > 0:
                _checks.fail("key", None, "a key, since this forward calls dropout", "Pass key=fr.random.key(seed).")
            return None
        key, self.key = self.key, random.skip(self.key, CALL_STRIDE)
        return None if isinstance(rate, int | float) and rate == 0 else Draw(key, rate)


def may_call_noise(module: nn.Module) -> bool:
    """Whether some forward in a module is not torch's own and its file speaks of dropout."""
    return any(_speaks_of_noise(type(child).__module__) for child in module.modules())


def _speaks_of_noise(name: str) -> bool:
    if name.startswith("torch.nn.modules."):
        return False  # torch's own layers call no noise but what the registry replaces
    try:
        source = inspect.getsource(sys.modules[name])
    except (KeyError, OSError, TypeError):  # typed at a prompt, or generated: look at every call
        return True
    # A torchvision or torch file that does not name them calls none; any other may import a helper that does.
    return not name.startswith(("torch.", "torchvision.")) or any(word in source for word in _WORDS)


def _elementwise(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def replacement(
        draw: Callable[[float], Draw | None],
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        # Noise is on exactly when there is a key, whatever `training` says.
        drawn = draw(p)
        return input if drawn is None else function(input, drawn.rate, key=drawn.key)

    return replacement


def _attention(
    draw: Callable[[float], Draw | None],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    drawn = draw(dropout_p)
    # The fused kernel has no vmap rule, no forward mode and no second derivative on the CPU.
    if drawn is None and not torch.compiler.is_compiling() and not in_transform():
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(groups, dim=-3) for x in (key, value))
    hidden = None
    if is_causal:
        hidden = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).triu(1)
    elif attn_mask is not None and attn_mask.dtype == torch.bool:
        hidden = ~attn_mask  # here True means: may be seen
    if hidden is not None:
        attn_mask = torch.zeros(hidden.shape, dtype=query.dtype, device=query.device).masked_fill(hidden, -math.inf)
    return scaled_dot_product_attention(query, key, value, attn_mask, drawn, scale)[0]


_REPLACEMENTS: dict[Any, Callable[..., Tensor]] = {
    F.dropout: _elementwise(noise.dropout),
    torch.dropout: _elementwise(noise.dropout),
    F.alpha_dropout: _elementwise(noise.alpha_dropout),
    F.dropout1d: _elementwise(channel_dropout(2)),
    F.dropout2d: _elementwise(channel_dropout(3)),
    F.dropout3d: _elementwise(channel_dropout(4)),
    F.scaled_dot_product_attention: _attention,
}
