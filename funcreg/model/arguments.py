"""The arguments of `apply`, checked against the module: names, shapes, and what a call of its kind can take."""

import inspect
from collections import Counter
from collections.abc import Collection, Mapping, Set
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks
from .contents import contents
from .lending import Rates
from .modes import within
from .refused import held
from .rehearsal import Plan

Kinds = Mapping[str, tuple[torch.Size, torch.dtype]]


class Signature:
    """What the calls of a module may be given.

    parameters, buffers: their names; trained: those of the parameters that ask for gradients; kinds: the shape and
    dtype of each. noise: the registered noise layers with their own rates; trains: the layers that training switches
    on. layers: all names. methods: of its class. arguments: the names of its forward's own.
    """

    def __init__(
        self,
        module: nn.Module,
        source: nn.Module,
        noise: Mapping[str, float],
        trains: Set[str],
        layers: Set[str],
    ) -> None:
        both = (*source.named_parameters(remove_duplicate=False), *source.named_buffers(remove_duplicate=False))
        self.parameters = frozenset(name for name, _ in module.named_parameters())
        self.buffers = frozenset(name for name, _ in module.named_buffers())
        self.kinds: Kinds = {name: (tensor.shape, tensor.dtype) for name, tensor in both}
        params, state = divided(module)
        self.trained = frozenset(params)
        self.usual_kinds = _in_order(params), _in_order(state)
        self.noise, self.trains, self.layers = noise, trains, layers
        self.type = type(source).__name__
        self.methods = _methods(type(source))
        self.arguments = _own_names(source)

    def check(
        self, params: Any, state: Any, key: Any, train: Any, rates: Any, method: Any, frozen: Any, compiling: bool
    ) -> None:
        """Refuse what a call cannot be given."""
        of_params, of_state = self.usual_kinds
        usual = not compiling and _fits(params, of_params)
        if not (usual and _fits(state, of_state)):
            self.check_values(params, state)
        if not isinstance(train, bool):
            _checks.fail("train", _checks.describe(train), "True or False", self._own_argument("train"))
        if method is not None and (not isinstance(method, str) or method not in self.methods):
            allowed = f"the name of a method of {self.type}"
            _checks.fail("method", repr(method), allowed, self._own_argument("method"))
        if type(frozen) is not tuple or frozen:
            self._check_frozen(frozen)
        if key is not None:
            if "key" in self.arguments and not (isinstance(key, Tensor) and key.shape == (2,)):
                _checks.fail("key", _checks.describe(key), "a key of fr.random", self._own_argument("key"))
            _checks.check_key(key)
        elif train and any(self.noise.values()):
            noisy = ", ".join(
                n for n, rate in self.noise.items() if rate and n in self.trains and not within(n, frozen)
            )
            if noisy:
                allowed = f"a key, since train=True and these layers draw: {noisy}"
                _checks.fail("key", None, allowed, "Pass key=fr.random.key(seed).")
        if rates is not None:
            self._check_rates(rates, key)

    def check_values(self, params: Any, state: Any) -> None:
        """Refuse parameters and buffers that are not the module's: by name, shape and kind."""
        check_all_names(params, state, self.parameters, self.buffers)
        for argument, given in (("params", params), ("state", state)):
            for name, tensor in given.items():
                check_value(f"{argument}[{name!r}]", tensor, *self.kinds[name])

    def _own_argument(self, name: str) -> str:
        """What to do about an argument of the forward's that has a name of ours."""
        if name not in self.arguments:
            return ""
        return f"The forward's own argument {name!r} goes into kwargs: kwargs={{{name!r}: value}}."

    def _check_frozen(self, frozen: Any) -> None:
        named = isinstance(frozen, Collection) and not isinstance(frozen, str)
        if not named or not all(isinstance(name, str) for name in frozen):
            _checks.fail("frozen", _checks.describe(frozen), "names of submodules, such as ('backbone',)")
        for name in frozen:
            if name not in self.layers:
                known = ", ".join(repr(layer) for layer in sorted(self.layers) if layer)
                _checks.fail("frozen", repr(name), f"names of submodules: {known[:400] or 'there are none'}")

    def _check_rates(self, rates: Any, key: Any) -> None:
        if key is None:
            _checks.fail(
                "rates", "rates without a key", "a key beside them", "Noise is on exactly when a key is given."
            )
        named = rates.items() if isinstance(rates, Mapping) else [("", rates)]
        for name, rate in named:
            if isinstance(rates, Mapping) and name not in self.layers:
                known = ", ".join(repr(layer) for layer in self.noise) or "none"
                _checks.fail("rates", f"a rate for {name!r}", f"names of noise layers: {known}")
            _checks.check_number(f"rates[{name!r}]" if name else "rates", rate, low=0.0)

    def check_reached(self, rates: Rates, plan: Plan) -> None:
        """Refuse a rate that does nothing."""
        known = ", ".join(repr(name) for name in sorted(plan.rateable)) or "none"
        if isinstance(rates, Mapping):
            for name in rates:
                if name not in plan.rateable:
                    allowed = f"names of layers whose noise has a rate in this call: {known}"
                    _checks.fail("rates", f"a rate for {name!r}", allowed)
        elif not plan.rateable:
            _checks.fail("rates", _checks.describe(rates), "None, since nothing in this call has a rate")


