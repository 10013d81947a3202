"""Any module: compiled first calls, frozen parts, arguments with our names, checkpoints, refusals by a layer's name."""

import copy
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import funcreg as fr
from tests.zoo.hand_written.gradients import negative

KEY = fr.random.key(0)


class Gated(nn.Module):
    """Noise behind the layer's own switch, by a function; beside batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.linear(x))
        return F.dropout(x, 0.4) if self.training else x


class CalledInTraining(nn.Module):
    """A layer that knows its mode, behind a question for it."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x) if self.training else x


class Latent(nn.Module):
    """A draw without a rate, in every mode."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Numpy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(np.random.rand())  # noqa: NPY002  (the global generator is what is refused)


class Clipped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.scale.data.clamp_(-0.5, 0.5)
        return x * self.scale


def inputs(*shape: int) -> Tensor:
    return fr.random.normal(fr.random.key(9), shape)


@pytest.mark.parametrize("make", [Gated, Latent], ids=lambda make: make.__name__)
def test_a_first_call_that_is_compiled_has_its_noise(make: Callable[[], nn.Module]) -> None:
    module, x, keys = make(), inputs(3, 4), fr.random.split(KEY, 3)
    model, (params, state) = fr.from_module(module), fr.variables(module)

    def samples(params: Any, x: Tensor, keys: Tensor) -> Tensor:
        return vmap(lambda key: model.apply(params, state, x, key=key)[0])(keys)

    compiled = fr.jit(samples)(params, x, keys)
    eager = torch.stack([model.apply(params, state, x, key=key)[0] for key in keys])
    torch.testing.assert_close(compiled, eager)
    assert not torch.equal(eager[0], eager[1])


def test_a_first_call_that_is_traced_may_have_a_rate() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    model, (params, state), x = fr.from_module(net), fr.variables(net), inputs(3, 4)

    def call(rate: Any) -> Tensor:
        return model.apply(params, state, x, key=KEY, train=True, rates=rate)[0]

    compiled = torch.compile(call, backend="eager", fullgraph=True)(torch.tensor(0.3))
    torch.testing.assert_close(compiled, call(0.3))


def test_a_frozen_part_evaluates_while_the_rest_trains() -> None:
    backbone = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    module = nn.Sequential(backbone, nn.BatchNorm1d(4)).double()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    x = inputs(6, 4).double()

    def trained(params: Any) -> Any:
        return model.apply(params, state, x, train=True, frozen=("0",))

    output, after = trained(params)
    expected = module.train()
    backbone.eval()
    torch.testing.assert_close(output, expected(x))
    torch.testing.assert_close(after, dict(module.named_buffers()))
    assert torch.equal(after["0.1.running_mean"], state["0.1.running_mean"])
    assert not torch.equal(after["1.running_mean"], state["1.running_mean"])
    torch.testing.assert_close(fr.jit(trained)(params), (output, after))


def test_arguments_of_the_forward_with_names_of_ours() -> None:
    attention, x = nn.MultiheadAttention(4, 2), inputs(3, 2, 4)
    model, (params, state) = fr.from_module(attention), fr.variables(attention)
    (output, _), _ = model.apply(params, state, x, kwargs={"key": x, "value": x})
    torch.testing.assert_close(output, attention(x, x, x)[0])
    with pytest.raises(fr.FuncregError, match=r"key: .* goes into kwargs: kwargs=\{'key': value\}"):
        model.apply(params, state, x, key=x, value=x)


def doubled(module: nn.Module, args: Any, output: Any) -> Any:
    return 2 * output


def test_a_method_may_call_the_module_and_its_hooks_run_at_its_forward_alone() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x)

        def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self(x), self.forward(x)

    net, x = Net(), inputs(2, 4)
    net.register_forward_hook(doubled)
    model, (params, state) = fr.from_module(net), fr.variables(net)
    torch.testing.assert_close(model.apply(params, state, x, method="predict")[0], net.predict(x))
    torch.testing.assert_close(model.apply(params, state, x)[0], net(x))


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_is_checkpointed_runs_once_and_has_its_gradient(reentrant: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.drop, self.outer = nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)

        def block(self, x: Tensor) -> Tensor:
            return self.drop(torch.relu(self.inner(x)))

        def forward(self, x: Tensor) -> Any:
            return self.outer(checkpoint(self.block, x, use_reentrant=reentrant))

    net = Net().double()
    model, (params, state) = fr.from_module(net), fr.variables(net)
    x = inputs(5, 4).double()

    def loss(params: Any) -> Tensor:
        return model.apply(params, state, x, key=KEY)[0].square().sum()

    own = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    loss(own).backward()
    plain = {name: tensor.grad for name, tensor in own.items()}
    assert all(bool(each.any()) for each in plain.values() if each is not None)
    torch.testing.assert_close(grad(loss)(params), plain)


def step_of(model: fr.Model) -> Any:
    def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        y, state = model.apply(params, state, batch.x, key=key, train=True)
        return (y - batch.y).square().mean(), (state, {})

    return fr.train.make_step(loss_fn, fr.optim.sgd(0.1))


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize(
    ("layer", "did"), [(Numpy, r"1 \(Numpy\) draws from numpy"), (Clipped, r"1 \(Clipped\) writes into 1\.scale")]
)
def test_training_names_the_layer_that_is_not_pure(
    layer: Callable[[], nn.Module], did: str, members: int | None, jit: bool
) -> None:
    net = nn.Sequential(nn.Linear(4, 4), layer())
    model, (params, state) = fr.from_module(net), fr.variables(net)
    given = {name: tensor.clone() for name, tensor in {**params, **state}.items()}
    if members is not None:
        params, state = fr.tree.stack([params] * members), fr.tree.stack([state] * members) if state else {}
    train_state = fr.train.init(params, state, fr.optim.sgd(0.1), key=KEY, members=members)
    data = fr.train.Batch(inputs(8, 4), inputs(8, 4))
    before = repr(np.random.get_state())  # noqa: NPY002
    with pytest.raises(fr.FuncregError, match=did):
        fr.train.fit(
            step_of(model), train_state, data, key=KEY, epochs=1, batch_size=4, members=members, jit=jit, progress=False
        )
    assert before == repr(np.random.get_state())  # noqa: NPY002
    own = dict(net.named_parameters()) | dict(net.named_buffers())
    assert all(torch.equal(own[name], tensor) for name, tensor in given.items())


def test_a_first_call_that_is_recorded_for_monte_carlo_has_its_noise() -> None:
    net, x = nn.Sequential(Gated()), inputs(3, 4)
    model, (params, state) = fr.from_module(net), fr.variables(net)
    compiled, eager = (
        fr.uncertainty.mc_dropout(model, params, state, x, key=KEY, samples=4, chunk_size=2, jit=jit)
        for jit in (True, False)
    )
    torch.testing.assert_close(compiled, eager)
    assert float(eager.variance.sum()) > 0


@pytest.mark.parametrize("jit", [False, True])
def test_monte_carlo_names_the_layer_that_is_not_pure(jit: bool) -> None:
    net = nn.Sequential(nn.Linear(4, 4), Numpy())
    with pytest.raises(fr.FuncregError, match=r"1 \(Numpy\) draws from numpy"):
        fr.uncertainty.mc_dropout(fr.from_module(net), *fr.variables(net), inputs(3, 4), key=KEY, samples=4, jit=jit)


class Total(nn.Module):
    """A tensor that is neither parameter nor buffer, written in place while training."""

    def __init__(self) -> None:
        super().__init__()
        self.total = torch.zeros(3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.total.add_(x.sum(0))
        return x + self.total


def test_what_a_trial_in_training_mode_writes_is_no_part_of_a_monte_carlo_call() -> None:
    module = nn.Sequential(nn.Dropout(0.5), Total())
    model, variables = fr.from_module(module), fr.variables(module)
    x = torch.eye(3)
    assert torch.equal(model.apply(*variables, x, key=KEY, rates=0.0)[0], module.eval()(x))


def test_another_kind_of_call_is_looked_at_anew() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor, noisy: bool = False) -> Tensor:
            return x + torch.rand_like(x) if noisy else x

    model, x = fr.from_module(Net), inputs(2, 3)
    torch.testing.assert_close(model.apply({}, {}, x)[0], x)
    before = torch.random.get_rng_state()
    with pytest.raises(fr.FuncregError, match="key: got None"):
        model.apply({}, {}, x, noisy=True)
    assert torch.equal(before, torch.random.get_rng_state())


class InLongSequences(nn.Module):
    """Noise that depends on the length of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5) if self.training and x.shape[1] > 3 else x


