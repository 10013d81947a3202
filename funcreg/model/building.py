"""A module's own values, and a module from the function that makes it: the global generators are put back."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks, _generators, random, tree
from .._functorch import levels_of_vmap
from .arguments import divided
from .refused import label

Params = dict[str, Tensor]
State = dict[str, Tensor]


def made(factory: Any, seed: int | None = None) -> nn.Module:
    """What a function () -> nn.Module makes, from a seed or from the generators as they are, which stay so.

    >>> import torch
    >>> torch.equal(made(lambda: nn.Linear(2, 1), 3).weight, made(lambda: nn.Linear(2, 1), 3).weight)
    True
    """
    _checks.check_callable("module", factory, "an nn.Module or a function () -> nn.Module")
    if isinstance(factory, type):
        _check_takes_nothing(factory)
    with _generators.left_alone():
        if seed is not None:
            _generators.seed(seed)
        module = factory()
    check_module(module)
    return module


def check_module(module: Any) -> None:
    """Refuse what is not an nn.Module, or has parameters that only its first batch makes.

    >>> check_module(nn.ReLU())
    """
    if not isinstance(module, nn.Module):
        _checks.fail("module", _checks.describe(module), "an nn.Module, or a function that returns one")
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.lazy.LazyModuleMixin) and layer.has_uninitialized_params():  # type: ignore[misc]
            did = f"{label(name, layer)}, whose parameters have no shape yet"
            _checks.fail("module", did, "one that has", "Run a batch first.")


def variables(module: nn.Module) -> tuple[Params, State]:
    """A module's own values, copied: what `model.init` returns, for a network that is already trained.

    Args:
        module: an nn.Module, on any device.

    Returns:
        (params, state): flat dicts by dotted name, tied tensors once. Params are what is trained; a parameter that
        asks for no gradient is in the state, beside the buffers, where neither optimizer nor weight decay gets at it.

    Raises:
        FuncregError: for what is not an nn.Module, or one that makes its parameters from its first batch.

    >>> params, state = variables(nn.BatchNorm1d(2))
    >>> sorted(params), sorted(state)
    (['bias', 'weight'], ['num_batches_tracked', 'running_mean', 'running_var'])
    >>> backbone = nn.Linear(4, 8).requires_grad_(False)
    >>> params, state = variables(nn.Sequential(backbone, nn.Linear(8, 2)))
    >>> sorted(params), sorted(state)
    (['1.bias', '1.weight'], ['0.bias', '0.weight'])
    """
    check_module(module)
    params, state = divided(module)
    return _copied(params), _copied(state)


class Init:
    """The `init` of a model that a function makes."""

    def __init__(self, factory: Callable[[], nn.Module], apply: Any) -> None:
        self.factory, self.apply = factory, apply

    def __call__(self, key: Tensor) -> tuple[Params, State]:
        _checks.check_key(key)
        if levels_of_vmap(key):
            remedy = "Make several with fr.model_members(model, key, K)."
            _checks.fail("key", "a batch of keys under vmap", "one key, as a module is made outside of vmap", remedy)
        seed = int(random.bits(key, 2) @ torch.tensor([1, 2**31], device=key.device))
        self.apply.originals.note(fresh := made(self.factory, seed))
        return tree.to(variables(fresh), key.device)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Init":
        return self  # a function, as others are


def no_function(_: Tensor) -> tuple[Params, State]:
    """The `init` of a model that an instance makes: there is none.

    >>> no_function(random.key(0))
    Traceback (most recent call last):
    ...
    funcreg._checks.FuncregError: model.init: got a model made from an instance; expected one made from a function...
    """
    _checks.fail(
        "model.init",
        "a model made from an instance",
        "one made from a function",
        "Use fr.variables(module) for the instance's own values, or from_module(lambda: ...) for fresh ones.",
    )


def recipe(apply: Any, factory: Callable[[], nn.Module] | None, source: nn.Module, *, rnn: str) -> tuple[Any, ...]:
    """How an `Apply` is pickled: as the function that makes its module, or as the module's prototype.

    >>> import funcreg as fr
    >>> model = fr.from_module(nn.ReLU)
    >>> recipe(model.apply, nn.ReLU, nn.ReLU(), rnn="native")[1][1:]
    (<class 'torch.nn.modules.activation.ReLU'>, 'native')
    """
    kind = type(apply)
    if factory is not None:
        return _of_function, (kind, factory, rnn)
    if {name for name, _ in source.named_parameters()} != apply.signature.parameters:
        got = "one of a module in which a layer keeps another's parameter under a name of its own, to be pickled"
        _checks.fail(
            "model", got, "one that a function makes", "from_module(make), where make is a function of a file."
        )
    return partial(kind, rnn=rnn), (source,)


def _of_function(kind: Any, factory: Callable[[], nn.Module], rnn: str) -> Any:
    return kind(made(factory), rnn=rnn, factory=factory)


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _check_takes_nothing(kind: type) -> None:
    try:
        needs = [
            name
            for name, parameter in inspect.signature(kind).parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
    except ValueError:  # of a class that is written in C
        return
    if needs:
        got = f"the class {kind.__name__}, which needs {', '.join(needs)}"
        _checks.fail("module", got, "a function () -> nn.Module", f"Wrap it: lambda: {kind.__name__}(...).")
