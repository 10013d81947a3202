"""Random numbers that a forward draws itself, by torch, numpy and Python, and generators of its own.

A `scale` or `rate` of 0 draws all the same; it only leaves what was drawn without effect.
"""

import functools
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Gamma,
    Laplace,
    MultivariateNormal,
    Normal,
    Poisson,
    RelaxedBernoulli,
)
from torch.nn import functional as F

from tests.zoo.hand_written.parts import (
    NOISY,
    RATE,
    SCALE,
    Jitter,
    in_monte_carlo,
    jitter,
    jitter_of,
    nested,
    sequences,
)
from tests.zoo.specimen import Specimen


class Noise(nn.Module):
    """Adds what a function draws for an input, in training."""

    def __init__(self, draw: Callable[[Tensor], Tensor], scale: float = 0.0) -> None:
        super().__init__()
        self.draw, self.scale = draw, scale

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x + self.scale * self.draw(x).to(x.dtype)


class Mask(nn.Module):
    """Keeps what a function of (input, share that is kept) draws, in training."""

    def __init__(self, draw: Callable[[Tensor, float], Tensor], rate: float = 0.0) -> None:
        super().__init__()
        self.draw, self.rate = draw, rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * self.draw(x, 1 - self.rate) / (1 - self.rate)


class Scaled(nn.Module):
    """What has a scale of its noise."""

    def __init__(self, scale: float = 0.0) -> None:
        super().__init__()
        self.scale = scale


class Rated(nn.Module):
    """What has a rate of its noise."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate


class Switched(nn.Module):
    """What has a switch of its noise."""

    def __init__(self, noisy: bool = False) -> None:
        super().__init__()
        self.noisy = noisy

    @property
    def draws(self) -> bool:
        return self.training and self.noisy


def _bernoulli_ignored(x: Tensor, kept: float) -> Tensor:
    mask = torch.empty_like(x)
    mask.bernoulli_(kept)
    return mask


def _bernoulli_like_input(x: Tensor, kept: float) -> Tensor:
    mask = x.new_empty((x.shape[0], *[1] * (x.ndim - 1)))
    mask.bernoulli_(kept).div_(1.0)
    return mask


def _uniform_ignored(x: Tensor) -> Tensor:
    noise = torch.zeros(x.shape)
    noise.uniform_(-1, 1)
    return noise


def _exponential_ignored(x: Tensor) -> Tensor:
    noise = torch.empty_like(x)
    noise.exponential_(2.0)
    return noise


def _truncated(x: Tensor) -> Tensor:
    return nn.init.trunc_normal_(torch.empty_like(x), std=0.5)


def _rows_of_noise(x: Tensor) -> Tensor:
    """Each row of a tensor filled by itself, in place."""
    noise = torch.zeros_like(x)
    for row in noise:
        row.normal_()
    return noise


class DropConnect(Rated):
    def __init__(self, rate: float = 0.0) -> None:
        super().__init__(rate)
        self.weight = nn.Parameter(torch.randn(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if self.training:
            weight = weight * torch.bernoulli(torch.full_like(weight, 1 - self.rate))
        return F.linear(x, weight)


class TokenDropout(Rated):
    """Keeps some tokens, in their order, and takes their mean."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x.mean(1, keepdim=True)
        kept = round(x.shape[1] * (1 - self.rate))
        order = torch.rand(x.shape[:2]).argsort(dim=1)[:, :kept].sort(dim=1).values
        return x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1])).mean(1, keepdim=True)


class Mixup(Switched):
    def forward(self, x: Tensor) -> Tensor:
        if not self.draws:
            return x
        share = Beta(torch.tensor(0.4), torch.tensor(0.4)).sample().to(x.dtype)
        return share * x + (1 - share) * x[torch.randperm(len(x))]


class Shift(nn.Module):
    """Rolls by a drawn number of places, as a tensor."""

    def __init__(self, places: int = 1) -> None:
        super().__init__()
        self.places = places

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        shift = torch.randint(self.places, (x.shape[0], 1))
        return x.gather(1, (torch.arange(x.shape[1]) + shift) % x.shape[1])


class Roll(Shift):
    """Rolls by a drawn number of places, read as a number of Python's."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.roll(x, int(torch.randint(0, self.places, ())), 1) if self.training else x


class Choice(Switched):
    """One of the features, by its probability."""

    def forward(self, x: Tensor) -> Tensor:
        shares = x.softmax(-1)
        picked = torch.multinomial(shares, 1) if self.draws else shares.argmax(-1, keepdim=True)
        return shares * F.one_hot(picked.squeeze(-1), x.shape[-1])


class LayerDrop(Rated):
    """Skips a whole layer by a number that is compared in Python."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__(rate)
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(6))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if self.training and torch.rand(()) < self.rate:
                continue
            x = x + layer(x).tanh()
        return x


