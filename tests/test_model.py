"""`from_module` against the module itself: evaluation, training, noise, transforms, and what is refused."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.func import grad, hessian, jvp, vmap
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

import funcreg as fr


class Tied(nn.Module):
    """An autoencoder whose decoder is its encoder's transpose, beside a plainly shared layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(6, 4)
        self.again = self.encode
        self.shared = nn.Linear(6, 4, bias=False)
        self.shared.weight = self.encode.weight
        self.drop = nn.Dropout(0.4)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.again(x)) @ self.shared.weight


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.RNNBase], **settings: Any) -> None:
        super().__init__()
        self.rnn = kind(5, 6, num_layers=3, dropout=0.3, **settings)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


class CallsDropout(nn.Module):
    """Noise as functions, the same rate twice, and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.linear(x), 0.5, self.training)
        x = F.dropout(x, 0.5, training=self.training)
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.3 if self.training else 0.0)


def transformer() -> nn.Module:
    return nn.TransformerEncoderLayer(16, 4, 32, dropout=0.2, batch_first=True)


def spectral_mlp() -> nn.Module:
    return nn.Sequential(
        spectral_norm(nn.Linear(6, 8), n_power_iterations=2), nn.ReLU(), spectral_norm(nn.Linear(8, 3))
    )


SMALL: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)), (5, 6)),
    "no-affine": (lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, affine=False)), (5, 6)),
    "untracked": (lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False)), (5, 6)),
    "cumulative": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.Dropout2d(0.3)),
        (2, 3, 6, 6),
    ),
    "batch-norm-3d": (lambda: nn.Sequential(nn.BatchNorm3d(2), nn.Dropout3d(0.4)), (3, 2, 3, 3, 3)),
    "dropout-1d": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.Dropout1d(0.4)), (3, 2, 7)),
    "dropout-1d-unbatched": (lambda: nn.Dropout1d(0.4), (4, 7)),
    "alpha": (lambda: nn.Sequential(nn.Linear(6, 8), nn.SELU(), nn.AlphaDropout(0.2)), (5, 6)),
    "instance-norm": (lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True), (4, 3, 5, 5)),
    "instance-norm-unbatched": (lambda: nn.InstanceNorm1d(3, track_running_stats=True), (3, 8)),
    "lstm": (lambda: Recurrent(nn.LSTM), (7, 2, 5)),
    "gru": (lambda: Recurrent(nn.GRU, batch_first=True, bidirectional=True), (2, 7, 5)),
    "rnn-unbatched": (lambda: Recurrent(nn.RNN, nonlinearity="relu", bias=False), (7, 5)),
    "lstm-projected": (lambda: Recurrent(nn.LSTM, proj_size=4, bidirectional=True), (7, 2, 5)),
    "transformer-layer": (transformer, (3, 7, 16)),
    "transformer": (lambda: nn.TransformerEncoder(transformer(), 2), (3, 7, 16)),  # type: ignore[arg-type]
    "spectral": (spectral_mlp, (5, 6)),
    "tied": (Tied, (5, 6)),
    "functional": (CallsDropout, (2, 4, 6)),
}
LARGE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet18": (torchvision.models.resnet18, (2, 3, 32, 32)),
    "efficientnet_b0": (torchvision.models.efficientnet_b0, (2, 3, 32, 32)),
    "densenet121": (lambda: torchvision.models.densenet121(drop_rate=0.1), (2, 3, 32, 32)),
    "vit": (
        lambda: torchvision.models.VisionTransformer(32, 8, 3, 4, 48, 96, dropout=0.1, attention_dropout=0.1),
        (2, 3, 32, 32),
    ),
}
EVERY = SMALL | LARGE
SILENT = ("no-affine", "untracked", "instance-norm", "instance-norm-unbatched", "spectral", "resnet18")
NATIVE_RNN = ("lstm", "gru", "rnn-unbatched", "lstm-projected")  # no vmap rule: refused, or unrolled
NOISY = [name for name in EVERY if name not in (*SILENT, *NATIVE_RNN)]


def made(name: str) -> tuple[nn.Module, fr.Model, dict[str, Tensor], dict[str, Tensor], Tensor]:
    """A module in float64 with values that are not its layers' trivial starts, its model and an input."""
    factory, shape = EVERY[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = factory().double()
    for parameter in module.parameters():
        noise = fr.random.normal(fr.random.key(parameter.numel()), tuple(parameter.shape), dtype=torch.float64)
        parameter.data = parameter.data + (0.1 if parameter.ndim == 1 else 0.01) * noise
    params, state = fr.variables(module)
    return module, fr.from_module(module), params, state, fr.random.normal(fr.random.key(9), shape, dtype=torch.float64)


def silenced(module: nn.Module) -> nn.Module:
    """A copy in training mode whose every noise rate is 0."""
    silent = copy.deepcopy(module).train()
    for layer in silent.modules():
        for attribute in ("p", "dropout", "drop_rate"):
            if isinstance(getattr(layer, attribute, None), float):
                setattr(layer, attribute, 0.0)
    return silent


def quiet(model: fr.Model) -> dict[str, Any]:
    """The arguments of a training step without noise."""
    noisy = model.apply.rates or model.apply.functional
    return {"key": fr.random.key(1), "rates": 0.0} if noisy else {}


@pytest.mark.parametrize("name", EVERY)
def test_evaluation_is_the_modules_own(name: str) -> None:
    module, model, params, state, x = made(name)
    before = {n: t.clone() for n, t in (*params.items(), *state.items(), *module.state_dict().items())}
    output, after = model.apply(params, state, x)
    with torch.no_grad():
        torch.testing.assert_close(output, module.eval()(x), rtol=1e-9, atol=1e-9)
    assert all(torch.equal(after[n], state[n]) for n in state)
    for n, t in (*params.items(), *state.items(), *module.state_dict().items()):
        assert torch.equal(t, before[n]), n


@pytest.mark.parametrize("name", [name for name in EVERY if name != "functional"])
def test_training_without_noise_is_the_modules_own(name: str) -> None:
    module, model, params, state, x = made(name)
    silent = silenced(module)
    expected = silent(x)
    output, after = model.apply(params, state, x, train=True, **quiet(model))
    torch.testing.assert_close(output, expected, rtol=1e-7, atol=1e-7)
    for n, buffer in silent.named_buffers():
        torch.testing.assert_close(after[n], buffer, rtol=1e-7, atol=1e-9, msg=n)
        assert torch.equal(state[n], dict(module.named_buffers())[n]), "the caller's buffers are untouched"
    moved = [n for n in state if not torch.equal(state[n], after[n])]
    assert bool(moved) is bool([n for n in state if "running" in n or "._u" in n])


@pytest.mark.parametrize("name", EVERY)
def test_gradients_are_the_modules_own(name: str) -> None:
    module, model, params, state, x = made(name)
    silent = silenced(module)
    if name == "functional":
        silent.eval()
    if not params:
        pytest.skip("no parameters")
    silent(x).square().mean().backward()
    train = name != "functional"

    def loss(params: dict[str, Tensor]) -> Tensor:
        return model.apply(params, state, x, train=train, **quiet(model))[0].square().mean()

    gradients = grad(loss)(params)
    # A bias before batch norm has no gradient but rounding, so errors are relative to the largest gradient.
    largest = max(float(parameter.grad.abs().max()) for parameter in silent.parameters() if parameter.grad is not None)
    for n, parameter in silent.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[n], parameter.grad, rtol=1e-6, atol=1e-9 * largest)


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
    torch.testing.assert_close(unrolled.apply(params, state, x)[0], native.apply(params, state, x)[0])
    torch.testing.assert_close(vmap(lambda key: unrolled.apply(params, state, x, key=key)[0])(keys), looped)
    assert not torch.equal(looped[0], looped[1])
    with pytest.raises(fr.FuncregError, match="unrolled"):
        vmap(lambda key: native.apply(params, state, x, key=key)[0])(keys)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_packed_sequences_and_initial_states(kind: Callable[..., nn.RNNBase]) -> None:
    module = kind(5, 6, num_layers=2, dropout=0.4, bidirectional=True).double().eval()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    x = fr.random.normal(fr.random.key(0), (3, 7, 5), dtype=torch.float64)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([2, 7, 4]), batch_first=True, enforce_sorted=False)
    hidden = fr.random.normal(fr.random.key(1), (4, 3, 6), dtype=torch.float64)
    hx: Any = (hidden, 2 * hidden) if kind is nn.LSTM else hidden
    expected, expected_end = module(packed, hx)
    (output, end), _ = model.apply(params, state, packed, hx)
    torch.testing.assert_close(output.data, expected.data)
    torch.testing.assert_close(end, expected_end)
    noisy = model.apply(params, state, packed, hx, key=fr.random.key(2))[0][0]
    assert not torch.equal(noisy.data, output.data)


