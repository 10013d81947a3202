"""The baseline: the same work in plain, stateful PyTorch, written as its tutorials write it."""

import copy
import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

RESTART = 64  # steps after which training begins anew, before Adam's averages of dead units are denormal, and slow


def mlp(widths: tuple[int, ...], rate: float) -> nn.Sequential:
    """Linear, ReLU and dropout for each hidden width, then a linear layer."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(rate)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def discriminator(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers, each spectrally normalised by one power step a forward, with leaky ReLUs between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.utils.parametrizations.spectral_norm(nn.Linear(inputs, outputs)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


def convolutional(channels: tuple[int, ...], classes: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU and pooling for each width, then a linear layer on the mean of the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(channels):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], classes))


def augmentation() -> v2.Transform:
    """Flips, crops, rotations and colours: one draw a call, whether it gets an image or a batch."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomCrop(32, padding=4),
            v2.RandomRotation([-15.0, 15.0], v2.InterpolationMode.BILINEAR),
            v2.ColorJitter(0.4, 0.4, 0.4),
        ]
    )


def training_step(module: nn.Module, x: Tensor, y: Tensor, *, lr: float, decay: float) -> Callable[[], Tensor]:
    """One step of Adam with weight decay on a batch; each call trains the module on, until it restarts."""
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), lr=lr, weight_decay=decay)
    criterion = nn.CrossEntropyLoss()
    first, count = copy.deepcopy(module.state_dict()), 0

    def step() -> Tensor:
        nonlocal count
        count += 1
        if count % RESTART == 0:
            module.load_state_dict(first)
            optimizer.state.clear()
        optimizer.zero_grad()
        loss = criterion(module(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def sharpness_aware_step(
    module: nn.Module, x: Tensor, y: Tensor, *, lr: float, decay: float, radius: float
) -> Callable[[], Tensor]:
    """One step of sharpness-aware minimisation around Adam: up by the radius, a second gradient, back, and down."""
    module.train()
    parameters = list(module.parameters())
    optimizer = torch.optim.Adam(parameters, lr=lr, weight_decay=decay)
    criterion = nn.CrossEntropyLoss()
    first, count = copy.deepcopy(module.state_dict()), 0

    def step() -> Tensor:
        nonlocal count
        count += 1
        if count % RESTART == 0:
            module.load_state_dict(first)
            optimizer.state.clear()
        optimizer.zero_grad()
        loss = criterion(module(x), y)
        loss.backward()
        with torch.no_grad():
            grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
            scale = radius / (torch.nn.utils.get_total_norm(grads) + 1e-12)
            ascents = [grad * scale for grad in grads]
            for parameter, ascent in zip(parameters, ascents, strict=True):
                parameter.add_(ascent)
        optimizer.zero_grad()
        criterion(module(x), y).backward()
        with torch.no_grad():
            for parameter, ascent in zip(parameters, ascents, strict=True):
                parameter.sub_(ascent)
        optimizer.step()
        return loss.detach()

    return step


def monte_carlo(module: nn.Module, x: Tensor, samples: int) -> Callable[[], tuple[Tensor, Tensor]]:
    """Mean and variance of the softmax over forward passes with dropout on, one after the other."""
    module.train()

    @torch.no_grad()
    def predict() -> tuple[Tensor, Tensor]:
        drawn = torch.stack([module(x).softmax(dim=-1) for _ in range(samples)])
        return drawn.mean(dim=0), drawn.var(dim=0)

    return predict
