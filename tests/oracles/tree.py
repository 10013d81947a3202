"""What `tree` is compared with: torch's own pytrees, what modules do with their parameters, and plain dicts."""

import copy
from typing import Any

import numpy as np
import torch
import torch.utils._pytree as pytree
import torchvision
from torch import Tensor, nn
from torch.func import hessian

from funcreg import tree
from tests.oracles import Pair, oracle

A_COPY = "the numbers are only moved about"


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 2)))


def parameters() -> dict[str, Tensor]:
    return {name: leaf.detach() for name, leaf in network().named_parameters()}


def nested() -> dict[str, Any]:
    """Dicts, a tuple and a list, sorted: torch keeps a dict's order, where funcreg sorts."""
    leaves = iter(torch.arange(8.0).square().unbind())
    return {"0": {"bias": next(leaves), "weight": next(leaves)}, "a": (next(leaves), [next(leaves)]), "b": next(leaves)}


def spelled(names: list[str]) -> list[Tensor]:
    """Strings as tensors of their letters."""
    return [torch.tensor(list(name.encode())) for name in names]


def their_names(of: Any) -> list[str]:
    return [".".join(str(getattr(entry, "key", getattr(entry, "idx", ""))) for entry in path)
            for path, _ in pytree.tree_flatten_with_path(of)[0]]  # fmt: skip


@oracle("tree.map", against="torch.utils._pytree.tree_map", tolerance=0, because=A_COPY)
def map_of_torch() -> Pair:
    one, other = nested(), pytree.tree_map(torch.sqrt, nested())
    return tree.map(torch.sub, one, other), pytree.tree_map(torch.sub, one, other)


@oracle("tree.map_named", against="torch.utils._pytree.tree_map_with_path", tolerance=0, because=A_COPY)
def map_named_of_torch() -> Pair:
    names = iter(their_names(nested()))
    theirs = pytree.tree_map_with_path(lambda path, leaf: leaf * len(next(names)), nested())
    return tree.map_named(lambda name, leaf: leaf * len(name), nested()), theirs


@oracle("tree.leaves", against="torch.utils._pytree.tree_leaves", tolerance=0, because=A_COPY)
def leaves_of_torch() -> Pair:
    return tree.leaves(nested()), pytree.tree_leaves(nested())


@oracle("tree.names", against="the paths of torch.utils._pytree", tolerance=0, because="letters")
def names_of_torch() -> Pair:
    return spelled(tree.names(nested())), spelled(their_names(nested()))


@oracle("tree.names", against="nn.Module.named_parameters, sorted", tolerance=0, because="letters")
def names_of_a_module() -> Pair:
    return spelled(tree.names(parameters())), spelled(sorted(parameters()))


@oracle("tree.names", against="nn.Module.state_dict, an OrderedDict in its own order", tolerance=0, because="letters")
def names_of_a_state() -> Pair:
    state = network().state_dict()
    return (spelled(tree.names(state)), tree.leaves(state)), (spelled(list(state)), list(state.values()))


@oracle(
    "tree.norm",
    against="torch.nn.utils.clip_grad_norm_, and its gradient",
    tolerance=1e-15,
    because="float64: norms of norms, whose gradient divides by them",
)
def norm_of_torch() -> Pair:
    params = {name: leaf.double().requires_grad_() for name, leaf in parameters().items()}
    (tree.norm(params) ** 2 / 2).backward()  # whose gradient is the parameters themselves
    theirs = nn.utils.clip_grad_norm_(params.values(), max_norm=torch.inf)
    return (tree.norm(params), {name: leaf.grad for name, leaf in params.items()}), (theirs, params)


@oracle("tree.where", against="numpy.where", tolerance=0, because=A_COPY)
def where_of_numpy() -> Pair:
    one, other = parameters(), tree.map(torch.neg, parameters())
    ours = [tree.where(torch.tensor(condition), one, other) for condition in (True, False)]
    return ours, [{name: np.where(condition, one[name], other[name]) for name in one} for condition in (True, False)]


@oracle("tree.stack", against="torch.func.stack_module_state", tolerance=0, because=A_COPY)
def stack_of_torch() -> Pair:
    modules = [network(seed) for seed in range(3)]
    theirs = torch.func.stack_module_state(modules)[0]
    return tree.stack([dict(module.named_parameters()) for module in modules]), theirs


@oracle("tree.unstack", against="Tensor.unbind", tolerance=0, because=A_COPY)
def unstack_of_torch() -> Pair:
    stacked = {"a": torch.arange(6.0).reshape(3, 2), "b": torch.arange(3.0)}
    rows = zip(stacked["a"].unbind(), stacked["b"].unbind(), strict=True)
    return tree.unstack(stacked), [{"a": a, "b": b} for a, b in rows]


