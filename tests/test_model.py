"""`from_module`: what a call leaves alone, noise, transforms, values in and out, and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.func import grad, hessian, jvp, vmap
from torch.nn import functional as F

import funcreg as fr
from tests.networks import EVERY, NATIVE_RNN, NOISY, Counting, made


@pytest.mark.parametrize("name", EVERY)
def test_a_call_changes_nothing_that_it_is_given(name: str) -> None:
    module, model, params, state, x = made(name)
    given = {**{f"module.{n}": t for n, t in module.state_dict().items()}, **params, **state, "x": x}
    before = fr.tree.clone(given)
    _, evaluated = model.apply(params, state, x)
    _, trained = model.apply(params, state, x, key=fr.random.key(0), train=True)
    assert [n for n in given if not torch.equal(given[n], before[n])] == []
    assert all(torch.equal(evaluated[n], state[n]) for n in state)
    moved = {n for n in state if not torch.equal(trained[n], state[n])}
    assert bool(moved) is any("running" in n or "._u" in n for n in state)


@pytest.mark.parametrize("name", NOISY)
def test_vmap_over_keys_equals_a_loop(name: str) -> None:
    _, model, params, state, x = made(name)
    keys = fr.random.split(fr.random.key(2), 3)
    # efficientnet's stochastic depth leaves two images alone too often at its own rates
    rates = 0.5 if name == "efficientnet_b0" else None

    def draw(key: Tensor) -> Tensor:
        return model.apply(params, state, x, key=key, rates=rates)[0]

    batched, looped = vmap(draw)(keys), torch.stack([draw(key) for key in keys])
    torch.testing.assert_close(batched, looped, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(vmap(draw, chunk_size=2)(keys), looped, rtol=1e-9, atol=1e-9)
    assert not torch.equal(looped[0], looped[1]), "two keys give two answers"
    assert torch.equal(draw(keys[0]), draw(keys[0])), "one key gives one answer"


@pytest.mark.parametrize("name", NATIVE_RNN)
def test_unrolled_recurrence_is_the_native_one_and_takes_vmap(name: str) -> None:
    module, native, params, state, x = made(name)
    unrolled = fr.from_module(module, rnn="unrolled")
    keys = fr.random.split(fr.random.key(2), 3)
    looped = torch.stack([native.apply(params, state, x, key=key)[0] for key in keys])
    torch.testing.assert_close(vmap(lambda key: unrolled.apply(params, state, x, key=key)[0])(keys), looped)
    assert not torch.equal(looped[0], looped[1])
    with pytest.raises(fr.FuncregError, match="unrolled"):
        vmap(lambda key: native.apply(params, state, x, key=key)[0])(keys)


def test_packed_sequences_have_noise_between_layers() -> None:
    module = nn.LSTM(5, 6, num_layers=2, dropout=0.4).double()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    x = fr.random.normal(fr.random.key(0), (3, 7, 5), dtype=torch.float64)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([2, 7, 4]), batch_first=True, enforce_sorted=False)
    noisy, other = (model.apply(params, state, packed, key=fr.random.key(seed))[0][0] for seed in (1, 2))
    assert noisy.data.shape == other.data.shape == (13, 6)
    assert not torch.equal(noisy.data, other.data)


def test_higher_derivatives_and_forward_mode() -> None:
    _, model, params, state, x = made("transformer-layer")
    key = fr.random.key(0)

    def loss(x: Tensor) -> Tensor:
        return model.apply(params, state, x, key=key)[0].square().mean()

    tangent = torch.ones_like(x)
    forward = jvp(loss, (x,), (tangent,))[1]
    torch.testing.assert_close(forward, (grad(loss)(x) * tangent).sum())
    hvp = jvp(grad(loss), (x,), (tangent,))[1]
    full = hessian(loss)(x).reshape(x.numel(), x.numel()) @ tangent.flatten()
    torch.testing.assert_close(hvp.flatten(), full)


def test_batch_norm_with_monte_carlo_dropout_uses_running_statistics_and_leaves_them() -> None:
    _, model, params, state, x = made("mlp")
    _, state = model.apply(params, state, x, key=fr.random.key(0), train=True)
    key = fr.random.key(1)
    together, after = model.apply(params, state, x, key=key, rates=0.0)
    alone = torch.cat([model.apply(params, state, row[None], key=key, rates=0.0)[0] for row in x])
    torch.testing.assert_close(together, alone, msg="an answer does not depend on the batch it is in")
    assert all(torch.equal(after[name], state[name]) for name in state)
    assert not torch.equal(model.apply(params, state, x, key=key)[0], together)


def test_a_layer_called_twice_draws_twice_and_a_module_used_twice_is_swapped_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)
            self.alias = self.drop

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.drop(x), self.alias(x)

    model = fr.from_module(Twice)
    first, second = model.apply({}, {}, torch.ones(1000), key=fr.random.key(0))[0]
    agreement = float(((first > 0) == (second > 0)).float().mean())
    assert list(model.apply.rates) == ["drop"]
    assert 0.4 < agreement < 0.6, "independent masks agree half of the time"


def test_noise_called_as_a_function_draws_anew_at_each_call_and_takes_a_rate() -> None:
    _, model, params, state, x = made("functional")
    key = fr.random.key(0)
    clean = model.apply(params, state, x)[0]
    torch.testing.assert_close(model.apply(params, state, x, key=key, rates=0.0)[0], clean)
    assert not torch.equal(model.apply(params, state, x, key=key)[0], clean)
    with pytest.raises(fr.FuncregError, match="key"):
        model.apply(params, state, x, train=True)


def test_rates_by_name_are_batched_under_vmap_and_leave_the_others() -> None:
    module = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 6), nn.Dropout(0.0)).double()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    x, key = torch.ones(4, 6, dtype=torch.float64), fr.random.key(0)
    rates = torch.tensor([0.0, 0.3, 1.0])
    batched = vmap(lambda rate: model.apply(params, state, x, key=key, rates={"0": rate})[0])(rates)
    torch.testing.assert_close(batched[0], model.apply(params, state, x)[0])
    torch.testing.assert_close(batched[2], params["1.bias"].expand(4, 6))
    torch.testing.assert_close(batched[1], model.apply(params, state, x, key=key, rates={"0": 0.3})[0])
    own = model.apply(params, state, x, key=key, rates={"0": 0.5})[0]
    torch.testing.assert_close(own, model.apply(params, state, x, key=key)[0], msg="the layers' own rates")


def test_another_method() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

        def features(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
            return scale * self.body(x)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.features(x))

    model = fr.from_module(Net)
    params, state = model.init(fr.random.key(0))
    x = torch.ones(1, 3)
    features = model.apply(params, state, x, method="features", scale=2.0)[0]
    torch.testing.assert_close(features, 2 * F.linear(x, params["body.weight"], params["body.bias"]))
    for unknown in ("heads", "__init__", "train", ["features"]):
        with pytest.raises(fr.FuncregError, match=r"method: got .*the name of a method of Net"):
            model.apply(params, state, x, method=unknown)  # pyright: ignore[reportArgumentType]


def test_another_method_is_compiled_without_an_eager_call_before() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

        def features(self, x: Tensor) -> Tensor:
            return self.body(x)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.features(x))

    model, x = fr.from_module(Net), torch.ones(1, 3)
    params, state = model.init(fr.random.key(0))
    features = fr.jit(lambda params, x: model.apply(params, state, x, method="features")[0])(params, x)
    torch.testing.assert_close(features, F.linear(x, params["body.weight"], params["body.bias"]))


def test_init_is_the_factorys_own_from_the_key_and_leaves_the_global_generator() -> None:
    model = fr.from_module(torchvision.models.resnet18)
    before = torch.random.get_rng_state()
    params, state = model.init(fr.random.key(3))
    again, _ = model.init(fr.random.key(3))
    other, _ = model.init(fr.random.key(4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(params[name], again[name]) for name in params)
    assert not torch.equal(params["conv1.weight"], other["conv1.weight"])
    assert int(state["bn1.num_batches_tracked"]) == 0
    with pytest.raises(fr.FuncregError, match=r"fr\.variables"):
        fr.from_module(nn.Linear(2, 2)).init(fr.random.key(0))


def test_members_are_the_single_inits_stacked() -> None:
    model = fr.from_module(lambda: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    params, state = fr.model_members(model, fr.random.key(0), 3)
    single, _ = model.init(fr.random.split(fr.random.key(0), 3)[1])
    assert torch.equal(params["0.weight"][1], single["0.weight"])
    assert state["1.running_mean"].shape == (3, 2)


@pytest.mark.parametrize("name", ["tied", "spectral", "mlp", "transformer"])
def test_values_go_back_into_an_ordinary_module(name: str) -> None:
    module, model, params, state, x = made(name)
    changed = fr.tree.map(lambda leaf: leaf * 1.5 if leaf.is_floating_point() else leaf, params)
    filled = fr.to_module(module, changed, state)
    with torch.no_grad():
        torch.testing.assert_close(filled(x), model.apply(changed, state, x)[0])
    assert not any(layer.training for layer in filled.modules())
    assert all(torch.equal(p, params[n]) for n, p in module.named_parameters()), "the module itself is untouched"


def test_the_skeleton_holds_no_data() -> None:
    module = nn.Linear(512, 512)
    model = fr.from_module(module)
    for skeleton in model.apply.eager.skeletons.values():
        assert all(tensor.is_meta for tensor in (*skeleton.module.parameters(), *skeleton.module.buffers()))


def test_assigned_buffers_come_back_and_the_callers_stay() -> None:
    model = fr.from_module(lambda: nn.Sequential(Counting()))
    _, state = model.init(fr.random.key(0))
    _, after = model.apply({}, state, torch.ones(2))
    assert (float(state["0.calls"]), float(after["0.calls"])) == (0.0, 1.0)


def test_a_draw_needs_a_key_in_evaluation_too_and_comes_from_it() -> None:
    model = fr.from_module(lambda: nn.Sequential(nn.Linear(2, 2), Counting(draws=True)))
    params, state = model.init(fr.random.key(0))
    modes: list[dict[str, Any]] = [{}, {"train": True}]
    for how in modes:
        with pytest.raises(fr.FuncregError, match=r"key: got None; .*1 \(Counting\) draws \(torch's rand_like\)"):
            model.apply(params, state, torch.ones(1, 2), **how)
    first, second, again = (
        model.apply(params, state, torch.ones(1, 2), key=fr.random.key(seed))[0] for seed in (0, 1, 0)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert fr.check(model, torch.ones(1, 2)) == ()


class Doubling(nn.LayerNorm):
    """Doubles its scale whenever it is called."""

    def forward(self, input: Tensor) -> Tensor:
        self.weight.detach().mul_(2)
        return super().forward(input)


def test_impure_layers_are_refused_by_name_and_harm_nothing() -> None:
    did = "writes into 1.weight in place"
    model = fr.from_module(lambda: nn.Sequential(nn.Linear(2, 2), Doubling(2)))
    params, state = model.init(fr.random.key(0))
    generator = torch.random.get_rng_state()
    with pytest.raises(fr.FuncregError, match=did):
        model.apply(params, state, torch.ones(1, 2))
    with pytest.raises(fr.FuncregError, match=did):
        vmap(lambda x: model.apply(params, state, x)[0])(torch.ones(3, 1, 2))
    with pytest.raises(fr.FuncregError, match=did):
        grad(lambda params: model.apply(params, state, torch.ones(1, 2))[0].sum())(params)
    assert torch.equal(params["1.weight"], torch.ones(2))
    assert torch.equal(generator, torch.random.get_rng_state())
    (found,) = fr.check(model, torch.ones(1, 2))
    assert found.layer == "1 (Doubling)"
    assert found.did == did
    assert torch.equal(generator, torch.random.get_rng_state())


@pytest.mark.parametrize("name", EVERY)
def test_nothing_that_is_swapped_is_impure(name: str) -> None:
    _, model, params, state, x = made(name)
    assert fr.check(model, x, params=params, state=state) == ()


def test_a_registered_layer_is_pure() -> None:
    class Jitter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.std = 0.5

        def forward(self, x: Tensor) -> Tensor:
            return x + self.std * torch.randn_like(x) if self.training else x

    def jitter(layer: Any, draw: Any, x: Tensor) -> Tensor:
        return x if draw is None else fr.noise.gaussian_noise(x, draw.rate, key=draw.key)

    x = torch.zeros(1000)
    with pytest.raises(fr.FuncregError, match="rates by layer, since the module"):
        fr.from_module(Jitter).apply({}, {}, x, key=fr.random.key(0), rates=2.0)
    fr.register_layer(Jitter, jitter, rate="std")
    model = fr.from_module(Jitter)
    assert abs(float(model.apply({}, {}, x, key=fr.random.key(0))[0].std()) - 0.5) < 0.05
    assert abs(float(model.apply({}, {}, x, key=fr.random.key(0), rates=2.0)[0].std()) - 2.0) < 0.2


def refused_modules() -> dict[str, tuple[Callable[[], nn.Module], str]]:
    class Hides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = [nn.Parameter(torch.ones(2))]

    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))
            self.twice = 2 * self.weight

    def old_hook() -> nn.Module:
        with pytest.warns(FutureWarning):
            return nn.Sequential(nn.utils.weight_norm(nn.Linear(2, 2)))

    return {
        "old spectral norm": (lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(2, 2))), "0 .*parametrizations"),
        "old weight norm": (old_hook, "0 .*parametrizations"),
        "lazy": (lambda: nn.Sequential(nn.LazyLinear(2)), "Run a batch first"),
        "a list of parameters": (Hides, "weights.*ParameterList"),
        "a computed tensor": (Keeps, "twice"),
        "not a module": (lambda: 3, "nn.Module"),  # type: ignore[arg-type,return-value]
    }


@pytest.mark.parametrize("case", refused_modules())
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_modules_that_cannot_be_run_without_their_data_are_refused(case: str) -> None:
    factory, message = refused_modules()[case]
    with pytest.raises(fr.FuncregError, match=message):
        fr.from_module(factory)


@pytest.mark.parametrize("layer", [nn.RReLU(), nn.FeatureAlphaDropout()])
def test_noise_of_every_layer_of_torch_is_keyed(layer: nn.Module) -> None:
    model, (params, state) = fr.from_module(nn.Sequential(layer)), fr.variables(nn.Sequential(layer))
    x = fr.random.normal(fr.random.key(0), (2, 3, 20))
    torch.testing.assert_close(model.apply(params, state, x)[0], layer.eval()(x))
    with pytest.raises(fr.FuncregError, match="key: got None"):
        model.apply(params, state, x, train=True)
    for train in (False, True):
        first, second = (model.apply(params, state, x, key=fr.random.key(seed), train=train)[0] for seed in (0, 1))
        assert not torch.equal(first, second)


def test_batch_norm_of_several_processes_is_that_of_one_where_there_is_one() -> None:
    layer = nn.SyncBatchNorm(3).double()
    model, (params, state) = fr.from_module(nn.Sequential(layer)), fr.variables(nn.Sequential(layer))
    x = fr.random.normal(fr.random.key(0), (4, 3, 5), dtype=torch.float64)
    output, after = model.apply(params, state, x, train=True)
    twin = nn.BatchNorm1d(3).double()
    torch.testing.assert_close(output, twin(x))
    torch.testing.assert_close(
        [after[f"0.{name}"] for name in ("running_mean", "running_var", "num_batches_tracked")],
        [twin.running_mean, twin.running_var, twin.num_batches_tracked],
    )


def test_names_that_do_not_fit_are_refused_by_name() -> None:
    _, model, params, state, x = made("mlp")
    short = {name: value for name, value in params.items() if name != "3.bias"}
    with pytest.raises(fr.FuncregError, match=r"params: .*missing '3\.bias'"):
        model.apply(short, state, x)
    with pytest.raises(fr.FuncregError, match=r"params: .*unknown 'extra'"):
        model.apply({**params, "extra": x}, state, x)
    with pytest.raises(fr.FuncregError, match=r"state: .*missing .*'1\.running_mean'"):
        model.apply(params, {}, x)
    with pytest.raises(fr.FuncregError, match=r"rates: .*'2'"):
        model.apply(params, state, x, key=fr.random.key(0), rates={"9": 0.1})
    with pytest.raises(fr.FuncregError, match=r"rates: .*key"):
        model.apply(params, state, x, rates=0.1)


@pytest.mark.parametrize("name", ["mlp", "functional", "transformer-layer", "spectral", "tied"])
def test_compiled_whole_it_is_the_same(name: str) -> None:
    _, model, params, state, x = made(name)
    keys = fr.random.split(fr.random.key(0), 2)

    def step(params: dict[str, Tensor], state: dict[str, Tensor], x: Tensor, key: Tensor) -> tuple[Any, Any]:
        with fr.random.compiled_draws_are("native"):  # quicker to compile
            output, state = model.apply(params, state, x, key=key, train=True)
        return output, state

    def loss(params: dict[str, Tensor], key: Tensor) -> Tensor:
        return step(params, state, x, key)[0].square().mean()

    def both(params: dict[str, Tensor], keys: Tensor) -> tuple[Any, Any]:
        return vmap(grad(loss), (None, 0))(params, keys), step(params, state, x, keys[0])

    compiled, eager = fr.jit(both)(params, keys), both(params, keys)
    torch.testing.assert_close(compiled, eager, rtol=1e-8, atol=1e-9)


def test_reduced_precision_keeps_float32_statistics() -> None:
    module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    model, (params, state) = fr.from_module(module), fr.variables(module)
    x = fr.random.normal(fr.random.key(0), (16, 6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, after = model.apply(params, state, x, key=fr.random.key(1), train=True)
    exact, exact_after = model.apply(params, state, x, key=fr.random.key(1), train=True)
    assert output.dtype == torch.bfloat16
    assert after["1.running_var"].dtype == torch.float32
    torch.testing.assert_close(after, exact_after, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(output.float(), exact, rtol=5e-2, atol=5e-2)


def test_inference_mode() -> None:
    _, model, params, state, x = made("mlp")
    with torch.inference_mode():
        inside = model.apply(params, state, x, key=fr.random.key(0))[0]
    assert torch.equal(inside, model.apply(params, state, x, key=fr.random.key(0))[0])


def test_a_compiled_model_of_many_noise_layers_draws_natively_with_the_same_bits() -> None:
    layers = [nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.3)) for _ in range(6)]
    module = nn.Sequential(*layers).double()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    x, key = torch.ones(3, 6, dtype=torch.float64), fr.random.key(0)
    compiled = fr.jit(lambda params, key: model.apply(params, state, x, key=key)[0])
    torch.testing.assert_close(compiled(params, key), model.apply(params, state, x, key=key)[0])
