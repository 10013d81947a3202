"""Gradients that keep no graph of their own are torch.func's, alone and under vmap, and leave nothing behind."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, grad_and_value, vmap

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
