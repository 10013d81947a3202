"""A call of a function, others like it, and all of them stacked: what every rule is tried on."""

import functools
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple, TypeGuard

import optree
import torch
from torch import Tensor
from torch.func import vmap

from .. import _checks, random
from .trees import fresh, named_leaves

MEMBERS = 3
Settings = Mapping[str, Sequence[float]] | Collection[str]


class Example(NamedTuple):
    """A call of a function, as leaves and their names; `settings`: place of a leaf -> its value for each member."""

    function: Callable[..., Any]
    names: tuple[str, ...]
    leaves: tuple[Any, ...]
    places: Any  # (args, kwargs) with the place of each leaf in its stead
    settings: Mapping[int, tuple[float, ...]]
    members: int
    keyed: int | None  # the place of the key

    @property
    def base(self) -> int:
        """The member that is the call itself."""
        return self.members // 2

    @property
    def tensors(self) -> list[int]:
        """The places of what `vmap` can batch."""
        return [place for place, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor) or place in self.settings]

    @property
    def floating(self) -> list[int]:
        """The places of floating-point tensors that are no settings."""
        places = enumerate(self.leaves)
        return [place for place, leaf in places if is_floating(leaf) and place not in self.settings]

    def member(self, member: int, dtype: torch.dtype | None = None) -> list[Any]:
        """Leaves like the call's: floating-point ones a little smaller, settings as tensors, a key of its own."""
        leaves = []
        for place, leaf in enumerate(self.leaves):
            if place in self.settings:
                device = next((each.device for each in self.leaves if isinstance(each, Tensor)), None)
                leaf = torch.tensor(self.settings[place][member], dtype=torch.float64, device=device)
            elif place == self.keyed and member != self.base:
                leaf = random.fold_in(leaf, member)
            elif is_floating(leaf):
                leaf = _varied(leaf.detach(), (member - self.base) % self.members)
                leaf = leaf if dtype is None else leaf.to(dtype)
            leaves.append(leaf)
        return leaves

    def call(self, leaves: Sequence[Any]) -> Any:
        """The function's result for these leaves."""
        args, kwargs = self.arguments(leaves)
        return self.function(*args, **kwargs)

    def arguments(self, leaves: Sequence[Any]) -> Any:
        """Leaves as positional and keyword arguments, in new containers."""
        return optree.tree_map(lambda place: leaves[place], self.places)

    def stacked(self, places: Sequence[int] | None = None) -> list[Tensor]:
        """What `over` takes: all members' tensors with a leading axis."""
        each = [self.member(member) for member in range(self.members)]
        return [torch.stack([leaves[place] for leaves in each]) for place in self._batched(places)]

    def over(self, places: Sequence[int] | None = None, chunk_size: int | None = None) -> Callable[[list[Tensor]], Any]:
        """The function under `vmap` over the leaves at these places; over all tensors by default."""
        chosen, shared = self._batched(places), self.member(self.base)

        def call(batched: list[Tensor]) -> Any:
            return self.call(replaced(shared, chosen, batched))

        return vmap(call, chunk_size=chunk_size)

    def untuned(self) -> "Example":
        """The same call, whose settings nobody varies: Python numbers, or tensors where numbers are refused."""
        try:
            self.call(fresh(self.leaves))
        except Exception:
            return self._replace(settings={}, leaves=tuple(self.member(self.base)))
        return self._replace(settings={})

    def _batched(self, places: Sequence[int] | None) -> Sequence[int]:
        return self.tensors if places is None else places


def example(
    function: Callable[..., Any], *args: Any, key: Tensor | None = None, batched: Settings = (), **kwargs: Any
) -> Example:
    """A call of a function as data, for `check_compiled` and for tests of your own.

    Args:
        function: any function.
        *args, key, **kwargs: what it is called with; without a key it gets none.
        batched: names of its arguments that tune it and that may be tensors: with values, which replace
            or add to those of the call, {"rate": (0.0, 0.3, 1.0)}; or without, {"rate"}.

    Returns:
        An `Example`: `call(member(i))` for i below `members` are calls like it; `over()(stacked())` is all at once.

    Raises:
        FuncregError: when function cannot be called, for a setting that it has not, or values of several lengths.

    >>> scaled = example(lambda x, factor: x * factor, torch.ones(2), batched={"factor": (0.0, 1.0, 2.0)})
    >>> scaled.call(scaled.member(2))
    tensor([1.8750, 1.8750])
    """
    _checks.check_callable("function", function, "a function of trees of tensors")
    parameters = _parameters(function)
    values, members = _values(batched, dict(zip(parameters, args, strict=False)) | kwargs)
    check_settings(function, [name for name in values if name not in parameters[: len(args)]])
    if key is not None and "key" in values:
        _checks.fail("batched", "'key'", "names of other arguments, since a key is given")
    for name in values:
        if name in parameters[: len(args)]:
            at = parameters.index(name)
            args = (*args[:at], _Setting(name), *args[at + 1 :])
        else:
            kwargs[name] = _Setting(name)
    if key is not None:
        _checks.check_key(key)
        kwargs["key"] = key
    leaves, structure = optree.tree_flatten((args, kwargs))  # pyright: ignore[reportArgumentType]
    positional = [parameters[at] if at < len(parameters) else f"args[{at}]" for at in range(len(args))]
    names = [name for at, arg in enumerate(args) for name, _ in named_leaves(arg, positional[at])]
    names += [name for word in sorted(kwargs) for name, _ in named_leaves(kwargs[word], word)]
    settings = {place: values[leaf] for place, leaf in enumerate(leaves) if isinstance(leaf, _Setting)}
    middle = members // 2
    leaves = [settings[place][middle] if place in settings else leaf for place, leaf in enumerate(leaves)]
    keyed = names.index("key") if key is not None else None
    places = structure.unflatten(range(len(leaves)))
    return Example(function, tuple(names), tuple(leaves), places, settings, members, keyed)


