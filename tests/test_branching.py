"""torch.cond in a forward: the branch that is taken, in every mode and under every transform."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap

import funcreg as fr

KEY = fr.random.key(0)
X = fr.random.normal(fr.random.key(1), (4, 3)) + 1.0


class Branches(nn.Module):
    """Noise in one, statistics in the other, or in neither."""

    def __init__(self, plain: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.drop, self.norm = (nn.Identity(), nn.Identity()) if plain else (nn.Dropout(0.5), nn.BatchNorm1d(3))

    def one(self, x: Tensor) -> Tensor:
        return self.drop(self.first(x))

    def other(self, x: Tensor) -> Tensor:
        return self.norm(self.second(x))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, self.one, self.other, (x,))


class Written(Branches):
    """The same with Python's if."""

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) if x.sum() > 0 else self.other(x)


def both(**settings: Any) -> tuple[fr.Model, fr.Model, Any]:
    model = fr.from_module(lambda: Branches(**settings))
    return model, fr.from_module(lambda: Written(**settings)), model.init(KEY)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("call", [{}, {"key": KEY}, {"key": KEY, "train": True}])
def test_the_branch_that_is_taken_runs_alone(sign: int, call: dict[str, Any]) -> None:
    model, written, (params, state) = both()
    for x in (sign * X, -sign * X):  # the second call is no rehearsal
        fr.testing.assert_trees_equal(model.apply(params, state, x, **call), written.apply(params, state, x, **call))
    slope, expected = (
        grad(lambda p, each=each: each.apply(p, state, sign * X, **call)[0].square().sum())(params)
        for each in (model, written)
    )
    fr.testing.assert_trees_close(slope, expected)


def test_members_take_a_branch_each() -> None:
    model, written, (params, state) = both(plain=True)
    both_signs = torch.stack((X, -X))
    found = vmap(lambda x: model.apply(params, state, x)[0])(both_signs)
    torch.testing.assert_close(found, torch.stack([written.apply(params, state, x)[0] for x in both_signs]))
    slopes = vmap(grad(lambda p, x: model.apply(p, state, x)[0].square().sum()), (None, 0))(params, both_signs)
    for name, slope in slopes.items():
        each = [grad(lambda p, x=x: written.apply(p, state, x)[0].square().sum())(params)[name] for x in both_signs]
        torch.testing.assert_close(slope, torch.stack(each))


def test_statistics_of_a_branch_are_refused_under_vmap() -> None:
    model, _, (params, state) = both()
    with pytest.raises(
        fr.FuncregError, match=r"module: got one in which a branch of torch\.cond moves batch statistics"
    ):
        vmap(lambda x: model.apply(params, state, x, key=KEY, train=True))(torch.stack((X, -X)))


def test_torchs_own_stands_again_after_a_call() -> None:
    own, (model, _, (params, state)) = torch.cond, both()
    model.apply(params, state, X)
    assert torch.cond is own
