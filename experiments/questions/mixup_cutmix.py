"""Do mixup and cutmix raise the training loss and the test accuracy together, and which recipe is best?

Part: A
Command: python -m experiments run mixup-cutmix --data-root DATA
Runtime: smoke 2 s, quick 323 s of a crowded core; long about 100 s a network of a free one, full is for a GPU
Answer: cutmix alone does, and no blend beside flips and crops (n = 3 seeds, --preset long: width 16, 2,000 images of
    CIFAR-10 at 32x32, 30 epochs, after which the plain network has learnt 100% of its images). Cutmix raises the loss
    by 1.38 nats and test accuracy by 1.61 points (95% 0.12 to 3.09), mixup by 0.74 and -0.16 (-1.47 to 1.15). Both
    start behind, by 5.6 and 6.2 validation points over the first 5 epochs, and pass none at epoch 27. Beside flips and
    crops, which add 4.43 points (3.79 to 5.08), cutmix costs 6.25 (5.30 to 7.20) and mixup 3.35 (0.32 to 6.38), behind
    to the end: so few steps do not learn what is that hard. RandAugment adds 1.18 (0.80 to 1.56) and is best, 64.2%.
    Labels sum to 1 exactly. Whether 94% is reached only full can say, which wants a GPU and was not run.
"""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import funcreg as fr

from ..harness.context import Context
from ..parts.classifiers import scores_of
from ..parts.networks import ResNet9, in_precision
from ..parts.photos import Photos, channels_last, move, photos
from ..report import charts, plots
from ..report.estimates import Estimate, estimate
from ..report.result import Claim, Result, Table


@dataclass(frozen=True)
class Settings:
    """ResNet-9 of a width on images of a size, by each recipe; SGD with a learning rate that rises and falls."""

    seeds: int = 3
    width: int = 8
    size: int = 8
    train: int = 4_000
    validation: int = 1_000
    test: int = 2_000
    epochs: int = 4
    batch_size: int = 250
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    logit_scale: float = 1.0
    smoothing: float = 0.0
    mixup: float = 0.4
    cutmix: float = 1.0
    magnitude: float = 9.0  # of RandAugment's two operations
    pictures: int = 4
    precision: str = "float32"  # in which the network trains; "bfloat16" where a device is faster with it
    jit: bool = False


PRESETS = {
    "smoke": Settings(seeds=2, width=2, size=8, train=100, validation=50, test=100, epochs=2, batch_size=50),
    "quick": Settings(),
    # What a CPU can answer in an hour: as many images as the plain network learns by heart, 21 times.
    "long": Settings(
        width=16, size=32, train=2_000, validation=500, test=10_000, epochs=30, batch_size=50, precision="bfloat16"
    ),
    # Page's recipe, which took 24 epochs and cutout; here 30, label smoothing, and each recipe's own.
    "full": Settings(
        width=64,
        size=32,
        train=48_000,
        validation=2_000,
        test=10_000,
        epochs=30,
        batch_size=512,
        learning_rate=0.4,
        logit_scale=0.125,
        smoothing=0.1,
        precision="bfloat16",
        jit=True,
    ),
}
# Each recipe that blends, and the one that is the same without.
_COUNTERPARTS = {
    "mixup": "none",
    "cutmix": "none",
    "mixup + flips, crops": "flips, crops",
    "cutmix + flips, crops": "flips, crops",
}
_POLICY = "RandAugment + flips, crops"
_TARGET = 0.94
_SMALLEST = 1.0  # points of test accuracy: less is of no interest


def main(settings: Settings, context: Context) -> Result:
    """Train every recipe from the same seeds, one after the other; then test them."""
    init_key, train_key, order_key, strip_key = context.keys(4)
    data = photos(context, train=settings.train, validation=settings.validation, test=settings.test, size=settings.size)
    runs, seconds = _train(settings, data, (init_key, train_key, order_key), context)
    values = {
        "seeds": settings.seeds,
        "recipes": runs,
        "strip": _strip(settings, data, strip_key),
        "timing": seconds,
    }
    is_real = "in place of" not in data.source
    claims = _claims(runs, with_target=is_real and _is_full(settings))
    return Result(values, claims, _tables(runs, seconds), [data.source])