class Masked(nn.Module):
    """A random subset of the tokens, where a number asks for it."""

    def forward(self, x: Tensor, ratio: float) -> Tensor:
        if ratio == 0:
            return x
        order = torch.rand(x.shape[:2]).argsort(1)[:, : int(x.shape[1] * (1 - ratio))]
        return x.gather(1, order[..., None].expand(-1, -1, x.shape[2]))


class DroppedBy(nn.Module):
    def forward(self, x: Tensor, rate: float) -> Tensor:
        return F.dropout(x, rate, self.training)


class WarmedUp(nn.Module):
    """Dropout after two steps, counted in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.tensor(2))

    def forward(self, x: Tensor, steps: float) -> Tensor:
        return F.dropout(x, 0.5 if steps + self.get_buffer("steps") > 2 else 0.0, self.training)


@pytest.fixture
def another_thread() -> Iterator[None]:
    """One that waits: where there is none, whoever drew from a global generator is known."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.usefixtures("another_thread")
@pytest.mark.parametrize(
    ("layer", "quiet", "noisy"),
    [
        (InLongSequences, (inputs(2, 3, 4),), (inputs(2, 6, 4),)),
        (Masked, (inputs(2, 6, 4), 0.0), (inputs(2, 6, 4), 0.5)),
        (DroppedBy, (inputs(2, 6, 4), 0.0), (inputs(2, 6, 4), 0.5)),
        (WarmedUp, (inputs(2, 6, 4), 0), (inputs(2, 6, 4), 1)),
    ],
)
def test_noise_that_no_call_of_its_kind_had_so_far_is_that_of_a_first_call(
    layer: Callable[[], nn.Module], quiet: tuple[Any, ...], noisy: tuple[Any, ...], train: bool
) -> None:
    keys = fr.random.split(KEY, 3)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.layer = nn.Linear(4, 4), layer()

        def forward(self, x: Tensor, *numbers: float) -> Tensor:
            return self.layer(self.linear(x), *numbers)

    module = Net()
    variables = fr.variables(module)

    def call(model: fr.Model, key: Tensor, given: tuple[Any, ...] = noisy) -> Tensor:
        return model.apply(*variables, *given, key=key, train=train)[0]

    first, one, other = (fr.from_module(module) for _ in range(3))
    expected = [call(first, key) for key in keys]
    assert not torch.equal(expected[0], expected[1])
    before = torch.random.get_rng_state()
    clean = [call(one, key, quiet) for key in keys]
    assert torch.equal(clean[0], clean[1])
    assert all(torch.equal(call(one, key), own) for key, own in zip(keys, expected, strict=True))
    assert torch.equal(call(one, keys[0], quiet), clean[0])
    vmap(lambda key: call(other, key, quiet))(keys)
    torch.testing.assert_close(vmap(lambda key: call(other, key))(keys), torch.stack(expected))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_rate_for_all_reaches_noise_whose_own_rate_is_zero_whatever_came_first() -> None:
    class Quiet(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.0, self.training)

    model, x = fr.from_module(lambda: nn.Sequential(nn.Identity(), Quiet())), inputs(3, 4)
    for train in (False, True):
        clean = model.apply({}, {}, x, key=KEY, rates=0.0, train=train)[0]
        noisy = model.apply({}, {}, x, key=KEY, rates=0.5, train=train)[0]
        torch.testing.assert_close(clean, x)
        assert not torch.equal(noisy, x)
        torch.testing.assert_close(model.apply({}, {}, x, key=KEY, rates={"1": 0.5}, train=train)[0], noisy)
        torch.testing.assert_close(model.apply({}, {}, x, key=KEY, train=train)[0], x)


