"""Draws that torch's dispatcher hands over: the bits of the mode of torch, which the others still need."""

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional as F
from torch.utils._device import DeviceContext as _DeviceContext

import funcreg as fr
from funcreg.model.keyed import dispatched

KEY, X = fr.random.key(3), fr.random.normal(fr.random.key(4), (2, 4, 8))
DeviceContext = functools.partial(_DeviceContext, torch.device("cpu"))  # as torch.set_default_device has it
pytestmark = pytest.mark.skipif(not dispatched.handed_over("dropout", "rate"), reason="this torch hands nothing over")


def seen_modes() -> int:
    return torch._C._len_torch_function_stack()


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix, self.modes = nn.Linear(8, 8), 0

    def forward(self, x: Tensor) -> Tensor:
        q = self.mix(x)
        y = F.scaled_dot_product_attention(q, x, x, dropout_p=0.3 if self.training else 0.0)
        y = F.dropout(y, 0.2, self.training) + torch.dropout(x, 0.1, self.training)
        return y * (1 + seen_modes())


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm = Attention(), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attention(self.norm(x))
        return x + y


def applied(module: nn.Module, x: Tensor = X, **settings: Any) -> Tensor:
    params, state = fr.variables(module)
    return fr.from_module(module).apply(params, state, x, key=KEY, **settings)[0]


@pytest.mark.parametrize("module", [Attention(), Block()], ids=["the module itself", "a layer"])
@pytest.mark.parametrize("settings", [{}, {"train": True}, {"rates": 0.5}], ids=str)
def test_the_bits_are_those_of_the_mode(
    module: nn.Module, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    params, state = fr.variables(module)

    def loss(params: Any, model: fr.Model) -> Tensor:
        return model.apply(params, state, X, key=KEY, **settings)[0].square().sum()

    def gradients(model: fr.Model) -> list[Tensor]:
        leaves = {name: each.clone().requires_grad_() for name, each in params.items()}
        return [*torch.autograd.grad(loss(leaves, model), [*leaves.values()])]

    model = fr.from_module(module)
    found, slopes = applied(module, **settings), gradients(model)
    monkeypatch.setattr(dispatched, "_works", False)
    in_modes = fr.from_module(module)
    attention = module if isinstance(module, Attention) else module.attention
    monkeypatch.setattr(f"{__name__}.seen_modes", lambda: 0)
    assert isinstance(attention, nn.Module)
    torch.testing.assert_close(found, applied(module, **settings), rtol=0, atol=0)
    torch.testing.assert_close(slopes, gradients(in_modes), rtol=0, atol=0)
    expected = grad(loss)(params, in_modes)
    torch.testing.assert_close(dict(zip(params, slopes, strict=True)), expected, rtol=1e-4, atol=1e-5)


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.5, training=True),
    "feature_alpha_dropout": lambda x: F.feature_alpha_dropout(x, 0.5, training=True),
    "channel dropout": lambda x: F.dropout1d(x, 0.5, training=True),
    "dropout in place": lambda x: F.dropout(x * 1, 0.3, inplace=True),
    "rrelu": lambda x: F.rrelu(x, training=True),
    "native_dropout": lambda x: torch.native_dropout(x, 0.3, True)[0],
    "randn_like": lambda x: x + torch.randn_like(x),
    "rand": lambda x: x + torch.rand(8),
    "randint": lambda x: x + torch.randint(0, 9, (8,)),
    "randperm": lambda x: x[..., torch.randperm(8)],
    "normal": lambda x: x + torch.normal(0.0, 1.0, (8,)),
    "bernoulli": lambda x: x * torch.bernoulli(torch.full((8,), 0.5)),
    "bernoulli_": lambda x: x * x.new_empty(8).bernoulli_(0.5),
    "uniform_": lambda x: x * x.new_empty(8).uniform_(),
    "exponential_": lambda x: x * x.new_empty(8).exponential_(),
    "gumbel_softmax": lambda x: F.gumbel_softmax(x),
    "multinomial": lambda x: x + torch.multinomial(torch.ones(8), 8),
    "poisson": lambda x: x + torch.poisson(torch.full((8,), 4.0)),
    "gamma": lambda x: x + torch.distributions.Gamma(torch.ones(8), torch.ones(8)).rsample(),
}


