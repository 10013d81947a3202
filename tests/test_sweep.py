"""Points of a sweep, and what came of them: tables, the best member, and its way back to a module."""

import csv
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import funcreg as fr
from funcreg import FuncregError, optim, random, sweep, train, tree
from funcreg.train import Batch

RANGES: dict[str, Any] = {
    "rate": (0.0, 0.5),
    "lr": sweep.log_uniform(1e-4, 1e-1),
    "width": sweep.integers(1, 9),
    "size": sweep.choice([16, 32]),
}


# Points


def test_grid_is_the_product_of_its_axes() -> None:
    axes = {"rate": [0.0, 0.25, 0.5], "lr": [0.1, 1.0], "depth": [2, 3]}
    points = sweep.grid(**axes)
    assert list(points) == list(axes)
    rows = list(zip(*(column.tolist() for column in points.values()), strict=True))
    assert rows == list(itertools.product(*axes.values()))


def test_grid_keeps_kinds() -> None:
    points = sweep.grid(a=[1, 2], b=[0.5], c=torch.tensor([1.0, 2.0], dtype=torch.float32), d=range(2))
    kinds = {name: column.dtype for name, column in points.items()}
    assert kinds == {"a": torch.int64, "b": torch.float64, "c": torch.float32, "d": torch.int64}
    assert all(column.shape == (8,) for column in points.values())


def test_grid_of_mixed_numbers_is_float64() -> None:
    assert sweep.grid(rate=[0, 0.5])["rate"].dtype == torch.float64


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({}, "axes: got none"),
        ({"rate": []}, "rate: got no values"),
        ({"rate": 0.5}, r"rate: got 0.5 .*rate=\[0.5\]"),
        ({"rate": "0.5"}, "rate: got '0.5'"),
        ({"rate": [0.5, "a"]}, "rate: got 'a'"),
        ({"rate": [float("nan")]}, "rate: got nan"),
        ({"rate": torch.ones(2, 2)}, r"rate: got a float32 tensor of shape \(2, 2\)"),
        ({"rate": torch.ones(0)}, "rate: got a float32 tensor"),
    ],
)
def test_bad_axes_are_named(axes: dict, message: str) -> None:
    with pytest.raises(FuncregError, match=message):
        sweep.grid(**axes)


def test_random_points_are_hparams(key: Tensor) -> None:
    points = sweep.random_search(key, 12, **RANGES, noise=lambda key, n: random.normal(key, n))
    assert list(points) == [*RANGES, "noise"]
    kinds = {name: column.dtype for name, column in points.items()}
    assert kinds == {
        "rate": torch.float64,
        "lr": torch.float64,
        "width": torch.int64,
        "size": torch.int64,
        "noise": torch.float32,
    }
    assert all(column.shape == (12,) and len(set(column.tolist())) > 1 for column in points.values())
    again = sweep.random_search(key, 12, **RANGES)
    assert all(torch.equal(points[name], column) for name, column in again.items())


def test_a_name_gets_the_same_numbers_whatever_the_others_are(key: Tensor) -> None:
    points = sweep.random_search(key, 12, **RANGES)
    for name, each in RANGES.items():
        assert torch.equal(sweep.random_search(key, 12, **{name: each})[name], points[name])
    more = sweep.random_search(key, 20, new=(0.0, 1.0), **dict(reversed(RANGES.items())))
    assert all(torch.equal(more[name][:12], column) for name, column in points.items())
    # Equal ranges of other names are not the same numbers.
    twins = sweep.random_search(key, 12, a=(0.0, 1.0), b=(0.0, 1.0))
    assert not torch.equal(twins["a"], twins["b"])
    # `key` and `n` are names like others.
    assert set(sweep.random_search(key, 3, key=(0.0, 1.0), n=(0.0, 1.0))) == {"key", "n"}


