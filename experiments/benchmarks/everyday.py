"""Where users meet speed: Monte Carlo with the noise in the head alone, a step that nobody put into `no_grad`, and
sweeps of models that are neither small nor large.
"""

import torch
import torchvision
from torch import nn

from . import pure, sizes, stateful
from .measure import Run, Workload

HEAD = (16, 3, 64, 64)
HEAD_SAMPLES = 50


def head_monte_carlo(device: torch.device) -> Workload:
    """The trunk once, by hand and by default."""
    *trunk, head = torchvision.models.resnet18(num_classes=sizes.CLASSES).to(device).eval().children()
    trunk, head = nn.Sequential(*trunk, nn.Flatten()), nn.Sequential(nn.Dropout(sizes.RATE), head)
    module = nn.Sequential(trunk, head)
    x = pure.classification(HEAD, sizes.CLASSES, device).x

    @torch.no_grad()
    def by_hand() -> object:
        return stateful.monte_carlo(head, trunk(x), HEAD_SAMPLES)()

    chunks = {f"funcreg eager, chunks of {size}": size for size in (1, 7)}
    contenders: dict[str, Run] = {
        "stateful eager": by_hand,
        "stateful, the trunk for each sample": stateful.monte_carlo(module, x, HEAD_SAMPLES),
        "funcreg eager": pure.monte_carlo(module, x, HEAD_SAMPLES, jit=False),
        **{
            name: pure.monte_carlo(module, x, HEAD_SAMPLES, jit=False, chunk_size=size) for name, size in chunks.items()
        },
    }
    return Workload(
        name="head-monte-carlo",
        question=f"MC dropout of a ResNet-18 with noise in its head alone, {HEAD}, {HEAD_SAMPLES} samples",
        contenders=contenders,
        targets={("funcreg eager", "stateful eager"): 1 / 1.1},
    )


def open_step(device: torch.device) -> Workload:
    """The same step inside of `torch.no_grad()` and outside, where no argument asks for gradients."""

    def make() -> nn.Sequential:
        return stateful.convolutional(sizes.CHANNELS, sizes.CLASSES)

    batch = pure.classification((sizes.NETWORKS_BATCH, *sizes.IMAGE), sizes.CLASSES, device)
    step, first = pure.functional_step(make, sizes.SETTINGS, device=device)

    def outside() -> object:
        return step(first, batch, sizes.SETTINGS)

    return Workload(
        name="open-step",
        question="an eager step of a CNN 3-16-32-64, outside of torch.no_grad()",
        contenders={"inside of no_grad": torch.no_grad()(outside), "funcreg eager": outside},
        targets={("funcreg eager", "inside of no_grad"): 1 / 1.05},
    )


def middle_sweep(
    device: torch.device, widths: tuple[int, ...] = sizes.MIDDLE, members: int = sizes.MIDDLE_MEMBERS
) -> Workload:
    """Eagerly, `vmap` is to lose nothing against a loop, neither of plain PyTorch nor of the same step."""
    batch, hparams = pure.classification((sizes.MLP_BATCH, widths[0]), widths[-1], device), pure.swept(members, device)

    def make() -> nn.Sequential:
        return stateful.mlp(widths, sizes.RATE)

    by_hand = "a loop of the same step"
    contenders = {
        "stateful eager": stateful.sweep(widths, batch, members),
        by_hand: pure.looped_step(make, batch, hparams, members),
        "funcreg vmap": pure.members_step(make, batch, hparams, members, jit=False),
        "funcreg fit, eager": pure.chunked_step(make, batch, hparams, members, jit=False),
        "funcreg fit": pure.chunked_step(make, batch, hparams, members, jit=True),
    }
    shape = "-".join(map(str, widths))
    return Workload(
        name="middle-sweep" if members == sizes.MIDDLE_MEMBERS else f"middle-sweep-{members}",
        question=f"a step of {members} MLPs {shape}, each with its own rate, decay and learning rate",
        contenders=contenders,
        targets={("funcreg fit, eager", against): 1 / 1.1 for against in ("stateful eager", by_hand)},
    )
