"""Code that looks at the original module, attributes that a forward sets, and unusual structure."""

import copy
import functools
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from tests.zoo.hand_written.parts import (
    RATE,
    SCALE,
    alone,
    at_once,
    in_every_call,
    in_monte_carlo,
    nested,
    sequences,
    tokens,
)
from tests.zoo.specimen import Specimen


class Lambdas(nn.Module):
    """Steps in a list, each a lambda around the module."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.steps = [lambda x: self.a(x), torch.tanh, lambda x: self.b(x)]

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


class NamedSteps(nn.Module):
    """Functions in a dict, one of which calls another, with a default that is a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6)

        def inner(x: Tensor, layer: nn.Module = self.a) -> Tensor:
            return layer(x)

        self.steps = {"tanh": lambda x: inner(x).tanh(), "again": inner}

    def forward(self, x: Tensor) -> Tensor:
        return self.steps["again"](self.steps["tanh"](x))


class ClosesOverWeight(nn.Module):
    """A lambda around the parameter itself, which nothing can replace there."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = weight = nn.Parameter(torch.randn(6))
        self.step = lambda x: x * weight

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)


class Hooked(nn.Module):
    """A forward hook that closes over the module."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.a.register_forward_hook(lambda layer, args, out: out + self.b(args[0]))
        self.b.register_forward_pre_hook(self.before)

    def before(self, layer: nn.Module, args: Any) -> Any:
        return (args[0] * self.a.bias,)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x)


class AsksTypes(nn.Module):
    """Layers that are told apart by their very types."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.layers = nn.ModuleList([nn.BatchNorm1d(6), nn.Dropout(rate), attention, nn.Linear(6, 6)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if type(layer) is nn.MultiheadAttention:
                x = layer(x[None], x[None], x[None])[0][0]
            elif type(layer) in (nn.BatchNorm1d, nn.Dropout):
                x = 2 * layer(x)
            else:
                x = layer(x)
        return x


class CopiesLayer(nn.Module):
    """A layer that is copied at each call, to be given other weights."""

    def __init__(self, how: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self.norm, self.how = nn.BatchNorm1d(6), how

    def forward(self, x: Tensor) -> Tensor:
        fast = self.how(self.norm)
        fast._parameters = {name: 2 * value for name, value in self.norm.named_parameters()}
        return fast(x)


LATER: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "a generator": lambda layer, x: (layer(x) for _ in range(2)),
    "a map": lambda layer, x: map(layer, [x, x]),
    "a function": lambda layer, x: lambda: layer(x),
    "a partial": lambda layer, x: functools.partial(layer, x),
    "a layer": lambda layer, x: layer,
}


class ReturnsCode(nn.Module):
    """Part of what it returns is computed when somebody asks for it."""

    def __init__(self, how: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.how = nn.Linear(6, 6), how

    def forward(self, x: Tensor) -> Any:
        return self.linear(x), self.how(self.linear, x)


class KeepsFeatures(nn.Module):
    """A hook that keeps what a layer gave, in a dict of the module's."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.kept = nn.Linear(6, 6), {}
        self.a.register_forward_hook(lambda layer, args, out: self.kept.__setitem__("a", out))

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x).tanh() + self.kept["a"]


class ForwardReplaced(nn.Module):
    """A layer whose forward was replaced by a lambda around the old one."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.lin, self.drop = nn.Linear(6, 6), nn.Dropout(rate)
        old, older = self.lin.forward, self.drop.forward
        self.lin.forward = lambda x: old(x) * 2  # type: ignore[method-assign]
        self.drop.forward = lambda x: older(x) * 2  # type: ignore[method-assign]

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.lin(x))


class Partials(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.act = functools.partial(self.scaled, factor=2.0)
        self.late = functools.partial(self.a)

    def scaled(self, x: Tensor, factor: float) -> Tensor:
        return factor * self.a(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.act(x))


class PartialOfWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.run = functools.partial(F.linear, weight=self.a.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


class AsksParent(nn.Module):
    """A child with a reference to its parent that does not make it the parent's parent."""

    parent: Any

    def forward(self, x: Tensor) -> Tensor:
        parent: Any = self.parent() if isinstance(self.parent, weakref.ref) else self.parent
        return x * parent.scale


