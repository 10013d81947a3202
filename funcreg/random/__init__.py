"""Keys and draws: randomness is an argument.

A key is an int64 tensor (2,). A draw takes a key and gives the same numbers for the same
key: on the CPU or a GPU, eager or compiled, under `vmap` or in a loop, bit for bit PyTorch's
own stateless generator (`torch.func._random`), on every version of torch.

    keys.py         key, split, fold_in, skip
    draws.py        uniform, normal, ..., (key, shape) -> tensor
    gamma_draws.py  gamma, beta
    arguments.py    shapes and parameters of draws, checked
    execution.py    which of two executions computes the bits: native kernels or tensor operations
    philox.py       the algorithm, as tensor operations
"""

from .draws import (
    bernoulli,
    bits,
    categorical,
    normal,
    permutation,
    randint,
    truncated_normal,
    uniform,
)
from .execution import backend, compiled_draws_are, use_backend
from .gamma_draws import beta, gamma
from .keys import fold_in, key, skip, split

__all__ = [
    "backend",
    "bernoulli",
    "beta",
    "bits",
    "categorical",
    "compiled_draws_are",
    "fold_in",
    "gamma",
    "key",
    "normal",
    "permutation",
    "randint",
    "skip",
    "split",
    "truncated_normal",
    "uniform",
    "use_backend",
]
