"""torch's draws from distributions that its tensors' values decide, as draws from a key."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.distributions import dirichlet
from torch.nn import functional as F
from torch.overrides import _get_current_function_mode_stack  # pyright: ignore[reportPrivateUsage]

from ... import random
from ..._compiling import is_compiling
from ..._functorch import in_transform
from ..standing import StandIns
from .common import finished, gumbel, name_of, with_generator
from .mode import Keyed, replaces

T = torch.Tensor


@replaces(torch.multinomial, T.multinomial)
def _multinomial(
    keyed: Keyed,
    function: Any,
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    if with_generator(keyed, function, generator):
        return keyed.natively(function, input, num_samples, replacement, generator=generator)
    key, classes = keyed.next_key(name_of(function)), input.shape[-1]
    weights = torch.log(input.double())
    if replacement:
        shape = (*input.shape[:-1], num_samples, classes)
        drawn = torch.argmax(weights.unsqueeze(-2) + gumbel(shape, key=key), dim=-1)
    else:  # the largest few of Gumbel-perturbed weights are draws without replacement, in order
        drawn = torch.topk(weights + gumbel(tuple(input.shape), key=key), num_samples, dim=-1).indices
    return finished(keyed, drawn, out, None, False)


@replaces(F.one_hot)
def _one_hot(keyed: Keyed, function: Any, tensor: Tensor, num_classes: int = -1) -> Tensor:
    """By `scatter`, which refuses what is no class: torch's own reads values, which some transforms refuse."""
    keyed.saw("one_hot", "formula", True)
    if num_classes < 0 or not in_transform():
        return function(tensor, num_classes)
    zeros = torch.zeros((*tensor.shape, num_classes), dtype=torch.long, device=tensor.device)
    return zeros.scatter(-1, tensor.unsqueeze(-1), 1)


def _seeded(keyed: Keyed, function: Any, *args: Any, generator: Any = None, **settings: Any) -> Tensor:
    """torch's own draw, from a generator that the key seeds: for eager calls."""
    if with_generator(keyed, function, generator):
        return keyed.natively(function, *args, generator=generator, **settings)
    key = keyed.next_key(name_of(function))
    if is_compiling():
        keyed.cannot(name_of(function), "under fr.jit")
    if in_transform():
        return _OneByOne.apply(lambda own, *args: function(*args, generator=own, **settings), key, *args)
    own = torch.Generator(device=key.device).manual_seed(int(random.bits(key, 1)))
    return function(*args, generator=own, **settings)


replaces(torch.poisson, torch.binomial)(_seeded)


class _OneByOne(torch.autograd.Function):
    """The same inside of transforms: for each member of a vmap from its own key, of no gradient as torch has it."""

    @staticmethod
    def forward(draw: Callable[..., Tensor], key: Tensor, *args: Any) -> Tensor:
        return draw(torch.Generator(device=key.device).manual_seed(int(random.bits(key, 1))), *args)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Any) -> tuple[Tensor, int]:
        def of(member: int) -> list[Any]:
            return [x if axis is None else x.select(axis, member) for x, axis in zip(given, in_dims, strict=True)]

        return torch.stack([_OneByOne.apply(*of(member)) for member in range(info.batch_size)]), 0


class _Slope(torch.autograd.Function):
    """The derivative of a gamma number by its concentration, for which torch has no vmap rule."""

    @staticmethod
    def forward(alpha: Tensor, drawn: Tensor) -> Tensor:
        return torch.ops.aten._standard_gamma_grad.default(alpha, drawn)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Tensor) -> tuple[Tensor, int]:
        first = [x if axis is None else x.movedim(axis, 0) for x, axis in zip(given, in_dims, strict=True)]
        return _Slope.apply(*torch.broadcast_tensors(*first)), 0


@replaces(getattr(torch, "_standard_gamma", None))
def _standard_gamma(keyed: Keyed, function: Any, alpha: Tensor, generator: Any = None) -> Tensor:
    if with_generator(keyed, function, generator):
        return keyed.natively(function, alpha, generator=generator)
    drawn = random.gamma(keyed.next_key(name_of(function)), alpha.detach())
    if not alpha.requires_grad and not in_transform():
        return drawn
    # The same number as a function of alpha, by implicit differentiation as torch's own has it.
    slope = (_Slope.apply if in_transform() else _Slope.forward)(alpha.detach(), drawn)
    return drawn + (alpha - alpha.detach()) * slope


@replaces(getattr(torch, "_sample_dirichlet", None))
def _dirichlet(keyed: Keyed, function: Any, alpha: Tensor, generator: Any = None) -> Tensor:
    if with_generator(keyed, function, generator):
        return keyed.natively(function, alpha, generator=generator)
    gammas = _standard_gamma(keyed, function, alpha)
    return gammas / gammas.sum(-1, keepdim=True)


class _Dirichlet:
    """In the place of torch's autograd function of this name, which no transform takes: the draw has a gradient."""

    own = dirichlet._Dirichlet

    @classmethod
    def apply(cls, alpha: Tensor) -> Tensor:
        if any(isinstance(mode, Keyed) for mode in _get_current_function_mode_stack()):
            return torch._sample_dirichlet(alpha)  # pyright: ignore[reportPrivateImportUsage]
        return cls.own.apply(alpha)  # in code that is none of a model's


_stand_ins = StandIns()


def differentiable_dirichlet() -> AbstractContextManager[None]:
    """Let torch.distributions' Dirichlet, and its Beta, run inside of transforms.

    >>> with differentiable_dirichlet():
    ...     pass
    """
    return _stand_ins.standing([(dirichlet, "_Dirichlet", _Dirichlet)])


@replaces(T.clamp_)
def _clamp(keyed: Keyed, function: Any, self: Tensor, *bounds: Any, **settings: Any) -> Tensor:
    """torch has no rule for vmap of it, with which its gamma numbers end."""
    if not in_transform():
        return function(self, *bounds, **settings)
    return self.copy_(torch.clamp(self, *bounds, **settings))


@replaces(F.gumbel_softmax)
def _gumbel_softmax(
    keyed: Keyed, function: Any, logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    noise = gumbel(tuple(logits.shape), key=keyed.next_key(name_of(function))).to(logits.dtype)
    soft = torch.softmax((logits + noise) / tau, dim=dim)
    if not hard:
        return soft
    index = soft.argmax(dim, keepdim=True)
    one_hot = torch.zeros_like(soft).scatter(dim, index, 1.0)
    return one_hot - soft.detach() + soft


def _fractional_pool(axes: int) -> Callable[..., Any]:
    def replacement(keyed: Keyed, function: Any, input: Tensor, *args: Any, **settings: Any) -> Any:
        if settings.pop("_random_samples", None) is not None or len(args) > 4:
            return function(input, *args, **settings)
        batch, channels = (input.shape[0], input.shape[1]) if input.ndim == axes + 2 else (1, input.shape[0])
        samples = random.uniform(keyed.next_key(name_of(function)), (batch, channels, axes), dtype=input.dtype)
        return keyed.natively(function, input, *args, _random_samples=samples, **settings)

    return replacement


replaces(F.fractional_max_pool2d, F.fractional_max_pool2d_with_indices)(_fractional_pool(2))
replaces(F.fractional_max_pool3d, F.fractional_max_pool3d_with_indices)(_fractional_pool(3))


@replaces(torch.svd_lowrank, torch.pca_lowrank, torch.lobpcg)
def _inner_draws(keyed: Keyed, function: Any, *args: Any, **settings: Any) -> Any:
    keyed.cannot(name_of(function), "whose draws take no key")
