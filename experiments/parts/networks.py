"""The networks of the experiments, as ordinary modules."""

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


def mlp(
    *widths: int, rates: float | Sequence[float] | None = None, activation: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Linear layers from widths[0] to widths[-1], each but the last with its activation.

    Args:
        widths: inputs, hidden widths, outputs. Inputs of more axes are flattened.
        rates: dropout after each activation, one rate or one for each hidden layer. Default: none.
    """
    hidden = len(widths) - 2
    each = [rates] * hidden if rates is None or isinstance(rates, float | int) else list(rates)
    layers: list[nn.Module] = [nn.Flatten()]
    for (inputs, outputs), rate in zip(itertools.pairwise(widths[:-1]), each, strict=True):
        layers += [nn.Linear(inputs, outputs), activation()]
        layers += [nn.Dropout(rate)] if rate is not None else []
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def in_precision(name: str, device: torch.device) -> AbstractContextManager[object]:
    """Where convolutions and matrix products compute in a precision: "float32" as they are, or "bfloat16"."""
    if name == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, name))


class ResNet9(nn.Module):
    """Eight convolutions with batch norm, two residual blocks, a linear layer: 6.6 M parameters at width 64.

    Images (N, 3, 32, 32) -> logits; `features` gives what the linear layer gets, (N, 8 width). After
    David Page, "How to train your ResNet", 2018, whose `scale` of the logits is 1/8.
    """

    def __init__(self, width: int = 64, classes: int = 10, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.stem = nn.Sequential(_convolution(3, width), _convolution(width, 2 * width, pool=True))
        self.first = nn.Sequential(_convolution(2 * width, 2 * width), _convolution(2 * width, 2 * width))
        self.middle = nn.Sequential(
            _convolution(2 * width, 4 * width, pool=True), _convolution(4 * width, 8 * width, pool=True)
        )
        self.second = nn.Sequential(_convolution(8 * width, 8 * width), _convolution(8 * width, 8 * width))
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head = nn.Linear(8 * width, classes)

    def features(self, x: Tensor) -> Tensor:
        """What the linear layer gets."""
        x = self.stem(x)
        x = self.middle(x + self.first(x))
        return self.pool(x + self.second(x)).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.head(self.features(x))


def _convolution(inputs: int, outputs: int, *, pool: bool = False) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2)) if pool else nn.Sequential(*layers)
