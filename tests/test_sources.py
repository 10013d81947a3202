"""Data that is not in memory: sources against tensors and against loops by hand, their draws, and what goes wrong."""

import itertools
import random as standard_random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import funcreg as fr
from funcreg import FuncregError, optim, random, train, tree
from funcreg.train import Batch

untyped: Any = train
needs_compiler = pytest.mark.skipif(not fr.can_compile(), reason="needs a C++ compiler")
KEY = random.key(3)
X = random.normal(random.key(1), (50, 3), dtype=torch.float64)
Y = X @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
OPTIMIZER = optim.adam(0.05)


def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
    kept = fr.noise.dropout(batch.x, 0.1, key=key)
    return ((kept @ params["w"] - batch.y) ** 2).mean(), (state, {"mean": batch.x.mean()})


STEP = train.make_step(loss_fn, OPTIMIZER)


def begin(members: int | None = None) -> train.TrainState:
    shape = (3,) if members is None else (members, 3)
    params = {"w": random.normal(random.key(5), shape, dtype=torch.float64)}
    return train.init(params, {}, OPTIMIZER, key=random.key(2), members=members)


def fitted(data: Any, **changes: Any) -> train.FitResult:
    step = changes.pop("step", STEP)
    start = changes.pop("start", None) or begin(changes.get("members"))
    return train.fit(step, start, data, **({"key": KEY, "epochs": 3, "jit": False} | changes))


def same_bits(one: tree.Tree, other: tree.Tree) -> bool:
    pairs = zip(tree.leaves(one), tree.leaves(other), strict=True)
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def batches_of(source: Any, **changes: Any) -> list[list[float]]:
    """The first feature of every batch that a fit takes, as the step sees it."""
    seen: list[list[float]] = []

    def step(train_state: Any, batch: Any, hparams: Any) -> Any:
        seen.append(batch.x[:, 0].tolist())
        return STEP(train_state, batch, hparams)

    fitted(source, step=step, **changes)
    return seen


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Samples that draw from all three global generators."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.rand(()) + standard_random.random() + np.random.rand()  # noqa: NPY002  (as others' code draws)
        return X[index] + 0.1 * noise, Y[index]


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Samples without end."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in itertools.count():
            yield X[index % 50] + torch.rand(()), Y[index % 50]


# What is trained


def test_a_source_of_the_same_batches_gives_the_same_bits() -> None:
    expected = fitted(Batch(X, Y), batch_size=10)
    assert same_bits(fitted(train.loader(TensorDataset(X, Y), 10, key=KEY)), expected)
    ordered = DataLoader(TensorDataset(X, Y), batch_size=10)
    train_state, losses = begin(), []
    with torch.no_grad():
        for _ in range(3):
            for x, y in ordered:
                train_state, metrics = STEP(train_state, Batch(x, y))
                losses.append(metrics["loss"])
    result = fitted(ordered)
    assert same_bits(result.train_state, train_state)
    assert same_bits(fitted(list(ordered)), result)
    assert torch.equal(result.history["loss"], torch.stack(losses).reshape(3, 5).T.mean(0))
    assert tree.norm(tree.map(torch.sub, result.train_state.params, begin().params)) > 0.1


def test_members_share_a_sources_batches() -> None:
    together = fitted(train.loader(TensorDataset(X, Y), 10, key=KEY), members=3, chunk_size=2)
    assert same_bits(together, fitted(Batch(X, Y), batch_size=10, members=3, chunk_size=2))
    alone = fitted(train.loader(TensorDataset(X, Y), 10, key=KEY), start=tree.index(begin(3), 1))
    torch.testing.assert_close(tree.index(together.train_state.params, 1), alone.train_state.params)
    with pytest.raises(FuncregError, match="batches: got 'own' for a source; expected 'shared'"):
        fitted(DataLoader(TensorDataset(X, Y), 10), members=3, batches="own")


def test_members_of_a_source_are_timed_by_a_batch_that_is_not_lost() -> None:
    result = fitted((Batch(X[i : i + 5], Y[i : i + 5]) for i in range(0, 50, 5)), members=2, epochs=1)
    assert result.train_state.step.tolist() == [10, 10]


