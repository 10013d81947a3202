"""The average in a train state: what is averaged, evaluated, selected, saved; beside `oracles/train.py`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap

import funcreg as fr
from funcreg import FuncregError, averaging, norm, optim, random, train, tree


def network() -> nn.Module:
    layers = [nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 2)]
    return nn.Sequential(*layers).double()


MODEL = fr.from_module(network)
X = random.normal(random.key(1), (40, 3), dtype=torch.float64)
Y = (X.sum(-1) > 0).long()
DATA, HELD_OUT = train.Batch(X[:24], Y[:24]), train.Batch(X[24:], Y[24:])


def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
    logits, state = MODEL.apply(params, state, batch.x, key=key, train=True)
    return fr.losses.cross_entropy(logits, batch.y), (state, {})


def val_loss(params: Any, state: Any, batch: Any) -> dict[str, Tensor]:
    return {"val_loss": fr.losses.cross_entropy(MODEL.apply(params, state, batch.x)[0], batch.y, reduction="none")}


def settings(members: int | None = None, **others: Any) -> dict[str, Any]:
    evaluate = train.make_evaluate(val_loss, members=members)
    given = {"evaluate": lambda params, state: evaluate(params, state, HELD_OUT), "monitor": "val_loss"}
    return given | {"key": random.key(2), "epochs": 6, "batch_size": 8, "jit": False, "members": members} | others


SGD, EMA = optim.sgd(0.5), averaging.ema(0.9)


def begun(average: Any = EMA) -> train.TrainState:
    return train.init(*MODEL.init(random.key(0)), SGD, key=random.key(3), average=average)


STEP = train.make_step(loss_fn, SGD, average=EMA)


def test_the_average_is_evaluated_selected_and_the_steps_are_as_without() -> None:
    seen: list[Any] = []
    evaluate = train.make_evaluate(val_loss)

    def noted(params: Any, state: Any) -> Any:
        seen.append((params, state))
        return evaluate(params, state, HELD_OUT)

    result = train.fit(STEP, begun(), DATA, **settings(evaluate=noted))
    plain = train.fit(train.make_step(loss_fn, SGD), begun(None), DATA, **settings())
    assert torch.equal(result.history["loss"], plain.history["loss"]), "the average does not change training"
    tree.map(
        lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=0),
        seen[-1],
        train.variables(result.train_state),
    )
    lowest = result.history["val_loss"].argmin()
    assert result.best_epoch == int(lowest) + 1
    chosen = evaluate(*train.variables(result.best), HELD_OUT)["val_loss"]
    assert float(chosen) == float(result.history["val_loss"][lowest])
    raw = evaluate(result.best.params, result.best.state, HELD_OUT)["val_loss"]
    assert abs(float(raw - chosen)) > 1e-3
    assert train.variables(plain.best) == (plain.best.params, plain.best.state)


def test_running_statistics_are_averaged_with_the_parameters_and_can_be_had_exactly() -> None:
    result = train.fit(STEP, begun(), DATA, **settings())
    params, state = train.variables(result.train_state)
    latest = result.train_state.state
    assert not torch.equal(state["1.running_mean"], latest["1.running_mean"])
    assert torch.equal(state["1.num_batches_tracked"], latest["1.num_batches_tracked"])
    fresh = averaging.refresh_statistics(MODEL, params, state, [DATA], key=random.key(4))
    hidden = torch.nn.functional.linear(DATA.x, params["0.weight"], params["0.bias"])
    torch.testing.assert_close(fresh["1.running_mean"], hidden.mean(0))
    torch.testing.assert_close(fresh["1.running_var"], hidden.var(0))


def test_other_state_is_the_latest() -> None:
    """A buffer of infinities, a counter, a direction; and a `BatchStats` is of running statistics."""

    def loss(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        y, stats = norm.batch_norm(batch @ params["w"], state["stats"], train=True)
        moved = {**state, "stats": stats, "calls": state["calls"] + 1, "u": state["u"] * 2}
        return (y - 1).abs().mean() + (params["w"] ** 2).sum(), (moved, {})

    state = {
        "stats": norm.init_batch_stats(2),
        "mask": torch.tensor([0.0, -torch.inf]),
        "calls": torch.tensor(0),
        "u": torch.ones(2),
    }
    params = {"w": torch.eye(3, 2)}
    step = train.make_step(loss, SGD, average=averaging.ema(0.5))
    train_state = train.init(params, state, SGD, key=random.key(0), average=averaging.ema(0.5))
    means = [state["stats"].mean]
    for number in range(2):
        train_state, _ = step(train_state, X[8 * number : 8 * number + 8].float())
        means.append(train_state.state["stats"].mean)
    _, averaged = train.variables(train_state)
    assert averaged["mask"].tolist() == [0.0, -torch.inf]
    assert (int(averaged["calls"]), averaged["u"].tolist()) == (2, [4.0, 4.0])
    assert int(averaged["stats"].count) == 2
    torch.testing.assert_close(averaged["stats"].mean, means[0] / 4 + means[1] / 4 + means[2] / 2)


def test_members_have_averages_of_their_own_decay() -> None:
    def average(hparams: Any) -> averaging.Averaging:
        return averaging.ema(hparams["decay"])

    hparams = {"decay": torch.tensor([0.5, 0.9, 1.0], dtype=torch.float64)}
    params, state = fr.model_members(MODEL, random.key(0), 3)
    step = train.make_step(loss_fn, SGD, average=average)
    first = train.init(params, state, SGD, key=random.key(3), hparams=hparams, members=3, average=average)
    result = train.fit(step, first, DATA, **settings(3, hparams=hparams))
    for member, decay in enumerate(hparams["decay"].tolist()):
        alone = train.fit(step, tree.index(first, member), DATA, **settings(hparams={"decay": decay}))
        ours, theirs = train.variables(tree.index(result.best, member)), train.variables(alone.best)
        tree.map(lambda a, b: torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12), ours, theirs)
        torch.testing.assert_close(result.history["val_loss"][:, member], alone.history["val_loss"])
    unmoved, _ = train.variables(result.train_state)
    assert all(torch.equal(unmoved[name][2], params[name][2]) for name in params), "a decay of 1 keeps the start"
    member = fr.sweep.best(result, hparams, "val_loss")
    module = fr.to_module(network, member.params, member.state)
    loss = nn.functional.cross_entropy(module(HELD_OUT.x), HELD_OUT.y)
    torch.testing.assert_close(loss.detach(), member.metrics["val_loss"])


def test_a_gaussian_around_the_average_is_trained_kept_and_drawn_from(tmp_path: Path) -> None:
    """The mean of swag is that of swa; its draws, with statistics of their own, are an ensemble."""
    results = {}
    for make in (averaging.swa, averaging.swag):
        average = make(start=6, every=2)
        step = train.make_step(loss_fn, SGD, average=average)
        given = settings(checkpoint=tmp_path / make.__name__)
        results[make.__name__] = train.fit(step, begun(average), DATA, **given).train_state
    mean, state = train.variables(results["swag"])
    tree.map(lambda a, b: torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14),
             (mean, state), train.variables(results["swa"]))  # fmt: skip
    loaded = train.load(tmp_path / "swag").train_state

    def member(key: Tensor) -> Any:
        params, state = train.sample_variables(loaded, key=key)
        return params, averaging.refresh_statistics(MODEL, params, state, [DATA], key=key)

    params, states = vmap(member)(random.split(random.key(5), 8))
    assert all(float(leaf.std(0).max()) > 1e-3 for name, leaf in params.items() if name != "0.bias")
    alone = train.sample_variables(results["swag"], key=random.split(random.key(5), 8)[3])[0]
    tree.map(lambda a, b: torch.testing.assert_close(a, b[3], rtol=1e-12, atol=1e-12), alone, params)
    hidden = torch.nn.functional.linear(DATA.x, params["0.weight"][3], params["0.bias"][3])
    torch.testing.assert_close(states["1.running_mean"][3], hidden.mean(0))
    seen = fr.uncertainty.ensemble(MODEL, params, states, HELD_OUT.x)
    assert float(seen.mutual_information.min()) > 0


def test_members_are_drawn_from_by_vmap() -> None:
    average = averaging.swag(rank=3)
    step = train.make_step(loss_fn, SGD, average=average)
    params, state = fr.model_members(MODEL, random.key(0), 2)
    first = train.init(params, state, SGD, key=random.key(3), members=2, average=average)
    both = train.fit(step, first, DATA, **settings(2, epochs=2)).train_state
    keys = random.split(random.key(6), 2)
    drawn, _ = vmap(lambda s, k: train.sample_variables(s, key=k))(both, keys)
    alone, _ = train.sample_variables(tree.index(both, 1), key=keys[1])
    tree.map(lambda a, b: torch.testing.assert_close(a[1], b, rtol=1e-10, atol=1e-12), drawn, alone)
    with pytest.raises(FuncregError, match=r"train_state: got one of 2 members; .*vmap"):
        train.sample_variables(both, key=keys[0])
    with pytest.raises(FuncregError, match=r"train_state: got one with average .*average=fr.averaging.swag\(\)"):
        train.sample_variables(begun(), key=keys[0])


def test_a_resumed_run_has_the_same_average(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = train.fit(STEP, begun(), DATA, **settings())
    path = tmp_path / "run"
    train.fit(STEP, begun(), DATA, **settings(epochs=2, checkpoint=path))
    resumed = train.fit(STEP, begun(), DATA, **settings(checkpoint=path))
    loaded = train.load(path)
    for other in (resumed, loaded):
        for name in ("train_state", "best"):
            pairs = zip(tree.leaves(getattr(whole, name)), tree.leaves(getattr(other, name)), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)
    assert "going on after epoch 2 of 6" in capsys.readouterr().out
    assert isinstance(loaded.best.average, averaging.AverageState)
    with pytest.raises(FuncregError, match="average"):
        train.fit(train.make_step(loss_fn, SGD), begun(None), DATA, **settings(checkpoint=path))


@pytest.mark.skipif(not fr.can_compile(), reason="needs a C++ compiler")
@torch._dynamo.config.patch(error_on_recompile=True)
def test_a_step_with_an_average_compiles_once() -> None:
    def loss(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        return ((batch @ params["w"]) ** 2).mean(), (state, {})

    average = averaging.swag(start=2, rank=3)
    step = train.make_step(loss, SGD, average=average)
    first = train.init({"w": torch.ones(3, dtype=torch.float64)}, {}, SGD, key=random.key(0), average=average)
    given: dict[str, Any] = {"key": random.key(1), "epochs": 2, "batch_size": 8}
    compiled = train.fit(step, first, DATA.x, **given)
    eager = train.fit(step, first, DATA.x, **given, jit=False)
    torch.testing.assert_close(train.variables(compiled.train_state), train.variables(eager.train_state))
    draws = [train.sample_variables(each.train_state, key=random.key(2)) for each in (compiled, eager)]
    torch.testing.assert_close(*draws)


def test_16_bit_parameters_are_averaged_in_float32_and_evaluated_as_they_are() -> None:
    params = {"w": torch.ones(4, dtype=torch.bfloat16)}
    average = averaging.ema(0.999)

    def loss(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        return params["w"].sum(), (state, {})

    step = train.make_step(loss, optim.sgd(1.0), average=average)
    train_state = train.init(params, {}, optim.sgd(1.0), key=random.key(0), average=average)
    for _ in range(3):
        train_state, _ = step(train_state, X)
    kept = train_state.average.params["params"]["w"]
    expected = 1.0 - 0.001 * (1 * 0.999**2 + 2 * 0.999 + 3)
    torch.testing.assert_close(kept, torch.full((4,), expected))  # in bfloat16 it would be 0.9922 or 1
    assert train.variables(train_state)[0]["w"].dtype == torch.bfloat16


def test_a_step_and_a_train_state_of_different_kinds_are_refused() -> None:
    with pytest.raises(FuncregError, match=r"train_state: got one without an average; .*fr.train.init\(..., average"):
        STEP(begun(None), DATA)
    with pytest.raises(FuncregError, match=r"train_state: got one with an average; .*make_step\(..., average"):
        train.make_step(loss_fn, SGD)(begun(), DATA)


def test_own_batches_by_a_key_for_each_member() -> None:
    """Members of one seed see the samples in one order, which is that of a single run with their key."""
    hparams = fr.sweep.grid(lr=[0.5, 0.1], seed=range(2))
    optimizer = lambda hparams: optim.sgd(hparams["lr"])  # noqa: E731
    keys = fr.sweep.paired_keys(hparams["seed"], key=random.key(8))
    params, state = fr.model_members(MODEL, keys, 4)
    step = train.make_step(loss_fn, optimizer)
    first = train.init(params, state, optimizer, key=keys, hparams=hparams, members=4)
    given: dict[str, Any] = {"epochs": 3, "batch_size": 8, "jit": False}
    result = train.fit(step, first, DATA, key=keys, hparams=hparams, members=4, batches="own", **given)
    for member in range(4):
        own = {name: column[member] for name, column in hparams.items()}
        alone = train.fit(step, tree.index(first, member), DATA, key=keys[member], hparams=own, **given)
        torch.testing.assert_close(result.history["loss"][:, member], alone.history["loss"])
    with pytest.raises(FuncregError, match=r'key: got a key for each of 4 members.*batches="own"'):
        train.fit(step, first, DATA, key=keys, hparams=hparams, members=4, **given)
