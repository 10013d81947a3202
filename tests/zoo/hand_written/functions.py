"""Noise with a rate that a forward calls as a function, and subclasses of torch's own noisy layers."""

from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.hand_written.parts import NOISY, RATE, nested, nested_in_images, sequences
from tests.zoo.specimen import Specimen


class IfTraining(nn.Module):
    """The function knows no mode; the forward's `if` does."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = F.dropout(x, self.rate)
        return x


class Called(nn.Module):
    """One of dropout's family, (input, p, training), on (batch, channels) with further axes of length 1."""

    def __init__(self, function: Callable[..., Tensor], axes: int = 0, rate: float = 0.0) -> None:
        super().__init__()
        self.function, self.axes, self.rate = function, axes, rate

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x.reshape(*x.shape, *[1] * self.axes), self.rate, self.training).reshape(x.shape)


class Twice(IfTraining):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate, self.training) + F.dropout(x, self.rate, self.training)


class AlwaysOn(IfTraining):
    """Monte Carlo dropout by hand: its default is training=True."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate)


class InPlaceIgnored(IfTraining):
    def forward(self, x: Tensor) -> Tensor:
        h = 2 * x
        F.dropout(h, self.rate, self.training, inplace=True)
        return h


class InPlaceUsed(IfTraining):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(2 * x, p=self.rate, training=self.training, inplace=True)


class InPlaceKept(nn.Module):
    """What was written in place is used under both of its names: the difference is 0."""

    def __init__(self, write: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.write = write

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        h = 2 * x
        return x + (self.write(h) - h)


class Underscore(IfTraining):
    def forward(self, x: Tensor) -> Tensor:
        h = 2 * x
        torch.dropout_(h, self.rate, self.training)
        return h


class Slopes(nn.Module):
    def __init__(self, upper: float = 0.2) -> None:
        super().__init__()
        self.upper = upper

    def forward(self, x: Tensor) -> Tensor:
        return F.rrelu(x, 0.2, self.upper, self.training)


class Gumbel(nn.Module):
    def __init__(self, hard: bool, noisy: bool = False) -> None:
        super().__init__()
        self.hard, self.noisy = hard, noisy

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.noisy:
            return F.gumbel_softmax(x, tau=0.7, hard=self.hard)
        return F.softmax(x, dim=-1)


class FractionalPool(nn.Module):
    """At 5 of 6 pixels with a kernel of 2, there is one way to pool."""

    def __init__(self, size: int = 5) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        pooled, _ = F.fractional_max_pool2d(x, 2, output_size=self.size, return_indices=True)
        return pooled


class Depth(IfTraining):
    def __init__(self, mode: str, rate: float = 0.0) -> None:
        super().__init__(rate)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        for factor in (1.0, 2.0, 3.0):
            x = x + torchvision.ops.stochastic_depth(factor * x, self.rate, self.mode, self.training)
        return x


class Renamed(nn.Dropout):
    """A subclass with nothing of its own."""


class Residual(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:
        return input + super().forward(input)


class Copied(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training, self.inplace)


class LastState(nn.LSTM):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        out, (hidden, _) = super().forward(x)
        return out + hidden[-1].unsqueeze(1)


class BothEnds(nn.GRU):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        out, hidden = super().forward(x)
        return out[..., :6] + out[..., 6:] + hidden[-1].unsqueeze(1)


class SelfAttention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, x, x, need_weights=False)[0]


class AttentionMap(nn.MultiheadAttention):
    """Its weights, which dropout reaches, are part of what it gives."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        out, weights = super().forward(x, x, x, average_attn_weights=True)
        assert weights is not None
        return out + weights.sum(-1, keepdim=True) + weights[..., :1]


