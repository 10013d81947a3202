"""What a module reaches beside itself, keeps from call to call, makes and writes into: the right value, or refused."""

import functools
import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.utils import prune

import funcreg as fr

KEYS = fr.random.split(fr.random.key(5), 3)
X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


class Layer(nn.Module):
    """A linear layer that its subclasses come by in a way of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class OfItsClass(Layer):
    found: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.found["linear"] = self.linear

    def forward(self, x: Tensor) -> Tensor:
        return self.found["linear"](x)


class WeightOfItsClass(OfItsClass):
    def forward(self, x: Tensor) -> Tensor:
        return x @ self.found["linear"].weight


class DropoutOfItsClass(OfItsClass):
    def __init__(self) -> None:
        super().__init__()
        self.found["linear"] = self.linear = nn.Dropout(0.5)  # type: ignore[assignment]


class Reference:
    def __init__(self, layer: nn.Module) -> None:
        self.layer = weakref.ref(layer)


class OfAnObject(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.reference = Reference(self.linear)

    def forward(self, x: Tensor) -> Tensor:
        layer = self.reference.layer()
        assert layer is not None
        return layer(x)


@pytest.mark.parametrize("kind", [OfItsClass, WeightOfItsClass, DropoutOfItsClass, OfAnObject])
def test_what_reaches_the_module_itself_is_refused(kind: type[nn.Module]) -> None:
    module = nn.Sequential(nn.Identity(), kind())
    model = fr.from_module(module)
    for _ in range(2):
        with pytest.raises(fr.FuncregError, match=rf"1 \({kind.__name__}\), which reaches 1.linear"):
            model.apply(*fr.variables(module), X)


class Remembers(Layer):
    @functools.lru_cache(maxsize=4)  # noqa: B019  (what is tried)
    def doubled(self) -> Tensor:
        return 2 * self.linear.weight

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.doubled()


def test_a_cache_of_weights_is_refused_at_every_call() -> None:
    module = Remembers()
    model = fr.from_module(module)
    for train in (False, False, True):
        with pytest.raises(fr.FuncregError, match="what an earlier call has computed"):
            model.apply(*fr.variables(module), X, train=train)


class TakesTurns(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.turns = itertools.cycle(self.layers)

    def forward(self, x: Tensor) -> Tensor:
        return next(self.turns)(x)


def test_what_takes_turns_is_refused() -> None:
    module = TakesTurns()
    with pytest.raises(fr.FuncregError, match="two answers for one key"):
        fr.from_module(module).apply(*fr.variables(module), X)


class InAThread(Layer):
    def forward(self, x: Tensor) -> Tensor:
        results: list[Tensor] = []
        thread = threading.Thread(target=lambda: results.append(self.linear(x)))
        thread.start()
        thread.join()
        return results[0]


def test_a_thread_is_right_outside_of_transforms_and_refused_inside() -> None:
    module = nn.Sequential(InAThread())
    model = fr.from_module(module)
    params, state = fr.variables(module)
    torch.testing.assert_close(model.apply(params, state, X)[0], module(X))
    with pytest.raises(fr.FuncregError, match=r"0.linear \(Linear\), which the forward runs in another thread"):
        grad(lambda params: model.apply(params, state, X)[0].sum())(params)


class Weakly(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.all = weakref.WeakSet([self.linear])
        self.by_name = weakref.WeakValueDictionary({"linear": self.linear})
        self.scales = weakref.WeakKeyDictionary({self.linear: 3.0})

    def forward(self, x: Tensor) -> Tensor:
        return next(iter(self.all))(x) * self.scales[self.linear] + self.by_name["linear"](x)


class Slots(Layer):
    __slots__ = ("scale",)

    def __init__(self) -> None:
        super().__init__()
        self.scale = 2.0

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.linear(x)


@pytest.mark.parametrize("kind", [Weakly, Slots])
def test_what_a_layer_keeps_in_other_ways_is_the_copys(kind: type[nn.Module]) -> None:
    module = kind()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    torch.testing.assert_close(model.apply(params, state, X)[0], module(X))
    other = {name: 2 * value for name, value in params.items()}
    torch.testing.assert_close(model.apply(other, state, X)[0], 2 * module(X))
    torch.testing.assert_close(fr.to_module(module, other, state)(X), 2 * module(X))


def test_a_pruned_layer_is_pruned() -> None:
    layer = prune.random_unstructured(prune.l1_unstructured(nn.Linear(6, 6), "weight", 0.4), "weight", 0.2)
    module = nn.Sequential(layer, nn.ReLU(), prune.l1_unstructured(nn.Linear(6, 2), "bias", 0.5))
    model, (params, state) = fr.from_module(module), fr.variables(module)
    module(X).sum().backward()
    ours = grad(lambda params: model.apply(params, state, X)[0].sum())(params)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad)
    other = {name: 2 * value for name, value in params.items()}
    expected = fr.to_module(module, other, state)(X)
    torch.testing.assert_close(model.apply(other, state, X)[0], expected)
    assert not torch.equal(expected, module(X))


class CompiledMethod(Layer):
    """A stand-in for torch.compile, whose work is told by the attribute that it leaves on what it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.step = _as_compiled(self.doubled)

    def doubled(self, x: Tensor) -> Tensor:
        return 2 * self.linear(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)


def _as_compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def fails(*args: Any) -> Tensor:
        raise AssertionError("compiled inside of a call")

    fails._torchdynamo_orig_callable = function  # type: ignore[attr-defined]
    return fails


class CompiledForward(CompiledMethod):
    forward = _as_compiled(CompiledMethod.doubled)


