"""What a forward writes into its own state comes back in the state; what it sets beside it is put back every time."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops import while_loop
from torch.func import grad, vmap
from torch.utils.checkpoint import checkpoint

import funcreg as fr

KEY = fr.random.key(0)


def inputs(*shape: int) -> Tensor:
    return fr.random.normal(fr.random.key(9), shape)


class MomentumEncoder(nn.Module):
    """A target network that follows the online one, and a queue of what it gave (MoCo)."""

    queue: Tensor
    place: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.online = nn.Linear(4, 3)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.register_buffer("queue", inputs(8, 3))
        self.register_buffer("place", torch.zeros(1, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        y = self.online(x)
        logits = y @ self.queue.clone().T
        if self.training:
            for ours, theirs in zip(self.online.parameters(), self.target.parameters(), strict=True):
                theirs.data.mul_(0.9).add_(ours.data, alpha=0.1)
            with torch.no_grad():
                self.queue[(self.place + torch.arange(len(x))) % 8] = self.target(x)
                self.place.copy_((self.place + len(x)) % 8)
        return logits


def test_a_momentum_encoder_moves_in_the_state_alone() -> None:
    module, xs = MomentumEncoder(), inputs(3, 5, 4)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    given = {name: tensor.clone() for name, tensor in {**params, **state}.items()}
    twin = copy.deepcopy(module).train()
    after = state
    for x in xs:
        y, after = model.apply(params, after, x, train=True)
        torch.testing.assert_close(y, twin(x))
    own = twin.state_dict()
    assert all(torch.equal(after[name], own[name]) for name in after)
    assert not torch.equal(after["target.weight"], given["target.weight"])
    assert all(torch.equal(tensor, given[name]) for name, tensor in {**params, **state}.items())
    assert fr.check(model, xs[0], params=params, state=state) == ()


def test_members_have_targets_of_their_own() -> None:
    model = fr.from_module(MomentumEncoder)
    params, state = fr.model_members(model, KEY, 2)

    def loss(params: Any, state: Any, x: Tensor) -> Any:
        y, state = model.apply(params, state, x, train=True)
        return y.square().mean(), state

    def step(params: Any, state: Any) -> Any:
        return grad(loss, has_aux=True)(params, state, inputs(5, 4))

    grads, after = vmap(step)(params, state)
    for place in range(2):
        ours, theirs = step(*(fr.tree.map(lambda leaf, at=place: leaf[at], each) for each in (params, state)))
        for stacked, single in ((grads, ours), (after, theirs)):
            for name, tensor in single.items():
                torch.testing.assert_close(stacked[name][place], tensor)


def test_a_target_among_the_parameters_is_not_written_into() -> None:
    model, (params, state) = fr.from_module(MomentumEncoder()), fr.variables(MomentumEncoder())
    trained = {**params, **{name: tensor for name, tensor in state.items() if name.startswith("target")}}
    rest = {name: tensor for name, tensor in state.items() if name not in trained}
    before = trained["target.weight"].clone()

    def train(params: Any, state: Any, x: Tensor) -> Any:
        return model.apply(params, state, x, train=True)

    for how in (train, fr.jit(train)):
        with pytest.raises(fr.FuncregError, match=r"\(MomentumEncoder\) writes into target\.weight in place"):
            how(trained, rest, inputs(5, 4))
    assert torch.equal(trained["target.weight"], before)


class Average(nn.Module):
    """An average that is written in three ways."""

    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.average.data.mul_(0.9).add_(x.mean(0), alpha=0.1)
        self.average[0] = 2.0
        self.average += 1
        return x - self.average


def test_a_compiled_call_writes_into_the_state_alone() -> None:
    module, state, x = Average(), {"average": torch.zeros(3)}, inputs(4, 3)
    model = fr.from_module(module)
    y, after = fr.jit(lambda state, x: model.apply({}, state, x))(state, x)
    torch.testing.assert_close(y, module(x))
    torch.testing.assert_close(after["average"], module.average)
    assert not state["average"].any()


class Views(nn.Module):
    """Two names of one memory: `attribute` makes the other a plain attribute."""

    total: Tensor

    def __init__(self, attribute: bool) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(2, 3))
        if attribute:
            self.row = self.total[0]
        else:
            self.register_buffer("row", self.total[0])

    def forward(self, x: Tensor) -> Tensor:
        self.total.add_(1)
        return x + self.row


@pytest.mark.parametrize("attribute", [False, True])
def test_memory_under_two_names_is_not_written_into(attribute: bool) -> None:
    module = Views(attribute)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    with pytest.raises(fr.FuncregError, match=r"the module \(Views\) writes into total in place"):
        model.apply(params, state, torch.ones(3))


class Table(nn.Module):
    """A table for the longest input so far, and how long that was: attributes, or the table as a buffer."""

    def __init__(self, buffer: bool) -> None:
        super().__init__()
        self.linear, self.longest, self.lengths = nn.Linear(3, 3), 4, dict[int, int]()
        self.register_buffer("table", self.made(4), persistent=False) if buffer else setattr(self, "table", None)
        self.buffer = buffer

    def made(self, length: int) -> Tensor:
        return torch.arange(length) / length

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > self.longest:
            self.longest = x.shape[0]
            self.lengths[x.shape[0]] = len(self.lengths)
            if self.buffer:
                self.table = self.made(x.shape[0])
        table = self.table if self.buffer else self.made(self.longest)
        return self.linear(x) + table[: len(x), None] + len(self.lengths)


@pytest.mark.parametrize(("buffer", "jit"), [(False, False), (True, False), (True, True)])
def test_what_a_later_call_sets_is_put_back(buffer: bool, jit: bool) -> None:
    module = Table(buffer)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    apply = fr.jit(model.apply) if jit else model.apply
    for length in (3, 6, 3) if jit else (3, 6, 3, 5, 8):  # the first of them sets nothing
        x = inputs(length, 3)
        y, state = apply(params, state, x)
        torch.testing.assert_close(y, copy.deepcopy(module)(x))


class Retied(nn.Module):
    """Ties two layers whenever it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.second.weight = self.first.weight
        return self.second(self.first(x))


class Loops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return while_loop(lambda x: x.sum() < 5, lambda x: (self.linear(x).abs() + 1,), (x,))[0]


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.linear, x, use_reentrant=False)


@pytest.mark.parametrize(
    ("layer", "did"),
    [
        (Retied, r"1\.second \(Linear\), of which a forward replaces a parameter"),
        (Loops, r"1 \(Loops\), whose forward compiles a part of itself"),
    ],
)
def test_what_a_copy_cannot_do_is_said_by_the_layers_name(layer: type[nn.Module], did: str) -> None:
    module = nn.Sequential(nn.ReLU(), layer())
    with pytest.raises(fr.FuncregError, match=did):
        fr.from_module(module).apply(*fr.variables(module), inputs(2, 3))


def test_an_error_of_torch_that_a_checkpoint_passes_on_stays_its_own() -> None:
    module = Checkpointed()
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        fr.from_module(module).apply(*fr.variables(module), inputs(2, 4))


def test_a_check_inside_of_a_layer_names_it() -> None:
    model = fr.from_module(nn.Sequential(nn.ReLU(), nn.Dropout(0.5)))
    with pytest.raises(fr.FuncregError, match=r"rate: got 2\.0; .* It is 1 \(Dropout\) that asks"):
        model.apply({}, {}, inputs(2, 3), key=KEY, rates=2.0)
