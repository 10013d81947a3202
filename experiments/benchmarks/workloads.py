"""The workloads: each builds the same work for plain PyTorch and for funcreg, eager and compiled."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

import funcreg as fr

from . import regularizers, stateful
from .measure import Workload, peak_memory, timed_first_call
from .steps import MLP, advance, classification, functional_step, step_workload

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
    return step_workload(
        "mlp-step",
        "a step of an MLP 784-512-512-10, batch 128, dropout, Adam",
        lambda: stateful.mlp(MLP, 0.5),
        classification((128, MLP[0]), MLP[-1]),
        targets={"eager": 1 / 1.3, "jit": 2.0},
    )


def toy_step() -> Workload:
    """A step that is mostly overhead."""
    return step_workload(
        "toy-step",
        "a step of an MLP 2-32-32-2, 140 points, dropout, Adam",
        lambda: stateful.mlp(TOY, 0.5),
        classification((140, TOY[0]), TOY[-1]),
        targets={"eager": 1 / 2.5, "jit": 4.0},
    )


def toy_sweep() -> Workload:
    """Many small models as one program, each with its own rate, strength and learning rate."""
    batch = classification((140, TOY[0]), TOY[-1])
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
    step, train_state = functional_step(lambda: stateful.mlp(TOY, 0.5), hparams, members=MEMBERS)
    over_members = vmap(step, in_dims=(0, None, 0))
    compiled = fr.jit(over_members)
    first = timed_first_call(torch.no_grad()(lambda: compiled(train_state, batch, hparams)))
    return Workload(
        name="toy-sweep",
        question=f"a step of {MEMBERS} MLPs 2-32-32-2, each with its own rate, strength and learning rate",
        contenders={
            "one by one": lambda: [step() for step in steps],
            "vmap": advance(over_members, train_state, batch, hparams),
            "jit(vmap)": advance(compiled, train_state, batch, hparams),
        },
        targets={"jit(vmap)": 30.0},
        compile_seconds={"jit(vmap)": first},
    )


def monte_carlo() -> Workload:
    """Many noisy forward passes of one network."""
    module = stateful.mlp(MLP, 0.5)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    x, key = classification((100, MLP[0]), MLP[-1]).x, fr.random.key(1)

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
    "augmentation": regularizers.augmentation,
    "sam-step": regularizers.sam_step,
    "spectral-step": regularizers.spectral_step,
    "ensemble": regularizers.ensemble,
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
