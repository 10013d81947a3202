"""What `from_module` and its kin are compared with: the modules themselves, and torch's own tools for their values."""

import copy
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.func import grad, vmap

import funcreg as fr
from tests.networks import EVERY, NATIVE_RNN, made, quiet, silenced
from tests.oracles import Pair, oracle

KEY = fr.random.key(0)
LAYERS = {"tolerance": 1e-13, "because": "float64: what is written out sums in another order"}
THE_SAME = "the same values"


def drawn(seed: int, *shape: int) -> Tensor:
    return fr.random.normal(fr.random.key(seed), shape, dtype=torch.float64)


def evaluated(name: str) -> Pair:
    module, model, params, state, x = made(name)
    with torch.no_grad():
        return model.apply(params, state, x), (module.eval()(x), state)


def stepped(name: str) -> Pair:
    """A training step without noise: the output, the buffers after it, and every gradient over the largest."""
    module, model, params, state, x = made(name)
    silent, train = silenced(module), name != "functional"  # whose rates are in its forward
    expected = silent.train(train)(x)
    target = drawn(1, *expected.shape)
    if params:
        (expected * target).mean().backward()
    theirs = {n: p.grad for n, p in silent.named_parameters() if p.grad is not None}

    def loss(params: dict[str, Tensor]) -> tuple[Tensor, Any]:
        output, after = model.apply(params, state, x, train=train, **quiet(model))
        return (output * target).mean(), (output, after)

    gradients, (output, after) = grad(loss, has_aux=True)(params) if params else ({}, loss(params)[1])
    largest = max((float(each.abs().max()) for each in theirs.values()), default=1.0)
    ours = {n: gradients[n] / largest for n in theirs}
    buffers = dict(silent.named_buffers())
    return (output, after, ours), (expected, buffers, {n: each / largest for n, each in theirs.items()})


# Batch norm of two images, whose deepest features are one number each, magnifies what was rounded before it:
# with an input off by its last digit these modules' gradients move by 3e-11, 3e-8 and 3e-7 of the largest.
ILL_CONDITIONED = {"resnet18": 1e-8, "densenet121": 1e-6, "efficientnet_b0": 1e-5}
for _name in EVERY:
    oracle("from_module", against=f"the module itself, evaluating: {_name}", **LAYERS)(partial(evaluated, _name))
    _why: Any = LAYERS
    if _name in ILL_CONDITIONED:
        _why = {
            "tolerance": ILL_CONDITIONED[_name],
            "because": "the module itself moves as far when its input does in the last digit",
        }
    oracle("from_module", against=f"the module's own training step and gradients: {_name}", **_why)(
        partial(stepped, _name)
    )


def unrolled(name: str) -> Pair:
    module, _, params, state, x = made(name)
    with torch.no_grad():
        return fr.from_module(module, rnn="unrolled").apply(params, state, x)[0], module.eval()(x)


for _name in NATIVE_RNN:
    oracle("from_module", against=f"the module itself, unrolled: {_name}", **LAYERS)(partial(unrolled, _name))


