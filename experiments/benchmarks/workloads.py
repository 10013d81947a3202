"""The workloads: each is the same work for plain PyTorch, stock `torch.func`, and funcreg, eager and compiled.

JAX's contenders of the same names are in `with_jax`.
"""

import functools
import platform
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

import funcreg as fr

from . import calls, everyday, fits, pure, regularizers, sizes, stateful, stock
from .measure import Run, Workload
from .pure import classification
from .steps import step_workload


def dropout(device: torch.device) -> Workload:
    """One draw and one product, against the global generator's."""
    x, key = fr.random.normal(fr.random.key(0, device=device), sizes.DROPOUT), fr.random.key(1, device=device)
    program = fr.jit(lambda x, key: fr.noise.dropout(x, sizes.RATE, key=key))
    stateful_program = torch.compile(lambda x: nn.functional.dropout(x, sizes.RATE), fullgraph=True, dynamic=False)
    contenders: dict[str, Run] = {
        "stateful eager": lambda: nn.functional.dropout(x, sizes.RATE),
        "stateful compiled": lambda: stateful_program(x),
        "funcreg eager": lambda: fr.noise.dropout(x, sizes.RATE, key=key),
        "funcreg jit": lambda: program(x, key),
    }
    return Workload(
        name="dropout",
        question=f"dropout of {sizes.DROPOUT}, from a key",
        contenders=contenders,
        targets={
            ("funcreg eager", "stateful eager"): 3.0,
            ("funcreg jit", "stateful eager"): 10.0,
            ("funcreg jit", "best JAX"): 3.0,
        },
    )


def mlp_step(device: torch.device) -> Workload:
    """A step that is mostly matrix products."""
    return step_workload(
        "mlp-step",
        "a step of an MLP 784-512-512-10, batch 128, dropout, Adam",
        lambda: stateful.mlp(sizes.MLP, sizes.RATE),
        classification((sizes.MLP_BATCH, sizes.MLP[0]), sizes.MLP[-1], device),
        targets={
            ("funcreg eager", "stateful eager"): 1 / 1.3,
            ("funcreg jit", "stateful eager"): 2.3,
            ("funcreg jit", "best JAX"): 1.5,
        },
    )


def toy_step(device: torch.device) -> Workload:
    """A step that is mostly overhead."""
    return step_workload(
        "toy-step",
        "a step of an MLP 2-32-32-2, 140 points, dropout, Adam",
        lambda: stateful.mlp(sizes.TOY, sizes.RATE),
        classification((sizes.TOY_BATCH, sizes.TOY[0]), sizes.TOY[-1], device),
        targets={
            ("funcreg eager", "stateful eager"): 1 / 2.5,
            ("funcreg jit", "stateful eager"): 4.0,
            ("funcreg jit", "best JAX"): 1.5,
        },
    )


def toy_sweep(device: torch.device) -> Workload:
    """Many small models as one program."""
    targets = {("funcreg fit", "stateful eager"): 35.0, ("funcreg fit", "best JAX"): 2.5}
    batch = classification((sizes.TOY_BATCH, sizes.TOY[0]), sizes.TOY[-1], device)
    return _sweep("toy-sweep", sizes.TOY, batch, sizes.TOY_MEMBERS, targets)


def mlp_sweep(device: torch.device) -> Workload:
    """Models large enough to keep the machine busy alone: nothing is to be lost."""
    targets = {("funcreg fit", "plain torch"): 1.0, ("funcreg fit", "JAX vmap"): 1.3}
    batch = classification((sizes.MLP_BATCH, sizes.MLP[0]), sizes.MLP[-1], device)
    return _sweep("mlp-sweep", sizes.MLP, batch, sizes.MLP_MEMBERS, targets)