def attention_cases() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[1, 3:] = True
    per_head = fr.random.normal(fr.random.key(5), (2 * 4, 5, 5), dtype=torch.float64)
    return {
        "plain": ({}, {}),
        "batch-first": ({"batch_first": True}, {"average_attn_weights": False}),
        "causal": ({}, {"attn_mask": causal, "is_causal": True}),
        "padding": ({"bias": False}, {"key_padding_mask": padding}),
        "both": ({"add_bias_kv": True, "add_zero_attn": True}, {"attn_mask": causal, "key_padding_mask": padding}),
        "float-mask": ({}, {"attn_mask": per_head, "need_weights": False}),
        "dimensions": ({"kdim": 6, "vdim": 7}, {}),
    }


@pytest.mark.parametrize("case", attention_cases())
def test_attention_is_the_layers_own(case: str) -> None:
    settings, call = attention_cases()[case]
    module = nn.MultiheadAttention(8, 4, dropout=0.3, **settings).double().eval()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    shape = (2, 5) if module.batch_first else (5, 2)
    q, k, v = (
        fr.random.normal(fr.random.key(size), (*shape, size), dtype=torch.float64)
        for size in (8, module.kdim, module.vdim)
    )
    expected, expected_weights = module(q, k, v, **call)
    (output, weights), _ = model.apply(params, state, q, k, v, **call)
    torch.testing.assert_close(output, expected)
    if expected_weights is None:
        assert weights is None
    else:
        torch.testing.assert_close(weights, expected_weights)


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
    with pytest.raises(fr.FuncregError, match="method: got 'heads'"):
        model.apply(params, state, x, method="heads")


