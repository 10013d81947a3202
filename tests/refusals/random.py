"""Bad arguments of `random`."""

import math

import torch

import funcreg as fr
from tests.refusals import INTEGERS, KEY, KEYS, Refusal, X, bad

REFUSALS: list[Refusal] = [
    ("random.key", "seed", lambda: fr.random.key(bad(1.5))),
    ("random.key", "seed", lambda: fr.random.key(2**64)),
    ("random.key", "seed", lambda: fr.random.key(bad(True))),
    ("random.key", "seed", lambda: fr.random.key(torch.tensor([1, 2]))),
    ("random.split", "key", lambda: fr.random.split(bad(7))),
    ("random.split", "key", lambda: fr.random.split(torch.zeros(2))),
    ("random.split", "key", lambda: fr.random.split(KEYS)),
    ("random.uniform", "key", lambda: fr.random.uniform(KEYS, (2,))),
    ("random.normal", "key", lambda: fr.random.normal(bad(None), (2,))),
    ("random.split", "num", lambda: fr.random.split(KEY, 0)),
    ("random.split", "num", lambda: fr.random.split(KEY, bad(2.0))),
    ("random.fold_in", "data", lambda: fr.random.fold_in(KEY, bad("layer"))),
    ("random.fold_in", "data", lambda: fr.random.fold_in(KEY, torch.tensor(0.5))),
    ("random.skip", "draws", lambda: fr.random.skip(KEY, -1)),
    ("random.bits", "shape", lambda: fr.random.bits(KEY, bad(2.5))),
    ("random.uniform", "shape", lambda: fr.random.uniform(KEY, (2, -1))),
    ("random.uniform", "low", lambda: fr.random.uniform(KEY, 2, low=math.nan)),
    ("random.uniform", "low", lambda: fr.random.uniform(KEY, 2, low=1.0, high=0.0)),
    ("random.uniform", "high", lambda: fr.random.uniform(KEY, 2, high=math.inf)),
    ("random.uniform", "dtype", lambda: fr.random.uniform(KEY, 2, dtype=torch.int64)),
    ("random.normal", "dtype", lambda: fr.random.normal(KEY, 2, dtype=bad("float32"))),
    ("random.normal", "mean", lambda: fr.random.normal(KEY, 2, mean=bad("0"))),
    ("random.normal", "std", lambda: fr.random.normal(KEY, 2, std=-1.0)),
    ("random.truncated_normal", "low", lambda: fr.random.truncated_normal(KEY, 2, low=1.0, high=1.0)),
    ("random.uniform", "high", lambda: fr.random.uniform(KEY, 3, high=1e5, dtype=torch.float16)),
    ("random.truncated_normal", "low", lambda: fr.random.truncated_normal(KEY, 3, low=40.0, high=41.0)),
    ("random.truncated_normal", "high", lambda: fr.random.truncated_normal(KEY, 3, low=-41.0, high=-40.0)),
    ("random.bernoulli", "p", lambda: fr.random.bernoulli(KEY, 1.5)),
    ("random.bernoulli", "p", lambda: fr.random.bernoulli(KEY, torch.tensor([0.5, 1.5]))),
    ("random.randint", "high", lambda: fr.random.randint(KEY, 2, 5, 5)),
    ("random.randint", "high", lambda: fr.random.randint(KEY, 2, 0, 2**40)),
    ("random.permutation", "n", lambda: fr.random.permutation(KEY, 0)),
    ("random.categorical", "logits", lambda: fr.random.categorical(KEY, INTEGERS)),
    ("random.categorical", "logits", lambda: fr.random.categorical(KEY, torch.tensor([torch.inf, 0.0]))),
    ("random.uniform", "dtype", lambda: fr.random.uniform(KEY, 2, dtype=torch.float8_e5m2)),
    ("random.categorical", "logits", lambda: fr.random.categorical(KEY, torch.zeros(2, 0))),
    ("random.categorical", "logits", lambda: fr.random.categorical(KEY, torch.full((2, 3), -torch.inf))),
    ("random.categorical", "logits", lambda: fr.random.categorical(KEY, torch.tensor([0.0, torch.nan]))),
    ("random.categorical", "logits", lambda: fr.random.categorical(KEY, torch.tensor(1.0))),
    ("random.gamma", "alpha", lambda: fr.random.gamma(KEY, 0.0)),
    ("random.beta", "a", lambda: fr.random.beta(KEY, -1.0, 2.0)),
    ("random.beta", "b", lambda: fr.random.beta(KEY, 1.0, bad(None))),
    ("random.use_backend", "name", lambda: fr.random.use_backend("fast").__enter__()),
    *(
        (f"random.{name}", "key", lambda draw=draw: draw(KEYS))
        for name, draw in {
            "bits": lambda key: fr.random.bits(key, 2),
            "fold_in": lambda key: fr.random.fold_in(key, 1),
            "skip": lambda key: fr.random.skip(key, 1),
            "truncated_normal": lambda key: fr.random.truncated_normal(key, 2),
            "bernoulli": lambda key: fr.random.bernoulli(key, 0.5),
            "randint": lambda key: fr.random.randint(key, 2, 0, 3),
            "permutation": lambda key: fr.random.permutation(key, 3),
            "categorical": lambda key: fr.random.categorical(key, X),
            "gamma": lambda key: fr.random.gamma(key, 1.0),
            "beta": lambda key: fr.random.beta(key, 1.0, 1.0),
        }.items()
    ),
    *(
        (f"random.{name}", "shape", lambda draw=draw: draw((2, -1)))
        for name, draw in {
            "normal": lambda shape: fr.random.normal(KEY, shape),
            "truncated_normal": lambda shape: fr.random.truncated_normal(KEY, shape),
            "bernoulli": lambda shape: fr.random.bernoulli(KEY, 0.5, shape),
            "randint": lambda shape: fr.random.randint(KEY, shape, 0, 3),
            "gamma": lambda shape: fr.random.gamma(KEY, 1.0, shape),
            "beta": lambda shape: fr.random.beta(KEY, 1.0, 1.0, shape),
        }.items()
    ),
    ("random.uniform", "low", lambda: fr.random.uniform(KEY, 2, low=torch.zeros(3))),
    ("random.uniform", "high", lambda: fr.random.uniform(KEY, 2, high=torch.ones(2, 2))),
    ("random.normal", "mean", lambda: fr.random.normal(KEY, (3, 2), mean=torch.zeros(3))),
    ("random.normal", "std", lambda: fr.random.normal(KEY, std=torch.ones(2))),
    ("random.truncated_normal", "high", lambda: fr.random.truncated_normal(KEY, 2, high=math.nan)),
    ("random.truncated_normal", "mean", lambda: fr.random.truncated_normal(KEY, 2, mean=bad(None))),
    ("random.truncated_normal", "std", lambda: fr.random.truncated_normal(KEY, 2, std=-1.0)),
    ("random.truncated_normal", "dtype", lambda: fr.random.truncated_normal(KEY, 2, dtype=torch.bool)),
    ("random.bernoulli", "p", lambda: fr.random.bernoulli(KEY, torch.ones(3) / 2, (2,))),
    ("random.randint", "low", lambda: fr.random.randint(KEY, 2, bad(0.0), 5)),
    ("random.gamma", "alpha", lambda: fr.random.gamma(KEY, torch.ones(3), (2,))),
    ("random.beta", "b", lambda: fr.random.beta(KEY, torch.ones(3), torch.ones(2))),
    ("random.key", "device", lambda: fr.random.key(0, device="gpu")),
    ("random.backend", "device", lambda: fr.random.backend("gpu")),
    ("random.compiled_draws_are", "name", lambda: fr.random.compiled_draws_are("auto")),
]