@pytest.mark.usefixtures("captured")
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=needs_compiler)])
def test_a_last_smaller_batch(jit: bool) -> None:
    source = DataLoader(TensorDataset(X, Y), batch_size=16)
    if not jit:
        assert int(fitted(source).train_state.step) == 12, "an eager step takes it"
        return
    with pytest.warns(UserWarning, match=r"float64 \(2, 3\) where the others have float64 \(16, 3\)") as caught:
        result = fitted(source, jit=True)
    assert len(caught) == 1
    assert int(result.train_state.step) == 9
    dropping = fitted(DataLoader(TensorDataset(X, Y), batch_size=16, drop_last=True), jit=True)
    assert same_bits(result.train_state, dropping.train_state)
    for shapes, message in (((4, 2, 4), "a smaller batch only as the last"), ((2, 4), r"data's x: got a batch of .*4")):
        source = iter([Batch(X[:n], Y[:n]) for n in shapes])
        with warnings.catch_warnings(action="ignore"), pytest.raises(FuncregError, match=message):
            fitted(source, jit=True, epochs=1)


def test_an_epoch_of_so_many_steps_is_a_part_of_passes() -> None:
    data, passes = Batch(X, Y), batches_of(Batch(X, Y), batch_size=10, epochs=4)
    for source, settings in ((data, {"batch_size": 10}), (train.loader(TensorDataset(X, Y), 10, key=KEY), {})):
        assert batches_of(source, epochs=6, epoch_steps=3, **settings) == passes[:18]
        assert batches_of(source, epochs=2, epoch_steps=8, **settings) == passes[:16]
    result = fitted(data, batch_size=10, epochs=6, epoch_steps=3)
    assert result.history["loss"].shape == (6,)
    endless = DataLoader(Stream(), batch_size=10)
    assert int(fitted(endless, epochs=2, epoch_steps=7).train_state.step) == 14


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "tensor", "numpy"])
def test_batches_are_trees_of_tensors_or_arrays(kind: str) -> None:
    make: Any = {
        "list": lambda x, y: [x, y],
        "tuple": lambda x, y: (x, y),
        "dict": lambda x, y: {"x": x, "y": y},
        "tensor": lambda x, y: x,
        "numpy": lambda x, y: (x.numpy(), y.numpy()),
    }[kind]

    def loss(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        x = batch["x"] if kind == "dict" else batch if kind == "tensor" else batch.x
        return ((x @ params["w"]) ** 2).mean(), (state, {})

    source = [make(X[i : i + 10], Y[i : i + 10]) for i in range(0, 50, 10)]
    result = fitted(iter(source), step=train.make_step(loss, OPTIMIZER), epochs=1)
    assert int(result.train_state.step) == 5


# Draws


def test_a_fit_leaves_the_global_generators_and_a_loaders_own_alone() -> None:
    own = torch.Generator().manual_seed(7)
    source = DataLoader(Noisy(), 10, shuffle=True, generator=own)

    def states() -> tuple[Any, ...]:
        return (torch.get_rng_state().tolist(), own.get_state().tolist(), standard_random.getstate(), np.random.rand())  # noqa: NPY002

    np.random.seed(0)  # noqa: NPY002
    before = states()
    result = fitted(source)
    np.random.seed(0)  # noqa: NPY002
    assert states() == before
    assert same_bits(fitted(source), result), "its draws are of fit's key alone"
    assert not same_bits(fitted(source, key=random.key(4)), result)


def test_every_pass_has_draws_of_its_own() -> None:
    seen = batches_of(DataLoader(Noisy(), 50, shuffle=True))
    assert len({tuple(batch) for batch in seen}) == 3
    assert len({tuple(batch) for batch in batches_of(train.loader(Noisy(), 25, key=KEY))}) == 6


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 3])
def test_a_loaders_bits_do_not_depend_on_its_workers(workers: int) -> None:
    alone = [tree.clone(batch) for epoch in (0, 4) for batch in train.loader(Noisy(), 16, key=KEY).epoch(epoch)]
    with_workers = train.loader(Noisy(), 16, key=KEY, workers=workers)
    together = [batch for epoch in (0, 4) for batch in with_workers.epoch(epoch)]
    assert same_bits(together, alone)
    assert same_bits(list(with_workers.epoch(4, start=2)), alone[6:])
    assert not same_bits(alone[:4], alone[4:])
    assert len(with_workers) == 4


