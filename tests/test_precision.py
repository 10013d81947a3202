"""Reduced precision through `apply`: `torch.autocast`, and parameters in bfloat16 beside float32 statistics.

bfloat16 has 8 bits: a rounding is 0.4%, and a network's output is off by a few of them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils._python_dispatch import TorchDispatchMode

import funcreg as fr
from experiments.harness.context import Context
from experiments.parts.networks import ResNet9, in_precision
from experiments.parts.photos import channels_last
from experiments.questions import mixup_cutmix
from tests.bad_arguments.call import Call
from tests.bad_arguments.judged import CALLS

ROUNDING = 2.0**-8  # of a bfloat16


def _convolutional() -> nn.Module:
    head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 16, 8), nn.LayerNorm(8), nn.Dropout(0.2), nn.Linear(8, 3))
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), head)


def _instance_normed() -> nn.Module:
    normal = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    return nn.Sequential(nn.Conv2d(3, 4, 3), normal, nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * 36, 3))


def _spectral() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), parametrizations.spectral_norm(nn.Linear(192, 8)), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3)
    )


class _Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x.flatten(2)[:, :, :8]).mean(dim=1))


NETWORKS: list[Callable[[], nn.Module]] = [_convolutional, _instance_normed, _spectral, _Attentive]
X = fr.random.normal(fr.random.key(1), (12, 3, 8, 8))
Y = fr.random.randint(fr.random.key(2), (12,), 0, 3)
MEMBERS = 3


def _trained(network: Callable[[], nn.Module], precision: str, *, steps: int = 25, members: int | None = None) -> Any:
    """(the model, its train state, the loss of every step), in "float32", under "autocast" or in "bfloat16"."""
    model = fr.from_module(network)

    def loss_fn(params: Any, state: Any, batch: Any, /, *, key: Tensor, hparams: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "autocast"):
            logits, state = model.apply(params, state, batch.x, key=key, train=True)
            return fr.losses.cross_entropy(logits, batch.y), (state, {})

    x = X
    key = fr.random.key(0)
    params, state = model.init(key) if members is None else fr.model_members(model, key, members)
    if precision == "bfloat16":
        params, x = fr.tree.cast(params, torch.bfloat16), x.to(torch.bfloat16)
    optimizer = fr.optim.sgd(0.05, momentum=0.9)
    step = fr.train.make_step(loss_fn, optimizer)
    if members is not None:
        step = torch.func.vmap(step, in_dims=(0, None))
    train_state, history = fr.train.init(params, state, optimizer, key=key, members=members), []
    with torch.no_grad():
        for _ in range(steps):
            train_state, metrics = step(train_state, fr.train.Batch(x, Y))
            history.append(metrics["loss"])
    return model, train_state, torch.stack(history)


@pytest.mark.parametrize("precision", ["autocast", "bfloat16"])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__.strip("_"))
def test_training_goes_as_in_float32(network: Callable[[], nn.Module], precision: str) -> None:
    _, exact, losses = _trained(network, "float32")
    _, rounded, rounded_losses = _trained(network, precision)
    assert losses[-1] < losses[0] - 0.05, "it learns"
    assert (rounded_losses - losses).abs().max() < 0.1 * losses[0], "the loss of every step is close"
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    assert {leaf.dtype for leaf in rounded.params.values()} == {dtype}
    for name, statistic in rounded.state.items():
        assert statistic.dtype == exact.state[name].dtype, "statistics stay in float32"
    # The last step moved every parameter and statistic that float32 moves.
    for tree, other in ((exact.params, rounded.params), (exact.state, rounded.state)):
        for name, leaf in tree.items():
            change = (leaf.double() - other[name].double()).norm() / (1e-3 + leaf.double().norm())
            assert change < 0.35, name


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__.strip("_"))
def test_evaluation_under_autocast_is_the_modules_own(network: Callable[[], nn.Module]) -> None:
    model, trained, _ = _trained(network, "autocast", steps=2)
    module = fr.to_module(network, trained.params, trained.state)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        ours, _ = model.apply(trained.params, trained.state, X)
        theirs = module(X)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    # Torch's fused attention rounds fewer times than the one that has a vmap rule.
    torch.testing.assert_close(ours, theirs, rtol=2 * ROUNDING, atol=2 * ROUNDING)


def test_batch_statistics_under_autocast_are_the_modules_own() -> None:
    """The same bfloat16 activations, averaged in float32 on both sides."""
    module = _convolutional()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, new = model.apply(params, state, X, key=fr.random.key(0), train=True)
        module.train()(X)
    for name, buffer in module.named_buffers():
        torch.testing.assert_close(new[name], buffer, rtol=1e-5, atol=1e-6)
        assert not torch.equal(buffer, state[name]), "it moved"


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__.strip("_"))
def test_bfloat16_parameters_evaluate_beside_float32_statistics(network: Callable[[], nn.Module]) -> None:
    """torch's own batch norm refuses this mixture; here it gives what float32 gives, to the rounding of the weights."""
    model, trained, _ = _trained(network, "bfloat16", steps=2)
    exact, _ = model.apply(fr.tree.cast(trained.params, torch.float32), trained.state, X)
    for key in (None, fr.random.key(3)):
        logits, state = model.apply(trained.params, trained.state, X.to(torch.bfloat16), key=key)
        assert logits.dtype == torch.bfloat16
        assert bool(torch.isfinite(logits).all())
        assert all(torch.equal(state[name], trained.state[name]) for name in state)
    rounded, _ = model.apply(trained.params, trained.state, X.to(torch.bfloat16))
    assert (rounded - exact).abs().max() < 12 * ROUNDING * exact.abs().max()
    drawn = fr.uncertainty.mc_dropout(
        model, trained.params, trained.state, X.to(torch.bfloat16), key=fr.random.key(4), samples=8
    )
    assert drawn.mean.dtype == torch.float32
    torch.testing.assert_close(drawn.mean.sum(dim=-1), torch.ones(len(X)))


