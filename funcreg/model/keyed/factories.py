"""torch's functions that make or fill a new tensor with random numbers, as draws from a key."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import random
from .common import finished, flips, integers, name_of, numbers, shape_of, with_generator
from .mode import Keyed, replaces

T = torch.Tensor


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
        if with_generator(keyed, function, generator):
            settings.update(generator=generator, out=out, dtype=dtype, device=device, requires_grad=requires_grad)
            return keyed.natively(function, *(size if given is None else (given,)), **settings)
        key = keyed.next_key(name_of(function))
        return finished(keyed, numbers(draw, shape_of(size, given), dtype, key=key), out, device, requires_grad)

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
        if with_generator(keyed, function, generator):
            return keyed.natively(
                function, input, dtype=dtype, device=device, requires_grad=requires_grad, generator=generator
            )
        key = keyed.next_key(name_of(function))
        drawn = numbers(draw, tuple(input.shape), input.dtype if dtype is None else dtype, key=key)
        return finished(keyed, drawn, None, input.device if device is None else device, requires_grad)

    return replacement


replaces(torch.rand)(_factory(random.uniform))
replaces(torch.randn)(_factory(random.normal))
replaces(torch.rand_like)(_like(random.uniform))
replaces(torch.randn_like)(_like(random.normal))


@replaces(torch.randint)
def _randint(keyed: Keyed, function: Any, *args: Any, **settings: Any) -> Tensor:
    if with_generator(keyed, function, settings.get("generator")):
        return keyed.natively(function, *args, **settings)
    names = ("low", "high", "size") if len(args) + sum(n in settings for n in ("low", "high", "size")) == 3 else None
    given = dict(zip(names or ("high", "size"), args, strict=False)) | settings
    drawn = integers(keyed, function, shape_of((), given["size"]), given.get("low", 0), given["high"])
    dtype = given.get("dtype") or torch.int64
    return finished(keyed, drawn.to(dtype), given.get("out"), given.get("device"), False)


@replaces(torch.randint_like)
def _randint_like(keyed: Keyed, function: Any, input: Tensor, *bounds: int, **settings: Any) -> Tensor:
    if with_generator(keyed, function, settings.get("generator")):
        return keyed.natively(function, input, *bounds, **settings)
    high = settings.get("high", bounds[-1] if bounds else None)
    low = settings.get("low", bounds[0] if len(bounds) == 2 else 0)
    drawn = integers(keyed, function, tuple(input.shape), low, high)  # type: ignore[arg-type]
    return finished(keyed, drawn.to(settings.get("dtype") or input.dtype), None, settings.get("device"), False)


@replaces(torch.randperm)
def _randperm(
    keyed: Keyed, function: Any, n: int, *, generator: Any = None, out: Any = None, dtype: Any = None, **settings: Any
) -> Tensor:
    if with_generator(keyed, function, generator):
        return keyed.natively(function, n, generator=generator, out=out, dtype=dtype, **settings)
    key = keyed.next_key(name_of(function))
    order = random.permutation(key, n) if n else torch.zeros(0, dtype=torch.int64)
    return finished(keyed, order.to(dtype or torch.int64), out, settings.get("device"), False)


@replaces(torch.normal)
def _normal(keyed: Keyed, function: Any, *args: Any, **settings: Any) -> Tensor:
    if with_generator(keyed, function, settings.get("generator")):
        return keyed.natively(function, *args, **settings)
    given = dict(zip(("mean", "std", "size"), args, strict=False)) | settings
    mean, std, size = given.get("mean", 0.0), given.get("std", 1.0), given.get("size")
    tensors = [each for each in (mean, std) if isinstance(each, Tensor)]
    shape = shape_of((), size) if size is not None else torch.broadcast_shapes(*(each.shape for each in tensors))
    dtype = given.get("dtype") or (tensors[0].dtype if tensors else None)
    standard = numbers(random.normal, tuple(shape), dtype, key=keyed.next_key(name_of(function)))
    return finished(keyed, mean + std * standard, given.get("out"), given.get("device"), False)


@replaces(torch.bernoulli, T.bernoulli)
def _bernoulli(
    keyed: Keyed, function: Any, input: Tensor, p: Any = None, *, generator: Any = None, out: Tensor | None = None
) -> Tensor:
    if with_generator(keyed, function, generator):
        return (
            keyed.natively(function, input, generator=generator)
            if p is None
            else function(input, p, generator=generator)
        )
    drawn = flips(input if p is None else p, tuple(input.shape), key=keyed.next_key(name_of(function))).to(input.dtype)
    return finished(keyed, drawn, out, None, False)
