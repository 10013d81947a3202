"""A module without its data: a copy whose parameters and buffers are on the meta device, whose code looks at itself.

`copy.deepcopy` copies modules, containers and bound methods, but takes functions, weak references
and what cannot be copied (locks, open files) as they are. So a lambda that a module keeps in a
list would still use the original's weights. Here such functions are made anew around the copy.
"""

import copy
import copyreg
import functools
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks
from .handed import can_be_copied
from .keyed import LayerGenerator
from .refused import ATOMS, OWN, held, is_empty, label, masked, refuse_what_needs_data, telling

_COPYING = ("__getstate__", "__new__", "__reduce__", "__reduce_ex__", "__setstate__")
_WEAK = (weakref.WeakSet, weakref.WeakKeyDictionary, weakref.WeakValueDictionary)


def prototype(module: nn.Module) -> nn.Module:
    """A copy on the meta device: no data of parameters and buffers is copied, ties are kept.

    Raises:
        FuncregError: for what cannot be run without its own data, by the layer's name.
    """
    refuse_what_needs_data(module)
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = twin = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
        vars(twin).update(vars(parameter))  # such as `_no_weight_decay`
    for buffer in module.buffers():
        memo.setdefault(id(buffer), buffer.detach().to("meta"))
    registered = set(memo)
    memo |= {id(each): each.detach().to("meta") for each in _masked(module)}
    for layer in module.modules():
        for weight in layer._flat_weights if isinstance(layer, nn.RNNBase) else ():
            if isinstance(weight, Tensor):  # computed, where it is parametrized
                memo.setdefault(id(weight), weight.detach().to("meta"))
    copied = _copied(module, memo)
    compiled = {kind: [*_compiled_methods(kind)] for kind in set(map(type, module.modules()))}
    for layer, twin in zip(module.modules(), copied.modules(), strict=True):
        _register_bare_parameters(layer, twin, registered, memo)
        for name, method in compiled[type(layer)]:
            vars(twin).setdefault(name, types.MethodType(method, twin))
    return copied


