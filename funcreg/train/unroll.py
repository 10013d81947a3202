"""A run of steps as one pure function, to differentiate through training."""

from typing import Any

from .. import _checks, tree
from ..tree.stacking import members_of
from .step import Metrics, Step, TrainState


def unroll(step: Step, train_state: TrainState, batches: tree.Tree, hparams: Any = None) -> tuple[TrainState, Metrics]:
    """One step after the other, differentiable in whatever goes in: hyperparameters, start, data.

    `torch.func.grad` of a validation loss after it is a hypergradient. It keeps what each step
    computed, so memory grows with the steps. Compiled, every step is a part of the program.

    Args:
        step: (train_state, batch, hparams) -> (train_state, metrics), from `make_step`.
        train_state: from `init`.
        batches: a tree of tensors with a leading axis T, the step: (T, N, ...).
        hparams: handed to each step. Those to differentiate are tensors.

    Returns:
        (train_state, metrics): after the last step, and every metric of each step, (T,).

    Raises:
        FuncregError: when step cannot be called, or the leaves of batches do not share an axis.

    >>> import torch
    >>> from funcreg import optim, random, train
    >>> def loss_fn(params, state, batch, *, key, hparams):
    ...     return ((params["w"] - batch) ** 2).mean(), (state, {})
    >>> optimizer = lambda hparams: optim.sgd(hparams["lr"])
    >>> step = train.make_step(loss_fn, optimizer)
    >>> start = train.init({"w": torch.ones(())}, {}, optim.sgd(0.1), key=random.key(0))
    >>> def validation(lr):
    ...     return unroll(step, start, torch.zeros(2, 4), {"lr": lr})[0].params["w"]
    >>> torch.func.grad_and_value(validation)(torch.tensor(0.25))  # (1 - 2 lr)**2
    (tensor(-2.), tensor(0.2500))

    Maclaurin, Duvenaud and Adams, "Gradient-based hyperparameter optimization through reversible
    learning", ICML 2015.
    """
    _checks.check_callable("step", step, "a function (train_state, batch, hparams), from make_step")
    records: list[Metrics] = []
    if not members_of("batches", batches):
        _checks.fail("batches", "none", "a leading axis of at least one step")
    for batch in (tree.index(batches, place) for place in range(members_of("batches", batches))):
        train_state, metrics = step(train_state, batch, hparams)
        records.append(metrics)
    return train_state, tree.stack(records)
