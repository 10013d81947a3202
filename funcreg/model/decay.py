"""Which of a model's parameters decay, by what its layers do with them."""

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, cast

from torch import Tensor, nn

from .. import _checks, tree
from .apply import Apply
from .building import made

_MULTIPLY = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)
_LOOK_UP = (nn.Embedding, nn.EmbeddingBag)
_NORMALISE = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._NormBase,
)
# Look-alikes that are not subclasses of torch's, such as LlamaRMSNorm, LayerNorm2d, BatchNormAct2d.
_NORMALISE_BY_NAME = re.compile(r"Norm(Act)?(\dd)?$")
_LOOK_UP_BY_NAME = re.compile(r"Embeddings?$")
# What a parameter that no layer of torch's owns is added as, or scales by.
_ADDED = {"pos", "position", "positional", "embed", "embedding", "embeddings", "token", "tokens"}
_SCALES = {"scale", "gamma", "gain", "beta", "log", "temperature"}


def decay_mask(model: Any, *, embeddings: bool = False) -> tree.Mask:
    """A mask of the parameters that weight decay is for: those that inputs are multiplied by.

    These are the weights of linear, convolutional, recurrent and attention layers and of their subclasses,
    parametrized ones too; and of other modules, which have layers of their own kind, parameters of two axes or more.
    Not biases; not the scales of norms and other vectors, whatever axes of length 1 they have; not tokens and
    positions; not what the model says itself, by a method `no_weight_decay` as timm's models have, or by an attribute
    `_no_weight_decay` of the parameter. A weight that layers share decays where one of them multiplies by it: so does
    an embedding that is also a linear head.

        mask = fr.decay_mask(model)
        fr.optim.adamw(1e-3, weight_decay=0.1, mask=mask)
        fr.penalties.l2(params, 1e-4, mask=mask)

    Args:
        model: from `fr.from_module`; an nn.Module, or a function that makes one.
        embeddings: whether tables that are looked up in (`nn.Embedding`) decay.

    Returns:
        A mask (name, leaf) -> bool for the model's parameters, which only looks at the name: members' stacked
        parameters are the same to it. Another name is an error.

    Raises:
        FuncregError: for what is not a model.

    >>> module = nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    >>> mask = decay_mask(module)
    >>> [name for name, leaf in module.named_parameters() if mask(name, leaf)]
    ['2.weight']
    """
    _checks.check_choice("embeddings", embeddings, (True, False))
    decays = _decisions(_module_of(model), embeddings)

    def mask(name: str, leaf: Tensor | None = None) -> bool:
        if not isinstance(name, str) or name not in decays:
            allowed = f"a parameter of the model, such as {', '.join(list(decays)[:8])}"
            remedy = "Within another tree: lambda name, leaf: mask(name.removeprefix('backbone.'), leaf)."
            _checks.fail("mask", f"the leaf {name!r}", allowed, remedy)
        return decays[name]

    return mask


def _decisions(module: nn.Module, embeddings: bool) -> dict[str, bool]:
    """For each parameter, under every name that it has, whether it decays."""
    shared: dict[int, list[str]] = {}
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, parameter in parameters.items():
        shared.setdefault(id(parameter), []).append(name)
    excepted = tuple(_excepted(module))
    decisions: dict[str, bool] = {}
    for names in shared.values():
        parameter = parameters[names[0]]
        never = getattr(parameter, "_no_weight_decay", False) or any(_within(name, excepted) for name in names)
        decays = not never and any(_decays(*_owner(module, name), parameter, embeddings) for name in names)
        decisions |= dict.fromkeys(names, decays)
    return decisions


def _decays(owner: nn.Module, layer: str, own: str, parameter: Tensor, embeddings: bool) -> bool:
    """Whether a parameter is a weight, or where it is a table, whether those decay.

    owner: the layer; layer: its name in the one above it; own: the parameter's name in the layer.
    """
    kind, words = type(owner).__name__, re.split(r"[._]", own.lower())
    if not tree.is_weight(own) or _names_a_bias(own):
        return False
    if isinstance(owner, _MULTIPLY) and "weight" in own:
        return True
    if isinstance(owner, _NORMALISE) or _NORMALISE_BY_NAME.search(kind):
        return False
    if isinstance(owner, _LOOK_UP):
        return embeddings and not _names_a_bias(layer)
    # Of another module's own kind.
    vector = sum(length > 1 for length in parameter.shape) < 2
    for_every_input = parameter.ndim > 2 and parameter.shape[0] == 1
    if vector or for_every_input or not _ADDED.isdisjoint(words) or not _SCALES.isdisjoint(words):
        return False
    return embeddings if _LOOK_UP_BY_NAME.search(kind) else True


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str, str]:
    """The layer whose parameter this is, its name and the parameter's, beneath parametrizations and lists."""
    path = ["", *name.split(".")]
    own = path.pop()
    if len(path) > 2 and path[-2] == "parametrizations" and own.startswith("original"):
        own = path.pop()
        path.pop()
    owner = module.get_submodule(".".join(path[1:]))
    if isinstance(owner, nn.ParameterList | nn.ParameterDict):
        own = f"{path[-1]}_{own}"
    return owner, path[-1], own


def _names_a_bias(name: str) -> bool:
    return any(word.startswith("bias") for word in re.split(r"[._]", name.lower()))


def _excepted(module: nn.Module) -> Iterator[str]:
    """The names of parameters or layers that a model says do not decay, or patterns of such names."""
    for prefix, layer in module.named_modules():
        said = getattr(layer, "no_weight_decay", None)
        if callable(said):
            for name in cast(Iterable[str], said()):
                yield f"{prefix}.{name}" if prefix else name


def _within(name: str, parts: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, part) or name.startswith(f"{part}.") for part in parts)


def _module_of(model: Any) -> nn.Module:
    if isinstance(model, nn.Module):
        return model
    apply = getattr(model, "apply", None)
    if isinstance(apply, Apply):
        return apply.source
    if isinstance(model, tuple) or not callable(model) or _checks.not_torchs(model):
        allowed = "one from fr.from_module, an nn.Module or a function that makes one"
        _checks.fail("model", _checks.describe(model), allowed, _checks.not_torchs(model))
    return made(model)
