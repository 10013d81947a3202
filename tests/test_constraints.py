"""fr.constraints, beside its oracles: projections are nearest, leave alone what they may, and survive the edges."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import grad, vmap

import funcreg as fr
from funcreg import constraints

PROJECTIONS: dict[str, Callable[..., Any]] = {
    "max_norm": lambda params, **options: constraints.max_norm(params, 1.0, **options),
    "unit_norm": constraints.unit_norm,
    "non_negative": constraints.non_negative,
    "spectral_ball": constraints.spectral_ball,
}
CONVEX = ("max_norm", "non_negative", "spectral_ball")


def drawn(seed: int, *shape: int) -> Tensor:
    return fr.random.normal(fr.random.key(seed), shape, dtype=torch.float64)


def params() -> dict[str, Tensor]:
    return {"conv.weight": drawn(0, 4, 3, 2, 2), "head.weight": drawn(1, 5, 3), "head.bias": drawn(2, 5)}


@pytest.mark.parametrize("name", CONVEX)
@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 10.0))
def test_nothing_allowed_is_nearer(name: str, seed: int, scale: float) -> None:
    """The projection p of w onto a convex set: (w - p) . (z - p) <= 0 for every z in the set."""
    project = PROJECTIONS[name]
    weight, other = scale * drawn(seed, 4, 6), 3 * drawn(seed + 5000, 4, 6)
    nearest, allowed = project(weight), project(other)
    assert float(((weight - nearest) * (allowed - nearest)).sum()) <= 1e-10 * scale


@pytest.mark.parametrize("name", PROJECTIONS)
def test_once_is_enough(name: str) -> None:
    once = PROJECTIONS[name](params())
    twice = PROJECTIONS[name](once)
    for leaf, again, start in zip(*(fr.tree.leaves(each) for each in (once, twice, params())), strict=True):
        torch.testing.assert_close(again, leaf, rtol=1e-14, atol=1e-14)
        assert start.ndim == 1 or not torch.equal(leaf, start), "it moved"


def test_the_bounds_hold() -> None:
    projected = constraints.max_norm(params(), 0.5, dim=1)
    norms = torch.linalg.vector_norm(projected["conv.weight"], dim=(0, 2, 3))
    assert float(norms.max()) <= 0.5 + 1e-15
    projected = constraints.spectral_ball(params(), 0.5)
    for name in ("conv.weight", "head.weight"):
        assert float(torch.linalg.matrix_norm(projected[name].flatten(1), ord=2)) <= 0.5 + 1e-14
    projected = constraints.unit_norm(params(), dim=-1)
    norms = torch.linalg.vector_norm(projected["conv.weight"], dim=(0, 1, 2))
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_what_is_inside_keeps_its_bits() -> None:
    small = fr.tree.map(lambda leaf: 0.01 * leaf.abs(), params())
    for name in CONVEX:
        projected = PROJECTIONS[name](small)
        assert all(torch.equal(projected[leaf], small[leaf]) for leaf in small), name
    one = drawn(3, 4, 3) * torch.tensor([[0.1], [5.0], [0.1], [5.0]])
    assert torch.equal(constraints.max_norm(one, 1.0)[[0, 2]], one[[0, 2]])


@pytest.mark.parametrize("name", PROJECTIONS)
def test_what_the_mask_leaves_out_is_the_same_tensor(name: str) -> None:
    start = params()
    projected = PROJECTIONS[name](start, mask=lambda name, leaf: name == "head.weight")
    assert projected["conv.weight"] is start["conv.weight"]
    assert projected["head.bias"] is start["head.bias"]
    assert not torch.equal(projected["head.weight"], start["head.weight"])


@pytest.mark.parametrize("name", ["max_norm", "unit_norm", "spectral_ball"])
def test_biases_are_left_out_unless_named(name: str) -> None:
    start = params()
    assert PROJECTIONS[name](start)["head.bias"] is start["head.bias"]
    with pytest.raises(fr.FuncregError, match=r"head\.bias: .*Leave it out"):
        PROJECTIONS[name](start, mask=lambda name, leaf: name.startswith("head"))


@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("start", [torch.zeros(3, 4), torch.eye(3), torch.ones(4, 3), -2 * torch.eye(4)[:, :3]])
def test_degenerate_weights_have_finite_results_and_gradients(start: Tensor, name: str) -> None:
    projected, slope = PROJECTIONS[name](start), grad(lambda w: PROJECTIONS[name](w).square().sum())(start)
    assert bool(torch.isfinite(projected).all())
    assert bool(torch.isfinite(slope).all())


def test_zeros_stay_zeros() -> None:
    weight = drawn(4, 3, 4) * torch.tensor([[1.0], [0.0], [2.0]])
    for name in PROJECTIONS:
        torch.testing.assert_close(
            PROJECTIONS[name](weight)[1], torch.zeros(4, dtype=torch.float64), atol=1e-15, rtol=0
        )
    assert torch.equal(constraints.max_norm(weight, 0.0), torch.zeros_like(weight))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_member_that_diverged_does_not_stop_the_others(compiled: bool) -> None:
    weights = torch.stack([drawn(5, 4, 3), torch.full((4, 3), torch.nan, dtype=torch.float64), drawn(6, 4, 3)])
    radii = torch.tensor([0.5, 1.0, 1.5])
    run = vmap(constraints.spectral_ball)
    projected = (fr.jit(run) if compiled else run)(weights, radii)
    assert bool(torch.isnan(projected[1]).all())
    for member in (0, 2):
        alone = constraints.spectral_ball(weights[member], float(radii[member]))
        torch.testing.assert_close(projected[member], alone, rtol=1e-7, atol=1e-7)  # radii in float32


@pytest.mark.parametrize("name", PROJECTIONS)
def test_16_bit_weights_are_computed_in_float32(name: str) -> None:
    weight = drawn(7, 4, 6).to(torch.bfloat16)
    assert torch.equal(PROJECTIONS[name](weight), PROJECTIONS[name](weight.float()).to(torch.bfloat16))


def test_spectral_ball_is_gentler_than_spectral_norm() -> None:
    """One divides all singular values, the other moves those above the bound alone."""
    weight = torch.diag(torch.tensor([3.0, 0.5], dtype=torch.float64))
    state = fr.norm.init_spectral_state(weight, key=fr.random.key(0), steps=50)
    torch.testing.assert_close(constraints.spectral_ball(weight).diagonal(), torch.tensor([1.0, 0.5]).double())
    torch.testing.assert_close(
        fr.norm.spectral_norm(weight, state)[0].diagonal(), torch.tensor([3.0, 0.5]).double() / 3
    )