@given(st.floats(1e-12, 1e6), st.floats(1.0001, 1e9), st.integers(0, 100))
def test_draws_stay_within_their_range(low: float, factor: float, seed: int) -> None:
    high = low * factor
    for draw in (sweep.uniform(low, high), sweep.log_uniform(low, high)):
        draws = draw(random.key(seed), 200)
        assert float(draws.min()) >= low
        assert float(draws.max()) <= high


def test_log_uniform_is_uniform_in_the_order_of_magnitude(key: Tensor) -> None:
    draws = sweep.log_uniform(1e-4, 1.0)(key, 40_000)
    shares = torch.histc(draws.log10().float(), bins=4, min=-4, max=0) / 40_000
    assert float((shares - 0.25).abs().max()) < 0.01  # 4.6 standard deviations


def test_every_value_is_drawn(key: Tensor) -> None:
    assert set(sweep.integers(-2, 3)(key, 200).tolist()) == {-2, -1, 0, 1, 2}
    values = torch.tensor([0.5, 0.25], dtype=torch.bfloat16)
    drawn = sweep.choice(values)(key, 200)
    assert drawn.dtype == torch.bfloat16
    assert set(drawn.tolist()) == {0.25, 0.5}


# What came of it


def test_a_table_is_its_members_side_by_side() -> None:
    hparams = {"lr": torch.tensor([0.1, 0.01, 1e-5], dtype=torch.float64), "net": {"width": torch.tensor([8, 128, 64])}}
    table = sweep.table(hparams, {"loss": torch.tensor([0.5, math.nan, 0.123456789], dtype=torch.float64)})
    assert list(table.rows[2]) == ["member", "lr", "net.width", "loss"]
    assert table.rows[2] == {"member": 2, "lr": 1e-5, "net.width": 64, "loss": 0.123456789}
    assert str(table) == (
        "member     lr  net.width    loss\n"
        "     0    0.1          8     0.5\n"
        "     1   0.01        128     nan\n"
        "     2  1e-05         64  0.1235"
    )
    assert [row["member"] for row in table.sort("loss").rows] == [2, 0, 1]
    assert [row["member"] for row in table.sort("loss", mode="max").rows] == [0, 2, 1]
    assert [row["member"] for row in table.rows] == [0, 1, 2], "sorting gives another table"
    assert len(sweep.table(None, {"loss": torch.zeros(3)}).rows) == 3


def test_a_table_keeps_the_order_of_the_grid_and_of_the_metrics() -> None:
    hparams = sweep.grid(rate=[0.0, 0.5], l2=[1.0], b=[1])
    metrics = {"val_loss": torch.zeros(2), "accuracy": torch.zeros(2)}
    rows = sweep.table({"optimizer": hparams, "a": torch.zeros(2)}, metrics).rows
    assert list(rows[0]) == ["member", "optimizer.rate", "optimizer.l2", "optimizer.b", "a", "val_loss", "accuracy"]


def test_means_over_seeds_in_the_order_of_the_grid(tmp_path: Path) -> None:
    hparams = sweep.grid(rate=[0.5, 0.0], seed=range(2), decay=[0.1, 0.01])
    losses = torch.tensor([1.0, 10.0, 3.0, 30.0, 5.0, math.nan, 5.0, 1.0], dtype=torch.float64)
    over = sweep.table(hparams, {"loss": losses}).over()
    assert list(over.rows[0]) == ["rate", "decay", "n", "loss", "loss sd"]
    assert [(row["rate"], row["decay"], row["n"]) for row in over.rows] == [
        (0.5, 0.1, 2), (0.5, 0.01, 2), (0.0, 0.1, 2), (0.0, 0.01, 2)
    ]  # fmt: skip
    assert [row["loss"] for row in over.rows[:3]] == [2.0, 20.0, 5.0]
    assert [row["loss sd"] for row in over.rows[:3]] == pytest.approx([math.sqrt(2), math.sqrt(200), 0.0])
    assert math.isnan(over.rows[3]["loss"]), "a member that diverged"
    assert over.sort("loss").rows[0]["loss"] == 2.0
    assert over.settings == ("rate", "decay")
    one = sweep.table({"seed": torch.tensor([0])}, {"loss": torch.tensor([0.5])}).over().rows[0]
    assert (one["n"], one["loss"]) == (1, 0.5)
    assert math.isnan(one["loss sd"])

    over.write_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [float(row["loss sd"]) for row in read[:3]] == [row["loss sd"] for row in over.rows[:3]], "all digits"
    assert list(read[0]) == list(over.rows[0])