@oracle("tree.index", against="Tensor.select", tolerance=0, because=A_COPY)
def index_of_torch() -> Pair:
    stacked = {"a": torch.arange(6.0).reshape(3, 2), "b": torch.arange(3.0)}
    ours = [tree.index(stacked, 2), tree.index(stacked, torch.tensor(0))]
    return ours, [{name: leaf.select(0, at) for name, leaf in stacked.items()} for at in (2, 0)]


@oracle("tree.members", against="len of every leaf", tolerance=0, because="integers")
def members_by_len() -> Pair:
    stacked = [{"a": torch.zeros(k, 2), "b": torch.zeros(k)} for k in (1, 5)]
    return [[tree.members(each)] * 2 for each in stacked], [[len(leaf) for leaf in each.values()] for each in stacked]


@oracle("tree.partition", against="dict comprehensions over names", tolerance=0, because=A_COPY)
def partition_by_name() -> Pair:
    params = parameters()
    weights = {name: leaf for name, leaf in params.items() if "weight" in name}
    return tree.partition(params, tree.is_weight), (weights, {n: leaf for n, leaf in params.items() if "bias" in n})


@oracle("tree.merge", against="the union of dicts", tolerance=0, because=A_COPY)
def merge_of_dicts() -> Pair:
    head, body = {"b": torch.tensor(1.0)}, {"a": torch.tensor(2.0), "c": torch.tensor(3.0)}
    return (tree.merge(head, body), tree.merge({"net": head}, {"net": body})), (head | body, {"net": head | body})


@oracle("tree.select", against="filter, over named_parameters sorted by name", tolerance=0, because=A_COPY)
def select_by_filter() -> Pair:
    picked = filter(lambda pair: pair[1].ndim == 2, sorted(parameters().items()))
    return [leaf for _, leaf in tree.select(parameters(), lambda name, leaf: leaf.ndim == 2)], [
        leaf for _, leaf in picked
    ]


@oracle(
    "tree.is_weight", against="more than one axis, in torch's layers without a scale", tolerance=0, because="booleans"
)
def is_weight_has_axes() -> Pair:
    layers = nn.ModuleDict({
        "linear": nn.Linear(2, 2), "bilinear": nn.Bilinear(2, 2, 2), "convolution": nn.Conv2d(2, 2, 1),
        "spectral": nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)),
        "gru": nn.GRU(2, 2, bidirectional=True), "lstm": nn.LSTM(2, 3, proj_size=2), "cell": nn.LSTMCell(2, 2),
        "attention": nn.MultiheadAttention(2, 1), "different": nn.MultiheadAttention(2, 1, kdim=3, vdim=4),
    })  # fmt: skip
    named = dict(layers.named_parameters())
    return [tree.is_weight(name) for name in named], [leaf.ndim > 1 for leaf in named.values()]


@oracle("tree.zeros_like", against="numpy.zeros_like", tolerance=0, because="zeros", constant=True)
def zeros_like_of_numpy() -> Pair:
    return tree.zeros_like(parameters()), {name: np.zeros_like(leaf) for name, leaf in parameters().items()}


@oracle("tree.cast", against="nn.Module.bfloat16", tolerance=0, because="the same rounding")
def cast_of_a_module() -> Pair:
    module = network()
    state = dict(module.state_dict())  # with an integer, which stays
    return tree.cast(state, torch.bfloat16), dict(module.bfloat16().state_dict())


@oracle("tree.to", against="nn.Module.to", tolerance=0, because=A_COPY)
def to_of_a_module() -> Pair:
    module = network()
    return tree.to(dict(module.named_parameters()), "cpu"), dict(module.to("cpu").named_parameters())


@oracle("tree.clone", against="copy.deepcopy, after the original was overwritten", tolerance=0, because=A_COPY)
def clone_of_a_module() -> Pair:
    params = parameters()
    ours, theirs = tree.clone(params), copy.deepcopy(params)
    for leaf in params.values():
        leaf.zero_()
    return ours, theirs


@oracle("tree.count", against="the num_params that torchvision publishes", tolerance=0, because="integers")
def count_of_torchvision() -> Pair:
    weights = (torchvision.models.ResNet18_Weights.DEFAULT, torchvision.models.MobileNet_V2_Weights.DEFAULT)
    with torch.device("meta"):
        networks = (torchvision.models.resnet18(), torchvision.models.mobilenet_v2())
    ours = [tree.count(dict(network.named_parameters())) for network in networks]
    return ours, [each.meta["num_params"] for each in weights]


@oracle(
    "tree.norm",
    against="its Hessian (1 - x x' / |x|**2) / |x|",
    tolerance=1e-15,
    because="float64, rounded in another order",
)
def curvature_of_norm() -> Pair:
    x = torch.tensor([3.0, 4.0], dtype=torch.float64)
    return hessian(lambda x: tree.norm({"x": x}))(x), (torch.eye(2) - torch.outer(x, x) / 25) / 5