class WeakParent(nn.Module):
    def __init__(self, reference: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self.scale, self.child = nn.Parameter(torch.randn(6)), AsksParent()
        self.child.__dict__["parent"] = reference(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.child(x)


class BareWeight(nn.Module):
    """A parameter of a child's as a plain attribute too."""

    w: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(6, 6)
        self.__dict__["w"] = self.l.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.l(x), self.w)


class BareLayer(nn.Module):
    """A child under a second name, out of nn.Module's sight."""

    hidden: list[nn.Linear]

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(6, 6)
        self.__dict__["hidden"] = [self.l]

    def forward(self, x: Tensor) -> Tensor:
        return self.hidden[0](x)


class Lora(nn.Module):
    """Merges its update into the weight when evaluation begins."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.merged = nn.Parameter(torch.randn(6, 6)), False
        self.down, self.up = nn.Parameter(torch.randn(2, 6)), nn.Parameter(torch.randn(6, 2))

    def train(self, mode: bool = True) -> "Lora":
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * (self.up @ self.down).detach()
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight if self.merged else self.weight + self.up @ self.down
        return F.linear(x, weight)


class PartFrozen(nn.Module):
    """A train() that keeps a part evaluating, its statistics and its dropout with it."""

    def __init__(self, part: nn.Module, rate: float = 0.0) -> None:
        super().__init__()
        self.frozen = nn.Sequential(nn.Linear(6, 6), part)
        self.live = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(rate))

    def train(self, mode: bool = True) -> "PartFrozen":
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.live(self.frozen(x))


class FrozenInForward(nn.Module):
    """The forward itself tells a part to evaluate."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        self.part.eval()
        return self.part(x)


class Property(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(6, 6)

    @property
    def weight(self) -> Tensor:
        return self.l.weight.softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class CachedProperty(Property):
    """Computed from parameters once, in the first call."""

    @functools.cached_property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.l.weight.softmax(-1)


class CachedAttribute(Property):
    cached: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.cached is None:
            self.cached = self.weight
        return F.linear(x, self.cached)


class CountsCalls(nn.Module):
    """A number of Python's that the forward moves; used: whether it changes what the next call gives."""

    def __init__(self, used: bool) -> None:
        super().__init__()
        self.calls, self.used = 0, used

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls if self.used else x


class StateOfItsOwn(nn.Module):
    """A recurrence that keeps its state as an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.state = nn.Linear(6, 6), None

    def forward(self, x: Tensor) -> Tensor:
        before = torch.zeros_like(x) if self.state is None else self.state
        after = torch.tanh(x + self.cell(before))
        self.state = after.detach()
        return after


class CacheByShape(nn.Module):
    """Positions, kept in a dict and in a list of the class's."""

    made: dict[int, Tensor] = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if x.shape not in self.cache:
            self.cache[x.shape] = torch.linspace(0, 1, x.shape[-1], dtype=x.dtype)
        if x.ndim not in self.made:
            self.made[x.ndim] = torch.ones(6, dtype=x.dtype)
        return x + self.cache[x.shape] * self.made[x.ndim]


class History(nn.Module):
    """Appends what it saw; the mean of all of it is what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        return x + torch.stack(self.seen).mean(0)


class SumsAll(nn.Module):
    """Reads all of its tensors by nn.Module's own methods."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.register_buffer("shift", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        total = sum(b.sum() for b in self.buffers()) + sum(p.square().sum() for p in self.parameters())
        return self.b(self.a(x)) + total + self.state_dict()["a.weight"].mean() + len(list(self.named_modules()))


class LockAndFile(nn.Module):
    """What cannot be copied, as attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.lock, self.file = nn.Linear(6, 6), threading.Lock(), sys.__stderr__
        self.pool = {"locks": [threading.RLock()]}

    def forward(self, x: Tensor) -> Tensor:
        with self.lock, self.pool["locks"][0]:
            return self.a(x)


class Tied(nn.Module):
    """A decoder with the embedding's weight, and one dropout under two names."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.embedding, self.decoder = nn.Embedding(6, 4), nn.Linear(4, 6)
        self.decoder.weight = self.embedding.weight
        self.drop = self.again = nn.Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.again(self.drop(self.embedding(x)).tanh()))


class DropWeight(nn.Module):
    """A parametrization that is noise."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, weight: Tensor) -> Tensor:
        return F.dropout(weight, self.rate, self.training)


class Containers(nn.Module):
    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.scales = nn.ParameterList(torch.randn(6) for _ in range(3))
        self.shifts = nn.ParameterDict({"first": torch.randn(6), "plain": 2.0})
        self.layers = nn.ModuleDict({"a.b".replace(".", "_"): nn.Linear(6, 6), "drop": nn.Dropout(rate)})

    def forward(self, x: Tensor) -> Tensor:
        for scale in self.scales:
            x = x * scale
        for layer in self.layers.values():
            x = layer(x)
        return self.shifts["plain"] * x + self.shifts["first"]


class Wrapper(nn.Module):
    """What it does not have, the module inside has."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.inner(x), self.p, self.training) + self.p


class Scheduled(nn.Module):
    """The forward sets the rate of its dropout."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate, self.drop = rate, nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        self.drop.p = self.rate
        return self.drop(x)


class Ignored(nn.Module):
    """A dropout in place, whose result is ignored."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.drop = nn.Dropout(rate, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = 2 * x
        self.drop(h)
        return h


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool, rate: float = 0.0) -> None:
        super().__init__()
        self.a, self.drop, self.rate, self.reentrant = nn.Linear(6, 6), nn.Dropout(rate), rate, reentrant

    def part(self, x: Tensor) -> Tensor:
        return F.dropout(self.drop(self.a(x)).tanh(), self.rate, self.training)

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.part, x, use_reentrant=self.reentrant)