def packed(kind: Callable[..., nn.RNNBase]) -> Pair:
    """Sequences of other lengths, and initial states."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = kind(5, 6, num_layers=2, dropout=0.4, bidirectional=True).double().eval()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    x, lengths = drawn(0, 3, 7, 5), torch.tensor([2, 7, 4])
    sequence = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    hidden = drawn(1, 4, 3, 6)
    start: Any = (hidden, 2 * hidden) if kind is nn.LSTM else hidden
    (output, end), _ = model.apply(params, state, sequence, start)
    expected, expected_end = module(sequence, start)
    return (output.data, end), (expected.data, expected_end)


for _kind in (nn.RNN, nn.LSTM, nn.GRU):
    oracle("from_module", against=f"nn.{_kind.__name__} of packed sequences", **LAYERS)(partial(packed, _kind))

_CAUSAL, _PADDING = torch.ones(5, 5, dtype=torch.bool).triu(1), torch.arange(5).expand(2, 5) >= torch.tensor([[5], [3]])
ATTENTION: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "batch first": ({"batch_first": True}, {"average_attn_weights": False}),
    "causal": ({}, {"attn_mask": _CAUSAL, "is_causal": True}),
    "padded": ({"bias": False}, {"key_padding_mask": _PADDING}),
    "both": ({"add_bias_kv": True, "add_zero_attn": True}, {"attn_mask": _CAUSAL, "key_padding_mask": _PADDING}),
    "a mask of floats": ({}, {"attn_mask": drawn(5, 2 * 4, 5, 5), "need_weights": False}),
    "other dimensions": ({"kdim": 6, "vdim": 7}, {}),
}


def attended(case: str) -> Pair:
    settings, call = ATTENTION[case]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.MultiheadAttention(8, 4, dropout=0.3, **settings).double().eval()
    model, (params, state) = fr.from_module(module), fr.variables(module)
    shape = (2, 5) if module.batch_first else (5, 2)
    qkv = [drawn(size, *shape, size) for size in (8, module.kdim, module.vdim)]
    return model.apply(params, state, *qkv, **call)[0], module(*qkv, **call)


for _case in ATTENTION:
    oracle("from_module", against=f"nn.MultiheadAttention: {_case}", **LAYERS)(partial(attended, _case))


@oracle("from_module", against="modules that have the call's momentum", **LAYERS)
def momentum_of_a_call() -> Pair:
    def network(momentum: float) -> nn.Sequential:
        normal = nn.InstanceNorm2d(3, momentum=momentum, track_running_stats=True)
        return nn.Sequential(nn.BatchNorm2d(2, momentum=momentum), nn.Conv2d(2, 3, 3, bias=False), normal).double()

    module, momenta, x = network(0.1), torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64), drawn(0, 5, 2, 6, 6)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    each = [model.apply(params, state, x, train=True, momentum=float(momentum))[1] for momentum in momenta]
    batched = vmap(lambda momentum: model.apply(params, state, x, train=True, momentum=momentum)[1])(momenta)
    theirs = []
    for momentum in momenta:
        other = network(float(momentum))
        other.load_state_dict({**params, **state})
        other.train()(x)
        theirs.append(dict(other.named_buffers()))
    return (each, fr.tree.unstack(batched)), (theirs, theirs)


@oracle("variables", against="nn.Module.state_dict, after the module changed", tolerance=0, because=THE_SAME)
def variables_of_a_network() -> Pair:
    module = made("mlp")[0]
    theirs = copy.deepcopy(dict(module.state_dict()))
    params, state = fr.variables(module)
    for tensor in module.state_dict().values():
        tensor.zero_()
    return {**params, **state}, theirs


def deployed(name: str) -> Pair:
    """Other values than the module has: its outputs and its entries."""
    module, _, params, state, x = made(name)
    changed = {n: leaf * 1.5 for n, leaf in params.items()}
    theirs = copy.deepcopy(module)
    theirs.load_state_dict({**changed, **state}, strict=False)  # tied and parametrized weights have further names
    ours = fr.to_module(module, changed, state)
    with torch.no_grad():
        return (ours(x), dict(ours.state_dict())), (theirs.eval()(x), dict(theirs.state_dict()))


for _name in ("mlp", "tied", "spectral", "transformer", "resnet18"):
    oracle("to_module", against=f"nn.Module.load_state_dict: {_name}", tolerance=0, because=THE_SAME)(
        partial(deployed, _name)
    )


@oracle("model_members", against="torch.func.stack_module_state of seeded networks", tolerance=0, because=THE_SAME)
def members_of_torch() -> Pair:
    def factory() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GRU(4, 2))

    networks = []
    for key in fr.random.split(KEY, 3):
        low, high = fr.random.bits(key, 2).tolist()
        with torch.random.fork_rng():
            torch.manual_seed(low + high * 2**31)
            networks.append(factory())
    return fr.model_members(fr.from_module(factory), KEY, 3), torch.func.stack_module_state(networks)


@oracle(
    "model_members",
    against="the 2 / fan-out of resnet18's own scheme, as its convolutions' variance",
    tolerance=0.026,
    because="5 standard errors of the smallest kernel's variance, over what it should be",
    constant=True,
)
def members_are_drawn_by_their_own_scheme() -> Pair:
    params, _ = fr.model_members(fr.from_module(torchvision.models.resnet18), KEY, 2)
    kernels = {name: leaf for name, leaf in params.items() if leaf.ndim == 5 and leaf[0].numel() > 20_000}
    ours = [leaf.var() * leaf[0, :, 0].numel() / 2 for leaf in kernels.values()]
    return ours, [1.0] * len(ours)


class Careless(nn.Module):
    """May write into its own weight, and draw from numpy's global generator."""

    def __init__(self, writes: bool, draws: bool) -> None:
        super().__init__()
        self.weight, self.writes, self.draws = nn.Parameter(torch.ones(3)), writes, draws

    def forward(self, x: Tensor) -> Tensor:
        if self.writes:
            self.weight.detach().mul_(2)
        return self.weight * x + (np.random.rand() if self.draws else 0)  # noqa: NPY002  (which fr.check is to find)