def check_settings(function: Callable[..., Any], names: Collection[str]) -> None:
    """Refuse names that none of its arguments can be given by; of one that is written in C nothing is known."""
    try:
        outer, inner = (inspect.signature(function, follow_wrapped=follow) for follow in (False, True))
    except (TypeError, ValueError):
        return
    # What a wrapper takes without a name it hands on.
    parameters = [*outer.parameters.values(), *inner.parameters.values()]
    known = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    if any(each.kind == each.VAR_KEYWORD for each in inner.parameters.values()):
        return
    for name in names:
        if name not in known:
            allowed = f"names of arguments of {title(function)}: {', '.join(sorted(known))}"
            _checks.fail("batched", repr(name), allowed)


def replaced(leaves: Sequence[Any], places: Sequence[int], by: Sequence[Any]) -> list[Any]:
    """A copy of some leaves with others at these places.

    >>> replaced([1, 2, 3], [0, 2], "ab")
    ['a', 2, 'b']
    """
    changed = list(leaves)
    for place, leaf in zip(places, by, strict=True):
        changed[place] = leaf
    return changed


def is_floating(leaf: Any) -> bool:
    """Whether it is a tensor of floating-point numbers.

    >>> is_floating(torch.ones(1)), is_floating(1.0)
    (True, False)
    """
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def title(function: Callable[..., Any]) -> str:
    """What to call a function in a message.

    >>> title(functools.partial(torch.sin))
    'sin'
    """
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


class _Setting(str):
    """A leaf that stands for a setting while the call is flattened."""


def _varied(leaf: Tensor, by: int) -> Tensor:
    """Other numbers of the same kind: none leaves an interval around 0 or changes sign; what sums to 1 still does."""
    if not by or not leaf.numel():
        return leaf.clone()
    if leaf.ndim and bool((leaf >= 0).all()) and _sums_to_one(leaf):
        return (leaf * (1 - by / 8) + by / 8 / leaf.shape[-1]).to(leaf.dtype)
    return leaf * (1 - by / 16)


def _sums_to_one(leaf: Tensor) -> bool:
    sums = leaf.to(torch.float64).sum(dim=-1)
    return bool(((sums - 1).abs() < 1e-2 if leaf.element_size() == 2 else (sums - 1).abs() < 1e-5).all())


def _parameters(function: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # one that is written in C
        return []
    return [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]


def _values(batched: Settings, given: Mapping[str, Any]) -> tuple[dict[str, tuple[float, ...]], int]:
    """The values of each setting, and how many there are."""
    if isinstance(batched, str) or not isinstance(batched, Collection):
        _checks.fail("batched", _checks.describe(batched), "names of arguments, or a dict of names and values")
    values: dict[str, tuple[float, ...]] = {}
    for name in batched:
        if not isinstance(name, str):
            _checks.fail("batched", _checks.describe(name), "names of arguments")
        if isinstance(batched, Mapping):
            values[name] = _numbers(name, batched[name])
            continue
        number = given.get(name)
        if not _is_number(number):
            allowed = "the name of an argument of the call that is a number"
            _checks.fail("batched", f"{name!r}, which is {_checks.describe(number)}", allowed, "Give its values.")
        values[name] = (float(number) / 2, float(number), float(number) * 3 / 4)
    lengths = {len(each) for each in values.values()} or {MEMBERS}
    if len(lengths) > 1 or min(lengths) < 2:
        _checks.fail("batched", f"values of lengths {sorted(lengths)}", "one length of at least 2 for all")
    return values, lengths.pop()


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    several = isinstance(values, Iterable) and not (isinstance(values, Tensor) and values.ndim == 0)
    numbers = list(values) if several else []
    if not several or not all(map(_is_number, numbers)):
        remedy = f"Give one for each member: batched={{{name!r}: (0.0, 0.5, 1.0)}}."
        _checks.fail("batched", f"{_checks.describe(values)} for {name!r}", "numbers", remedy)
    return tuple(map(float, numbers))


def _is_number(value: Any) -> TypeGuard[float | Tensor]:
    """Whether it is a real number, or a tensor of one."""
    if isinstance(value, Tensor):
        return not (value.ndim or value.is_complex() or value.dtype == torch.bool or value.is_meta)
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, Real)
