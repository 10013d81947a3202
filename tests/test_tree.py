"""fr.tree: pytrees, their names, and the masks that pick leaves by name."""

import operator
from collections import OrderedDict, defaultdict
from typing import NamedTuple

import optree
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import grad, vmap

import funcreg as fr
from funcreg.tree import traced


class Pair(NamedTuple):
    w: Tensor
    b: Tensor


LEAF = st.integers(0, 3).map(lambda n: torch.arange(n, dtype=torch.float64))
TREES = st.recursive(
    LEAF,
    lambda children: st.one_of(
        st.dictionaries(st.text("ab01", min_size=1, max_size=3), children, min_size=1, max_size=3),
        st.lists(children, min_size=1, max_size=3).map(tuple),
        st.tuples(children, LEAF).map(lambda each: Pair(*each)),
    ),
    max_leaves=8,
)


NODES = st.recursive(
    st.one_of(LEAF, st.none(), st.integers(), st.text(max_size=2)),
    lambda children: st.one_of(
        st.dictionaries(st.text("ba0", max_size=2), children, max_size=3),
        st.dictionaries(st.text("ba0", max_size=2), children, max_size=3).map(OrderedDict),
        st.dictionaries(st.text("ba0", max_size=2), children, max_size=3).map(lambda each: defaultdict(int, each)),
        st.lists(children, max_size=3),
        st.lists(children, max_size=3).map(tuple),
        st.tuples(children, children).map(lambda each: Pair(*each)),
        st.lists(st.integers(0, 3), max_size=3).map(torch.Size),
    ),
    max_leaves=8,
)


def same(one: fr.tree.Tree, other: fr.tree.Tree) -> bool:
    pairs = zip(fr.tree.leaves(one), fr.tree.leaves(other), strict=True)
    return fr.tree.names(one) == fr.tree.names(other) and all(torch.equal(a, b) for a, b in pairs)


@given(NODES)
def test_what_a_tracer_follows_gives_what_optree_does(tree: fr.tree.Tree) -> None:
    flat, structure = optree.tree_flatten(tree)
    assert all(map(operator.is_, traced.leaves(tree), flat))
    numbered = structure.unflatten(range(len(flat)))
    assert traced.leaves_up_to(tree, numbered) == [*range(len(flat))]
    again = traced.unflatten(tree, iter(range(len(flat))))
    assert again == numbered
    assert optree.tree_structure(again) == optree.tree_structure(numbered)
    assert [*again] == [*numbered] if isinstance(again, dict) else type(again) is type(numbered)


@given(NODES, NODES)
def test_a_tracer_meets_other_structures_as_optree_does(tree: fr.tree.Tree, other: fr.tree.Tree) -> None:
    try:
        expected = optree.tree_structure(tree).flatten_up_to(other)
    except (TypeError, ValueError):
        with pytest.raises((TypeError, ValueError)):
            traced.leaves_up_to(tree, other)
    else:
        assert all(map(operator.is_, traced.leaves_up_to(tree, other), expected))


@given(TREES)
def test_map_keeps_the_structure(tree: fr.tree.Tree) -> None:
    doubled = fr.tree.map(lambda leaf: 2 * leaf, tree)
    assert type(doubled) is type(tree)
    assert same(fr.tree.map(lambda a, b: a - b, doubled, tree), tree)


@given(TREES)
def test_names_go_with_leaves(tree: fr.tree.Tree) -> None:
    named = fr.tree.map_named(lambda name, leaf, other: (name, leaf + other), tree, tree)
    flat = fr.tree.leaves(named)
    assert flat[0::2] == fr.tree.names(tree)
    assert all(torch.equal(a, 2 * b) for a, b in zip(flat[1::2], fr.tree.leaves(tree), strict=True))


def test_a_name_is_the_path() -> None:
    tree = {"net": Pair(torch.zeros(1), torch.zeros(1)), "0.weight": (torch.zeros(1),), "a": {"b": torch.zeros(1)}}
    assert fr.tree.names(tree) == ["0.weight.0", "a.b", "net.w", "net.b"]
    assert fr.tree.names(torch.zeros(1)) == [""]


def test_an_ordered_dict_keeps_its_order() -> None:
    tree = OrderedDict(weight=torch.ones(1), bias=torch.zeros(1))
    assert fr.tree.names(tree) == ["weight", "bias"]
    assert fr.tree.select(tree, fr.tree.is_weight) == [("weight", tree["weight"])]
    named = fr.tree.map_named(lambda name, leaf: name, tree)
    assert named == OrderedDict(weight="weight", bias="bias")
    with pytest.raises(fr.FuncregError, match="another order"):
        fr.tree.map_named(lambda name, a, b: a, tree, dict(tree))


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=6))
def test_norm_is_that_of_all_numbers_together(values: list[float]) -> None:
    flat = torch.tensor(values, dtype=torch.float64)
    tree = {"a": flat[:2], "b": (flat[2:], torch.zeros(2, 2, dtype=torch.float64))}
    torch.testing.assert_close(fr.tree.norm(tree), flat.norm())


def test_norm_of_nothing_is_zero_and_has_no_slope_there() -> None:
    assert float(fr.tree.norm({})) == 0
    zeros = {"a": torch.zeros(3), "b": torch.zeros(2)}
    assert same(grad(fr.tree.norm)(zeros), zeros)


