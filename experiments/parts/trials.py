"""A training run as a function of its dropout rate, decay and learning rate: what a search calls a trial.

Trials at many points are the members of one fit. A trial is a pure function of its point and of the
number of its search, which says whose images, first weights and noise it has; so all methods search
over the same function, and `validation_loss` is its smooth version, to differentiate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap

import funcreg as fr

from ..data import mnist
from ..harness.context import Context
from .arms import own

Points = dict[str, Tensor]  # name -> a number of each trial; `seed`, the number of its search
AXES = ("rate", "decay", "lr")
MEASURES = ("validation_loss", "test_loss", "test_accuracy")
_AT_ONCE = 4096  # trials in a fit: memory


@dataclass(frozen=True)
class TrialSettings:
    """A small set of images, a network that can learn it by heart, and the space of rate, decay and learning rate."""

    seeds: int = 8
    train: int = 200
    validation: int = 500
    test: int = 1_000
    pool: int = 2
    hidden: int = 64
    epochs: int = 10
    batch_size: int = 50
    momentum: float = 0.9
    rate: tuple[float, float] = (0.0, 0.8)
    decay: tuple[float, float] = (1e-5, 1e-1)
    lr: tuple[float, float] = (1e-3, 3e-1)
    jit: bool = False


class Network(nn.Module):
    """Two linear layers. Training puts noise of its own choice between them."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, hidden), nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x.flatten(1))))


def _smooth_dropout(x: Tensor, rate: Tensor, *, key: Tensor) -> Tensor:
    """Gaussian noise of dropout's own mean and variance, through which the rate has a gradient.

    A mask is a step in the rate, so ordinary dropout has none; and `fr.noise.gaussian_dropout` asks for
    none, as its slope at a rate of 0 is infinite. The rates here lie above.
    """
    return x * fr.noise.gaussian_noise(torch.ones_like(x), torch.sqrt(rate / (1 - rate)), key=key)