def test_init_is_the_factorys_own_from_the_key_and_leaves_the_global_generator() -> None:
    model = fr.from_module(torchvision.models.resnet18)
    before = torch.random.get_rng_state()
    params, state = model.init(fr.random.key(3))
    again, _ = model.init(fr.random.key(3))
    other, _ = model.init(fr.random.key(4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(params[name], again[name]) for name in params)
    assert not torch.equal(params["conv1.weight"], other["conv1.weight"])
    # resnet's own scheme (fan-out, 2/sqrt(64 * 9)) and not its layers' default, which would give .024
    assert abs(float(params["layer1.0.conv1.weight"].std()) - (2 / (64 * 9)) ** 0.5) < 1e-3
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
    for skeleton in model.apply.skeletons.values():
        assert all(tensor.is_meta for tensor in (*skeleton.module.parameters(), *skeleton.module.buffers()))


class Counting(nn.Module):
    """Counts in place or by assignment, and may draw from the global generator."""

    def __init__(self, in_place: bool = False, draws: bool = False) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.in_place, self.draws = in_place, draws

    def forward(self, x: Tensor) -> Tensor:
        if self.in_place:
            self.calls.add_(1)  # type: ignore[operator]
        else:
            self.calls = self.calls + 1
        return x + torch.rand_like(x) if self.draws else x


def test_assigned_buffers_come_back_and_the_callers_stay() -> None:
    model = fr.from_module(lambda: nn.Sequential(Counting()))
    _, state = model.init(fr.random.key(0))
    _, after = model.apply({}, state, torch.ones(2))
    assert (float(state["0.calls"]), float(after["0.calls"])) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("settings", "did"),
    [({"in_place": True}, "writes into 1.calls in place"), ({"draws": True}, "draws from the global generator")],
)
def test_impure_layers_are_refused_by_name_and_harm_nothing(settings: dict[str, bool], did: str) -> None:
    model = fr.from_module(lambda: nn.Sequential(nn.Linear(2, 2), Counting(**settings)))
    params, state = model.init(fr.random.key(0))
    generator = torch.random.get_rng_state()
    with pytest.raises(fr.FuncregError, match=did):
        model.apply(params, state, torch.ones(1, 2))
    with pytest.raises(fr.FuncregError if "in_place" in settings else RuntimeError, match=f"{did}|randomness"):
        vmap(lambda x: model.apply(params, state, x)[0])(torch.ones(3, 1, 2))
    with pytest.raises(fr.FuncregError, match=did):
        grad(lambda params: model.apply(params, state, torch.ones(1, 2))[0].sum())(params)
    assert float(state["1.calls"]) == 0.0
    assert torch.equal(generator, torch.random.get_rng_state())
    (found,) = fr.check(model, torch.ones(1, 2))
    assert found.layer == "1 (Counting)"
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
    with pytest.raises(fr.FuncregError, match="global generator"):
        fr.from_module(Jitter).apply({}, {}, x, train=True)
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