def _sweep(
    name: str, widths: tuple[int, ...], batch: fr.train.Batch, members: int, targets: dict[tuple[str, str], float]
) -> Workload:
    device = batch.x.device
    hparams = pure.swept(members, device)
    modules = [stock.with_own_dropout(stateful.mlp(widths, sizes.RATE)).to(device) for _ in range(members)]
    make: Callable[[], nn.Module] = lambda: stateful.mlp(widths, sizes.RATE)  # noqa: E731
    contenders = {
        "stateful eager": stateful.sweep(widths, batch, members),
        "stateful compiled": stateful.sweep(widths, batch, members, stateful.compiled_loss()),
        "torch.func vmap": stock.members_step(modules, batch, hparams, jit=False),
        "torch.func compiled": stock.members_step(modules, batch, hparams, jit=True),
        "funcreg vmap": pure.members_step(make, batch, hparams, members, jit=False),
        "funcreg jit": pure.members_step(make, batch, hparams, members, jit=True),
        "funcreg fit": pure.chunked_step(make, batch, hparams, members, jit=True),
    }
    shape = "-".join(map(str, widths))
    return Workload(
        name=name,
        question=f"a step of {members} MLPs {shape}, each with its own rate, decay and learning rate",
        contenders=contenders,
        targets=targets,
    )


def monte_carlo(device: torch.device, size: int = 100) -> Workload:
    """Many noisy forward passes of one network."""
    module = stateful.mlp(sizes.MLP, sizes.RATE).to(device).train()
    x = classification((size, sizes.MLP[0]), sizes.MLP[-1], device).x
    contenders = {
        "stateful eager": stateful.monte_carlo(module, x, sizes.SAMPLES),
        "stateful compiled": stateful.monte_carlo(stateful.compiled(module), x, sizes.SAMPLES),
        "torch.func vmap": stock.monte_carlo(module, x, sizes.SAMPLES, jit=False),
        "torch.func compiled": stock.monte_carlo(module, x, sizes.SAMPLES, jit=True),
        "funcreg vmap": pure.monte_carlo(module, x, sizes.SAMPLES, jit=False),
        "funcreg jit": pure.monte_carlo(module, x, sizes.SAMPLES, jit=True),
        "matrix products at once": stateful.matrix_products(sizes.MLP, x, sizes.SAMPLES, at_once=True),
        "matrix products in turn": stateful.matrix_products(sizes.MLP, x, sizes.SAMPLES, at_once=False),
    }
    targets = {("funcreg jit", "stateful eager"): 5.0, ("funcreg jit", "best JAX"): 2.0}
    if size == 1000:
        targets |= {("funcreg jit", "best JAX"): 1.0, ("funcreg jit", "matrix products"): 1 / 1.4}
    return Workload(
        name="monte-carlo" if size == 100 else f"monte-carlo-{size}",
        question=f"MC dropout of an MLP 784-512-512-10, batch {size}, {sizes.SAMPLES} samples",
        contenders=contenders,
        targets=targets,
    )


def with_memory_kept(
    workload: Callable[[torch.device], Workload], targets: dict[tuple[str, str], float], device: torch.device
) -> Workload:
    """The same while the C library keeps what is freed: from here to the end of the process, for torch alone."""
    fr.keep_memory()
    same = workload(device)
    return replace(same, name=f"{same.name}-kept", question=f"{same.question}, memory kept", targets=targets)


WORKLOADS: dict[str, Callable[[torch.device], Workload]] = {
    "dropout": dropout,
    "apply": calls.apply,
    **calls.CALLS,
    "toy-step": toy_step,
    "toy-sweep": toy_sweep,
    "mlp-step": mlp_step,
    "mlp-sweep": mlp_sweep,
    "monte-carlo": monte_carlo,
    "monte-carlo-1000": functools.partial(monte_carlo, size=1000),
    "head-monte-carlo": everyday.head_monte_carlo,
    "open-step": everyday.open_step,
    "middle-sweep": everyday.middle_sweep,
    "middle-sweep-200": functools.partial(everyday.middle_sweep, widths=sizes.NARROW, members=sizes.NARROW_MEMBERS),
    "augmentation": regularizers.augmentation,
    "rand-augment": regularizers.rand_augment,
    "sam-step": regularizers.sam_step,
    "spectral-step": regularizers.spectral_step,
    "ensemble": regularizers.ensemble,
    "fit-source": fits.from_source,
    "fit-step": fits.small_steps,
}
if platform.libc_ver()[0] == "glibc":  # last, since what comes after them in a process has its memory kept too
    WORKLOADS["toy-step-kept"] = functools.partial(with_memory_kept, toy_step, {})
    WORKLOADS["mlp-step-kept"] = functools.partial(with_memory_kept, mlp_step, {("funcreg jit", "best JAX"): 1.0})
