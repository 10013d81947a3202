"""What the hand-written specimens share: a network that gives a layer a dotted name, inputs, and noise elsewhere."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.specimen import Specimen, images

Inputs = Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]
RATE = {"rate": {"rate": 0.5}}
SCALE = {"scale": {"scale": 0.3}}
NOISY = {"noise": {"noisy": True}}


class Net(nn.Module):
    """A linear layer, the layer under trial as `block.trial`, and a linear layer."""

    def __init__(self, trial: nn.Module, stem: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.stem, self.head = stem, head
        self.block = nn.Sequential(OrderedDict(trial=trial))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)))


def rows() -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs (4, 6)."""
    return (torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64),), {}


def sequences() -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs (2, 5, 6)."""
    return (torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64),), {}


def tokens() -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Integers (2, 5) below 6."""
    return (torch.randint(0, 6, (2, 5), generator=torch.Generator().manual_seed(0)),), {}


def nested(
    name: str,
    make: Callable[..., nn.Module],
    inputs: Inputs = rows,
    *,
    noise: Mapping[str, Mapping[str, Any]] | None = None,
    refuses: Mapping[str, str] | None = None,
) -> Specimen:
    """A layer (..., 6) -> (..., 6) inside of a network."""

    def build(**rates: Any) -> nn.Module:
        return Net(make(**rates), nn.Linear(6, 6), nn.Linear(6, 3))

    return Specimen(f"hand_written/{name}", build, inputs, noise or {}, refuses or {})


def nested_in_images(
    name: str,
    make: Callable[..., nn.Module],
    *,
    noise: Mapping[str, Mapping[str, Any]] | None = None,
    refuses: Mapping[str, str] | None = None,
) -> Specimen:
    """A layer (2, 4, 6, 6) -> (2, 4, any, any) inside of a network."""

    def build(**rates: Any) -> nn.Module:
        return Net(make(**rates), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))

    return Specimen(f"hand_written/{name}", build, images(6), noise or {}, refuses or {})


def alone(
    name: str,
    build: Callable[..., nn.Module],
    inputs: Inputs = rows,
    *,
    noise: Mapping[str, Mapping[str, Any]] | None = None,
    refuses: Mapping[str, str] | None = None,
) -> Specimen:
    """A module as it is."""
    return Specimen(f"hand_written/{name}", build, inputs, noise or {}, refuses or {})


def in_every_call(words: str) -> dict[str, str]:
    """Refused in every call, of a module without noise."""
    return dict.fromkeys(("evaluates", "trains", "samples"), words)


def at_once(words: str) -> dict[str, str]:
    """Refused by `from_module`, of a module without noise."""
    return dict.fromkeys(("evaluates", "trains", "samples", "leaves alone"), words)


def in_monte_carlo(words: str) -> dict[str, str]:
    """Refused where noise is on and training is not."""
    return dict.fromkeys(("draws", "samples"), words)


def jitter(x: Tensor, scale: float, training: bool) -> Tensor:
    """Noise by a function of another file than its caller's."""
    return x + scale * torch.randn_like(x) if training else x


def jitter_of(layer: Any, x: Tensor) -> Tensor:
    """Noise of a layer's own scale, by a function that is handed the layer."""
    return x + layer.scale * torch.randn_like(x) if layer.training else x


class Jitter:
    """Noise by an object that is no module."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.scale * torch.randn_like(x)
