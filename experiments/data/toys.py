"""Generated tables, each a function of a key: `vmap` over keys makes one for each member."""

import torch
from torch import Tensor

import funcreg as fr


def quadratic(key: Tensor, n: int = 200, *, tilt: float = 0.8, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """x ~ N(0, I_2) and the class y = [x_0^2 + tilt x_1 > threshold].

    Returns:
        x: (n, 2); y: int64 (n,).
    """
    x = fr.random.normal(key, (n, 2))
    return x, (x[:, 0] ** 2 + tilt * x[:, 1] > threshold).long()


def regression(key: Tensor, n: int = 64, *, features: int = 8, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """x ~ N(0, I) and y = sin(2 x_0) + x_1 x_2 / 2 + noise: smooth, and blind to the other features.

    Returns:
        x: (n, features); y: (n, 1); both float64.
    """
    x_key, noise_key = fr.random.split(key)
    x = fr.random.normal(x_key, (n, features), dtype=torch.float64)
    clean = torch.sin(2 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2]
    return x, (clean + fr.random.normal(noise_key, (n,), std=noise, dtype=torch.float64)).unsqueeze(1)


def quadrants(key: Tensor, n: int = 200) -> tuple[Tensor, Tensor, Tensor]:
    """x ~ N(0, I_2), the class y = [x_0 x_1 > 0], and noise ~ N(0, I_2) to add to x once y is known.

    Of x + s noise the best guess is still the sign of the product, whatever s.

    Returns:
        x: (n, 2); noise: (n, 2); y: int64 (n,).
    """
    x_key, noise_key = fr.random.split(key)
    x = fr.random.normal(x_key, (n, 2))
    return x, fr.random.normal(noise_key, (n, 2)), (x[:, 0] * x[:, 1] > 0).long()
