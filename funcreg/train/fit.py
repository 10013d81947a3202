"""The training loop: Python around one compiled step, for one model or K members side by side."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .. import _checks, tree
from . import console, resume
from .alone import Alone
from .chunk_size import FEW, quickest
from .chunks import Chunks
from .program import dense, program_of
from .run import Run, Variables, advance, choose, start
from .shuffling import shuffled
from .step import Metrics, Step, TrainState, as_hparams, check_members
from .stopping import EarlyStopping


class Epoch(NamedTuple):
    """What `on_epoch` is called with.

    `number`: counts from 1; `train_state`: after it, members that ended being frozen; `metrics`: its
    row of the history, name -> float64 () or (K,); `steps`: every step's own metrics, whoever ended,
    name -> float64 (steps,) or (steps, K). Numbers lie on the CPU.
    """

    number: int
    train_state: TrainState
    metrics: Metrics
    steps: Metrics


class FitResult(NamedTuple):
    """What `fit` returns; epochs count from 1, and 0 means never.

    `train_state`: the last one; `history`: name -> float64 (epochs,), or (epochs, K) for members, on
    the CPU; `best`: (params, state) at `best_epoch`, by the monitored metric, which without early
    stopping is the last epoch; `stopped_epoch`, `diverged_epoch`: when training ended early;
    `interrupted`: whether Ctrl-C ended it; `chunk_size`: members that a step took at a time, 1 for one
    model. The epochs are integers, or int64 (K,) for members.
    """

    train_state: TrainState
    history: dict[str, Tensor]
    best: Variables
    best_epoch: Any
    stopped_epoch: Any
    diverged_epoch: Any
    interrupted: bool
    chunk_size: int = 1


@torch.no_grad()
def fit(
    step: Step,
    train_state: TrainState,
    data: tree.Tree,
    *,
    key: Tensor,
    epochs: int,
    batch_size: int | None = None,
    hparams: Any = None,
    members: int | None = None,
    batches: str = "shared",
    chunk_size: int | Literal["auto"] = "auto",
    jit: bool = True,
    evaluate: Callable[[Any, Any], Metrics] | None = None,
    early_stopping: EarlyStopping | None = None,
    monitor: str = "loss",
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 1,
    on_epoch: Callable[[Epoch], object] | None = None,
    progress: bool | None = None,
    processes: Alone | None = None,
) -> FitResult:
    """Train for some epochs.

    Each epoch takes the samples in a new order, `random.permutation(fold_in(key, epoch), n)`, epoch
    counting from 0, in batches of one size; a last smaller batch is left out. A batch of all samples
    keeps their order. History has the mean of every metric over the steps of each epoch.

    With members=K every leaf of train_state and hparams has a leading axis of K, and the K models
    train as K calls would, each with its own. A member that stops, or diverges (with a
    `DivergenceWarning`), is frozen from then on and its history repeats its last values; one that
    diverges is put back to the end of the epoch before. The one model of a fit without members that
    diverges is an error.

    Args:
        step: (train_state, batch, hparams) -> (train_state, metrics), from `make_step`.
        train_state: from `init`.
        data: a tree of tensors with a shared first axis, the sample: usually `Batch(x, y)`. Batches
            are moved to the parameters' device.
        key: int64 (2,), which shuffles; other than train_state's.
        epochs: at least 1.
        batch_size: samples a step. Default, and where it exceeds the data: all.
        hparams: a tree of numbers or tensors, handed to step as tensors.
        members: K models. Default: one.
        batches: "shared": all members see the same batches, those of a single run with this key;
            "own": member i shuffles by `random.split(key, members)[i]`.
        chunk_size: members that a step takes at a time, one chunk after the other: memory for the
            work on so many, and for everyone's state; K or more: all at once. The numbers are the
            same, to rounding where a kernel of torch's depends on how many it computes (on a CPU
            sigmoid does, at a tensor's end; tanh and matrix products do not). "auto" takes what is
            quickest: before the first epoch it times 1, 4, 16, ... and all members, on the first batch
            and not compiled, which costs about as much as five steps, and picks all, or a chunk that
            is clearly quicker. A fit of fewer than 32 steps takes all. What was picked is in the
            result and in the checkpoint; pass it where another run must have the same bits.
        jit: compile the step, once, whatever the hyperparameters.
        evaluate: (params, state) -> name -> tensor () or (K,), after each epoch; see `make_evaluate`.
        early_stopping: from `early_stopping`.
        monitor: the metric that it watches, a step's or evaluate's.
        checkpoint: a file that keeps the run; where it exists, the run goes on from it and ends with
            the same bits as one that was never interrupted. Needs the same arguments; epochs and
            chunk_size may be others, and chunk_size "auto" is the one that the run began with.
        checkpoint_every: epochs between two writes, the last always being written.
        on_epoch: called with an `Epoch` after each epoch, and after its checkpoint: to log, to draw,
            to look at the weights. What it returns is not used.
        progress: show a bar (needs tqdm). Default: when tqdm is there and stderr is a terminal.
        processes: others that train the same model, which `fr.distributed.fit` sees to. Default: none.

    Returns:
        A FitResult. After Ctrl-C its train_state is that of the last step made, its history that of
        the whole epochs, and so is the checkpoint.

    Raises:
        FuncregError: for bad arguments, a checkpoint of other arguments, or divergence.

    >>> from funcreg import optim, random, train
    >>> def loss_fn(params, state, batch, *, key, hparams):
    ...     return ((params["w"] * batch.x - batch.y) ** 2).mean(), (state, {})
    >>> optimizer = lambda hparams: optim.sgd(hparams["lr"])
    >>> hparams = {"lr": torch.tensor([0.1, 0.4])}
    >>> train_state = train.init({"w": torch.zeros(2)}, {}, optimizer, key=random.key(0), hparams=hparams, members=2)
    >>> data = train.Batch(torch.ones(8), torch.ones(8))
    >>> result = fit(train.make_step(loss_fn, optimizer), train_state, data, key=random.key(1), epochs=3,
    ...              batch_size=4, hparams=hparams, members=2, jit=False)
    >>> result.train_state.params["w"]
    tensor([0.7379, 0.9999])
    """
    samples, device = _check(step, train_state, data, key, epochs, early_stopping), train_state.step.device
    size = samples if batch_size is None else batch_size
    _checks.check_count("batch_size", size)
    _checks.check_count("checkpoint_every", checkpoint_every)
    size = min(size, samples)
    hparams = as_hparams(hparams, device)
    _check_members(members, batches, chunk_size, train_state, hparams)
    if on_epoch is not None:
        _checks.check_callable("on_epoch", on_epoch, "a function of an Epoch")
    own = members if batches == "own" and size < samples else None

    # Every step gets tensors alike in kind to those that a step returns: one compilation.
    train_state = tree.map(lambda leaf: dense(leaf.detach()), train_state)
    run = start(train_state, members, early_stopping)
    arguments: dict[str, Any] = {}
    if checkpoint is not None or processes is not None:
        arguments = {
            "batch_size": size,
            "members": members,
            "batches": batches,
            "monitor": monitor,
            "early_stopping": early_stopping is not None,
            "key": resume.fingerprint(key),
            "hparams": resume.fingerprint(hparams),
            "data": resume.fingerprint(data),
            "train_state": resume.fingerprint(train_state),
        }
    processes = Alone() if processes is None else processes
    run = processes.begin(checkpoint, run, arguments, epochs)
    saved = run.epoch

    at_once = None if isinstance(chunk_size, str) else chunk_size
    if at_once is None and members is not None:
        at_once = resume.chunk_size(checkpoint)
        if at_once is None and members > 1 and (epochs - run.epoch) * (samples // size) >= FEW:
            every = Chunks(members, None)
            batch = next(shuffled(data, key=key, epoch=run.epoch, size=size, own=own, chunks=every, device=device))
            at_once = quickest(step, run.train_state, batch, hparams, own=own is not None)
    chunks = Chunks(members, at_once)
    program = program_of(step, batched=members is not None, own=own is not None, bare=hparams is None, jit=jit)
    program, settings = chunks.over(program), chunks.split(hparams)
    last, interrupted = run.train_state, False
    done = run.epoch == epochs or not run.active.any()
    progress = progress if processes.leads else False
    with console.Progress(progress, run, epochs, samples // size) as bar, console.interruptible() as interrupt:
        while not (done or interrupted):
            last, records = chunks.split(run.train_state), []
            epoch = shuffled(data, key=key, epoch=run.epoch, size=size, own=own, chunks=chunks, device=device)
            for batch in epoch:
                last, metrics = program(last, batch, settings)
                records.append(metrics)
                bar.step()
                if processes.interrupted(interrupt.requested):
                    break
            last = chunks.join(last)
            if len(records) == samples // size:
                steps = {name: torch.stack([r[name] for r in records]).cpu().to(torch.float64) for name in records[0]}
                row = processes.row(_row(steps, evaluate, last, monitor))
                run = advance(run, last, row, stopping=early_stopping, monitor=monitor)
                bar.epoch(run)
                last = run.train_state
            else:
                steps, last = None, choose(run.active, last, run.train_state)
            done = run.epoch == epochs or not run.active.any()
            interrupted = processes.interrupted(interrupt.requested) and not done
            due = done or interrupted or run.epoch - saved >= checkpoint_every
            if checkpoint is not None and run.epoch > saved and due:
                if processes.leads:
                    resume.save(checkpoint, run, arguments, chunks.size)
                saved = run.epoch
            if on_epoch is not None and steps is not None:
                on_epoch(Epoch(run.epoch, run.train_state, run.history[-1], steps))
    return _result(run, last, interrupted, chunks.size)


def _check(
    step: Step, train_state: TrainState, data: tree.Tree, key: Tensor, epochs: int, stopping: EarlyStopping | None
) -> int:
    """How many samples there are, after checking what does not depend on members."""
    _checks.check_callable("step", step, "a function (train_state, batch, hparams), from make_step")
    if not isinstance(train_state, TrainState):
        _checks.fail("train_state", _checks.describe(train_state), "a TrainState", "Make one: fr.train.init.")
    _checks.check_key(key)
    _checks.check_count("epochs", epochs)
    if stopping is not None and not isinstance(stopping, EarlyStopping):
        remedy = "Make one: fr.train.early_stopping(patience)."
        _checks.fail("early_stopping", _checks.describe(stopping), "an EarlyStopping", remedy)
    if not tree.leaves(data):
        _checks.fail("data", "no tensors", "a tree of tensors with a shared first axis, such as Batch(x, y)")
    return tree.members(data)


def _check_members(members: int | None, batches: str, chunk_size: Any, train_state: TrainState, hparams: Any) -> None:
    _checks.check_choice("batches", batches, ("shared", "own"))
    _checks.check_chunk_size(chunk_size)
    if members is not None:
        _checks.check_count("members", members)
        check_members("train_state", train_state, members)
        check_members("hparams", hparams, members)
        return
    if train_state.step.ndim:
        remedy = f"Pass members={len(train_state.step)}."
        _checks.fail("members", None, "the length of the train state's leading axis", remedy)
    if batches == "own":
        _checks.fail("batches", "'own' for one model", "'shared'", "Pass members=K for K models.")


def _row(
    steps: Metrics, evaluate: Callable[[Any, Any], Metrics] | None, train_state: TrainState, monitor: str
) -> Metrics:
    """The metrics of an epoch, on the CPU in float64."""
    row = {name: values.mean(0) for name, values in steps.items()}
    evaluated = {} if evaluate is None else evaluate(train_state.params, train_state.state)
    if not isinstance(evaluated, dict):
        _checks.fail("evaluate", f"a return of {_checks.describe(evaluated)}", "a dict of name -> tensor")
    shape = train_state.step.shape
    for name, value in evaluated.items():
        if name in row:
            remedy = f"Call it {'val_' + name!r}."
            _checks.fail("evaluate", f"a metric {name!r}, as the step has", "other names than the step's", remedy)
        if not isinstance(value, Tensor) or value.shape != shape:
            _checks.fail(f"evaluate's {name!r}", _checks.describe(value), f"a tensor of shape {tuple(shape)}")
        row[name] = value.cpu().to(torch.float64)
    if monitor not in row:
        _checks.fail("monitor", repr(monitor), "one of " + ", ".join(map(repr, row)))
    return row


def _result(run: Run, last: TrainState, interrupted: bool, size: int) -> FitResult:
    epochs = (run.best_epoch, run.stopped_epoch, run.diverged_epoch)
    best, stopped, diverged = epochs if run.active.ndim else (int(epoch) for epoch in epochs)
    return FitResult(last, resume.history(run), run.best, best, stopped, diverged, interrupted, size)
