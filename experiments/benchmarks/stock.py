"""Stock `torch.func`: what a user writes without funcreg.

Modules are called by `functional_call`, randomness is the global generator's, which `vmap` lets differ
between members, and Adam is written by hand, as `torch.optim` is not functional.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from . import sizes
from .measure import Run, advance

Params = dict[str, Tensor]


class Dropout(nn.Module):
    """`nn.Dropout` refuses a rate that vmap batches; this one takes it from a buffer."""

    rate: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rate", torch.tensor(sizes.RATE))

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) >= self.rate) / (1 - self.rate)


def with_own_dropout(module: nn.Sequential) -> nn.Sequential:
    """The same layers, with dropout whose rate can be swept."""
    return nn.Sequential(*(Dropout() if isinstance(layer, nn.Dropout) else layer for layer in module))


def adam(params: Params, grads: Params, moments: Any, *, lr: Any, decay: Any) -> tuple[Params, Any]:
    """One step of Adam with coupled decay: (parameters, moments)."""
    first, second, count = moments
    count = count + 1
    grads = {name: grad + decay * params[name] for name, grad in grads.items()}
    first = {name: 0.9 * first[name] + 0.1 * grad for name, grad in grads.items()}
    second = {name: 0.999 * second[name] + 0.001 * grad * grad for name, grad in grads.items()}
    size, scale = lr / (1 - 0.9**count), (1 - 0.999**count).sqrt()
    params = {name: value - size * first[name] / (second[name].sqrt() / scale + 1e-8) for name, value in params.items()}
    return params, (first, second, count)


def begin(params: Params, *axes: int) -> Any:
    """Parameters and Adam's first moments; `axes` (members,) where they are stacked."""
    params = {name: value.detach() for name, value in params.items()}
    zeros = {name: torch.zeros_like(value) for name, value in params.items()}
    return params, (zeros, zeros, torch.zeros(axes, device=next(iter(params.values())).device))


def step_of(module: nn.Module, *, radius: float | None = None) -> Callable[..., Any]:
    """(carry, x, y, hparams) -> (carry, loss), carry being (params, moments); a radius makes it SAM."""

    def loss_fn(params: Params, buffers: Params, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(module, {**params, **buffers}, (x,)), y)

    def step(carry: Any, x: Tensor, y: Tensor, hparams: Any) -> Any:
        params, moments = carry
        buffers = {name: hparams["rate"] for name, _ in module.named_buffers() if name.endswith("rate")}
        grads, loss = grad_and_value(loss_fn)(params, buffers, x, y)
        if radius is not None:
            norm = torch.stack([grad.square().sum() for grad in grads.values()]).sum().sqrt()
            scale = radius / (norm + 1e-12)
            above = {name: value + scale * grads[name] for name, value in params.items()}
            grads, _ = grad_and_value(loss_fn)(above, buffers, x, y)
        params, moments = adam(params, grads, moments, lr=hparams["lr"], decay=hparams["decay"])
        return (params, moments), loss

    return step


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """As one program."""
    return torch.compile(function, fullgraph=True, dynamic=False)


def step(module: nn.Module, batch: Any, *, jit: bool, **options: Any) -> Run:
    """A step of one module, in training mode."""
    program = step_of(module.train(), **options)
    carry = begin(dict(module.named_parameters()))
    return advance(compiled(program) if jit else program, carry, batch.x, batch.y, sizes.SETTINGS)


def members_step(modules: Sequence[nn.Module], batch: Any, hparams: Any, *, jit: bool) -> Run:
    """A step of all modules by `vmap`, each with its own hyperparameters."""
    program = vmap(step_of(modules[0].train()), in_dims=(0, None, None, 0), randomness="different")
    carry = begin(stack_module_state(list(modules))[0], len(modules))
    return advance(compiled(program) if jit else program, carry, batch.x, batch.y, hparams)


def monte_carlo(module: nn.Module, x: Tensor, samples: int, *, jit: bool) -> Run:
    """Mean and variance of the softmax over noisy forward passes by `vmap`."""
    params: Params = dict(module.train().named_parameters())
    indices = torch.arange(samples, device=x.device)

    def predict(params: Params, x: Tensor) -> tuple[Tensor, Tensor]:
        draw = vmap(lambda _: functional_call(module, params, (x,)).softmax(-1), randomness="different")
        drawn = draw(indices)
        return drawn.mean(0), drawn.var(0)

    program = compiled(predict) if jit else predict
    return torch.no_grad()(lambda: program(params, x))


def without_running_statistics(module: nn.Module) -> nn.Module:
    """torch.func cannot update running statistics: its documentation says to go without, as here."""
    torch.func.replace_all_batch_norm_modules_(module)
    return module
