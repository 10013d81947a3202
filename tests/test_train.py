"""The training step and loop: against torch's own loop, K members against K runs, and what goes wrong."""

import math
import random as standard_random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap

import funcreg as fr
from funcreg import FuncregError, checkpoint, optim, random, sweep, train, tree
from funcreg.train import Batch
from funcreg.train import chunk_size as measured

untyped: Any = train  # for arguments that pyright would refuse too
needs_compiler = pytest.mark.skipif(not fr.can_compile(), reason="needs a C++ compiler")
MODEL = fr.from_module(
    lambda: nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
)
SETTINGS = {"rate": 0.3, "l2": 0.001, "lr": 0.05, "smoothing": 0.1}


def data(samples: int = 64) -> Batch:
    x = random.normal(random.key(11), (samples, 2), dtype=torch.float64)
    return Batch(x, (x[:, 0] ** 2 + 0.8 * x[:, 1] > 0.5).long())


def loss_fn(params, state, batch, *, key, hparams):
    logits, state = MODEL.apply(params, state, batch.x, key=key, train=True, rates=hparams["rate"])
    loss = fr.losses.cross_entropy(logits, batch.y, smoothing=hparams["smoothing"])
    return loss, (state, {"accuracy": fr.losses.accuracy(logits, batch.y)})


def optimizer(hparams):
    return optim.adam(hparams["lr"])


PENALTIES = {"l2": lambda params, hparams: fr.penalties.l2(params, hparams["l2"])}
STEP = train.make_step(loss_fn, optimizer, penalties=PENALTIES)


def begin(seed: int = 0, key: Tensor | None = None, hparams: Any = SETTINGS) -> train.TrainState:
    params, state = MODEL.init(random.key(seed))
    params = tree.cast(params, torch.float64)
    return train.init(params, state, optimizer, key=random.key(5) if key is None else key, hparams=hparams)


def per_sample(params, state, batch):
    logits, _ = MODEL.apply(params, state, batch.x)
    return {
        "val_loss": fr.losses.cross_entropy(logits, batch.y, reduction="none"),
        "val_accuracy": fr.losses.accuracy(logits, batch.y, reduction="none"),
    }


def same_bits(one: tree.Tree, other: tree.Tree) -> bool:
    pairs = zip(tree.leaves(one), tree.leaves(other), strict=True)
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def assert_close(actual: tree.Tree, expected: tree.Tree, tolerance: float) -> None:
    tree.map(lambda a, b: torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance), actual, expected)


def strided(leaf: Tensor) -> Tensor:
    """The same values, not contiguous."""
    return torch.stack((leaf, leaf), dim=-1)[..., 0]


# One step


def test_a_step_counts_and_reports_the_updated_parameters() -> None:
    train_state, metrics = STEP(begin(), data(), SETTINGS)
    assert int(train_state.step) == 1
    torch.testing.assert_close(metrics["param_norm"], tree.norm(train_state.params))


def test_plain_autograd_gives_the_same_bits() -> None:
    differentiable = plain = begin()
    other = {}
    for _ in range(5):
        differentiable, one = STEP(differentiable, data(), SETTINGS)
        with torch.no_grad():
            plain, other = STEP(plain, data(), SETTINGS)
        assert same_bits((differentiable, one), (plain, other))
    assert not any(leaf.requires_grad for leaf in tree.leaves((plain, other)))
    with torch.inference_mode():
        inference, _ = STEP(begin(), data(), SETTINGS)
    assert same_bits(inference, STEP(begin(), data(), SETTINGS)[0])


def test_a_step_is_pure() -> None:
    train_state, batch = begin(), data()
    before, generator = tree.clone((train_state, batch)), torch.get_rng_state()
    first, again = STEP(train_state, batch, SETTINGS), STEP(train_state, batch, SETTINGS)
    assert same_bits(before, (train_state, batch))
    assert same_bits(first, again)
    assert torch.equal(generator, torch.get_rng_state())
    assert not torch.equal(first[0].key, train_state.key)


def test_training_is_differentiable_in_its_hyperparameters() -> None:
    def validation(hparams: dict[str, Tensor]) -> Tensor:
        train_state = begin(hparams=hparams)
        for _ in range(3):
            train_state, _ = STEP(train_state, data(), hparams)
        return per_sample(train_state.params, train_state.state, data())["val_loss"].mean()

    hparams = {name: torch.tensor(value, dtype=torch.float64) for name, value in SETTINGS.items()}
    slopes = grad(validation)(hparams)
    for name in ("l2", "lr", "smoothing"):
        shift = 1e-5 * hparams[name]
        high = validation(hparams | {name: hparams[name] + shift})
        low = validation(hparams | {name: hparams[name] - shift})
        # Central differences in float64.
        torch.testing.assert_close(slopes[name], (high - low) / (2 * shift), rtol=1e-5, atol=1e-8)
        assert slopes[name] != 0


def test_steps_vmap_over_everything() -> None:
    points = sweep.grid(rate=[0.0, 0.5], l2=[0.0, 0.01], lr=[0.1], smoothing=[0.1])
    members = [tree.index(points, member) for member in range(4)]
    states = [begin(seed, random.key(seed), hparams) for seed, hparams in enumerate(members)]
    batched = vmap(STEP, in_dims=(0, None, 0))(tree.stack(states), data(), points)
    for member, (train_state, hparams) in enumerate(zip(states, members, strict=True)):
        assert_close(tree.index(batched, member), STEP(train_state, data(), hparams), 1e-12)


