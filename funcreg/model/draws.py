"""torch's random functions as draws from a key: what `Keyed` puts in their place.

Shapes, dtypes and ranges are torch's; the numbers come from the key. A `torch.Generator` that a
forward makes and seeds itself is no hidden state, so draws with one are left as they are; one
that a layer keeps is, and what is drawn from it comes from the key too.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import random
from .._functorch import in_transform
from ..random.draws import open_unit
from .keyed import Keyed, LayerGenerator, replaces

T = torch.Tensor
_ANY_RANGE = {torch.float16: 2**11, torch.bfloat16: 2**8, torch.float32: 2**24, torch.float64: 2**31}


def _name(function: Any) -> str:
    return getattr(function, "__name__", str(function))


def _with_generator(keyed: Keyed, function: Any, generator: Any) -> bool:
    """Whether a draw brings a generator that the forward made, which it is left to; one of a layer's is not."""
    if generator is None or isinstance(generator, LayerGenerator):
        return False
    keyed.saw(_name(function), "formula", True)
    keyed.uses(generator)
    return True


def _shape(size: tuple[Any, ...], given: Any) -> tuple[int, ...]:
    if given is not None:
        size = given if isinstance(given, tuple | list) else (given,)
    elif len(size) == 1 and isinstance(size[0], tuple | list):
        size = tuple(size[0])
    return tuple(size)


def _finished(drawn: Tensor, out: Tensor | None, device: Any, requires_grad: bool) -> Tensor:
    if device is not None:
        drawn = drawn.to(device)
    if out is not None:
        return out.copy_(drawn)
    return drawn.requires_grad_() if requires_grad else drawn


def _numbers(key: Tensor, draw: Callable[..., Tensor], shape: tuple[int, ...], dtype: torch.dtype | None) -> Tensor:
    """Floating-point numbers by a draw (key, shape, dtype); complex ones are two of them."""
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not dtype.is_complex:
        return draw(key, shape, dtype=dtype)
    parts = draw(key, (*shape, 2), dtype=torch.float64 if dtype == torch.complex128 else torch.float32)
    # torch's complex normal numbers have a variance of 1, its uniform ones two uniform parts.
    scale = math.sqrt(0.5) if draw is random.normal else 1.0
    return torch.view_as_complex((parts * scale).contiguous()).to(dtype)


