"""torch's methods that fill their own tensor with random numbers, as draws from a key."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ... import random
from ..._functorch import in_transform
from .common import flips, integers, name_of, unit, with_generator
from .mode import Keyed, replaces

T = torch.Tensor
_DATA: Any = vars(T.__base__)["data"]
_ANY_RANGE = {torch.float16: 2**11, torch.bfloat16: 2**8, torch.float32: 2**24, torch.float64: 2**31}


def _in_place(numbers: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A method that fills its tensor, from `numbers(key, shape, dtype, *parameters)`."""
    signature = inspect.signature(numbers)
    defaults = [(p.name, p.default) for p in list(signature.parameters.values())[3:]]

    def replacement(keyed: Keyed, function: Any, *given: Any, **settings: Any) -> Tensor:
        self, *args = given or [settings.pop("tensor")]  # as nn.init calls it
        generator = settings.pop("generator", None)
        if with_generator(keyed, function, generator):
            return keyed.natively(function, self, *args, generator=generator, **settings)
        # `from` is a word of Python's
        named = {("low" if name == "from" else "high" if name == "to" else name): v for name, v in settings.items()}
        values = [args[i] if i < len(args) else named.get(name, default) for i, (name, default) in enumerate(defaults)]
        working = self.dtype if self.dtype.is_floating_point else torch.float32
        key = keyed.next_key(name_of(function))
        return keyed.into(self, numbers(key, tuple(self.shape), working, *values))

    return replacement


def _uniform_numbers(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, a: float = 0.0, b: float = 1.0) -> Tensor:
    return random.uniform(key, shape, low=a, high=b, dtype=dtype)


def _normal_numbers(
    key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, mean: float = 0.0, std: float = 1.0
) -> Tensor:
    return random.normal(key, shape, mean=mean, std=std, dtype=dtype)


def _bernoulli_numbers(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, p: Any = 0.5) -> Tensor:
    return flips(p, shape, key=key).to(dtype)


def _exponential_numbers(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, lambd: float = 1.0) -> Tensor:
    return (-torch.log(unit(shape, key=key)) / lambd).to(dtype)


def _geometric_numbers(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, p: float = 0.5) -> Tensor:
    return (torch.floor(torch.log(unit(shape, key=key)) / math.log1p(-p)) + 1).to(dtype)


def _cauchy_numbers(
    key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, median: float = 0.0, sigma: float = 1.0
) -> Tensor:
    return (median + sigma * torch.tan(math.pi * (unit(shape, key=key) - 0.5))).to(dtype)


def _log_normal_numbers(
    key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, mean: float = 1.0, std: float = 2.0
) -> Tensor:
    return torch.exp(random.normal(key, shape, mean=mean, std=std, dtype=dtype))


replaces(T.uniform_)(_in_place(_uniform_numbers))
replaces(T.normal_)(_in_place(_normal_numbers))
replaces(nn.init.uniform_)(torch.no_grad()(_in_place(_uniform_numbers)))
replaces(nn.init.normal_)(torch.no_grad()(_in_place(_normal_numbers)))
replaces(T.bernoulli_)(_in_place(_bernoulli_numbers))
replaces(T.exponential_)(_in_place(_exponential_numbers))
replaces(T.geometric_)(_in_place(_geometric_numbers))
replaces(T.cauchy_)(_in_place(_cauchy_numbers))
replaces(T.log_normal_)(_in_place(_log_normal_numbers))


@replaces(T.random_)
def _random(keyed: Keyed, function: Any, self: Tensor, *bounds: Any, generator: Any = None, **settings: Any) -> Tensor:
    if with_generator(keyed, function, generator):
        return keyed.natively(function, self, *bounds, generator=generator, **settings)
    # random_(to), random_(from, to), or the integers that the dtype holds
    low = settings.get("from", bounds[0] if len(bounds) == 2 else 0)
    high = settings.get("to", bounds[-1] if bounds else None)
    if high is None:
        limit = _ANY_RANGE.get(self.dtype)
        high = limit + 1 if limit else min(2**31, torch.iinfo(self.dtype).max + 1 if self.dtype != torch.bool else 2)
    return keyed.into(self, integers(keyed, function, tuple(self.shape), low, high))


@replaces(_DATA.__get__)
def _data(keyed: Keyed, function: Any, tensor: Tensor) -> Tensor:
    """What a transform wraps has none; what `detach` gives shares its memory likewise, and a rehearsal sees writes."""
    keyed.saw("data", "formula", True)
    return tensor.detach() if in_transform() or keyed.rehearses else function(tensor)


@replaces(_DATA.__set__)
def _set_data(keyed: Keyed, function: Any, tensor: Tensor, values: Tensor) -> None:
    keyed.saw("data", "formula", True)
    if in_transform() and tensor.shape == values.shape and tensor.dtype == values.dtype:
        tensor.detach().copy_(values.detach())
    else:
        function(tensor, values)


@replaces(nn.init.kaiming_uniform_)
def _kaiming_uniform(
    keyed: Keyed, function: Any, *, tensor: Tensor, a: float, mode: Any, nonlinearity: Any, **settings: Any
) -> Tensor:
    """It is handed over whole, and what it calls would be seen by nobody."""
    deviation = nn.init.calculate_gain(nonlinearity, a) / math.sqrt(nn.init._calculate_correct_fan(tensor, mode))
    bound = math.sqrt(3.0) * deviation
    with torch.no_grad():
        return _in_place(_uniform_numbers)(keyed, function, tensor, -bound, bound, **settings)