def test_a_rate_that_would_do_nothing_is_refused() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)  # whose rate a fused attention would read, but which never runs

        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x)

    model, x = fr.from_module(Attends), inputs(1, 3, 4)
    clean = model.apply({}, {}, x)[0]
    with pytest.raises(fr.FuncregError, match=r"rates: got a rate for 'drop'"):
        model.apply({}, {}, x, key=KEY, rates={"drop": 0.5})
    torch.testing.assert_close(model.apply({}, {}, x, key=KEY, rates=0.5)[0], clean)
    linear = nn.Linear(4, 4)
    with pytest.raises(fr.FuncregError, match=r"rates: got 0\.5"):
        fr.from_module(linear).apply(*fr.variables(linear), x, key=KEY, rates=0.5)


def test_a_switch_of_training_that_does_more_than_draw_is_refused_for_monte_carlo() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Any:
            if self.training:
                return self.linear(F.dropout(x, 0.5)), x
            return self.linear(x)

    net = nn.Sequential(Net())
    model, (params, state) = fr.from_module(net), fr.variables(net)
    with pytest.raises(fr.FuncregError, match=r"0 \(Net\), which draws only in training mode, .*returns something"):
        model.apply(params, state, inputs(3, 4), key=KEY)
    logits, _ = model.apply(params, state, inputs(3, 4), key=KEY, train=True)[0]
    assert logits.shape == (3, 2)


