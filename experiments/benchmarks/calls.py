"""What a call costs beside its kernels: of a network of six layers, which has next to nothing to do, and of networks
that people use, small, in evaluation and in training with their own noise on.
"""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.func import functional_call

import funcreg as fr

from .measure import Workload
from .pure import classification

IMAGE = (1, 3, 64, 64)
TOKENS = (4, 16)


def apply(device: torch.device) -> Workload:
    """Six layers."""
    module = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(32, 32), nn.ReLU()))).to(device)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    x = classification((4, 32), 2, device).x
    return Workload(
        name="apply",
        question="a call of a network of six layers, 32 wide, on 4 inputs",
        contenders={
            "stateful eager": torch.no_grad()(lambda: module(x)),
            "torch.func eager": torch.no_grad()(lambda: functional_call(module, params, (x,))),
            "funcreg eager": torch.no_grad()(lambda: model.apply(params, state, x)),
        },
        targets={("funcreg eager", "torch.func"): 1.0},
    )


def _network(name: str, train: bool, device: torch.device) -> Workload:
    module, x = NETWORKS[name]()
    module, x = module.to(device).train(train), x.to(device)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    settings: Any = {"key": fr.random.key(0, device=device), "train": True} if train else {}
    return Workload(
        name=f"apply:{name}{'-training' if train else ''}",
        question=f"a call of {name} on {tuple(x.shape)}, {'its noise on' if train else 'evaluated'}",
        contenders={
            "stateful eager": torch.no_grad()(lambda: module(x)),
            "funcreg eager": torch.no_grad()(lambda: model.apply(params, state, x, **settings)),
        },
        targets={("funcreg eager", "stateful eager"): 1 / 1.3 if train else 1 / 1.15},
    )


def _resnet() -> tuple[nn.Module, Tensor]:
    return torchvision.models.resnet18(num_classes=10), fr.random.normal(fr.random.key(0), IMAGE)


def _efficientnet() -> tuple[nn.Module, Tensor]:
    import timm

    module = timm.create_model("efficientnet_b0", drop_rate=0.2, drop_path_rate=0.2, num_classes=10)
    return module, fr.random.normal(fr.random.key(0), IMAGE)


def _bert() -> tuple[nn.Module, Tensor]:
    from transformers import BertConfig, BertModel

    sizes: Any = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    return BertModel(BertConfig(vocab_size=100, **sizes)), fr.random.randint(fr.random.key(0), TOKENS, 0, 100)


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "resnet18": _resnet,
    "efficientnet_b0": _efficientnet,
    "tiny-bert": _bert,
}
_LIBRARIES = {"efficientnet_b0": "timm", "tiny-bert": "transformers"}
# Of those whose libraries are installed.
CALLS: dict[str, Callable[[torch.device], Workload]] = {
    f"apply:{name}{'-training' if train else ''}": functools.partial(_network, name, train)
    for name in NETWORKS
    for train in (False, True)
    if importlib.util.find_spec(_LIBRARIES.get(name, "torchvision")) is not None
}
