"""Regularization as pure functions for PyTorch, on `torch.func`.

A model is data plus a function, a regularizer is a function, randomness is an argument. Every
module imports only from those above it:

    random         keys and draws: Philox4x32-10, bit for bit PyTorch's own
    tree           pytrees: map, norm, where, stack, partition, masks by name
    losses         (predictions, targets) -> scalar
    labels         targets -> targets: one-hot, smoothed; weights of classes
    penalties      (params, strength) -> scalar; and those of a function and its inputs
    noise          (x, rate, *, key) -> x: dropout and its family
    norm           (x, state, ...) -> (y, state): of activations, weights and inputs
    augment        (images[, targets], *, key) -> the same
    model          nn.Module -> Model(init, apply), and back; which weights decay
    transforms     gradient transforms: Transform(init, update), chain
    optim          optimizers as chains; schedules
    constraints    params -> params: projections after a step
    sharpness      loss_fn -> loss_fn: SAM; the largest curvature
    averaging      averages of parameters: EMA, SWA, SWAG; batch statistics anew
    adversarial    (loss_fn, x, epsilon) -> x: FGSM, PGD; virtual adversarial training
    checkpoint     save and load any tree: one file, atomic, checksummed, no pickle
    train          TrainState, make_step, fit (one model or K members), early stopping
    sweep          hyperparameter grids, random search, paired members, tables
    uncertainty    MC dropout, proper scores, calibration
    distributed    data-parallel steps and sharded members on torch.distributed
    testing        the six rules as checks for anyone's functions
"""

from types import ModuleType

from . import (
    adversarial,
    augment,
    averaging,
    checkpoint,
    constraints,
    distributed,
    labels,
    losses,
    noise,
    norm,
    optim,
    penalties,
    random,
    sharpness,
    sweep,
    testing,
    train,
    transforms,
    tree,
    uncertainty,
)
from ._checks import FuncregError
from ._jit import can_compile, jit
from ._memory import keep_memory
from .model import Model, check, decay_mask, from_module, model_members, register_layer, to_module, variables

__all__ = [
    "FuncregError",
    "Model",
    "adversarial",
    "augment",
    "averaging",
    "can_compile",
    "check",
    "checkpoint",
    "constraints",
    "decay_mask",
    "distributed",
    "from_module",
    "jit",
    "keep_memory",
    "labels",
    "losses",
    "model_members",
    "noise",
    "norm",
    "optim",
    "penalties",
    "random",
    "register_layer",
    "sharpness",
    "sweep",
    "testing",
    "to_module",
    "train",
    "transforms",
    "tree",
    "uncertainty",
    "variables",
]


def __dir__() -> list[str]:
    return __all__


def _show_public_names() -> None:
    """What `dir` and a notebook's completion list of a module: its public names, not what it imports."""
    for name in (*__all__, "model"):
        module = globals()[name]
        if isinstance(module, ModuleType):
            vars(module)["__dir__"] = lambda public=module.__all__: list(public)


_show_public_names()