@pytest.mark.parametrize("kind", [CompiledMethod, CompiledForward])
def test_a_compiled_method_runs_as_it_was(kind: type[nn.Module]) -> None:
    assert hasattr(torch.compile(lambda x: x, backend="eager"), "_torchdynamo_orig_callable")
    layer: Any = kind()
    module = nn.Sequential(layer)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    expected = 2 * layer.linear(X)
    torch.testing.assert_close(model.apply(params, state, X)[0], expected)
    torch.testing.assert_close(vmap(lambda x: model.apply(params, state, x)[0])(X), expected)


@pytest.mark.parametrize("key_of", [lambda linear: id(linear), lambda linear: linear.weight])
def test_parts_as_keys_are_refused(key_of: Callable[[nn.Linear], Any]) -> None:
    module = Layer()
    module.settings = {key_of(module.linear): 3.0}  # type: ignore[assignment]
    with pytest.raises(fr.FuncregError, match=r"whose attribute 'settings' .* use names as keys"):
        fr.from_module(nn.Sequential(module))


class NeedsItsWidth(nn.Module):
    def __new__(cls, width: int) -> "NeedsItsWidth":
        return super().__new__(cls)

    def __init__(self, width: int) -> None:
        super().__init__()


def test_what_cannot_be_copied_is_named() -> None:
    with pytest.raises(fr.FuncregError, match=r"got 1 \(NeedsItsWidth\), which cannot be made without its arguments"):
        fr.from_module(nn.Sequential(nn.ReLU(), NeedsItsWidth(3)))


class Adds(nn.Module):
    """Noise in training, by a function of the input."""

    def __init__(self, noise: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, x: Tensor) -> Tensor:
        return x + self.noise(x) if self.training else x


def _first_column(x: Tensor) -> Tensor:
    noise = torch.zeros_like(x)
    noise[:, 0] = torch.randn(len(x))
    return noise


def _counted(x: Tensor) -> Tensor:
    return torch.zeros_like(x).scatter_add_(1, torch.randint(0, 6, x.shape), torch.ones_like(x))


NOISE: dict[str, Callable[[Tensor], Tensor]] = {
    "beta": lambda x: torch.distributions.Beta(x.exp(), 2 * x.exp()).rsample(),
    "dirichlet": lambda x: torch.distributions.Dirichlet(x.exp()).rsample(),
    "gamma": lambda x: torch.distributions.Gamma(x.exp(), 2.0).rsample(),
    "poisson": lambda x: torch.poisson(x.detach().exp()),
    "binomial": lambda x: torch.binomial(torch.full_like(x, 5.0), x.detach().sigmoid()),
    "one hot": lambda x: torch.distributions.OneHotCategorical(logits=x).sample(),
    "multinomial": lambda x: torch.distributions.Multinomial(4, logits=x).sample(),
    "initialised": lambda x: nn.init.kaiming_uniform_(torch.empty_like(x), a=5**0.5),
    "out": lambda x: torch.bernoulli(x.detach().sigmoid(), out=torch.empty_like(x)),
    "copied": lambda x: torch.empty_like(x).copy_(torch.rand_like(x)),
    "first column": _first_column,
    "counted": _counted,
}


@pytest.mark.parametrize("name", NOISE)
def test_draws_under_vmap_are_those_of_a_loop_and_so_are_their_gradients(name: str) -> None:
    module = nn.Sequential(nn.Linear(6, 6), Adds(NOISE[name]))
    model, (params, state) = fr.from_module(module), fr.variables(module)

    def loss(params: dict[str, Tensor], key: Tensor) -> Tensor:
        return model.apply(params, state, X, key=key)[0].square().mean()

    values = vmap(loss, in_dims=(None, 0))(params, KEYS)
    torch.testing.assert_close(values, torch.stack([loss(params, key) for key in KEYS]))
    assert len(values.unique()) == len(KEYS)
    grads = vmap(grad(loss), in_dims=(None, 0))(params, KEYS)
    for place, key in enumerate(KEYS):
        leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
        plain = torch.autograd.grad(loss(leaves, key), list(leaves.values()))
        for mine, theirs in zip(grads.values(), plain, strict=True):
            torch.testing.assert_close(mine[place], theirs)


def test_a_beta_numbers_gradient_is_that_of_its_mean() -> None:
    """E x = a / (a + b), so the derivative by a is b / (a + b)**2 on average."""
    a, b, draws = 1.5, 2.5, 20_000

    class Drawn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.full((draws,), a))

        def forward(self) -> Tensor:
            return torch.distributions.Beta(self.a, torch.full_like(self.a, b)).rsample()

    module = Drawn()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    slopes = grad(lambda params: model.apply(params, state, key=KEYS[0])[0].sum())(params)["a"]
    error = slopes.std() / draws**0.5
    assert abs(slopes.mean() - b / (a + b) ** 2) < 5 * error


class Routes(nn.Module):
    """A mixture of two experts, written row by row into a tensor that the forward makes."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])

    def forward(self, x: Tensor) -> Tensor:
        mixed = torch.zeros_like(x)
        for place, expert in enumerate(self.experts):
            rows = torch.arange(place, len(x), 2)
            mixed.index_add_(0, rows, expert(x[rows]))
        return mixed


def test_members_write_into_what_the_forward_makes() -> None:
    model = fr.from_module(Routes)
    params, state = fr.model_members(model, KEYS[0], 3)
    ours, _ = vmap(lambda params, state: model.apply(params, state, X))(params, state)
    for place in range(3):
        own = fr.to_module(Routes, fr.tree.map(lambda leaf, at=place: leaf[at], params), state)
        torch.testing.assert_close(ours[place], own(X))
