"""Good calls of `random`."""

import torch

from funcreg import random
from tests.bad_arguments.call import KEY, Call, X, call


def use(name: str) -> None:
    with random.use_backend(name):
        pass


def compiled(name: str) -> None:
    with random.compiled_draws_are(name):
        pass


DTYPE = torch.float32

CALLS: list[Call] = [
    call("random.key", random.key, seed=3, device="cpu"),
    call("random.key of a tensor", random.key, seed=torch.tensor(3), device="cpu"),
    call("random.split", random.split, key=KEY, num=3),
    call("random.fold_in", random.fold_in, key=KEY, data=3),
    call("random.fold_in of a tensor", random.fold_in, key=KEY, data=torch.tensor(3)),
    call("random.skip", random.skip, key=KEY, draws=3),
    call("random.bits", random.bits, key=KEY, shape=(2, 3)),
    call("random.uniform", random.uniform, key=KEY, shape=(2, 3), low=0.0, high=2.0, dtype=DTYPE),
    call("random.normal", random.normal, key=KEY, shape=(2, 3), mean=0.0, std=2.0, dtype=DTYPE),
    call("random.truncated_normal", random.truncated_normal, key=KEY, shape=(2, 3), low=-1.0, high=1.0, mean=0.0,
         std=2.0, dtype=DTYPE),
    call("random.bernoulli", random.bernoulli, key=KEY, p=0.3, shape=(2, 3)),
    call("random.randint", random.randint, key=KEY, shape=(2, 3), low=0, high=5),
    call("random.permutation", random.permutation, key=KEY, n=5),
    call("random.categorical", random.categorical, key=KEY, logits=X),
    call("random.gamma", random.gamma, key=KEY, alpha=2.0, shape=(2, 3)),
    call("random.beta", random.beta, key=KEY, a=2.0, b=3.0, shape=(2, 3)),
    call("random.backend", random.backend, device="cpu"),
    call("random.use_backend", use, name="pure"),
    call("random.compiled_draws_are", compiled, name="pure"),
]  # fmt: skip
