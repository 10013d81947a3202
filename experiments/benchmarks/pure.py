"""funcreg's contenders: a pure step, of one model or of many under `vmap`, eager and compiled."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

import funcreg as fr
from funcreg.train import Batch, TrainState
from funcreg.train.chunk_size import quickest
from funcreg.train.chunks import Chunks
from funcreg.train.program import program_of

from . import sizes
from .measure import Run, advance


def functional_step(
    make: Callable[[], nn.Module],
    hparams: dict[str, Any],
    *,
    members: int | None = None,
    wrap: Callable[[Any], Any] = lambda loss_fn: loss_fn,
    device: torch.device | str = "cpu",
) -> tuple[Callable[..., Any], TrainState]:
    """The step of `stateful.training_step`, pure, and its first state; rates are the call's when swept."""
    model = fr.from_module(make)
    swept = members is not None and bool(model.apply.rates)

    def loss_fn(params: Any, state: Any, batch: Batch, /, *, key: Tensor, hparams: Any) -> Any:
        rates = hparams["rate"] if swept else None
        logits, state = model.apply(params, state, batch.x, key=key, train=True, rates=rates)
        return fr.losses.cross_entropy(logits, batch.y), (state, {})

    def optimizer(hparams: Any) -> fr.transforms.Transform:
        return fr.optim.adam(hparams["lr"], weight_decay=hparams["decay"])

    key = fr.random.key(0)
    variables = model.init(key) if members is None else fr.model_members(model, key, members)
    params, state = fr.tree.to(variables, device)
    first = fr.train.init(params, state, optimizer, key=key, hparams=hparams, members=members)
    return fr.train.make_step(wrap(loss_fn), optimizer), first


def step(make: Callable[[], nn.Module], batch: Batch, *, jit: bool, **options: Any) -> Run:
    """A step of one module."""
    device = batch.x.device
    program, first = functional_step(make, sizes.SETTINGS, device=device, **options)
    hparams = fr.tree.map(lambda value: torch.tensor(value, device=device), sizes.SETTINGS)
    return advance(fr.jit(program), first, batch, hparams) if jit else advance(program, first, batch, sizes.SETTINGS)


def members_step(make: Callable[[], nn.Module], batch: Batch, hparams: Any, members: int, *, jit: bool) -> Run:
    """A step of many under `vmap`, each with its own hyperparameters."""
    program, first = functional_step(make, hparams, members=members, device=batch.x.device)
    together = vmap(program, in_dims=(0, None, 0))
    return advance(fr.jit(together) if jit else together, first, batch, hparams)


def looped_step(make: Callable[[], nn.Module], batch: Batch, hparams: Any, members: int) -> Run:
    """The same step of one member after the other, without `vmap`."""
    program, first = functional_step(make, hparams, members=members, device=batch.x.device)

    def step(states: Any, batch: Any, settings: Any) -> Any:
        moved = [program(state, batch, own) for state, own in zip(states, settings, strict=True)]
        return [state for state, _ in moved], [measured for _, measured in moved]

    return advance(step, fr.tree.unstack(first), batch, fr.tree.unstack(hparams))


def chunked_step(make: Callable[[], nn.Module], batch: Batch, hparams: Any, members: int, *, jit: bool) -> Run:
    """As `fit` runs it: as many members at a time as is quickest."""
    program, first = functional_step(make, hparams, members=members, device=batch.x.device)
    with torch.no_grad():
        size = quickest(program, first, batch, hparams, own=False)
    chunks = Chunks(members, size)
    programs = chunks.over(program_of(program, batched=True, own=False, bare=False, jit=jit))

    def step(parts: Any, batch: Any, settings: Any) -> Any:
        # The list of chunks is written to.
        return (
            programs([*parts], itertools.repeat(batch), settings) if chunks.rows else programs(parts, batch, settings)
        )

    return advance(step, chunks.split(first), batch, chunks.split(hparams))


def monte_carlo(module: nn.Module, x: Tensor, samples: int, *, jit: bool, **how: Any) -> Run:
    """Mean and variance of the softmax, entropies and mutual information, over noisy forward passes."""
    model, (params, state) = fr.from_module(module), fr.variables(module)
    key = fr.random.key(1, device=x.device)

    def predict() -> Any:
        return fr.uncertainty.mc_dropout(model, params, state, x, key=key, samples=samples, jit=jit, **how)

    return torch.no_grad()(predict)


def classification(shape: tuple[int, ...], classes: int, device: torch.device | str = "cpu") -> Batch:
    """Normal inputs of a shape, with random classes."""
    x_key, y_key = fr.random.split(fr.random.key(7, device=device))
    return Batch(fr.random.normal(x_key, shape), fr.random.randint(y_key, (shape[0],), 0, classes))


def swept(members: int, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Hyperparameters of all members."""
    return {name: torch.linspace(low, high, members, device=device) for name, (low, high) in sizes.SWEPT.items()}