def test_a_loader_gives_all_samples_in_the_order_of_its_key() -> None:
    order = random.permutation(random.fold_in(KEY, 2), 50)
    batches = list(train.loader(TensorDataset(X, Y), 16, key=KEY).epoch(2))
    assert torch.equal(torch.cat([x for x, _ in batches]), X[order])
    assert [len(x) for x, _ in batches] == [16, 16, 16, 2]
    plain = train.loader(TensorDataset(X, Y), 16, key=KEY, shuffle=False, drop_last=True)
    assert torch.equal(torch.cat([x for x, _ in plain]), X[:48])
    assert len(plain) == 3
    assert list(train.loader(TensorDataset(X, Y), 64, key=KEY, drop_last=True)) == []
    shape = train.loader(list(range(10)), 5, key=KEY, collate=lambda samples: torch.tensor(samples).reshape(5, 1))
    assert [batch.shape for batch in shape] == [(5, 1)] * 2


def test_a_sampler_with_epochs_is_told_which() -> None:
    from torch.utils.data.distributed import DistributedSampler

    dataset = TensorDataset(X, Y)
    source = DataLoader(dataset, 50, sampler=DistributedSampler(dataset, num_replicas=1, rank=0))
    assert len({tuple(batch) for batch in batches_of(source)}) == 3


# Evaluation


def test_a_metric_that_fails_leaves_the_global_generators_where_they_were() -> None:
    def metric_fn(params: Any, state: Any, batch: Any) -> Any:
        raise ArithmeticError("kept")

    before = torch.get_rng_state()
    with pytest.raises(ArithmeticError, match="kept") as kept:
        train.make_evaluate(metric_fn)(begin().params, {}, DataLoader(TensorDataset(X, Y), 10, shuffle=True))
    assert torch.equal(torch.get_rng_state(), before), "also while somebody still holds the error"
    assert kept.value.args == ("kept",)


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=needs_compiler)])
def test_evaluation_of_a_source_counts_every_sample_once(jit: bool) -> None:
    def metric_fn(params: Any, state: Any, batch: Any) -> dict[str, Tensor]:
        return {"error": (batch.x @ params["w"] - batch.y) ** 2}

    params, generator = begin().params, torch.get_rng_state()
    evaluate = train.make_evaluate(metric_fn, jit=jit)
    expected = evaluate(params, {}, Batch(X, Y))
    for source in (DataLoader(TensorDataset(X, Y), 16), train.loader(TensorDataset(X, Y), 16, key=KEY, workers=1)):
        found = evaluate(params, {}, source)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(evaluate(params, {}, Batch(X.numpy(), Y.numpy())), expected)
    assert torch.equal(generator, torch.get_rng_state())
    with pytest.raises(FuncregError, match="batch_size: got 4 with a source"):
        evaluate(params, {}, DataLoader(TensorDataset(X, Y), 16), batch_size=4)
    with pytest.raises(FuncregError, match="data: got no samples"):
        evaluate(params, {}, iter([]))


# Arrays and files


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_memory_mapped_arrays_are_taken_as_they_are(tmp_path: Path, mode: Any) -> None:
    expected = fitted(Batch(X, Y), batch_size=10)
    np.save(tmp_path / "x.npy", X.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
    assert same_bits(fitted(Batch(mapped, Y.numpy()), batch_size=10), expected)
    X.numpy().tofile(tmp_path / "x.bin")
    from_file = torch.from_file(str(tmp_path / "x.bin"), size=150, dtype=torch.float64).reshape(50, 3)
    assert same_bits(fitted(Batch(from_file, Y), batch_size=10), expected)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array(["a"] * 50), r"data's x: got a numpy array of dtype <U1 and shape \(50,\)"),
        (np.array([None] * 50), "data's x: got a numpy array of dtype object"),
        (np.zeros((50, 3), dtype=">f8"), "data's x: got a numpy array of dtype >f8.*astype"),
        (np.zeros((50, 3))[::-1], "data's x: got a numpy array.*negative strides"),
    ],
)
def test_arrays_that_torch_has_no_tensor_for_are_named(array: Any, message: str) -> None:
    with pytest.raises(FuncregError, match=message):
        fitted(Batch(array, Y))