def test_a_generator_that_a_layer_keeps_is_the_keys() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator = torch.Generator().manual_seed(0)

        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand(x.shape, generator=self.generator)

    net, x = Net(), inputs(2, 3)
    model = fr.from_module(net)
    before = net.generator.get_state()
    first, other, again = (model.apply({}, {}, x, key=fr.random.key(seed))[0] for seed in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with pytest.raises(fr.FuncregError, match="key: got None"):
        model.apply({}, {}, x)
    assert torch.equal(before, net.generator.get_state())


@pytest.mark.parametrize(("name", "value"), [("bias", torch.zeros(1)), ("weight", torch.zeros(3, 4)), ("bias", 0.0)])
def test_values_of_another_shape_are_refused_by_name(name: str, value: Any) -> None:
    linear = nn.Linear(3, 4)
    params, state = fr.variables(linear)
    with pytest.raises(fr.FuncregError, match=rf"params\['{name}'\]"):
        fr.from_module(linear).apply({**params, name: value}, state, inputs(2, 3))


def test_a_fully_masked_row_of_attention_is_zero_and_so_is_its_gradient() -> None:
    attention = nn.MultiheadAttention(4, 2, batch_first=True, dropout=0.3)
    model, (params, state) = fr.from_module(attention), fr.variables(attention)
    x, padding = inputs(2, 3, 4), torch.tensor([[True, True, True], [False, False, True]])

    def attend(params: Any, key: Tensor | None = None) -> Tensor:
        return model.apply(params, state, x, x, x, key_padding_mask=padding, key=key)[0][0]

    expected = attention.eval()(x, x, x, key_padding_mask=padding, need_weights=False)[0]
    torch.testing.assert_close(attend(params), expected)
    for key in (None, KEY):
        gradients = grad(lambda params, key=key: attend(params, key).square().sum())(params)
        assert all(bool(each.isfinite().all()) for each in gradients.values())
    assert bool(vmap(lambda key: attend(params, key))(fr.random.split(KEY, 2)).isfinite().all())


def test_a_rate_reaches_a_layer_that_is_called_in_training_alone() -> None:
    model = fr.from_module(lambda: nn.Sequential(CalledInTraining(0.0)))
    x = torch.ones(1000, 4)
    for call in (model.apply, fr.jit(model.apply)):
        y, _ = call({}, {}, x, key=KEY, rates={"0.drop": 0.75})
        assert y.unique().tolist() == [0.0, 4.0]
        assert abs(float((y == 0).float().mean()) - 0.75) < 0.03


def test_what_torch_has_compiled_runs_as_it_was() -> None:
    layer = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    module = nn.Sequential()
    module.append(cast(nn.Module, torch.compile(layer)))
    model, x = fr.from_module(module), inputs(5, 4)
    params, state = fr.variables(module)
    torch.testing.assert_close(model.apply(params, state, x)[0], layer.eval()(x), rtol=0, atol=0)
    keys = fr.random.split(KEY, 3)
    loop = torch.stack([model.apply(params, state, x, key=key)[0] for key in keys])
    torch.testing.assert_close(vmap(lambda key: model.apply(params, state, x, key=key)[0])(keys), loop)
    grads = grad(lambda params: model.apply(params, state, x, key=KEY)[0].sum())(params)
    assert all(each.isfinite().all() and each.any() for each in grads.values())


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_module_with_a_torchscript_part_is_not_switched() -> None:
    module = nn.Sequential(torch.jit.script(nn.Sequential(nn.ReLU(), nn.Dropout(0.5))), nn.Linear(4, 3)).eval()
    model, x = fr.from_module(module), inputs(5, 4)
    assert not any(layer.training for layer in module.modules())
    torch.testing.assert_close(model.apply(*fr.variables(module), x)[0], module(x), rtol=0, atol=0)


def test_an_argument_given_twice_is_refused() -> None:
    with pytest.raises(fr.FuncregError, match="kwargs: got 'input', which the call gives by its name too"):
        fr.from_module(nn.ReLU()).apply({}, {}, input=torch.ones(2), kwargs={"input": torch.zeros(2)})


def test_a_model_can_be_copied() -> None:
    model = fr.from_module(lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)))
    params, state = model.init(KEY)
    call = (params, state, inputs(5, 4))
    assert torch.equal(copy.deepcopy(model).apply(*call, key=KEY)[0], model.apply(*call, key=KEY)[0])


class Tuned(nn.Module):
    """A fixed backbone with a table of integers, and a head that is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(4, 6).requires_grad_(False), nn.Linear(6, 2)
        self.order = nn.Parameter(torch.arange(6).flip(0), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x).tanh()[:, self.order])


@pytest.mark.parametrize("jit", [False, True])
def test_a_parameter_that_asks_for_no_gradient_stays_as_it_is(jit: bool) -> None:
    module, x = Tuned().double(), inputs(5, 4).double()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    assert sorted(params) == ["head.bias", "head.weight"]
    optimizer = fr.optim.adamw(0.1, weight_decay=0.3)

    def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        output, state = model.apply(params, state, batch.x, key=key, train=True)
        return output.square().mean(), (state, {})

    step: Any = fr.train.make_step(loss_fn, optimizer)
    step = fr.jit(step) if jit else step
    train_state = fr.train.init(params, state, optimizer, key=KEY)
    theirs = torch.optim.AdamW(module.parameters(), 0.1, weight_decay=0.3)
    for _ in range(3):
        train_state, _ = step(train_state, fr.train.Batch(x, x))
        theirs.zero_grad()
        module(x).square().mean().backward()
        theirs.step()
    trained = {**train_state.params, **train_state.state}
    expected = {name: own.detach() for name, own in module.named_parameters()}
    torch.testing.assert_close(trained, expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(trained["backbone.weight"], state["backbone.weight"])
    deployed = fr.to_module(module, train_state.params, train_state.state)
    torch.testing.assert_close(deployed(x), module(x))


def test_a_parameter_is_trained_where_it_is_among_the_params() -> None:
    module, x = Tuned(), inputs(5, 4)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    weight = "backbone.weight"
    thawed, rest = {**params, weight: state[weight]}, {name: state[name] for name in state if name != weight}
    output, after = model.apply(thawed, rest, x, train=True)
    assert torch.equal(output, model.apply(params, state, x, train=True)[0])
    assert after.keys() == rest.keys()
    slope = grad(lambda own: model.apply(own, rest, x, train=True)[0].square().sum())(thawed)[weight]
    module.backbone.requires_grad_(True)
    expected = torch.autograd.grad(module(x).square().sum(), module.backbone.weight)
    torch.testing.assert_close(slope, expected[0])
    with pytest.raises(fr.FuncregError, match=r"state: got 'backbone\.weight\', which params has too; expected each"):
        model.apply(thawed, state, x)
    with pytest.raises(fr.FuncregError, match=r"params: .*missing 'backbone\.weight'"):
        model.apply(params, rest, x)


class Entangled(nn.Module):
    """What `copy.deepcopy` leaves as it is, or cannot copy: a closure, a lock, an operator, a weak reference."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.lock = nn.Linear(4, 4), threading.Lock()
        self.steps, self.same = [lambda x: self.linear(x)], weakref.ref(self.linear)
        self.operator = negative

    def forward(self, x: Tensor) -> Tensor:
        return self.operator(self.steps[0](x), 0.0) * self.same()(x)  # pyright: ignore[reportOptionalCall]


