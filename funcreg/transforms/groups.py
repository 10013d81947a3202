"""Transforms for some of the leaves: other learning rates, decays and whole optimizers by group."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import optree

from .. import _checks, tree
from . import core
from .core import Transform

Label = Callable[[str, Any], str]


def partition(transforms: Mapping[str, Transform], label: Label) -> Transform:
    """Each leaf by the transform of its label, which sees a flat dict {name: leaf} of its own leaves alone.

    So a norm that one of them clips by is its group's, and its state holds nothing of the others. Decay
    and learning rate of each group are its transform's own numbers:

        partition({"backbone": adamw(1e-5), "head": adamw(1e-3)}, lambda name, leaf: name.split(".")[0])

    Args:
        transforms: label -> Transform, at least one; `freeze()` for leaves that stay as they are.
        label: (name, leaf) -> one of the labels.

    Returns:
        A Transform whose state is a dict label -> state.

    Raises:
        FuncregError: for what is not a Transform; from init, for a label that has none, one that no leaf has, or
            two leaves of one name.

    >>> import torch
    >>> from funcreg import optim, transforms
    >>> optimizer = partition({"body": transforms.freeze(), "head": optim.sgd(0.1)}, lambda name, leaf: name[:4])
    >>> params = {"body.weight": torch.ones(1), "head.weight": torch.ones(1)}
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> updates
    {'body.weight': tensor([0.]), 'head.weight': tensor([-0.1000])}
    """
    return grouped(transforms, label)


def masked(transform: Transform, mask: tree.Mask) -> Transform:
    """A transform of some leaves; the gradients of the others go through as they are.

    Args:
        transform: it sees a flat dict {name: leaf} of the leaves that mask picks.
        mask: (name, leaf) -> bool.

    Returns:
        A Transform with the state of the one given.

    Raises:
        FuncregError: for what is not a Transform, or a mask that cannot be called; from init, for a mask that
            picks no leaf.

    >>> import torch
    >>> from funcreg.transforms import scale
    >>> half = masked(scale(0.5), tree.is_weight)
    >>> params = {"weight": torch.ones(1), "bias": torch.ones(1)}
    >>> updates, _ = half.update(params, half.init(params), params)
    >>> updates
    {'weight': tensor([0.5000]), 'bias': tensor([1.])}
    """
    core.check_transform("transform", transform)
    _checks.check_callable("mask", mask, "a function (name, leaf) -> bool, such as fr.tree.is_weight")

    def init(params: tree.Tree) -> Any:
        _named(params)
        return transform.init(dict(tree.select(params, mask)))

    def update(grads: tree.Tree, state: Any, params: tree.Tree) -> tuple[tree.Tree, Any]:
        core.check_given(params)
        given, own, all_of = _named(grads), dict(tree.select(params, mask)), _named(params)
        others = given.keys() - own.keys()
        core.check_alike({name: given[name] for name in others}, {name: all_of[name] for name in others})
        updates, state = transform.update({name: given[name] for name in own}, state, own)
        return tree.map_named(lambda name, leaf: updates.get(name, leaf), grads), state

    return core.transform(init, update, core.check_structure)._replace(rates=transform.rates)


def grouped(transforms: Mapping[str, Transform], label: Label, *, may_be_empty: bool = False) -> Transform:
    """`partition`, some of whose labels no leaf need have: they are not in the state then.

    >>> import torch
    >>> transform = grouped({"all": core.chain(), "none": core.chain()}, lambda *_: "all", may_be_empty=True)
    >>> transform.init(torch.ones(1))
    {'all': ()}
    """
    if not isinstance(transforms, Mapping) or not transforms:
        _checks.fail("transforms", _checks.describe(transforms), "a dict label -> Transform")
    for name, transform in transforms.items():
        core.check_transform(f"transforms[{name!r}]", transform)
    transforms = dict(transforms)
    _checks.check_callable("label", label, "a function (name, leaf) -> one of " + _listed(transforms))

    def labels_of(params: tree.Tree) -> dict[str, str]:
        labels = {name: label(name, leaf) for name, leaf in _named(params).items()}
        for name, own in labels.items():
            if own not in transforms:
                _checks.fail("label", f"{own!r} for the leaf {name!r}", "one of " + _listed(transforms))
        return labels

    def split(labels: dict[str, str], values: tree.Tree) -> dict[str, dict[str, Any]]:
        groups: dict[str, dict[str, Any]] = {own: {} for own in transforms if own in labels.values()}
        for (name, own), leaf in zip(labels.items(), tree.leaves(values), strict=True):
            groups[own][name] = leaf
        return groups

    def init(params: tree.Tree) -> dict[str, Any]:
        labels = labels_of(params)
        groups = split(labels, params)
        unused = [own for own in transforms if own not in groups]
        if unused and not may_be_empty:
            some = _listed(list(labels)[:8])
            _checks.fail("label", f"no leaf with the label {unused[0]!r}", f"one that some have of {some}")
        return {own: transforms[own].init(group) for own, group in groups.items()}

    def update(grads: tree.Tree, state: dict[str, Any], params: tree.Tree) -> tuple[tree.Tree, dict[str, Any]]:
        core.check_given(params)
        labels = labels_of(params)
        given, own = split(labels, grads), split(labels, params)
        if not isinstance(state, dict) or state.keys() != own.keys():
            got = _listed(state) if isinstance(state, dict) else _checks.describe(state)
            _checks.fail("state", got, _listed(own), "It must come from the init of the same partition.")
        updates: dict[str, Any] = {}
        states: dict[str, Any] = {}
        for name in own:
            part, states[name] = transforms[name].update(given[name], state[name], own[name])
            updates.update(part)
        return optree.tree_structure(grads).unflatten(updates[name] for name in labels), states

    def rates(state: dict[str, Any]) -> dict[str, core.Number]:
        found = {own: transforms[own].rates(each) for own, each in state.items()}
        return {f"{own}/{name}" if name else own: rate for own, part in found.items() for name, rate in part.items()}

    return core.transform(init, update, core.check_structure)._replace(rates=rates)


def _named(values: tree.Tree) -> dict[str, Any]:
    """The leaves by name, which each must have to itself."""
    names = tree.names(values)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        _checks.fail("params", f"two leaves of the name {twice!r}", "a name for each leaf")
    return dict(zip(names, tree.leaves(values), strict=True))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
