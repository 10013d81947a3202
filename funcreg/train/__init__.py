"""Training: the loop is Python, the step is the program.

A run is three calls, the last of which is the loop:

    step = make_step(loss_fn, optimizer)
    train_state = init(params, state, optimizer, key=key)
    result = fit(step, train_state, Batch(x, y), key=other_key, epochs=30, batch_size=128)

    step.py         TrainState, init, make_step: one step, pure
    rates.py        the learning rates of a step
    average.py      the average of the parameters in a train state: variables, sample_variables
    per_example.py  gradients of each example
    unroll.py       unroll: a run of steps, differentiable
    stopping.py     early_stopping, and which epoch is best
    arrays.py       numpy's arrays as tensors
    generators.py   what a source draws from, seeded and put back
    loader.py       loader: a DataLoader whose draws come from a key
    feed.py         epochs out of passes over the data
    fingerprint.py  what a fit is called with, to compare
    shuffling.py    passes over tensors
    sources.py      passes over what gives batches
    evaluate.py     make_evaluate: metrics over a whole data set
    run.py          what a fit knows at the end of an epoch
    structure.py    trees as JSON
    resume.py       the checkpoints of a fit
    result.py       Epoch, FitResult; load: one from a checkpoint
    logs.py         csv_log, tensorboard_log: ready on_epochs
    console.py      progress bar and Ctrl-C
    alone.py        what a fit asks of other processes that train the same model
    chunks.py       K members in chunks of one size
    chunk_size.py   and of which, where it is measured
    program.py      the step, vmapped and compiled
    arguments.py    what a fit is called with, checked
    fit.py          the loop, for one model or K members
"""

from .average import Average, sample_variables, variables
from .evaluate import make_evaluate
from .fit import fit
from .loader import loader
from .logs import csv_log, tensorboard_log
from .result import Epoch, FitResult, load
from .run import DivergenceWarning
from .step import Batch, TrainState, init, make_step
from .stopping import EarlyStopping, StoppingState, early_stopping
from .unroll import unroll

__all__ = [
    "Average",
    "Batch",
    "DivergenceWarning",
    "EarlyStopping",
    "Epoch",
    "FitResult",
    "StoppingState",
    "TrainState",
    "csv_log",
    "early_stopping",
    "fit",
    "init",
    "load",
    "loader",
    "make_evaluate",
    "make_step",
    "sample_variables",
    "tensorboard_log",
    "unroll",
    "variables",
]
