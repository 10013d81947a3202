"""Training: the loop is Python, the step is the program.

step = make_step(loss_fn, optimizer)
train_state = init(params, state, optimizer, key=key)
result = fit(step, train_state, Batch(x, y), key=other_key, epochs=30, batch_size=128)

step.py      TrainState, init, make_step: one step, pure
unroll.py    unroll: a run of steps, differentiable
stopping.py  early_stopping
evaluate.py  make_evaluate: metrics over a whole data set
run.py       what a fit knows at the end of an epoch
resume.py    the checkpoints of a fit
console.py   progress bar and Ctrl-C
alone.py     what a fit asks of other processes that train the same model
chunks.py    K members in chunks of one size
chunk_size.py  and of which, where it is measured
shuffling.py the batches of an epoch
program.py   the step, vmapped and compiled
fit.py       the loop, for one model or K members
"""

from .evaluate import make_evaluate
from .fit import Epoch, FitResult, fit
from .run import DivergenceWarning, Variables
from .step import Batch, TrainState, init, make_step
from .stopping import EarlyStopping, StoppingState, early_stopping
from .unroll import unroll

__all__ = [
    "Batch",
    "DivergenceWarning",
    "EarlyStopping",
    "Epoch",
    "FitResult",
    "StoppingState",
    "TrainState",
    "Variables",
    "early_stopping",
    "fit",
    "init",
    "make_evaluate",
    "make_step",
    "unroll",
]