class Fork(nn.Module):
    """Draws by dropout, or otherwise, as the values of its input are."""

    def __init__(self, other: Callable[[Tensor], Tensor], careless: bool) -> None:
        super().__init__()
        self.other, self.careless, self.norm = other, careless, nn.BatchNorm1d(8)

    def forward(self, x: Tensor, sign: Tensor) -> Tensor:
        x = self.norm(x)
        x = F.dropout(x, 0.5) if sign > 0 else self._otherwise(x)
        return x + F.dropout(x, 0.1)

    def _otherwise(self, x: Tensor) -> Tensor:
        if not self.careless:
            return self.other(x)
        try:
            return self.other(x)
        except:  # noqa: E722  (as some forwards have it)
            return x


class Signed(nn.Module):
    def __init__(self, other: Callable[[Tensor], Tensor], careless: bool = False) -> None:
        super().__init__()
        self.fork = Fork(other, careless)

    def forward(self, x: Tensor, sign: Tensor) -> Tensor:
        return self.fork(x, sign)


@pytest.mark.parametrize(("name", "careless"), [*((name, False) for name in OTHERS), ("bernoulli_", True)])
def test_a_draw_that_no_rehearsal_has_seen_is_as_if_it_had(name: str, careless: bool) -> None:
    module, x = Signed(OTHERS[name], careless), X.reshape(8, 8)
    params, state = fr.variables(module)
    seen, unseen = fr.from_module(module), fr.from_module(module)
    plus, minus = torch.ones(()), -torch.ones(())
    expected = seen.apply(params, state, x, minus, key=KEY, train=True)
    before = torch.random.get_rng_state()
    first = unseen.apply(params, state, x, plus, key=KEY, train=True)
    found = unseen.apply(params, state, x, minus, key=KEY, train=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    again = unseen.apply(params, state, x, plus, key=KEY, train=True)
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(found[0], first[0])


class Negative(nn.Module):
    """Draws where the first number is negative, and nothing else."""

    def __init__(self, draw: Callable[[Tensor], Tensor], careless: bool = False) -> None:
        super().__init__()
        self.draw, self.careless, self.linear = draw, careless, nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        if x.flatten()[0] >= 0:
            return F.dropout(y, 0.0) + F.scaled_dot_product_attention(y, x, x)
        try:
            return self.draw(y)
        except BaseException:
            if not self.careless:
                raise
            return y


BY_RATE: dict[str, Callable[[Tensor], Tensor]] = {
    "dropout": lambda x: F.dropout(x, 0.3),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.3),
}