def returning(value: Any, state: Any = None) -> Any:
    step = train.make_step(lambda params, state, batch, *, key, hparams: value(params, state), optim.sgd(0.1))
    begun = train.init({"w": torch.ones(2)}, state or {"mean": torch.zeros(())}, optim.sgd(0.1), key=random.key(0))
    return step(begun, torch.ones(1))


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            lambda p, s: p["w"].sum(),
            r"loss_fn: got a return of a float32 tensor of shape \(\); expected \(loss, \(state",
        ),
        (lambda p, s: (p["w"].sum(), s, {}), "loss_fn: got a return of a tuple of 3"),
        (lambda p, s: (p["w"].sum(), {}), r"loss_fn: got a return of \(loss, a dict of \[\]\)"),
        (
            lambda p, s: (p["w"], (s, {})),
            r"loss_fn's loss: .*shape \(2,\); expected a tensor of shape \(\)\. Reduce it",
        ),
        (lambda p, s: (1.0, (s, {})), "loss_fn's loss: got 1.0"),
        (lambda p, s: (p["w"].sum(), ({}, {})), r"loss_fn's state: .*missing \['mean'\]"),
        (lambda p, s: (p["w"].sum(), (s | {"var": s["mean"]}, {})), r"loss_fn's state: .*extra \['var'\]"),
        (lambda p, s: (p["w"].sum(), (s, p["w"])), "loss_fn's metrics: got a float32 tensor"),
        (lambda p, s: (p["w"].sum(), (s, {"a": 0.5})), r"loss_fn's metrics\['a'\]: got 0.5 \(float\)"),
        (lambda p, s: (p["w"].sum(), (s, {"a": p["w"]})), r"loss_fn's metrics\['a'\]: .*shape \(2,\)"),
        (lambda p, s: (p["w"].sum(), (s, {"loss": p["w"].sum()})), "loss_fn's metrics: got 'loss'"),
    ],
)
def test_what_loss_fn_returns_is_checked(mode, value, message: str) -> None:
    with mode(), pytest.raises(FuncregError, match=message):
        returning(value)


def test_penalties_are_checked() -> None:
    def step(**penalties: Any) -> Any:
        made = train.make_step(
            lambda params, state, batch, *, key, hparams: (params["w"].sum(), (state, {"a": params["w"].sum()})),
            optim.sgd(0.1),
            penalties=penalties,
        )
        return made(train.init({"w": torch.ones(2)}, {}, optim.sgd(0.1), key=random.key(0)), torch.ones(1))

    with pytest.raises(FuncregError, match=r"penalties\['l2'\]: got a float32 tensor of shape \(2,\)"):
        step(l2=lambda params, hparams: params["w"])
    with pytest.raises(FuncregError, match=r"penalties\['l2'\]: got 0.1 \(float\); expected a function"):
        step(l2=0.1)
    with pytest.raises(FuncregError, match="penalties: got 'a'; expected another name"):
        step(a=lambda params, hparams: params["w"].sum())
    with pytest.raises(FuncregError, match="penalties: got 'loss'"):
        step(loss=lambda params, hparams: params["w"].sum())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: untyped.make_step("loss", optim.sgd(0.1)), "loss_fn: got 'loss'"),
        (lambda: untyped.make_step(loss_fn, 0.1), "optimizer: got 0.1"),
        (lambda: train.init({}, {}, optim.sgd(0.1), key=random.key(0)), "params: got no leaves"),
        (lambda: train.init({"n": torch.ones(1).long()}, {}, optim.sgd(0.1), key=random.key(0)), "n: got a int64"),
        (lambda: untyped.init({"w": torch.ones(1)}, {}, optim.sgd(0.1), key=0), "key: got 0"),
        (lambda: train.init({"w": torch.ones(1)}, {}, lambda h: h, key=random.key(0), hparams=1.0), "optimizer: got"),
        (
            lambda: train.init({"w": torch.ones(3)}, {}, optim.sgd(0.1), key=random.key(0), members=4),
            r"params's w: .*shape \(3,\)",
        ),
        (
            lambda: train.init(
                {"w": torch.ones(4)}, {"m": torch.ones(3)}, optim.sgd(0.1), key=random.key(0), members=4
            ),
            r"state's m: .*shape \(3,\); expected a leading axis of members = 4",
        ),
        (
            lambda: train.init(
                {"w": torch.ones(4)}, {}, optim.sgd(0.1), key=random.key(0), members=4, hparams={"a": 1}
            ),
            "hparams's a: got a int64 tensor of shape",
        ),
        (lambda: train.init({"w": torch.ones(4)}, {}, optim.sgd(0.1), key=random.key(0), members=0), "members: got 0"),
    ],
)
def test_bad_arguments_are_named(make, message: str) -> None:
    with pytest.raises(FuncregError, match=message):
        make()


# Evaluation


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=needs_compiler)])
def test_evaluation_counts_every_sample_once(jit: bool) -> None:
    params, state = begin()[:2]
    expected = {n: value.mean(dtype=torch.float64) for n, value in per_sample(params, state, data(10)).items()}
    evaluate = train.make_evaluate(per_sample, jit=jit)
    for batch_size in (None, 4) if jit else (None, 1, 3, 4, 10, 99):
        assert_close(evaluate(params, state, data(10), batch_size=batch_size), expected, 1e-12)


def test_evaluation_of_members() -> None:
    states = [begin(seed) for seed in range(3)]
    stacked = tree.stack(states)
    result = train.make_evaluate(per_sample, members=3)(stacked.params, stacked.state, data(10), batch_size=4)
    for member, each in enumerate(states):
        alone = train.make_evaluate(per_sample)(each.params, each.state, data(10))
        assert_close(tree.index(result, member), alone, 1e-12)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=[needs_compiler, pytest.mark.slow])])
def test_evaluation_of_members_in_chunks(jit: bool, chunk_size: int, request: pytest.FixtureRequest) -> None:
    if chunk_size != 2:
        request.getfixturevalue("captured")
    stacked = tree.stack([begin(seed) for seed in range(5)])
    whole = train.make_evaluate(per_sample, members=5)
    chunked = train.make_evaluate(per_sample, members=5, chunk_size=chunk_size, jit=jit)
    given = (stacked.params, stacked.state, data(10))
    assert_close(chunked(*given, batch_size=4), whole(*given, batch_size=4), 1e-12)