class CheckpointedInPieces(nn.Module):
    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 6), nn.Dropout(rate), nn.Linear(6, 6), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint_sequential(self.layers, 2, x, use_reentrant=False)


class WritesInput(nn.Module):
    """An in-place ReLU and another in-place function on what the caller gave."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(F.relu(x, inplace=True).clamp_(max=1.0))


class AuxiliaryHead(nn.Module):
    """Gives more in training, and drops out in the same forward."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.a, self.b, self.rate = nn.Linear(6, 6), nn.Linear(6, 3), rate

    def forward(self, x: Tensor) -> Any:
        h = F.dropout(self.a(x), self.rate, self.training)
        return (h, self.b(x)) if self.training else h


class OtherValue(nn.Module):
    """A temperature in training only, beside noise: no other part than noise may differ."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate, True) * 0.5 if self.training else x


class Memoized(nn.Module):
    """Keeps what a method gave once for good, outside of the module."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.a, self.what = nn.Linear(6, 6), what

    @functools.lru_cache(maxsize=8)  # noqa: B019  (what is refused)
    def scale(self, features: int) -> Tensor:
        return self.a.bias.exp() if self.what == "weights" else torch.arange(features) / features

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) * self.scale(x.shape[-1])


class Rethought(nn.Module):
    """Calls its layer by `functional_call` on weights that it computes."""

    def __init__(self, scale: float = 0.0) -> None:
        super().__init__()
        self.inner, self.scale = nn.Linear(6, 6), scale

    def forward(self, x: Tensor) -> Tensor:
        weights: dict[str, Tensor] = dict(self.inner.named_parameters())
        if self.training:
            weights = {name: weight + self.scale * torch.randn_like(weight) for name, weight in weights.items()}
        return torch.func.functional_call(self.inner, weights, (x,))


class Energy(nn.Module):
    """The gradient of a potential, by autograd in the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            place = x if x.requires_grad else x.detach().requires_grad_()
            potential = self.a(place).tanh().square().sum()
            return torch.autograd.grad(potential, place, create_graph=self.training)[0]


class InnerVmap(nn.Module):
    """`vmap` over heads, inside of the forward."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.heads, self.drop = nn.Parameter(torch.randn(3, 6, 6)), nn.Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(torch.func.vmap(lambda weight: F.linear(x, weight).tanh())(self.heads)).mean(0)


def _spectral(rate: float = 0.0) -> nn.Module:
    return nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 6)), nn.Dropout(rate))


def _noisy_weight(rate: float = 0.0) -> nn.Module:
    layer = nn.Linear(6, 6)
    parametrize.register_parametrization(layer, "weight", DropWeight(rate))
    return layer


