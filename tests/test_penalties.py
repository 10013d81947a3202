"""fr.penalties: closed forms, torch's weight decay, and masks."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, hessian, vmap

import funcreg as fr
from funcreg import penalties


def params(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    weight, bias = fr.random.split(fr.random.key(0))
    return {
        "0.weight": fr.random.normal(weight, (4, 3), dtype=torch.float64).to(dtype),
        "0.bias": fr.random.normal(bias, (4,), dtype=torch.float64).to(dtype),
    }


def test_closed_forms() -> None:
    flat = torch.cat([leaf.flatten() for leaf in params().values()])
    torch.testing.assert_close(penalties.l1(params(), 0.3), 0.3 * flat.abs().sum())
    torch.testing.assert_close(penalties.l2(params(), 0.3), 0.3 * (flat**2).sum())
    torch.testing.assert_close(
        penalties.elastic_net(params(), 0.3, 0.2), 0.3 * flat.abs().sum() + 0.2 * (flat**2).sum()
    )


def test_gradients() -> None:
    each = params()
    l1_slopes, l2_slopes = grad(penalties.l1)(each, 0.3), grad(penalties.l2)(each, 0.3)
    for name, leaf in each.items():
        torch.testing.assert_close(l1_slopes[name], 0.3 * leaf.sign())
        torch.testing.assert_close(l2_slopes[name], 0.6 * leaf)
    curvature = hessian(lambda w: penalties.l2({"w": w}, 0.3))(each["0.bias"])
    torch.testing.assert_close(curvature, 0.6 * torch.eye(4, dtype=torch.float64))


def test_l1_has_no_slope_at_zero() -> None:
    assert grad(penalties.l1)({"w": torch.zeros(3)}, 1.0)["w"].tolist() == [0, 0, 0]


def test_l2_is_half_of_weight_decay() -> None:
    layer = nn.Linear(3, 4, dtype=torch.float64)
    layer.load_state_dict({"weight": params()["0.weight"], "bias": params()["0.bias"]})
    start = {name: value.detach().clone() for name, value in layer.named_parameters()}
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, weight_decay=0.04)
    ours = dict(start)
    for _ in range(10):
        optimizer.zero_grad()
        (layer.weight.sum() * 0 + layer.bias.sum() * 0).backward()  # no loss: decay alone moves them
        optimizer.step()
        slopes = grad(penalties.l2)(ours, 0.02)
        ours = fr.tree.map(lambda value, slope: value - 0.1 * slope, ours, slopes)
    for name, value in layer.named_parameters():
        moved = value.detach() - start[name]
        assert float(moved.abs().max()) > 0.01, "the reference moved"
        torch.testing.assert_close(ours[name] - start[name], moved, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_strength_may_be_batched(name: str) -> None:
    penalty, strengths = getattr(penalties, name), torch.tensor([0.0, 0.1, 2.0], dtype=torch.float64)
    batched = vmap(lambda strength: penalty(params(), strength))(strengths)
    torch.testing.assert_close(batched, torch.stack([penalty(params(), float(each)) for each in strengths]))
    torch.testing.assert_close(grad(lambda strength: penalty(params(), strength))(strengths[1]), penalty(params(), 1.0))


def test_masks_pick_leaves() -> None:
    weight = params()["0.weight"]
    torch.testing.assert_close(penalties.l2(params(), 1.0, mask=fr.tree.is_weight), (weight**2).sum())
    torch.testing.assert_close(penalties.l1(params(), 1.0, mask=lambda name, leaf: leaf.ndim == 2), weight.abs().sum())
    slopes = grad(lambda each: penalties.elastic_net(each, 1.0, 1.0, mask=fr.tree.is_weight))(params())
    assert torch.equal(slopes["0.bias"], torch.zeros(4, dtype=torch.float64))


def test_any_tree_will_do() -> None:
    leaf = torch.tensor([3.0])
    assert float(penalties.l2((leaf, {"a": leaf}), 1.0)) == 18
    assert float(penalties.l2(leaf, 1.0)) == 9
    assert float(penalties.l2({}, 1.0)) == 0


def test_the_dtype_is_the_parameters_own() -> None:
    strength = torch.tensor(0.3, dtype=torch.float64)  # what jit makes of a Python number
    for penalty in (penalties.l1, penalties.l2):
        assert penalty(params(torch.float64), 0.3).dtype == torch.float64
        assert penalty(params(torch.float32), strength).dtype == torch.float32
        assert penalty(params(torch.bfloat16), strength).dtype == torch.float32
        slopes = grad(penalty)(params(torch.bfloat16), strength)
        assert slopes["0.bias"].dtype == torch.bfloat16


def test_16_bit_leaves_are_summed_in_float32() -> None:
    ones = {"w": torch.ones(10_000, dtype=torch.bfloat16)}
    assert float(penalties.l2(ones, 1.0)) == 10_000  # bfloat16 has 8 bits: it would stop at 256, or round to 9984
