"""Draws in the backward pass: one key, one gradient, in every way of taking it, or a refusal by the layer's name."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap

import funcreg as fr
from tests.zoo.hand_written.gradients import (
    Applies,
    Hooked,
    Keeps,
    Reversed,
    Shaken,
    ShakenAsOfOld,
    as_it_is,
    count,
    drop,
    keep,
    noise,
    shake,
    with_hook,
)

KEYS = fr.random.split(fr.random.key(3), 2)
Variables = dict[str, Tensor]

# Those that torch's transforms run, and those of which it has only plain autograd.
EVERYWHERE: dict[str, Callable[[], nn.Module]] = {
    "noise": lambda: Hooked(noise, 0.5),
    "dropout": lambda: Hooked(drop, 0.5),
    "autograd function": lambda: Applies(Shaken.apply, 0.5),
}
PLAINLY: dict[str, Callable[[], nn.Module]] = {
    "autograd function as of old": lambda: Applies(ShakenAsOfOld.apply, 0.5),
    "full backward hook": lambda: with_hook("register_full_backward_hook", shake, 0.5),
    "packed": lambda: Keeps(noise, as_it_is, 0.5),
    "unpacked": lambda: Keeps(as_it_is, noise, 0.5),
}


class Case:
    """A noisy backward pass between two linear layers, and its loss."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(6, 6), make(), nn.Linear(6, 2)).double()
        self.model, (self.params, self.state) = fr.from_module(self.net), fr.variables(self.net)
        self.x = fr.random.normal(fr.random.key(1), (4, 6), dtype=torch.float64)

    def loss(self, params: Variables, key: Tensor | None, *, train: bool = True) -> Tensor:
        return self.model.apply(params, self.state, self.x, key=key, train=train)[0].square().sum()

    def plainly(self, key: Tensor | None, **how: Any) -> Variables:
        params = {name: tensor.clone().requires_grad_() for name, tensor in self.params.items()}
        loss = self.loss(params, key, **how)
        return dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))


def close(one: Variables, other: Variables) -> bool:
    return all(torch.allclose(one[name], other[name], rtol=1e-9) for name in other)


@pytest.mark.parametrize("kind", [*EVERYWHERE, *PLAINLY])
def test_one_key_is_one_gradient(kind: str) -> None:
    case, generator = Case((EVERYWHERE | PLAINLY)[kind]), torch.get_rng_state()
    one, again, other = (case.plainly(key) for key in (*KEYS[:1], *KEYS))
    assert close(one, again)
    assert not torch.allclose(one["0.weight"], other["0.weight"])
    torch.testing.assert_close(one["2.weight"], other["2.weight"])  # it comes before the noise
    assert torch.equal(generator, torch.get_rng_state())


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_every_transform_takes_the_same_gradient(kind: str) -> None:
    case = Case(EVERYWHERE[kind])
    loop = [case.plainly(key) for key in KEYS]
    assert close(grad(case.loss)(case.params, KEYS[0]), loop[0])
    members = vmap(grad(case.loss), (None, 0))(case.params, KEYS)
    for place, each in enumerate(loop):
        assert close({name: tensor[place] for name, tensor in members.items()}, each)
    with pytest.raises(fr.FuncregError, match=r"got 1\S* \(.*is lost in a vmap inside of the derivative"):
        grad(lambda params: vmap(lambda key: case.loss(params, key))(KEYS).sum())(case.params)


def test_gradient_noise_is_noise_of_the_given_size() -> None:
    case = Case(lambda: Hooked(noise, 0.5))
    keys = fr.random.split(fr.random.key(0), 4000)
    quiet = Case(lambda: Hooked(noise, 0.0)).plainly(KEYS[0])["1.linear.bias"]
    found = vmap(grad(case.loss), (None, 0))(case.params, keys)["1.linear.bias"]
    # The bias has the sum over 4 rows of (gradient + 0.5 normal) * (1 - tanh^2), so its variance is in closed form.
    linear = nn.Sequential(case.net[0], case.net.get_submodule("1.linear"))
    slope = 1 - torch.tanh(linear(case.x)).square()
    torch.testing.assert_close(found.mean(0), quiet, rtol=0, atol=5 * 0.5 * 2 / 4000**0.5)
    torch.testing.assert_close(found.var(0), 0.25 * slope.square().sum(0).detach(), rtol=0.15, atol=0)


@pytest.mark.parametrize("kind", [*EVERYWHERE, *PLAINLY])
def test_without_a_key_only_the_gradient_is_refused(kind: str) -> None:
    case = Case((EVERYWHERE | PLAINLY)[kind])
    with torch.no_grad():
        expected = case.net.eval()(case.x)
    torch.testing.assert_close(case.model.apply(case.params, case.state, case.x)[0], expected)
    if kind != "dropout":  # which is off without a key
        with pytest.raises(fr.FuncregError, match=r"key: got None; .* since 1\S* \(.* draws"):
            case.plainly(None, train=False)


def test_a_compiled_gradient_that_draws_is_refused_by_name() -> None:
    case = Case(lambda: Hooked(noise, 0.5))
    with pytest.raises(fr.FuncregError, match=r"^module: got 1 \(Hooked\), which draws in the backward pass"):
        fr.jit(grad(case.loss))(case.params, KEYS[0])


@pytest.mark.parametrize("function", [False, True])
def test_what_only_scales_a_gradient_does_so_everywhere(function: bool) -> None:
    clipped = Hooked(lambda layer, gradient: gradient.clamp(-0.1, 0.1))
    case = Case(lambda: Applies(Reversed.apply, 0.3) if function else clipped)
    case.net(case.x).square().sum().backward()
    expected = {name: p.grad for name, p in case.net.named_parameters() if p.grad is not None}
    assert close(case.plainly(None), expected)
    assert close(fr.jit(grad(case.loss))(case.params, KEYS[0]), expected)
    if not function:
        assert close(grad(case.loss)(case.params, KEYS[0]), expected)


@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize(("hook", "did"), [(count, "sets attributes of 1"), (keep, "sets attributes of 1")])
def test_training_names_the_layer_whose_backward_pass_is_not_pure(
    hook: Callable[..., Any], did: str, members: int | None
) -> None:
    case = Case(lambda: Hooked(hook))
    params, state = case.params, case.state
    if members is not None:
        params, state = fr.tree.stack([params] * members), fr.tree.stack([state] * members)

    def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        y, state = case.model.apply(params, state, batch.x, key=key, train=True)
        return y.square().mean(), (state, {})

    optimizer = fr.optim.sgd(0.1)
    train_state = fr.train.init(params, state, optimizer, key=KEYS[0], members=members)
    data = fr.train.Batch(case.x, case.x)
    with pytest.raises(fr.FuncregError, match=rf"1 \(Hooked\), whose code in the backward pass {did}"):
        fr.train.fit(
            fr.train.make_step(loss_fn, optimizer),
            train_state,
            data,
            key=KEYS[0],
            epochs=1,
            batch_size=2,
            members=members,
            jit=False,
            progress=False,
        )