class NoisyRecurrence(nn.Module):
    """An LSTM whose recurrent weights are computed, and keep what they were at the last call in a list of its own."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.recurrence = nn.LSTM(6, 6, batch_first=True)
        parametrize.register_parametrization(self.recurrence, "weight_hh_l0", DropWeight(rate))
        self.recurrence(torch.zeros(1, 1, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.recurrence(x)[0]


def _old_spectral() -> nn.Module:
    return nn.utils.spectral_norm(nn.Linear(6, 6))


def _scripted(rate: float = 0.0) -> nn.Module:
    return torch.jit.script(nn.Dropout(rate))


def specimens() -> list[Specimen]:
    return [
        nested("lambdas in a list", Lambdas),
        nested("functions in a dict", NamedSteps),
        nested("lambda around a parameter", ClosesOverWeight, refuses=at_once("block.trial (ClosesOverWeight)")),
        nested("hook around the module", Hooked),
        nested("hook that keeps features", KeepsFeatures),
        nested("forward replaced", ForwardReplaced, noise=RATE),
        nested("partial of a method", Partials),
        nested("partial of a parameter", PartialOfWeight, refuses=at_once("keeps parameters where they cannot")),
        nested("weak reference to the parent", lambda: WeakParent(weakref.ref)),
        nested("weak proxy of the parent", lambda: WeakParent(weakref.proxy)),
        nested("bare parameter", BareWeight),
        nested("bare layer in a list", BareLayer),
        nested("LoRA that merges", Lora, refuses=at_once("block.trial (Lora), whose train() changes")),
        nested("frozen batch norm", lambda rate=0.0: PartFrozen(nn.BatchNorm1d(6), rate), noise=RATE),
        nested("frozen dropout", lambda: PartFrozen(nn.Dropout(0.5))),
        nested("frozen function", lambda: PartFrozen(DropWeight(0.5))),
        nested("batch norm frozen in forward", lambda: FrozenInForward(nn.BatchNorm1d(6))),
        nested("dropout frozen in forward", lambda: FrozenInForward(nn.Dropout(0.5))),
        nested("property", Property),
        nested("cached property", CachedProperty),
        nested("cached attribute", CachedAttribute),
        nested("counts its calls", lambda: CountsCalls(False)),
        nested(
            "uses the count of its calls",
            lambda: CountsCalls(True),
            refuses=in_every_call("block.trial (CountsCalls) sets 'calls', which its next call uses"),
        ),
        nested(
            "state as an attribute",
            StateOfItsOwn,
            refuses=in_every_call("block.trial (StateOfItsOwn) sets 'state', which its next call uses"),
        ),
        nested("cache by shape", CacheByShape),
        nested("history in a list", History),
        nested("lru_cache of constants", lambda: Memoized("constants")),
        nested(
            "lru_cache of weights",
            lambda: Memoized("weights"),
            refuses=in_every_call("block.trial (Memoized) uses what an earlier call has computed"),
        ),
        nested("sums of all tensors", SumsAll),
        nested("lock and file", LockAndFile),
        *(
            alone(f"returns {what}", functools.partial(ReturnsCode, how), refuses=in_every_call("runs after the call"))
            for what, how in LATER.items()
        ),
        nested("layers by type", AsksTypes, noise=RATE),
        nested("layer copied in forward", lambda: CopiesLayer(copy.copy), refuses=in_every_call("forward runs a copy")),
        alone("tied weights", Tied, tokens, noise=RATE),
        nested("spectral norm", _spectral, noise=RATE),
        alone("spectral norm on top", lambda: parametrizations.spectral_norm(nn.Linear(6, 3))),
        alone("weight norm on top", lambda: parametrizations.weight_norm(nn.Linear(6, 3))),
        nested("weight norm", lambda: parametrizations.weight_norm(nn.Linear(6, 6))),
        nested("orthogonal weight", lambda: parametrizations.orthogonal(nn.Linear(6, 6))),
        nested("parametrization that drops out", _noisy_weight, noise=RATE),
        alone("parametrization that drops out, on top", _noisy_weight, noise=RATE),
        nested(
            "parametrized LSTM, called before",
            NoisyRecurrence,
            sequences,
            noise=RATE,
            refuses={"samples": 'rnn="unrolled"'},
        ),
        nested("old spectral norm", _old_spectral, refuses=at_once("block.trial (Linear) with the old SpectralNorm")),
        nested("containers", Containers, noise=RATE),
        nested("wrapper by __getattr__", lambda rate=0.0: Wrapper(nn.Dropout(rate)), noise=RATE),
        nested("nn.DataParallel", lambda rate=0.0: nn.DataParallel(nn.Dropout(rate)), noise=RATE),
        nested("scripted dropout", _scripted, noise=RATE, refuses=in_monte_carlo("block.trial")),
        nested("rate set in forward", Scheduled, noise=RATE),
        nested("nn.Dropout in place, ignored", Ignored, noise=RATE),
        nested("checkpoint", lambda rate=0.0: Checkpointed(False, rate), noise=RATE),
        nested("checkpoint, reentrant", lambda rate=0.0: Checkpointed(True, rate), noise=RATE),
        nested("checkpoint_sequential", CheckpointedInPieces, noise=RATE),
        alone("writes into its input", WritesInput),
        nested("weights of functional_call", Rethought, noise=SCALE),
        nested("autograd in the forward", Energy, refuses={"samples": "block.trial"}),
        nested("vmap in the forward", InnerVmap, noise=RATE),
        alone(
            "auxiliary head beside dropout",
            lambda rate=0.0: nn.Sequential(AuxiliaryHead(rate)),
            noise=RATE,
            refuses=in_monte_carlo("0 (AuxiliaryHead), which draws only in training mode"),
        ),
        nested(
            "other values beside dropout",
            OtherValue,
            noise=RATE,
            refuses=in_monte_carlo("block.trial (OtherValue), which draws only in training mode"),
        ),
    ]
