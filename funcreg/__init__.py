"""Regularization as pure functions for PyTorch, on `torch.func`.

A model is data plus a function, a regularizer is a function, randomness is an argument. Every
module imports only from those above it:

    random         keys and draws: Philox4x32-10, bit for bit PyTorch's own
    tree           pytrees: map, norm, where, stack, partition, masks by name
    losses         (predictions, targets) -> scalar
    penalties      (params, strength) -> scalar
    noise          (x, rate, *, key) -> x: dropout and its family
    norm           (x, state, ...) -> (y, state): batch norm
    model          nn.Module -> Model(init, apply), and back
    transforms     gradient transforms: Transform(init, update), chain
    optim          optimizers as chains; schedules
    checkpoint     save and load any tree: one file, atomic, checksummed, no pickle
    train          TrainState, make_step, fit (one model or K members), early stopping
    sweep          hyperparameter grids
    uncertainty    MC dropout, proper scores, calibration
"""

from . import checkpoint, losses, noise, norm, optim, penalties, random, sweep, train, transforms, tree, uncertainty
from ._checks import FuncregError
from ._jit import can_compile, jit
from .model import Model, check, from_module, model_members, register_layer, to_module, variables

__all__ = [
    "FuncregError",
    "Model",
    "can_compile",
    "check",
    "checkpoint",
    "from_module",
    "jit",
    "losses",
    "model_members",
    "noise",
    "norm",
    "optim",
    "penalties",
    "random",
    "register_layer",
    "sweep",
    "to_module",
    "train",
    "transforms",
    "tree",
    "uncertainty",
    "variables",
]
