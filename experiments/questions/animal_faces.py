"""With few images of animals, what helps an MLP to generalise: penalties, dropout, flips, a smaller learning rate?

Part: D
Command: python -m experiments run animal-faces --data-root DATA
Runtime: smoke 1 s, quick 22 s of one core, full 25 min (2 CPU cores)
Answer: in accuracy little, on CIFAR-10's cat, dog, deer at 16x16 (n = 320 seeds, --members 320 --at-once, taken after
    80 had left four claims undecided). In (a) to (c) 82 to 100% of the training images are fitted, and 41 to 50% of the
    test images got right: flips +0.6 points (95% 0.4 to 0.8), dropout +0.4 (0.2 to 0.7), L1 0.0 (-0.1 to 0.2), L2 0.0
    (0.0 to 0.0), all under the point that would be of interest. The test loss falls more: L1 3.22 to 2.65 nats, L2 3.22
    to 3.16, flips 1.39 to 1.16, dropout 1.28 to 1.25. L1 takes the weights' norm from 8.53 to 5.93, L2 to 8.35. A
    learning rate of 5e-4 leaves 2.6 points of gap after 20 epochs, 5e-3 10.6, and 5.8 less test accuracy.

The images are those of the data root: a folder `animal-faces/` or `afhq/` with a sub-folder for each class (cat, dog,
wild), perhaps under train/ and val/, or a root that is such a folder itself; else CIFAR-10's cat, dog, deer; else
gratings. Three classes are taken, the first by name, or two where there are no more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import vmap

import funcreg as fr

from ..data import Images, animals
from ..errors import LabError
from ..harness.context import Context
from ..parts.arms import Arms, own
from ..parts.networks import mlp
from ..report import charts, plots
from ..report.claims import compare_means
from ..report.estimates import curve, estimate
from ..report.result import Claim, Result, Table, short


@dataclass(frozen=True)
class Part:
    """Training images of each seed, epochs, learning rate and momentum; SGD in batches of at most 125."""

    images: int
    epochs: int
    learning_rate: float
    momentum: float


@dataclass(frozen=True)
class Settings:
    """MLPs on images of size x size; each seed has training images and first weights of its own, shared by the arms."""

    seeds: int = 8
    size: int = 16
    test: int = 600
    points: int = 15
    small: tuple[int, ...] = (128, 32)
    big: tuple[int, ...] = (124, 64)
    wide: tuple[int, ...] = (248, 210)
    rates: tuple[float, ...] = (0.5, 0.3)
    strength: float = 1e-3
    flips: float = 0.1
    penalties: Part = Part(images=30, epochs=80, learning_rate=5e-3, momentum=0.99)
    dropout: Part = Part(images=100, epochs=60, learning_rate=2e-2, momentum=0.9)
    augmentation: Part = Part(images=250, epochs=60, learning_rate=5e-3, momentum=0.99)
    speeds: Part = Part(images=250, epochs=20, learning_rate=1e-3, momentum=0.99)
    learning_rates: tuple[float, ...] = (5e-4, 1e-3, 5e-3)
    jit: bool = False


PRESETS = {
    "smoke": Settings(
        seeds=2,
        size=32,
        test=60,
        points=2,
        penalties=Part(30, 2, 5e-3, 0.99),
        dropout=Part(40, 2, 5e-3, 0.9),
        augmentation=Part(50, 2, 1e-3, 0.99),
        speeds=Part(50, 2, 1e-3, 0.99),
    ),
    "quick": Settings(),
    "full": Settings(
        seeds=32,
        size=32,
        test=3_000,
        penalties=Part(images=30, epochs=150, learning_rate=5e-3, momentum=0.99),
        dropout=Part(images=100, epochs=200, learning_rate=5e-3, momentum=0.9),
        augmentation=Part(images=250, epochs=250, learning_rate=1e-3, momentum=0.99),
        jit=True,
    ),
}
_BATCH = 125
_LEAST, _LEAST_OF_CLASS = 40, 5


def main(settings: Settings, context: Context) -> Result:
    """Four studies, each of arms x seeds under one vmap."""
    order_key, *keys = context.keys(5)
    images = animals(context.data, test=settings.test)
    _check(images, context)
    images = images.take(len(images.x), settings.test).to(context.device)
    small, small_test = (F.avg_pool2d(each, 32 // settings.size) for each in (images.x, images.test_x))
    images = images._replace(x=small, test_x=small_test)
    study = _Study(settings, context, images, order_key)
    parts = {"penalties": _penalties, "dropout": _dropout, "augmentation": _augmentation, "speeds": _speeds}
    found = {
        name: part(study, key)
        for key, (name, part) in zip(keys, context.track(list(parts.items()), "parts"), strict=True)
    }
    values = {
        "seeds": settings.seeds,
        "images": {name: min(getattr(settings, name).images, len(images.x)) for name in _PARTS},
        "classes": images.classes,
        "parts": found,
        "pixels": torch.stack([images.x[images.y == c][0] for c in range(study.classes)]).mul(255).round().long(),
    }
    return Result(values, _claims(values), _tables(values), [_source(images, settings)])


def _check(images: Images, context: Context) -> None:
    """Refuse a folder of too few images."""
    folder, counts = context.data.animals(), torch.bincount(images.y, minlength=len(images.classes))
    if len(images.x) < _LEAST:
        raise LabError(f"{folder} has {len(images.x)} images to train; at least {_LEAST} are needed. Add some.")
    fewest = int(counts.argmin())
    if counts[fewest] < _LEAST_OF_CLASS:
        of = f"{int(counts[fewest])} images of {images.classes[fewest]} to train"
        raise LabError(f"{folder} has {of}; at least {_LEAST_OF_CLASS} are needed. Add some.")


_PARTS = {
    "penalties": "(a) Penalties",
    "dropout": "(b) Dropout",
    "augmentation": "(c) Flips",
    "speeds": "(d) Learning rates",
}


_NONE = {"l1": 0.0, "l2": 0.0, "flip": 0.0, "noise": 0.0}  # an arm without any regularizer


def _penalties(study: "_Study", key: Tensor) -> dict[str, Any]:
    part, k = study.settings.penalties, study.settings.strength
    rest = {"lr": part.learning_rate, **_NONE}
    arms = {
        "none": rest,
        f"L1 {k:g}": {**rest, "l1": k},
        f"L2 {k:g}": {**rest, "l2": k},
        "both": {**rest, "l1": k, "l2": k},
    }
    return study.run(part, arms, lambda: mlp(study.inputs, *study.settings.small, study.classes), key)


def _dropout(study: "_Study", key: Tensor) -> dict[str, Any]:
    part, settings = study.settings.dropout, study.settings
    rest = {"lr": part.learning_rate, **_NONE}
    size = "-".join(map(str, settings.wide))
    arms = {f"{size}, no dropout": rest, f"{size}, dropout": {**rest, "noise": 1.0}}
    big_key, wide_key = fr.random.split(key)

    def network(*hidden: int, **options: Any) -> nn.Module:
        return mlp(study.inputs, *hidden, study.classes, activation=nn.LeakyReLU, **options)

    return {
        **study.run(part, {f"{'-'.join(map(str, settings.big))}": rest}, lambda: network(*settings.big), big_key),
        **study.run(part, arms, lambda: network(*settings.wide, rates=settings.rates), wide_key, settings.rates),
    }


def _augmentation(study: "_Study", key: Tensor) -> dict[str, Any]:
    part, rate = study.settings.augmentation, study.settings.flips
    rest = {"lr": part.learning_rate, **_NONE}
    arms = {"none": rest, f"flips, p {rate:g}": {**rest, "flip": rate}}
    return study.run(part, arms, lambda: mlp(study.inputs, *study.settings.small, study.classes), key)


def _speeds(study: "_Study", key: Tensor) -> dict[str, Any]:
    arms = {f"lr {each:g}": {**_NONE, "lr": each} for each in study.settings.learning_rates}
    network = lambda: mlp(study.inputs, *study.settings.small, study.classes)  # noqa: E731
    return study.run(study.settings.speeds, arms, network, key)


def _source(images: Images, settings: Settings) -> str:
    wanted = max(getattr(settings, name).images for name in _PARTS)
    few = (
        f"; where more than {len(images.x)} training images are asked for, all of them"
        if len(images.x) < wanted
        else ""
    )
    size = f", averaged to {settings.size}x{settings.size}" if settings.size < 32 else ""
    return f"{images.source}; {len(images.test_x)} to test{size}{few}"


@dataclass(frozen=True)
class _Study:
    """What the parts share: the images, and which of them each seed trains on."""

    settings: Settings
    context: Context
    images: Images
    order_key: Tensor

    @property
    def inputs(self) -> int:
        """Numbers of an image."""
        return self.images.x[0].numel()

    @property
    def classes(self) -> int:
        """2 or 3."""
        return len(self.images.classes)

    def _batch(self, count: int) -> fr.train.Batch:
        """Every seed's own images, (count, seeds, 3, 32, 32), from -1 to 1, and labels (count, seeds)."""
        keys = fr.random.split(self.order_key, self.settings.seeds)
        orders = torch.stack([fr.random.permutation(key, len(self.images.x))[:count] for key in keys], dim=1)
        return fr.train.Batch(2 * self.images.x[orders] - 1, self.images.y[orders])

    def run(
        self,
        part: Part,
        settings: dict[str, dict[str, float]],
        network: Callable[[], nn.Module],
        key: Tensor,
        rates: Sequence[float] = (),
    ) -> dict[str, Any]:
        """Train all arms of one network; each arm's losses and accuracies without noise, and its layers' norms."""
        arms, model = Arms(settings, self.settings.seeds), fr.from_module(network)
        start_key, fit_key = fr.random.split(key)
        hparams = arms.hparams(self.context.device)
        train = self._batch(part.images)
        test = fr.train.Batch(2 * self.images.test_x - 1, self.images.test_y)
        flips = any(arm["flip"] for arm in settings.values())
        penalties = {
            "l1_penalty": lambda params, hparams: fr.penalties.l1(params, hparams["l1"]),
            "l2_penalty": lambda params, hparams: fr.penalties.l2(params, hparams["l2"]),
        }

        def loss_fn(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
            x, y = own(batch, hparams["seed"])
            noise_key, across_key, down_key = fr.random.split(key, 3)
            if flips:
                x = fr.augment.flip(x, hparams["flip"], key=across_key)
                x = fr.augment.flip(x, hparams["flip"], key=down_key, direction="vertical")
            # Flatten is layer 0; then linear, activation, dropout.
            given = {str(3 * i + 3): rate * hparams["noise"] for i, rate in enumerate(rates)} or None
            logits, state = model.apply(params, state, x, key=noise_key, train=True, rates=given)
            return fr.losses.cross_entropy(logits, y), (state, {})

        def measure(params: Any, seed: Tensor) -> dict[str, Tensor]:
            measured = {}
            for name, (x, y) in (("train", own(train, seed)), ("test", test)):
                logits, _ = model.apply(params, {}, x)
                measured[f"{name}_loss"] = fr.losses.cross_entropy(logits, y)
                measured[f"{name}_accuracy"] = 100 * fr.losses.accuracy(logits, y)
            weights = fr.tree.select(params, fr.tree.is_weight)
            return {**measured, "norms": torch.stack([torch.linalg.matrix_norm(weight) for _, weight in weights])}

        watched = {round(part.epochs * (i + 1) / self.settings.points) for i in range(self.settings.points)}
        epochs, rows = [], []

        def watch(epoch: fr.train.Epoch) -> None:
            if epoch.number in watched or epoch.number == 1:
                epochs.append(epoch.number)
                rows.append(vmap(measure)(epoch.train_state.params, hparams["seed"]))

        def optimizer(hparams: Any) -> fr.transforms.Transform:
            return fr.optim.sgd(hparams["lr"], momentum=part.momentum)

        count = len(train.x)
        self.context.fit(
            fr.train.make_step(
                loss_fn, optimizer, penalties=penalties if any(a["l1"] or a["l2"] for a in settings.values()) else None
            ),
            arms.start(model, optimizer, key=start_key, device=self.context.device),
            train,
            key=fit_key,
            epochs=part.epochs,
            batch_size=min(count, _BATCH),
            hparams=hparams,
            members=arms.members,
            jit=self.settings.jit,
            on_epoch=watch,
        )
        series = {name: arms.by_arm(torch.stack([row[name] for row in rows], dim=1)) for name in rows[0]}
        return {
            arm: {"epochs": epochs, **_kept({name: values[i] for name, values in series.items()})}
            for i, arm in enumerate(arms.names)
        }


def _kept(series: dict[str, Tensor]) -> dict[str, Any]:
    """Of series (seeds, epochs): each seed's end, and the curve over all seeds; of norms, a curve for each layer."""
    layers = series["norms"].unbind(dim=-1)
    return {
        "ends": {name: short(values[:, -1]) for name, values in series.items()},
        "curves": {name: curve(values) for name, values in series.items() if name != "norms"},
        "norms": [curve(values) for values in layers],
    }


def _end(part: dict[str, Any], arm: str, metric: str) -> Tensor:
    """A metric of each seed after the last epoch."""
    return torch.tensor(part[arm]["ends"][metric], dtype=torch.float64)


def _losses(part: dict[str, Any], first: str, second: str) -> tuple[Tensor, Tensor]:
    """The test losses of two arms."""
    return _end(part, first, "test_loss"), _end(part, second, "test_loss")


def _gap(part: dict[str, Any], arm: str) -> Tensor:
    """Training less test accuracy of each seed, in points."""
    return _end(part, arm, "train_accuracy") - _end(part, arm, "test_accuracy")


def _claims(values: dict[str, Any]) -> list[Claim]:
    parts, images = values["parts"], values["images"]
    big, alone, dropped = parts["dropout"]
    none, *penalised = parts["penalties"]
    plain, flipped = parts["augmentation"]
    slow, *_, fast = parts["speeds"]
    a, b, c, d = (parts[name] for name in _PARTS)
    claims = [
        compare_means(
            f"(b) {images['dropout']} images: the dropout net has a smaller generalisation gap than the big net",
            *(_gap(b, big), _gap(b, dropped)),
            "points",
            smallest=1.0,
        ),
        compare_means(
            "(b) ... and a higher test accuracy",
            *(_end(b, dropped, "test_accuracy"), _end(b, big, "test_accuracy")),
            "%",
            smallest=1.0,
        ),
        compare_means("(b) ... and a lower test loss", *_losses(b, big, dropped), "nats", smallest=0.05),
        compare_means(
            "(b) It is the dropout: the same net without it has a larger gap",
            _gap(b, alone),
            _gap(b, dropped),
            "points",
            smallest=1.0,
        ),
    ]
    for arm in penalised:
        before, after = (_end(a, each, "norms").square().sum(dim=1).sqrt() for each in (none, arm))
        claims += [
            compare_means(
                f"(a) {arm}: the weights' Frobenius norm is smaller than without a penalty", before, after, ""
            ),
            compare_means(
                f"(a) {arm}: the test accuracy is higher than without a penalty",
                *(_end(a, arm, "test_accuracy"), _end(a, none, "test_accuracy")),
                "%",
                smallest=1.0,
            ),
            compare_means(f"(a) {arm}: ... and the test loss is lower", *_losses(a, none, arm), "nats", smallest=0.05),
        ]
    return [
        *claims,
        compare_means("(c) Flips narrow the generalisation gap", _gap(c, plain), _gap(c, flipped), "points"),
        compare_means(
            "(c) ... and raise the test accuracy",
            *(_end(c, flipped, "test_accuracy"), _end(c, plain, "test_accuracy")),
            "%",
            smallest=1.0,
        ),
        compare_means("(c) ... and lower the test loss", *_losses(c, plain, flipped), "nats", smallest=0.05),
        compare_means(
            f"(d) A smaller learning rate regularizes: {slow} leaves a smaller gap than {fast}",
            *(_gap(d, fast), _gap(d, slow)),
            "points",
            smallest=1.0,
        ),
        compare_means(
            "(d) ... and a higher test accuracy",
            *(_end(d, slow, "test_accuracy"), _end(d, fast, "test_accuracy")),
            "%",
            smallest=1.0,
        ),
    ]


def _tables(values: dict[str, Any]) -> list[Table]:
    tables = []
    for name, title in _PARTS.items():
        part = values["parts"][name]
        rows = []
        for arm in part:
            each = (
                _end(part, arm, "train_accuracy"),
                _end(part, arm, "test_accuracy"),
                _gap(part, arm),
                _end(part, arm, "test_loss"),
                *_end(part, arm, "norms").unbind(dim=1),
            )
            rows.append((arm, *(estimate(column.tolist()).cell for column in each), values["seeds"]))
        layers = tuple(f"norm of layer {i + 1}" for i in range(3))
        head = ("arm", "training accuracy (%)", "test accuracy (%)", "gap (points)", "test loss (nats)", *layers, "n")
        tables.append(Table(f"{title}: {values['images'][name]} images a seed, mean ± sd", head, rows))
    return tables


def figures(result: Result) -> dict[str, Figure]:
    """Accuracy of every part, norms of the penalised ones, and what was seen."""
    values = result.values
    parts, images, seeds = values["parts"], values["images"], values["seeds"]
    drawn = {
        name: _draw_accuracy(title, parts[name], images[name], seeds, len(values["classes"]))
        for name, title in _PARTS.items()
    }
    norms, samples = _draw_norms(parts["penalties"], seeds), _draw_samples(values["pixels"], values["classes"])
    return {**drawn, "norms": norms, "samples": samples}


def _draw_accuracy(title: str, part: dict[str, Any], images: int, seeds: int, classes: int) -> Figure:
    def finish(axis: Axes) -> None:
        axis.axhline(100 / classes, color="#777777", linewidth=1)
        axis.set(ylim=(20, min(103, axis.get_ylim()[1])))

    train, test = (
        {arm: each["curves"][f"{name}_accuracy"] for arm, each in part.items()} for name in ("train", "test")
    )
    return charts.curves(
        charts.Panel(train, "Training images", ylabel="accuracy (%)"),
        charts.Panel(test, "Test images"),
        x=next(iter(part.values()))["epochs"],
        height=3.9,
        sharey=True,
        finish=finish,
        caption=f"{title[4:]}: accuracy without noise in training, on the {images} images of each seed and on test "
        f"images (mean over {seeds} seeds, band: one sd; the thin line is chance).",
    )


def _draw_norms(part: dict[str, Any], seeds: int) -> Figure:
    layers = [{arm: each["norms"][layer] for arm, each in part.items()} for layer in range(3)]
    return charts.curves(
        *(charts.Panel(each, f"layer {i}", ylabel="Frobenius norm" * (i == 1)) for i, each in enumerate(layers, 1)),
        x=next(iter(part.values()))["epochs"],
        height=3.5,
        finish=lambda axis: axis.set(ylim=(0, 1.05 * axis.get_ylim()[1])),
        caption=f"Frobenius norm of each layer's weights in part (a) (mean over {seeds} seeds, band: one sd).",
    )


def _draw_samples(pixels: Any, classes: Sequence[str]) -> Figure:
    x = torch.tensor(pixels, dtype=torch.float32) / 255
    figure, axes = plots.canvas(
        1,
        2 * len(x),
        height=1.7,
        caption="An image of each class, and the same flipped as in part (c).",
    )
    key = fr.random.key(0)
    flips = [fr.augment.flip(x, 1.0, key=key, direction=way) for way in ("horizontal", "vertical")]
    for i, name in enumerate(classes):
        plots.picture(axes[0, 2 * i], x[i].movedim(0, -1), name)
        plots.picture(axes[0, 2 * i + 1], flips[i % 2][i].movedim(0, -1), "flipped")
    return figure