def test_evaluation_of_other_members_is_refused() -> None:
    stacked = tree.stack([begin(seed) for seed in range(3)])
    with pytest.raises(FuncregError, match=r"params's 0\.bias: got .*; expected a leading axis of members = 4"):
        train.make_evaluate(per_sample, members=4, chunk_size=2)(stacked.params, stacked.state, data(10))


@pytest.mark.parametrize(
    ("metric_fn", "message"),
    [
        (lambda p, s, b: b.x.sum(), "metric_fn: got a return of a float64 tensor"),
        (lambda p, s, b: {"a": b.x.mean()}, r"metric_fn's 'a': .*shape \(\); expected .*\(4,\).*reduction=\"none\""),
        (lambda p, s, b: {"a": 0.5}, r"metric_fn's 'a': got 0.5"),
    ],
)
def test_what_metric_fn_returns_is_checked(metric_fn, message: str) -> None:
    with pytest.raises(FuncregError, match=message):
        train.make_evaluate(metric_fn)({}, {}, data(10), batch_size=4)


# Early stopping


def stopped_after(stopping: train.EarlyStopping, values: list[float]) -> int | None:
    state = stopping.init()
    for epoch, value in enumerate(values, 1):
        state = stopping.update(state, torch.tensor(value))
        if state.stopped:
            return epoch
    return None


LOSSES = [2.5, 2.0, 1.5, 1.2, 1.1, 1.15, 1.18, 1.20, 1.22]


def test_early_stopping_waits_for_its_patience() -> None:
    assert stopped_after(train.early_stopping(3, min_delta=0.01), LOSSES) == 8
    assert stopped_after(train.early_stopping(3, min_delta=0.01, mode="max"), [-value for value in LOSSES]) == 8
    assert stopped_after(train.early_stopping(5, min_delta=0.01), LOSSES) is None
    assert stopped_after(train.early_stopping(2, min_delta=0.15), [1.0, 0.9, 0.86, 0.7]) == 3
    assert stopped_after(train.early_stopping(2), [1.0, math.nan, math.nan]) == 3


def test_a_stopped_state_stays() -> None:
    stopping = train.early_stopping(1)
    state = stopping.init()
    for value in (1.0, 2.0):
        state = stopping.update(state, torch.tensor(value))
    after = stopping.update(state, torch.tensor(0.0))
    assert after.best == 1.0
    assert after.stopped
    assert not after.improved


def test_members_stop_each_on_their_own() -> None:
    patience, deltas = torch.tensor([1, 2, 3]), torch.tensor([0.0, 0.1, 0.5])
    values = random.normal(random.key(0), (20, 3))
    together = train.early_stopping(patience, deltas)
    state, alone = (
        together.init(3),
        [train.early_stopping(int(p), float(d)) for p, d in zip(patience, deltas, strict=True)],
    )
    states = [each.init() for each in alone]
    for row in values:
        state = together.update(state, row)
        states = [each.update(own, value) for each, own, value in zip(alone, states, row, strict=True)]
        assert same_bits(state, tree.stack(states))
    assert state.stopped.all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patience": 0}, "patience: got 0"),
        ({"patience": 1.5}, "patience: got 1.5"),
        ({"patience": 1, "min_delta": -0.1}, "min_delta: got -0.1"),
        ({"patience": 1, "mode": "lower"}, "mode: got 'lower'"),
    ],
)
def test_bad_stopping_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(FuncregError, match=message):
        train.early_stopping(**arguments)


# The loop


def quick_fit(train_state: train.TrainState | None = None, **changes: Any) -> train.FitResult:
    arguments: dict[str, Any] = {"key": random.key(1), "epochs": 4, "batch_size": 16, "hparams": SETTINGS, "jit": False}
    arguments |= changes
    given = arguments.pop("data", data())
    step = arguments.pop("step", STEP)
    return train.fit(step, begin() if train_state is None else train_state, given, **arguments)


def test_fit_is_the_loop_it_documents() -> None:
    result = quick_fit(data=data(70))  # the last 6 of each epoch are left out
    train_state, losses = begin(), []
    hparams = {name: torch.tensor(value, dtype=torch.float64) for name, value in SETTINGS.items()}
    with torch.no_grad():
        for epoch in range(4):
            order = random.permutation(random.fold_in(random.key(1), epoch), 70)
            for first in range(0, 64, 16):
                batch = tree.map(lambda leaf, chosen=order[first : first + 16]: leaf[chosen], data(70))
                train_state, metrics = STEP(train_state, batch, hparams)
                losses.append(metrics["loss"])
    assert same_bits(result.train_state, train_state)
    assert torch.equal(result.history["loss"], torch.stack(losses).reshape(4, 4).T.mean(0))
    assert set(result.history) == {"loss", "accuracy", "l2", "grad_norm", "param_norm", "learning_rate"}
    best = int(result.history["loss"].argmin()) + 1
    assert result[3:] == (best, 0, 0, False, 1)
    assert same_bits(result.best, quick_fit(data=data(70), epochs=best).train_state)


@pytest.mark.parametrize("batch_size", [None, 64, 1000])
def test_a_full_batch_keeps_its_order(batch_size: int | None) -> None:
    result = quick_fit(batch_size=batch_size, epochs=2)
    train_state = begin()
    for _ in range(2):
        train_state, _ = STEP(train_state, data(), tree.map(lambda n: torch.tensor(n, dtype=torch.float64), SETTINGS))
    assert_close(result.train_state, train_state, 1e-12)


def test_fit_leaves_its_arguments_and_the_global_generator_alone() -> None:
    train_state, batch, generator = begin(), data(), torch.get_rng_state()
    before = tree.clone((train_state, batch))
    result = quick_fit(train_state, data=batch)
    assert same_bits(before, (train_state, batch))
    assert torch.equal(generator, torch.get_rng_state())
    assert same_bits(result.train_state, quick_fit(train_state, data=batch).train_state)