# What goes wrong


def test_a_list_of_batches_is_compared_with_the_checkpoints(tmp_path: Path) -> None:
    batches = list(DataLoader(TensorDataset(X, Y), batch_size=10))
    fitted(batches, epochs=1, checkpoint=tmp_path / "run")
    assert same_bits(fitted(batches, checkpoint=tmp_path / "run").train_state, fitted(batches).train_state)
    with pytest.raises(FuncregError, match=r"checkpoint: got .*a list of 5 batches sha256"):
        fitted([*batches[:-1], [X[:10], Y[:10]]], checkpoint=tmp_path / "run")


def test_a_generator_that_has_begun_is_no_source_to_go_on_with(tmp_path: Path) -> None:
    endless = (Batch(X + number, Y) for number in itertools.count())
    fitted(endless, epoch_steps=2, epochs=1, checkpoint=tmp_path / "run")
    with pytest.raises(FuncregError, match=r"data: got a generator that has begun.*Give a new one"):
        fitted(endless, epoch_steps=2, checkpoint=tmp_path / "run")


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        (TensorDataset(X, Y), {}, r"data: got a data set.*TensorDataset.*fr\.train\.loader\(dataset"),
        (iter([]), {}, "data: got a source that has no batch in pass 1"),
        (
            iter([Batch(X, Y)]),
            {},
            r"data: got an iterator that ended \(list_iterator\); expected a batch for each",
        ),
        (iter([Batch(X, Y)]), {"epoch_steps": 2}, "data: got an iterator that ended"),
        (itertools.count, {}, "got <class 'itertools.count'>"),
        (fitted, {}, r"data: got a function \(.*Call it"),
        (iter([{"x": X, "path": "a.png"}]), {}, "data's path: got a batch with 'a.png'.*Leave it out of the batch"),
        (iter(["abc"]), {}, "data: got a batch with 'abc'"),
        (iter([()]), {}, "data: got a batch without tensors"),
        ([(X[:0], Y[:0])], {}, "data: got a batch without a sample"),
        ([(X, Y), {"x": X, "label": Y}], {}, r"data: got a batch of \(label, x\), a dict; .* of \(x, y\)"),
        ([(X, Y), {"x": X, "y": Y}], {}, "data: got a batch of .*a dict; expected the tree of the first, .*a Batch"),
        ([(X, Y), (X.half(), Y)], {}, "data's x: got a batch with a float16 .*expected a float64 .*as in the first"),
        ([(X, Y), (X, Y.long())], {}, "data's y: got a batch with a int64 .*expected a float64"),
        ([(X, Y), (X[0], Y)], {}, r"data's x: got a batch with .*Convert it in the source"),
        (DataLoader(TensorDataset(X, Y)), {"batch_size": 3}, "batch_size: got 3 with a source"),
        (DataLoader(TensorDataset(X, Y)), {"epoch_steps": 0}, "epoch_steps: got 0"),
        ("data", {}, "got 'data'"),
        (3, {}, "got 3"),
    ],
)
def test_bad_sources_are_named(data: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FuncregError, match=message):
        fitted(data, **changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: untyped.loader(Stream(), 2, key=KEY), "dataset: got an iterable one"),
        (lambda: untyped.loader(iter([1]), 2, key=KEY), "dataset: got <list_iterator"),
        (lambda: untyped.loader([], 2, key=KEY), "dataset: got an empty one"),
        (lambda: untyped.loader([1], 0, key=KEY), "batch_size: got 0"),
        (lambda: untyped.loader([1], 2, key=3), "key: got 3"),
        (lambda: untyped.loader([1], 2, key=KEY, workers=-1), "workers: got -1"),
        (lambda: untyped.loader([1], 2, key=KEY, num_workers=2), "num_workers: got 2.*expected none: workers instead"),
        (lambda: untyped.loader([1], 2, key=KEY, collate=3), "collate: got 3"),
    ],
)
def test_bad_loader_arguments_are_named(make: Any, message: str) -> None:
    with pytest.raises(FuncregError, match=message):
        make()
