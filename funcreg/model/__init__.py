"""An `nn.Module` as a pair of pure functions: `Model(init, apply)`.

    registry.py       which layers are replaced by pure ones: `register_layer`
    layers.py         dropout, batch and instance norm, spectral norm, stochastic depth
    attention.py      multi-head attention, written out
    recurrent.py      RNN, LSTM, GRU
    keyed/            the mode of torch that takes every draw in a forward from the call's key
    contents.py       what containers hold
    refused.py        what a module may not hold
    prototype.py      the module without its data, its code looking at the copy
    modes.py          whether noise is on, whether this is training
    masks.py          those of small dropout layers, drawn together
    attributes.py     what layers hold beside tensors: the same before and after a call
    handed.py         what a call gives a forward that may write into it
    slots.py          where a module keeps its tensors: what a call lends and takes back
    moving.py         batch statistics in eager training: on copies, by torch's own kernels
    skeleton.py       one copy of that a mode, its layers replaced or run in modes of torch
    copies.py         the copies of a thread, and those of programs
    rehearsal/        the first call of a kind, on copies: who draws, who is not pure
    standing.py       stand-ins for functions of torch's
    branching.py      torch.cond, by the branch that it takes
    checkpointing.py  activation checkpointing, which a pure call goes without
    arguments.py      what a call may be given
    lending.py        the keys, rates and momentum that it lends
    writing.py        whether the code of layers may write into what they keep
    protected.py      what a call may write into, lent as copies
    members.py        what a forward makes and writes into, under vmap
    traced.py         calls in a program that is being traced
    explained.py      what a transform could not do, by the layer's name
    planning.py       what is known of the calls of a kind
    building.py       a module's values, and a module from the function that makes it
    apply.py          the call
    decay.py          which parameters decay

Noise is on exactly when a key is given; batch statistics are used and updated exactly when
`train=True`. So Monte Carlo dropout on a network with batch norm is right by construction.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import _checks, random, tree
from ..random.keys import of_members
from ..tree.checks import check_values
from . import attention, layers, recurrent  # noqa: F401  (importing them fills the registry)
from .apply import Apply
from .arguments import check_all_names, check_value
from .building import Init, Params, State, check_module, made, no_function, variables
from .decay import decay_mask
from .lending import Rates
from .prototype import copied
from .registry import Draw, momentum_of, register_layer
from .rehearsal import Impurity

__all__ = [
    "Apply",
    "Draw",
    "Impurity",
    "Model",
    "Params",
    "Rates",
    "State",
    "check",
    "decay_mask",
    "from_module",
    "model_members",
    "momentum_of",
    "register_layer",
    "to_module",
    "variables",
]


class Model(NamedTuple):
    """A network as two pure functions.

    `init(key) -> (params, state)` runs the module's own initialisation under a generator seeded
    from the key; the global one is left as it was. Another thread must not draw from it meanwhile.

    `apply(params, state, *args, key=None, train=False, rates=None, momentum=None, method=None,
    frozen=(), kwargs=None, **named) -> (output, state)` runs its forward on *args and **named.

    - params, state: flat dicts by dotted name: the parameters that are trained, and what is not: buffers, and
      parameters that ask for no gradient (`requires_grad_(False)`). Move an entry from one to the other, and that
      parameter is trained, or no longer; buffers stay in the state. Neither is changed; the state that is returned
      holds what the layers assigned or wrote into it.
    - key: int64 (2,) turns the noise on (a training step, or a Monte Carlo draw); None, off. Every draw in
      the forward comes from it, in whatever way the layer draws; what has no off needs one.
    - train: use and update batch statistics; False uses the running ones.
    - rates: in place of the layers' own noise rates: one for all, noise that the forward calls
      as a function too, or a dict by the layer's name. Numbers or tensors, batched under vmap. A rate
      that would do nothing is refused.
    - momentum: in [0, 1], in place of the layers' own momentum of running statistics (1 takes the
      batch's, 0 leaves them); a number or a tensor, batched under vmap. Only with train=True.
    - method: the name of another method of the module to call.
    - frozen: names of submodules that evaluate while the rest trains: their batch norm neither uses nor
      moves batch statistics, and they have no noise.
    - kwargs: arguments of the forward whose names are taken above, as a dict.

    Arguments are left as they were: a forward that fills a list or a cache fills a copy, which it is to return.

    The first call of a kind (a mode, a method, a structure of arguments) is rehearsed on copies: which
    layers draw, and whether the forward is pure. What is not is refused by the layer's name. Attributes that a
    forward sets are put back; state that the next call uses is to be in buffers.
    Calls may run in several threads at once; each thread has first calls of its own. A model can be pickled where its
    function, or the module that it was made from, can be: a class or a function of a file can, a lambda cannot.
    """

    init: Callable[[Tensor], tuple[Params, State]]
    apply: Apply


def from_module(module: nn.Module | Callable[[], nn.Module], *, rnn: str = "native") -> Model:
    """Turn a module, or a function that makes one, into a `Model` of pure functions.

    The module's code is kept and its layers that draw or that write into buffers are replaced by
    pure ones (`register_layer` adds yours). Nothing of the module is changed or copied but its
    structure; its own values come from `variables`.

    Args:
        module: an nn.Module, or a function () -> nn.Module; only the second gives `init`.
        rnn: "native" runs recurrent layers by torch's kernels, which have no vmap rule;
            "unrolled" as a loop over time, slower but under every transform.

    Returns:
        `Model(init, apply)`.

    Raises:
        FuncregError: for what is not a module, or one that cannot be run without its own data
            (the message names the layer and the remedy).

    >>> import funcreg as fr
    >>> model = from_module(lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)))
    >>> params, state = model.init(fr.random.key(0))
    >>> logits, state = model.apply(params, state, torch.ones(3, 4), key=fr.random.key(1), train=True)
    >>> logits.shape
    torch.Size([3, 2])
    """
    _checks.check_choice("rnn", rnn, ("native", "unrolled"))
    if isinstance(module, nn.Module):
        check_module(module)
        return Model(no_function, Apply(module, rnn=rnn))
    apply = Apply(made(module), rnn=rnn, factory=module)
    return Model(Init(module, apply), apply)


def to_module(module: nn.Module | Callable[[], nn.Module], params: Params, state: State) -> nn.Module:
    """An ordinary module with these values, for deployment: a copy, in evaluation mode.

    Args:
        module: the module, or the function that makes it, that `from_module` was given.
        params, state: as `model.init` returns them; copied.

    Returns:
        A new nn.Module that shares nothing with its arguments.

    Raises:
        FuncregError: when names or shapes do not fit.

    >>> params, state = variables(nn.Linear(2, 1))
    >>> module = to_module(nn.Linear(2, 1), params, state)
    >>> torch.equal(module.weight, params["weight"])
    True
    """
    filled = copied(module) if isinstance(module, nn.Module) else made(module)
    parameters, buffers = dict(filled.named_parameters()), dict(filled.named_buffers())
    check_all_names(params, state, parameters.keys(), buffers.keys())
    own, given = {**parameters, **buffers}, {**params, **state}
    with torch.no_grad():
        for name, tensor in own.items():
            check_value(name, given[name], tensor.shape, tensor.dtype)
            if given[name].is_meta:
                _checks.fail(name, "one on meta", "a tensor with values")
            tensor.data = given[name].detach().clone()
    return filled.eval()


def model_members(model: Model, key: Tensor, members: int) -> tuple[Params, State]:
    """K networks, each with its own initialisation: every leaf has a leading axis of length K.

    Args:
        model: made from a function, so that it has `init`.
        key: int64 (2,), member i starting from `split(key, members)[i]`; or a key each, (members, 2), equal
            ones giving equal networks: `fr.sweep.paired_keys`.
        members: K, at least 1.

    Returns:
        (params, state), stacked.

    Raises:
        FuncregError: when model is not one made from a function, or members below 1.

    >>> import funcreg as fr
    >>> params, _ = model_members(from_module(lambda: nn.Linear(3, 2)), fr.random.key(0), 5)
    >>> params["weight"].shape
    torch.Size([5, 2, 3])
    """
    check_model(model)
    _checks.check_count("members", members)
    keys = of_members(key, members)
    made_once = {tuple(each.tolist()): each for each in keys}
    networks = {name: model.init(each) for name, each in made_once.items()}
    return tree.stack([networks[tuple(each.tolist())] for each in keys])


def check(
    model: Model, *args: Any, params: Params | None = None, state: State | None = None, **kwargs: Any
) -> tuple[Impurity, ...]:
    """Run a model once in training and once in Monte Carlo mode, and report what was not pure.

    Args:
        model: from `from_module`.
        *args, **kwargs: example inputs of its forward.
        params, state: the values to run it with, both or neither. Default: `model.init`'s, or small ones if
            it has none.

    Returns:
        One `Impurity(layer, did, operator)` for each; none when the model is pure.

    Raises:
        FuncregError: when model is not from `from_module`, or params and state do not fit it.

    >>> class Clipped(nn.Linear):
    ...     def forward(self, x):
    ...         self.weight.data.clamp_(-0.1, 0.1)
    ...         return super().forward(x)
    >>> print(*check(from_module(lambda: Clipped(2, 1)), torch.zeros(1, 2)))
    the module (Clipped) writes into weight in place (aten.clamp_.default)
    """
    check_model(model)
    if not isinstance(model.apply, Apply):
        _checks.fail("model", "a Model with another apply", "one from fr.from_module, whose layers can be watched")
    values: Any = _example_values(model) if params is None and state is None else (params, state)
    for argument, given in (("params", values[0]), ("state", values[1]), ("args", args), ("kwargs", kwargs)):
        check_values(argument, given)
    found: dict[Impurity, None] = {}
    for train in (True, False):
        for each in model.apply.inspect(*values, *args, key=random.key(0), train=train, **kwargs):
            found[each] = None
    return tuple(found)


def _example_values(model: Model) -> tuple[Params, State]:
    if model.init is not no_function:
        return model.init(random.key(0))
    assert isinstance(model.apply, Apply)
    values, trained = model.apply.example({}), model.apply.signature.trained
    return (
        {name: tensor for name, tensor in values.items() if name in trained},
        {name: tensor for name, tensor in values.items() if name not in trained},
    )


def check_model(model: Any) -> None:
    """Refuse what is no Model.

    >>> check_model(from_module(nn.ReLU()))
    """
    if not isinstance(model, Model) or not (callable(model.init) and callable(model.apply)):
        _checks.fail("model", _checks.describe(model), "a Model", "Make one: fr.from_module(module).")