def _recipes(settings: Settings) -> dict[str, dict[str, float]]:
    """The settings of each recipe: whether images move, RandAugment's magnitude, the alphas; 0 does nothing."""
    still = {"move": 0.0, "magnitude": 0.0, "mixup": 0.0, "cutmix": 0.0}
    moved = {**still, "move": 1.0}
    mixup, cutmix, policy = ({name: getattr(settings, name)} for name in ("mixup", "cutmix", "magnitude"))
    return {
        "none": still,
        "flips, crops": moved,
        _POLICY: {**moved, **policy},
        "mixup": {**still, **mixup},
        "cutmix": {**still, **cutmix},
        "mixup + flips, crops": {**moved, **mixup},
        "cutmix + flips, crops": {**moved, **cutmix},
    }


def augmented(x: Tensor, y: Tensor, recipe: Mapping[str, float | Tensor], *, key: Tensor) -> tuple[Tensor, Tensor]:
    """Images and one-hot classes by a recipe: moved, then blended."""
    move_key, mixup_key, cutmix_key = fr.random.split(key, 3)
    x = move(x, recipe["move"], key=move_key)
    x, y = fr.augment.mixup(x, y, recipe["mixup"], key=mixup_key)
    return fr.augment.cutmix(x, y, recipe["cutmix"], key=cutmix_key)


