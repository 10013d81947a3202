"""What a fit tells: each epoch, its end, and a file of either."""

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from .. import _checks, checkpoint
from . import resume
from .feed import Place
from .run import Run
from .step import Metrics, TrainState
from .stopping import early_stopping
from .structure import rebuilt


class Epoch(NamedTuple):
    """What `on_epoch` is called with.

    `number`: counts from 1; `train_state`: after it, members that ended being frozen; `metrics`: its
    row of the history, name -> float64 () or (K,); `steps`: every step's own metrics, whoever ended,
    name -> float64 (steps,) or (steps, K); `history`: the rows of all epochs so far, those before
    a resume too. Numbers lie on the CPU.
    """

    number: int
    train_state: TrainState
    metrics: Metrics
    steps: Metrics
    history: tuple[Metrics, ...] = ()


class FitResult(NamedTuple):
    """What `fit` returns; epochs count from 1, and 0 means never.

    `train_state`: the last one; `history`: name -> float64 (epochs,), or (epochs, K) for members, on
    the CPU; `best`: the train state after `best_epoch`, by the monitored metric, from which training
    can go on, and of which `train.variables(best)` was evaluated; `stopped_epoch`, `diverged_epoch`: when
    training ended early; `interrupted`: whether Ctrl-C ended it; `chunk_size`: members that a step took
    at a time, 1 for one model. The epochs are integers, or int64 (K,) for members.
    """

    train_state: TrainState
    history: dict[str, Tensor]
    best: TrainState
    best_epoch: Any
    stopped_epoch: Any
    diverged_epoch: Any
    interrupted: bool
    chunk_size: int = 1


def result_of(run: Run, last: TrainState, interrupted: bool, size: int) -> FitResult:
    """The result of a run whose last train state, which may be of the middle of an epoch, is `last`."""
    epochs = (run.best_epoch, run.stopped_epoch, run.diverged_epoch)
    best, stopped, diverged = epochs if run.active.ndim else (int(epoch) for epoch in epochs)
    return FitResult(last, resume.history(run), run.best, best, stopped, diverged, interrupted, size)


def load(path: str | Path) -> FitResult:
    """The result of a fit from its checkpoint, without the data, the model or the step.

    Its `best` is the train state after the best epoch, with `.params` and `.state`; its `train_state`
    that of the last epoch, from which another `fit` can go on.

    Args:
        path: the `checkpoint` that `fit` was given.

    Returns:
        A FitResult, on the CPU; interrupted says whether the run had been when it was written last.

    Raises:
        FuncregError: when the file is missing, damaged or not of a fit, or holds NamedTuples of a
            module that is not imported.

    >>> import tempfile, torch
    >>> from funcreg import optim, random, train
    >>> def loss_fn(params, state, batch, *, key, hparams):
    ...     return ((params["w"] * batch.x - batch.y) ** 2).mean(), (state, {})
    >>> begin = train.init({"w": torch.zeros(())}, {}, optim.sgd(0.1), key=random.key(0))
    >>> path = Path(tempfile.mkdtemp()) / "run"
    >>> result = train.fit(train.make_step(loss_fn, optim.sgd(0.1)), begin, train.Batch(torch.ones(4), torch.ones(4)),
    ...                    key=random.key(1), epochs=3, jit=False, checkpoint=path)
    >>> load(path).best.params, load(path).best_epoch
    ({'w': tensor(0.4880)}, 3)
    """
    metadata = resume.read_metadata(path)
    if metadata["structure"] is None:
        got = f"{path}, whose train state has containers of other kinds than dicts, tuples and lists"
        _checks.fail("path", got, "one of these alone", "Call fit with the same arguments: it gives the result back.")
    leaves = checkpoint.read_leaves(path)
    last, best = (rebuilt(metadata["structure"], leaves.__getitem__, name) for name in ("train_state", "best"))
    ended = leaves["stopped_epoch"]
    stopping = early_stopping(1).init(*ended.shape)
    like = Run(last, best, ended, ended, ended, stopping, 0, (), Place())
    run = resume.restored(path, like, metadata)
    return result_of(run, run.train_state, metadata["interrupted"], metadata["chunk_size"])
