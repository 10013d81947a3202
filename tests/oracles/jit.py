"""What `jit` is compared with: the same functions of torch, run eagerly."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._inductor import cpp_builder
from torch._inductor.exc import InvalidCxxCompiler
from torch.func import grad, vmap

import funcreg as fr
from tests.oracles import Pair, oracle


@oracle(
    "jit",
    against="the eager step of a network and its gradient, for members and Python numbers",
    tolerance=1e-13,
    because="float64: a fused program sums in another order",
)
def eager() -> Pair:
    def loss(params: dict[str, Tensor], x: Tensor, rate: Any) -> Tensor:
        hidden = F.gelu(F.linear(x, params["first"]))
        return F.softplus(F.linear(hidden, params["second"])).mean() + rate * params["first"].square().sum()

    losses, slopes = vmap(loss, (0, None, None)), vmap(grad(loss), (0, None, None))

    def steps(params: dict[str, Tensor], x: Tensor, rate: float) -> Any:
        gradients = slopes(params, x, rate)
        return {name: params[name] - 0.1 * gradients[name] for name in params}, losses(params, x, rate)

    generator = torch.Generator().manual_seed(0)
    shapes = {"first": (3, 8, 5), "second": (3, 2, 8)}
    params = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    x, compiled = torch.randn(4, 5, generator=generator, dtype=torch.float64), fr.jit(steps)
    return [compiled(params, x, rate) for rate in (0.0, 0.5)], [steps(params, x, rate) for rate in (0.0, 0.5)]


@oracle("can_compile", against="torch's own search for a C++ compiler", tolerance=0, because="a boolean", constant=True)
def by_looking() -> Pair:
    try:
        return fr.can_compile(), bool(cpp_builder.get_cpp_compiler())
    except InvalidCxxCompiler:
        return fr.can_compile(), False