@pytest.mark.parametrize("layer", [nn.RReLU(), nn.FeatureAlphaDropout(), nn.SyncBatchNorm(3)])
def test_layers_without_a_pure_form_are_refused_in_training_only(layer: nn.Module) -> None:
    model, (params, state) = fr.from_module(nn.Sequential(layer)), fr.variables(nn.Sequential(layer))
    x = torch.ones(2, 3, 2)
    if not isinstance(layer, nn.SyncBatchNorm):
        torch.testing.assert_close(model.apply(params, state, x)[0], layer.eval()(x))
    with pytest.raises(fr.FuncregError, match=type(layer).__name__):
        model.apply(params, state, x, train=True)


def test_names_that_do_not_fit_are_refused_by_name() -> None:
    _, model, params, state, x = made("mlp")
    short = {name: value for name, value in params.items() if name != "3.bias"}
    with pytest.raises(fr.FuncregError, match=r"params: .*missing '3\.bias'"):
        model.apply(short, state, x)
    with pytest.raises(fr.FuncregError, match=r"params: .*unknown 'extra'"):
        model.apply({**params, "extra": x}, state, x)
    with pytest.raises(fr.FuncregError, match=r"state: .*missing '1\.running_mean'"):
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


def test_a_momentum_of_the_call_replaces_the_layers_own() -> None:
    """Against modules that have this momentum, for batch and instance norm; and batched under vmap."""

    def network(momentum: float) -> nn.Sequential:
        normal = nn.InstanceNorm2d(3, momentum=momentum, track_running_stats=True)
        return nn.Sequential(nn.BatchNorm2d(2, momentum=momentum), nn.Conv2d(2, 3, 3, bias=False), normal).double()

    module, momenta = network(0.1), torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    x = fr.random.normal(fr.random.key(0), (5, 2, 6, 6), dtype=torch.float64)
    _, many = torch.func.vmap(lambda momentum: model.apply(params, state, x, train=True, momentum=momentum))(momenta)
    for member, momentum in enumerate(momenta):
        other = network(float(momentum))
        other.load_state_dict({**params, **state})
        other.train()(x)
        _, one = model.apply(params, state, x, train=True, momentum=float(momentum))
        for name, buffer in other.named_buffers():
            torch.testing.assert_close(one[name], buffer)
            torch.testing.assert_close(many[name][member], buffer)
