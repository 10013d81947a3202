"""What is divergence in `fit`, and what only looks like it: the loss and the parameters decide, nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from funcreg import optim, random, train, transforms, tree

DATA = torch.linspace(-1.0, 1.0, 8)


def squared(params: Any, state: Any, batch: Any, /, *, key: Tensor, hparams: Any) -> Any:
    return ((params["w"] - batch) ** 2).mean(), (state, {})


def fitted(*, members: int | None = None, **changes: Any) -> train.FitResult:
    optimizer = changes.pop("optimizer", optim.sgd(0.1))
    loss_fn, params = changes.pop("loss_fn", squared), changes.pop("params", {"w": torch.ones(2, 1)})
    params = params if members is None else tree.stack([params] * members)
    step = train.make_step(loss_fn, optimizer)
    start = train.init(params, {}, optimizer, key=random.key(0), members=members)
    settings = {"key": random.key(1), "epochs": 4, "batch_size": 4, "jit": False, "members": members}
    return train.fit(step, start, changes.pop("data", DATA), **(settings | changes))


def scores(*values: float, members: int | None) -> Callable[[Any, Any], dict[str, Tensor]]:
    """An evaluate that gives one value after the other."""
    left = list(values)
    shape = () if members is None else (members,)
    return lambda params, state: {"val_loss": torch.tensor(left.pop(0)).expand(shape)}


@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_monitored_metric_that_is_not_finite_in_one_epoch_is_no_improvement(
    members: int | None, value: float
) -> None:
    message = "epoch 2: the metric 'val_loss'.* is not finite; training goes on, which is no improvement"
    with pytest.warns(train.DivergenceWarning, match=message):
        result = fitted(
            members=members,
            evaluate=scores(3.0, value, 2.0, 2.5, members=members),
            early_stopping=train.early_stopping(2),
            monitor="val_loss",
        )
    ends = (result.best_epoch, result.stopped_epoch, result.diverged_epoch)
    assert [torch.as_tensor(end).flatten().tolist() for end in ends] == [[each] * (members or 1) for each in (3, 0, 0)]
    undisturbed = fitted(members=members)
    assert torch.equal(result.train_state.params["w"], undisturbed.train_state.params["w"])


@pytest.mark.parametrize("members", [None, 2])
def test_without_early_stopping_the_best_is_the_last_with_a_finite_value(members: int | None) -> None:
    with pytest.warns(train.DivergenceWarning, match="epoch 4: the metric 'val_loss'"):
        result = fitted(members=members, evaluate=scores(3.0, 2.0, 1.0, torch.nan, members=members), monitor="val_loss")
    assert torch.as_tensor(result.best_epoch).flatten().tolist() == [3] * (members or 1)
    assert torch.equal(result.best.params["w"], fitted(members=members, epochs=3).train_state.params["w"])


def test_a_gradient_that_was_left_out_is_no_divergence() -> None:
    """Its norm is in the history, as it is."""

    def rooted(params: Any, state: Any, batch: Any, /, *, key: Tensor, hparams: Any) -> Any:
        return (params["w"].abs().sqrt() * batch.mean()).sum() + (params["b"] ** 2).sum(), (state, {})

    with pytest.warns(train.DivergenceWarning, match="epoch 1: the metric 'grad_norm' is not finite; training goes on"):
        result = fitted(
            loss_fn=rooted,
            params={"w": torch.zeros(2), "b": torch.ones(1)},
            optimizer=transforms.skip_nonfinite(optim.sgd(0.1)),
        )
    assert torch.equal(result.train_state.params["b"], torch.ones(1))
    assert not torch.isfinite(result.history["grad_norm"]).any()


@pytest.mark.parametrize("members", [None, 2])
def test_a_batch_whose_update_was_left_out_is_no_divergence(members: int | None) -> None:
    """One example is NaN: training goes on by the others, and ends where it would without that batch."""
    data = torch.cat([DATA[:4], torch.full_like(DATA[:4], torch.nan)])
    settings = {"members": members, "optimizer": transforms.skip_nonfinite(optim.sgd(0.1)), "epochs": 3}
    with pytest.warns(train.DivergenceWarning) as told:
        result = fitted(data=iter([data[:4], data[4:]] * 3), batch_size=None, epoch_steps=2, **settings)
    assert sorted(str(each.message).split("'")[1] for each in told) == ["grad_norm", "loss"]
    alone = fitted(data=iter([data[:4]] * 3), batch_size=None, epoch_steps=1, **settings)
    assert torch.equal(result.train_state.params["w"], alone.train_state.params["w"])
    assert not torch.as_tensor(result.diverged_epoch).any()


def test_running_statistics_that_are_not_finite_are_one() -> None:
    def tracked(params: Any, state: Any, batch: Any, /, *, key: Tensor, hparams: Any) -> Any:
        return ((batch @ params["w"]) ** 2).mean(), ({"mean": batch.mean()}, {})

    optimizer = transforms.skip_nonfinite(optim.sgd(0.1))
    start = train.init({"w": torch.ones(2, 1)}, {"mean": torch.zeros(())}, optimizer, key=random.key(0))
    step = train.make_step(tracked, optimizer)
    with pytest.raises(ValueError, match="training diverged: loss = nan"):
        train.fit(step, start, torch.full((4, 2), torch.nan), key=random.key(1), epochs=2, jit=False)


def test_a_loss_or_parameters_that_are_not_finite_are_one() -> None:
    def infinite(params: Any, state: Any, batch: Any, /, *, key: Tensor, hparams: Any) -> Any:
        return (params["w"] * torch.inf).sum(), (state, {})

    with pytest.raises(ValueError, match="epoch 1: training diverged: loss = "):
        fitted(loss_fn=infinite)
    with pytest.raises(ValueError, match=r"training diverged: .*param_norm = .*parameters that are not finite: w"):
        fitted(optimizer=optim.sgd(1e30), epochs=6)
