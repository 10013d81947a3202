"""What turns noise on: layers called in training alone, rates and switches set elsewhere, a train() of one's own."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.hand_written.parts import NOISY, RATE, SCALE, alone, at_once, in_monte_carlo, nested
from tests.zoo.specimen import Specimen


class CalledInTraining(nn.Module):
    """The layer knows its mode, and the forward asks for it once more."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.drop = nn.Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x) if self.training else x


class ListCalledInTraining(nn.Module):
    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.noise = nn.ModuleList([nn.Dropout(rate), nn.AlphaDropout(rate)])

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            for noise in self.noise:
                x = noise(x)
        return x


class RateSetInTraining(CalledInTraining):
    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        self.drop.p = self.rate if self.training else 0.0
        return self.drop(x)


class SwitchedInForward(CalledInTraining):
    """The layer's own switch follows its parent's."""

    def forward(self, x: Tensor) -> Tensor:
        self.drop.eval()
        h = self.drop(x)
        self.drop.train(self.training)
        return self.drop(h)


class SwitchOfAnother(nn.Module):
    """A function that reads the switch of a layer that does not draw."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.a, self.rate = nn.Linear(6, 6), rate

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.a(x), self.rate, self.a.training)


class OwnSwitch(nn.Module):
    """A train() of its own sets what its forward reads."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate, self.noisy = rate, True

    def train(self, mode: bool = True) -> "OwnSwitch":
        super().train(mode)
        self.noisy = mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate, self.noisy)


class OwnBranches(nn.Module):
    """A train() of its own chooses the function that runs."""

    def __init__(self, noisy: bool = False) -> None:
        super().__init__()
        self.scale, self.run = float(noisy), self.plain

    def train(self, mode: bool = True) -> "OwnBranches":
        super().train(mode)
        self.run = self.noise if mode and self.scale else self.plain
        return self

    def noise(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)

    def plain(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


class Auxiliary(nn.Module):
    """A classifier of its own in training, with noise of its own, beside noise on the way to the output."""

    def __init__(self, rate: float = 0.0, always: bool = True) -> None:
        super().__init__()
        self.a, self.drop, self.always = nn.Linear(6, 6), nn.Dropout(rate), always
        self.second = nn.Sequential(nn.Linear(6, 3), nn.Dropout(rate))

    def forward(self, x: Tensor) -> Any:
        h = self.a(x)
        out = self.drop(h) if self.always or self.training else h
        return (out, self.second(h)) if self.training else out


class Perturbed(nn.Module):
    """Noise that passes through weights which are used in training alone."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.perturbation = nn.Sequential(nn.Linear(6, 6), nn.Dropout(rate))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.perturbation(x) if self.training else x


class StrengthByMode(nn.Module):
    """Noise that is drawn in every mode, with a strength of 0 in evaluation."""

    def __init__(self, scale: float = 0.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x) * (self.scale if self.training else 0.0)


class Discarded(nn.Module):
    """Dropout in every mode, of which evaluation makes no use."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        dropped = F.dropout(x, self.rate, training=True)
        return dropped if self.training else x


class DiscardedOfAnother(nn.Module):
    """Noise of a layer inside, which draws in every mode, used in training."""

    def __init__(self, scale: float = 0.0) -> None:
        super().__init__()
        self.inner, self.scale = Draws(), scale

    def forward(self, x: Tensor) -> Tensor:
        noise = self.inner(x)
        return x + self.scale * noise if self.training else x


class Draws(nn.Module):
    """Noise, in every mode."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn_like(x)


def _hooked() -> nn.Module:
    layer = nn.Linear(6, 6)
    layer.weight.register_hook(lambda grad: 2 * grad)
    return layer


def specimens() -> list[Specimen]:
    return [
        nested("nn.Dropout called in training", CalledInTraining, noise=RATE),
        nested("noise layers called in training", ListCalledInTraining, noise=RATE),
        nested("rate set in training", RateSetInTraining, noise=RATE),
        nested("switched in forward", SwitchedInForward, noise=RATE),
        nested("switch of another layer", SwitchOfAnother, noise=RATE),
        nested("train() that sets a switch", OwnSwitch, noise=RATE),
        nested("train() that chooses a function", OwnBranches, noise=NOISY),
        alone("auxiliary classifier with dropout", Auxiliary, noise=RATE),
        alone(
            "auxiliary classifier beside dropout in training",
            lambda rate=0.0: Auxiliary(rate, always=False),
            noise=RATE,
            refuses=in_monte_carlo("the module (Auxiliary), which draws only in training mode"),
        ),
        nested(
            "weights in training alone",
            Perturbed,
            noise=RATE,
            refuses=in_monte_carlo("block.trial (Perturbed), which draws only in training mode"),
        ),
        nested("strength by mode", StrengthByMode, noise=SCALE, refuses={"evaluates": "(StrengthByMode) draws"}),
        nested("dropout that evaluation discards", Discarded, noise=RATE),
        nested("noise that a parent discards", DiscardedOfAnother, noise=SCALE, refuses={"evaluates": "(Draws) draws"}),
        nested("hook on a gradient", _hooked, refuses=at_once("block.trial (Linear), whose parameter 'weight' has")),
    ]
