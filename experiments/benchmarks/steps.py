"""Training steps as workloads: the same module trained statefully, by stock `torch.func`, and by funcreg."""

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from funcreg.train import Batch

from . import pure, sizes, stateful, stock
from .measure import Run, Workload


def step_workload(
    name: str,
    question: str,
    make: Callable[[], nn.Module],
    batch: Batch,
    *,
    targets: dict[tuple[str, str], float],
    stateful_step: Callable[..., Run] = stateful.training_step,
    radius: float | None = None,
    wrap: Callable[[Any], Any] = lambda loss_fn: loss_fn,
    stocked: bool = True,
) -> Workload:
    """One network: a step of Adam of each kind.

    Args:
        stateful_step: another than the ordinary one, with what makes it so in `radius` and `wrap` for the others.
        stocked: whether stock `torch.func` can do it.
    """

    def module() -> nn.Module:
        return make().to(batch.x.device)

    step = functools.partial(
        stateful_step, x=batch.x, y=batch.y, lr=sizes.SETTINGS["lr"], decay=sizes.SETTINGS["decay"]
    )
    contenders = {
        "stateful eager": step(module()),
        "stateful compiled": step(module(), forward=stateful.compiled_loss()),
        "torch.func eager": stock.step(module(), batch, jit=False, radius=radius),
        "torch.func compiled": stock.step(module(), batch, jit=True, radius=radius),
        "funcreg eager": pure.step(make, batch, jit=False, wrap=wrap),
        "funcreg jit": pure.step(make, batch, jit=True, wrap=wrap),
    }
    if not stocked:
        contenders = {name: run for name, run in contenders.items() if not name.startswith("torch.func")}
    return Workload(
        name=name,
        question=question,
        contenders=contenders,
        targets=targets,
    )