def _train(
    settings: Settings, data: Photos, keys: tuple[Tensor, ...], context: Context
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Every recipe's curves and scores, and the seconds that its training took, seed by seed.

    One step for all, whose recipe is an argument, and one for RandAugment, whose operations take a while: two to
    compile. Members train in turn, since convolutions whose weights are vmapped take longer than one after the other.
    """
    model = fr.from_module(lambda: ResNet9(settings.width, scale=settings.logit_scale))
    count = settings.epochs * max(1, len(data.train.x) // settings.batch_size)
    schedule = fr.optim.warmup_cosine(settings.learning_rate, warmup=count / 4, steps=count)
    optimizer = fr.optim.sgd(schedule, momentum=0.9, nesterov=True, weight_decay=settings.weight_decay)

    def loss_of(policy: bool) -> Callable[..., Any]:
        def loss_fn(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
            x, y = batch.x, fr.labels.one_hot(batch.y, 10)
            if policy:
                policy_key, key = fr.random.split(key)
                pixels = (x * data.sd + data.mean).clamp(0, 1)
                drawn = fr.augment.rand_augment(pixels, magnitude=hparams["magnitude"], key=policy_key)
                x = (drawn - data.mean) / data.sd
            x, y = augmented(x, y, hparams, key=key)
            with in_precision(settings.precision, context.device):
                logits, state = model.apply(params, state, channels_last(x), key=key, train=True)
            loss = fr.losses.cross_entropy(logits, y, smoothing=settings.smoothing)
            return loss, (state, {"deviation": (y.sum(dim=1) - 1).abs().max()})

        return loss_fn

    steps = {policy: fr.train.make_step(loss_of(policy), optimizer) for policy in (False, True)}
    parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
    parts = {name: part._replace(x=channels_last(part.x)) for name, part in parts.items()}
    evaluate = {name: fr.train.make_evaluate(scores_of(model, name)) for name in parts}

    def score(name: str, params: Any, state: Any) -> dict[str, Tensor]:
        return evaluate[name](params, state, parts[name], batch_size=500)

    def train(recipe: dict[str, float], seed: int) -> dict[str, Any]:
        init_key, train_key, order_key = (fr.random.fold_in(key, seed) for key in keys)
        params, state = fr.tree.to(model.init(init_key), context.device)
        deviations: list[Tensor] = []
        start = time.perf_counter()
        result = context.fit(
            steps[recipe["magnitude"] > 0],
            fr.train.init(params, state, optimizer, key=train_key),
            data.train,
            key=order_key,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            hparams=recipe,
            jit=settings.jit,
            evaluate=lambda params, state: score("validation", params, state),
            on_epoch=lambda epoch: deviations.append(epoch.steps["deviation"].max()),
        )
        seconds = time.perf_counter() - start  # the history has been read, so a GPU is done
        trained = result.train_state
        ends = {part: score(part, trained.params, trained.state)[f"{part}_accuracy"] for part in ("train", "test")}
        return {
            "train_loss": result.history["loss"].float(),
            "validation_accuracy": result.history["validation_accuracy"].float(),
            **{f"{part}_accuracy": float(accuracy) for part, accuracy in ends.items()},
            "deviation": float(torch.stack(deviations).max()),
            "seconds": seconds,
        }

    recipes = _recipes(settings)
    runs: dict[str, Any] = {name: {} for name in recipes}
    order = [(seed, name) for seed in range(settings.seeds) for name in recipes]
    for seed, name in context.track(order, "recipes x seeds"):
        measured = context.piece(f"{name}, seed {seed}", partial(train, recipes[name], seed))
        for metric, value in measured.items():
            runs[name].setdefault(metric, []).append(value)
    return runs, {name: run.pop("seconds") for name, run in runs.items()}


def _strip(settings: Settings, data: Photos, key: Tensor) -> dict[str, Any]:
    """Some images by each way to augment, at their full size, and the labels that they then have."""
    x, y = data.images.x, data.images.y
    batch = torch.cat([(y == label).nonzero()[:1, 0] for label in (1, 3, 7, 8, 2, 9, 0, 5)])
    x, y = x[batch], fr.labels.one_hot(y[batch], 10)
    recipes = _recipes(settings)
    rows = {name: recipes[name] for name in ("none", "flips, crops", "mixup", "cutmix")}
    strip: dict[str, Any] = {"rows": list(rows), "classes": data.images.classes, "pixels": [], "labels": []}
    for recipe in rows.values():
        # A stronger mixup than the recipe's, whose shares are mostly near 0 or 1, so that one sees it.
        shown, labels = augmented(x, y, {**recipe, "mixup": recipe["mixup"] and 1.0}, key=key)
        strip["pixels"].append([_text(each) for each in shown[: settings.pictures]])
        strip["labels"].append(labels[: settings.pictures].float())
    return strip


def _text(image: Tensor) -> str:
    """An image (3, 32, 32) as the text of its bytes: a fifth of the size of a list of numbers."""
    pixels = image.movedim(0, -1).mul(255).round().to(torch.uint8).cpu().numpy()
    return base64.urlsafe_b64encode(pixels.tobytes()).decode()


def _is_full(settings: Settings) -> bool:
    return settings == PRESETS["full"]


def _paired(runs: dict[str, Any], name: str, other: str) -> tuple[Estimate, Estimate]:
    """By how much a recipe's last training loss and its test accuracy (points) are above another's, seed by seed."""
    losses, accuracies = (
        [
            scale * (float(a) - float(b))
            for a, b in zip(_ends(runs[name][metric]), _ends(runs[other][metric]), strict=True)
        ]
        for metric, scale in (("train_loss", 1), ("test_accuracy", 100))
    )
    return estimate(losses), estimate(accuracies)


def _ends(values: list[Any]) -> list[float]:
    """Each seed's number, of a series the last."""
    return [float(torch.as_tensor(value).flatten()[-1]) for value in values]


def _percent(runs: dict[str, Any], name: str) -> Estimate:
    return estimate(100 * value for value in runs[name]["test_accuracy"])


def _claims(runs: dict[str, Any], *, with_target: bool) -> list[Claim]:
    learnt = estimate(100 * value for value in runs["none"]["train_accuracy"])
    return [
        *_blending_claims(runs),
        _label_claim(runs),
        Claim(
            "Without augmentation the network learns its images: a training accuracy above 99%",
            f"training accuracy {learnt} %",
            learnt.above(99),
            {"accuracy": learnt._asdict()},
        ),
        _raises("Flips and crops alone raise test accuracy", runs, "flips, crops", "none"),
        _raises("RandAugment raises it further", runs, _POLICY, "flips, crops"),
        *_best_claims(runs, with_target),
    ]


def _raises(text: str, runs: dict[str, Any], name: str, other: str) -> Claim:
    _, gained = _paired(runs, name, other)
    return Claim(
        text,
        f"{_percent(runs, other).mean:.1f}% to {_percent(runs, name).mean:.1f}%: {_signed(gained)} points",
        gained.above(smallest=_SMALLEST),
        {"accuracy": gained._asdict()},
    )


def _blending_claims(runs: dict[str, Any]) -> list[Claim]:
    claims = []
    for name, other in _COUNTERPARTS.items():
        loss, accuracy = _paired(runs, name, other)
        than = "no augmentation" if other == "none" else other
        claims.append(
            Claim(
                f"{name[0].upper()}{name[1:]} has a higher training loss and a higher test accuracy than {than}",
                f"loss {_signed(loss)}; accuracy {_signed(accuracy)} points, to {_percent(runs, name).mean:.1f}%",
                loss.above() & accuracy.above(smallest=_SMALLEST),
                {"loss": loss._asdict(), "accuracy": accuracy._asdict()},
            )
        )
    return claims


def _signed(each: Estimate) -> str:
    return f"{each.mean:+.2f} (n = {each.n}; 95% {each.low:+.2f} to {each.high:+.2f})"


def _label_claim(runs: dict[str, Any]) -> Claim:
    largest = max(value for run in runs.values() for value in run["deviation"])
    return Claim(
        "Soft labels sum to 1 for every sample of every batch, to the rounding of float32",
        f"largest deviation {largest:.2g} over {len(runs)} recipes, all seeds and epochs",
        largest < 1e-6,
        {"largest": largest},
    )


def _best_claims(runs: dict[str, Any], with_target: bool) -> list[Claim]:
    by_validation = {name: float(np.mean(_ends(run["validation_accuracy"]))) for name, run in runs.items()}
    best = max(by_validation, key=lambda name: by_validation[name])
    accuracy = _percent(runs, best)
    blending = max(_COUNTERPARTS, key=lambda name: by_validation[name])
    other = _COUNTERPARTS[blending] if best == blending else best
    _, gained = _paired(runs, blending, other)
    claims = [
        Claim(
            "The best recipe, chosen by validation accuracy, is one that blends, and beats the same without",
            f"best is “{best}” with a test accuracy of {accuracy} %; “{blending}” less “{other}”: {_signed(gained)} "
            "points",
            gained.above(smallest=_SMALLEST) & (best == blending),
            {"accuracy": accuracy._asdict(), "difference": gained._asdict()},
        )
    ]
    if with_target:
        claims.append(
            Claim(
                f"The best recipe reaches a test accuracy of {100 * _TARGET:.0f}%",
                f"“{best}”: {accuracy} %",
                accuracy.above(100 * _TARGET),
                {"accuracy": accuracy._asdict()},
            )
        )
    return claims


def _tables(runs: dict[str, Any], seconds: dict[str, list[float]]) -> list[Table]:
    rows = []
    for name, run in runs.items():
        loss, validation = (
            estimate(_ends(run["train_loss"])),
            estimate(100 * v for v in _ends(run["validation_accuracy"])),
        )
        test = _percent(runs, name)
        cells = (loss.fixed(3), validation.fixed(2), test.fixed(2))
        rows.append((name, *cells, f"{np.median(seconds[name]):.1f}", test.n))
    columns = ("recipe", "training loss (nats)", "validation accuracy (%)", "test accuracy (%)", "seconds", "n")
    title = "After the last epoch, training loss as its mean over it: mean ± sd over seeds; a run's median seconds"
    return [Table(title, columns, rows), _passing(runs)]


def _ahead(runs: dict[str, Any], name: str, other: str) -> np.ndarray:
    """By how many points a recipe's validation accuracy is above another's, (seeds, epochs)."""
    mine, its = (100 * np.array(runs[each]["validation_accuracy"]) for each in (name, other))
    return mine - its


def _passing(runs: dict[str, Any]) -> Table:
    """Where each recipe that changes images starts behind the one it is compared with, and where it passes it."""
    rows = []
    for name, other in (("flips, crops", "none"), (_POLICY, "flips, crops"), *_COUNTERPARTS.items()):
        ahead = _ahead(runs, name, other)
        sixth, epochs = max(1, ahead.shape[1] // 6), ahead.shape[1]
        behind = np.flatnonzero(ahead.mean(axis=0) <= 0)
        passes = 1 if len(behind) == 0 else int(behind[-1]) + 2
        early, late = (estimate(ahead[:, part].mean(axis=1)) for part in (slice(sixth), slice(-sixth, None)))
        rows.append((name, other, early.fixed(2), late.fixed(2), passes if passes <= epochs else "never", early.n))
    columns = (
        "recipe",
        "against",
        "first sixth of the epochs (points)",
        "last sixth (points)",
        "ahead from epoch",
        "n",
    )
    return Table("Validation accuracy less that of the recipe beside it, seed by seed: mean ± sd", columns, rows)


def figures(result: Result) -> dict[str, Figure]:
    """Curves, also beside the recipe that each is compared with; test accuracy; blended pictures."""
    values = result.values
    return {
        "curves": _draw_curves(values["recipes"], values["seeds"]),
        "ahead": _draw_ahead(values["recipes"], values["seeds"]),
        "accuracy": _draw_accuracy(values["recipes"], values["seeds"]),
        "blended": _draw_strip(values["strip"]),
    }


def _draw_curves(runs: dict[str, Any], seeds: int) -> Figure:
    accuracy = {name: 100 * np.array(run["validation_accuracy"]) for name, run in runs.items()}
    loss = {name: run["train_loss"] for name, run in runs.items()}
    return charts.curves(
        charts.Panel(accuracy, "Accuracy", ylabel="validation accuracy (%)"),
        charts.Panel(loss, "Training loss", ylabel="training loss (nats)"),
        height=4.6,
        columns=3,
        finish=lambda axis: plots.counting(axis.xaxis),
        caption=f"Validation accuracy without augmentation, and the loss on the batches that the network trains on, "
        f"blended where the recipe blends (mean over {seeds} seeds, band: one sd).",
    )


def _draw_ahead(runs: dict[str, Any], seeds: int) -> Figure:
    def finish(axis: Axes) -> None:
        axis.axhline(0, color="#777777", linewidth=1)
        axis.legend(loc="lower right")
        plots.counting(axis.xaxis)

    names = {"none": ("mixup", "cutmix", "flips, crops")}
    names["flips, crops"] = ("mixup + flips, crops", "cutmix + flips, crops", _POLICY)
    return charts.curves(
        *(
            charts.Panel(
                {name.removesuffix(" + flips, crops"): _ahead(runs, name, other) for name in some},
                f"Less that of “{other}”",
                ylabel="validation accuracy (points)" * (other == "none"),
            )
            for other, some in names.items()
        ),
        height=3.9,
        legend=0,
        sharey=True,
        finish=finish,
        caption="Where each recipe starts behind the one that it is compared with, and where it passes: validation "
        f"accuracy less that of the other, seed by seed (mean over {seeds} seeds, band: one sd). Right: all with flips "
        "and crops.",
    )


def _draw_accuracy(runs: dict[str, Any], seeds: int) -> Figure:
    accuracy = {name: [100 * value for value in run["test_accuracy"]] for name, run in runs.items()}
    return charts.strips(
        charts.Panel(accuracy, xlabel="test accuracy (%)"),
        unit="%",
        height=4.0,
        caption=f"Test accuracy after the last epoch: a dot a seed (n = {seeds}), the diamond is the mean with its 95% "
        "interval. Compare each recipe that blends with the one that is the same without.",
    )


def _draw_strip(strip: dict[str, Any]) -> Figure:
    rows, columns = len(strip["rows"]), len(strip["pixels"][0])
    figure, axes = plots.canvas(
        rows,
        columns,
        height=2.1 * rows,
        caption="The same images by each way to augment, by one key, with the label that each then has (shares of at "
        "least 0.01). Mixup is shown with alpha = 1: with 0.4 most shares are near 0 or 1. What a crop adds is black "
        "here; in training, where images are standardised, it is the mean.",
    )
    for row, name in enumerate(strip["rows"]):
        for column in range(columns):
            pixels = np.frombuffer(base64.urlsafe_b64decode(strip["pixels"][row][column]), dtype=np.uint8)
            plots.picture(axes[row, column], pixels.reshape(32, 32, 3) / 255)
            shares = sorted(zip(strip["labels"][row][column], strip["classes"], strict=False), reverse=True)
            label = "\n".join(f"{share:.2f} {each}" for share, each in shares if share >= 0.01)
            axes[row, column].set_xlabel(label, fontsize=9)
        axes[row, 0].set_ylabel(name, fontsize=10)
    return figure
