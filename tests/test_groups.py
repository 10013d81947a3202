"""Groups of parameters: a learning rate, a decay, an optimizer of their own, for one model and for members."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap

import funcreg as fr
from funcreg import FuncregError, optim, random, train, transforms, tree

KEY = random.key(0)


def network() -> nn.Module:
    layers = [nn.Linear(3, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)]
    return nn.Sequential(*layers).double()


MODEL = fr.from_module(network)
DATA = train.Batch(random.normal(random.key(1), (12, 3), dtype=torch.float64), torch.arange(12) % 2)


def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
    logits, state = MODEL.apply(params, state, batch.x)
    return fr.losses.cross_entropy(logits, batch.y), (state, {})


def group(name: str, leaf: Tensor) -> str:
    """The last layer, the norm, the rest."""
    return {"5": "head", "1": "norm"}.get(name.split(".")[0], "body")


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda lr, decay: optim.sgd(lr, momentum=0.9, weight_decay=decay),
    "adam": lambda lr, decay: optim.adam(lr, weight_decay=decay),
    "adamw": lambda lr, decay: optim.adamw(lr, weight_decay=decay),
    "rmsprop": lambda lr, decay: optim.rmsprop(lr, weight_decay=decay),
    "lion": lambda lr, decay: optim.lion(lr, weight_decay=decay),
    "nadam": lambda lr, decay: optim.nadam(lr, weight_decay=decay),
    "radam": lambda lr, decay: optim.radam(lr, weight_decay=decay),
    "muon": lambda lr, decay: optim.muon(lr, weight_decay=decay),
    "scheduled": lambda lr, decay: optim.adamw(optim.one_cycle(lr, steps=20), weight_decay=decay),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_group_has_its_own_rate_and_decay_and_every_member_too(name: str) -> None:
    """Members with numbers of their own in one fit, against plain fits one by one, against each group alone."""
    make = OPTIMIZERS[name]

    def optimizer(hparams: Any) -> transforms.Transform:
        return transforms.partition(
            {
                "body": make(hparams["body"], hparams["decay"]),
                "head": make(hparams["head"], hparams["decay"]),
                "norm": transforms.freeze(),
            },
            group,
        )

    hparams = fr.sweep.grid(body=[0.01, 0.02], head=[0.05], decay=[0.0, 0.1])
    params, state = fr.model_members(MODEL, KEY, 4)
    step = train.make_step(loss_fn, optimizer)
    first = train.init(params, state, optimizer, key=KEY, hparams=hparams, members=4)
    settings: Any = {"key": random.key(2), "epochs": 4, "batch_size": 4, "jit": False}
    result = train.fit(step, first, DATA, hparams=hparams, members=4, **settings)
    for member in range(4):
        own = {name: float(column[member]) for name, column in hparams.items()}
        alone = train.fit(step, tree.index(first, member), DATA, hparams=own, **settings)
        trained = tree.index(result.train_state.params, member)
        for leaf, value in alone.train_state.params.items():
            torch.testing.assert_close(trained[leaf], value, rtol=1e-9, atol=1e-12)
        for leaf in ("1.weight", "1.bias"):
            assert torch.equal(trained[leaf], params[leaf][member]), "frozen"
        # The first update of a group is that of its optimizer, alone with the group's leaves.
        start = tree.index(params, member)
        grads = torch.func.grad(lambda p: loss_fn(p, {}, DATA, key=KEY, hparams=None)[0])(start)
        updates, _ = optimizer(own).update(grads, optimizer(own).init(start), start)
        for label in ("body", "head"):
            some = {name: leaf for name, leaf in start.items() if group(name, leaf) == label}
            plain = make(own[label], own["decay"])
            expected, _ = plain.update({name: grads[name] for name in some}, plain.init(some), some)
            for leaf, value in expected.items():
                assert torch.equal(updates[leaf], value)


def test_layers_learn_more_slowly_the_deeper_they_lie() -> None:
    """Layer-wise decay of the learning rate, against torch's groups: decay is multiplied by the rate there too."""
    factors = {"0": 0.25, "1": 0.25, "3": 0.5, "5": 1.0}
    by_layer = transforms.partition(
        {layer: transforms.scale(factor) for layer, factor in factors.items()}, lambda name, leaf: name.split(".")[0]
    )
    optimizer = transforms.chain(optim.adamw(0.05, weight_decay=0.3), by_layer)
    module = network()
    params, _ = fr.variables(module)
    groups = [
        {"params": list(module.get_submodule(layer).parameters()), "lr": 0.05 * f} for layer, f in factors.items()
    ]
    theirs = torch.optim.AdamW(groups, weight_decay=0.3)
    state, start = optimizer.init(params), params
    for _ in range(20):
        theirs.zero_grad()
        nn.functional.cross_entropy(module(DATA.x), DATA.y).backward()
        theirs.step()
        grads = torch.func.grad(lambda p: loss_fn(p, {}, DATA, key=KEY, hparams=None)[0])(params)
        updates, state = optimizer.update(grads, state, params)
        params = optim.apply_updates(params, updates)
    for name, leaf in module.named_parameters():
        assert (leaf - start[name]).abs().max() > 1e-3
        torch.testing.assert_close(params[name], leaf.detach(), rtol=1e-10, atol=1e-12)