def _factory(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def replacement(
        keyed: Keyed,
        function: Any,
        *size: Any,
        generator: Any = None,
        out: Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
        requires_grad: bool = False,
        **settings: Any,
    ) -> Tensor:
        given = settings.pop("size", None)
        if _with_generator(keyed, function, generator):
            settings.update(generator=generator, out=out, dtype=dtype, device=device, requires_grad=requires_grad)
            return keyed.natively(function, *(size if given is None else (given,)), **settings)
        key = keyed.next_key(_name(function))
        return _finished(_numbers(key, draw, _shape(size, given), dtype), out, device, requires_grad)

    return replacement


def _like(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def replacement(
        keyed: Keyed,
        function: Any,
        input: Tensor,
        *,
        dtype: torch.dtype | None = None,
        device: Any = None,
        requires_grad: bool = False,
        generator: Any = None,
        **settings: Any,
    ) -> Tensor:
        if _with_generator(keyed, function, generator):
            return keyed.natively(
                function, input, dtype=dtype, device=device, requires_grad=requires_grad, generator=generator
            )
        key = keyed.next_key(_name(function))
        drawn = _numbers(key, draw, tuple(input.shape), input.dtype if dtype is None else dtype)
        return _finished(drawn, None, input.device if device is None else device, requires_grad)

    return replacement


replaces(torch.rand)(_factory(random.uniform))
replaces(torch.randn)(_factory(random.normal))
replaces(torch.rand_like)(_like(random.uniform))
replaces(torch.randn_like)(_like(random.normal))


def _integers(keyed: Keyed, function: Any, shape: tuple[int, ...], low: int, high: int) -> Tensor:
    if not low < high <= low + 2**31:
        keyed.cannot(_name(function), f"over the range [{low}, {high})")
    return random.randint(keyed.next_key(_name(function)), shape, int(low), int(high))


@replaces(torch.randint)
def _randint(keyed: Keyed, function: Any, *args: Any, **settings: Any) -> Tensor:
    if _with_generator(keyed, function, settings.get("generator")):
        return keyed.natively(function, *args, **settings)
    names = ("low", "high", "size") if len(args) + sum(n in settings for n in ("low", "high", "size")) == 3 else None
    given = dict(zip(names or ("high", "size"), args, strict=False)) | settings
    drawn = _integers(keyed, function, _shape((), given["size"]), given.get("low", 0), given["high"])
    dtype = given.get("dtype") or torch.int64
    return _finished(drawn.to(dtype), given.get("out"), given.get("device"), False)


@replaces(torch.randint_like)
def _randint_like(keyed: Keyed, function: Any, input: Tensor, *bounds: int, **settings: Any) -> Tensor:
    if _with_generator(keyed, function, settings.get("generator")):
        return keyed.natively(function, input, *bounds, **settings)
    high = settings.get("high", bounds[-1] if bounds else None)
    low = settings.get("low", bounds[0] if len(bounds) == 2 else 0)
    drawn = _integers(keyed, function, tuple(input.shape), low, high)  # type: ignore[arg-type]
    return _finished(drawn.to(settings.get("dtype") or input.dtype), None, settings.get("device"), False)


@replaces(torch.randperm)
def _randperm(
    keyed: Keyed, function: Any, n: int, *, generator: Any = None, out: Any = None, dtype: Any = None, **settings: Any
) -> Tensor:
    if _with_generator(keyed, function, generator):
        return keyed.natively(function, n, generator=generator, out=out, dtype=dtype, **settings)
    key = keyed.next_key(_name(function))
    order = random.permutation(key, n) if n else torch.zeros(0, dtype=torch.int64)
    return _finished(order.to(dtype or torch.int64), out, settings.get("device"), False)


@replaces(torch.normal)
def _normal(keyed: Keyed, function: Any, *args: Any, **settings: Any) -> Tensor:
    if _with_generator(keyed, function, settings.get("generator")):
        return keyed.natively(function, *args, **settings)
    given = dict(zip(("mean", "std", "size"), args, strict=False)) | settings
    mean, std, size = given.get("mean", 0.0), given.get("std", 1.0), given.get("size")
    tensors = [each for each in (mean, std) if isinstance(each, Tensor)]
    shape = _shape((), size) if size is not None else torch.broadcast_shapes(*(each.shape for each in tensors))
    dtype = given.get("dtype") or (tensors[0].dtype if tensors else None)
    standard = _numbers(keyed.next_key(_name(function)), random.normal, tuple(shape), dtype)
    return _finished(mean + std * standard, given.get("out"), given.get("device"), False)


def _flips(key: Tensor, p: Any, shape: tuple[int, ...]) -> Tensor:
    return random.uniform(key, shape) < p


@replaces(torch.bernoulli, T.bernoulli)
def _bernoulli(
    keyed: Keyed, function: Any, input: Tensor, p: Any = None, *, generator: Any = None, out: Tensor | None = None
) -> Tensor:
    if _with_generator(keyed, function, generator):
        return (
            keyed.natively(function, input, generator=generator)
            if p is None
            else function(input, p, generator=generator)
        )
    drawn = _flips(keyed.next_key(_name(function)), input if p is None else p, tuple(input.shape)).to(input.dtype)
    return drawn if out is None else out.copy_(drawn)


def _in_place(numbers: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A method that fills its tensor, from `numbers(key, shape, dtype, *parameters)`."""
    signature = inspect.signature(numbers)
    defaults = [(p.name, p.default) for p in list(signature.parameters.values())[3:]]

    def replacement(keyed: Keyed, function: Any, self: Tensor, *args: Any, **settings: Any) -> Tensor:
        generator = settings.pop("generator", None)
        if _with_generator(keyed, function, generator):
            return keyed.natively(function, self, *args, generator=generator, **settings)
        # `from` is a word of Python's
        given = {("low" if name == "from" else "high" if name == "to" else name): v for name, v in settings.items()}
        values = [args[i] if i < len(args) else given.get(name, default) for i, (name, default) in enumerate(defaults)]
        working = self.dtype if self.dtype.is_floating_point else torch.float32
        key = keyed.next_key(_name(function))
        return keyed.into(self, numbers(key, tuple(self.shape), working, *values))

    return replacement


def _uniform_numbers(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, a: float = 0.0, b: float = 1.0) -> Tensor:
    return random.uniform(key, shape, low=a, high=b, dtype=dtype)


def _normal_numbers(
    key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, mean: float = 0.0, std: float = 1.0
) -> Tensor:
    return random.normal(key, shape, mean=mean, std=std, dtype=dtype)


def _bernoulli_numbers(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, p: Any = 0.5) -> Tensor:
    return _flips(key, p, shape).to(dtype)


def _unit(key: Tensor, shape: tuple[int, ...]) -> Tensor:
    """float64 numbers inside (0, 1)."""
    return open_unit(random.bits(key, shape), torch.float64)


def _exponential_numbers(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, lambd: float = 1.0) -> Tensor:
    return (-torch.log(_unit(key, shape)) / lambd).to(dtype)


def _geometric_numbers(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, p: float = 0.5) -> Tensor:
    return (torch.floor(torch.log(_unit(key, shape)) / math.log1p(-p)) + 1).to(dtype)


def _cauchy_numbers(
    key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, median: float = 0.0, sigma: float = 1.0
) -> Tensor:
    return (median + sigma * torch.tan(math.pi * (_unit(key, shape) - 0.5))).to(dtype)


def _log_normal_numbers(
    key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, mean: float = 1.0, std: float = 2.0
) -> Tensor:
    return torch.exp(random.normal(key, shape, mean=mean, std=std, dtype=dtype))


replaces(T.uniform_, nn.init.uniform_)(_in_place(_uniform_numbers))
replaces(T.normal_, nn.init.normal_)(_in_place(_normal_numbers))
replaces(T.bernoulli_)(_in_place(_bernoulli_numbers))
replaces(T.exponential_)(_in_place(_exponential_numbers))
replaces(T.geometric_)(_in_place(_geometric_numbers))
replaces(T.cauchy_)(_in_place(_cauchy_numbers))
replaces(T.log_normal_)(_in_place(_log_normal_numbers))


@replaces(T.random_)
def _random(keyed: Keyed, function: Any, self: Tensor, *bounds: Any, generator: Any = None, **settings: Any) -> Tensor:
    if _with_generator(keyed, function, generator):
        return keyed.natively(function, self, *bounds, generator=generator, **settings)
    # random_(to), random_(from, to), or the integers that the dtype holds
    low = settings.get("from", bounds[0] if len(bounds) == 2 else 0)
    high = settings.get("to", bounds[-1] if bounds else None)
    if high is None:
        limit = _ANY_RANGE.get(self.dtype)
        high = limit + 1 if limit else min(2**31, torch.iinfo(self.dtype).max + 1 if self.dtype != torch.bool else 2)
    return keyed.into(self, _integers(keyed, function, tuple(self.shape), low, high))


def _gumbel(key: Tensor, shape: tuple[int, ...]) -> Tensor:
    return -torch.log(-torch.log(_unit(key, shape)))


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
    if _with_generator(keyed, function, generator):
        return keyed.natively(function, input, num_samples, replacement, generator=generator)
    key, classes = keyed.next_key(_name(function)), input.shape[-1]
    weights = torch.log(input.double())
    if replacement:
        shape = (*input.shape[:-1], num_samples, classes)
        drawn = torch.argmax(weights.unsqueeze(-2) + _gumbel(key, shape), dim=-1)
    else:  # the largest few of Gumbel-perturbed weights are draws without replacement, in order
        drawn = torch.topk(weights + _gumbel(key, tuple(input.shape)), num_samples, dim=-1).indices
    return drawn if out is None else out.copy_(drawn)


def _seeded(keyed: Keyed, function: Any, *args: Any, generator: Any = None, **settings: Any) -> Tensor:
    """torch's own draw, from a generator that the key seeds: for eager calls outside of transforms."""
    if _with_generator(keyed, function, generator):
        return keyed.natively(function, *args, generator=generator, **settings)
    key = keyed.next_key(_name(function))
    if torch.compiler.is_compiling() or in_transform():
        keyed.cannot(_name(function), "under vmap, another transform or fr.jit")
    own = torch.Generator(device=key.device).manual_seed(int(random.bits(key, 1)))
    return keyed.natively(function, *args, generator=own, **settings)


replaces(torch.poisson, torch.binomial)(_seeded)


@replaces(getattr(torch, "_standard_gamma", None))
def _standard_gamma(keyed: Keyed, function: Any, alpha: Tensor, generator: Any = None) -> Tensor:
    if _with_generator(keyed, function, generator):
        return keyed.natively(function, alpha, generator=generator)
    drawn = random.gamma(keyed.next_key(_name(function)), alpha.detach())
    if not alpha.requires_grad and not in_transform():
        return drawn
    # The same number as a function of alpha, by implicit differentiation as torch's own has it.
    slope = torch._standard_gamma_grad(alpha.detach(), drawn)
    return drawn + (alpha - alpha.detach()) * slope


@replaces(getattr(torch, "_sample_dirichlet", None))
def _dirichlet(keyed: Keyed, function: Any, alpha: Tensor, generator: Any = None) -> Tensor:
    if _with_generator(keyed, function, generator):
        return keyed.natively(function, alpha, generator=generator)
    gammas = _standard_gamma(keyed, function, alpha)
    return gammas / gammas.sum(-1, keepdim=True)


@replaces(F.gumbel_softmax)
def _gumbel_softmax(
    keyed: Keyed, function: Any, logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    noise = _gumbel(keyed.next_key(_name(function)), tuple(logits.shape)).to(logits.dtype)
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
        samples = random.uniform(keyed.next_key(_name(function)), (batch, channels, axes), dtype=input.dtype)
        return keyed.natively(function, input, *args, _random_samples=samples, **settings)

    return replacement


replaces(F.fractional_max_pool2d, F.fractional_max_pool2d_with_indices)(_fractional_pool(2))
replaces(F.fractional_max_pool3d, F.fractional_max_pool3d_with_indices)(_fractional_pool(3))


@replaces(torch.svd_lowrank, torch.pca_lowrank, torch.lobpcg)
def _inner_draws(keyed: Keyed, function: Any, *args: Any, **settings: Any) -> Any:
    keyed.cannot(_name(function), "whose draws take no key")
