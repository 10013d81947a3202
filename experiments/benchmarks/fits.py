"""What `fit` costs beside its steps: against the same loop by hand, from a source and from tensors."""

import itertools
import time
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

import funcreg as fr

from . import pure, sizes
from .measure import Run, Workload

BATCHES = 50
STEPS = 200  # of an epoch: what a fit does once is spread over them
OVERHEAD = 40e-6  # seconds a step that are allowed


def from_source(device: torch.device) -> Workload:
    """An epoch of a DataLoader: the same compiled steps of the same batches."""
    step, first = _begun(sizes.MLP, device)
    samples = pure.classification((BATCHES * sizes.MLP_BATCH, sizes.MLP[0]), sizes.MLP[-1], device)
    source: Any = DataLoader(TensorDataset(*samples), sizes.MLP_BATCH)
    program = fr.jit(step)

    @torch.no_grad()
    def by_hand() -> float:
        train_state, losses = first, []
        for x, y in source:
            train_state, metrics = program(train_state, fr.train.Batch(x, y))
            losses.append(metrics["loss"])
        return float(torch.stack(losses).mean())

    return Workload(
        name="fit-source",
        question=f"{BATCHES} compiled steps of an MLP 784-512-512-10, batch {sizes.MLP_BATCH}, from a DataLoader",
        contenders={"by hand": by_hand, "funcreg fit": lambda: _fit(step, first, source)},
        targets={("funcreg fit", "by hand"): 1 / 1.03},
    )


def small_steps(device: torch.device) -> Workload:
    """Steps that take next to no time: what is left is the loop's."""
    step, first = _begun(sizes.TOY, device)
    samples = pure.classification((STEPS * 64, sizes.TOY[0]), sizes.TOY[-1], device)
    batch, program = fr.tree.map(lambda leaf: leaf[:64].clone(), samples), fr.jit(step)

    def steps(pause: float) -> Run:
        @torch.no_grad()
        def run() -> None:
            train_state = first
            for _ in range(STEPS):
                train_state, _ = program(train_state, batch)
                until = time.perf_counter() + pause
                while pause and time.perf_counter() < until:
                    pass

        return run

    return Workload(
        name="fit-step",
        question=f"{STEPS} compiled steps of an MLP 2-32-32-2, batch 64, shuffled from tensors by fit",
        contenders={
            "the step alone": steps(0.0),
            "the step and 40 us": steps(OVERHEAD),
            "funcreg fit": lambda: _fit(step, first, samples, batch_size=64),
        },
        targets={("funcreg fit", "the step and 40 us"): 1.0},
    )


def _begun(widths: tuple[int, ...], device: torch.device) -> tuple[Any, fr.train.TrainState]:
    optimizer = fr.optim.adam(1e-3)

    def loss_fn(params: Any, state: Any, batch: Any, *, key: torch.Tensor, hparams: Any) -> Any:
        logits, state = model.apply(params, state, batch.x)
        return fr.losses.cross_entropy(logits, batch.y), (state, {})

    model = fr.from_module(lambda: torch.nn.Sequential(*_layers(widths)))
    params, state = fr.tree.to(model.init(fr.random.key(0)), device)
    return fr.train.make_step(loss_fn, optimizer), fr.train.init(params, state, optimizer, key=fr.random.key(1))


def _layers(widths: tuple[int, ...]) -> list[torch.nn.Module]:
    layers: list[torch.nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    return layers[:-1]


def _fit(step: Any, first: fr.train.TrainState, data: Any, **settings: Any) -> Any:
    return fr.train.fit(step, first, data, key=fr.random.key(2), epochs=1, progress=False, **settings)
