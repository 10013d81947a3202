"""Logs of epochs: each epoch once, whatever happened between; and the learning rate among the metrics."""

import csv
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from funcreg import FuncregError, optim, sweep, train, transforms
from funcreg.train import Batch
from tests.test_sources import KEY, X, Y, begin, fitted, loss_fn

DATA = Batch(X, Y)


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_csv_file_has_the_history(tmp_path: Path) -> None:
    result = fitted(DATA, on_epoch=train.csv_log(tmp_path / "run.csv"))
    rows = lines(tmp_path / "run.csv")
    assert [row.pop("epoch") for row in rows] == ["1", "2", "3"]
    assert list(rows[0]) == list(result.history)
    for name, column in result.history.items():
        assert [float(row[name]) for row in rows] == column.tolist(), "the same bits"


def test_members_have_a_line_each(tmp_path: Path) -> None:
    result = fitted(DATA, members=3, on_epoch=train.csv_log(tmp_path / "run.csv"))
    rows = lines(tmp_path / "run.csv")
    assert [(row["epoch"], row["member"]) for row in rows[:4]] == [("1", "0"), ("1", "1"), ("1", "2"), ("2", "0")]
    assert [float(row["loss"]) for row in rows] == result.history["loss"].flatten().tolist()


@pytest.mark.parametrize("lost", ["nothing", "a line", "half a line", "the file", "the checkpoint's last epochs"])
def test_a_resumed_run_has_each_epoch_once(lost: str, tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.csv", tmp_path / "run.csv"
    fitted(DATA, epochs=6, on_epoch=train.csv_log(whole))
    given: dict[str, Any] = {"checkpoint": tmp_path / "run", "on_epoch": train.csv_log(path)}
    fitted(DATA, epochs=3, **given)
    text = path.read_text(encoding="utf-8")
    if lost == "a line":
        path.write_text("".join(text.splitlines(keepends=True)[:-1]), encoding="utf-8")
    elif lost == "half a line":
        path.write_text(text[:-9], encoding="utf-8")
    elif lost == "the file":
        path.unlink()
    elif lost != "nothing":
        path.write_text(text + "4,0.5\n5,0.5\n", encoding="utf-8")
    fitted(DATA, epochs=6, **(given | {"on_epoch": train.csv_log(path)}))
    assert path.read_text(encoding="utf-8") == whole.read_text(encoding="utf-8")
    fitted(DATA, epochs=6, on_epoch=given["on_epoch"])
    assert path.read_text(encoding="utf-8") == whole.read_text(encoding="utf-8"), "a new run replaces it"


class Writer:
    """SummaryWriter, as far as it is used."""

    made: list[Any] = []  # noqa: RUF012  (what the test reads)

    def __init__(self, log_dir: str, purge_step: int) -> None:
        self.place, self.scalars, self.open = (log_dir, purge_step), [], True
        self.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def flush(self) -> None: ...

    def close(self) -> None:
        self.open = False


def test_tensorboard_gets_every_epoch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))  # type: ignore[arg-type]
    Writer.made.clear()
    for epochs in (2, 3):
        result = fitted(
            DATA, epochs=epochs, checkpoint=tmp_path / "run", on_epoch=train.tensorboard_log(tmp_path / "logs")
        )
    first, second = Writer.made
    assert first.place == second.place == (str(tmp_path / "logs"), 1)
    for writer, steps in ((first, [1, 2]), (second, [1, 2, 3])):
        losses = [(value, step) for name, value, step in writer.scalars if name == "loss"]
        assert losses == list(zip(result.history["loss"].tolist(), steps, strict=False))
    log = train.tensorboard_log(tmp_path / "logs")
    fitted(DATA, epochs=1, on_epoch=log)
    fitted(DATA, epochs=1, on_epoch=log)
    assert [writer.open for writer in Writer.made] == [True, True, False, True]


