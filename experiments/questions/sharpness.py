"""Do SAM, EMA and SWA end in flatter places than SGD, and do they predict better there?

Part: D
Command: python -m experiments run sharpness --data-root DATA
Runtime: smoke 3 s, quick 121 s and long 1,884 s of one core; full is for a GPU
Answer: not where the images are fitted, and yes, by little (n = 12, 2,000 images of CIFAR-10 at 16x16, 30 epochs, the
    preset long). All four get every training image right. The top eigenvalue is 3.37 for SGD, and times 1.50 for SAM
    (95% 1.03 to 2.19), 1.27 for EMA (1.00 to 1.62), 1.28 for SWA (1.05 to 1.56): the curvature of cross-entropy falls
    with the loss, which SGD takes lowest, 0.0027 nats against 0.0072, 0.0053, 0.0045. Test accuracy is 55.22%, and
    changes by 0.18 points for SAM (-0.65 to 1.00, undecided), 0.42 for EMA (0.31 to 0.53), 0.12 for SWA (0.02 to
    0.23); the test loss falls from 2.17 to 1.91, 2.01, 2.08. In quick, 10 epochs at 8x8 that leave images unlearnt,
    SAM's place was the flatter one, times 0.65 (n = 4; 0.47 to 0.90), and none was seen to predict better. Both passes
    of SAM draw the same noise, and its radius 0 is SGD to the bit.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import funcreg as fr

from ..harness.context import Context
from ..parts.classifiers import scores_of
from ..parts.networks import ResNet9
from ..parts.photos import Photos, channels_last, photos
from ..report import charts, plots
from ..report.claims import is_larger
from ..report.estimates import estimate, number
from ..report.result import Claim, Result, Table


@dataclass(frozen=True)
class Settings:
    """ResNet-9 of a width on images of a size; the learning rate falls to a tenth, not to 0, as SWA wants it.

    `radius`: SAM's; `decay`: EMA's, a step; `swa_share`: of the epochs, the last, whose ends SWA averages;
    `watched`: of the test images, those that are scored after every epoch, all being scored at the end;
    `hessian_images`: clean training images whose mean loss has the Hessian; `products`: power iterations.
    """

    seeds: int = 4
    width: int = 8
    size: int = 8
    train: int = 1_000
    test: int = 1_000
    watched: int = 1_000
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    radius: float = 0.05
    decay: float = 0.99
    swa_share: float = 0.34
    hessian_images: int = 256
    products: int = 12
    checked_steps: int = 8
    jit: bool = False


PRESETS = {
    "smoke": Settings(
        seeds=2,
        width=2,
        size=8,
        train=100,
        test=50,
        epochs=2,
        batch_size=50,
        hessian_images=20,
        products=2,
        checked_steps=2,
    ),
    "quick": Settings(),
    # What a CPU does in under an hour: of 12 seeds rather than of 5 at 32x32, before either had been run.
    "long": Settings(
        seeds=12, width=16, size=16, train=2_000, test=10_000, epochs=30, batch_size=50, decay=0.995, hessian_images=500
    ),
    "full": Settings(
        seeds=5,
        width=32,
        size=32,
        train=10_000,
        test=10_000,
        watched=10_000,
        epochs=60,
        batch_size=128,
        learning_rate=0.1,
        decay=0.999,
        swa_share=0.25,
        hessian_images=2_000,
        products=50,
        jit=True,
    ),
}
METHODS = ("SGD", "SAM", "EMA", "SWA")


def main(settings: Settings, context: Context) -> Result:
    """Train by SGD and by SAM, average the former; then measure accuracy and sharpness of all four."""
    *keys, check_key = context.keys(5)
    data = photos(context, train=settings.train, validation=0, test=settings.test, size=settings.size)
    model = fr.from_module(lambda: ResNet9(settings.width))
    runs = _train(settings, model, data, keys, context)
    values = {
        "seeds": settings.seeds,
        "watched": min(settings.watched, len(data.test.x)),
        "methods": runs["ends"],
        "curves": runs["curves"],
        "checks": _check_sam(settings, model, data, check_key, context),
    }
    return Result(values, _claims(values, settings), [_table(values["methods"])], [data.source])


def _loss_of(model: fr.Model) -> Callable[..., Any]:
    """Cross-entropy of images of which half are mirrored: the noise that the key draws."""

    def loss_fn(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        x = channels_last(fr.augment.flip(batch.x, key=key))
        logits, state = model.apply(params, state, x, key=key, train=True)
        return fr.losses.cross_entropy(logits, batch.y), (state, {})

    return loss_fn


def _optimizer(settings: Settings, steps: int) -> fr.transforms.Transform:
    rate = settings.learning_rate
    schedule = fr.optim.warmup_cosine(rate, warmup=steps / 5, steps=steps, final=rate / 10)
    return fr.optim.sgd(schedule, momentum=0.9, nesterov=True, weight_decay=settings.weight_decay)


def _averaged(step: Callable[..., Any], averaging: fr.averaging.Averaging) -> Callable[..., Any]:
    """A step whose optimizer state is (the optimizer's, the average of the parameters after each step)."""

    def averaged(train_state: fr.train.TrainState, batch: Any, hparams: Any = None) -> Any:
        opt_state, average = train_state.opt_state
        train_state, metrics = step(train_state._replace(opt_state=opt_state), batch, hparams)
        average = averaging.update(average, train_state.params)
        return train_state._replace(opt_state=(train_state.opt_state, average)), metrics

    return averaged


def _train(settings: Settings, model: fr.Model, data: Photos, keys: list[Tensor], context: Context) -> dict[str, Any]:
    """Each method's measures by seed, of one start and one order of batches; members in turn, as on a CPU is faster."""
    loss_fn = _loss_of(model)
    steps = settings.epochs * max(1, len(data.train.x) // settings.batch_size)
    optimizer, ema = _optimizer(settings, steps), fr.averaging.ema(settings.decay)
    sgd = _averaged(fr.train.make_step(loss_fn, optimizer), ema)
    sam = _averaged(fr.train.make_step(fr.sharpness.sam(loss_fn, settings.radius), optimizer), ema)
    evaluate = fr.train.make_evaluate(scores_of(model))
    watched = fr.train.Batch(channels_last(data.test.x[: settings.watched]), data.test.y[: settings.watched])
    ends: dict[str, Any] = {method: [] for method in METHODS}
    curves: dict[str, Any] = {method: {"loss": [], "accuracy": []} for method in METHODS[:2]}
    order = [(seed, method) for seed in range(settings.seeds) for method in METHODS[:2]]

    def train(method: str, seed: int) -> dict[str, Any]:
        init_key, train_key, order_key, measure_key = (fr.random.fold_in(key, seed) for key in keys)
        params, state = fr.tree.to(model.init(init_key), context.device)
        start = fr.train.init(params, state, optimizer, key=train_key)
        swa = _Averages(fr.averaging.swa(), params, first=settings.epochs - round(settings.swa_share * settings.epochs))
        result = context.fit(
            sgd if method == "SGD" else sam,
            start._replace(opt_state=(start.opt_state, ema.init(params))),
            data.train,
            key=order_key,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            jit=settings.jit,
            evaluate=lambda params, state: evaluate(params, state, watched, batch_size=500),
            on_epoch=swa.epoch,
        )
        trained = result.train_state
        found = {method: trained.params}
        if method == "SGD":
            found |= {"EMA": trained.opt_state[1].params, "SWA": swa.average.params}
        return {
            "loss": result.history["loss"].float(),
            "accuracy": result.history["test_accuracy"].float(),
            "ends": {
                name: _measure(settings, model, params, trained.state, data, evaluate, measure_key)
                for name, params in found.items()
            },
        }

    for seed, method in context.track(order, "runs"):
        measured = context.piece(f"{method}, seed {seed}", partial(train, method, seed))
        for name, curve in curves[method].items():
            curve.append(measured[name])
        for name, end in measured["ends"].items():
            ends[name].append(end)
    names = ends["SGD"][0]
    return {
        "ends": {method: {name: [each[name] for each in some] for name in names} for method, some in ends.items()},
        "curves": curves,
    }


class _Averages:
    """The average of the parameters at the ends of the last epochs, told by `on_epoch`."""

    def __init__(self, averaging: fr.averaging.Averaging, params: Any, *, first: int) -> None:
        self.averaging, self.average, self.first = averaging, averaging.init(params), first

    def epoch(self, epoch: fr.train.Epoch) -> None:
        """Count in an epoch after the first so many."""
        if epoch.number > self.first:
            self.average = self.averaging.update(self.average, epoch.train_state.params)


def _measure(
    settings: Settings, model: fr.Model, params: Any, state: Any, data: Photos, evaluate: Any, key: Tensor
) -> dict[str, float]:
    """How well parameters predict, and the top eigenvalue of the Hessian of their loss, both in evaluation.

    All four methods alike get the batch statistics that clean training images have under them.
    """
    statistics_key, direction_key = fr.random.split(key)
    train, test = (channels_last(part.x) for part in (data.train, data.test))
    state = fr.averaging.refresh_statistics(model, params, state, train.split(500), key=statistics_key)
    watched = train[: settings.hessian_images], data.train.y[: settings.hessian_images]

    def loss(params: Any) -> Tensor:
        return fr.losses.cross_entropy(model.apply(params, state, watched[0])[0], watched[1])

    on_train = evaluate(params, state, data.train._replace(x=train), batch_size=500)
    on_test = evaluate(params, state, data.test._replace(x=test), batch_size=500)
    top = fr.sharpness.hessian_eigenvalue(loss, params, key=direction_key, steps=settings.products)
    return {
        "test_accuracy": float(on_test["test_accuracy"]),
        "test_loss": float(on_test["test_loss"]),
        "train_accuracy": float(on_train["test_accuracy"]),
        "train_loss": float(on_train["test_loss"]),
        "eigenvalue": float(top),
    }


def _check_sam(settings: Settings, model: fr.Model, data: Photos, key: Tensor, context: Context) -> dict[str, Any]:
    """Whether both passes get the same images and the same dropout mask, and radius 0 is SGD, over a few steps."""
    init_key, fit_key, *keys = fr.random.split(key, settings.checked_steps + 2)
    params, state = fr.tree.to(model.init(init_key), context.device)
    loss_fn, seen = _loss_of(model), []

    def watched(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        mask = fr.noise.dropout(torch.ones(1000, device=key.device), 0.5, key=key)
        seen.append((fr.augment.flip(batch.x, key=key), mask))
        return loss_fn(params, state, batch, key=key, hparams=hparams)

    batch = fr.tree.map(lambda leaf: leaf[: settings.batch_size], data.train)
    for each in keys:
        fr.sharpness.sam(watched, settings.radius)(params, state, batch, key=each, hparams=None)
    first, second = seen[0::2], seen[1::2]
    within = [
        float((a - b).abs().max())
        for one, two in zip(first, second, strict=True)
        for a, b in zip(one, two, strict=True)
    ]
    others = [(a[1] != b[1]).double().mean() for a, b in zip(first, [*first[1:], first[0]], strict=True)]

    optimizer = _optimizer(settings, settings.checked_steps)
    few = fr.tree.map(lambda leaf: leaf[: settings.checked_steps * settings.batch_size], data.train)
    ends = [
        context.fit(
            fr.train.make_step(each, optimizer),
            fr.train.init(params, state, optimizer, key=fit_key),
            few,
            key=fit_key,
            epochs=1,
            batch_size=settings.batch_size,
            jit=False,
        ).train_state.params
        for each in (loss_fn, fr.sharpness.sam(loss_fn, 0.0), fr.sharpness.sam(loss_fn, settings.radius))
    ]
    apart = [
        max(float((a - b).abs().max()) for a, b in zip(*map(fr.tree.leaves, pair), strict=True))
        for pair in ((ends[0], ends[1]), (ends[0], ends[2]), (ends[0], params))
    ]
    names = ("radius_0", "radius", "moved")
    return {
        "passes": settings.checked_steps,
        "within": max(within),
        "between_keys": float(torch.stack(others).mean()),
        **dict(zip(names, apart, strict=True)),
    }


def _claims(values: dict[str, Any], settings: Settings) -> list[Claim]:
    methods, checks = values["methods"], values["checks"]
    claims = [claim for method in METHODS[1:] for claim in _method_claims(methods, method)]
    return [
        *claims,
        Claim(
            "Both passes of SAM draw the same noise, as they get the same key",
            f"largest difference of an image or of a dropout mask between the passes: {checks['within']:g}; "
            f"{100 * checks['between_keys']:.0f}% of a mask differs between two keys (n = {checks['passes']} steps)",
            checks["within"] == 0.0 and checks["between_keys"] > 0.4,
            {name: checks[name] for name in ("within", "between_keys", "passes")},
        ),
        Claim(
            "SAM of radius 0 is SGD, to the bit",
            f"largest difference of a parameter after {checks['passes']} steps: {checks['radius_0']:g}; with radius "
            f"{settings.radius:g} it is {number(checks['radius'])}",
            checks["radius_0"] == 0.0 and checks["radius"] > 0.0 and checks["moved"] > 0.0,
            {name: checks[name] for name in ("radius_0", "radius", "moved")},
        ),
    ]


def _method_claims(methods: dict[str, Any], method: str) -> list[Claim]:
    """A method against SGD, seed by seed: the ratio of eigenvalues, and the difference of accuracies."""
    tops = {name: methods[name]["eigenvalue"] for name in ("SGD", method)}
    ratio = estimate(
        math.log(a / b) if a > 0 and b > 0 else math.nan for a, b in zip(tops[method], tops["SGD"], strict=True)
    )
    means = [estimate(tops[name]).mean for name in ("SGD", method)]
    return [
        Claim(
            f"{method} ends in a flatter place than SGD: the top eigenvalue of the loss's Hessian is smaller",
            f"{number(means[0])} to {number(means[1])}; paired ratio {math.exp(ratio.mean):.2f} "
            f"(n = {ratio.n}; 95% {_exp(ratio.low)} to {_exp(ratio.high)})",
            ratio.below(smallest=math.log(1.1)),
            {
                "log_ratio": ratio._asdict(),
                "SGD": estimate(tops["SGD"])._asdict(),
                method: estimate(tops[method])._asdict(),
            },
        ),
        is_larger(
            f"{method} has a higher test accuracy than SGD",
            [100 * value for value in methods[method]["test_accuracy"]],
            [100 * value for value in methods["SGD"]["test_accuracy"]],
            "{smaller:.2f}% to {larger:.2f}%; paired difference {difference.signed} points",
            smallest=1.0,
        ),
    ]


def _exp(value: float) -> str:
    return f"{math.exp(min(value, 50.0)):.2f}" if math.isfinite(value) else "unknown"


def _table(methods: dict[str, Any]) -> Table:
    rows = []
    for name, measured in methods.items():
        percent = [estimate(100 * value for value in measured[each]) for each in ("test_accuracy", "train_accuracy")]
        plain = [estimate(measured[each]) for each in ("test_loss", "train_loss", "eigenvalue")]
        cells = [e.fixed(2) for e in percent] + [e.spread for e in plain]
        rows.append((name, *cells, percent[0].n))
    columns = (
        "method",
        "test accuracy (%)",
        "training accuracy (%)",
        "test loss (nats)",
        "training loss (nats)",
        "top eigenvalue (nats)",
        "n",
    )
    return Table("At the end, on clean images in evaluation: mean ± sd over seeds", columns, rows)


def figures(result: Result) -> dict[str, Figure]:
    """Accuracy and sharpness of each method, and the curves of the two runs."""
    values = result.values
    return {
        "methods": _draw_methods(values["methods"], values["seeds"]),
        "curves": _draw_curves(values["curves"], values["seeds"], values["watched"]),
    }


def _draw_methods(methods: dict[str, Any], seeds: int) -> Figure:
    accuracy = {name: [100 * value for value in measured["test_accuracy"]] for name, measured in methods.items()}
    eigenvalue = {name: measured["eigenvalue"] for name, measured in methods.items()}
    return charts.strips(
        charts.Panel(accuracy, "Accuracy", "test accuracy (%)"),
        charts.Panel(eigenvalue, "Sharpness", "top eigenvalue of the Hessian (nats)"),
        height=3.4,
        caption=f"A dot a seed (n = {seeds}), the diamond is the mean with its 95% interval. Right: the sharpness, the "
        "largest curvature of the loss in any direction; further left is flatter. EMA and SWA are averages of SGD's "
        "run.",
    )


def _draw_curves(curves: dict[str, Any], seeds: int, watched: int) -> Figure:
    accuracy = {method: 100 * np.array(curve["accuracy"]) for method, curve in curves.items()}
    return charts.curves(
        charts.Panel(
            {method: curve["loss"] for method, curve in curves.items()}, "Training loss", ylabel="loss (nats)"
        ),
        charts.Panel(accuracy, "Accuracy", ylabel="test accuracy (%)"),
        legend=0,
        finish=lambda axis: plots.counting(axis.xaxis),
        caption=f"The two runs: the loss of training batches, and the accuracy on {watched:,} test images after each "
        f"epoch (mean over {seeds} seeds, band: one sd). A step of SAM takes two gradients, one of SGD one.",
    )
