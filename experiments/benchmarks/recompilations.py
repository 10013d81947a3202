"""How many programs `fr.jit` makes of idioms of which compilers like to make two."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import funcreg as fr

CALLS = 4


def counted() -> dict[str, int]:
    """Of each idiom, the programs that so many calls made."""
    return {idiom: programs() for idiom, programs in IDIOMS.items()}


def _steps(optimizer: Any, *, sizes: tuple[int, ...] = (8,) * CALLS, rates: tuple[float, ...] = (1.0,) * CALLS) -> int:
    """Of a training step, on batches of these sizes, the learning rate multiplied by these."""
    model = fr.from_module(lambda: nn.Linear(2, 2))

    def loss_fn(params: Any, state: Any, batch: Any, *, key: Any, hparams: Any) -> Any:
        logits, state = model.apply(params, state, batch.x)
        return hparams * fr.losses.cross_entropy(logits, batch.y), (state, {})

    key = fr.random.key(0)
    train_state = fr.train.init(*model.init(key), optimizer, key=key)
    step = fr.jit(fr.train.make_step(loss_fn, optimizer))
    for size, rate in zip(sizes, rates, strict=True):
        batch = fr.train.Batch(torch.ones(size, 2), torch.zeros(size, dtype=torch.long))
        train_state, _ = step(train_state, batch, rate)
    return step.compilations


def _carried_key() -> int:
    @fr.jit
    def draw(key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        key, sub = fr.random.split(key)
        return key, fr.random.normal(sub, (8,))

    key = fr.random.key(0)
    for _ in range(CALLS):
        key, _ = draw(key)
    return draw.compilations


IDIOMS: dict[str, Callable[[], int]] = {
    "adam": lambda: _steps(fr.optim.adam(0.01)),
    "accumulate(adam)": lambda: _steps(fr.transforms.accumulate(fr.optim.adam(0.01), 2)),
    "skip_nonfinite(adam)": lambda: _steps(fr.transforms.skip_nonfinite(fr.optim.adam(0.01))),
    "a number that changes": lambda: _steps(fr.optim.adam(0.01), rates=(1.0, 2.0, 3.0, 4.0)),
    "a key carried through split": _carried_key,
    "a smaller last batch": lambda: _steps(fr.optim.adam(0.01), sizes=(8, 8, 8, 4)),
}