@oracle(
    "check",
    against="the state of numpy's generator and of the parameters around the module's own call",
    tolerance=0,
    because="booleans",
)
def check_by_looking() -> Pair:
    ours, theirs = [], []
    for module in (Careless(*how) for how in itertools.product((False, True), repeat=2)):
        x = torch.ones(3)
        reports = [each.did for each in fr.check(fr.from_module(module), x)]
        ours.append([any("in place" in did for did in reports), any("generator" in did for did in reports)])
        generator, weight = np.random.get_state(), module.weight  # noqa: NPY002
        version = weight._version
        module(x)
        theirs.append([weight._version != version, repr(generator) != repr(np.random.get_state())])  # noqa: NPY002
        np.random.set_state(generator)  # noqa: NPY002
    return ours, theirs


class Whitened(nn.BatchNorm1d):
    """Somebody's own layer: subclasses are not replaced until they are registered."""


@oracle("register_layer", against="the registered layer's own forward", **LAYERS)
def registered() -> Pair:
    def pure(layer: Any, x: Tensor) -> Tensor:
        stats = fr.norm.BatchStats(layer.running_mean, layer.running_var, layer.num_batches_tracked)
        y, stats = fr.norm.batch_norm(x, stats, scale=layer.weight, shift=layer.bias, train=True)
        layer.running_mean, layer.running_var, layer.num_batches_tracked = stats
        return y

    fr.register_layer(Whitened, pure)
    module, x = Whitened(4).double(), drawn(3, 6, 4)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    ours = model.apply(params, state, x, train=True)
    return ours, (module.train()(x), dict(module.named_buffers()))


@oracle(
    "decay_mask",
    against="the groups of timm.optim.param_groups_weight_decay, for a ResNet, a ViT, a ConvNeXt and a Swin",
    tolerance=0,
    because="booleans",
)
def decays() -> Pair:
    timm, groups_of = pytest.importorskip("timm"), pytest.importorskip("timm.optim").param_groups_weight_decay
    ours, theirs = [], []
    for name in ("resnet18", "vit_tiny_patch16_224", "convnext_atto", "swin_tiny_patch4_window7_224"):
        module = timm.create_model(name)
        said = module.no_weight_decay() if hasattr(module, "no_weight_decay") else ()
        groups = groups_of(module, 0.1, no_weight_decay_list=said)
        decayed = {id(leaf) for group in groups if group["weight_decay"] for leaf in group["params"]}
        mask = fr.decay_mask(module)
        ours.append([mask(name, leaf) for name, leaf in module.named_parameters()])
        theirs.append([id(leaf) in decayed for leaf in module.parameters()])
    return ours, theirs
