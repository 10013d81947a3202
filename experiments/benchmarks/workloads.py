"""The workloads: each builds the same work for plain PyTorch and for funcreg, eager and compiled."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

import funcreg as fr
from funcreg.train import Batch, TrainState

from . import stateful
from .measure import Workload, peak_memory, timed_first_call

MLP = (784, 512, 512, 10)
TOY = (2, 32, 32, 2)
MEMBERS = 64
SAMPLES = 100


def dropout() -> Workload:
    """One draw and one product, against the global generator's."""
    x, key = fr.random.normal(fr.random.key(0), (128, 1024)), fr.random.key(1)
    compiled = fr.jit(lambda x, key: fr.noise.dropout(x, 0.5, key=key))
    return Workload(
        name="dropout",
        question="keyed dropout forward on (128, 1024)",
        contenders={
            "F.dropout": lambda: nn.functional.dropout(x, 0.5),
            "eager": lambda: fr.noise.dropout(x, 0.5, key=key),
            "jit": lambda: compiled(x, key),
        },
        targets={"eager": 3.0, "jit": 10.0},
        compile_seconds={"jit": timed_first_call(lambda: compiled(x, key))},
    )


def mlp_step() -> Workload:
    """A step that is mostly matrix products."""
    return _step_workload(
        "mlp-step",
        "a step of an MLP 784-512-512-10, batch 128, dropout, Adam",
        MLP,
        128,
        {"eager": 1 / 1.3, "jit": 2.0},
    )


def toy_step() -> Workload:
    """A step that is mostly overhead."""
    return _step_workload(
        "toy-step", "a step of an MLP 2-32-32-2, 140 points, dropout, Adam", TOY, 140, {"eager": 1 / 2.5, "jit": 4.0}
    )


def toy_sweep() -> Workload:
    """Many small models as one program, each with its own rate, strength and learning rate."""
    batch = _batch(TOY, 140)
    hparams = {
        "rate": torch.linspace(0.1, 0.6, MEMBERS),
        "decay": torch.linspace(0.0, 0.02, MEMBERS),
        "lr": torch.linspace(1e-3, 1e-2, MEMBERS),
    }
    steps = []
    for member in range(MEMBERS):
        settings = {name: float(values[member]) for name, values in hparams.items()}
        module = stateful.mlp(TOY, settings["rate"])
        steps.append(stateful.training_step(module, batch.x, batch.y, lr=settings["lr"], decay=settings["decay"]))
    step, train_state = _functional_step(TOY, hparams, members=MEMBERS)
    over_members = vmap(step, in_dims=(0, None, 0))
    compiled = fr.jit(over_members)
    first = timed_first_call(torch.no_grad()(lambda: compiled(train_state, batch, hparams)))
    return Workload(
        name="toy-sweep",
        question=f"a step of {MEMBERS} MLPs 2-32-32-2, each with its own rate, strength and learning rate",
        contenders={
            "one by one": lambda: [step() for step in steps],
            "vmap": _advance(over_members, train_state, batch, hparams),
            "jit(vmap)": _advance(compiled, train_state, batch, hparams),
        },
        targets={"jit(vmap)": 30.0},
        compile_seconds={"jit(vmap)": first},
    )


def monte_carlo() -> Workload:
    """Many noisy forward passes of one network."""
    module = stateful.mlp(MLP, 0.5)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    x, key = _batch(MLP, 100).x, fr.random.key(1)

    def predict(params: Any, x: Tensor, key: Tensor) -> Any:
        return fr.uncertainty.mc_dropout(model, params, state, x, key=key, samples=SAMPLES)

    compiled = fr.jit(predict)
    return Workload(
        name="monte-carlo",
        question=f"MC dropout of an MLP 784-512-512-10, batch 100, {SAMPLES} samples",
        contenders={
            "loop": stateful.monte_carlo(module, x, SAMPLES),
            "vmap": torch.no_grad()(lambda: predict(params, x, key)),
            "jit(vmap)": torch.no_grad()(lambda: compiled(params, x, key)),
        },
        targets={"vmap": 2.0, "jit(vmap)": 4.0},
        compile_seconds={"jit(vmap)": timed_first_call(torch.no_grad()(lambda: compiled(params, x, key)))},
    )


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "dropout": dropout,
    "mlp-step": mlp_step,
    "toy-step": toy_step,
    "toy-sweep": toy_sweep,
    "monte-carlo": monte_carlo,
}