def test_without_the_package_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # type: ignore[arg-type]
    with pytest.raises(FuncregError, match="pip install tensorboard"):
        train.tensorboard_log("logs")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_tensorboard_shows_a_resumed_run_as_one(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for epochs in (2, 4):
        result = fitted(
            DATA, epochs=epochs, checkpoint=tmp_path / "run", on_epoch=train.tensorboard_log(tmp_path / "logs")
        )
    shown = accumulators.EventAccumulator(str(tmp_path / "logs"))
    shown.Reload()
    assert [event.step for event in shown.Scalars("loss")] == [1, 2, 3, 4]
    values = torch.tensor([event.value for event in shown.Scalars("loss")], dtype=torch.float64)
    torch.testing.assert_close(values, result.history["loss"], rtol=1e-6, atol=0)


# The learning rate


def rates(optimizer: Any, **changes: Any) -> dict[str, list[Any]]:
    members = changes.get("members")
    start = train.init(begin(members).params, {}, optimizer, key=KEY, members=members, hparams=changes.get("hparams"))
    result = fitted(DATA, start=start, step=train.make_step(loss_fn, optimizer), **changes)
    return {name: column.tolist() for name, column in result.history.items() if name.startswith("learning_rate")}


def halves(step: Any) -> Any:
    return 0.5**step


def test_the_learning_rate_is_a_metric() -> None:
    assert rates(optim.sgd(0.1)) == {"learning_rate": [0.1] * 3}
    assert rates(optim.adamw(halves)) == {"learning_rate": [1.0, 0.5, 0.25]}
    assert rates(transforms.skip_nonfinite(optim.sgd(halves))) == {"learning_rate": [1.0, 0.5, 0.25]}
    assert rates(transforms.accumulate(optim.sgd(halves), 2), epochs=4) == {"learning_rate": [1.0, 1.0, 0.5, 0.5]}
    assert rates(transforms.masked(optim.sgd(0.1), lambda name, leaf: True)) == {"learning_rate": [0.1] * 3}
    assert rates(transforms.chain(transforms.clip_by_value(1.0))) == {}
    assert rates(lambda hparams: optim.sgd(hparams["lr"]), hparams={"lr": 0.2}) == {"learning_rate": [0.2] * 3}
    grid = sweep.grid(lr=[0.1, 0.2])
    found = rates(lambda hparams: optim.sgd(lambda step: hparams["lr"] / (1 + step)), hparams=grid, members=2, epochs=2)
    torch.testing.assert_close(found["learning_rate"], [[0.1, 0.2], [0.05, 0.1]])


def test_groups_have_a_rate_each() -> None:
    params = {"body": torch.ones(3, dtype=torch.float64), "head": torch.ones(3, dtype=torch.float64)}

    def loss(params: Any, state: Any, batch: Any, *, key: Any, hparams: Any) -> Any:
        return ((batch.x @ (params["body"] * params["head"]) - batch.y) ** 2).mean(), (state, {})

    inner = transforms.partition({"a": transforms.freeze(), "b": optim.sgd(halves)}, lambda name, leaf: "b")
    for optimizer, expected in (
        (transforms.partition({"body": optim.sgd(0.01), "head": optim.adam(halves)}, lambda name, leaf: name),
         {"learning_rate/body": [0.01, 0.01], "learning_rate/head": [1.0, 0.5]}),
        (transforms.partition({"body": transforms.freeze(), "head": optim.sgd(0.1)}, lambda name, leaf: name),
         {"learning_rate/head": [0.1, 0.1]}),
    ):  # fmt: skip
        start = train.init(params, {}, optimizer, key=KEY)
        result = fitted(DATA, start=start, step=train.make_step(loss, optimizer), epochs=2)
        found = {name: column.tolist() for name, column in result.history.items() if name.startswith("learning_rate")}
        assert found == expected
    assert inner.rates({"a": ()}) == {}, "a group without leaves has no rate"


def test_its_name_is_the_steps_own() -> None:
    def named(params: Any, state: Any, batch: Any, *, key: Any, hparams: Any) -> Any:
        return params["w"].sum(), (state, {"learning_rate": torch.zeros(())})

    with pytest.raises(FuncregError, match="loss_fn's metrics: got 'learning_rate'; expected other names"):
        fitted(DATA, step=train.make_step(named, optim.sgd(0.1)))
