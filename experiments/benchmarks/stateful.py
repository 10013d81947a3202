"""The baseline: the same work in plain, stateful PyTorch, written as its tutorials write it."""

import copy
import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

RESTART = 64  # steps after which training begins anew, before Adam's averages of dead units are denormal, and slow


def mlp(widths: tuple[int, ...], rate: float) -> nn.Sequential:
    """Linear, ReLU and dropout for each hidden width, then a linear layer."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(rate)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


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


def monte_carlo(module: nn.Module, x: Tensor, samples: int) -> Callable[[], tuple[Tensor, Tensor]]:
    """Mean and variance of the softmax over forward passes with dropout on, one after the other."""
    module.train()

    @torch.no_grad()
    def predict() -> tuple[Tensor, Tensor]:
        drawn = torch.stack([module(x).softmax(dim=-1) for _ in range(samples)])
        return drawn.mean(dim=0), drawn.var(dim=0)

    return predict
