"""Gradients that keep no graph of their own are torch.func's, alone and under vmap, and leave nothing behind."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, grad_and_value, vmap

import funcreg as fr
from funcreg._functorch import gradients, in_transform


def loss(params: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    hidden = (params["w"] @ params["w"].mT).sin()
    slope = grad(lambda x: (x**3).sum())(hidden)  # a derivative inside, as a penalty has
    return (slope * params["w"].detach().sum()).mean() + hidden.logsumexp(0).sum(), {"hidden": hidden}


def of(function: Any) -> Any:
    return lambda params: gradients(function, params, watched=False)


@pytest.mark.parametrize("batched", [False, True])
def test_they_are_torch_funcs(batched: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (5, 4, 3) if batched else (4, 3)
    params = {name: torch.randn(shape, dtype=torch.float64, generator=generator) for name in ("w", "unused")}
    ours, theirs = of(loss), grad_and_value(loss, has_aux=True)
    if batched:
        ours, theirs = vmap(ours), vmap(theirs)
    torch.testing.assert_close(ours(params), theirs(params), rtol=1e-14, atol=1e-14)
    (_, (value, aux)) = ours(params)
    assert not value.requires_grad
    assert not aux["hidden"].requires_grad


def test_a_derivative_outside_sees_through_them() -> None:
    cubes = lambda w: ((w**3).sum(), {})  # noqa: E731
    w = torch.arange(3.0)
    torch.testing.assert_close(grad(lambda w: of(cubes)(w)[0].sum())(w), 6 * w)
    torch.testing.assert_close(vmap(grad(lambda w: of(cubes)(w)[0].sum()))(w), 6 * w)
    torch.testing.assert_close(grad(lambda w: vmap(of(cubes))(w)[0].sum())(w), 6 * w)


def test_a_loss_without_parameters_has_gradients_of_zero() -> None:
    constant = lambda w: (torch.ones(()), {})  # noqa: E731
    for run in (of(constant), vmap(of(constant))):
        grads, (value, _) = run(torch.ones(2, 3))
        assert torch.equal(grads, torch.zeros(2, 3))
        assert (value == 1).all()


def test_an_error_leaves_no_transform_behind() -> None:
    def broken(w: Tensor) -> Any:
        raise ArithmeticError

    for run in (of(broken), vmap(of(broken))):
        with pytest.raises(ArithmeticError):
            run(torch.ones(2))
        assert not in_transform()


def test_a_step_outside_no_grad_keeps_no_graph_where_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    graphed = torch.func.grad_and_value

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(True)
        return graphed(*args, **kwargs)

    monkeypatch.setattr(torch.func, "grad_and_value", counted)
    x, rate = torch.arange(3.0), torch.tensor(0.5, requires_grad=True)

    def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        held = rate if hparams["holds"] else rate.detach()
        return (held * params["w"] * batch).square().sum(), (state, {})

    step = fr.train.make_step(loss_fn, lambda hparams: fr.optim.sgd(hparams["lr"]))
    first = fr.train.init({"w": torch.ones(3)}, {}, fr.optim.sgd(0.1), key=fr.random.key(0))
    quick, metrics = step(first, x, {"lr": 0.1, "holds": False})
    torch.testing.assert_close(quick.params["w"], 1 - 0.1 * 2 * 0.25 * x**2)
    assert not calls
    assert not metrics["loss"].requires_grad
    # w - lr * 2 rate**2 w x**2, by the rate that the loss holds, or by the learning rate that it is given
    held = step(first, x, {"lr": 0.1, "holds": True})[0].params["w"]
    (slope,) = torch.autograd.grad(held.sum(), rate)
    torch.testing.assert_close(slope, -0.1 * 4 * 0.5 * (x**2).sum())
    lr = torch.tensor(0.1, requires_grad=True)
    (slope,) = torch.autograd.grad(step(first, x, {"lr": lr, "holds": False})[0].params["w"].sum(), lr)
    torch.testing.assert_close(slope, -2 * 0.25 * (x**2).sum())
    assert len(calls) == 2
    members = fr.tree.stack([first, first])
    moved, metrics = torch.func.vmap(lambda state: step(state, x, {"lr": 0.1, "holds": True}))(members)
    torch.testing.assert_close(metrics["loss"], (0.25 * x.square()).sum().expand(2))
    (slope,) = torch.autograd.grad(moved.params["w"].sum(), rate)
    torch.testing.assert_close(slope, 2 * -0.1 * 4 * 0.5 * (x**2).sum())
