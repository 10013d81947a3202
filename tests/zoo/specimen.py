"""What a specimen of the zoo is: somebody's module, how to call it, and which noise it has."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


class Specimen(NamedTuple):
    """A module as its library builds it.

    name: "family/architecture". build: (**rates) -> the module; without rates, all of its noise is off.
    inputs: () -> (args, kwargs) of its forward, small.
    noise: kind -> the rates that turn on this kind alone.
    refuses: for a check in `examine.CHECKS` that is refused, the words that its message has.
    tolerance: of outputs in float64, where it is not 1e-9, and why.
    """

    name: str
    build: Callable[..., nn.Module]
    inputs: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]
    noise: Mapping[str, Mapping[str, Any]] = {}
    refuses: Mapping[str, str] = {}
    tolerance: float = 1e-9


def images(size: int, batch: int = 2, channels: int = 3) -> Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]:
    """Inputs (batch, channels, size, size), float64."""

    def inputs() -> tuple[tuple[Any, ...], dict[str, Any]]:
        generator = torch.Generator().manual_seed(0)
        return (torch.randn(batch, channels, size, size, generator=generator, dtype=torch.float64),), {}

    return inputs


def numbers(output: Any) -> list[Tensor]:
    """The floating-point tensors of an output, in order; a model's own kind of output (a dataclass) too."""
    leaves = pytree.tree_leaves(output)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]
