"""Statistics and other state: what a forward assigns is right, what it writes in place is refused by name."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.hand_written.parts import (
    RATE,
    alone,
    in_every_call,
    in_monte_carlo,
    nested,
    nested_in_images,
    tokens,
)
from tests.zoo.specimen import Specimen


class CopiedForward(nn.BatchNorm2d):
    """torch's forward, as it is copied into a subclass: a count in place, statistics by the function."""

    def forward(self, input: Tensor) -> Tensor:
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            if self.momentum is None:
                factor = 1.0 / float(self.num_batches_tracked)  # type: ignore[arg-type]
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, self.training, factor, self.eps
        )


class SuperForward(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.relu(super().forward(input))


class OwnStatistics(nn.Module):
    """Buffers of its own under names of its own, and one function of torch's."""

    mean: Tensor
    var: Tensor

    def __init__(self, instance: bool = False, rate: float = 0.0) -> None:
        super().__init__()
        self.instance, self.rate = instance, rate
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.instance:
            return F.instance_norm(x, self.mean, self.var, use_input_stats=self.training, momentum=0.2)
        y = F.batch_norm(x, self.mean, self.var, training=self.training, momentum=0.2)
        return F.dropout(y, self.rate, self.training)


class StatisticsOfAChild(nn.Module):
    """The parent normalises by the statistics of a batch norm that it keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        bn = self.bn
        return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, self.training, 0.1, bn.eps)


class AssignedAverage(nn.Module):
    """Running statistics as an assignment."""

    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.average = 0.9 * self.average + 0.1 * x.detach().mean(0)
        return x - self.average


class WrittenAverage(AssignedAverage):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.average.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        return x - self.average


class LerpedAverage(AssignedAverage):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.average.lerp_(x.mean(0), 0.1)
        return x - self.average


class CopiedAverage(AssignedAverage):
    """Written through a slice."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.average[:] = x.detach().mean(0)
        return x - self.average


class Codebook(nn.Module):
    """Vector quantisation whose codes are averages of what fell to them, through .data."""

    codes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        nearest = F.one_hot(torch.cdist(x, self.codes).argmin(-1), 5).to(x.dtype)
        if self.training:
            self.codes.data.mul_(0.9).add_(nearest.T @ x.detach(), alpha=0.1)
        return x + (nearest @ self.codes - x).detach()


class SetData(AssignedAverage):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.average.data = 0.9 * self.average + 0.1 * x.detach().mean(0)
        return x - self.average


class Counter(nn.Module):
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x / self.calls


class Renormed(nn.Module):
    """An embedding that shortens its rows before it reads them."""

    def __init__(self, function: bool = False) -> None:
        super().__init__()
        self.function = function
        self.embedding = nn.Embedding(6, 6, max_norm=None if function else 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.embedding(x, self.embedding.weight, max_norm=0.5) if self.function else self.embedding(x)


class ClippedData(nn.Module):
    """A critic's weights, clipped at the start of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.weight.data.clamp_(-0.1, 0.1)
        return F.linear(x, self.weight)


class ClippedInPlace(ClippedData):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.weight.clamp_(-0.1, 0.1)
        return F.linear(x, self.weight)


class ClippedNew(ClippedData):
    """A new parameter takes the old one's place."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.weight = nn.Parameter(self.weight.detach().clamp(-0.1, 0.1))
        return F.linear(x, self.weight)


class PlainTensor(nn.Module):
    """A tensor that is neither parameter nor buffer, written in place."""

    def __init__(self) -> None:
        super().__init__()
        self.total = torch.zeros(6, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.total.add_(x.detach().sum(0))
        return x + self.total


class Memory(nn.Module):
    """Keys of the examples that were evaluated, which grow: a buffer of another shape."""

    seen: Tensor

    def __init__(self, persistent: bool) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1, 6), persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            self.seen = torch.cat([self.seen, x.detach()])
        return x + self.seen.mean(0)


class LateParameter(nn.Module):
    """A scale that the first batch decides, such as ActNorm's."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "scale"):
            self.scale = nn.Parameter(1 / x.detach().std(0))
        return x * self.scale


class LateLayer(nn.Module):
    """A layer of the first batch's width."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "linear"):
            self.linear = nn.Linear(x.shape[-1], x.shape[-1], dtype=x.dtype)
        return x + 0 * self.linear(x)


class LateBuffer(nn.Module):
    """A buffer that is None until the first evaluation."""

    weights: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return x
        if self.weights is None:
            self.weights = torch.linspace(1.0, 2.0, x.shape[-1], dtype=x.dtype)
        return x * self.weights


def specimens() -> list[Specimen]:
    def written(name: str, kind: type[nn.Module], what: str) -> Specimen:
        return nested(name, kind, refuses={"trains": f"writes into block.trial.{what} in place"})

    renormed = in_every_call("writes into embedding.weight in place")
    return [
        nested_in_images("nn.BatchNorm2d, copied forward", lambda: CopiedForward(4)),
        nested_in_images("nn.BatchNorm2d, copied forward, average", lambda: CopiedForward(4, momentum=None)),
        nested_in_images("nn.BatchNorm2d, super().forward", lambda: SuperForward(4)),
        nested_in_images("F.batch_norm on its buffers", OwnStatistics),
        nested_in_images(
            "F.batch_norm and dropout",
            lambda rate=0.0: OwnStatistics(rate=rate),
            noise=RATE,
            refuses=in_monte_carlo("block.trial (OwnStatistics), which draws only in training mode"),
        ),
        nested_in_images("F.batch_norm on a child's buffers", StatisticsOfAChild),
        nested_in_images("F.instance_norm on its buffers", lambda: OwnStatistics(instance=True)),
        nested_in_images("nn.InstanceNorm2d, tracking", lambda: nn.InstanceNorm2d(4, track_running_stats=True)),
        nested_in_images("nn.SyncBatchNorm", lambda: nn.SyncBatchNorm(4)),
        nested_in_images("nn.BatchNorm2d, momentum=None", lambda: nn.BatchNorm2d(4, momentum=None)),
        nested_in_images("nn.BatchNorm2d, not tracking", lambda: nn.BatchNorm2d(4, track_running_stats=False)),
        nested("average assigned", AssignedAverage),
        nested("average in place", WrittenAverage),
        nested("average by lerp_", LerpedAverage),
        nested("average by slice", CopiedAverage),
        nested("average by .data =", SetData),
        nested("codebook through .data", Codebook),
        nested("counter in place", Counter),
        alone("nn.Embedding with max_norm", Renormed, tokens, refuses=renormed),
        alone("F.embedding with max_norm", lambda: Renormed(True), tokens, refuses=renormed),
        written("weights clipped through .data", ClippedData, "weight"),
        written("weights clipped in place", ClippedInPlace, "weight"),
        nested("weights clipped into a new parameter", ClippedNew, refuses={"trains": "block.trial.weight"}),
        written("plain tensor in place", PlainTensor, "total"),
        nested(
            "buffer of another shape",
            lambda: Memory(persistent=True),
            refuses=dict.fromkeys(("evaluates", "samples"), "replaces block.trial.seen"),
        ),
        nested("cache of another shape", lambda: Memory(persistent=False)),
        nested("buffer from None", LateBuffer),
        nested("parameter made in forward", LateParameter, refuses=in_every_call("makes the parameter")),
        nested("layer made in forward", LateLayer, refuses=in_every_call("block.trial")),
    ]
