"""Every bad argument gets a FuncregError that names it: one row a case, for all public functions."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import funcreg as fr
from funcreg import (
    _checks,
    checkpoint,
    losses,
    noise,
    norm,
    optim,
    penalties,
    sweep,
    train,
    transforms,
    tree,
    uncertainty,
)

KEY, KEYS = fr.random.key(0), fr.random.split(fr.random.key(0), 3)
X, INTEGERS = torch.ones(4, 3), torch.ones(4, 3, dtype=torch.int64)
IMAGES, STATS = torch.ones(2, 3, 4, 4), norm.init_batch_stats(3)
PARAMS = {"0.weight": torch.ones(2, 3), "0.bias": torch.ones(2)}
CLASSES, P = torch.tensor([0, 1, 2, 0]), torch.full((4, 3), 1 / 3)
MODEL = fr.from_module(lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)))
MODEL_PARAMS, MODEL_STATE = MODEL.init(KEY)
BATCH = train.Batch(X, CLASSES)


def bad(value: Any) -> Any:
    """A deliberate mistake, hidden from the type checker."""
    return value


def loss_fn(params: Any, state: Any, batch: Any, *, key: Any, hparams: Any) -> Any:
    return (params["0.weight"] ** 2).sum(), (state, {})


OPTIMIZER = optim.sgd(0.1)
TRAIN_STATE = train.init(PARAMS, {}, OPTIMIZER, key=KEY)
STEP = train.make_step(loss_fn, OPTIMIZER)

# (the argument that the message names, the call)
CASES: list[tuple[str, Callable[[], Any]]] = [
    # random
    ("seed", lambda: fr.random.key(bad(1.5))),
    ("seed", lambda: fr.random.key(2**64)),
    ("seed", lambda: fr.random.key(bad(True))),
    ("seed", lambda: fr.random.key(torch.tensor([1, 2]))),
    ("key", lambda: fr.random.split(bad(7))),
    ("key", lambda: fr.random.split(torch.zeros(2))),
    ("key", lambda: fr.random.split(KEYS)),
    ("key", lambda: fr.random.uniform(KEYS, (2,))),
    ("key", lambda: fr.random.normal(bad(None), (2,))),
    ("num", lambda: fr.random.split(KEY, 0)),
    ("num", lambda: fr.random.split(KEY, bad(2.0))),
    ("data", lambda: fr.random.fold_in(KEY, bad("layer"))),
    ("data", lambda: fr.random.fold_in(KEY, torch.tensor(0.5))),
    ("draws", lambda: fr.random.skip(KEY, -1)),
    ("shape", lambda: fr.random.bits(KEY, bad(2.5))),
    ("shape", lambda: fr.random.uniform(KEY, (2, -1))),
    ("low", lambda: fr.random.uniform(KEY, 2, low=math.nan)),
    ("high", lambda: fr.random.uniform(KEY, 2, high=math.inf)),
    ("dtype", lambda: fr.random.uniform(KEY, 2, dtype=torch.int64)),
    ("dtype", lambda: fr.random.normal(KEY, 2, dtype=bad("float32"))),
    ("mean", lambda: fr.random.normal(KEY, 2, mean=bad("0"))),
    ("std", lambda: fr.random.normal(KEY, 2, std=-1.0)),
    ("low", lambda: fr.random.truncated_normal(KEY, 2, low=1.0, high=1.0)),
    ("p", lambda: fr.random.bernoulli(KEY, 1.5)),
    ("high", lambda: fr.random.randint(KEY, 2, 5, 5)),
    ("high", lambda: fr.random.randint(KEY, 2, 0, 2**40)),
    ("n", lambda: fr.random.permutation(KEY, 0)),
    ("logits", lambda: fr.random.categorical(KEY, INTEGERS)),
    ("logits", lambda: fr.random.categorical(KEY, torch.tensor(1.0))),
    ("alpha", lambda: fr.random.gamma(KEY, 0.0)),
    ("a", lambda: fr.random.beta(KEY, -1.0, 2.0)),
    ("b", lambda: fr.random.beta(KEY, 1.0, bad(None))),
    ("name", lambda: fr.random.use_backend("fast").__enter__()),
    # tree
    ("tree", lambda: tree.map(lambda a, b: a, PARAMS, {"other": X})),
    ("tree", lambda: tree.map_named(lambda name, a, b: a, PARAMS, {"other": X})),
    ("trees", lambda: tree.stack([])),
    ("0.bias", lambda: tree.members({"0.bias": torch.tensor(1.0)})),
    ("b", lambda: tree.members({"a": torch.ones(3), "b": torch.ones(2)})),
    ("tree", lambda: tree.members({})),
    ("tree", lambda: tree.partition(bad((X,)), tree.is_weight)),
    ("trees", lambda: tree.merge({"a": X}, {"a": X})),
    ("mask", lambda: tree.select(PARAMS, bad("weight"))),
    ("mask", lambda: tree.select(PARAMS, lambda name, leaf: False)),
    # losses
    ("logits", lambda: losses.cross_entropy(INTEGERS, CLASSES)),
    ("logits", lambda: losses.cross_entropy(torch.tensor(1.0), CLASSES)),
    ("targets", lambda: losses.cross_entropy(X, CLASSES.float())),
    ("targets", lambda: losses.cross_entropy(X, CLASSES[:2])),
    ("targets", lambda: losses.cross_entropy(X, bad([0, 1, 2, 0]))),
    ("targets", lambda: losses.cross_entropy(X, CLASSES > 0)),
    ("smoothing", lambda: losses.cross_entropy(X, CLASSES, smoothing=1.1)),
    ("smoothing", lambda: losses.cross_entropy(X, CLASSES, smoothing=torch.ones(2))),
    ("weight", lambda: losses.cross_entropy(X, CLASSES, weight=torch.ones(2))),
    ("reduction", lambda: losses.cross_entropy(X, CLASSES, reduction="average")),
    ("logits", lambda: losses.binary_cross_entropy(INTEGERS, X)),
    ("targets", lambda: losses.binary_cross_entropy(X, X[:2])),
    ("smoothing", lambda: losses.binary_cross_entropy(X, X, smoothing=-0.1)),
    ("weight", lambda: losses.binary_cross_entropy(X, X, weight=torch.ones(2))),
    ("weight", lambda: losses.binary_cross_entropy(X, X, weight=INTEGERS)),
    ("reduction", lambda: losses.binary_cross_entropy(X, X, reduction=bad(None))),
    ("predictions", lambda: losses.mse(INTEGERS, X)),
    ("targets", lambda: losses.mse(X, X[0])),
    ("reduction", lambda: losses.mse(X, X, reduction="max")),
    ("targets", lambda: losses.mae(X, bad(1.0))),
    ("predictions", lambda: losses.correlation(torch.ones(3, 1), torch.ones(3, 1))),
    ("reduction", lambda: losses.correlation(X, X, reduction="max")),
    ("predictions", lambda: losses.spectral_l2(torch.tensor(1.0), torch.tensor(1.0))),
    ("targets", lambda: losses.spectral_l2(X, X[:1])),
    ("targets", lambda: losses.accuracy(X, CLASSES[:1])),
    # penalties
    ("strength", lambda: penalties.l1(PARAMS, -1.0)),
    ("strength", lambda: penalties.l2(PARAMS, torch.ones(3))),
    ("strength", lambda: penalties.l2(PARAMS, bad("0.1"))),
    ("n", lambda: penalties.l2({"n": INTEGERS}, 0.1)),
    ("mask", lambda: penalties.l1(PARAMS, 0.1, mask=bad(True))),
    ("mask", lambda: penalties.l2(PARAMS, 0.1, mask=lambda name, leaf: False)),
    ("l1_strength", lambda: penalties.elastic_net(PARAMS, -0.1, 0.1)),
    ("l2_strength", lambda: penalties.elastic_net(PARAMS, 0.1, math.nan)),
    # noise
    ("x", lambda: noise.dropout(INTEGERS, 0.5, key=KEY)),
    ("x", lambda: noise.dropout(bad([1.0]), 0.5, key=KEY)),
    ("rate", lambda: noise.dropout(X, 1.5, key=KEY)),
    ("rate", lambda: noise.dropout(X, bad(None), key=KEY)),
    ("rate", lambda: noise.dropout(X, bad(True), key=KEY)),
    ("rate", lambda: noise.dropout(X, torch.ones(3), key=KEY)),
    ("rate", lambda: noise.dropout(X, torch.tensor(True), key=KEY)),
    ("key", lambda: noise.dropout(X, 0.5, key=bad(0))),
    ("key", lambda: noise.dropout(X, 0.5, key=KEYS)),
    ("key", lambda: noise.dropout(X.to("meta"), 0.5, key=KEY)),
    ("key", lambda: noise.drop_connect(PARAMS, 0.5, key=bad(None))),
    ("x", lambda: noise.channel_dropout(X, 0.5, key=KEY)),
    ("rate", lambda: noise.channel_dropout(IMAGES, -0.5, key=KEY)),
    ("rate", lambda: noise.alpha_dropout(X, 2, key=KEY)),
    ("rate", lambda: noise.gaussian_dropout(X, math.nan, key=KEY)),
    ("std", lambda: noise.gaussian_noise(X, -0.1, key=KEY)),
    ("std", lambda: noise.gaussian_noise(X, torch.ones(2), key=KEY)),
    ("x", lambda: noise.gaussian_noise(INTEGERS, 0.1, key=KEY)),
    ("mode", lambda: noise.drop_path(X, 0.5, key=KEY, mode="column")),
    ("x", lambda: noise.drop_path(torch.tensor(1.0), 0.5, key=KEY)),
    ("block_size", lambda: noise.drop_block(IMAGES, 0.5, key=KEY, block_size=0)),
    ("block_size", lambda: noise.drop_block(IMAGES, 0.5, key=KEY, block_size=bad(2.0))),
    ("x", lambda: noise.drop_block(torch.ones(2, 3, 4, 4, 4, 4), 0.5, key=KEY, block_size=2)),
    ("n", lambda: noise.drop_connect({"n": INTEGERS}, 0.5, key=KEY)),
    ("mask", lambda: noise.drop_connect(PARAMS, 0.5, key=KEY, mask=lambda name, leaf: False)),
    # norm
    ("channels", lambda: norm.init_batch_stats(0)),
    ("x", lambda: norm.batch_norm(INTEGERS, STATS, train=True)),
    ("x", lambda: norm.batch_norm(torch.ones(3), STATS, train=True)),
    ("x", lambda: norm.batch_norm(torch.ones(1, 3), STATS, train=True)),
    ("stats", lambda: norm.batch_norm(X, bad((X, X, X)), train=True)),
    ("stats.mean", lambda: norm.batch_norm(torch.ones(4, 2), STATS, train=True)),
    ("scale", lambda: norm.batch_norm(X, STATS, scale=torch.ones(2), train=True)),
    ("shift", lambda: norm.batch_norm(X, STATS, shift=bad(0.0), train=True)),
    ("train", lambda: norm.batch_norm(X, STATS, train=bad(None))),
    ("momentum", lambda: norm.batch_norm(X, STATS, train=True, momentum=1.1)),
    ("momentum", lambda: norm.batch_norm(X, STATS, train=True, momentum=torch.ones(2))),
    ("eps", lambda: norm.batch_norm(X, STATS, train=True, eps=-1e-5)),
    # models
    ("module", lambda: fr.from_module(bad(3))),
    ("rnn", lambda: fr.from_module(nn.Linear(2, 2), rnn="fast")),
    ("module", lambda: fr.variables(bad("resnet18"))),
    ("params", lambda: fr.to_module(nn.Linear(2, 2), {}, {})),
    ("model.init", lambda: fr.from_module(nn.Linear(2, 2)).init(KEY)),
    ("params", lambda: MODEL.apply({}, MODEL_STATE, X)),
    ("rates", lambda: MODEL.apply(MODEL_PARAMS, MODEL_STATE, X, key=KEY, rates={"9": 0.5})),
    ("train", lambda: MODEL.apply(MODEL_PARAMS, MODEL_STATE, X, train=bad("yes"))),
    ("method", lambda: MODEL.apply(MODEL_PARAMS, MODEL_STATE, X, method="features")),
    ("key", lambda: MODEL.apply(MODEL_PARAMS, MODEL_STATE, X, train=True)),
    ("members", lambda: fr.model_members(MODEL, KEY, 0)),
    ("layer_type", lambda: fr.register_layer(bad(3), lambda layer, x: x)),
    # transforms and optim
    ("max_norm", lambda: transforms.clip_by_global_norm(-1.0)),
    ("decay", lambda: transforms.add_decayed_weights(-0.1)),
    ("mask", lambda: transforms.add_decayed_weights(0.1, mask=bad("weight"))),
    ("mask", lambda: transforms.freeze(bad(None))),
    ("decay", lambda: transforms.momentum(1.5)),
    ("dampening", lambda: transforms.momentum(0.9, dampening=-0.1)),
    ("b1", lambda: transforms.scale_by_adam(1.0)),
    ("b2", lambda: transforms.scale_by_adam(0.9, 1.0)),
    ("eps", lambda: transforms.scale_by_adam(eps=-1e-8)),
    ("lr", lambda: transforms.scale_by_learning_rate(-0.1)),
    ("transforms[1]", lambda: transforms.chain(transforms.momentum(0.9), bad(0.1))),
    ("lr", lambda: optim.sgd(-0.1)),
    ("momentum", lambda: optim.sgd(0.1, momentum=2.0)),
    ("momentum", lambda: optim.sgd(0.1, nesterov=True)),
    ("dampening", lambda: optim.sgd(0.1, momentum=0.9, dampening=0.5, nesterov=True)),
    ("weight_decay", lambda: optim.adam(0.1, weight_decay=-1.0)),
    ("b2", lambda: optim.adamw(0.1, b2=bad("0.9"))),
    ("value", lambda: optim.constant(-1.0)),
    ("every", lambda: optim.step(0.1, every=0)),
    ("factor", lambda: optim.exponential(0.1, factor=-1.0)),
    ("steps", lambda: optim.cosine(0.1, steps=0)),
    ("steps", lambda: optim.warmup_cosine(0.1, warmup=10, steps=10)),
    # training
    ("loss_fn", lambda: train.make_step(bad(3), OPTIMIZER)),
    ("optimizer", lambda: train.make_step(loss_fn, bad(0.1))),
    ("penalties", lambda: train.make_step(loss_fn, OPTIMIZER, penalties={"loss": lambda params, hparams: X.sum()})),
    ("params", lambda: train.init({}, {}, OPTIMIZER, key=KEY)),
    ("n", lambda: train.init({"n": INTEGERS}, {}, OPTIMIZER, key=KEY)),
    ("key", lambda: train.init(PARAMS, {}, OPTIMIZER, key=bad(0))),
    ("members", lambda: train.init(PARAMS, {}, OPTIMIZER, key=KEY, members=0)),
    ("loss_fn", lambda: train.make_step(lambda *args, **kwargs: bad(3.0), OPTIMIZER)(TRAIN_STATE, BATCH)),
    ("metric_fn", lambda: train.make_evaluate(bad(None))),
    ("patience", lambda: train.early_stopping(0)),
    ("min_delta", lambda: train.early_stopping(3, -0.1)),
    ("mode", lambda: train.early_stopping(3, mode="best")),
    ("step", lambda: train.fit(bad(None), TRAIN_STATE, BATCH, key=KEY, epochs=1, batch_size=2)),
    ("train_state", lambda: train.fit(STEP, bad(PARAMS), BATCH, key=KEY, epochs=1, batch_size=2)),
    ("key", lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=bad(1), epochs=1, batch_size=2)),
    ("epochs", lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=KEY, epochs=0, batch_size=2)),
    ("batch_size", lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=KEY, epochs=1, batch_size=0)),
    ("batches", lambda: train.fit(STEP, TRAIN_STATE, BATCH, key=KEY, epochs=1, batch_size=2, batches="mine")),
    ("path", lambda: checkpoint.save(Path("no", "such", "folder", "x.safetensors"), PARAMS)),
    ("path", lambda: checkpoint.load("no-such-file.safetensors", PARAMS)),
    ("path", lambda: checkpoint.read_metadata("no-such-file.safetensors")),
    # sweeps and uncertainty
    ("axes", lambda: sweep.grid()),
    ("lr", lambda: sweep.grid(lr=bad(0.1))),
    ("lr", lambda: sweep.grid(lr=[])),
    ("rate", lambda: sweep.grid(rate=bad(["a"]))),
    ("model", lambda: uncertainty.mc_dropout(bad(nn.Linear(3, 3)), {}, {}, X, key=KEY)),
    ("samples", lambda: uncertainty.mc_dropout(MODEL, MODEL_PARAMS, MODEL_STATE, X, key=KEY, samples=0)),
    ("chunk_size", lambda: uncertainty.mc_dropout(MODEL, MODEL_PARAMS, MODEL_STATE, X, key=KEY, chunk_size=0)),
    ("key", lambda: uncertainty.mc_dropout(MODEL, MODEL_PARAMS, MODEL_STATE, X, key=bad(3))),
    ("probabilities", lambda: uncertainty.from_samples(torch.ones(3))),
    ("probabilities", lambda: uncertainty.from_samples(torch.ones(0, 2, 3))),
    ("probabilities", lambda: uncertainty.entropy(INTEGERS)),
    ("targets", lambda: uncertainty.negative_log_likelihood(P, P)),
    ("reduction", lambda: uncertainty.negative_log_likelihood(P, CLASSES, reduction="sum")),
    ("targets", lambda: uncertainty.brier(P, CLASSES[:2])),
    ("probabilities", lambda: uncertainty.brier(bad(None), CLASSES)),
    ("bins", lambda: uncertainty.expected_calibration_error(P, CLASSES, bins=0)),
    ("function", lambda: fr.jit(bad(3))),
]


@pytest.mark.parametrize(
    ("argument", "call"), CASES, ids=[f"{number}-{argument}" for number, (argument, _) in enumerate(CASES)]
)
def test_a_bad_argument_is_named(argument: str, call: Callable[[], Any]) -> None:
    with pytest.raises(fr.FuncregError) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(f"{argument}: got "), message
    assert "; expected " in message


def test_a_key_that_is_missing_is_pythons_own_error() -> None:
    for function in (noise.dropout, noise.drop_path, noise.gaussian_dropout):
        with pytest.raises(TypeError, match="key"):
            bad(function)(X, 0.5)


def test_the_remedy_is_in_the_message() -> None:
    for call, remedy in (
        (lambda: fr.random.uniform(KEYS, 2), "torch.func.vmap"),
        (lambda: fr.random.split(bad(7)), r"fr.random.key\(7\)"),
        (lambda: losses.cross_entropy(X, CLASSES.float()), r"targets.long\(\)"),
        (lambda: noise.dropout(INTEGERS, 0.5, key=KEY), r"x.float\(\)"),
        (lambda: noise.dropout(X, torch.ones(3), key=KEY), "vmap"),
        (lambda: norm.batch_norm(torch.ones(1, 3), STATS, train=True), "larger batch"),
    ):
        with pytest.raises(fr.FuncregError, match=remedy):
            call()


def test_tensors_are_never_read() -> None:
    """A check that read a number would fail under vmap, and stall a GPU."""
    rates = torch.tensor([-1.0, 2.0])  # out of range, which only Python numbers are checked for
    assert torch.func.vmap(lambda rate: noise.dropout(X, rate, key=KEY))(rates).shape == (2, 4, 3)


def test_numbers() -> None:
    for good in (0, 0.0, 1, 0.5, torch.tensor(7.0), torch.tensor(3)):
        _checks.check_number("p", good, 0.0, 1.0)
    for wrong in (-1e-9, 1.1, math.nan, math.inf, True, "1", None, torch.tensor(1j), torch.tensor(True)):
        with pytest.raises(fr.FuncregError, match=r"^p: got"):
            _checks.check_number("p", wrong, 0.0, 1.0)
    for wrong, exclusive in ((0.0, "low"), (1.0, "high"), (0.0, "both"), (1.0, "both")):
        with pytest.raises(fr.FuncregError, match=r"[(\[]0, 1[)\]]"):
            _checks.check_number("p", wrong, 0.0, 1.0, exclusive=exclusive)


def test_counts_choices_tensors_and_callables() -> None:
    _checks.check_count("n", 3, 1, 3)
    _checks.check_choice("mode", "row", ("row", "batch"))
    _checks.check_tensor("x", X, ndim=2)
    _checks.check_floating("x", X)
    _checks.check_callable("f", len, "a function")
    for call in (
        lambda: _checks.check_count("n", 4, 1, 3),
        lambda: _checks.check_count("n", True),
        lambda: _checks.check_choice("mode", "col", ("row", "batch")),
        lambda: _checks.check_tensor("x", X, ndim=1),
        lambda: _checks.check_floating("x", INTEGERS),
        lambda: _checks.check_callable("f", 3, "a function"),
    ):
        with pytest.raises(fr.FuncregError, match="expected"):
            call()


def test_descriptions_are_short() -> None:
    assert _checks.describe(torch.zeros(1000)) == "a float32 tensor of shape (1000,)"
    assert len(_checks.describe("a" * 1000)) < 100
    assert issubclass(fr.FuncregError, ValueError)
