"""Workloads of single regularizers: augmentation, sharpness, spectral norm, ensembles of networks with batch norm."""

import functools
from collections.abc import Sequence

import torch
from torch.func import vmap

import funcreg as fr

from . import stateful
from .measure import Run, Workload, timed_first_call
from .steps import MLP, SETTINGS, advance, classification, functional_step, step_workload

IMAGES = 512
DISCRIMINATOR = (2, 128, 128, 128, 2)
RADIUS = 0.05
NETWORKS = 8


def augmentation() -> Workload:
    """Flips, crops, rotations and colours of a batch; each image has its own draw, but in "per batch"."""
    images = fr.random.randint(fr.random.key(0), (IMAGES, 3, 32, 32), 0, 256).to(torch.uint8)
    key, theirs = fr.random.key(1), stateful.augmentation()
    ours = fr.augment.compose(
        fr.augment.flip,
        functools.partial(fr.augment.crop, padding=4),
        functools.partial(fr.augment.rotate, degrees=15.0),
        functools.partial(fr.augment.color_jitter, brightness=0.4, contrast=0.4, saturation=0.4),
    )
    compiled = fr.jit(ours)
    return Workload(
        name="augmentation",
        question=f"flip, crop, rotate and jitter the colours of {IMAGES} images, uint8 (3, 32, 32)",
        contenders={
            "per image": lambda: torch.stack([theirs(image) for image in images]),
            "per batch": lambda: theirs(images),
            "eager": lambda: ours(images, key=key),
            "jit": lambda: compiled(images, key=key),
        },
        targets={"eager": 10.0, "jit": 20.0},
        compile_seconds={"jit": timed_first_call(lambda: compiled(images, key=key))},
    )


def sam_step() -> Workload:
    """Two gradients a step."""
    return step_workload(
        "sam-step",
        "a SAM step of an MLP 784-512-512-10, batch 128, dropout, Adam",
        lambda: stateful.mlp(MLP, 0.5),
        classification((128, MLP[0]), MLP[-1]),
        targets={"eager": 1.0, "jit": 2.0},
        stateful_step=functools.partial(stateful.sharpness_aware_step, radius=RADIUS),
        wrap=lambda loss_fn: fr.sharpness.sam(loss_fn, RADIUS),
    )


def spectral_step() -> Workload:
    """A small discriminator, every weight divided by an estimate of its norm."""
    return step_workload(
        "spectral-step",
        "a step of an MLP 2-128-128-128-2, batch 256, every layer spectrally normalised, Adam",
        lambda: stateful.discriminator(DISCRIMINATOR),
        classification((256, DISCRIMINATOR[0]), DISCRIMINATOR[-1]),
        targets={"eager": 1.0, "jit": 2.0},
    )


def ensemble() -> Workload:
    """Convolutions gain nothing from vmap on a CPU, which makes grouped ones of them: one member after the other."""

    def make() -> torch.nn.Module:
        return stateful.convolutional((3, 16, 32, 64), 10)

    batch = classification((64, 3, 32, 32), 10)
    modules = [make() for _ in range(NETWORKS)]
    steps = [
        stateful.training_step(module, batch.x, batch.y, lr=SETTINGS["lr"], decay=SETTINGS["decay"])
        for module in modules
    ]
    hparams = {name: torch.full((NETWORKS,), value) for name, value in SETTINGS.items()}
    step, members = functional_step(make, hparams, members=NETWORKS)
    one_by_one = fr.tree.unstack(members)
    single = fr.tree.map(torch.tensor, SETTINGS)
    compiled, together = fr.jit(step), vmap(step, in_dims=(0, None, 0))
    compiled_together = fr.jit(together)
    compile_seconds = {
        "jit": timed_first_call(torch.no_grad()(lambda: compiled(one_by_one[0], batch, single))),
        "jit(vmap)": timed_first_call(torch.no_grad()(lambda: compiled_together(members, batch, hparams))),
    }
    return Workload(
        name="ensemble",
        question=f"a step of {NETWORKS} CNNs 3-16-32-64 with batch norm, batch 64 of (3, 32, 32), Adam",
        contenders={
            "one by one": _in_turn(steps),
            "eager": _in_turn([advance(step, member, batch, SETTINGS) for member in one_by_one]),
            "jit": _in_turn([advance(compiled, member, batch, single) for member in one_by_one]),
            "vmap": advance(together, members, batch, hparams),
            "jit(vmap)": advance(compiled_together, members, batch, hparams),
        },
        targets={"eager": 1.0, "jit": 2.0},
        compile_seconds=compile_seconds,
    )


def _in_turn(runs: Sequence[Run]) -> Run:
    return lambda: [run() for run in runs]