def monte_carlo_memory(chunk_sizes: tuple[int | None, ...] = (None, 50, 10, 1)) -> dict[str, float]:
    """Peak memory in MiB that MC dropout of the MLP adds, batch 1000, by chunk size."""
    code = """
import torch, funcreg as fr
from experiments.benchmarks import stateful
torch.set_num_threads(2)
module = stateful.mlp((784, 512, 512, 10), 0.5)
model, (params, state) = fr.from_module(module), fr.variables(module)
x, key = torch.ones(1000, 784), fr.random.key(1)
fr.uncertainty.mc_dropout(model, params, state, x[:2], key=key, samples=2)
baseline()
fr.uncertainty.mc_dropout(model, params, state, x, key=key, samples=100, chunk_size=CHUNK)
"""
    return {str(chunk): peak_memory(code.replace("CHUNK", str(chunk))) for chunk in chunk_sizes}


def _step_workload(name: str, question: str, widths: tuple[int, ...], size: int, targets: dict[str, float]) -> Workload:
    batch = _batch(widths, size)
    hparams = {"rate": 0.5, "decay": 1e-4, "lr": 1e-3}
    module = stateful.mlp(widths, hparams["rate"])
    step, train_state = _functional_step(widths, hparams)
    compiled = fr.jit(step)
    as_data = fr.tree.map(torch.tensor, hparams)
    first = timed_first_call(torch.no_grad()(lambda: compiled(train_state, batch, as_data)))
    return Workload(
        name=name,
        question=question,
        contenders={
            "stateful": stateful.training_step(module, batch.x, batch.y, lr=hparams["lr"], decay=hparams["decay"]),
            "eager": _advance(step, train_state, batch, hparams),
            "jit": _advance(compiled, train_state, batch, as_data),
        },
        targets=targets,
        compile_seconds={"jit": first},
    )


def _functional_step(
    widths: tuple[int, ...], hparams: dict[str, Any], members: int | None = None
) -> tuple[Callable[..., Any], TrainState]:
    """The step of `stateful.training_step`, pure, and its first state; rates are the call's when swept."""
    model = fr.from_module(lambda: stateful.mlp(widths, 0.5))

    def loss_fn(params: Any, state: Any, batch: Batch, /, *, key: Tensor, hparams: Any) -> Any:
        rates = None if members is None else hparams["rate"]
        logits, state = model.apply(params, state, batch.x, key=key, train=True, rates=rates)
        return fr.losses.cross_entropy(logits, batch.y), (state, {})

    def optimizer(hparams: Any) -> fr.transforms.Transform:
        return fr.optim.adam(hparams["lr"], weight_decay=hparams["decay"])

    key = fr.random.key(0)
    params, state = model.init(key) if members is None else fr.model_members(model, key, members)
    first = fr.train.init(params, state, optimizer, key=key, hparams=hparams, members=members)
    return fr.train.make_step(loss_fn, optimizer), first


def _advance(step: Callable[..., Any], first: TrainState, batch: Batch, hparams: Any) -> Callable[[], Any]:
    """A function of nothing that takes the next step each time, as `stateful.training_step`'s does."""
    current, count = first, 0

    @torch.no_grad()
    def advance() -> Any:
        nonlocal current, count
        count += 1
        if count % stateful.RESTART == 0:
            current = first
        current, metrics = step(current, batch, hparams)
        return metrics

    return advance


def _batch(widths: tuple[int, ...], size: int) -> Batch:
    x_key, y_key = fr.random.split(fr.random.key(7))
    return Batch(fr.random.normal(x_key, (size, widths[0])), fr.random.randint(y_key, (size,), 0, widths[-1]))