@pytest.mark.parametrize("around", [contextlib.nullcontext, DeviceContext], ids=["alone", "in a mode"])
@pytest.mark.parametrize(
    ("draw", "careless"),
    [*((name, False) for name in (*OTHERS, *BY_RATE)), ("dropout", True), ("randn_like", True)],
)
def test_the_first_draw_of_a_module_that_drew_nothing(
    draw: str, careless: bool, around: Callable[[], contextlib.AbstractContextManager[Any]]
) -> None:
    module, x = Negative((OTHERS | BY_RATE)[draw], careless), X.abs()
    params, state = fr.variables(module)
    seen, unseen = fr.from_module(module), fr.from_module(module)
    before = torch.random.get_rng_state()
    with around():
        expected = seen.apply(params, state, -x, key=KEY, train=True)
        first = unseen.apply(params, state, x, key=KEY, train=True)
        found = [unseen.apply(params, state, -x, key=KEY, train=True) for _ in range(2)]
    torch.testing.assert_close(found, [expected, expected], rtol=0, atol=0)
    torch.testing.assert_close(unseen.apply(params, state, x, key=KEY, train=True), first, rtol=0, atol=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(expected[0], unseen.apply(params, state, -x, key=fr.random.key(9), train=True)[0])


@pytest.mark.parametrize("others", [0, 1])
def test_a_first_draw_without_a_key_is_refused(others: int) -> None:
    over, module = threading.Event(), Negative(OTHERS["rand"])
    for _ in range(others):  # beside which it takes a look to know who drew
        threading.Thread(target=over.wait).start()
    model, variables, before = fr.from_module(module), fr.variables(module), torch.random.get_rng_state()
    model.apply(*variables, X.abs())
    for _ in range(2):
        with pytest.raises(fr.FuncregError, match=r"key.*draws \(torch's rand\)"):
            model.apply(*variables, -X.abs())
    over.set()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_model_in_a_module_that_draws_nothing_has_its_draws() -> None:
    inner = fr.from_module(Attention())
    variables = fr.variables(Attention())

    class Outer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return inner.apply(*variables, x, key=KEY)[0]

    expected = inner.apply(*variables, X, key=KEY)[0]
    model = fr.from_module(Outer())
    for _ in range(2):
        assert torch.equal(model.apply({}, {}, X)[0], expected)


class Mixed(nn.Module):
    """Layers with draws inside of one with draws: of both kinds, and one that looks at the functions between."""

    def __init__(self, outer: bool, inner: bool) -> None:
        super().__init__()
        self.inner, self.outer = (Mixed(inner, inner) if outer is not inner else None), outer

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(x, 0.4, self.training)
        if self.inner is not None:
            x = self.inner(F.scaled_dot_product_attention(x, x, x))
        if self.outer and self.training:
            x = x + torch.rand_like(x)
        return x + F.scaled_dot_product_attention(x, x, x, dropout_p=0.1 if self.training else 0.0)


@pytest.mark.parametrize("outer", [False, True])
def test_layers_of_both_kinds_inside_of_each_other(outer: bool) -> None:
    module = Mixed(outer, not outer)
    model, keys = fr.from_module(module), fr.random.split(KEY, 3)
    each = [model.apply({}, {}, X, key=key)[0] for key in keys]
    members = vmap(lambda key: model.apply({}, {}, X, key=key)[0])(keys)
    torch.testing.assert_close(members, torch.stack(each), rtol=1e-5, atol=1e-4)  # kernel and formula, of numbers to 10
    assert not torch.equal(each[0], each[1])


class Failing(nn.Module):
    def forward(self, x: Tensor, fail: bool) -> Tensor:
        y = F.dropout(x, 0.5)
        if fail:
            raise ValueError("as it was asked to")
        return y


def test_outside_of_a_call_nothing_is_handed_over() -> None:
    model = fr.from_module(Failing())
    model.apply({}, {}, X, False, key=KEY)
    for fail in (False, True):
        if fail:
            with pytest.raises(ValueError, match="as it was asked to"):
                model.apply({}, {}, X, fail, key=KEY)
        torch.manual_seed(0)
        expected = (torch.rand(2), F.dropout(X, 0.5))
        model.apply({}, {}, X, False, key=KEY)
        torch.manual_seed(0)
        found = (torch.rand(2), F.dropout(X, 0.5))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_call_that_draws_nothing_is_not_blamed_for_other_threads() -> None:
    variables, drawn = fr.variables(nn.Linear(8, 8)), list[Tensor]()

    def draw() -> None:
        drawn.append(torch.rand(8))

    def beside(*_: Any) -> None:
        thread = threading.Thread(target=draw)
        thread.start()
        thread.join()

    class Beside(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            y = super().forward(input)
            for event in EVENTS:
                event()
            return y

    model = fr.from_module(Beside(8, 8))
    expected = model.apply(*variables, X)[0]
    EVENTS.append(beside)
    try:
        assert torch.equal(model.apply(*variables, X)[0], expected)
    finally:
        EVENTS.clear()
    assert len(drawn) == 1


EVENTS: list[Callable[[], Any]] = []


class Waiting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for event in EVENTS:
            event()
        return F.dropout(x, 0.5)


def test_other_threads_draw_as_they_would() -> None:
    inside, go_on, returned, found = *(threading.Event() for _ in range(3)), []
    model = fr.from_module(Waiting())
    expected = model.apply({}, {}, X, key=KEY)[0]

    def other() -> None:
        inside.wait()
        found.append(F.dropout(torch.ones(64), 0.5, training=True))
        go_on.set()
        returned.wait()

    thread = threading.Thread(target=other)
    thread.start()
    EVENTS[:] = [inside.set, go_on.wait]
    try:
        y = model.apply({}, {}, X, key=KEY)[0]
    finally:
        EVENTS.clear()
        returned.set()
        thread.join()
    assert torch.equal(y, expected)
    assert set(found[0].tolist()) == {0.0, 2.0}
