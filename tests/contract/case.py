"""A case of the contract, and the inputs that many share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import funcreg as fr
from funcreg import transforms

KEY = fr.random.key(5)
Settings = tuple[float, ...]


@dataclass(frozen=True)
class Case:
    """`call(**inputs, **settings, key=key)` of one public function, `name`, under a variant of that name."""

    name: str
    call: Callable[..., Any]
    inputs: Mapping[str, Any] = field(default_factory=dict)  # trees of tensors, floating-point ones in float64
    settings: Mapping[str, Settings] = field(default_factory=dict)
    keyed: bool = False
    variant: str = ""
    at_least_float32: bool = False  # 16-bit inputs give float32
    fixed_dtype: bool = False  # the result's dtype does not come from the inputs
    has_slope: bool = True
    constant: tuple[str, ...] = ()  # inputs that nobody differentiates
    compiled: Mapping[str, Any] = field(default_factory=dict)  # instead of inputs in a program: fewer of the same kind
    within: str = ""  # the case that calls the same with arguments of the same kind: compiled there

    def __str__(self) -> str:
        return f"{self.name}[{self.variant}]" if self.variant else self.name

    def arguments(self) -> dict[str, Any]:
        """What `fr.testing.example` and `fr.testing.check` take."""
        return {**self.inputs, "key": KEY if self.keyed else None, "batched": self.settings}

    def example(self) -> fr.testing.Example:
        """What is compiled with others'."""
        return fr.testing.example(self.call, **{**self.arguments(), **self.compiled})


def drawn(seed: int, *shape: int) -> Tensor:
    return fr.random.normal(fr.random.key(1000 + seed), shape, dtype=torch.float64)


def last_update(transform: transforms.Transform, grads: Any, params: Any) -> Any:
    """The second update, and the state after it: the first may be special, where there is a state."""
    state = transform.init(params)
    updates, state = transform.update(grads, state, params)
    if not fr.tree.leaves(state):
        return updates, state
    updates, state = transform.update(grads, state, fr.optim.apply_updates(params, updates))
    return updates, state


X, IMAGES = {"x": drawn(0, 6, 5)}, {"x": drawn(1, 3, 2, 4, 5)}
PARAMS = {"0.weight": drawn(2, 4, 3), "0.bias": drawn(3, 4), "head": {"weight": drawn(4, 2, 4)}}
STEPPED = {
    "grads": {"weight": drawn(5, 4, 3), "bias": drawn(6, 3)},
    "params": {"weight": drawn(7, 4, 3), "bias": drawn(8, 3)},
}
ONE_STEPPED = {name: {"weight": params["weight"]} for name, params in STEPPED.items()}  # where leaves are alike
CLASSES = torch.tensor([0, 1, 3, 2, 1, 0])
RATE, STRENGTH, LR = {"rate": (0.0, 0.3, 1.0)}, {"strength": (0.0, 0.1, 2.0)}, {"lr": (0.0, 0.1, 1.0)}