def test_fit_takes_tracked_and_strided_parameters() -> None:
    given = begin()._replace(params=tree.map(lambda leaf: nn.Parameter(strided(leaf)), begin().params))
    result = quick_fit(given)
    assert same_bits(result.train_state, quick_fit().train_state)
    assert not any(leaf.requires_grad for leaf in tree.leaves(result.train_state))


def test_fit_stops_early_and_keeps_the_best() -> None:
    values = torch.tensor([9.0, 5.0, 3.0, 4.0, 3.5, 2.0, 1.0])
    seen: list[tree.Tree] = []

    def evaluate(params, state):
        seen.append(params)
        return {"val_loss": values[len(seen) - 1]}

    result = quick_fit(epochs=7, evaluate=evaluate, early_stopping=train.early_stopping(2), monitor="val_loss")
    assert (result.stopped_epoch, result.best_epoch, result.diverged_epoch, result.interrupted) == (5, 3, 0, False)
    assert result.history["val_loss"].tolist() == values[:5].tolist()
    assert same_bits(result.best.params, seen[2])
    assert same_bits(result.train_state.params, seen[4])


def test_on_epoch_hears_of_every_epoch_and_every_step() -> None:
    heard: list[train.Epoch] = []
    result = quick_fit(on_epoch=heard.append)
    assert same_bits(result, quick_fit())
    assert [each.number for each in heard] == [1, 2, 3, 4]
    assert [int(each.train_state.step) for each in heard] == [4, 8, 12, 16]
    assert same_bits(heard[-1].train_state, result.train_state)
    for name, column in result.history.items():
        assert torch.equal(torch.stack([each.metrics[name] for each in heard]), column)
        steps = torch.stack([each.steps[name] for each in heard])
        assert steps.shape == (4, 4)
        assert torch.equal(steps.mean(1), column)
    assert quick_fit(epochs=1).history["loss"] == heard[0].metrics["loss"]


def test_on_epoch_of_members_has_everyones_steps(tmp_path: Path) -> None:
    heard: list[train.Epoch] = []
    points, path = sweep_points(3), tmp_path / "run.safetensors"
    starts = tree.stack([begin(seed, hparams=tree.index(points, seed)) for seed in range(3)])

    def on_epoch(epoch: train.Epoch) -> None:
        heard.append(epoch)
        assert path.exists(), "what is heard of is kept"
        if epoch.number == 2:
            raise RuntimeError("a bug in a callback")

    with pytest.raises(RuntimeError, match="a bug in a callback"):
        quick_fit(starts, hparams=points, members=3, chunk_size=2, checkpoint=path, on_epoch=on_epoch)
    assert heard[0].steps["loss"].shape == (4, 3)
    rest: list[train.Epoch] = []
    quick_fit(starts, hparams=points, members=3, chunk_size=2, checkpoint=path, on_epoch=rest.append)
    assert [each.number for each in rest] == [3, 4], "it goes on after the epoch that was kept"


def sweep_points(members: int) -> dict[str, Tensor]:
    draws = random.uniform(random.key(3), (4, members), dtype=torch.float64)
    return {"rate": 0.6 * draws[0], "l2": 0.01 * draws[1], "lr": 0.005 + 0.1 * draws[2], "smoothing": 0.3 * draws[3]}


def members_against_runs(members: int, tolerance: float, **changes: Any) -> None:
    """One fit of K members, and K fits: own start, noise, hyperparameters and early stopping."""
    points, keys = sweep_points(members), random.split(random.key(9), members)
    starts = [begin(seed, keys[seed], tree.index(points, seed)) for seed in range(members)]
    validation = data(100).x.flip(0)[:30]
    held_out = Batch(validation, (validation[:, 0] ** 2 + 0.8 * validation[:, 1] > 0.5).long())
    each, own = train.make_evaluate(per_sample), train.make_evaluate(per_sample, members=members)
    own_batches = changes.get("batches") == "own"
    arguments = {
        "batch_size": 16,
        "epochs": 12,
        "early_stopping": train.early_stopping(2, min_delta=1e-3),
        "monitor": "val_loss",
    }
    together = quick_fit(
        tree.stack(starts),
        hparams=points,
        members=members,
        evaluate=lambda params, state: own(params, state, held_out),
        **(arguments | changes),
    )
    changes.pop("batches", None)
    shuffles = random.split(random.key(1), members)
    for member, train_state in enumerate(starts):
        alone = quick_fit(
            train_state,
            hparams=tree.index(points, member),
            evaluate=lambda params, state: each(params, state, held_out),
            **(arguments | changes | ({"key": shuffles[member]} if own_batches else {})),
        )
        assert_close(tree.index(together.train_state, member), alone.train_state, tolerance)
        assert_close(tree.index(together.best, member), alone.best, tolerance)
        assert int(together.best_epoch[member]) == alone.best_epoch
        assert int(together.stopped_epoch[member]) == alone.stopped_epoch
        epochs = len(alone.history["loss"])
        for name, column in together.history.items():
            torch.testing.assert_close(column[:epochs, member], alone.history[name], rtol=tolerance, atol=tolerance)
            assert (column[epochs:, member] == column[epochs - 1, member]).all()
        moved = tree.norm(tree.map(torch.sub, alone.train_state.params, train_state.params))
        assert moved > 0.1, "training did not move"
    stops = together.stopped_epoch.tolist()
    assert len(set(stops)) > 2, "members did not stop at different epochs"


def test_members_equal_runs() -> None:
    members_against_runs(6, 1e-10)


def test_members_with_batches_of_their_own_equal_runs() -> None:
    members_against_runs(4, 1e-10, batches="own")


@pytest.mark.slow
def test_64_members_equal_64_runs() -> None:
    members_against_runs(64, 1e-10)


@pytest.mark.slow
@needs_compiler
def test_compiled_members_equal_compiled_runs() -> None:
    members_against_runs(3, 1e-10, jit=True)