def test_a_module_is_deployed_with_its_own_values_everywhere() -> None:
    module, x = Entangled(), inputs(3, 4)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    params = {name: tensor + 1 for name, tensor in params.items()}
    deployed = fr.to_module(module, params, state)
    torch.testing.assert_close(deployed(x), model.apply(params, state, x)[0])
    assert not torch.allclose(deployed(x), module(x))


class Dropouts(nn.Module):
    """Layers of one shape and rate, one of another shape, one of another rate, and one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Dropout(0.5), nn.Dropout(0.5, inplace=True), nn.Dropout(0.5)
        self.wide, self.rare = nn.Dropout(0.5), nn.Dropout(0.1)

    def forward(self, x: Tensor, skip: bool = False) -> tuple[Tensor, ...]:
        again = x if skip else self.third(x)
        return self.first(x), self.second(x + 1), again, self.third(x), self.wide(x.repeat(1, 2)), self.rare(x)


@pytest.mark.parametrize("rows", [3, 2])
def test_layers_that_draw_together_draw_what_each_draws_alone(rows: int) -> None:
    model, x = fr.from_module(Dropouts), inputs(rows, 4)

    def draw(key: Tensor, *, x: Tensor = x, skip: bool = False) -> tuple[Tensor, ...]:
        return model.apply({}, {}, x, skip, key=key)[0]

    for key in fr.random.split(KEY, 3):
        alone, *together = (draw(key) for _ in range(3))
        batched = tuple(part[0] for part in vmap(draw)(key[None]))
        draw(key, x=torch.ones(7, 4))
        for each in (*together, batched, draw(key)):
            assert all(map(torch.equal, each, alone))
        assert all(map(torch.equal, draw(key, skip=True)[:2], alone))
        own = fr.random.split(key, 5)  # a key a layer, in the order of their names
        assert torch.equal(alone[1], fr.noise.dropout(x + 1, 0.5, key=own[1]))


class NormAndRelu(nn.BatchNorm1d):
    """Batch norm by inheritance, as timm's."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


class Normed(nn.Module):
    """Batch norms of every kind, one of them called twice, inside of a layer with draws of its own."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate
        self.first, self.average = nn.BatchNorm1d(4), nn.BatchNorm1d(4, momentum=None)
        self.alike, self.inner = NormAndRelu(4, momentum=0.3), Gated()

    def forward(self, x: Tensor) -> Tensor:
        x = self.alike(self.average(self.first(self.first(x))))
        return F.dropout(self.inner(x), self.rate, self.training)


def test_batch_statistics_of_eager_training_are_torchs_to_the_bit() -> None:
    layers = Normed()
    module = nn.Sequential(layers.first, layers.first, layers.average, layers.alike, nn.Linear(4, 2))
    model, (params, state) = fr.from_module(module), fr.variables(module)
    for step in range(3):
        x = inputs(3, 4) + step
        given, before = state, fr.tree.map(torch.clone, state)
        y, state = model.apply(params, state, x, train=True)
        with torch.no_grad():
            assert torch.equal(y, module(x))
        assert all(torch.equal(state[name], own) for name, own in module.named_buffers())
        assert all(torch.equal(given[name], own) for name, own in before.items())


def test_a_variance_that_overflows_is_nan_whoever_normalises() -> None:
    x = inputs(4, 4) * torch.tensor([1.0, 1e30, 1.0, 1.0])
    for layer in (nn.BatchNorm1d(4), NormAndRelu(4), nn.BatchNorm1d(4, momentum=0.0)):
        module = nn.Sequential(layer)
        params, state = fr.variables(module)
        y, after = fr.from_module(module).apply(params, state, x, train=True)
        assert y[:, 1].isnan().all()
        assert y[:, [0, 2, 3]].isfinite().all()
        assert not after["0.running_var"][1].isfinite()
        assert state["0.running_var"].equal(torch.ones(4))


def test_batch_norm_of_one_row_is_refused_whatever_came_first() -> None:
    for layer in (nn.BatchNorm1d(4), NormAndRelu(4)):
        model, variables = fr.from_module(nn.Sequential(layer)), fr.variables(nn.Sequential(layer))
        for rows in (3, 1, 3):
            if rows > 1:
                model.apply(*variables, inputs(rows, 4), train=True)
                continue
            with pytest.raises(fr.FuncregError, match="more than one value per channel"):
                model.apply(*variables, inputs(rows, 4), train=True)


def test_batch_norm_beside_statistics_of_another_precision_is_the_formulas() -> None:
    layer, x = nn.BatchNorm1d(4), inputs(3, 4).double()
    params, state = fr.variables(layer)
    expected, stats = fr.norm.batch_norm(x, fr.norm.init_batch_stats(4), train=True)
    for _ in range(2):
        y, after = fr.from_module(layer).apply(params, state, x, train=True)
        assert torch.equal(y, expected)
        assert torch.equal(after["running_var"], stats.var)


def test_layers_inside_of_one_that_draws_have_its_draws_and_theirs() -> None:
    module, x, keys = Normed(0.3), inputs(5, 4), fr.random.split(KEY, 3)
    model, (params, state) = fr.from_module(module), fr.variables(module)

    def step(key: Tensor) -> Any:
        return model.apply(params, state, x, key=key, train=True)

    eager = [step(key) for key in keys]
    batched = vmap(step)(keys)
    for i, (y, after) in enumerate(eager):
        torch.testing.assert_close(batched[0][i], y)
        torch.testing.assert_close(fr.tree.map(lambda each, i=i: each[i], batched[1]), after)
        assert 0 < (y == 0).sum() < y.numel()
    assert (eager[0][0] != eager[1][0]).any()


class OfACopy(nn.Module):
    """Runs a copy of a layer, changed for the purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.part = NormAndRelu(4)

    def forward(self, x: Tensor) -> Tensor:
        twin = copy.deepcopy(self.part)
        twin.eps = 3.0
        return self.part(x) + twin(x)


