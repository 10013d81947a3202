"""Grids of hyperparameters."""

import itertools

import pytest
import torch

from funcreg import FuncregError, sweep


def test_grid_is_the_product_of_its_axes() -> None:
    axes = {"rate": [0.0, 0.25, 0.5], "lr": [0.1, 1.0], "depth": [2, 3]}
    points = sweep.grid(**axes)
    assert list(points) == list(axes)
    rows = list(zip(*(column.tolist() for column in points.values()), strict=True))
    assert rows == list(itertools.product(*axes.values()))


def test_grid_keeps_kinds() -> None:
    points = sweep.grid(a=[1, 2], b=[0.5], c=torch.tensor([1.0, 2.0], dtype=torch.float32), d=range(2))
    kinds = {name: column.dtype for name, column in points.items()}
    assert kinds == {"a": torch.int64, "b": torch.float64, "c": torch.float32, "d": torch.int64}
    assert all(column.shape == (8,) for column in points.values())


def test_grid_of_mixed_numbers_is_float64() -> None:
    assert sweep.grid(rate=[0, 0.5])["rate"].dtype == torch.float64


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({}, "axes: got none"),
        ({"rate": []}, "rate: got no values"),
        ({"rate": 0.5}, r"rate: got 0.5 .*rate=\[0.5\]"),
        ({"rate": "0.5"}, "rate: got '0.5'"),
        ({"rate": [0.5, "a"]}, "rate: got 'a'"),
        ({"rate": [float("nan")]}, "rate: got nan"),
        ({"rate": torch.ones(2, 2)}, r"rate: got a float32 tensor of shape \(2, 2\)"),
        ({"rate": torch.ones(0)}, "rate: got a float32 tensor"),
    ],
)
def test_bad_axes_are_named(axes: dict, message: str) -> None:
    with pytest.raises(FuncregError, match=message):
        sweep.grid(**axes)