@needs_compiler
@torch._dynamo.config.patch(error_on_recompile=True)
def test_one_compilation_whatever_the_numbers(tmp_path: Path) -> None:
    from torch._dynamo.utils import counters

    step = train.make_step(loss_fn, optimizer, penalties=PENALTIES)
    before = counters["stats"]["unique_graphs"]
    for seed in range(3):
        hparams = {name: value * (1 + seed) / 3 for name, value in SETTINGS.items()}
        given = begin(seed)._replace(params=tree.map(strided, begin(seed).params))
        compiled = quick_fit(given, step=step, key=random.key(seed), hparams=hparams, jit=True, epochs=2 + seed)
        eager = quick_fit(given, key=random.key(seed), hparams=hparams, epochs=2 + seed)
        assert_close(compiled.train_state, eager.train_state, 1e-10)
    for epochs in (1, 3):
        resumed = quick_fit(step=step, jit=True, epochs=epochs, checkpoint=tmp_path / "run")
    assert same_bits(resumed, quick_fit(step=step, jit=True, epochs=3))
    assert counters["stats"]["unique_graphs"] - before == 1


# Members in chunks


def in_chunks(members: int, **changes: Any) -> train.FitResult:
    """A fit whose arithmetic depends on no number's place in memory: noise, products and sums, but no exp or log."""

    def loss_fn(params, state, batch, *, key, hparams):
        kept = fr.noise.dropout(params["w"], hparams["rate"], key=key)
        error = kept * batch.x - batch.y
        return (error**2).sum(), ({"seen": state["seen"] + 1}, {"largest": error.abs().amax()})

    def momentum(hparams):
        return optim.sgd(hparams["lr"], momentum=0.9)

    hparams = {
        "rate": torch.linspace(0.1, 0.7, members, dtype=torch.float64),
        "lr": torch.linspace(1e-3, 4e-3, members, dtype=torch.float64),
    }
    state = {"seen": torch.zeros(members, dtype=torch.int64)}
    w = random.normal(random.key(0), (members, 7), dtype=torch.float64)
    begun = train.init({"w": w}, state, momentum, key=random.key(2), hparams=hparams, members=members)
    samples = Batch(random.normal(random.key(1), (64, 7), dtype=torch.float64), torch.ones(64, 7))
    arguments: dict[str, Any] = {"step": train.make_step(loss_fn, momentum), "data": samples, "members": members}
    return quick_fit(begun, hparams=hparams, **(arguments | changes))


@pytest.mark.parametrize("batches", ["shared", "own"])
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 9])
def test_chunks_give_the_same_bits(chunk_size: int, batches: str) -> None:
    stopping = {"early_stopping": train.early_stopping(1), "epochs": 3, "batches": batches}
    whole = in_chunks(5, **stopping)
    assert 0 < len(whole.stopped_epoch.nonzero()) < 5, "members that stop and members that do not"
    chunked = in_chunks(5, chunk_size=chunk_size, **stopping)
    assert same_bits(chunked[:-1], whole[:-1])
    assert chunked.chunk_size == min(chunk_size, 5)


@pytest.mark.parametrize("batches", ["shared", "own"])
@pytest.mark.parametrize("chunk_size", [1, 4])
def test_a_network_in_chunks_is_the_same_to_rounding(chunk_size: int, batches: str) -> None:
    points, keys = sweep_points(6), random.split(random.key(9), 6)
    starts = tree.stack([begin(seed, keys[seed], tree.index(points, seed)) for seed in range(6)])
    whole = quick_fit(starts, hparams=points, members=6, batches=batches)
    chunked = quick_fit(starts, hparams=points, members=6, batches=batches, chunk_size=chunk_size)
    assert_close(chunked[:3], whole[:3], 1e-10)
    assert tree.norm(tree.map(torch.sub, whole.train_state.params, starts.params)) > 0.1, "training did not move"


@needs_compiler
@pytest.mark.parametrize("chunk_size", [5, 2, pytest.param(1, marks=pytest.mark.slow)])
def test_one_compilation_for_all_chunks_of_all_epochs(chunk_size: int, request: pytest.FixtureRequest) -> None:
    from torch._dynamo.utils import counters

    if chunk_size != 2:
        request.getfixturevalue("captured")
    eager, before = in_chunks(5), counters["stats"]["unique_graphs"]
    with torch._dynamo.config.patch(error_on_recompile=True):
        compiled = in_chunks(5, chunk_size=chunk_size, jit=True)
    assert counters["stats"]["unique_graphs"] - before == 1
    assert_close(compiled[:3], eager[:3], 1e-12)


def test_a_chunked_run_resumes_with_the_same_bits_and_other_chunks(tmp_path: Path) -> None:
    whole = in_chunks(5, epochs=6)
    for epochs, chunk_size in ((2, 2), (3, 5), (6, 3)):
        resumed = in_chunks(5, epochs=epochs, chunk_size=chunk_size, checkpoint=tmp_path / "run")
    assert same_bits(resumed[:-1], whole[:-1])


def test_the_largest_chunk_that_is_about_as_quick_as_any() -> None:
    assert measured.choose(lambda size: 2.0 + 0.1 * size, 64) == 64  # calls cost more than members
    assert measured.choose(lambda size: 1.0 * size, 64) == 64
    assert measured.choose(lambda size: size**1.5, 64) == 1
    assert measured.choose(lambda size: 1.0 + size + (size > 32) * size, 64) == 16  # beyond a cache
    assert measured.choose(lambda size: torch.inf if size > 8 else 1.0, 12) == 4  # beyond the memory
    assert measured.choose(lambda size: size**1.05, 4) == 4, "no reason to change by chance"
    asked: list[int] = []
    for members in (6, 36):
        measured.choose(lambda size: asked.append(size) or 1.0, members)
    assert asked == [1, 3, 6] * 3 + [1, 4, 12, 36] * 3, "of 36 not 16: the third chunk would be a quarter full"


