"""The global generators of torch, numpy and Python: what a module's factory draws is the key's, and they stay put."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import funcreg as fr


class DrawnByAll(nn.Module):
    """Its values come from the three of them."""

    def __init__(self) -> None:
        super().__init__()
        by_numpy = np.random.randn(3)  # noqa: NPY002  (what old code calls)
        self.weight = nn.Parameter(torch.cat([torch.randn(3), torch.from_numpy(by_numpy).float()]))
        self.scale = nn.Parameter(torch.tensor(random.random()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight * self.scale


def everyones() -> tuple[bytes, object, tuple[bytes, int]]:
    numpys: Any = np.random.get_state()  # noqa: NPY002
    return bytes(torch.get_rng_state().tolist()), random.getstate(), (numpys[1].tobytes(), numpys[2])


def test_what_a_factory_draws_is_a_function_of_the_key() -> None:
    before = everyones()
    model = fr.from_module(DrawnByAll)
    one, other = model.init(fr.random.key(0))[0], model.init(fr.random.key(1))[0]
    assert everyones() == before
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    again, _ = model.init(fr.random.key(0))
    for name, value in one.items():
        assert torch.equal(value, again[name])
        assert not torch.equal(value, other[name])
    fr.to_module(DrawnByAll, one, {})
    fr.decay_mask(DrawnByAll)


def test_the_generators_are_put_back_after_an_error() -> None:
    before = everyones()

    def fails() -> nn.Module:
        DrawnByAll()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fr.from_module(fails)
    assert everyones() == before


def test_a_class_that_needs_arguments_is_no_factory() -> None:
    kind: Any = nn.Linear
    with pytest.raises(fr.FuncregError, match="module: got the class Linear, which needs in_features, out_features"):
        fr.from_module(kind)


@pytest.mark.parametrize("kind", ["torch", "numpy", "Python"])
def test_a_step_that_draws_from_a_generator_of_its_own_is_refused(kind: str) -> None:
    own = {"torch": torch.Generator(), "numpy": np.random.default_rng(0), "Python": random.Random(0)}
    mine: Any = own[kind]
    before = mine.get_state().tolist() if kind == "torch" else None

    def drawn() -> Any:
        return torch.rand((), generator=mine) if kind == "torch" else mine.random()

    def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        return (params["w"] * batch.x).sum() * drawn(), (state, {})

    optimizer = fr.optim.sgd(0.1)
    train_state = fr.train.init({"w": torch.ones(2)}, {}, optimizer, key=fr.random.key(0))
    data = fr.train.Batch(torch.ones(4, 2), torch.ones(4))
    with pytest.raises(fr.FuncregError, match="step: got one that draws from mine"):
        fr.train.fit(
            fr.train.make_step(loss_fn, optimizer), train_state, data, key=fr.random.key(1), epochs=1, jit=False
        )
    assert kind != "torch" or mine.get_state().tolist() == before