def test_sorting_by_a_choice_and_by_ties() -> None:
    rows = [{"kind": "b", "x": 1.0}, {"kind": "a", "x": 1.0}, {"kind": "c", "x": math.nan}]
    table = sweep.Table(tuple(rows))
    assert [row["kind"] for row in table.sort("kind").rows] == ["a", "b", "c"]
    assert [row["kind"] for row in table.sort("x", "max").rows] == ["b", "a", "c"], "ties as they were, NaN last"
    assert [row["x"] for row in sweep.Table(({"x": 2}, {"x": "a"}, {"x": 1})).sort("x").rows] == [1, 2, "a"]


def test_choices_that_are_not_numbers_make_one_table() -> None:
    """A program for each activation and architecture, each with members over rates and seeds."""
    x = random.normal(random.key(1), (32, 4))
    data = Batch(x, (x.sum(-1) > 0).long())
    programs: list[tuple[Any, str]] = []

    def run(activation: Any, network: Any) -> sweep.Table:
        programs.append((activation, network))
        layers = {"shallow": [4, 2], "deep": [4, 5, 2]}[network]
        model = fr.from_module(
            lambda: nn.Sequential(
                *(layer for a, b in itertools.pairwise(layers) for layer in (nn.Linear(a, b), activation()))
            )
        )

        def loss_fn(params, state, batch, *, key, hparams):
            return fr.losses.cross_entropy(model.apply(params, state, batch.x)[0], batch.y), (state, {})

        def optimizer(hparams):
            return optim.sgd(hparams["lr"])

        hparams = sweep.grid(lr=[0.1, 0.01], seed=range(2))
        params, state = fr.model_members(model, sweep.paired_keys(hparams["seed"], key=random.key(2)), 4)
        first = train.init(params, state, optimizer, key=random.key(3), hparams=hparams, members=4)
        step = train.make_step(loss_fn, optimizer)
        result = train.fit(step, first, data, key=random.key(4), epochs=2, hparams=hparams, members=4, jit=False)
        return sweep.table(hparams, {"loss": result.history["loss"][-1]})

    table = sweep.each(run, activation=[nn.ReLU, nn.Tanh], network={"one layer": "shallow", "two": "deep"})
    assert programs == [(a, n) for a in (nn.ReLU, nn.Tanh) for n in ("shallow", "deep")]
    assert list(table.rows[0]) == ["activation", "network", "member", "lr", "seed", "loss"]
    assert len(table.rows) == 16
    over = table.over("seed").rows
    assert [(row["activation"], row["network"], row["lr"], row["n"]) for row in over][:3] == [
        ("ReLU", "one layer", 0.1, 2), ("ReLU", "one layer", 0.01, 2), ("ReLU", "two", 0.1, 2)
    ]  # fmt: skip
    assert len({row["loss"] for row in over}) == 8


