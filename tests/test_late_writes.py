"""A forward that writes in some calls and not in the first: a codebook that replaces what nobody uses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

import funcreg as fr
from funcreg.model.attributes import with_code_of_their_own
from funcreg.model.writing import writing

QUIET, LOUD = -torch.ones(4, 3), torch.arange(12.0).reshape(4, 3)


class Late(nn.Module):
    """Writes when its input is loud."""

    b: Tensor
    v: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(3, 3), nn.Parameter(torch.ones(3))
        self.register_buffer("b", torch.zeros(3))
        self.register_buffer("v", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        loud = bool((x.detach().sum() > 0).any())
        y: Tensor = self.linear(self.write(x) if loud else x) * self.scale + self.b / self.v
        return y

    def write(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class InPlace(Late):
    def write(self, x: Tensor) -> Tensor:
        self.b.add_(1)
        return x


class ByItem(Late):
    def write(self, x: Tensor) -> Tensor:
        self.b[1:] = self.v[1:] * 2
        return x


class Augmented(Late):
    def write(self, x: Tensor) -> Tensor:
        self.b += 1
        return x


class ThroughData(Late):
    def write(self, x: Tensor) -> Tensor:
        self.b.data.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        return x


class SetData(Late):
    def write(self, x: Tensor) -> Tensor:
        self.b.data = 0.9 * self.b.data + 0.1 * x.detach().mean(0)
        return x


def lerp(old: Tensor, new: Tensor) -> None:
    old.data.lerp_(new, 0.1)


class ByHelper(Late):
    def write(self, x: Tensor) -> Tensor:
        lerp(self.b, x.detach().mean(0))
        return x


class Average:
    def move(self, old: Tensor, new: Tensor) -> None:
        torch._foreach_lerp_([old.data], [new], 0.1)  # pyright: ignore[reportPrivateImportUsage]


class ByObject(Late):
    def __init__(self) -> None:
        super().__init__()
        self.average = Average()

    def write(self, x: Tensor) -> Tensor:
        self.average.move(self.b, x.detach().mean(0))
        return x


class ByView(Late):
    def write(self, x: Tensor) -> Tensor:
        self.b.data[:2].copy_(x.detach().mean(0)[:2])
        return x


class Normalized(Late):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(F.batch_norm(x, self.b, self.v, training=bool(x.detach().sum() > 0)))
        return y


class Several(Late):
    def write(self, x: Tensor) -> Tensor:
        self.b.data.add_(0)  # which no value tells of
        self.v.data.add_(1)
        self.b.data.add_(1)
        return x


BUFFERS = [InPlace, ByItem, Augmented, ThroughData, ByHelper, ByObject, ByView, Normalized, Several]
NO_TRANSFORM = "Call it in a loop, outside of the transform"


class Clipped(Late):
    def write(self, x: Tensor) -> Tensor:
        self.scale.data.clamp_(-2, 2)
        return x


class ClippedAnew(Late):
    def write(self, x: Tensor) -> Tensor:
        self.scale.data = self.scale.data.clamp(-2, 2)
        return x


class ClippedInPlace(Late):
    def write(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.scale.clamp_(-2, 2)
        return x


def loss(model: fr.Model, params: Any, state: Any, x: Tensor) -> tuple[Tensor, tuple[Tensor, Any]]:
    y, state = model.apply(params, state, x, train=True)
    return y.square().sum(), (y, state)


def by_gradients(model: fr.Model, params: Any, state: Any, x: Tensor) -> tuple[Tensor, Any]:
    _, aux = grad(lambda params: loss(model, params, state, x), has_aux=True)(params)
    y, state = aux
    return y, state


def plainly(model: fr.Model, params: Any, state: Any, x: Tensor) -> tuple[Tensor, Any]:
    y, state = model.apply(params, state, x, train=True)
    return y, state


def copied(*trees: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for tree in trees for name, tensor in tree.items()}


def unchanged(before: dict[str, Tensor], *trees: dict[str, Tensor]) -> None:
    for name, tensor in {name: each for tree in trees for name, each in tree.items()}.items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize(
    ("kind", "call"), [*((kind, call) for kind in BUFFERS for call in (plainly, by_gradients)), (SetData, plainly)]
)
def test_what_a_later_call_writes_comes_back_in_the_state(kind: type[Late], call: Callable[..., Any]) -> None:
    module = kind().train()
    model = fr.from_module(module)
    params, state = fr.variables(module)
    params, state = copied(params), copied(state)
    for x in (QUIET, LOUD, QUIET, LOUD, LOUD):
        before = copied(params, state)
        y, after = call(model, params, state, x)
        unchanged(before, params, state)
        torch.testing.assert_close(y, module(x))
        fr.testing.assert_trees_close(dict(after), dict(module.named_buffers()))
        state = after


@pytest.mark.parametrize("call", [plainly, by_gradients])
@pytest.mark.parametrize("kind", [Clipped, ClippedAnew, ClippedInPlace])
def test_a_later_write_into_a_parameter_is_refused(kind: type[Late], call: Callable[..., Any]) -> None:
    module = kind().train()
    model = fr.from_module(module)
    params, state = fr.variables(module)
    params, state = copied(params), copied(state)
    params["scale"] = params["scale"] * 3
    before, quiet = copied(params, state), call(model, params, state, QUIET)[0]
    torch_refuses = kind is ClippedAnew and call is by_gradients
    with pytest.raises(fr.FuncregError, match=NO_TRANSFORM if torch_refuses else "writes into scale in place"):
        call(model, params, state, LOUD)
    unchanged(before, params, state)
    torch.testing.assert_close(call(model, params, state, QUIET)[0], quiet)


def test_a_parameter_may_be_set_to_what_it_is() -> None:
    module = ClippedAnew().train()
    model = fr.from_module(module)
    params, state = fr.variables(module)
    for x in (QUIET, LOUD, LOUD):
        torch.testing.assert_close(model.apply(params, state, x, train=True)[0], module(x))
    params = {name: tensor.requires_grad_() for name, tensor in copied(params).items()}
    torch.testing.assert_close(
        torch.autograd.grad(loss(model, params, state, LOUD)[0], [*params.values()]),
        torch.autograd.grad(module(LOUD).square().sum(), [*module.parameters()]),
    )


def test_data_that_a_transform_cannot_set_is_refused_there() -> None:
    module = SetData().train()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    before = copied(params, state)
    by_gradients(model, params, state, QUIET)
    with pytest.raises(fr.FuncregError, match=NO_TRANSFORM):
        by_gradients(model, params, state, LOUD)
    unchanged(before, params, state)


def test_members_are_written_into_each() -> None:
    class Counted(Late):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[0] > 2:
                self.b.add_(x.detach().mean(0))
            y: Tensor = self.linear(x) + self.b
            return y

    module = Counted()
    model = fr.from_module(module)
    params, state = fr.variables(module)
    x = torch.stack([LOUD, 2 * LOUD])
    state = {name: torch.stack([tensor, tensor]).detach() for name, tensor in state.items()}
    members = vmap(lambda state, x: model.apply(params, state, x, train=True)[1], in_dims=(0, 0))
    few = members(state, x[:, :2])
    torch.testing.assert_close(few["b"], torch.zeros(2, 3))
    before = copied(state)
    after = members(state, x)
    unchanged(before, state)
    torch.testing.assert_close(after["b"], x.mean(1))


class Quiet(Late):
    def write(self, x: Tensor) -> Tensor:
        return x


def test_a_graph_of_its_gradients_can_be_recorded() -> None:
    class Long(Late):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 4:
                self.b.data.add_(1)
            y: Tensor = self.linear(x) * self.scale + self.b
            return y

    model = fr.from_module(Long())
    params, state = fr.variables(Long())

    def gradients(scale: Tensor) -> Tensor:
        return grad(lambda scale: model.apply({**params, "scale": scale}, state, LOUD)[0].square().sum())(scale)

    scale = torch.ones(3)
    torch.testing.assert_close(make_fx(gradients)(scale)(2 * scale), gradients(2 * scale))


def test_code_that_writes_into_nothing_is_not_watched() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.first = nn.BatchNorm1d(3), nn.Linear(3, 3)

        def forward(self, x: Tensor, found: dict[str, Tensor]) -> Tensor:
            y = F.relu(self.first(self.norm(x)), inplace=True)
            y += x
            found["y"] = y
            y[0] = 0.0
            return y.clamp_(0, 1)

    layers = dict(Block().named_modules())
    assert writing(layers, with_code_of_their_own(layers)) == (False, False)
    for kind in (*BUFFERS, Clipped, ClippedAnew, ClippedInPlace):
        layers = dict(nn.Sequential(Quiet(), kind()).named_modules())  # with the same forward
        assert any(writing(layers, with_code_of_their_own(layers)))
