"""Cases of `random`."""

import torch

import funcreg as fr
from tests.contract.case import Case, drawn

CASES = [
    Case("random.bits", lambda key: fr.random.bits(key, (3, 5)), keyed=True),
    Case("random.split", lambda key: fr.random.split(key, 3), keyed=True),
    Case("random.fold_in", lambda data, key: fr.random.fold_in(key, data), {"data": torch.tensor(5)}, keyed=True),
    Case("random.skip", lambda key: fr.random.skip(key, 10), keyed=True),
    Case("random.key", lambda seed: fr.random.key(seed), {"seed": torch.tensor(5)}),
    Case(
        "random.uniform",
        lambda low, high, key: fr.random.uniform(key, (3, 5), low=low, high=high),
        settings={"low": (-1.0, 0.0, 0.5), "high": (0.5, 1.0, 3.0)},
        keyed=True,
        within="sweep.uniform",
    ),
    Case(
        "random.normal",
        lambda mean, std, key: fr.random.normal(key, (3, 5), mean=mean, std=std, dtype=torch.float64),
        settings={"mean": (-1.0, 0.0, 0.5), "std": (0.0, 1.0, 3.0)},
        keyed=True,
    ),
    Case(
        "random.truncated_normal",
        lambda low, high, mean, std, key: fr.random.truncated_normal(
            key, (3, 5), low=low, high=high, mean=mean, std=std, dtype=torch.float64
        ),
        settings={"low": (-1.0, -3.0, 0.5), "high": (0.5, 1.0, 3.0), "mean": (0.0, 1.0, 2.0), "std": (0.0, 1.0, 3.0)},
        keyed=True,
    ),
    Case(
        "random.bernoulli",
        lambda p, key: fr.random.bernoulli(key, p, (40,)),
        settings={"p": (0.2, 0.5, 0.9)},
        keyed=True,
    ),
    Case("random.randint", lambda key: fr.random.randint(key, (9,), -3, 50), keyed=True),
    Case("random.permutation", lambda key: fr.random.permutation(key, 20), keyed=True),
    Case(
        "random.categorical",
        lambda logits, key: fr.random.categorical(key, logits),
        {"logits": drawn(14, 30, 4)},
        keyed=True,
        fixed_dtype=True,
        has_slope=False,
    ),
    Case(
        "random.gamma",
        lambda alpha, key: fr.random.gamma(key, alpha, (5,)),
        settings={"alpha": (0.1, 1.0, 20.0)},
        keyed=True,
    ),
    Case(
        "random.beta",
        lambda a, b, key: fr.random.beta(key, a, b, (5,)),
        settings={"a": (0.1, 1.0, 20.0), "b": (3.0, 0.5, 2.0)},
        keyed=True,
        within="augment.cutmix",
    ),
]  # fmt: skip

# name: (why the contract does not fit, the file that tests it)
EXEMPT: dict[str, tuple[str, str]] = {
    "random.backend": ("says a name", "test_random.py"),
    "random.use_backend": ("a context", "test_random.py"),
    "random.compiled_draws_are": ("a context", "test_random.py"),
}
