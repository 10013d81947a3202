"""Code that a forward leaves for the backward pass: hooks on gradients, autograd functions, hooks of layers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from tests.zoo.hand_written.parts import alone, nested
from tests.zoo.specimen import Specimen

Gradients = tuple[Tensor, ...]


class Hooked(nn.Module):
    """A hook on the gradient of its features: (the layer, the gradient) -> another."""

    def __init__(self, hook: Callable[["Hooked", Tensor], Any], scale: float = 0.0) -> None:
        super().__init__()
        self.linear, self.hook, self.scale = nn.Linear(6, 6), hook, scale
        self.register_buffer("steps", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x).tanh()
        if h.requires_grad:
            h.register_hook(lambda gradient: self.hook(self, gradient))
        return h


class AlwaysHooked(nn.Module):
    """A hook whether or not a gradient will be taken, as parameters of a module let it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        if torch.is_grad_enabled():
            h.register_hook(lambda gradient: 3 * gradient)
        return h


class HooksItsWeight(nn.Module):
    """A hook on the parameter itself, one more at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        if self.linear.weight.requires_grad:
            self.linear.weight.register_hook(torch.tanh)
        return self.linear(x)


class HooksItsNode(nn.Module):
    """A hook on the node of the graph."""

    def __init__(self, hook: Callable[[Gradients], Gradients]) -> None:
        super().__init__()
        self.linear, self.hook = nn.Linear(6, 6), hook

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        if h.grad_fn is not None:
            h.grad_fn.register_prehook(self.hook)
        return h


class Reversed(torch.autograd.Function):
    """x, whose gradient is reversed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return -ctx.strength * gradient, None


class Shaken(torch.autograd.Function):
    """x, whose gradient is noisy; with the rules that transforms ask for."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, scale: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.scale = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient * (1 + ctx.scale * torch.randn_like(gradient)), None


class ShakenAsOfOld(torch.autograd.Function):
    """The same without those rules."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.scale = scale
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient * (1 + ctx.scale * torch.randn_like(gradient)), None


