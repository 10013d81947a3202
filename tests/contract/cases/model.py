"""Cases of `model`."""

import torch
from torch import Tensor, nn

import funcreg as fr
from funcreg import tree
from tests.contract.case import Case, drawn


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


_MODEL = fr.from_module(_Net())

_PARAMS, _STATE = (tree.cast(each, torch.float64) for each in fr.variables(_Net()))

CASES = [
    Case(
        "from_module",
        lambda params, state, x, rates, key, train=train_mode: _MODEL.apply(
            params, state, x, key=key, train=train, rates=rates
        ),
        {"params": _PARAMS, "state": _STATE, "x": drawn(24, 6, 3)},
        {"rates": (0.1, 0.5, 0.8)},
        keyed=True,
        variant="train" if train_mode else "monte carlo",
        constant=("state",),
    )
    for train_mode in (True, False)
]

# name: (why the contract does not fit, the file that tests it)
EXEMPT: dict[str, tuple[str, str]] = {
    "decay_mask": ("takes a module", "test_decay_mask.py"),
    "check": ("a report on a module", "test_model.py"),
    "variables": ("takes a module", "test_model.py"),
    "to_module": ("gives a module", "test_model.py"),
    "model_members": ("runs a module's own initialisation", "test_model.py"),
    "register_layer": ("a registration", "test_model.py"),
}