def test_a_copy_that_a_forward_makes_runs_as_itself() -> None:
    module, x = OfACopy(), inputs(3, 4)
    variables = fr.variables(module)
    with torch.no_grad():
        expected = module.train()(x)
    y, _ = fr.from_module(module).apply(*variables, x, train=True)
    torch.testing.assert_close(y, expected)


class ReadsStatistics(nn.BatchNorm1d):
    """Uses the running variance before batch norm moves it."""

    def forward(self, input: Tensor) -> Tensor:
        spread = self.get_buffer("running_var")
        return input * spread + super().forward(input)


class ReadsOthers(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        norm = cast("Any", self[1])
        x = self[0](input)
        return x * norm.running_var + norm(x)


@pytest.mark.parametrize("alone", [True, False])
def test_a_gradient_is_of_the_statistics_that_the_forward_has_read(alone: bool) -> None:
    linear, norm, x = nn.Linear(4, 4), nn.BatchNorm1d(4), 3 * inputs(5, 4)
    module = nn.Sequential(linear, ReadsStatistics(4)) if alone else ReadsOthers(linear, norm)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    weight = params["0.weight"].requires_grad_()
    for _ in range(2):
        before = state["1.running_var"].clone()
        y, after = model.apply(params, state, x, train=True)
        (ours,) = torch.autograd.grad((y**2).sum(), weight)
        middle = F.linear(x, weight, params["0.bias"])
        expected = middle * before + F.batch_norm(middle, None, None, training=True)
        (theirs,) = torch.autograd.grad((expected**2).sum(), weight)
        torch.testing.assert_close(ours, theirs)
        state = after


def test_residual_branches_that_are_dropped_together_are_dropped_as_each_alone() -> None:
    depth = pytest.importorskip("torchvision").ops.StochasticDepth
    module = nn.Sequential(depth(0.1, "row"), depth(0.4, "row"), depth(0.3, "batch"), depth(0.2, "row"))
    model, x, keys = fr.from_module(module), inputs(6, 3, 2), fr.random.split(KEY, 4)
    for key in keys:
        expected = x
        for layer, own in zip(module, fr.random.split(key, 4), strict=True):
            expected = fr.noise.drop_path(expected, cast("Any", layer).p, key=own, mode=cast("Any", layer).mode)
        for train in (True, False, True):
            assert torch.equal(model.apply({}, {}, x, key=key, train=train)[0], expected)


class OneHot(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        return self.linear(x + F.one_hot(classes, 3))


def test_one_hot_under_transforms_is_torchs_and_refuses_what_is_no_class() -> None:
    module = OneHot()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    x, classes = torch.zeros(2, 3), torch.tensor([2, 0])

    def gradients(classes: Tensor) -> Any:
        def loss(params: Any, x: Tensor, classes: Tensor) -> Tensor:
            return model.apply(params, state, x, classes)[0].square().sum()

        return vmap(grad(loss), (None, 0, 0))(params, x, classes)

    for row, label in enumerate(classes):
        module.zero_grad()
        module(x[row], label).square().sum().backward()
        assert module.linear.weight.grad is not None
        torch.testing.assert_close(gradients(classes)["linear.weight"][row], module.linear.weight.grad)
    for wrong in (3, -1):
        with pytest.raises(RuntimeError, match=f"index {wrong} is out of bounds"):
            gradients(torch.tensor([0, wrong]))


class Adapts(nn.Module):
    """A step of gradient descent in the forward, by autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        own: dict[str, Tensor] = dict(self.net.named_parameters())
        loss = torch.func.functional_call(self.net, own, (x,)).square().mean()
        slopes = torch.autograd.grad(loss, list(own.values()), create_graph=True)
        moved = {name: each - 0.1 * slope for (name, each), slope in zip(own.items(), slopes, strict=True)}
        return torch.func.functional_call(self.net, moved, (x,))


def test_autograd_inside_of_a_forward_needs_parameters_that_ask_for_gradients() -> None:
    module, x = nn.Sequential(Adapts()).double(), inputs(3, 4).double()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    with pytest.raises(fr.FuncregError, match=r"0 \(Adapts\), which takes gradients of what asks for none"):
        model.apply(params, state, x)
    params = {name: tensor.requires_grad_() for name, tensor in params.items()}
    output, expected = model.apply(params, state, x)[0], module(x)
    torch.testing.assert_close(output, expected)
    ours = torch.autograd.grad(output.sum(), list(params.values()))
    torch.testing.assert_close(ours, torch.autograd.grad(expected.sum(), list(module.parameters())))


def test_an_error_of_the_modules_own_tells_the_layer() -> None:
    module = nn.Sequential(OrderedDict(head=nn.Linear(4, 2)))
    model, (params, state) = fr.from_module(module), fr.variables(module)
    for wrong in (torch.zeros(3, 5), torch.zeros(3, 4, dtype=torch.float16)):
        with pytest.raises(RuntimeError, match="mat1 and mat2") as raised:
            model.apply(params, state, wrong)
        assert raised.value.__notes__ == ["It is head (Linear) that was running."]


def test_copies_of_tensors_that_have_gradients_are_refused_by_the_layer() -> None:
    class Copies(OfACopy):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Linear(4, 4)

    module, x = nn.Sequential(Copies()), inputs(3, 4)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    with pytest.raises(fr.FuncregError, match=r"0\.part \(Linear\), .*copies its tensors"):
        model.apply({name: tensor.clone().requires_grad_() for name, tensor in params.items()}, state, x)
    with pytest.raises(fr.FuncregError, match=r"0\.part \(Linear\), .*copies its tensors"):
        vmap(lambda params: model.apply(params, state, x)[0])(fr.tree.stack([params] * 2))


def test_batch_norm_of_members_in_another_precision_is_that_of_each() -> None:
    module, x = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4)), inputs(5, 4)
    model, (params, state), keys = fr.from_module(module), fr.variables(module), fr.random.split(KEY, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loop = torch.stack([model.apply(params, state, x, key=key)[0] for key in keys])
        batched = vmap(lambda key: model.apply(params, state, x, key=key)[0])(keys)
    torch.testing.assert_close(batched.float(), loop.float(), rtol=2e-2, atol=2e-2)


def test_code_that_layers_of_torchs_were_given_is_watched_too() -> None:
    longest = nn.Linear(4, 4, bias=False)

    def forward(input: Tensor) -> Tensor:
        vars(longest)["longest"] = max(vars(longest).get("longest", 0), len(input))
        return F.linear(input, longest.weight) + vars(longest)["longest"]

    def noisy_if_long(x: Tensor) -> Tensor:
        return x + torch.rand_like(x) if len(x) > 3 else x

    longest.forward = forward
    model, variables = fr.from_module(nn.Sequential(longest)), fr.variables(nn.Sequential(longest))
    for size in (8, 5):
        expected = torch.ones(size, 4) @ longest.weight.T + size
        torch.testing.assert_close(model.apply(*variables, torch.ones(size, 4))[0], expected)

    module, before = nn.TransformerEncoderLayer(4, 1, 4, 0.0, noisy_if_long).eval(), torch.random.get_rng_state()
    model, variables = fr.from_module(module), fr.variables(module)
    model.apply(*variables, torch.ones(3, 2, 4))
    with pytest.raises(fr.FuncregError, match=r"key.*draws \(torch's rand_like\)"):
        model.apply(*variables, torch.ones(5, 2, 4))
    assert torch.equal(torch.random.get_rng_state(), before)


class Cached(nn.Module):
    """Attends to all that it was given so far, as decoders do: a cache is filled, in place if asked."""

    def __init__(self, in_place: bool = False) -> None:
        super().__init__()
        self.layer, self.in_place = nn.Linear(2, 2), in_place

    def forward(self, x: Tensor, cache: Any) -> tuple[Tensor, Any]:
        seen: Any = cache if isinstance(cache, dict) else vars(cache)
        y = self.layer(x) + sum(seen["all"]) + seen["total"]
        seen["all"].append(y)
        if self.in_place:
            seen["total"].add_(y)
        else:
            seen["total"] = seen["total"] + y
        return y, cache


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("make", [dict, SimpleNamespace])
def test_what_a_forward_fills_is_a_copy_that_it_returns(make: Any, in_place: bool, key: Tensor) -> None:
    module = Cached(in_place).double()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    x = fr.random.normal(key, (3, 2), dtype=torch.float64)
    start, theirs = make(all=[], total=torch.zeros(3, 2).double()), make(all=[], total=torch.zeros(3, 2).double())
    ours = start
    for _ in range(3):
        given = copy.deepcopy(ours)
        (y, after), _ = model.apply(params, state, x, ours)
        assert str(ours) == str(given)  # the values of tensors too
        again, _ = model.apply(params, state, x, ours)
        torch.testing.assert_close(again[0], y, rtol=0, atol=0)
        expected, theirs = module(x, theirs)
        torch.testing.assert_close(y, expected)
        ours = after
    assert not (start if make is dict else vars(start))["all"]


def test_what_a_forward_fills_under_transforms_and_in_training(key: Tensor) -> None:
    module = Cached().double()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    x = fr.random.normal(key, (4, 2), dtype=torch.float64)

    def twice(params: dict[str, Tensor], x: Tensor) -> Tensor:
        cache = SimpleNamespace(all=[], total=torch.zeros_like(x))
        (_, cache), _ = model.apply(params, state, x, cache)
        (y, _), _ = model.apply(params, state, x, cache)
        return y

    y = module.layer(x)
    torch.testing.assert_close(vmap(twice, (None, 0))(params, x), 3 * y)
    (expected,) = torch.autograd.grad(3 * y.sum(), module.layer.weight)
    found = grad(lambda params: twice(params, x).sum())(params)
    torch.testing.assert_close(found["layer.weight"], expected)
    params["layer.weight"].requires_grad_()
    (plain,) = torch.autograd.grad(twice(params, x).sum(), params["layer.weight"])
    torch.testing.assert_close(plain, expected)


def test_what_a_forward_fills_may_hold_what_cannot_be_copied() -> None:
    model, (params, state) = fr.from_module(Cached()), fr.variables(Cached())
    cache = SimpleNamespace(all=[], total=torch.zeros(2), lock=threading.Lock())
    (_, after), _ = model.apply(params, state, torch.ones(1, 2), cache)
    assert after.lock is cache.lock
    assert not cache.all


@pytest.mark.usefixtures("captured")
def test_what_a_forward_fills_in_a_compiled_program_is_a_copy_or_refused() -> None:
    module = Cached()
    model, (params, state) = fr.from_module(module), fr.variables(module)

    def twice(x: Tensor, make: Callable[..., Any]) -> tuple[Tensor, int]:
        cache = make(all=[], total=torch.zeros(2))
        model.apply(params, state, x, cache)
        (y, _), _ = model.apply(params, state, x, cache)
        return y, len(cache["all"] if isinstance(cache, dict) else cache.all)

    x = torch.ones(1, 2)
    y, length = fr.jit(lambda x: twice(x, dict))(x)
    assert not length
    torch.testing.assert_close(y, module.layer(x))
    with pytest.raises(fr.FuncregError):
        fr.jit(lambda x: twice(x, SimpleNamespace))(x)


class Refuses:
    """Beside a container of Python's: as e3nn's Irreps, whose number would be read for their dimension."""

    def __len__(self) -> int:
        raise NotImplementedError("ambiguous")


class Kinds(Refuses, tuple):  # type: ignore[misc]
    pass


class Rows(Refuses, list):  # type: ignore[misc]
    pass


class Table(Refuses, dict):  # type: ignore[misc]
    def values(self) -> Any:
        raise NotImplementedError("ambiguous")


class Uncountable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop, self.total = nn.Linear(4, 4), nn.Dropout(0.5), 0.0
        self.kinds, self.rows, self.table = Kinds([torch.ones(4)]), Rows([torch.ones(4)]), Table(scale=torch.ones(4))

    def forward(self, x: Tensor, given: Any) -> Tensor:
        self.rows.append(x.detach())
        self.table["last"] = x.detach()
        scale = next(iter(self.kinds)) * self.rows[0] * self.table["scale"] * given["scale"]
        return self.drop(self.linear(x) * scale)


def test_containers_that_refuse_to_be_counted_are_looked_into_all_the_same() -> None:
    module, x, given = Uncountable().eval(), torch.randn(3, 4), Table(scale=torch.tensor(2.0))
    model, (params, state) = fr.from_module(module), fr.variables(module)
    output, _ = model.apply(params, state, x, given)
    drawn = [model.apply(params, state, x, given, key=KEY)[0] for _ in range(2)]
    keys = fr.random.split(KEY, 3)
    sampled = vmap(lambda key: model.apply(params, state, x, given, key=key)[0])(keys)
    one_by_one = torch.stack([model.apply(params, state, x, given, key=key)[0] for key in keys])
    assert list(module.rows.__iter__()) == module.rows[:1], "what was made of it was written into, not it"
    assert list(dict.keys(module.table)) == ["scale"]
    torch.testing.assert_close(output, module(x, given))
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], output)
    torch.testing.assert_close(sampled, one_by_one)
