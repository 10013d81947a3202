"""Settings, vmap, gradients, dtypes, compiling."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import funcreg as fr
from tests.faults import KEY, RATE, X, fault

untyped: Any = fr  # for arguments that pyright would refuse

SETTINGS = [
    fault("settings", "a Python if", lambda x, rate: x * rate if rate > 0 else x, batched=RATE),
    fault("settings", "float()", lambda x, rate: x * float(rate), batched=RATE),
    fault("settings", "round()", lambda x, rate: x * round(float(rate), 1), batched=RATE),
    fault("settings", "math.exp", lambda x, rate: x * math.exp(rate), batched=RATE),
    fault("settings", "max()", lambda x, rate: x * max(0.1, rate), batched=RATE),
    fault("settings", "item()", lambda x, rate: x * torch.as_tensor(rate).item(), batched=RATE),
    fault("settings", "an argument that torch wants as a number", lambda x, rate: F.leaky_relu(x, rate), batched=RATE),
    fault("settings", "alpha=", lambda x, rate: torch.add(x, x, alpha=rate), batched=RATE),
    fault("settings", "torch.full", lambda x, rate: x + torch.full((3,), rate).to(x.dtype), batched=RATE),
    fault("settings", "another meaning as a tensor",
     lambda x, rate: x * (rate if isinstance(rate, float) else 1 - rate), batched=RATE),
    fault("settings", "numbers are refused", lambda x, rate: x * rate.to(x.dtype), batched=RATE),
    fault("settings", "forgotten", lambda x, rate: x * 2, batched=RATE),
    fault("settings", "forgotten where it is a tensor",
     lambda x, rate: x if isinstance(rate, Tensor) else x * rate, batched=RATE),
    fault("settings", "one of two",
     lambda x, rate, low: x * rate + float(low), batched={**RATE, "low": (0.0, 0.1, 0.2)}),
    fault("settings", "torch's own dropout", lambda x, rate: F.dropout(x, rate, training=False), batched=RATE),
]  # fmt: skip


class _NoRule(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad * 2


class _WrongRule(_NoRule):
    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return x * 2 + x.mean(0, keepdim=True), 0


def _into_zeros(x: Tensor) -> Tensor:
    total = torch.zeros(3, dtype=x.dtype)
    total += x.sum(0)
    return total


def _into_zeros_from_a_key(x: Tensor, *, key: Tensor) -> Tensor:
    noise = torch.zeros(3)
    noise += fr.random.uniform(key, 3)
    return x + noise.to(x.dtype)


LSTM = nn.LSTM(3, 2)

VMAP = [
    fault("vmap", "item()", lambda x: x / x.max().item()),
    fault("vmap", "a Python if", lambda x: x if x.sum() > 0 else -x),
    fault("vmap", "a shape that depends on values", lambda x: x[x > 0].sum()),
    fault("vmap", "nonzero", lambda x: x.flatten()[x.flatten().nonzero()].sum()),
    fault("vmap", "tolist()", lambda x: x * len(x.detach().flatten().tolist()), gradients=False),
    fault("vmap", "in place into what is not batched", _into_zeros),
    fault("vmap", "in place from a key", _into_zeros_from_a_key, key=KEY),
    fault("vmap", "an operator without a rule", _NoRule.apply),
    fault("vmap", "an operator with a wrong rule", _WrongRule.apply),
    fault("vmap", "recurrent layers of torch", lambda x: LSTM(x)[0], gradients=False),
]

ZERO = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, -3.0]])

FINITE = [
    fault("finite", "the root at 0", lambda x: x.square().sum(1).sqrt(), ZERO),
    fault("finite", "a direction of nothing", lambda x: x / x.square().sum(1, keepdim=True).sqrt(), ZERO),
    fault("finite", "a root behind torch.where", lambda x: torch.where(x > 0, x.abs().sqrt(), 0.0), ZERO),
    fault("finite", "0 log 0", lambda x: (x * x.abs().log()).sum(), ZERO),
    fault("finite", "0 / 0 of a setting", lambda x, rate: x * rate / rate, batched=RATE),
    fault("finite", "a slope of infinity at a setting", lambda x, rate: x * torch.as_tensor(rate) ** 0.5, batched=RATE),
    fault("finite", "the logarithm of a softmax", lambda x: torch.softmax(1000 * x, 1).log().mean()),
    fault("finite", "an exponential that overflows", lambda x: (1000 * x).exp() / (1000 * x).exp().sum()),
]


class _Of(torch.autograd.Function):
    """A square whose gradient is another's."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x**2

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad * ctx.saved_tensors[0]


BACKWARD = [
    fault("backward", "half of a slope", _Of.apply),
    fault("backward", "half of a slope inside of a function", lambda x: (_Of.apply(x.sin()) * 3).sum()),
    fault("backward", "beside what is right", lambda x, y: x.exp() + _Of.apply(y), X, X.flip(0)),
]

DTYPES = [
    fault("dtype", "float()", lambda x: x.float() * 2),
    fault("dtype", "double()", lambda x: x.double() * 2),
    fault("dtype", "half()", lambda x: x.half() * 2),
    fault("dtype", "the default dtype", lambda x: x + torch.zeros(3)),
    fault("dtype", "a mask in float32", lambda x, *, key: x * (fr.random.uniform(key, (2, 3)) > 0.5).float(), key=KEY),
    fault("dtype", "noise in float32", lambda x, *, key: x + fr.random.normal(key, (2, 3)), key=KEY),
    fault("dtype", "a matrix that is made in float32", lambda x: x @ torch.eye(3)),
    fault("dtype", "a setting promotes", lambda x, rate: x.sum() * rate, batched=RATE),
    fault("dtype", "one of two results", lambda x: (x * 2, x.sum(dtype=torch.float64))),
    fault("dtype", "16 bits in a sum that should be wider", lambda x: x.sum(), dtype="widened"),
]


def _prints(x: Tensor) -> Tensor:
    torch._dynamo.graph_break()
    return x * 2


def _checked_compiled(calls: Any) -> Any:
    return lambda: fr.testing.assert_compiles_once(*calls)


COMPILED = [
    fault("compiled", "another result", lambda x: x * (2 if torch.compiler.is_compiling() else 3), jit=True),
    fault("compiled", "cannot be compiled whole", _prints, jit=True),
    ("compiled 2 times", "a new shape", _checked_compiled((lambda x: x * 2, (X,), (X[:1],)))),
    ("compiled 3 times", "a word",
     _checked_compiled((lambda x, word: x * len(word), *((X, word) for word in ("a", "b", "c"))))),
    ("compiled 2 times", "a dtype", _checked_compiled((lambda x: x * 2, (X,), (X.double(),), (X,)))),
    ("compiled 2 times", "a list grows", _checked_compiled((lambda xs: sum(xs), ([X],), ([X, X],)))),
]  # fmt: skip

FAULTS = [*SETTINGS, *VMAP, *FINITE, *BACKWARD, *DTYPES, *COMPILED]