def test_members_of_one_seed_are_paired() -> None:
    """The same weights, noise and order of data in every arm: with a rate of no effect, arms agree bit for bit."""
    model = fr.from_module(lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2)))
    x = random.normal(random.key(1), (24, 4))
    data = Batch(x, (x.sum(-1) > 0).long())

    def loss_fn(params, state, batch, *, key, hparams):
        logits, state = model.apply(params, state, batch.x, key=key, train=True)
        return fr.losses.cross_entropy(logits, batch.y), (state, {})

    def optimizer(hparams):
        return optim.sgd(hparams["lr"])

    hparams = sweep.grid(lr=[0.1, 0.1, 0.2], seed=range(3))
    weights, noise = (sweep.paired_keys(hparams["seed"], key=each) for each in random.split(random.key(7)))
    params, state = fr.model_members(model, weights, 9)
    first = train.init(params, state, optimizer, key=noise, hparams=hparams, members=9)
    # A seed's weights are those of a single run with the seed's key.
    alone, _ = model.init(random.fold_in(random.split(random.key(7))[0], 2))
    assert all(torch.equal(params[name][member], leaf) for name, leaf in alone.items() for member in (2, 5, 8))
    step = train.make_step(loss_fn, optimizer)
    result = train.fit(
        step, first, data, key=random.key(4), epochs=3, batch_size=8, hparams=hparams, members=9, jit=False
    )
    losses = result.history["loss"].reshape(3, 3, 3)  # epochs, arms, seeds
    assert torch.equal(losses[:, 0], losses[:, 1])
    assert (losses[1:, 0] != losses[1:, 2]).all()
    assert len(set(losses[-1, 0].tolist())) == 3


def fitted(history: dict[str, list[list[float]]], best_epoch: list[int]) -> train.FitResult:
    """What a fit of members returns, of a parameter w that is 10 * member + its best epoch."""
    epochs = torch.tensor(best_epoch)
    never, unused = torch.zeros_like(epochs), train.TrainState(0, 0, 0, epochs, epochs)
    best = train.TrainState({"w": 10.0 * torch.arange(len(best_epoch)) + epochs}, {}, (), epochs, epochs)
    columns = {name: torch.tensor(rows, dtype=torch.float64) for name, rows in history.items()}
    return train.FitResult(unused, columns, best, epochs, never, never, False)


RATES = {"rate": torch.tensor([0.0, 0.1, 0.2, 0.3])}


def test_the_best_is_by_each_members_own_best_epoch() -> None:
    losses = [[3.0, 4.0, 5.0, 6.0], [1.0, 9.0, 2.0, 5.0], [0.1, 2.0, 8.0, 4.0]]
    others = [[-value for value in row] for row in losses]
    result = fitted({"loss": losses, "other": others}, best_epoch=[2, 3, 2, 3])
    assert sweep.at_best(result)["loss"].tolist() == [1.0, 2.0, 2.0, 4.0]
    member = sweep.best(result, RATES)
    assert (member.index, float(member.params["w"]), float(member.hparams["rate"])) == (0, 2, 0.0)
    assert {name: float(value) for name, value in member.metrics.items()} == {"loss": 1.0, "other": -1.0}
    assert sweep.best(result, RATES, mode="max").index == 3
    assert sweep.best(result, RATES, "other").index == 3
    assert sweep.best(result, None).hparams is None
    tied = fitted({"loss": [[2.0, 1.0, 1.0, 3.0]]}, best_epoch=[1, 1, 1, 1])
    assert sweep.best(tied, RATES).index == 1


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_member_that_diverged_never_wins_by_it(mode: str) -> None:
    # Member 1 has no good epoch, and the metrics of 0 and 3 are not finite.
    result = fitted({"loss": [[math.inf, 0.0, 5.0, math.nan], [-math.inf, 0.0, 5.0, 1.0]]}, best_epoch=[2, 0, 1, 1])
    assert torch.isnan(sweep.at_best(result)["loss"]).tolist() == [False, True, False, True]
    assert sweep.best(result, RATES, mode=mode).index == 2
    with pytest.raises(FuncregError, match="result: got no member whose 'loss' is finite"):
        sweep.best(fitted({"loss": [[math.nan] * 4]}, best_epoch=[0, 0, 0, 1]), RATES, mode=mode)


def test_a_fit_of_one_model_is_refused() -> None:
    sgd = optim.sgd(0.1)
    step = train.make_step(lambda params, state, batch, *, key, hparams: ((params["w"] ** 2).sum(), (state, {})), sgd)
    train_state = train.init({"w": torch.ones(2)}, {}, sgd, key=random.key(0))
    result = train.fit(step, train_state, torch.ones(4), key=random.key(1), epochs=2, jit=False)
    for call in (sweep.at_best, lambda result: sweep.best(result, None)):
        with pytest.raises(FuncregError, match=r"result: got a fit of one model; .*result\.best"):
            call(result)


