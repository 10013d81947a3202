"""Bad arguments of `testing`."""

from functools import partial

import torch

from funcreg import jit, optim, penalties, testing
from tests.refusals import CLASSES, INTEGERS, KEY, KEYS, PARAMS, Refusal, X, bad

RATED = lambda x, rate=0.1: x * rate  # noqa: E731

REFUSALS: list[Refusal] = [
    ("testing.check", "function", lambda: testing.check(bad("sin"), X)),
    ("testing.check", "key", lambda: testing.check(torch.sin, X, key=bad(0))),
    ("testing.check", "jit", lambda: testing.check(torch.sin, X, jit=bad("yes"))),
    ("testing.report", "dtype", lambda: testing.report(torch.sin, X, dtype="float32")),
    ("testing.report", "gradients", lambda: testing.report(lambda x: x, X, gradients=["y"])),
    ("testing.report", "batched", lambda: testing.report(lambda x, rate: x, X, 0.1, batched=bad("rate"))),
    ("testing.example", "batched", lambda: testing.example(lambda x, rate: x, X, 0.1, batched={"rte"})),
    ("testing.example", "batched", lambda: testing.example(lambda x, rate: x, X, "low", batched={"rate"})),
    ("testing.example", "batched", lambda: testing.example(lambda a, b: a, batched={"a": (0.0, 1.0), "b": (0.0,)})),
    ("testing.example", "batched", lambda: testing.example(lambda a: a, batched={"a": (0.0,)})),
    ("testing.example", "batched", lambda: testing.example(RATED, X, batched=bad({"rate": 0.3}))),
    ("testing.example", "batched", lambda: testing.example(RATED, X, batched=bad({"rate": torch.tensor(0.3)}))),
    ("testing.example", "batched", lambda: testing.example(RATED, X, batched=bad({"rate": ("low", "high")}))),
    ("testing.example", "batched", lambda: testing.example(RATED, X, batched=bad({"rate": "01"}))),
    ("testing.example", "batched", lambda: testing.example(RATED, X, batched={"rate": (10**400, 1)})),
    ("testing.example", "batched", lambda: testing.example(RATED, X, batched=bad({"rate": ((0.1, 0.2), 0.3)}))),
    ("testing.example", "batched", lambda: testing.example(RATED, X, batched=bad({"rate": (torch.ones(2), 0.3)}))),
    ("testing.example", "batched", lambda: testing.example(RATED, X, torch.ones(2), batched={"rate"})),
    ("testing.example", "batched", lambda: testing.example(RATED, X, torch.ones(1) * 1j, batched={"rate"})),
    ("testing.example", "batched", lambda: testing.example(RATED, X, batched={"rte": (0.1, 0.2)})),
    ("testing.example", "batched", lambda: testing.example(jit(RATED), X, batched={"rte": (0.1, 0.2)})),
    ("testing.example", "batched", lambda: testing.example(partial(RATED, X), batched={"rte": (0.1, 0.2)})),
    ("testing.example", "batched", lambda: testing.example(lambda x, rate=0.1, /: x, X, batched={"rate": (0.1, 0.2)})),
    ("testing.example", "batched", lambda: testing.example(RATED, X, batched=bad({0: (0.1, 0.2)}))),
    ("testing.example", "batched", lambda: testing.example(lambda key: key, key=KEY, batched={"key": (0, 1)})),
    ("testing.example", "key", lambda: testing.example(lambda key: key, key=KEYS)),
    ("testing.check_compiled", "examples[0]", lambda: testing.check_compiled(bad(torch.sin))),
    ("testing.assert_compiles_once", "function", lambda: testing.assert_compiles_once(bad(1), (X,), (X,))),
    ("testing.assert_compiles_once", "calls", lambda: testing.assert_compiles_once(torch.sin, (X,))),
    ("testing.assert_compiles_once", "calls[1]", lambda: testing.assert_compiles_once(torch.sin, (X,), bad(X))),
    ("testing.assert_trees_close", "rtol", lambda: testing.assert_trees_close(X, X, rtol=-1.0, atol=0.0)),
    ("testing.assert_trees_close", "atol", lambda: testing.assert_trees_close(X, X, rtol=1.0)),
    ("testing.assert_trees_close", "rtol", lambda: testing.assert_trees_close(X, X, atol=1.0)),
    ("testing.assert_resumes", "fit", lambda: testing.assert_resumes(bad(None))),
    ("testing.assert_resumes", "after[0]", lambda: testing.assert_resumes(lambda path, on_epoch: X, after=(0,))),
    ("testing.assert_resumes", "after[0]", lambda: testing.assert_resumes(lambda path, on_epoch: X)),
    ("testing.check_augmentation", "images", lambda: testing.check_augmentation(lambda x: x, X)),
    ("testing.check_augmentation", "images", lambda: testing.check_augmentation(lambda x: x, INTEGERS)),
    ("testing.check_loss", "predictions", lambda: testing.check_loss(lambda x, y: x.sum(), INTEGERS, CLASSES)),
    ("testing.check_module", "module", lambda: testing.check_module(bad(torch.sin), X)),
    ("testing.check_optimizer", "transform", lambda: testing.check_optimizer(bad(0.1), PARAMS)),
    ("testing.check_optimizer", "params's w", lambda: testing.check_optimizer(optim.sgd(0.1), {"w": INTEGERS})),
    ("testing.check_penalty", "strength", lambda: testing.check_penalty(penalties.l2, PARAMS, 0.0)),
    ("testing.check_penalty", "strength", lambda: testing.check_penalty(penalties.l2, PARAMS, bad(torch.ones(2)))),
    ("testing.check_optimizer", "batched", lambda: testing.check_optimizer(optim.sgd, PARAMS, batched={"l": (0, 1)})),
    ("testing.check_transform", "batched", lambda: testing.check_transform(optim.sgd, PARAMS, batched=bad({"lr": 1}))),
    ("testing.check_transform", "transform", lambda: testing.check_transform(bad("sgd"), PARAMS)),
    ("testing.check_transform", "dtype", lambda: testing.check_transform(optim.sgd(0.1), PARAMS, dtype="float32")),
    ("testing.check_optimizer", "dtype", lambda: testing.check_optimizer(optim.sgd(0.1), PARAMS, dtype="float32")),
    ("testing.check_transform", "params", lambda: testing.check_transform(optim.sgd(0.1), bad(1.0))),
]  # fmt: skip

# No argument of it can be bad.
WITHOUT_BAD_INPUT = {"testing.assert_trees_equal": "any two trees can be compared"}
