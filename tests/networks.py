"""Networks of every kind that `from_module` handles, which the tests of `model` share."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

import funcreg as fr


class Tied(nn.Module):
    """An autoencoder whose decoder is its encoder's transpose, beside a plainly shared layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(6, 4)
        self.again = self.encode
        self.shared = nn.Linear(6, 4, bias=False)
        self.shared.weight = self.encode.weight
        self.drop = nn.Dropout(0.4)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.again(x)) @ self.shared.weight


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.RNNBase], **settings: Any) -> None:
        super().__init__()
        self.rnn = kind(5, 6, num_layers=3, dropout=0.3, **settings)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


class CallsDropout(nn.Module):
    """Noise as functions, the same rate twice, and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.linear(x), 0.5, self.training)
        x = F.dropout(x, 0.5, training=self.training)
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.3 if self.training else 0.0)


class Counting(nn.Module):
    """Counts in place or by assignment, and may draw from the global generator."""

    def __init__(self, in_place: bool = False, draws: bool = False) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.in_place, self.draws = in_place, draws

    def forward(self, x: Tensor) -> Tensor:
        if self.in_place:
            self.calls.add_(1)  # type: ignore[operator]
        else:
            self.calls = self.calls + 1
        return x + torch.rand_like(x) if self.draws else x


def transformer() -> nn.Module:
    return nn.TransformerEncoderLayer(16, 4, 32, dropout=0.2, batch_first=True)


def spectral_mlp() -> nn.Module:
    return nn.Sequential(
        spectral_norm(nn.Linear(6, 8), n_power_iterations=2), nn.ReLU(), spectral_norm(nn.Linear(8, 3))
    )


SMALL: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)), (5, 6)),
    "no-affine": (lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, affine=False)), (5, 6)),
    "untracked": (lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False)), (5, 6)),
    "cumulative": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.Dropout2d(0.3)),
        (2, 3, 6, 6),
    ),
    "batch-norm-3d": (lambda: nn.Sequential(nn.BatchNorm3d(2), nn.Dropout3d(0.4)), (3, 2, 3, 3, 3)),
    "dropout-1d": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.Dropout1d(0.4)), (3, 2, 7)),
    "dropout-1d-unbatched": (lambda: nn.Dropout1d(0.4), (4, 7)),
    "alpha": (lambda: nn.Sequential(nn.Linear(6, 8), nn.SELU(), nn.AlphaDropout(0.2)), (5, 6)),
    "instance-norm": (lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True), (4, 3, 5, 5)),
    "instance-norm-unbatched": (lambda: nn.InstanceNorm1d(3, track_running_stats=True), (3, 8)),
    "lstm": (lambda: Recurrent(nn.LSTM), (7, 2, 5)),
    "gru": (lambda: Recurrent(nn.GRU, batch_first=True, bidirectional=True), (2, 7, 5)),
    "rnn-unbatched": (lambda: Recurrent(nn.RNN, nonlinearity="relu", bias=False), (7, 5)),
    "lstm-projected": (lambda: Recurrent(nn.LSTM, proj_size=4, bidirectional=True), (7, 2, 5)),
    "transformer-layer": (transformer, (3, 7, 16)),
    "transformer": (lambda: nn.TransformerEncoder(transformer(), 2), (3, 7, 16)),  # type: ignore[arg-type]
    "spectral": (spectral_mlp, (5, 6)),
    "tied": (Tied, (5, 6)),
    "functional": (CallsDropout, (2, 4, 6)),
}
LARGE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet18": (torchvision.models.resnet18, (2, 3, 32, 32)),
    "efficientnet_b0": (torchvision.models.efficientnet_b0, (2, 3, 32, 32)),
    "densenet121": (lambda: torchvision.models.densenet121(drop_rate=0.1), (2, 3, 32, 32)),
    "vit": (
        lambda: torchvision.models.VisionTransformer(32, 8, 3, 4, 48, 96, dropout=0.1, attention_dropout=0.1),
        (2, 3, 32, 32),
    ),
}
EVERY = SMALL | LARGE
SILENT = ("no-affine", "untracked", "instance-norm", "instance-norm-unbatched", "spectral", "resnet18")
NATIVE_RNN = ("lstm", "gru", "rnn-unbatched", "lstm-projected")  # no vmap rule: refused, or unrolled
NOISY = [name for name in EVERY if name not in (*SILENT, *NATIVE_RNN)]


def made(name: str) -> tuple[nn.Module, fr.Model, dict[str, Tensor], dict[str, Tensor], Tensor]:
    """A module in float64 with values that are not its layers' trivial starts, its model and an input."""
    factory, shape = EVERY[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = factory().double()
    for parameter in module.parameters():
        noise = fr.random.normal(fr.random.key(parameter.numel()), tuple(parameter.shape), dtype=torch.float64)
        parameter.data = parameter.data + (0.1 if parameter.ndim == 1 else 0.01) * noise
    params, state = fr.variables(module)
    return module, fr.from_module(module), params, state, fr.random.normal(fr.random.key(9), shape, dtype=torch.float64)


def silenced(module: nn.Module) -> nn.Module:
    """A copy in training mode whose every noise rate is 0."""
    silent = copy.deepcopy(module).train()
    for layer in silent.modules():
        for attribute in ("p", "dropout", "drop_rate"):
            if isinstance(getattr(layer, attribute, None), float):
                setattr(layer, attribute, 0.0)
    return silent


def quiet(model: fr.Model) -> dict[str, Any]:
    """The arguments of a training step without noise."""
    return {"key": fr.random.key(1), "rates": 0.0} if is_noisy(model) else {}


def is_noisy(model: fr.Model) -> bool:
    """Whether a network here has noise."""
    assert isinstance(model.apply, fr.model.Apply)
    calls_functions = (CallsDropout, torchvision.models.DenseNet)
    return bool(model.apply.rates) or isinstance(model.apply.source, calls_functions)