# From a sweep to a module


class Convolutional(nn.Module):
    """Layers of every kind that keep state or draw."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.1))
        self.head = nn.Linear(4 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x.unflatten(-1, (1, 4, 4))).flatten(1))


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))


@pytest.mark.parametrize("make", [dense, Convolutional])
def test_a_sweep_ends_in_a_module(make: Any) -> None:
    """Random search, members with early stopping, the best of them, and torch alone from there on."""
    model = fr.from_module(make)
    x = random.normal(random.key(1), (96, 16), dtype=torch.float64)
    y = (x[:, :3] + random.normal(random.key(2), (96, 3), dtype=torch.float64)).argmax(-1)
    data, held_out = Batch(x[:64], y[:64]), Batch(x[64:], y[64:])

    def loss_fn(params, state, batch, *, key, hparams):
        logits, state = model.apply(params, state, batch.x, key=key, train=True)
        return fr.losses.cross_entropy(logits, batch.y), (state, {})

    def metric_fn(params, state, batch):
        return {"val_loss": fr.losses.cross_entropy(model.apply(params, state, batch.x)[0], batch.y, reduction="none")}

    def optimizer(hparams):
        return optim.adam(hparams["lr"])

    members = 5
    hparams = sweep.random_search(random.key(3), members, lr=sweep.log_uniform(1e-3, 0.3))
    params, state = tree.cast(fr.model_members(model, random.key(4), members), torch.float64)
    train_state = train.init(params, state, optimizer, key=random.key(5), hparams=hparams, members=members)
    evaluate = train.make_evaluate(metric_fn, members=members, chunk_size=2)
    result = train.fit(
        train.make_step(loss_fn, optimizer),
        train_state,
        data,
        key=random.key(6),
        epochs=40,
        batch_size=16,
        hparams=hparams,
        members=members,
        chunk_size=2,
        jit=False,
        evaluate=lambda params, state: evaluate(params, state, held_out),
        early_stopping=train.early_stopping(2),
        monitor="val_loss",
    )
    assert len(set(result.best_epoch.tolist())) > 1, "all members were best at the same epoch"
    member = sweep.best(result, hparams, "val_loss")
    lowest = result.history["val_loss"].min(0).values
    assert member.index == int(lowest.argmin())
    assert float(member.metrics["val_loss"]) == float(lowest.min())
    assert torch.equal(member.hparams["lr"], hparams["lr"][member.index])

    module = fr.to_module(make, member.params, member.state)
    assert not module.training
    logits = module(held_out.x)
    assert torch.equal(logits, model.apply(member.params, member.state, held_out.x)[0])
    # The metric is that of these parameters, not of the last ones.
    loss = nn.functional.cross_entropy(logits, held_out.y).detach()
    torch.testing.assert_close(loss, member.metrics["val_loss"], rtol=1e-12, atol=0)
    last = tree.index(result.train_state, member.index)
    assert abs(float(train.make_evaluate(metric_fn)(last.params, last.state, held_out)["val_loss"] - loss)) > 1e-3

    # An ordinary module: it trains, saves and loads as one, and the sweep knows nothing of that.
    before = tree.clone(result.best)
    fresh = make().double()
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(fresh.eval()(held_out.x), logits)
    module.train()
    nn.functional.cross_entropy(module(data.x), data.y).backward()
    torch.optim.SGD(module.parameters(), lr=1.0).step()
    assert not torch.equal(module.eval()(held_out.x), logits)
    assert all(torch.equal(a, b) for a, b in zip(tree.leaves(before), tree.leaves(result.best), strict=True))
    assert all(leaf.untyped_storage().nbytes() == leaf.nbytes for leaf in tree.leaves(member.params)), "a view"


def test_whole_numbers_that_no_integer_holds_are_floats() -> None:
    assert fr.sweep.grid(n=[2**70, 1])["n"].tolist() == [2.0**70, 1.0]