def test_groups_within_groups_of_any_tree() -> None:
    inner = transforms.partition({"w": optim.sgd(0.1), "b": transforms.freeze()}, lambda name, leaf: name[-1])
    outer = transforms.partition({"0": inner, "1": optim.sgd(1.0)}, lambda name, leaf: name[0])
    params = ({"w": torch.ones(2), "b": torch.ones(2)}, [torch.ones(3)])
    updates, state = outer.update(params, outer.init(params), params)
    assert isinstance(updates, tuple)
    assert updates[0]["w"].tolist() == pytest.approx([-0.1, -0.1])
    assert updates[0]["b"].tolist() == [0.0, 0.0]
    assert updates[1][0].tolist() == [-1.0, -1.0, -1.0]
    assert tree.names(state) == []
    bare = transforms.masked(transforms.scale(2.0), lambda name, leaf: name == "")
    assert bare.update(torch.ones(2), bare.init(torch.ones(2)), torch.ones(2))[0].tolist() == [2.0, 2.0]


def test_a_group_keeps_nothing_of_the_others() -> None:
    params, _ = MODEL.init(KEY)
    state = transforms.partition(
        {"head": optim.adam(0.1), "norm": transforms.freeze(), "body": optim.sgd(0.1)}, group
    ).init(params)
    assert tree.count(state["head"][1].mean) == 2 * 4 + 2
    assert tree.leaves((state["norm"], state["body"])) == []


def test_masked_state_and_others_gradients_are_as_they_were() -> None:
    params, _ = MODEL.init(KEY)
    wrapped = transforms.masked(transforms.momentum(0.5), tree.is_weight)
    _, state = wrapped.update(params, wrapped.init(params), params)
    updates, _ = wrapped.update(params, state, params)
    for name, leaf in params.items():
        torch.testing.assert_close(updates[name], leaf * 1.5 if tree.is_weight(name) else leaf)


def test_a_mistaken_group_is_told_by_its_names() -> None:
    params, _ = MODEL.init(KEY)
    with pytest.raises(FuncregError, match=r"label: got 'haed' for the leaf '0.bias'; expected one of 'body', 'head'"):
        transforms.partition({"body": optim.sgd(0.1), "head": optim.sgd(0.1)}, lambda name, leaf: "haed").init(params)
    both = transforms.partition({"0": optim.sgd(0.1, momentum=0.5)}, lambda name, leaf: "0")
    with pytest.raises(FuncregError, match=r"state: got 'x'; expected '0'\. It must come from the init of the same"):
        both.update(params, {"x": ()}, params)


def test_muon_of_networks_without_matrices_or_with_nothing_else() -> None:
    for params in ({"w": torch.ones(2, 3)}, {"b": torch.ones(3)}):
        optimizer = optim.muon(0.1, weight_decay=0.0)
        updates, _ = optimizer.update(params, optimizer.init(params), params)
        assert all(leaf.abs().max() > 0.01 for leaf in tree.leaves(updates))


def test_a_group_without_leaves_has_no_state_whatever_its_transform() -> None:
    params = {"w": torch.ones(2, 3)}
    for wrap in (transforms.skip_nonfinite, lambda each: transforms.accumulate(each, 2)):
        optimizer = optim.muon(0.1, rest=wrap(optim.adam(optim.constant(1e-3))))
        state = optimizer.init(params)
        assert state.keys() == {"matrices"}
        assert optimizer.rates(state) == {"matrices": 0.1}
        assert tree.leaves(optimizer.update(params, state, params)[0])[0].abs().max() > 0.01


def test_directions_in_float16_do_not_overflow() -> None:
    g = random.normal(KEY, (4, 6)) * 1e5
    one, other = (transforms.orthogonalize(dtype=dtype).update(g, (), g)[0] for dtype in (torch.float16, None))
    torch.testing.assert_close(one, other, rtol=0.0, atol=0.02)


def test_muons_values_are_near_one() -> None:
    """Of directions above a hundredth of the norm; convolutions as matrices of filters."""
    draw = random.normal(KEY, (8, 4, 3, 3), dtype=torch.float64)
    updates, _ = transforms.orthogonalize().update({"w": draw}, (), {"w": draw})
    values = torch.linalg.svdvals(updates["w"].flatten(1))
    assert 0.68 < float(values.min()) < float(values.max()) < 1.14
    zero = torch.zeros(2, 3)
    assert torch.equal(transforms.orthogonalize().update(zero, (), zero)[0], zero)


def test_members_of_a_join_change_over_at_their_own_steps() -> None:
    ends = torch.tensor([2.0, 4.0], dtype=torch.float64)
    rates = [
        vmap(lambda end: optim.join_schedules([optim.constant(1.0), optim.constant(0.5)], [end])(torch.tensor(3)))(ends)
    ]
    assert rates[0].tolist() == [0.5, 1.0]
    # A schedule that leaves the numbers elsewhere spoils neither the rate nor its slope.
    late = optim.join_schedules([lambda step: 1 / (5.0 - step), optim.exponential(1e9, factor=1e9)], [4])
    assert float(late(torch.tensor(3))) == 0.5

    def at(value: Tensor) -> Tensor:
        joined = optim.join_schedules([optim.constant(value), optim.exponential(value, factor=1e300)], [4])
        return joined(torch.tensor(3))

    assert float(torch.func.grad(at)(torch.tensor(0.5, dtype=torch.float64))) == 1.0


def test_one_cycle_stays_at_its_end_and_is_linear_when_asked() -> None:
    schedule = optim.one_cycle(1.0, steps=11, pct_start=0.5, div_factor=10.0, final_div_factor=10.0, anneal="linear")
    rates = [float(schedule(torch.tensor(step))) for step in range(14)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[3] - rates[2] == pytest.approx(0.2)
    assert rates[10:] == pytest.approx([0.01] * 4)
    for share, first in ((0.0, 1.0 - 0.99 / 11), (1.0, 0.1)):
        edge = optim.one_cycle(1.0, steps=11, pct_start=share, div_factor=10.0, final_div_factor=10.0, anneal="linear")
        assert float(edge(torch.tensor(0))) == pytest.approx(first)