def duplicate(source: nn.Module) -> nn.Module:
    """A copy of a prototype that shares its tensors, registered or not."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*source.parameters(), *source.buffers())}
    for layer in source.modules():
        for value in held(dict(telling(layer))):
            if isinstance(value, Tensor):
                memo.setdefault(id(value), value)
    return _copied(source, memo)


def copied(module: nn.Module) -> nn.Module:
    """A copy with values of its own, whose code looks at itself: `copy.deepcopy` leaves functions as they are.

    >>> layer = nn.ReLU()
    >>> layer.steps = [lambda own=layer: own]
    >>> copied(layer).steps[0]() is layer, copy.deepcopy(layer).steps[0]() is layer
    (False, True)
    """
    memo: dict[int, Any] = {id(each): copy.deepcopy(each) for each in module.parameters()}
    memo |= {id(each): each.detach().clone() for each in (*module.buffers(), *_masked(module))}
    memo |= {id(each): each.clone_state() for each in _kept(module) if isinstance(each, torch.Generator)}
    return _copied(module, memo)


def _copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """`copy.deepcopy`, by which functions and weak references look at the copy too."""
    originals = {id(layer) for layer in module.modules()} | set(memo)
    functions = _functions_around(module, originals)
    for function in functions:
        memo[id(function)] = _hollow(function)
    _share_what_cannot_be_copied(module, memo)
    copied = _deepcopy(module, memo)
    for function in functions:
        _fill(function, memo)
    for (name, layer), twin in zip(module.named_modules(), copied.modules(), strict=True):
        _rebind_references(name, layer, twin, memo, originals)
        for slot in _slots(layer):
            setattr(twin, slot, copy.deepcopy(getattr(layer, slot), memo))
    return copied


def _deepcopy(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    known = dict(memo)
    try:
        _copy_layers(module, memo)
        return copy.deepcopy(module, memo)
    except Exception as error:
        got = f"{_cannot_be_copied(module, known)} ({error})"
        raise _checks.FuncregError(f"module: got {got}; expected one that copy.deepcopy takes.") from error


def _copy_layers(module: nn.Module, memo: dict[int, Any]) -> None:
    """What `copy.deepcopy` does with layers, in half of its time: most that they hold is a number, or empty."""
    usual = [layer for layer in module.modules() if id(layer) not in memo and _is_copied_as_usual(type(layer))]
    twins = {id(layer): type(layer).__new__(type(layer)) for layer in usual}
    memo.update(twins)
    for layer in reversed(usual):  # inner ones first, which the way that another is copied may look at
        own = vars(twins[id(layer)])
        for attribute, value in vars(layer).items():
            if type(value) in ATOMS:
                own[attribute] = value
            elif is_empty(value):
                own[attribute] = memo.setdefault(id(value), type(value)())
            else:
                own[attribute] = copy.deepcopy(value, memo)


def _is_copied_as_usual(kind: type[nn.Module]) -> bool:
    """Whether a layer of a class is copied as any nn.Module is, attribute by attribute."""
    own = any(getattr(kind, name) is not getattr(nn.Module, name) for name in _COPYING)
    return not (own or hasattr(kind, "__deepcopy__") or kind in copyreg.dispatch_table)


def _cannot_be_copied(module: nn.Module, memo: dict[int, Any]) -> str:
    """Which attribute of which layer it is, in words."""
    inside_first = reversed([*module.named_modules()])
    for name, layer in inside_first:
        try:
            copy.copy(layer)
        except Exception:
            return f"{label(name, layer)}, which cannot be made without its arguments"
        for attribute, value in vars(layer).items():
            try:
                copy.deepcopy(None if attribute == "_modules" else value, dict(memo))
            except Exception:
                return f"{label(name, layer)}, whose attribute {attribute!r} cannot be copied"
    return f"a {type(module).__name__} that cannot be copied"


def _slots(layer: nn.Module) -> list[str]:
    """What a layer keeps by `__slots__`, which nn.Module's own way of being copied leaves behind."""
    named = (vars(kind).get("__slots__", ()) for kind in type(layer).__mro__)
    names = (name for slots in named for name in ((slots,) if isinstance(slots, str) else slots))
    return [name for name in names if name not in ("__dict__", "__weakref__") and hasattr(layer, name)]


def _any(looks: Callable[[Any], bool], values: Iterable[Any]) -> bool:
    """Whether one of them does; each is looked at, since that notes the functions on the way."""
    return sum(looks(value) for value in values) > 0