@pytest.fixture
def three_are_quickest(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock for one chunk of 1, of 3 and of 5 members, in turn; it says how often it was asked."""
    asked: list[float] = []

    def clock(device: torch.device) -> float:
        asked.append([0.0, 1.0, 0.0, 1.5, 0.0, 9.0][len(asked) % 6])
        return asked[-1]

    monkeypatch.setattr(measured, "clock", clock)
    return asked


@pytest.mark.parametrize("batches", ["shared", "own"])
def test_a_fit_takes_the_quickest_chunks(batches: str, three_are_quickest: list[float]) -> None:
    short = in_chunks(5, epochs=7, batches=batches)
    assert (short.chunk_size, three_are_quickest) == (5, []), "28 steps are over before it pays"
    auto = in_chunks(5, epochs=8, batches=batches)
    assert len(three_are_quickest) == 2 * 3 * 3
    assert same_bits(auto, in_chunks(5, epochs=8, batches=batches, chunk_size=3))
    assert quick_fit(epochs=8).chunk_size == 1
    assert len(three_are_quickest) == 2 * 3 * 3, "one model is not timed"


def test_a_run_goes_on_with_the_chunks_it_began_with(tmp_path: Path, three_are_quickest: list[float]) -> None:
    in_chunks(5, epochs=8, checkpoint=tmp_path / "measured")
    in_chunks(5, epochs=2, checkpoint=tmp_path / "given", chunk_size=2)
    asked = len(three_are_quickest)
    for name, chunk_size in (("measured", 3), ("given", 2)):
        resumed = in_chunks(5, epochs=16, checkpoint=tmp_path / name)
        assert same_bits(resumed, in_chunks(5, epochs=16, chunk_size=chunk_size))
    assert len(three_are_quickest) == asked


def test_what_is_too_large_for_the_memory_is_not_taken(three_are_quickest: list[float]) -> None:
    points, calls = sweep_points(5), []
    starts = tree.stack([begin(seed, random.key(seed), tree.index(points, seed)) for seed in range(5)])

    def step(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) <= 9 and len(calls) % 3 != 1:
            three_are_quickest.clear()
            raise torch.OutOfMemoryError("3 and 5 members")
        return STEP(*arguments)

    arguments: dict[str, Any] = {"hparams": points, "members": 5, "epochs": 8, "step": step}
    assert quick_fit(starts, **arguments).chunk_size == 1
    assert len(calls) == 9 + 5 * 32
    quick_fit(starts, **arguments)
    assert len(calls) == 9 + 2 * 5 * 32, "measured once for a step"


@pytest.mark.usefixtures("keyboard")
def test_ctrl_c_between_chunks_finishes_the_step(tmp_path: Path) -> None:
    points = sweep_points(5)
    starts = tree.stack([begin(seed, random.key(seed), tree.index(points, seed)) for seed in range(5)])
    arguments: dict[str, Any] = {"hparams": points, "members": 5, "chunk_size": 2, "checkpoint": tmp_path / "run"}
    result = quick_fit(starts, step=interrupting(after=17), **arguments)  # in the second of step 6's three chunks
    assert result.interrupted
    assert result.train_state.step.tolist() == [6] * 5
    assert same_bits(quick_fit(starts, **arguments), quick_fit(starts, **(arguments | {"checkpoint": None})))


def test_a_repeated_member_that_diverges_is_one_member() -> None:
    """The last, which fills up its chunk."""
    arguments = explosive(hparams={"lr": torch.tensor([0.01, 0.02, 10.0])}, members=3)
    train_state = train.init({"w": torch.ones(3, 2)}, {}, optim.sgd(1.0), key=random.key(0), members=3)
    with pytest.warns(train.DivergenceWarning, match=r"epoch 2: 1 of 3 members diverged \(not finite: loss.*\): 2\."):
        result = quick_fit(train_state, chunk_size=2, **arguments)
    assert result.diverged_epoch.tolist() == [0, 0, 2]
    assert result.best_epoch.tolist() == [6, 6, 1]
    with pytest.warns(train.DivergenceWarning):
        assert same_bits(result.train_state, quick_fit(train_state, **arguments).train_state)


MEMORY = """
import torch
from torch import nn
import funcreg as fr
from funcreg import optim, random, train
torch.set_num_threads(1)
layers = [nn.Linear(8, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 2)]
model = fr.from_module(lambda: nn.Sequential(*layers))
def loss_fn(params, state, batch, *, key, hparams):
    logits, state = model.apply(params, state, batch.x)
    return fr.losses.cross_entropy(logits, batch.y), (state, {{}})
params, state = fr.model_members(model, random.key(0), 32)
batch = train.Batch(torch.ones(2048, 8), torch.zeros(2048, dtype=torch.int64))
begun = train.init(params, state, optim.sgd(0.1), key=random.key(1), members=32)
step = train.make_step(loss_fn, optim.sgd(0.1))
def fit(batch):
    train.fit(step, begun, batch, key=random.key(2), epochs=2, members=32, jit=False, chunk_size={chunk_size})
fit(train.Batch(*(leaf[:2] for leaf in batch)))  # what is imported and allocated once
baseline()
fit(batch)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_chunks_bound_the_memory() -> None:
    """Activations of 32 networks, 64 MiB and more for each layer, against those of 4."""
    from experiments.benchmarks.measure import peak_memory

    whole, chunked = (peak_memory(MEMORY.format(chunk_size=chunk_size)) for chunk_size in (32, 4))
    assert chunked < whole / 2, f"{chunked:.0f} MiB against {whole:.0f}"


# What goes wrong


def explosive(**changes: Any) -> dict[str, Any]:
    """A fit that diverges: gradient descent on a parabola, with a rate beyond its stability."""

    def parabola(params, state, batch, *, key, hparams):
        return (params["w"] ** 4).sum(), (state, {"cube": (params["w"] ** 3).sum()})

    sgd = lambda hparams: optim.sgd(hparams["lr"])  # noqa: E731  (as a user writes it)
    step = train.make_step(parabola, sgd, penalties={"eighth": lambda params, hparams: (params["w"] ** 8).sum()})
    return {"step": step, "data": torch.zeros(4), "batch_size": 2, "epochs": 6} | changes


def test_one_model_that_diverges_is_an_error() -> None:
    arguments = explosive(hparams={"lr": 10.0})
    train_state = train.init({"w": torch.ones(2)}, {}, optim.sgd(1.0), key=random.key(0))
    with pytest.raises(FuncregError, match=r"epoch 2: training diverged: loss = .*eighth = .*parameters.*: w\. Lower"):
        quick_fit(train_state, **arguments)


def test_a_member_that_diverges_does_not_stop_the_others() -> None:
    arguments = explosive(hparams={"lr": torch.tensor([0.01, 10.0, 0.02])}, members=3)
    train_state = train.init({"w": torch.ones(3, 2)}, {}, optim.sgd(1.0), key=random.key(0), members=3)
    with pytest.warns(train.DivergenceWarning, match=r"epoch 2: 1 of 3 members diverged \(not finite: loss.*\): 1\."):
        result = quick_fit(train_state, **arguments)
    assert result.diverged_epoch.tolist() == [0, 2, 0]
    assert result.best_epoch.tolist() == [6, 1, 6]
    assert all(torch.isfinite(leaf).all() for leaf in tree.leaves(result.train_state))
    assert not torch.isfinite(result.history["loss"][1:, 1]).any()
    others = quick_fit(
        tree.map(lambda leaf: leaf[[0, 2]], train_state),
        **(arguments | {"hparams": {"lr": torch.tensor([0.01, 0.02])}, "members": 2}),
    )
    assert_close(tree.map(lambda leaf: leaf[[0, 2]], result.train_state.params), others.train_state.params, 1e-6)
    assert result.train_state.step.tolist() == [12, 2, 12]


def test_other_metrics_that_are_not_finite_are_only_a_warning() -> None:
    def evaluate(params, state):
        return {"log": torch.tensor(-torch.inf)}

    with pytest.warns(train.DivergenceWarning, match="epoch 1: the metric 'log' is not finite") as caught:
        result = quick_fit(evaluate=evaluate)
    assert len(caught) == 1
    assert len(result.history["loss"]) == 4
    with pytest.warns(train.DivergenceWarning, match="'log' is not finite; training goes on, which is no improvement"):
        result = quick_fit(evaluate=evaluate, monitor="log", early_stopping=train.early_stopping(2))
    assert (result.best_epoch, result.stopped_epoch, result.diverged_epoch) == (0, 2, 0)
    assert same_bits(result.best.params, begin().params)


def test_a_draw_from_the_global_generator_is_explained() -> None:
    def noisy(params, state, batch, *, key, hparams):
        return (params["w"] * torch.rand(2)).sum(), (state, {})

    step = train.make_step(noisy, optim.sgd(0.1))
    train_state = train.init({"w": torch.ones(3, 2)}, {}, optim.sgd(0.1), key=random.key(0), members=3)
    with pytest.raises(FuncregError, match=r"loss_fn: got a draw from torch's global generator.*split\(key, n\)"):
        quick_fit(train_state, step=step, data=torch.zeros(4), batch_size=2, hparams=None, members=3)


@needs_compiler
def test_a_wrong_loss_is_explained_when_compiled_too() -> None:
    step = train.make_step(lambda params, state, batch, *, key, hparams: params["w"].sum(), optim.sgd(0.1))
    train_state = train.init({"w": torch.ones(2)}, {}, optim.sgd(0.1), key=random.key(0))
    with pytest.raises(FuncregError, match="loss_fn: got a return of a float32 tensor"):
        quick_fit(train_state, step=step, data=torch.zeros(4), hparams=None, jit=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 3}, "step: got 3"),
        ({"key": 1}, "key: got 1"),
        ({"epochs": 0}, "epochs: got 0"),
        ({"epochs": 2.0}, "epochs: got 2.0"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"hparams": {"rate": "high"}}, "hparams's rate: got 'high'"),
        ({"members": 3}, r"train_state's params\.0\.bias: .*shape \(8,\); expected .*members = 3"),
        ({"batches": "own"}, "batches: got 'own' for one model"),
        ({"batches": "mine"}, "batches: got 'mine'"),
        ({"early_stopping": 3}, "early_stopping: got 3"),
        ({"monitor": "val_loss"}, "monitor: got 'val_loss'; expected one of 'loss'"),
        ({"checkpoint_every": 0}, "checkpoint_every: got 0"),
        ({"evaluate": lambda params, state: 1.0}, "evaluate: got a return of 1.0"),
        ({"evaluate": lambda params, state: {"loss": torch.ones(())}}, "evaluate: got a metric 'loss'.*'val_loss'"),
        ({"evaluate": lambda params, state: {"a": torch.ones(2)}}, "evaluate's 'a': got a float32 tensor of shape"),
        ({"data": Batch(torch.ones(4, 2), torch.ones(3))}, r"y|1: got a float32 tensor of shape \(3,\)"),
        ({"data": {}}, "data: got no tensors"),
    ],
)
def test_bad_fit_arguments_are_named(changes: dict, message: str) -> None:
    with pytest.raises(FuncregError, match=message):
        quick_fit(**changes)


