"""Going on from a checkpoint: the same bits whatever the data, said aloud, and refused when anything else changed."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from funcreg import FuncregError, random, sweep, train, tree
from funcreg.train import Batch
from funcreg.train.fingerprint import fingerprint
from tests.test_sources import KEY, OPTIMIZER, Noisy, Stream, X, Y, fitted, same_bits

MAKERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "tensors": (lambda: Batch(X, Y), {"batch_size": 16}),
    "arrays": (lambda: Batch(X.numpy(), Y.numpy()), {"batch_size": 16}),
    "loader": (lambda: train.loader(Noisy(), 16, key=KEY), {}),
    "DataLoader": (lambda: DataLoader(Noisy(), 16, shuffle=True), {}),
    "own generator": (lambda: DataLoader(Noisy(), 16, shuffle=True, generator=torch.Generator()), {}),
    "endless": (lambda: DataLoader(Stream(), 16), {"epoch_steps": 3}),
    "generator": (lambda: ((X + torch.rand(()), Y) for _ in itertools.count()), {"epoch_steps": 3}),
}


@pytest.mark.parametrize("epoch_steps", [None, 3])
@pytest.mark.parametrize("kind", MAKERS)
def test_whatever_the_data_a_resumed_run_has_the_same_bits(kind: str, epoch_steps: int | None, tmp_path: Path) -> None:
    make, settings = MAKERS[kind]
    settings = settings | ({} if epoch_steps is None else {"epoch_steps": epoch_steps})
    whole = fitted(make(), epochs=5, **settings)
    for epochs in (1, 3, 5):
        torch.rand(epochs)  # another process is elsewhere in its own draws
        np.random.rand(epochs)  # noqa: NPY002
        resumed = fitted(make(), epochs=epochs, checkpoint=tmp_path / "run", **settings)
    assert same_bits(resumed, whole)


def test_going_on_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = {3: "", 5: "run: going on after epoch 3 of 5\n"}
    for epochs, text in said.items():
        fitted(Batch(X, Y), checkpoint="run", epochs=epochs)
        assert capsys.readouterr().out == text
    fitted(Batch(X, Y), checkpoint="run", epochs=5)
    assert capsys.readouterr().out == "run: all 5 epochs were done before; nothing was trained\n"
    fitted(Batch(X, Y), checkpoint="stopped", on_epoch=lambda epoch: epoch.number == 2)
    fitted(Batch(X, Y), checkpoint="stopped")
    assert capsys.readouterr().out == "stopped: training had ended after epoch 2 of 3; nothing was trained\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "with version = 1; expected one with version = 2"),
        ({"version": None}, "with version = 1; expected one with version = None"),
        ({"mode": "max", "early_stopping": None}, "with mode = min; expected one with mode = max"),
        ({"monitor": lambda row: row["loss"]}, "with monitor = loss; expected one with monitor = a function"),
        ({"epoch_steps": 2}, "with epoch_steps = None; expected one with epoch_steps = 2"),
        ({"early_stopping": train.early_stopping(5)}, "with early_stopping's patience = 3; expected .* = 5"),
        ({"early_stopping": train.early_stopping(3, 0.1)}, "with early_stopping's min_delta = 0.0; expected .* = 0.1"),
        ({"early_stopping": None}, "with early_stopping's patience = 3"),
        ({"hparams": {"lr": 0.1}}, "without hparams's lr; expected one with hparams's lr = float64"),
        (
            {"data": train.loader(TensorDataset(X, Y), 50, key=KEY)},
            "without data's samples; expected one with data's",
        ),
        ({"key": random.key(4)}, r"with key = \[3, 0\]; expected one with key = \[4, 0\]"),
    ],
)
def test_what_changed_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    given = {
        "data": Batch(X, Y),
        "version": 1,
        "early_stopping": train.early_stopping(3),
        "checkpoint": tmp_path / "run",
    }
    fitted(**given)
    with pytest.raises(FuncregError, match=message):
        fitted(**(given | changes))


def test_what_changed_of_a_source_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run"
    fitted(train.loader(TensorDataset(X, Y), 10, key=KEY), checkpoint=path, epochs=1)
    for source, message in (
        (
            train.loader(TensorDataset(X, Y), 5, key=KEY),
            "data's batch_size = 10; expected one with .* = 5",
        ),
        (train.loader(TensorDataset(X, Y), 10, key=random.key(9)), r"data's key = \[3, 0\]"),
        (train.loader(TensorDataset(X, Y), 10, key=KEY, shuffle=False), "data's shuffle = True"),
        (DataLoader(TensorDataset(X, Y), 10), "without data; expected one with data = a DataLoader of 5 batches"),
    ):
        with pytest.raises(FuncregError, match=message):
            fitted(source, checkpoint=path)
    workers = train.loader(TensorDataset(X, Y), 10, key=KEY, workers=1)
    assert same_bits(fitted(workers, checkpoint=path), fitted(train.loader(TensorDataset(X, Y), 10, key=KEY)))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            DataLoader(Noisy(), 16, num_workers=1, persistent_workers=True),
            "data: got a DataLoader whose workers persist.*fr.train.loader",
        ),
        (DataLoader(Noisy(), 16, in_order=False), "data: got a DataLoader with in_order=False"),
    ],
)
def test_a_source_that_cannot_go_on_is_refused_beside_a_checkpoint(source: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(FuncregError, match=message):
        fitted(source, checkpoint=tmp_path / "run")


def test_other_metrics_than_before_are_refused(tmp_path: Path) -> None:
    fitted(Batch(X, Y), checkpoint=tmp_path / "run", epochs=1)
    with pytest.raises(FuncregError, match=r"metrics: got .*'more'.*expected those of the epochs before"):
        fitted(Batch(X, Y), checkpoint=tmp_path / "run", evaluate=lambda params, state: {"more": torch.ones(())})


# Fingerprints


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64, torch.uint8, torch.bool])
@pytest.mark.parametrize("large", [False, True])
def test_a_fingerprint_notices_order_and_bits(dtype: torch.dtype, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr("funcreg.train.fingerprint._WHOLE", 4000)
        monkeypatch.setattr("funcreg.train.fingerprint._BLOCK", 64)
    x = random.normal(random.key(0), (1000, 12))
    x = x > 0 if dtype == torch.bool else (100 * x).to(dtype)
    known = fingerprint("data", {"x": x})
    assert known == fingerprint("data", {"x": x.clone()})
    assert known == fingerprint("data", {"x": x.T.contiguous().T}), "strides are no part of it"
    columns = torch.tensor([1, 0, *range(2, 12)])
    order = random.permutation(random.key(1), 1000)
    for other in (
        x[:, columns],
        x[order],
        x.flip(0),
        x.roll(1, 0),
        x[:999],
        x.reshape(12, 1000),
        x.to(torch.complex128),
    ):
        assert fingerprint("data", {"x": other}) != known
    assert fingerprint("data", {"y": x}) != known


def test_a_fingerprint_of_what_is_small_misses_no_bit() -> None:
    x = torch.zeros(500, 300)
    known = fingerprint("data", x)
    for place in ((0, 0), (250, 17), (499, 299)):
        other = x.clone()
        other[place] = -0.0
        assert fingerprint("data", other) != known
    assert fingerprint("lr", torch.tensor(0.1)) == {"lr": "float32 () 0.10000000149011612"}


# Reading a run without its data


@pytest.mark.parametrize("members", [None, 3])
def test_a_run_is_loaded_without_its_data(members: int | None, tmp_path: Path) -> None:
    scores: Iterator[float] = iter([3.0, 1.0, 2.0, 4.0])

    def evaluate(params: Any, state: Any) -> dict[str, Tensor]:
        return {"score": torch.full(() if members is None else (members,), next(scores))}

    given: dict[str, Any] = {"monitor": "score", "members": members, "checkpoint": tmp_path / "run", "epochs": 4}
    result = fitted(Batch(X, Y), evaluate=evaluate, **given)
    loaded = train.load(tmp_path / "run")
    assert same_bits(loaded, result)
    assert tree.names(loaded) == tree.names(result)
    assert type(loaded.best.opt_state) is type(result.best.opt_state)
    if members is not None:
        assert sweep.best(loaded, None, "score").index == 0
        return
    assert loaded.best_epoch == 2
    on = fitted(Batch(X, Y), start=loaded.best, epochs=1)
    assert same_bits(on, fitted(Batch(X, Y), start=result.best, epochs=1)), "training goes on from it"
    assert int(on.train_state.step) == 3


def test_a_train_state_that_cannot_be_described_is_refused_when_loaded(tmp_path: Path) -> None:
    from collections import namedtuple

    fitted(Batch(X, Y), checkpoint=tmp_path / "run")
    with pytest.raises(FuncregError, match="which does not exist"):
        train.load(tmp_path / "other")
    local = namedtuple("local", "w")

    def loss(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        return ((batch.x @ params.w - batch.y) ** 2).mean(), (state, {})

    start = train.init(local(torch.ones(3, dtype=torch.float64)), {}, OPTIMIZER, key=KEY)
    fitted(Batch(X, Y), start=start, step=train.make_step(loss, OPTIMIZER), checkpoint=tmp_path / "local")
    with pytest.raises(FuncregError, match=r"a run with a local of \('w',\); .*Import tests.test_resume first"):
        train.load(tmp_path / "local")


# Which epoch is best


SCORES = [5.0, 2.0, 3.0, 1.0, 4.0]


@pytest.mark.parametrize(
    ("settings", "best"),
    [
        ({"monitor": "score"}, 4),
        ({"monitor": "score", "mode": "max"}, 1),
        ({"monitor": lambda row: -row["score"]}, 1),
        ({"monitor": lambda row: (row["score"] - 2.1).abs()}, 2),
        ({"monitor": lambda row: (row["score"] - 2.1).abs(), "mode": "max"}, 1),
        ({"monitor": "score", "early_stopping": train.early_stopping(3, mode="max")}, 1),
        ({"monitor": "score", "early_stopping": train.early_stopping(1)}, 2),
    ],
)
@pytest.mark.parametrize("members", [None, 2])
def test_monitor_and_mode_choose_the_best(settings: dict[str, Any], best: int, members: int | None) -> None:
    scores, states = iter(SCORES), []

    def evaluate(params: Any, state: Any) -> dict[str, Tensor]:
        return {"score": torch.full(() if members is None else (members,), next(scores))}

    result = fitted(
        Batch(X, Y),
        members=members,
        epochs=5,
        evaluate=evaluate,
        on_epoch=lambda e: states.append(e.train_state),
        **settings,
    )
    assert torch.as_tensor(result.best_epoch).unique().tolist() == [best]
    assert same_bits(result.best, states[best - 1])
    assert ("monitor" in result.history) == callable(settings["monitor"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "max", "early_stopping": train.early_stopping(2)}, "mode: got 'max'; expected 'min', which early_st"),
        ({"mode": "best"}, "mode: got 'best'"),
        ({"monitor": 3}, "monitor: got 3"),
        ({"monitor": lambda row: row["loss"].expand(2)}, r"monitor: got a return of a float64 tensor of shape \(2,\)"),
        ({"monitor": lambda row: "loss"}, "monitor: got a return of 'loss'"),
        ({"version": 1.5}, "version: got 1.5"),
        ({"on_epoch": lambda epoch: torch.tensor([True, False])}, r"on_epoch: got a return of a bool tensor"),
    ],
)
def test_bad_choices_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FuncregError, match=message):
        fitted(Batch(X, Y), **changes)


# on_epoch ends training


@pytest.mark.parametrize("members", [None, 3])
@pytest.mark.parametrize("told", [bool, torch.tensor])
def test_on_epoch_ends_training(members: int | None, told: Any, tmp_path: Path) -> None:
    def on_epoch(epoch: train.Epoch) -> Any:
        return told(epoch.number == 2)

    result = fitted(Batch(X, Y), members=members, on_epoch=on_epoch, checkpoint=tmp_path / "run")
    assert torch.as_tensor(result.stopped_epoch).unique().tolist() == [2]
    assert len(result.history["loss"]) == 2
    assert not result.interrupted
    assert same_bits(fitted(Batch(X, Y), members=members, checkpoint=tmp_path / "run"), result), "it has ended"


def test_on_epoch_ends_some_members() -> None:
    def on_epoch(epoch: train.Epoch) -> Tensor:
        return torch.tensor([False, epoch.number >= 2, False])

    result = fitted(Batch(X, Y), members=3, on_epoch=on_epoch)
    assert result.stopped_epoch.tolist() == [0, 2, 0]
    assert result.train_state.step.tolist() == [3, 2, 3]


@pytest.mark.parametrize("told", [None, 1, "stop", [True], torch.ones(())])
def test_what_else_on_epoch_returns_is_not_used(told: Any) -> None:
    assert same_bits(fitted(Batch(X, Y), on_epoch=lambda epoch: told), fitted(Batch(X, Y)))


def test_an_epoch_has_the_history_before_a_resume(tmp_path: Path) -> None:
    fitted(Batch(X, Y), epochs=2, checkpoint=tmp_path / "run")
    heard: list[train.Epoch] = []
    result = fitted(Batch(X, Y), checkpoint=tmp_path / "run", on_epoch=heard.append)
    assert [each.number for each in heard] == [3]
    assert torch.equal(torch.stack([row["loss"] for row in heard[0].history]), result.history["loss"])
