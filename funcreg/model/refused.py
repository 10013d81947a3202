"""What a module holds beside its tensors, and which cannot be run without its own data."""

import copy
import functools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from .. import _checks
from .contents import contents

OWN = ("_parameters", "_buffers", "_modules")
ATOMS = frozenset((type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device))  # hold nothing
_CONTAINERS = frozenset((dict, OrderedDict, list, tuple, set, frozenset))


def label(name: str, layer: nn.Module) -> str:
    """A layer as messages call it: its dotted name and its type.

    >>> label("head", nn.Linear(1, 1))
    'head (Linear)'
    """
    return f"{name or 'the module'} ({type(layer).__name__})"


def held(value: Any, depth: int = 4) -> Iterator[Any]:
    """What containers hold, some levels deep; not what modules and other objects do.

    >>> list(held([1, (2,)]))
    [1, (2,), 2]
    """
    if depth == 0:
        return
    is_partial = isinstance(value, functools.partial)
    for part in (value.func, *value.args, *value.keywords.values()) if is_partial else contents(value):
        yield part
        yield from held(part, depth - 1)


def telling(layer: nn.Module) -> list[tuple[str, Any]]:
    """The attributes of a layer that may hold something: all but numbers, words and what is empty.

    >>> [name for name, _ in telling(nn.ReLU())]
    []
    """
    return [(name, value) for name, value in vars(layer).items() if type(value) not in ATOMS and not is_empty(value)]


def is_empty(value: Any) -> bool:
    """Whether a value is a container of Python's with nothing in it.

    >>> is_empty([]), is_empty([0]), is_empty(0)
    (True, False, False)
    """
    return type(value) in _CONTAINERS and not value


def masked(layer: nn.Module) -> set[str]:
    """The attributes that torch's pruning computes before each forward.

    >>> from torch.nn.utils import prune
    >>> masked(prune.l1_unstructured(nn.Linear(2, 2), "weight", 0.5))
    {'weight'}
    """
    hooks = layer._forward_pre_hooks.values()
    return {hook._tensor_name for hook in hooks if isinstance(hook, BasePruningMethod)}


def refuse_what_needs_data(module: nn.Module) -> None:
    """Refuse a module that a copy without data would not be like, by the layer's name.

    >>> refuse_what_needs_data(nn.Linear(1, 1))
    """
    places = {id(part) for part in (*module.modules(), *module.parameters(), *module.buffers())}
    for name, layer in module.named_modules():
        where = label(name, layer)
        for hook in layer._forward_pre_hooks.values():
            if type(hook).__name__ in ("SpectralNorm", "WeightNorm"):
                _checks.fail(
                    "module",
                    f"{where} with the old {type(hook).__name__} hook, which writes into its buffers",
                    "torch.nn.utils.parametrizations",
                    "Use torch.nn.utils.parametrizations.spectral_norm or weight_norm.",
                )
        if isinstance(layer, torch.jit.ScriptModule) and any(True for _ in (*layer.parameters(), *layer.buffers())):
            remedy = "Give the layer as it was before torch.jit.script."
            _checks.fail("module", f"{where}, a TorchScript program with values of its own", "Python code", remedy)
        for own, parameter in layer._parameters.items():
            if parameter is not None and (parameter._backward_hooks or parameter._post_accumulate_grad_hooks):
                got = f"{where}, whose parameter {own!r} has a hook on its gradient"
                remedy = "Change the gradients where they are taken: a transform before the optimizer's."
                _checks.fail("module", got, "parameters without hooks", remedy)
        if isinstance(layer, nn.RNNBase):
            continue  # it keeps its parameters in a list as well, but its pure forward takes them by name
        apart = {*OWN, *masked(layer)}
        for attribute, value in telling(layer):
            if attribute in apart:
                continue
            if any(isinstance(each, nn.Parameter) for each in held(value)):
                _checks.fail(
                    "module",
                    f"{where}, whose attribute {attribute!r} keeps parameters where they cannot be replaced",
                    "parameters that are attributes",
                    "Use nn.ParameterList or nn.ParameterDict.",
                )
            if any(isinstance(each, Tensor) and each.grad_fn is not None for each in (value, *held(value))):
                _checks.fail(
                    "module",
                    f"{where}, whose attribute {attribute!r} was computed from parameters",
                    "values computed in forward",
                    "Compute it in forward, register it as a parameter or buffer, or clear what a call has left there.",
                )
            if isinstance(value, dict) and any(isinstance(key, Tensor) or key in places for key in value):
                got = f"{where}, whose attribute {attribute!r} has tensors, or the id of a part, as keys"
                _checks.fail("module", got, "a dict by names", "Of a copy they are others: use names as keys.")
        if type(layer).train is not nn.Module.train:
            _refuse_train_that_changes_values(where, layer)


def _refuse_train_that_changes_values(where: str, layer: nn.Module) -> None:
    """A train() of its own may set flags; one that merges weights would work on copies without data."""
    tried = copy.deepcopy(layer)
    before = {name: tensor.detach().clone() for name, tensor in tried.state_dict(keep_vars=True).items()}
    for mode in (not layer.training, layer.training):
        tried.train(mode)
        for name, tensor in tried.state_dict(keep_vars=True).items():
            if name not in before or not torch.equal(tensor, before[name]):
                remedy = "Keep its weights unmerged, or merge them for good before."
                _checks.fail("module", f"{where}, whose train() changes {name!r}", "one that sets flags", remedy)