def test_where_takes_a_batched_condition() -> None:
    true, false = {"w": torch.ones(3, 2)}, {"w": torch.zeros(3, 2)}
    chosen = vmap(fr.tree.where)(torch.tensor([True, False, True]), true, false)
    assert chosen["w"][:, 0].tolist() == [1, 0, 1]


def test_stack_and_unstack_are_inverse() -> None:
    trees = [{"w": torch.full((2,), float(k)), "n": torch.tensor(k)} for k in range(3)]
    stacked = fr.tree.stack(trees)
    assert stacked["w"].shape == (3, 2)
    assert fr.tree.members(stacked) == 3
    assert all(same(one, other) for one, other in zip(fr.tree.unstack(stacked), trees, strict=True))
    assert same(fr.tree.index(stacked, torch.tensor(2)), trees[2])
    assert fr.tree.stack([{"lr": 0.5}, {"lr": 2.0}])["lr"].tolist() == [0.5, 2.0]


def test_partition_and_merge_are_inverse() -> None:
    tree = {
        "0.weight": torch.ones(1),
        "0.bias": torch.zeros(1),
        "head": {"weight": torch.ones(2), "bias": torch.ones(2)},
    }
    weights, rest = fr.tree.partition(tree, fr.tree.is_weight)
    assert fr.tree.names(weights) == ["0.weight", "head.weight"]
    assert fr.tree.names(rest) == ["0.bias", "head.bias"]
    assert same(fr.tree.merge(weights, rest), tree)
    assert same(fr.tree.merge(rest, weights), tree)


def test_the_gradient_of_one_part_leaves_the_other_out() -> None:
    params = {"0.weight": torch.tensor([2.0]), "0.bias": torch.tensor([3.0])}
    trained, frozen = fr.tree.partition(params, fr.tree.is_weight)
    slopes = grad(lambda part: (fr.tree.merge(part, frozen)["0.weight"] * params["0.bias"]).sum())(trained)
    assert {name: leaf.item() for name, leaf in slopes.items()} == {"0.weight": 3.0}


def test_select_takes_all_without_a_mask() -> None:
    tree = {"b": torch.zeros(1), "a": torch.ones(1)}
    assert [name for name, _ in fr.tree.select(tree, None)] == ["a", "b"]
    assert [leaf.item() for _, leaf in fr.tree.select(tree, lambda name, leaf: bool(leaf.sum() > 0))] == [1]
    assert fr.tree.select({}, fr.tree.is_weight) == []


def test_is_weight_knows_the_names_that_torch_gives() -> None:
    module = nn.ModuleDict(
        {
            "linear": nn.Linear(2, 2),
            "spectral": nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)),
            "gru": nn.GRU(2, 2),
            "attention": nn.MultiheadAttention(2, 1, add_bias_kv=True),
            "different": nn.MultiheadAttention(2, 1, kdim=3, vdim=4),
            "norm": nn.BatchNorm1d(2),
        }
    )
    weights = {name for name, _ in module.named_parameters() if fr.tree.is_weight(name)}
    biases = {name for name, _ in module.named_parameters()} - weights
    assert biases == {
        "linear.bias", "spectral.bias", "gru.bias_ih_l0", "gru.bias_hh_l0", "norm.bias",
        "attention.in_proj_bias", "attention.out_proj.bias", "attention.bias_k", "attention.bias_v",
        "different.in_proj_bias", "different.out_proj.bias",
    }  # fmt: skip
    assert "spectral.parametrizations.weight.original" in weights


def test_casts_touch_floating_point_leaves_alone() -> None:
    tree = {"w": torch.ones(2), "n": torch.tensor(3), "mask": torch.tensor(True), "key": fr.random.key(1)}
    cast = fr.tree.cast(tree, torch.float64)
    assert {name: leaf.dtype for name, leaf in cast.items()} == {
        "w": torch.float64, "n": torch.int64, "mask": torch.bool, "key": torch.int64
    }  # fmt: skip
    assert same(fr.tree.cast(cast, torch.float32), tree)


def test_clones_share_nothing() -> None:
    tree = {"w": torch.ones(2, requires_grad=True)}
    copy = fr.tree.clone(tree)
    assert copy["w"].data_ptr() != tree["w"].data_ptr()
    assert not copy["w"].requires_grad
    assert same(copy, tree)


def test_counts_and_zeros() -> None:
    tree = {"w": torch.ones(3, 4), "n": (torch.tensor(3),)}
    assert fr.tree.count(tree) == 13
    zeros = fr.tree.zeros_like(tree)
    assert same(zeros, {"w": torch.zeros(3, 4), "n": (torch.tensor(0),)})
    assert same(fr.tree.to(tree, "cpu"), tree)


@pytest.mark.parametrize("others", [{"b": torch.zeros(1)}, {"a": torch.zeros(1), "b": torch.zeros(1)}])
def test_map_says_which_leaves_differ(others: fr.tree.Tree) -> None:
    with pytest.raises(fr.FuncregError, match=r"extra \['b'\]"):
        fr.tree.map(lambda a, b: a, {"a": torch.zeros(1)}, others)
