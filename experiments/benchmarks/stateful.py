"""Plain, stateful PyTorch, as its tutorials write it: eager, and with `torch.compile`."""

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import sizes
from .measure import Run


def mlp(widths: Sequence[int], rate: float) -> nn.Sequential:
    """Linear, ReLU and dropout for each hidden width, then a linear layer."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(rate)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def discriminator(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers, each spectrally normalised by one power step a forward, with leaky ReLUs between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.utils.parametrizations.spectral_norm(nn.Linear(inputs, outputs)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


def convolutional(channels: Sequence[int], classes: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU and pooling for each width, then a linear layer on the mean of the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(channels):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], classes))


def training_step(
    module: nn.Module, x: Tensor, y: Tensor, *, lr: float, decay: float, forward: Callable[..., Tensor] | None = None
) -> Callable[[], Tensor]:
    """One step of Adam with weight decay on a batch; each call trains the module on, until it restarts.

    Args:
        forward: (module, x, y) -> loss, if compiled. Default: eager.
    """
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), lr=lr, weight_decay=decay)
    compute, restart = forward or loss_of, _restarting(module, optimizer)

    def step() -> Tensor:
        restart()
        optimizer.zero_grad()
        loss = compute(module, x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def sharpness_aware_step(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    lr: float,
    decay: float,
    radius: float,
    forward: Callable[..., Tensor] | None = None,
) -> Callable[[], Tensor]:
    """One step of sharpness-aware minimisation around Adam: up by the radius, a second gradient, back, and down."""
    module.train()
    parameters = list(module.parameters())
    optimizer = torch.optim.Adam(parameters, lr=lr, weight_decay=decay)
    compute, restart = forward or loss_of, _restarting(module, optimizer)

    def step() -> Tensor:
        restart()
        optimizer.zero_grad()
        loss = compute(module, x, y)
        loss.backward()
        with torch.no_grad():
            grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
            scale = radius / (torch.nn.utils.get_total_norm(grads) + 1e-12)
            ascents = [grad * scale for grad in grads]
            for parameter, ascent in zip(parameters, ascents, strict=True):
                parameter.add_(ascent)
        optimizer.zero_grad()
        compute(module, x, y).backward()
        with torch.no_grad():
            for parameter, ascent in zip(parameters, ascents, strict=True):
                parameter.sub_(ascent)
        optimizer.step()
        return loss.detach()

    return step


def loss_of(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy, which `compiled_loss` compiles."""
    return nn.functional.cross_entropy(module(x), y)


def compiled_loss() -> Callable[..., Tensor]:
    """Forward and backward compiled; the optimizer, which has kernels for all parameters at once, is not."""
    return torch.compile(loss_of, fullgraph=True, dynamic=False)


def compiled(module: nn.Module) -> Callable[..., Tensor]:
    """Its forward pass as one program."""
    return torch.compile(module, fullgraph=True, dynamic=False)


def sweep(widths: Sequence[int], batch: Any, members: int, forward: Callable[..., Tensor] | None = None) -> Run:
    """A step of each of many MLPs, one after the other, with its own rate, decay and learning rate.

    Compiled, a rate is a constant of the program: all members have the first one's, and share its program.
    """
    steps = []
    for member in range(members):
        at = {name: low + (high - low) * member / max(1, members - 1) for name, (low, high) in sizes.SWEPT.items()}
        module = mlp(widths, at["rate"] if forward is None else sizes.RATE).to(batch.x.device)
        steps.append(training_step(module, batch.x, batch.y, lr=at["lr"], decay=at["decay"], forward=forward))
    return lambda: [step() for step in steps]


def monte_carlo(module: Callable[..., Tensor], x: Tensor, samples: int) -> Callable[[], tuple[Tensor, Tensor]]:
    """Mean and variance of the softmax over forward passes of a module in training mode, one after the other."""

    @torch.no_grad()
    def predict() -> tuple[Tensor, Tensor]:
        drawn = torch.stack([module(x).softmax(dim=-1) for _ in range(samples)])
        return drawn.mean(dim=0), drawn.var(dim=0)

    return predict


def matrix_products(widths: Sequence[int], x: Tensor, samples: int, *, at_once: bool) -> Run:
    """The products alone that Monte Carlo dropout needs: the first layer's once, the others for each sample.

    Nothing is allocated. All samples' at once are few calls; one sample's after the other stay in the caches.
    """
    (first, *others) = [torch.randn(inputs, outputs, device=x.device) for inputs, outputs in itertools.pairwise(widths)]
    n, calls = (len(x) * samples, 1) if at_once else (len(x), samples)
    rows = [torch.randn(n, weight.shape[0], device=x.device) for weight in others]
    outputs = [torch.empty(n, weight.shape[1], device=x.device) for weight in others]
    hidden = torch.empty(len(x), widths[1], device=x.device)

    @torch.no_grad()
    def run() -> None:
        torch.mm(x, first, out=hidden)
        for _ in range(calls):
            for inputs, weight, output in zip(rows, others, outputs, strict=True):
                torch.mm(inputs, weight, out=output)

    return run


def _restarting(module: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Called before each step, starts training anew at times."""
    first, count = copy.deepcopy(module.state_dict()), 0

    def restart() -> None:
        nonlocal count
        count += 1
        if count % sizes.RESTART == 0:
            module.load_state_dict(first)
            optimizer.state.clear()

    return restart