@pytest.mark.parametrize(
    ("impurity", "message"),
    [
        (lambda params, batch: torch.rand(()), "step: got one that draws from the global generator.*from the key"),
        (lambda params, batch: standard_random.random(), "step: got one that draws from Python's random"),
        (lambda params, batch: params["0.bias"].detach().zero_().sum(), r"writes into params's 0\.bias in place"),
        (lambda params, batch: batch.x.mul_(2).sum(), "writes into batch's x in place.*Compute a new tensor"),
    ],
)
def test_a_step_that_is_not_pure_is_named(impurity: Any, message: str) -> None:
    def impure(params, state, batch, *, key, hparams):
        extra = impurity(params, batch)
        loss, rest = loss_fn(params, state, batch, key=key, hparams=hparams)
        return loss + 0 * extra, rest

    states = torch.get_rng_state(), standard_random.getstate()
    with pytest.raises(FuncregError, match=message):
        quick_fit(step=train.make_step(impure, optimizer))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert standard_random.getstate() == states[1]


def test_a_train_state_of_members_needs_members() -> None:
    with pytest.raises(FuncregError, match=r"members: got None.*Pass members=2"):
        quick_fit(tree.stack([begin(0), begin(1)]))
    with pytest.raises(FuncregError, match="train_state: got"):
        quick_fit({"params": 1})  # type: ignore[arg-type]


