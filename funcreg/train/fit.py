"""The training loop: Python around one compiled step, for one model or K members side by side."""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from .. import _checks, tree
from . import arguments, console, resume
from .alone import Alone
from .arguments import Monitor
from .average import variables
from .chunk_size import FEW, quickest
from .chunks import Chunks
from .feed import Feed
from .first_call import looked_at
from .program import dense, program_of
from .result import Epoch, FitResult, result_of
from .run import Run, advance, choose, end, start
from .step import Metrics, Step, TrainState, as_hparams
from .stopping import EarlyStopping, selection


@torch.no_grad()
def fit(
    step: Step,
    train_state: TrainState,
    data: Any,
    *,
    key: Tensor,
    epochs: int,
    batch_size: int | None = None,
    epoch_steps: int | None = None,
    hparams: Any = None,
    members: int | None = None,
    batches: str = "shared",
    chunk_size: int | Literal["auto"] = "auto",
    jit: bool | Path = True,
    evaluate: Callable[[Any, Any], Metrics] | None = None,
    early_stopping: EarlyStopping | None = None,
    monitor: Monitor = "loss",
    mode: Literal["min", "max"] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 1,
    version: str | int | None = None,
    on_epoch: Callable[[Epoch], object] | None = None,
    progress: bool | None = None,
    processes: Alone | None = None,
) -> FitResult:
    """Train for some epochs.

    Data are tensors, or a source, which gives batches when it is iterated. Of tensors each pass takes
    the samples in a new order, `random.permutation(fold_in(key, number), n)`, the number counting from
    0, in batches of one size; a last smaller batch is left out. A batch of all samples keeps their
    order. A source is iterated once for each pass, under torch's, numpy's and Python's global
    generators, and its own, seeded by `fold_in(key, number)`, which are put back; so a DataLoader that
    shuffles, and workers that transform, draw from the key too. An epoch is a pass, or epoch_steps.
    History has the mean of every metric over the steps of each epoch.

    With members=K every leaf of train_state and hparams has a leading axis of K, and the K models
    train as K calls would, each with its own. A member that stops, or diverges (with a
    `DivergenceWarning`), is frozen from then on and its history repeats its last values; one that
    diverges is put back to the end of the epoch before. The one model of a fit without members that
    diverges is an error.

    Args:
        step: (train_state, batch, hparams) -> (train_state, metrics), from `make_step`.
        train_state: from `init`.
        data: a tree of tensors with a shared first axis, the sample, usually `Batch(x, y)`; numpy's
            arrays, and memory-mapped ones of either (`numpy.memmap`, `torch.from_file`), of which only
            the batches are read, are taken as they are. Or a source: what gives batches, trees of
            tensors, when it is iterated: `fr.train.loader`, a DataLoader, a list of batches, a generator
            function's object; a pair of tensors is a `Batch`. Where the step is compiled all batches have one
            shape, and a last smaller one is left out, with a warning. Batches are moved to the
            parameters' device.
        key: int64 (2,), which shuffles; other than train_state's. With batches="own" it may be a key each,
            (members, 2), such as `fr.sweep.paired_keys`.
        epochs: at least 1.
        batch_size: samples a step. Default, and where it exceeds the data: all. Not for a source.
        epoch_steps: steps of an epoch, over as many passes as it takes or within a long one; for sources
            that do not end, and for history, evaluation, checkpoints and on_epoch every so many steps.
            Default: those of a pass.
        hparams: a tree of numbers or tensors, handed to step as tensors.
        members: K models. Default: one.
        batches: "shared": all members see the same batches, those of a single run with this key;
            "own": member i shuffles by `random.split(key, members)[i]`, or by its own key.
        chunk_size: members that a step takes at a time, one chunk after the other: memory for the
            work on so many, and for everyone's state; K or more: all at once. The numbers are the
            same, to rounding where a kernel of torch's depends on how many it computes (on a CPU
            sigmoid does, at a tensor's end; tanh and matrix products do not). "auto" takes what is
            quickest: before the first epoch it times about 1, 4, 16, ... and all members, on the first batch
            and not compiled, which costs about as much as five steps, and picks all, or a chunk that
            is clearly quicker. A fit of fewer than 32 steps takes all. What was picked is in the
            result and in the checkpoint; pass it where another run must have the same bits.
        jit: compile the step, once, whatever the hyperparameters; a pathlib.Path is the folder in which
            programs are kept for later processes, as by `fr.jit`: give chunk_size then too, since what
            is measured may be another in the next process.
        evaluate: (params, state) -> name -> tensor () or (K,), after each epoch, of the average's where the
            step has one (`train.variables`); see `make_evaluate`.
        early_stopping: from `early_stopping`.
        monitor: the metric by which an epoch is the best, and which early stopping watches: a step's or
            evaluate's name, or a function of all (name -> float64 () or (K,)), whose value is the metric
            "monitor".
        mode: "min" when a lower one is better, "max" when a higher is. Default: early stopping's, or "min".
        checkpoint: a file that keeps the run; where it exists, the run goes on from it, which is printed,
            and ends with the same bits as one that was never interrupted. Needs the same arguments;
            epochs and chunk_size may be others, and chunk_size "auto" is the one that the run began
            with. `fr.train.load` reads it. What is compared of data are all bits up to 32 MiB a tensor,
            and of a larger one a sample of its rows. A source that is not `fr.train.loader` reads again,
            and throws away, the batches of a pass in whose middle it goes on.
        checkpoint_every: epochs between two writes, the last always being written.
        version: of what cannot be compared with the checkpoint: loss_fn, the optimizer, what they close
            over, a source's samples. Change it with them, and the checkpoint of another is refused.
        on_epoch: called with an `Epoch` after each epoch, and after its checkpoint: to log, to draw, to
            look at the weights; see `csv_log`. True, or a tensor of it, ends training, of the members
            (K,) that it says; another return is not used.
        progress: show a bar (needs tqdm). Default: when tqdm is there and stderr is a terminal.
        processes: others that train the same model, which `fr.distributed.fit` sees to. Default: none.

    Returns:
        A FitResult. After Ctrl-C its train_state is that of the last step made, its history that of
        the whole epochs, and so is the checkpoint.

    Raises:
        FuncregError: for bad arguments, a checkpoint of other arguments, divergence, or a step whose first call
            draws from a global generator or writes into its arguments.

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
    counts = {"epochs": epochs, "epoch_steps": epoch_steps, "checkpoint_every": checkpoint_every}
    arguments.check(step, train_state, counts | {"batch_size": batch_size})
    arguments.check_shuffling(key=key, members=members, batches=batches)
    if not isinstance(jit, Path):
        _checks.check_choice("jit", jit, (True, False))
    arguments.check_callbacks(early_stopping, monitor, version, evaluate, on_epoch)
    arguments.check_others(progress, processes)
    device = train_state.step.device
    hparams = as_hparams(hparams, device)
    arguments.check_many(members, batches, chunk_size, train_state, hparams)
    stopping = selection(early_stopping, mode)
    passes = arguments.passes_of(
        data,
        key=key,
        batch_size=batch_size,
        members=members,
        batches=batches,
        one_shape=bool(jit),
        resumable=checkpoint is not None,
        device=device,
    )

    # Every step gets tensors alike in kind to those that a step returns: one compilation.
    train_state = tree.map(lambda leaf: dense(leaf.detach()), train_state)
    run = start(train_state, members, stopping)
    facts: dict[str, Any] = {}
    if checkpoint is not None:
        _checks.check_path("checkpoint", checkpoint, writes=True)
    if checkpoint is not None or processes is not None:
        named = monitor if isinstance(monitor, str) else "a function"
        facts = arguments.facts(
            passes,
            train_state,
            hparams,
            stopping,
            key=key,
            version=version,
            members=members,
            batches=batches,
            epoch_steps=epoch_steps,
            monitor=named,
        )
    processes = Alone() if processes is None else processes
    run = processes.begin(checkpoint, run, facts, epochs)
    if run.epoch and processes.leads and checkpoint is not None:
        print(resume.told(checkpoint, run, epochs), flush=True)
    saved, feed = run.epoch, Feed(passes, epoch_steps, run.place)

    at_once = None if isinstance(chunk_size, str) else chunk_size
    if at_once is None and members is not None:
        at_once = resume.chunk_size(checkpoint)
        few = feed.length is not None and (epochs - run.epoch) * feed.length < FEW
        if at_once is None and members > 1 and run.epoch < epochs and not few:
            batch = passes.taken(feed.first()) if passes.own else feed.first()
            at_once = quickest(step, run.train_state, batch, hparams, own=passes.own is not None)
    chunks = Chunks(members, at_once)
    program = program_of(step, batched=members is not None, own=passes.own is not None, bare=hparams is None, jit=jit)
    program, settings = chunks.over(looked_at(program, step)), chunks.split(hparams)
    given = functools.partial(chunks.lazily, passes.taken) if passes.own else chunks.repeated

    def keep(run: Run, interrupted: bool) -> int:
        if checkpoint is not None and processes.leads:
            resume.save(checkpoint, run, facts, chunks.size, interrupted=interrupted)
        return run.epoch

    last, interrupted = run.train_state, False
    done = run.epoch == epochs or not run.active.any()
    bar = console.Progress(progress if processes.leads else False, run, epochs, feed.length)
    with contextlib.closing(feed), bar, console.interruptible() as interrupt:
        while not (done or interrupted):
            last, records = chunks.split(run.train_state), []
            with contextlib.closing(feed.epoch()) as source:
                for batch in interrupt.spared(source):
                    if not (records or passes.steps):
                        processes.begun(batch)
                    last, metrics = program(last, given(batch), settings)
                    records.append(metrics)
                    bar.step()
                    if processes.interrupted(interrupt.requested):
                        break
            last, steps = chunks.join(last), None
            if feed.whole:
                steps = arguments.columns(records)
                row, watched = arguments.monitored(_row(steps, evaluate, last), monitor, last.step.shape)
                arguments.check_columns(row, run.history)
                run = advance(run, last, processes.row(row), feed.place, stopping=stopping, monitor=watched)
                bar.epoch(run)
                last = run.train_state
            else:
                last = choose(run.active, last, run.train_state)
            done = run.epoch == epochs or not run.active.any()
            interrupted = processes.interrupted(interrupt.requested) and not done
            due = done or interrupted or run.epoch - saved >= checkpoint_every
            if run.epoch > saved and due:
                saved = keep(run, interrupted)
            if on_epoch is not None and steps is not None:
                wish = arguments.wish(on_epoch(Epoch(run.epoch, last, run.history[-1], steps, run.history)), run.active)
                ended = end(run, processes.row({"ended": wish})["ended"] > 0)
                if not torch.equal(ended.active, run.active):
                    run, done = ended, not ended.active.any()
                    interrupted = interrupted and not done
                    saved = keep(run, interrupted)
    return result_of(run, last, interrupted, chunks.size)


def _row(steps: Metrics, evaluate: Callable[[Any, Any], Metrics] | None, train_state: TrainState) -> Metrics:
    """The metrics of an epoch, on the CPU in float64."""
    row = {name: values.mean(0) for name, values in steps.items()}
    evaluated = {} if evaluate is None else evaluate(*variables(train_state))
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
    return row