class Recomputed(torch.autograd.Function):
    """A checkpoint of one's own: the backward runs the layer again."""

    @staticmethod
    def forward(ctx: Any, layer: nn.Module, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.layer = layer
        ctx.save_for_backward(x)
        with torch.no_grad():
            return layer(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            torch.autograd.backward(ctx.layer(x), gradient)
        return None, x.grad


class Applies(nn.Module):
    """An autograd function after a layer; it is kept as people keep them, `function.apply`."""

    def __init__(self, function: Callable[..., Tensor], scale: float = 0.0) -> None:
        super().__init__()
        self.linear, self.function, self.scale = nn.Linear(6, 6), function, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.linear(x), self.scale)


class Keeps(nn.Module):
    """What its gradient needs is packed, and unpacked for it."""

    def __init__(
        self, pack: Callable[["Keeps", Tensor], Any], unpack: Callable[["Keeps", Any], Tensor], scale: float = 0.0
    ) -> None:
        super().__init__()
        self.linear, self.pack, self.unpack, self.scale = nn.Linear(6, 6), pack, unpack, scale

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        with saved_tensors_hooks(lambda kept: self.pack(self, kept), lambda packed: self.unpack(self, packed)):
            return h.sin()


@torch.library.custom_op("zoo::negative", mutates_args=())
def negative(x: Tensor, scale: float) -> Tensor:
    """-x, whose gradient is noisy, as an operator."""
    return -x


@negative.register_fake
def _(x: Tensor, scale: float) -> Tensor:
    return torch.empty_like(x)


def _keep_scale(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.scale = inputs[1]


def _negative_backward(ctx: Any, gradient: Tensor) -> Any:
    return -gradient * (1 + ctx.scale * torch.randn_like(gradient) if ctx.scale else 1), None


negative.register_autograd(_negative_backward, setup_context=_keep_scale)


class Recomputes(nn.Module):
    """A layer that runs again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return Recomputed.apply(self.linear, x.tanh())  # pyright: ignore[reportReturnType]


def noise(layer: Any, gradient: Tensor) -> Tensor:
    """Gaussian gradient noise."""
    return gradient + layer.scale * torch.randn_like(gradient)


def drop(layer: Any, gradient: Tensor) -> Tensor:
    """Dropout of a gradient."""
    return F.dropout(gradient, layer.scale)


def count(layer: Any, gradient: Tensor) -> Tensor:
    """A gradient that shrinks from one backward pass to the next."""
    layer.calls = getattr(layer, "calls", 0) + 1
    return gradient / layer.calls


def keep(layer: Any, gradient: Tensor) -> None:
    """The gradient, kept for later, as class activation maps do."""
    layer.kept = gradient


def write(layer: Any, gradient: Tensor) -> None:
    """A count of backward passes in a buffer."""
    layer.steps.add_(1)


def as_it_is(layer: Any, kept: Tensor) -> Tensor:
    """What is kept, unchanged."""
    return kept


def shake(layer: Any, received: Any, given: Any) -> Any:
    """A layer's own hook, with noise."""
    return tuple(None if each is None else each + layer.scale * torch.randn_like(each) for each in received)


def with_hook(how: str, hook: Callable[..., Any], scale: float = 0.0) -> nn.Module:
    """A layer with a hook of its own on its gradients, in front of one without."""
    layer: Any = nn.Linear(6, 6)
    layer.scale = scale
    getattr(layer, how)(hook)
    return nn.Sequential(nn.Linear(6, 6), layer)


def _to_numpy(layer: Any, kept: Tensor) -> Any:
    return kept.numpy(force=True)


def _from_numpy(layer: Any, kept: Any) -> Tensor:
    return torch.from_numpy(kept)


def _numpys(layer: Any, kept: Tensor) -> Tensor:
    return kept * np.random.rand()  # noqa: NPY002


def _halved(layer: Any, received: Any, given: Any) -> Any:
    return tuple(None if each is None else 0.5 * each for each in received)


def _halved_before(layer: Any, given: Any) -> Any:
    return tuple(0.5 * each for each in given)


def in_gradients(words: str) -> dict[str, str]:
    """Refused where a gradient is taken."""
    return {"trains": words}


# torch has no vmap for an autograd function that is not split into forward and setup_context.
AS_OF_OLD = {"samples": "block.trial"}


def specimens() -> list[Specimen]:
    hooks: dict[str, tuple[Callable[..., Any], str]] = {
        "scales": (lambda layer, gradient: 0.5 * gradient, ""),
        "clips": (lambda layer, gradient: gradient.clamp(-0.01, 0.01), ""),
        "adds noise": (noise, ""),
        "drops out": (drop, ""),
        "draws from numpy": (lambda layer, gradient: gradient * np.random.rand(), "draws from numpy's"),  # noqa: NPY002
        "counts its calls": (count, "sets attributes of block.trial (Hooked)"),
        "keeps the gradient": (keep, "sets attributes of block.trial (Hooked)"),
        "writes a buffer": (write, "writes into block.trial.steps"),
        "reads a buffer": (lambda layer, gradient: gradient * layer.steps, "cannot run after the call"),
    }
    return [
        *(
            nested(f"hook that {what}", lambda hook=hook: Hooked(hook), refuses=in_gradients(words) if words else {})
            for what, (hook, words) in hooks.items()
        ),
        nested("hook on a gradient, always", AlwaysHooked),
        nested("hook on a weight", HooksItsWeight, refuses=in_gradients("leaves a hook on block.trial.linear.weight")),
        nested("hook on a node", lambda: HooksItsNode(lambda given: tuple(2 * each for each in given))),
        nested("gradient reversed", lambda: Applies(Reversed.apply, 0.3), refuses=AS_OF_OLD),
        nested("gradient shaken", lambda: Applies(Shaken.apply)),
        nested("gradient shaken as of old", lambda: Applies(ShakenAsOfOld.apply), refuses=AS_OF_OLD),
        nested("kept elsewhere", lambda: Keeps(_to_numpy, _from_numpy)),
        nested("kept with noise", lambda: Keeps(noise, as_it_is)),
        nested("unpacked with noise", lambda: Keeps(as_it_is, noise)),
        nested("unpacked by numpy", lambda: Keeps(as_it_is, _numpys), refuses=in_gradients("draws from numpy's")),
        nested("operator", lambda: Applies(negative)),
        nested("operator, shaken", lambda: Applies(negative, 0.3), refuses=in_gradients("draws from the global")),
        nested("checkpoint of its own", Recomputes, refuses=AS_OF_OLD | in_gradients("cannot run after the call")),
        nested("full backward hook", lambda: with_hook("register_full_backward_hook", _halved)),
        nested("full backward hook that draws", lambda: with_hook("register_full_backward_hook", shake)),
        nested("full backward pre-hook", lambda: with_hook("register_full_backward_pre_hook", _halved_before)),
        nested("backward hook as of old", lambda: with_hook("register_backward_hook", _halved)),
        alone("full backward hook on top", lambda: with_hook("register_full_backward_hook", _halved)),
    ]