class OwnOrder(nn.TransformerEncoderLayer):
    """The parts of torch's layer, in a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        x = x + self._sa_block(self.norm1(x), None, None)
        return x + self._ff_block(self.norm2(x))


class Doubled(nn.TransformerEncoderLayer):
    """torch's own forward, which in evaluation takes a fused path without any dropout."""

    def forward(self, src: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return 2 * super().forward(src, *args, **kwargs)


class EncoderLayer(nn.TransformerEncoderLayer):
    """A subclass with nothing of its own."""


class Projections(nn.Module):
    """`F.multi_head_attention_forward` on parameters of its own."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate
        self.inner, self.outer = nn.Parameter(torch.randn(18, 6) / 3), nn.Parameter(torch.randn(6, 6) / 3)

    def forward(self, x: Tensor) -> Tensor:
        q = x.transpose(0, 1)
        out, _ = F.multi_head_attention_forward(
            q, q, q, 6, 2, self.inner, None, None, None, False, self.rate, self.outer, None, training=self.training
        )
        return out.transpose(0, 1)


class Scaled(nn.Module):
    """`F.scaled_dot_product_attention`; with `hidden`, of some examples, no key may be seen by the first query."""

    def __init__(self, rate: float = 0.0, hidden: bool = False, causal: bool = False, additive: bool = False) -> None:
        super().__init__()
        self.qkv = nn.Linear(6, 18)
        self.rate, self.hidden, self.causal, self.additive = rate, hidden, causal, additive

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 3)).permute(2, 0, 3, 1, 4)
        mask = None
        if self.hidden:
            mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
            mask[0, :, 0] = False
            mask[1, :, 3, 2] = False
        if self.hidden and self.additive:
            mask = torch.zeros(2, 1, 5, 5, dtype=x.dtype).masked_fill(~mask, -torch.inf)  # type: ignore[operator]
        dropped = self.rate if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, mask, dropped, is_causal=self.causal)
        return out.transpose(1, 2).flatten(2)


class Padded(nn.Module):
    """Multi-head attention with an example of nothing but padding: NaN or not, by torch's path, and made 0."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, dropout=rate, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        padding = torch.zeros(2, 5, dtype=torch.bool)
        padding[0] = True
        padding[1, 3:] = True
        out, _ = self.attention(x, x, x, key_padding_mask=padding, need_weights=False)
        return out.masked_fill(padding.all(1)[:, None, None], 0.0)


def _encoder(kind: type[nn.TransformerEncoderLayer]) -> Callable[..., nn.TransformerEncoderLayer]:
    def make(rate: float = 0.0) -> nn.TransformerEncoderLayer:
        return kind(6, 2, 8, dropout=rate, batch_first=True)

    return make


def specimens() -> list[Specimen]:
    upper = {"slope": {"upper": 0.6}}
    return [
        nested("dropout if training", IfTraining, noise=RATE),
        nested("dropout by a switch", lambda rate=0.0: Called(F.dropout, 0, rate), noise=RATE),
        nested("dropout twice", Twice, noise=RATE),
        nested("dropout always on", AlwaysOn, noise=RATE),
        nested("dropout in place, ignored", InPlaceIgnored, noise=RATE),
        nested("dropout in place, used", InPlaceUsed, noise=RATE),
        nested(
            "dropout in place, used twice",
            lambda: InPlaceKept(lambda h: F.dropout(h, 0.5, inplace=True)),
        ),
        nested(
            "nn.Dropout in place, used twice",
            lambda: InPlaceKept(nn.Dropout(0.5, inplace=True)),
        ),
        nested(
            "uniform_, used twice",
            lambda: InPlaceKept(lambda h: h.detach().uniform_().add_(0.0)),
        ),
        nested("torch.dropout", lambda rate=0.0: Called(torch.dropout, 0, rate), noise=RATE),
        nested("torch.dropout_, ignored", Underscore, noise=RATE),
        nested("torch.alpha_dropout", lambda rate=0.0: Called(torch.alpha_dropout, 0, rate), noise=RATE),
        nested("torch.feature_dropout", lambda rate=0.0: Called(torch.feature_dropout, 2, rate), noise=RATE),
        nested("F.alpha_dropout", lambda rate=0.0: Called(F.alpha_dropout, 0, rate), noise=RATE),
        nested("F.feature_alpha_dropout", lambda rate=0.0: Called(F.feature_alpha_dropout, 1, rate), noise=RATE),
        nested("F.dropout1d", lambda rate=0.0: Called(F.dropout1d, 1, rate), noise=RATE),
        nested("F.dropout2d", lambda rate=0.0: Called(F.dropout2d, 2, rate), noise=RATE),
        nested("F.dropout3d", lambda rate=0.0: Called(F.dropout3d, 3, rate), noise=RATE),
        nested_in_images("nn.FeatureAlphaDropout", lambda rate=0.0: nn.FeatureAlphaDropout(rate), noise=RATE),
        nested("nn.Dropout in place", lambda rate=0.0: nn.Dropout(rate, inplace=True), noise=RATE),
        nested("nn.RReLU", lambda upper=0.2: nn.RReLU(0.2, upper), noise=upper),
        nested("nn.RReLU in place", lambda upper=0.2: nn.RReLU(0.2, upper, inplace=True), noise=upper),
        nested("F.rrelu", Slopes, noise=upper),
        nested("gumbel softmax, soft", lambda noisy=False: Gumbel(False, noisy), noise=NOISY),
        nested("gumbel softmax, hard", lambda noisy=False: Gumbel(True, noisy), noise=NOISY),
        nested_in_images(
            "nn.FractionalMaxPool2d",
            lambda size=5: nn.FractionalMaxPool2d(2, output_size=size),
            noise={"place": {"size": 4}},
            refuses={"evaluates": "a key, since block.trial", "samples": "block.trial"},
        ),
        nested_in_images(
            "F.fractional_max_pool2d",
            FractionalPool,
            noise={"place": {"size": 4}},
            refuses={"evaluates": "a key, since block.trial", "samples": "block.trial"},
        ),
        nested_in_images("DropBlock2d", lambda rate=0.0: torchvision.ops.DropBlock2d(rate, 3), noise=RATE),
        nested("stochastic_depth by row", lambda rate=0.0: Depth("row", rate), noise=RATE),
        nested("stochastic_depth by batch", lambda rate=0.0: Depth("batch", rate), noise=RATE),
        nested("nn.Dropout renamed", lambda rate=0.0: Renamed(rate), noise=RATE),
        nested("nn.Dropout, super().forward", lambda rate=0.0: Residual(rate), noise=RATE),
        nested("nn.Dropout, copied forward", lambda rate=0.0: Copied(rate, inplace=True), noise=RATE),
        nested(
            "nn.LSTM, own forward",
            lambda rate=0.0: LastState(6, 6, 2, dropout=rate, batch_first=True),
            sequences,
            noise=RATE,
            refuses={"samples": "block.trial"},
        ),
        nested(
            "nn.GRU, own forward",
            lambda rate=0.0: BothEnds(6, 6, 2, dropout=rate, batch_first=True, bidirectional=True),
            sequences,
            noise=RATE,
            refuses={"samples": "block.trial"},
        ),
        nested(
            "nn.MultiheadAttention, own forward",
            lambda rate=0.0: SelfAttention(6, 2, dropout=rate, batch_first=True),
            sequences,
            noise=RATE,
        ),
        nested(
            "nn.MultiheadAttention, weights used",
            lambda rate=0.0: AttentionMap(6, 2, dropout=rate, batch_first=True),
            sequences,
            noise=RATE,
        ),
        nested("nn.TransformerEncoderLayer, own forward", _encoder(OwnOrder), sequences, noise=RATE),
        nested("nn.TransformerEncoderLayer, super().forward", _encoder(Doubled), sequences, noise=RATE),
        nested("nn.TransformerEncoderLayer renamed", _encoder(EncoderLayer), sequences, noise=RATE),
        nested(
            "nn.TransformerEncoder of a subclass",
            lambda rate=0.0: nn.TransformerEncoder(_encoder(EncoderLayer)(rate), 2),
            sequences,
            noise=RATE,
        ),
        nested("F.multi_head_attention_forward", Projections, sequences, noise=RATE),
        nested("F.scaled_dot_product_attention", Scaled, sequences, noise=RATE),
        nested(
            "F.scaled_dot_product_attention, causal", lambda rate=0.0: Scaled(rate, causal=True), sequences, noise=RATE
        ),
        nested("attention, a row hidden", lambda: Scaled(hidden=True), sequences),
        nested("attention, a row hidden, dropout", lambda rate=0.0: Scaled(rate, hidden=True), sequences, noise=RATE),
        nested("attention, a row hidden by -inf", lambda: Scaled(hidden=True, additive=True), sequences),
        nested(
            "attention, a row hidden by -inf, dropout",
            lambda rate=0.0: Scaled(rate, hidden=True, additive=True),
            sequences,
            noise=RATE,
        ),
        nested("attention, an example of padding", Padded, sequences, noise=RATE),
    ]