def divided(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A module's own tensors: the parameters that ask for gradients; its buffers and the other parameters.

    >>> trained, others = divided(nn.BatchNorm1d(2).requires_grad_(False))
    >>> trained, list(others)
    ({}, ['running_mean', 'running_var', 'num_batches_tracked', 'weight', 'bias'])
    """
    parameters = dict(module.named_parameters())
    trained: dict[str, Tensor] = {name: each for name, each in parameters.items() if each.requires_grad}
    frozen = {name: each for name, each in parameters.items() if not each.requires_grad}
    return trained, {**dict(module.named_buffers()), **frozen}


_shape_and_dtype = attrgetter("shape", "dtype")


def _fits(given: Any, kinds: tuple[list[str], list[Any]]) -> bool:
    """Whether these are values as the module's own are: quick, and False where it takes a closer look."""
    names, expected = kinds
    if type(given) is not dict or list(given) != names:
        return False
    if not names:
        return True
    try:
        return list(map(_shape_and_dtype, given.values())) == expected
    except AttributeError:
        return False


def _in_order(tensors: Mapping[str, Tensor]) -> tuple[list[str], list[Any]]:
    return list(tensors), [(tensor.shape, tensor.dtype) for tensor in tensors.values()]


def joined(named: Mapping[str, Any], kwargs: Any) -> dict[str, Any]:
    """Arguments of a forward that a call gives by name, and in a dict.

    >>> joined({"x": 1}, {"key": 2})
    {'x': 1, 'key': 2}
    """
    if not isinstance(kwargs, Mapping):
        _checks.fail("kwargs", _checks.describe(kwargs), "a dict of arguments of the forward by name")
    for name in kwargs.keys() & named.keys():
        _checks.fail("kwargs", f"{name!r}, which the call gives by its name too", "each argument once")
    return {**named, **kwargs}


def check_all_names(params: Any, state: Any, parameters: Set[str], buffers: Set[str]) -> None:
    """Refuse what are not all of a module's entries: buffers are in the state, a parameter is in one of the two.

    >>> check_all_names({"weight": torch.zeros(1)}, {"bias": torch.zeros(1)}, {"weight", "bias"}, set())
    """
    frozen = parameters & state.keys() if isinstance(state, dict) else set()
    twice = sorted(frozen & params.keys()) if isinstance(params, dict) else []
    if twice:
        _checks.fail("state", f"{', '.join(map(repr, twice[:8]))}, which params has too", "each parameter once")
    _check_names("params", params, parameters - frozen)
    _check_names("state", state, buffers | frozen)


def _check_names(argument: str, given: Any, expected: Set[str]) -> None:
    """Refuse what is not a dict with exactly these entries."""
    if not isinstance(given, dict):
        _checks.fail(argument, _checks.describe(given), "a flat dict of tensors, as model.init returns")
    if given.keys() == expected:
        return
    missing = sorted(expected - given.keys())
    unknown = sorted(given.keys() - expected)
    told = [
        f"{what} {', '.join(map(repr, names[:8]))}{' ...' if len(names) > 8 else ''}"
        for what, names in (("missing", missing), ("unknown", unknown))
        if names
    ]
    _checks.fail(argument, f"entries that do not fit the module ({'; '.join(told)})", "the entries of model.init")


def check_value(argument: str, tensor: Any, shape: torch.Size, dtype: torch.dtype) -> None:
    """Refuse what is not a tensor of a shape, or has numbers of another kind: another precision is none.

    >>> check_value("weight", torch.zeros(1, dtype=torch.float64), torch.Size((1,)), torch.float32)
    """
    if isinstance(tensor, Tensor) and tensor.dtype is dtype and tensor.shape == shape:
        return
    if not isinstance(tensor, Tensor):
        _checks.fail(argument, _checks.describe(tensor), f"a tensor of shape {tuple(shape)}")
    if tensor.shape != shape:
        remedy = "Members' stacked values go through torch.func.vmap." if tensor.ndim > len(shape) else ""
        _checks.fail(argument, _checks.describe(tensor), f"a tensor of shape {tuple(shape)}", remedy)
    if _kind(tensor.dtype) != _kind(dtype):
        _checks.fail(argument, _checks.describe(tensor), f"a tensor of {_kind(dtype)} numbers")


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_floating_point:
        return "floating-point"
    return "complex" if dtype.is_complex else "boolean" if dtype == torch.bool else "integer"


def _methods(kind: type[nn.Module]) -> frozenset[str]:
    """The methods of a class of modules that nn.Module does not have, and forward."""
    names = {"forward"} | (set(dir(kind)) - set(dir(nn.Module)))
    return frozenset(name for name in names if inspect.isfunction(inspect.getattr_static(kind, name)))


def _own_names(module: nn.Module) -> frozenset[str]:
    """The names of the forward's arguments."""
    try:
        return frozenset(inspect.signature(module.forward).parameters)
    except (TypeError, ValueError):
        return frozenset()


def kind_of(arguments: Any) -> Any:
    """What of arguments may decide what a forward does, short of numbers: a value that a dict can look up."""
    kind = type(arguments)
    if kind is tuple or kind is list:
        return (kind, *[kind_of(each) for each in arguments])
    if kind is dict:
        return tuple([(name, kind_of(each)) for name, each in arguments.items()])
    return arguments if kind is bool or kind is str or arguments is None else kind


def sizes_of(arguments: Any) -> Any:
    """The shapes and numbers among arguments, which may decide what a forward does too.

    >>> sizes_of((torch.zeros(2), {"ratio": 0.5}))
    (torch.Size([2]), (0.5,))
    """
    if isinstance(arguments, Tensor):
        return arguments.shape
    if isinstance(arguments, tuple | list | dict):
        return tuple([sizes_of(each) for each in contents(arguments)])
    return arguments if isinstance(arguments, int | float) else None


def persistent(module: nn.Module) -> dict[str, bool]:
    """For each buffer, whether it is part of the module's state dict."""
    return {
        f"{prefix}.{name}" if prefix else name: name not in layer._non_persistent_buffers_set
        for prefix, layer in module.named_modules()
        for name, buffer in layer._buffers.items()
        if buffer is not None
    }


def writable(module: nn.Module) -> frozenset[str]:
    """What a forward may write into, since it comes back in the state: buffers, and parameters without gradients.

    But for what shares its memory with another tensor of the module: copies would not.

    >>> sorted(writable(nn.BatchNorm1d(2)))
    ['num_batches_tracked', 'running_mean', 'running_var']
    """
    kept = (each for layer in module.modules() for each in held(vars(layer)))
    tensors = {id(each): each for each in kept if isinstance(each, Tensor)}
    sharing = Counter(map(_memory, tensors.values()))
    return frozenset(name for name, each in divided(module)[1].items() if sharing[_memory(each)] == 1)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else id(tensor)


def ties(module: nn.Module, names: Set[str]) -> dict[str, str]:
    """For each further name of a parameter or buffer, the one among `names`."""
    both = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    own = {id(tensor): name for name, tensor in both if name in names}
    return {name: own[id(tensor)] for name, tensor in both if name not in names}
