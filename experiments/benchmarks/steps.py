"""Training steps as workloads: the same module trained statefully, and as a pure step, eager and compiled."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import funcreg as fr
from funcreg.train import Batch, TrainState

from . import stateful
from .measure import Run, Workload, timed_first_call

MLP = (784, 512, 512, 10)
SETTINGS = {"rate": 0.5, "decay": 1e-4, "lr": 1e-3}


def step_workload(
    name: str,
    question: str,
    make: Callable[[], nn.Module],
    batch: Batch,
    *,
    targets: dict[str, float],
    stateful_step: Callable[..., Run] = stateful.training_step,
    wrap: Callable[[Any], Any] = lambda loss_fn: loss_fn,
) -> Workload:
    """One network: a stateful step of Adam against the pure one; `wrap` makes another loss of the step's."""
    step, train_state = functional_step(make, SETTINGS, wrap=wrap)
    compiled = fr.jit(step)
    as_data = fr.tree.map(torch.tensor, SETTINGS)
    first = timed_first_call(torch.no_grad()(lambda: compiled(train_state, batch, as_data)))
    return Workload(
        name=name,
        question=question,
        contenders={
            "stateful": stateful_step(make(), batch.x, batch.y, lr=SETTINGS["lr"], decay=SETTINGS["decay"]),
            "eager": advance(step, train_state, batch, SETTINGS),
            "jit": advance(compiled, train_state, batch, as_data),
        },
        targets=targets,
        compile_seconds={"jit": first},
    )


def functional_step(
    make: Callable[[], nn.Module],
    hparams: dict[str, Any],
    *,
    members: int | None = None,
    wrap: Callable[[Any], Any] = lambda loss_fn: loss_fn,
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
    params, state = model.init(key) if members is None else fr.model_members(model, key, members)
    first = fr.train.init(params, state, optimizer, key=key, hparams=hparams, members=members)
    return fr.train.make_step(wrap(loss_fn), optimizer), first


def advance(step: Callable[..., Any], first: TrainState, batch: Batch, hparams: Any) -> Run:
    """A function of nothing that takes the next step each time, as `stateful.training_step`'s does."""
    current, count = first, 0

    @torch.no_grad()
    def run() -> Any:
        nonlocal current, count
        count += 1
        if count % stateful.RESTART == 0:
            current = first
        current, metrics = step(current, batch, hparams)
        return metrics

    return run


def classification(shape: tuple[int, ...], classes: int) -> Batch:
    """Normal inputs of a shape, with random classes."""
    x_key, y_key = fr.random.split(fr.random.key(7))
    return Batch(fr.random.normal(x_key, shape), fr.random.randint(y_key, (shape[0],), 0, classes))