# Progress and Ctrl-C


def test_the_bar_shows_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    quick_fit(progress=True)
    shown = capsys.readouterr()
    assert "16/16" in shown.err
    assert "loss=" in shown.err
    assert shown.out == ""
    quick_fit()
    assert capsys.readouterr().err == ""


def test_a_bar_without_tqdm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FuncregError, match=r"progress: got True.*pip install tqdm"):
        quick_fit(progress=True)


@pytest.fixture
def keyboard() -> Iterator[None]:
    """Python's own handling of Ctrl-C, which a shell's background jobs start without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupting(after: int) -> Any:
    """A step that presses Ctrl-C once."""
    calls = []

    def step(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == after:
            signal.raise_signal(signal.SIGINT)
        return STEP(*arguments)

    return step


@pytest.mark.usefixtures("keyboard")
def test_ctrl_c_stops_between_steps_and_resumes(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    whole = quick_fit()
    result = quick_fit(step=interrupting(after=6), checkpoint=path, checkpoint_every=3)
    assert result.interrupted
    assert int(result.train_state.step) == 6
    assert len(result.history["loss"]) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = quick_fit(checkpoint=path)
    assert not resumed.interrupted
    assert same_bits(resumed, whole)


@pytest.mark.usefixtures("keyboard")
def test_ctrl_c_at_the_last_step_is_no_interruption() -> None:
    assert not quick_fit(step=interrupting(after=16)).interrupted


def test_fit_runs_in_a_thread() -> None:
    results: list[train.FitResult] = []
    thread = threading.Thread(target=lambda: results.append(quick_fit()))
    thread.start()
    thread.join()
    assert same_bits(results[0], quick_fit())


# Checkpoints


def checkpointed(path: Path, **changes: Any) -> train.FitResult:
    return quick_fit(
        checkpoint=path,
        early_stopping=train.early_stopping(5),
        evaluate=lambda params, state: train.make_evaluate(per_sample)(params, state, data(20)),
        monitor="val_loss",
        **changes,
    )


def test_a_resumed_run_has_the_same_bits(tmp_path: Path) -> None:
    whole = checkpointed(tmp_path / "whole", epochs=6)
    for epochs in (2, 4, 6, 6):
        resumed = checkpointed(tmp_path / "parts", epochs=epochs)
    assert same_bits(resumed, whole)
    assert resumed[3:] == whole[3:]
    assert checkpoint.read_metadata(tmp_path / "parts")["epoch"] == 6


def test_members_resume_with_the_same_bits(tmp_path: Path) -> None:
    points = sweep_points(5)
    starts = tree.stack([begin(seed, random.key(seed), tree.index(points, seed)) for seed in range(5)])
    arguments = {"hparams": points, "members": 5, "early_stopping": train.early_stopping(1)}
    whole = quick_fit(starts, epochs=8, **arguments)
    assert whole.stopped_epoch.any()
    for epochs in (3, 5, 8):
        resumed = quick_fit(starts, epochs=epochs, checkpoint=tmp_path / "run", **arguments)
    assert same_bits(resumed, whole)


def test_other_arguments_than_the_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    checkpointed(path, epochs=3)
    swapped = data()
    order = torch.tensor([1, 0, *range(2, 64)])
    for changes, message in (
        ({"batch_size": 8}, "with batch_size = 16; expected one with batch_size = 8"),
        ({"key": random.key(2)}, r"of a fit with key = \[1, 0\]; expected one with key = \[2, 0\]"),
        ({"hparams": SETTINGS | {"lr": 0.06}}, r"with hparams's lr = float64 \(\) 0.05; expected one with .* 0.06"),
        ({"data": data(65)}, r"of a fit with data's x = float64 \(64, 2\) sha256.*; expected .* \(65, 2\)"),
        ({"data": tree.map(lambda leaf: leaf[order], swapped)}, "of a fit with data's x = float64"),
        ({"data": swapped._replace(x=swapped.x.flip(1))}, "of a fit with data's x = float64"),
        ({"train_state": begin(1)}, "of a fit with train_state's params.0.bias = float64"),
        ({"epochs": 2}, "epochs: got 2; expected at least 3"),
    ):
        with pytest.raises(FuncregError, match=message):
            checkpointed(path, **changes)
    with pytest.raises(FuncregError, match="with monitor = val_loss; expected one with monitor = loss"):
        quick_fit(checkpoint=path)
    checkpoint.save(path, {"w": torch.ones(1)})
    with pytest.raises(FuncregError, match="another program saved"):
        checkpointed(path)


TRAINER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
torch.set_num_threads(1)
from test_train import checkpointed
print("ready", flush=True)
checkpointed(Path(sys.argv[2]), epochs=150)
"""


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL during training and during saving, several times, then one run to the end."""
    path, moments = tmp_path / "run", standard_random.Random(0)
    whole = checkpointed(tmp_path / "whole", epochs=150)
    reached = []
    for _ in range(4):
        command = [sys.executable, "-W", "error", "-c", TRAINER, str(Path(__file__).parent), str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.1, 0.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        reached.append(checkpoint.read_metadata(path)["epoch"] if path.exists() else 0)
    assert 0 < reached[-1] < 150, f"killed too late to show anything: {reached}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same_bits(checkpointed(path, epochs=150), whole)
