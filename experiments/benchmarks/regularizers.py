"""Workloads of single regularizers: augmentation, sharpness, spectral norm, ensembles of networks with batch norm."""

import functools
import importlib.util
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import vmap
from torchvision.transforms import v2

import funcreg as fr

from . import pure, sizes, stateful, stock
from .measure import Run, Workload, advance
from .pure import classification
from .steps import step_workload

IMAGES = 512


def augmentation(device: torch.device) -> Workload:
    """Flips, crops, rotations and colours of a batch; each image has its own draw, but in "stateful batch".

    torchvision's transforms draw once a call, and JAX and optax have none: no contender of theirs.
    """
    images, key = _bytes(device), fr.random.key(1, device=device)
    theirs = v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomCrop(32, padding=4),
            v2.RandomRotation([-15.0, 15.0], v2.InterpolationMode.BILINEAR),
            v2.ColorJitter(0.4, 0.4, 0.4),
        ]
    )
    ours = fr.augment.compose(
        fr.augment.flip,
        functools.partial(fr.augment.crop, padding=4),
        functools.partial(fr.augment.rotate, degrees=15.0),
        functools.partial(fr.augment.color_jitter, brightness=0.4, contrast=0.4, saturation=0.4),
    )
    program = fr.jit(ours)
    contenders: dict[str, Run] = {
        "stateful images": lambda: torch.stack([theirs(image) for image in images]),
        "stateful batch": lambda: theirs(images),
        "funcreg eager": lambda: ours(images, key=key),
        "funcreg jit": lambda: program(images, key=key),
    }
    return Workload(
        name="augmentation",
        question=f"flip, crop, rotate and jitter the colours of {IMAGES} images, uint8 (3, 32, 32)",
        contenders=contenders,
        targets={("funcreg eager", "stateful images"): 10.0, ("funcreg jit", "stateful images"): 20.0},
    )


def rand_augment(device: torch.device) -> Workload:
    """Two operations of each image's own; but of kornia's batch all images have the same two.

    kornia's are of floating-point images, and take part where it is installed.
    """
    images, key = _bytes(device), fr.random.key(1, device=device)
    theirs, program = v2.RandAugment(), fr.jit(fr.augment.rand_augment)
    contenders: dict[str, Run] = {"stateful images": lambda: torch.stack([theirs(image) for image in images])}
    if importlib.util.find_spec("kornia") is not None:
        from kornia.augmentation.auto import RandAugment  # pyright: ignore[reportMissingImports]  (it may be absent)

        kornias, shares = RandAugment(n=2, m=9), images / 255
        contenders |= {
            "kornia images": lambda: torch.cat([kornias(image) for image in shares.split(1)]),
            "kornia batch": lambda: kornias(shares),
        }
    contenders |= {
        "funcreg eager": lambda: fr.augment.rand_augment(images, key=key),
        "funcreg jit": lambda: program(images, key=key),
    }
    return Workload(
        name="rand-augment",
        question=f"RandAugment of {IMAGES} images, uint8 (3, 32, 32)",
        contenders=contenders,
        targets={("funcreg eager", "stateful images"): 10.0},
    )


def _bytes(device: torch.device) -> Tensor:
    """Images of the size of CIFAR-10's."""
    return fr.random.randint(fr.random.key(0, device=device), (IMAGES, 3, 32, 32), 0, 256).to(torch.uint8)


def sam_step(device: torch.device) -> Workload:
    """Two gradients a step."""
    return step_workload(
        "sam-step",
        "a SAM step of an MLP 784-512-512-10, batch 128, dropout, Adam",
        lambda: stateful.mlp(sizes.MLP, sizes.RATE),
        classification((sizes.MLP_BATCH, sizes.MLP[0]), sizes.MLP[-1], device),
        targets={("funcreg eager", "stateful eager"): 1.0, ("funcreg jit", "stateful eager"): 2.0},
        stateful_step=functools.partial(stateful.sharpness_aware_step, radius=sizes.RADIUS),
        radius=sizes.RADIUS,
        wrap=lambda loss_fn: fr.sharpness.sam(loss_fn, sizes.RADIUS),
    )


def spectral_step(device: torch.device) -> Workload:
    """A small discriminator, every weight divided by an estimate of its norm.

    Stock `torch.func` has no contender: the layer's power step writes into buffers, which it cannot hand back.
    """
    return step_workload(
        "spectral-step",
        "a step of an MLP 2-128-128-128-2, batch 256, every layer spectrally normalised, Adam",
        lambda: stateful.discriminator(sizes.DISCRIMINATOR),
        classification((sizes.DISCRIMINATOR_BATCH, sizes.DISCRIMINATOR[0]), sizes.DISCRIMINATOR[-1], device),
        targets={("funcreg eager", "stateful eager"): 1.0, ("funcreg jit", "stateful eager"): 2.0},
        stocked=False,
    )


def ensemble(device: torch.device) -> Workload:
    """Convolutions gain nothing from vmap on a CPU, which makes grouped ones of them: one member after the other."""

    def make() -> nn.Sequential:
        return stateful.convolutional(sizes.CHANNELS, sizes.CLASSES)

    def trained(forward: Callable[..., Tensor] | None = None) -> Run:
        lr, decay = sizes.SETTINGS["lr"], sizes.SETTINGS["decay"]
        modules = [make().to(device) for _ in range(sizes.NETWORKS)]
        return _in_turn(
            [stateful.training_step(m, batch.x, batch.y, lr=lr, decay=decay, forward=forward) for m in modules]
        )

    batch = classification((sizes.NETWORKS_BATCH, *sizes.IMAGE), sizes.CLASSES, device)
    settings = {name: torch.full((sizes.NETWORKS,), value, device=device) for name, value in sizes.SETTINGS.items()}
    step, members = pure.functional_step(make, settings, members=sizes.NETWORKS, device=device)
    one_by_one = fr.tree.unstack(members)
    single = fr.tree.map(lambda value: torch.tensor(value, device=device), sizes.SETTINGS)
    program, together = fr.jit(step), vmap(step, in_dims=(0, None, 0))
    stocked = [stock.without_running_statistics(make()).to(device) for _ in range(sizes.NETWORKS)]
    contenders = {
        "stateful eager": trained(),
        "stateful compiled": trained(stateful.compiled_loss()),
        "torch.func vmap": stock.members_step(stocked, batch, settings, jit=False),
        "torch.func compiled": stock.members_step(stocked, batch, settings, jit=True),
        "funcreg eager": _in_turn([advance(step, member, batch, sizes.SETTINGS) for member in one_by_one]),
        "funcreg jit": _in_turn([advance(program, member, batch, single) for member in one_by_one]),
        "funcreg vmap": advance(together, members, batch, settings),
        "funcreg vmap, jit": advance(fr.jit(together), members, batch, settings),
    }
    return Workload(
        name="ensemble",
        question=f"a step of {sizes.NETWORKS} CNNs 3-16-32-64 with batch norm, batch 64 of (3, 32, 32), Adam",
        contenders=contenders,
        targets={
            ("funcreg eager", "stateful eager"): 1.0,
            ("funcreg jit", "stateful eager"): 1.0,
            ("funcreg jit", "best JAX"): 1.0,
        },
    )


def _in_turn(runs: Sequence[Run]) -> Run:
    return lambda: [run() for run in runs]