class AlwaysNoise(Scaled):
    """Draws in every mode."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * torch.randn_like(x)


class SwitchOutside(nn.Module):
    """The parent decides when its child, which draws in every mode, runs."""

    def __init__(self, scale: float = 0.0) -> None:
        super().__init__()
        self.noise = AlwaysNoise(scale)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = self.noise(x)
        return x


class SwitchFarOutside(nn.Module):
    """The switch is two levels up."""

    def __init__(self, scale: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Tanh(), nn.Sequential(AlwaysNoise(scale)))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if self.training else torch.tanh(x)


class HelperFunction(Scaled):
    def forward(self, x: Tensor) -> Tensor:
        return jitter(x, self.scale, self.training)


class HelperHandedAChild(nn.Module):
    """A function that is handed the child draws, while the child's forward never runs."""

    def __init__(self, scale: float = 0.0) -> None:
        super().__init__()
        self.child = AlwaysNoise(scale)

    def forward(self, x: Tensor) -> Tensor:
        return jitter_of(self.child, x)


class HelperObject(nn.Module):
    def __init__(self, scale: float = 0.0) -> None:
        super().__init__()
        self.noise = Jitter(scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.noise(x) if self.training else x


class OtherMethod(Scaled):
    """Draws in another method than forward."""

    def compute(self, x: Tensor) -> Tensor:
        return self.perturb(x) if self.training else x

    def perturb(self, x: Tensor) -> Tensor:
        return x + self.scale * torch.randn_like(x)


class CallsCompute(nn.Module):
    def __init__(self, scale: float = 0.0) -> None:
        super().__init__()
        self.unit = OtherMethod(scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.unit.compute(x)


class DropoutInCompute(nn.Module):
    """A child with noise with a rate in another method than forward."""

    class Unit(Rated):
        def compute(self, x: Tensor) -> Tensor:
            return F.dropout(x, self.rate, self.training)

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.unit = self.Unit(rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.unit.compute(x)


class NoisyHook(nn.Module):
    """A hook draws, before the layer's forward begins."""

    def __init__(self, after: bool, scale: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

        def noisy(layer: nn.Module, x: Any) -> Any:
            return x + scale * torch.randn_like(x) if layer.training else x

        if after:
            self.inner.register_forward_hook(lambda layer, args, out: noisy(layer, out))
        else:
            self.inner.register_forward_pre_hook(lambda layer, args: (noisy(layer, args[0]),))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).tanh()


class Sampled(nn.Module):
    """A variational bottleneck that samples in evaluation too."""

    def __init__(self, scale: float = 0.0) -> None:
        super().__init__()
        self.mean, self.spread, self.scale = nn.Linear(6, 6), nn.Linear(6, 6), scale

    def forward(self, x: Tensor) -> Tensor:
        std = torch.exp(0.5 * self.spread(x))
        return self.mean(x) + self.scale * std * torch.randn_like(std)


class SampledByDistribution(Sampled):
    def forward(self, x: Tensor) -> Tensor:
        mean = self.mean(x)
        sampled = Normal(mean, F.softplus(self.spread(x))).rsample()
        return mean + self.scale * (sampled - mean.detach())


class StraightThrough(torch.autograd.Function):
    """Bernoulli bits, whose gradient is that of their probability."""

    generate_vmap_rule = True

    @staticmethod
    def forward(shares: Tensor) -> Tensor:
        return torch.bernoulli(shares)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Bits(Switched):
    def forward(self, x: Tensor) -> Tensor:
        return StraightThrough.apply(x.sigmoid()) if self.draws else x.sigmoid()


class NumpyNoise(Scaled):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x * float(np.random.uniform(1 - self.scale, 1 + self.scale))  # noqa: NPY002
        return x


GENERATOR = np.random.default_rng(0)


class DrawsUnseen(Scaled):
    """Noise of a source that tells nobody that it was asked."""

    def __init__(self, source: Callable[[], float], scale: float = 0.0) -> None:
        super().__init__(scale)
        self.source = source

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.scale * self.source()) if self.training else x


UNSEEN: dict[str, Callable[[], float]] = {
    "a numpy generator of the file's": GENERATOR.random,
    "a new numpy generator": lambda: float(np.random.default_rng().random()),
    "a new RandomState": lambda: float(np.random.RandomState().rand()),
    "a new Python generator": lambda: random.Random().random(),
    "the system": lambda: random.SystemRandom().random(),
    "a torch generator with a seed of the system": lambda: float(torch.rand((), generator=_unseeded())),
    "a clock": lambda: time.perf_counter() % 1e-3 * 1e3,
}


def _unseeded() -> torch.Generator:
    generator = torch.Generator()
    generator.seed()
    return generator


class NumpyMixup(Switched):
    def forward(self, x: Tensor) -> Tensor:
        if self.draws:
            share = np.random.beta(0.4, 0.4)  # noqa: NPY002
            x = share * x + (1 - share) * x.flip(0)
        return x


class PythonLayerDrop(Rated):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(8):
            if self.training and random.random() < self.rate:
                continue
            x = x + torch.tanh(x)
        return x


class OwnGenerator(Scaled):
    """A generator that the layer keeps: a hidden state, in whose place the key is."""

    def __init__(self, scale: float = 0.0) -> None:
        super().__init__(scale)
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * torch.randn(x.shape, generator=self.generator, dtype=x.dtype)


class OwnGeneratorInTraining(OwnGenerator):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.training else x


class FreshGenerator(nn.Module):
    """A generator that is made and seeded in the forward: the same numbers in every call."""

    def forward(self, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return x @ torch.randn(6, 6, generator=generator, dtype=x.dtype)


class OwnNumpyGenerator(Scaled):
    def __init__(self, scale: float = 0.0) -> None:
        super().__init__(scale)
        self.rng = np.random.default_rng(0)

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.scale * float(self.rng.standard_normal())) if self.training else x


class OwnPythonGenerator(Scaled):
    def __init__(self, scale: float = 0.0) -> None:
        super().__init__(scale)
        self.rng = {"augmentation": random.Random(0)}

    def forward(self, x: Tensor) -> Tensor:
        return x * self.rng["augmentation"].uniform(1 - self.scale, 1 + self.scale) if self.training else x


_NOISE: dict[str, Callable[[Tensor], Tensor]] = {
    "torch.rand": lambda x: torch.rand(x.shape) - 0.5,
    "torch.randn": lambda x: torch.randn(*x.shape, device=x.device, dtype=x.dtype),
    "torch.rand_like": lambda x: torch.rand_like(x) - 0.5,
    "torch.randn_like": lambda x: torch.randn_like(x),
    "torch.randint": lambda x: torch.randint(-5, 5, x.shape),
    "torch.randint_like": lambda x: torch.randint_like(x, 10),
    "torch.randperm": lambda x: torch.randperm(x.shape[-1]),
    "torch.normal of numbers": lambda x: torch.normal(0.0, 2.0, x.shape),
    "torch.normal of tensors": lambda x: torch.normal(x.detach(), x.detach().exp()),
    "Tensor.uniform_, chained": lambda x: torch.empty_like(x).uniform_(-1, 1),
    "Tensor.uniform_, ignored": _uniform_ignored,
    "Tensor.normal_, chained": lambda x: x.new_empty(x.shape).normal_(0.0, 2.0).clamp_(-1, 1),
    "Tensor.normal_ by row, ignored": _rows_of_noise,
    "Tensor.exponential_, chained": lambda x: -torch.empty_like(x).exponential_().log(),
    "Tensor.exponential_, ignored": _exponential_ignored,
    "Tensor.geometric_": lambda x: torch.empty_like(x).geometric_(0.3),
    "Tensor.log_normal_": lambda x: torch.empty_like(x).log_normal_(0.0, 0.5),
    "Tensor.cauchy_": lambda x: torch.empty_like(x).cauchy_().clamp(-5, 5),
    "Tensor.random_": lambda x: torch.empty_like(x).random_(0, 7),
    "nn.init.trunc_normal_": _truncated,
    "Normal.rsample": lambda x: Normal(x, x.exp()).rsample() - x,
    "Normal.sample": lambda x: Normal(torch.zeros_like(x), 1.0).sample(),
    "Laplace.rsample": lambda x: Laplace(torch.zeros_like(x), 1.0).rsample(),
    "Gamma.rsample": lambda x: Gamma(x.exp(), torch.ones_like(x)).rsample(),
    "Dirichlet.rsample": lambda x: Dirichlet(x.exp()).rsample(),
    "Dirichlet.sample": lambda x: Dirichlet(torch.ones(6)).sample(x.shape[:1]),
    "Beta.rsample": lambda x: Beta(x.exp(), torch.ones_like(x)).rsample(),
    "Poisson.sample": lambda x: Poisson(x.exp()).sample(),
    "Categorical.sample": lambda x: F.one_hot(Categorical(logits=x).sample(), 6),
    "RelaxedBernoulli.rsample": lambda x: RelaxedBernoulli(torch.tensor(0.5), logits=x).rsample(),
    "MultivariateNormal.rsample": lambda x: MultivariateNormal(x, torch.eye(6, dtype=x.dtype)).rsample() - x,
}

_MASKS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "rand below": lambda x, kept: torch.rand(x.shape) < kept,
    "torch.bernoulli": lambda x, kept: torch.bernoulli(torch.full_like(x, kept)),
    "Tensor.bernoulli": lambda x, kept: torch.ones_like(x).bernoulli(kept),
    "Tensor.bernoulli_, chained": lambda x, kept: torch.empty_like(x).bernoulli_(kept),
    "Tensor.bernoulli_, ignored": _bernoulli_ignored,
    "Tensor.bernoulli_ by example": _bernoulli_like_input,
    "Bernoulli.sample": lambda x, kept: Bernoulli(torch.full_like(x, kept)).sample(),
}


def specimens() -> list[Specimen]:
    by_value = "decides by a tensor's values"
    keyless = {"evaluates": "a key, since block.trial"}

    def noise(name: str, draw: Callable[[Tensor], Tensor]) -> Specimen:
        refuses = {"samples": "reads a tensor's value"} if name == "nn.init.trunc_normal_" else None
        return nested(name, lambda scale=0.0: Noise(draw, scale), noise=SCALE, refuses=refuses)

    def mask(name: str, draw: Callable[[Tensor, float], Tensor]) -> Specimen:
        return nested(f"mask by {name}", lambda rate=0.0: Mask(draw, rate), noise=RATE)

    def refused(words: str) -> dict[str, str]:
        """A generator that no key reaches, where the layer draws from it: in training."""
        return dict.fromkeys(("trains", "draws", "samples"), words)

    return [
        *(noise(name, draw) for name, draw in _NOISE.items()),
        *(mask(name, draw) for name, draw in _MASKS.items()),
        nested("DropConnect", DropConnect, noise=RATE),
        nested("token dropout", TokenDropout, sequences, noise=RATE),
        nested("mixup", Mixup, noise=NOISY),
        nested("shift", Shift, noise={"places": {"places": 6}}),
        nested("roll by .item()", Roll, noise={"places": {"places": 6}}, refuses={"samples": "reads a tensor's value"}),
        nested("multinomial", Choice, noise=NOISY),
        nested("LayerDrop", LayerDrop, noise=RATE, refuses={"samples": by_value}),
        nested("draws in every mode", AlwaysNoise, noise=SCALE, refuses=keyless),
        nested("switch of the parent's", SwitchOutside, noise=SCALE),
        nested("switch far outside", SwitchFarOutside, noise=SCALE),
        nested("helper function", HelperFunction, noise=SCALE),
        nested("helper function handed a child", HelperHandedAChild, noise=SCALE),
        nested("helper object", HelperObject, noise=SCALE),
        nested("draws in another method", CallsCompute, noise=SCALE),
        nested("dropout in another method", DropoutInCompute, noise=RATE),
        nested("hook before that draws", lambda scale=0.0: NoisyHook(False, scale), noise=SCALE),
        nested("hook after that draws", lambda scale=0.0: NoisyHook(True, scale), noise=SCALE),
        nested("VAE", Sampled, noise=SCALE, refuses=keyless),
        nested("VAE by Normal.rsample", SampledByDistribution, noise=SCALE, refuses=keyless),
        nested(
            "autograd.Function that draws",
            Bits,
            noise=NOISY,
            refuses={"samples": "block.trial (Bits), which draws random numbers that no key reaches"},
        ),
        nested(
            "numpy's generator", NumpyNoise, noise=SCALE, refuses=refused("block.trial (NumpyNoise) draws from numpy")
        ),
        nested(
            "mixup by numpy",
            NumpyMixup,
            noise=NOISY,
            refuses=in_monte_carlo("block.trial (NumpyMixup) draws from numpy"),
        ),
        nested(
            "LayerDrop by Python's random", PythonLayerDrop, noise=RATE, refuses=refused("draws from Python's random")
        ),
        *(
            nested(
                f"noise from {name}",
                functools.partial(DrawsUnseen, source),
                noise=SCALE,
                refuses=in_monte_carlo("block.trial (DrawsUnseen) gives two answers for one key"),
            )
            for name, source in UNSEEN.items()
        ),
        nested("generator of its own", OwnGenerator, noise=SCALE, refuses=keyless),
        nested("generator of its own, in training", OwnGeneratorInTraining, noise=SCALE),
        nested("generator of the forward's", FreshGenerator),
        nested("numpy generator of its own", OwnNumpyGenerator, noise=SCALE, refuses=refused("block.trial.rng")),
        nested("Python generator of its own", OwnPythonGenerator, noise=SCALE, refuses=refused("block.trial.rng")),
    ]