@pytest.mark.parametrize("precision", ["autocast", "bfloat16"])
def test_members_train_side_by_side(precision: str) -> None:
    _, together, losses = _trained(_convolutional, precision, steps=10, members=MEMBERS)
    assert losses.shape == (10, MEMBERS)
    assert bool((losses[-1] < losses[0]).all())
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    assert {leaf.dtype for leaf in together.params.values()} == {dtype}
    assert together.state["1.running_var"].dtype == torch.float32


@pytest.mark.parametrize("mode", ["plain autograd", "torch.func.grad", "members"])
def test_under_autocast_all_that_training_keeps_is_float32(mode: str) -> None:
    """Only what lies between the layers is in 16 bits: losses, gradients, moments and statistics are not."""
    model = fr.from_module(_convolutional)
    logits_dtypes = []

    def loss_fn(params: Any, state: Any, batch: Any, /, *, key: Tensor, hparams: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, state = model.apply(params, state, batch.x, key=key, train=True)
            loss = fr.losses.cross_entropy(logits, batch.y)
        logits_dtypes.append(logits.dtype)
        return loss, (state, {"mse": fr.losses.mse(logits, torch.zeros_like(logits))})

    optimizer = fr.transforms.chain(fr.transforms.clip_by_global_norm(1.0), fr.optim.adam(0.01))
    members, key = MEMBERS if mode == "members" else None, fr.random.key(0)
    step = fr.train.make_step(loss_fn, optimizer, penalties={"l2": lambda params, _: fr.penalties.l2(params, 1e-4)})
    params, state = model.init(key) if members is None else fr.model_members(model, key, members)
    train_state = fr.train.init(params, state, optimizer, key=key, members=members)
    with torch.set_grad_enabled(mode == "torch.func.grad"):
        run = step if members is None else torch.func.vmap(step, in_dims=(0, None))
        trained, metrics = run(train_state, fr.train.Batch(X, Y))
    assert set(logits_dtypes) == {torch.bfloat16}
    kept = [leaf for leaf in fr.tree.leaves((trained, metrics)) if leaf.is_floating_point()]
    assert {leaf.dtype for leaf in kept} <= {torch.float32, torch.float64}, "float64 is Adam's count of decays"
    assert all(bool(torch.isfinite(leaf).all()) for leaf in kept)
    assert not any(torch.equal(trained.params[name], params[name]) for name in params if name != "0.bias"), "it moved"


@pytest.mark.parametrize("rate", [0.5, torch.tensor(0.5)], ids=["number", "tensor"])
def test_noise_under_autocast_is_that_of_float32(rate: float | Tensor) -> None:
    """The same places are dropped, by the module's own layer and by its functions."""
    model = fr.from_module(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout2d(0.5), nn.Flatten(), nn.Dropout(0.5)))
    params, state = model.init(fr.random.key(0))
    exact, _ = model.apply(params, state, X, key=fr.random.key(1), rates=rate)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, _ = model.apply(params, state, X, key=fr.random.key(1), rates=rate)
    assert rounded.dtype == torch.bfloat16
    assert 0 < (exact == 0).float().mean() < 1
    assert torch.equal(rounded == 0, exact == 0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_channels_last_stays_through_a_step(precision: str) -> None:
    """Every convolution, forward and backward, takes its images as they came, without a copy into another layout."""
    model = fr.from_module(lambda: ResNet9(4))
    optimizer = fr.optim.sgd(0.1, momentum=0.9)

    def loss_fn(params: Any, state: Any, batch: Any, /, *, key: Tensor, hparams: Any) -> Any:
        with in_precision(precision, batch.x.device):
            logits, state = model.apply(params, state, batch.x, key=key, train=True)
        return fr.losses.cross_entropy(logits, batch.y), (state, {})

    step = fr.train.make_step(loss_fn, optimizer)
    train_state = fr.train.init(*model.init(fr.random.key(0)), optimizer, key=fr.random.key(1))
    batch = fr.train.Batch(channels_last(fr.random.normal(fr.random.key(2), (12, 3, 16, 16))), Y)
    with torch.no_grad():
        step(train_state, batch)  # the first call looks for impure layers, on copies
        with _Convolutions() as seen:
            step(train_state, batch)
    assert (seen.forward, seen.backward) == (8, 8)
    assert seen.contiguous == []
    assert seen.dtypes == {getattr(torch, precision)}


def test_an_experiment_trains_in_the_precision_that_it_is_told() -> None:
    """The recipe for a GPU, at a size for a CPU."""
    sizes = {"width": 2, "size": 8, "train": 200, "validation": 50, "test": 100, "batch_size": 50, "epochs": 1}
    settings = dataclasses.replace(mixup_cutmix.PRESETS["full"], seeds=1, jit=False, **sizes)
    exact = mixup_cutmix.main(dataclasses.replace(settings, precision="float32"), Context())
    with _Convolutions() as seen:
        result = mixup_cutmix.main(settings, Context())
    assert seen.dtypes >= {torch.bfloat16}
    for name, run in result.values["recipes"].items():
        (loss,), (exact_loss,) = run["train_loss"][0], exact.values["recipes"][name]["train_loss"][0]
        assert loss != exact_loss
        assert loss == pytest.approx(exact_loss, rel=0.01)
        assert result.values["timing"][name][0] > 0


class _Convolutions(TorchDispatchMode):
    """The convolutions inside, and those whose images, or their gradients, are not channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.forward, self.backward, self.contiguous, self.dtypes = 0, 0, [], set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if "convolution" in name:
            self.backward += "backward" in name
            self.forward += "backward" not in name
            self.dtypes |= {each.dtype for each in args[:2]}
            images = args[:2] if "backward" in name else args[:1]
            self.contiguous += [
                (name, each.shape) for each in images if not each.is_contiguous(memory_format=torch.channels_last)
            ]
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["autocast", "bfloat16"])
def test_a_compiled_step_is_the_eager_one_to_rounding(precision: str) -> None:
    model = fr.from_module(_convolutional)
    params, state = model.init(fr.random.key(0))
    x = X
    if precision == "bfloat16":
        params, x = fr.tree.cast(params, torch.bfloat16), X.to(torch.bfloat16)

    def loss_fn(params: Any, state: Any, batch: Any, /, *, key: Tensor, hparams: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "autocast"):
            logits, state = model.apply(params, state, batch.x, key=key, train=True)
            return fr.losses.cross_entropy(logits, batch.y), (state, {})

    optimizer = fr.optim.sgd(0.05)
    step, first = fr.train.make_step(loss_fn, optimizer), fr.train.init(params, state, optimizer, key=fr.random.key(0))
    eager, eager_metrics = step(first, fr.train.Batch(x, Y))
    compiled, compiled_metrics = fr.jit(step)(first, fr.train.Batch(x, Y))
    torch.testing.assert_close(compiled_metrics["loss"], eager_metrics["loss"], rtol=4 * ROUNDING, atol=0.0)
    assert {leaf.dtype for leaf in compiled.params.values()} == {leaf.dtype for leaf in params.values()}
    moved = fr.tree.norm(fr.tree.map(lambda a, b: a.double() - b.double(), eager.params, params))
    apart = fr.tree.norm(fr.tree.map(lambda a, b: a.double() - b.double(), eager.params, compiled.params))
    # Compiled code keeps float32 between operations that eager code rounds.
    assert apart < 0.1 * moved


# Whose products are a model's, or a user's function's.
OF_A_MODEL = (
    "check",
    "distributed",
    "from_module",
    "jit",
    "sharpness",
    "train",
    "uncertainty",
)


@pytest.mark.parametrize("call", [call for call in CALLS if not call.name.startswith(OF_A_MODEL)], ids=str)
def test_autocast_changes_no_product_but_a_models(call: Call) -> None:
    """Those of a penalty, a constraint, a transform or an augmentation are float32's."""
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            results.append(
                [leaf for leaf in fr.tree.leaves(call.function(**call.arguments)) if isinstance(leaf, Tensor)]
            )
    for own, cast in zip(*results, strict=True):
        torch.testing.assert_close(cast, own, equal_nan=True)