def _contents(function: types.FunctionType) -> list[Any]:
    """What a function holds beside its code: closed-over values and defaults."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    return [*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  (asking an empty cell raises)
    except ValueError:
        return False
    return True


def _functions_around(module: nn.Module, originals: set[int]) -> list[types.FunctionType]:
    """Functions that some layer keeps and that look at a layer, parameter or buffer of the module."""
    found: dict[int, types.FunctionType] = {}
    seen: set[int] = set()

    def looks(value: Any) -> bool:
        """Whether a value reaches the module; the functions on the way are noted."""
        if id(value) in originals:
            return True
        if isinstance(value, types.MethodType):
            return looks(value.__func__) | looks(value.__self__)
        if isinstance(value, types.FunctionType):
            if id(value) in seen:
                return id(value) in found
            seen.add(id(value))
            if _any(looks, _contents(value)):
                found[id(value)] = value
                return True
            return False
        if isinstance(value, functools.partial | dict | list | tuple | set):
            return _any(looks, held(value, 1))
        return False

    for name, layer in module.named_modules():
        for _, value in telling(layer):
            before = len(found)
            looks(value)
            for function in list(found.values())[before:]:
                _refuse_parameters_in(name, layer, function)
    return list(found.values())


def _refuse_parameters_in(name: str, layer: nn.Module, function: types.FunctionType) -> None:
    if any(isinstance(content, nn.Parameter) for content in _contents(function)):
        got = f"{label(name, layer)}, whose {function.__name__} closes over a parameter"
        _checks.fail("module", got, "a function that looks it up", "Let it read the layer's attribute.")


def _hollow(function: types.FunctionType) -> types.FunctionType:
    """A function of the same code with empty cells, to be filled once there is something to fill them with."""
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    made = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
    made.__dict__.update({k: v for k, v in function.__dict__.items() if k != "__wrapped__"})
    made.__qualname__ = function.__qualname__
    return made


def _fill(function: types.FunctionType, memo: dict[int, Any]) -> None:
    made = memo[id(function)]
    for old, new in zip(function.__closure__ or (), made.__closure__ or (), strict=True):
        if _filled(old):
            new.cell_contents = copy.deepcopy(old.cell_contents, memo)
    made.__defaults__ = copy.deepcopy(function.__defaults__, memo)
    made.__kwdefaults__ = copy.deepcopy(function.__kwdefaults__, memo)


def _share_what_cannot_be_copied(module: nn.Module, memo: dict[int, Any]) -> None:
    """Locks, open files and the like are the same object in every copy."""
    for part in _kept(module):
        if id(part) in memo or isinstance(part, nn.Module | Tensor | types.FunctionType | dict | list | tuple):
            continue
        if isinstance(part, torch.Generator):
            memo[id(part)] = part if isinstance(part, LayerGenerator) else LayerGenerator(part.device)
        elif not can_be_copied(part):
            memo[id(part)] = part


def _compiled_methods(kind: type) -> Iterator[tuple[str, Any]]:
    """The methods of a class that torch.compile has made, as they were before."""
    for name in {name for each in kind.__mro__ for name in vars(each)}:
        before = _before_compiling(getattr(kind, name, None))
        if before is not None:
            yield name, before


def _before_compiling(value: Any) -> Any:
    """The function of which torch.compile has made another; None for anything else."""
    return getattr(value, "_torchdynamo_orig_callable", None) if isinstance(value, types.FunctionType) else None


def _masked(module: nn.Module) -> Iterator[Tensor]:
    """What pruning has computed for layers' last forwards."""
    yield from (vars(layer)[name] for layer in module.modules() for name in masked(layer) if name in vars(layer))


def _kept(module: nn.Module) -> Iterator[Any]:
    """What layers keep beside tensors and layers of their own."""
    for layer in module.modules():
        for attribute, value in telling(layer):
            if attribute not in OWN and not isinstance(value, nn.Module | Tensor):
                yield from (value, *held(value))


def _rebind_references(name: str, layer: nn.Module, twin: nn.Module, memo: dict[int, Any], originals: set[int]) -> None:
    """Let a copy's weak references look at the copy; one in a place where it cannot be replaced is refused."""
    for attribute, value in telling(layer):
        if isinstance(value, weakref.ref) and id(value()) in originals:
            vars(twin)[attribute] = weakref.ref(memo[id(value())])
        elif _before_compiling(value) is not None:
            vars(twin)[attribute] = copy.deepcopy(_before_compiling(value), memo)
        elif isinstance(value, _WEAK):
            vars(twin)[attribute] = _around_copies(value, memo)
        elif isinstance(layer, nn.RNNBase):
            continue  # to its list of weights, which is not used
        elif any(isinstance(part, weakref.ref) and id(part()) in originals for part in held(value)):
            allowed = "one that is an attribute itself"
            _checks.fail("module", f"{label(name, layer)}, whose {attribute!r} holds a weak reference", allowed)


def _around_copies(value: Any, memo: dict[int, Any]) -> Any:
    """A container of weak references, to the copies of what it refers to."""

    def twin(part: Any) -> Any:
        return memo.get(id(part), part)

    if isinstance(value, weakref.WeakSet):
        return type(value)(map(twin, value))
    return type(value)({twin(key): twin(part) for key, part in value.items()})


def _register_bare_parameters(layer: nn.Module, twin: nn.Module, registered: set[int], memo: dict[int, Any]) -> None:
    """Make a registered tensor that a layer keeps as a plain attribute too a further name of it: a tie."""
    for attribute, value in list(vars(layer).items()):
        if id(value) in registered:
            del vars(twin)[attribute]
            own = twin._parameters if isinstance(value, nn.Parameter) else twin._buffers
            own[attribute] = memo[id(value)]