class Trials:
    """The data of all searches, the training step, the measures."""

    def __init__(self, settings: TrialSettings, context: Context) -> None:
        self.settings, self.context = settings, context
        data_key, init_key, train_key, self.fit_key, self.search_key = context.keys(5)
        images = mnist(context.data)
        x, test_x = (F.avg_pool2d(each, settings.pool) for each in (images.x, images.test_x))
        seen = settings.train + settings.validation
        chosen = torch.stack([fr.random.permutation(k, len(x))[:seen] for k in self.split(data_key)], dim=1)
        everyone = fr.tree.to(fr.train.Batch(x[chosen.cpu()], images.y[chosen.cpu()]), context.device)
        self.data = fr.tree.map(lambda leaf: leaf[: settings.train], everyone)
        self.validation = fr.tree.map(lambda leaf: leaf[settings.train :], everyone)
        self.test = fr.tree.to(fr.train.Batch(test_x[: settings.test], images.test_y[: settings.test]), context.device)
        self.model = fr.from_module(lambda: Network(x[0].numel(), settings.hidden))
        self.params = fr.tree.to(fr.model_members(self.model, init_key, settings.seeds)[0], context.device)
        self.train_key = train_key
        self.step = fr.train.make_step(self._loss_of(fr.noise.dropout), self._optimizer)
        self.smooth_step = fr.train.make_step(self._loss_of(_smooth_dropout), self._optimizer)
        self.source = (
            f"{images.source}, reduced to {x.shape[-1]}x{x.shape[-1]}; each search draws {settings.train} to train and "
            f"{settings.validation} to validate, {len(self.test.x):,} to test"
        )

    def split(self, key: Tensor) -> Tensor:
        """A key for each search."""
        return fr.random.split(key, self.settings.seeds)

    def _optimizer(self, hparams: Any) -> fr.transforms.Transform:
        # Not Adam: where a weight's gradient is near 0 its step is a sign, and the slope through it some 1e8.
        settings = self.settings
        return fr.optim.sgd(hparams["lr"], momentum=settings.momentum, weight_decay=hparams["decay"])

    def _loss_of(self, noise: Callable[..., Tensor]) -> Any:
        def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
            batch = own(batch, hparams["seed"])
            hidden = torch.relu(F.linear(batch.x.flatten(1), params["first.weight"], params["first.bias"]))
            hidden = noise(hidden, hparams["rate"].to(hidden.dtype), key=key)
            logits = F.linear(hidden, params["last.weight"], params["last.bias"])
            return fr.losses.cross_entropy(logits, batch.y), (state, {})

        return loss_fn

    def start(self, points: Points) -> fr.train.TrainState:
        """Before the first step: a search's weights and keys are those of its number."""
        params = fr.tree.map(lambda leaf: leaf[points["seed"]], self.params)
        keys = fr.sweep.paired_keys(points["seed"], key=self.train_key)
        return fr.train.init(params, {}, self._optimizer, key=keys, hparams=points, members=len(keys))

    def measure(self, params: Any, seed: Tensor) -> Points:
        """Without noise, on the search's validation images and on the test images."""
        held_out = own(self.validation, seed)
        logits, _ = self.model.apply(params, {}, held_out.x)
        test_logits, _ = self.model.apply(params, {}, self.test.x)
        values = (
            fr.losses.cross_entropy(logits, held_out.y),
            fr.losses.cross_entropy(test_logits, self.test.y),
            fr.losses.accuracy(test_logits, self.test.y),
        )
        return dict(zip(MEASURES, values, strict=True))

    def trials(self, points: Points) -> Points:
        """Train at each point, and measure: as the members of one fit, or of several where memory asks for it."""
        parts = zip(*(values.split(_AT_ONCE) for values in points.values()), strict=True)
        each = [self._fit(dict(zip(points, part, strict=True))) for part in parts]
        return {name: torch.cat([measured[name] for measured in each]) for name in MEASURES}

    def _fit(self, points: Points) -> Points:
        members = len(points["seed"])
        result = self.context.fit(
            self.step,
            self.start(points),
            self.data,
            key=self.fit_key,
            epochs=self.settings.epochs,
            batch_size=self.settings.batch_size,
            hparams=points,
            members=members,
            jit=self.settings.jit,
            progress=False if members < 10 else None,
        )
        measured = vmap(self.measure, chunk_size=64)(result.train_state.params, points["seed"])
        return {name: value.double().cpu() for name, value in measured.items()}

    def batches(self) -> fr.train.Batch:
        """Those that `fit` makes of the data, all its steps: (steps, batch, ...)."""
        n, size = len(self.data.x), self.settings.batch_size
        orders = [fr.random.permutation(fr.random.fold_in(self.fit_key, e), n) for e in range(self.settings.epochs)]
        order = torch.stack([each[: n // size * size] for each in orders]).reshape(-1, size)
        return fr.tree.map(lambda leaf: leaf[order], self.data)

    def validation_loss(self, z: Points, start: fr.train.TrainState, batches: Any, seed: Tensor) -> Tensor:
        """After training at z, (where in the space, before a sigmoid), with noise that has a gradient."""
        points = {**self.point({name: torch.sigmoid(value) for name, value in z.items()}), "seed": seed}
        trained, _ = fr.train.unroll(self.smooth_step, start, batches, points)
        held_out = own(self.validation, seed)
        logits, _ = self.model.apply(trained.params, {}, held_out.x.to(trained.params["last.bias"].dtype))
        return fr.losses.cross_entropy(logits, held_out.y)

    def point(self, u: Points) -> Points:
        """A point of the unit cube as rate, decay and learning rate; the last two by orders of magnitude."""
        (low, high), decay, lr = self.settings.rate, self.settings.decay, self.settings.lr
        return {
            "rate": low + (high - low) * u["rate"],
            "decay": decay[0] * (decay[1] / decay[0]) ** u["decay"],
            "lr": lr[0] * (lr[1] / lr[0]) ** u["lr"],
        }
