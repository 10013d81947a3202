"""Generated tables whose features differ in scale or in shape, each a function of a key."""

import torch
from torch import Tensor

import funcreg as fr


def two_scales(key: Tensor, n: int = 500) -> tuple[Tensor, Tensor]:
    """x_0 ~ N(5.2, 1), x_1 ~ N(10, 13^2), and the class y = [x_0 - 6 + 0.1 x_1 > 0].

    Both features matter, and one is thirteen times as wide as the other.

    Returns:
        x: (n, 2); y: int64 (n,).
    """
    x = fr.random.normal(key, (n, 2)) * torch.tensor([1.0, 13.0], device=key.device)
    x = x + torch.tensor([5.2, 10.0], device=key.device)
    return x, (x[:, 0] - 6 + 0.1 * x[:, 1] > 0).long()


def one_mode(key: Tensor, n: int = 200) -> Tensor:
    """One feature from N(3, 2^2).

    Returns:
        x: (n,).
    """
    return fr.random.normal(key, (n,), mean=3.0, std=2.0)


def two_modes(key: Tensor, n: int = 200) -> Tensor:
    """One feature, half of it from N(1, 0.5^2) and half from N(5, 0.5^2): as wide as `one_mode`, and empty at its mean.

    Returns:
        x: (n,).
    """
    which_key, x_key = fr.random.split(key)
    centre = torch.where(fr.random.bernoulli(which_key, 0.5, (n,)), 5.0, 1.0)
    return centre + fr.random.normal(x_key, (n,), std=0.5)
