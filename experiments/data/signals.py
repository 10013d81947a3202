"""One signal and what can happen to it."""

import math

import torch
from torch import Tensor


def variants(samples: int = 32) -> dict[str, Tensor]:
    """sin(2 pi t) + sin(6 pi t) / 2 over one period, and five changes of it, by name.

    Spiky adds 3 at samples 8 and 26; scaled is 1.5 times it; offset adds 1; shifted is 10 samples
    later, around the end; reversed runs backwards.

    Returns:
        name -> (samples,), the base first.
    """
    t = torch.arange(samples) / samples
    base = torch.sin(2 * math.pi * t) + 0.5 * torch.sin(6 * math.pi * t)
    spiky = base.clone()
    spiky[[8, 26]] += 3.0
    return {
        "base": base,
        "spiky": spiky,
        "scaled": 1.5 * base,
        "offset": base + 1,
        "shifted": base.roll(10),
        "reversed": base.flip(0),
    }
