"""funcreg"""

from . import noise, norm, random, tree
from ._checks import FuncregError
from ._jit import jit
from .model import Model, check, from_module, model_members, register_layer, to_module, variables

__all__ = [
    "FuncregError",
    "Model",
    "check",
    "from_module",
    "jit",
    "model_members",
    "noise",
    "norm",
    "random",
    "register_layer",
    "to_module",
    "tree",
    "variables",
]
