"""What does label smoothing do to the logits, to the features and to calibration?

Part: A
Command: python -m experiments run label-smoothing --data-root DATA
Runtime: smoke 1 s, quick 17 s (2 CPU cores); long 211 s of one core, full is for a GPU
Answer: on all of MNIST (60,000 images, n = 5 seeds, --preset long) the logit gap settles at 4.55 ± 0.01 with rate 0.1,
    near the optimum of 4.51, which is no bound: 62% of the images are above it. Without, it grows to the end, to 36.3.
    Features cluster: silhouette 0.493 against 0.291, within / between 0.286 against 0.487. It does not calibrate here:
    ECE 8.8% against 1.6%, for confidence falls to 89.3% where accuracy is 98.0% (97.8% without).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import vmap

import funcreg as fr

from ..data import Images, mnist
from ..harness.context import Context
from ..parts.arms import Arms
from ..parts.classifiers import loss_of, scores_of
from ..parts.networks import mlp
from ..report import charts, plots
from ..report.estimates import estimate, number
from ..report.result import Claim, Result, Table

CLASSES = 10


@dataclass(frozen=True)
class Settings:
    """An MLP with a narrow last hidden layer, its features; each rate with the same seeds."""

    rates: tuple[float, float] = (0.0, 0.1)
    seeds: int = 5
    hidden: tuple[int, ...] = (128, 64)
    train: int = 6_000
    test: int = 2_000
    watched: int = 1_000
    epochs: int = 24
    batch_size: int = 120
    learning_rate: float = 2e-3
    shown: int = 300
    tsne_steps: int = 500
    jit: bool = False


PRESETS = {
    "smoke": Settings(
        seeds=2,
        hidden=(64, 32),
        train=240,
        test=300,
        watched=200,
        epochs=3,
        batch_size=60,
        learning_rate=4e-3,
        shown=80,
        tsne_steps=250,
    ),
    "quick": Settings(),
    # All of MNIST.
    "long": Settings(train=60_000, test=10_000),
    "full": Settings(seeds=16, hidden=(512, 512), train=60_000, test=10_000, epochs=60, shown=500, jit=True),
}
Variables = tuple[Any, Any]


class Classifier(nn.Module):
    """An MLP whose last hidden layer can be asked for."""

    def __init__(self, *hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(mlp(28 * 28, *hidden), nn.ReLU())
        self.head = nn.Linear(hidden[-1], CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer gets."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def main(settings: Settings, context: Context) -> Result:
    """Train both rates and all seeds as the members of one fit, watching the logits; then look at the features."""
    start_key, fit_key, tsne_key = context.keys(3)
    images = mnist(context.data).take(settings.train, settings.test).to(context.device)
    model = fr.from_module(lambda: Classifier(*settings.hidden))
    arms = Arms({f"rate {rate:g}": {"smoothing": rate} for rate in settings.rates}, settings.seeds)
    members, curves = _train(model, arms, images, settings, start_key, fit_key, context)
    values = {
        "arms": arms.names,
        "seeds": settings.seeds,
        "smoothing": settings.rates[1],
        "optimal": _optimal(settings.rates[1]),
        "curves": curves,
        "gaps": _distribution(model, arms, members, images, settings),
        "test": _test(model, arms, members, images),
        "features": _features(model, arms, members, images, settings, tsne_key),
    }
    source = f"{images.source}; {len(images.x):,} of them to train and {len(images.test_x):,} to test"
    return Result(values, _claims(values), _tables(values), [source])


def _train(
    model: fr.Model,
    arms: Arms,
    images: Images,
    settings: Settings,
    start_key: Tensor,
    fit_key: Tensor,
    context: Context,
) -> tuple[Variables, dict[str, Tensor]]:
    """All members' variables after training; each metric of it, (arms, seeds, epochs)."""
    optimizer = fr.optim.adam(settings.learning_rate)
    scores = scores_of(model)

    def metrics(params: Any, state: Any, batch: fr.train.Batch) -> dict[str, Tensor]:
        logits, _ = model.apply(params, state, batch.x)
        gaps = _gaps(logits, batch.y)
        return {"gap": gaps.mean(dim=1), "margin": gaps.min(dim=1).values, **scores(params, state, batch)}

    measure = fr.train.make_evaluate(metrics, members=arms.members)
    watched = {
        "training": fr.train.Batch(images.x[: settings.watched], images.y[: settings.watched]),
        "test": fr.train.Batch(images.test_x[: settings.watched], images.test_y[: settings.watched]),
    }

    def evaluate(params: Any, state: Any) -> dict[str, Tensor]:
        each = {name: measure(params, state, batch) for name, batch in watched.items()}
        found = {f"{name}_{metric}": each[name][metric] for name in each for metric in ("gap", "margin")}
        return {**found, "test_loss": each["test"]["test_loss"], "test_accuracy": each["test"]["test_accuracy"]}

    result = context.fit(
        fr.train.make_step(loss_of(model), optimizer),
        arms.start(model, optimizer, key=start_key, device=context.device),
        fr.train.Batch(images.x, images.y),
        key=fit_key,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        hparams=arms.hparams(context.device),
        members=arms.members,
        jit=settings.jit,
        evaluate=evaluate,
    )
    names = ("training_gap", "training_margin", "test_gap", "test_margin", "test_loss", "test_accuracy", "loss")
    curves = {name: arms.curves(result.history[name]) for name in names}
    return (result.train_state.params, result.train_state.state), curves


def _gaps(logits: Tensor, y: Tensor) -> Tensor:
    """z[correct] - z[wrong] for each of the wrong classes, (N, 9)."""
    right = fr.labels.one_hot(y, CLASSES, dtype=torch.bool)
    wrong = torch.where(right, torch.inf, logits).sort(dim=-1).values[:, :-1]  # the right one comes last
    return torch.where(right, logits, 0.0).sum(dim=-1, keepdim=True) - wrong


def _logits(model: fr.Model, members: Variables, x: Tensor, method: str | None = None) -> Tensor:
    """Of all members, (members, N, ...)."""
    return vmap(lambda params, state: model.apply(params, state, x, method=method)[0])(*members)


def _optimal(smoothing: float) -> dict[str, Any]:
    """Both conventions: what the right class gets, the gap where softmax gives just that, and the loss around it."""
    wrong = CLASSES - 1
    # s / (K - 1) for each wrong class is s' / K for every class with s' = s K / (K - 1).
    rates = {"s/K": smoothing, "s/(K-1)": smoothing * CLASSES / wrong}
    target = fr.labels.one_hot(torch.tensor([0]), CLASSES, dtype=torch.float64)
    gaps = torch.linspace(0, 12, 121, dtype=torch.float64)
    logits = target * gaps[:, None]
    found: dict[str, Any] = {
        "x": gaps,
        "none": fr.losses.cross_entropy(logits, target.expand(len(gaps), -1), reduction="none"),
    }
    for name, rate in rates.items():
        smoothed = fr.labels.smooth_labels(target, rate)
        gap = fr.labels.optimal_logit_gap(torch.tensor(rate, dtype=torch.float64), CLASSES)
        found[name] = {
            "right": float(smoothed[0, 0]),
            "wrong": float(smoothed[0, 1]),
            "gap": float(gap),
            "softmax": float(torch.softmax(target[0] * gap, dim=0)[0]),
            "loss": fr.losses.cross_entropy(logits, smoothed.expand(len(gaps), -1), reduction="none"),
        }
    found["closed_form"] = float(np.log((1 - smoothing) * wrong / smoothing))
    return found


def _distribution(
    model: fr.Model, arms: Arms, members: Variables, images: Images, settings: Settings
) -> dict[str, Any]:
    """All gaps of the watched training images at the end: their histogram, and the share above the optimum."""
    x, y = images.x[: settings.watched], images.y[: settings.watched]
    gaps = vmap(lambda logits: _gaps(logits, y))(_logits(model, members, x))
    optimum = fr.labels.optimal_logit_gap(settings.rates[1], CLASSES).to(gaps.device)
    edges = np.linspace(-5, 60, 131)
    counts = [
        np.histogram(each.clamp(-5, 60).flatten().cpu().numpy(), edges)[0] / each.numel() for each in arms.by_arm(gaps)
    ]
    above = arms.by_arm((gaps.mean(dim=2) > optimum).double().mean(dim=1))
    return {"edges": edges, "share": np.round(counts, 5), "images_above": above, "images": len(y)}


def _test(model: fr.Model, arms: Arms, members: Variables, images: Images) -> dict[str, Tensor]:
    """On the test set, (arms, seeds): accuracy (%), NLL (nats), calibration error (%), mean confidence (%)."""
    probabilities = torch.softmax(_logits(model, members, images.test_x), dim=-1)
    y = images.test_y
    measures = {
        "accuracy": lambda p: 100 * fr.losses.accuracy(p, y),
        "nll": lambda p: fr.uncertainty.negative_log_likelihood(p, y),
        "ece": lambda p: 100 * fr.uncertainty.expected_calibration_error(p, y),
        "confidence": lambda p: 100 * p.max(dim=-1).values.mean(),
    }
    return {name: arms.by_arm(vmap(measure)(probabilities)) for name, measure in measures.items()}


def _features(
    model: fr.Model, arms: Arms, members: Variables, images: Images, settings: Settings, key: Tensor
) -> dict[str, Any]:
    """How well the classes of the test set are apart in the last hidden layer; a picture of it for the first seed."""
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score

    y = images.test_y[: settings.watched]
    features = _logits(model, members, images.test_x[: settings.watched], "features").double().cpu()
    labels = y.cpu().numpy()
    silhouette = torch.tensor([float(silhouette_score(each.numpy(), labels)) for each in features])
    pictures = []
    for each in arms.by_arm(features)[:, 0, : settings.shown]:
        # Exact, as the approximate one adds up in an order that the number of threads decides.
        seed = int(fr.random.randint(key, (), 0, 2**31 - 1))
        tsne = TSNE(
            perplexity=20, init="pca", method="exact", max_iter=settings.tsne_steps, random_state=seed, n_jobs=1
        )
        pictures.append(np.round(tsne.fit_transform(each.numpy()), 1))
    return {
        "silhouette": arms.by_arm(silhouette),
        "ratio": arms.by_arm(torch.stack([_within_to_between(each, y.cpu()) for each in features])),
        "images": len(y),
        "tsne": pictures,
        "labels": y[: settings.shown],
    }


def _within_to_between(features: Tensor, y: Tensor) -> Tensor:
    """Mean distance of an image from its class's mean, over the mean distance between two classes' means."""
    member_of = fr.labels.one_hot(y, CLASSES, dtype=features.dtype)
    means = member_of.T @ features / member_of.sum(dim=0)[:, None]
    return (features - means[y]).norm(dim=1).mean() / torch.pdist(means).mean()


def _last_third(curve: Tensor) -> Tensor:
    """(seeds, epochs) -> the last third of the epochs."""
    return curve[:, -max(2, curve.shape[1] // 3) :]


def _claims(values: dict[str, Any]) -> list[Claim]:
    return [*_gap_claims(values), *_formula_claims(values["optimal"], values["smoothing"]), *_effect_claims(values)]


def _gap_claims(values: dict[str, Any]) -> list[Claim]:
    optimum, rate = values["optimal"]["s/K"]["gap"], values["smoothing"]
    plain, smoothed = (_last_third(curve) for curve in values["curves"]["training_gap"])
    growth = [estimate((each[:, -1] - each[:, 0]).tolist()) for each in (plain, smoothed)]
    level, images = estimate(smoothed.mean(dim=1).tolist()), values["gaps"]["images"]
    held_out = estimate(_last_third(values["curves"]["test_gap"][1]).mean(dim=1).tolist())
    above = estimate((100 * values["gaps"]["images_above"][1]).tolist())
    near = level.within(0.95 * optimum, 1.05 * optimum)
    slower = estimate(((smoothed[:, -1] - smoothed[:, 0]) / (plain[:, -1] - plain[:, 0])).tolist())
    return [
        Claim(
            f"Without smoothing the logit gap keeps growing; with {rate:g} it settles within 5% of {optimum:.2f}",
            f"last third of training: without, growth {growth[0].spread} to "
            f"{number(float(plain[:, -1].mean()))}; with, level {level.fixed(2)} (n = {level.n})",
            growth[0].above() & near,
            {"growth": growth[0]._asdict(), "level": level._asdict(), "optimum": optimum},
        ),
        Claim(
            f"With {rate:g} it has settled: in the last third it grows by less than a tenth of what it does without",
            f"growth {growth[1]} against {growth[0]}; ratio {slower}",
            slower.below(0.1),
            {"with": growth[1]._asdict(), "without": growth[0]._asdict(), "ratio": slower._asdict()},
        ),
        Claim(
            f"It settles within 5% of {optimum:.2f} on test images too",
            f"{held_out} on {images} test images",
            held_out.within(0.95 * optimum, 1.05 * optimum),
            held_out._asdict(),
        ),
        Claim(
            f"{optimum:.2f} is a bound, which no image's gap exceeds (as texts say that take the optimum for one)",
            f"above it at the end: {above}% of {images} training images",
            above.high == 0,
            above._asdict(),
        ),
    ]


def _formula_claims(optimal: dict[str, Any], rate: float) -> list[Claim]:
    ours, theirs = optimal["s/K"], optimal["s/(K-1)"]
    return [
        Claim(
            f"With 10 classes and rate {rate:g} the true class gets {1 - 0.9 * rate:.2f}, every other {rate / 10:g}",
            f"{ours['right']:.12g} and {ours['wrong']:.12g}",
            abs(ours["right"] - (1 - 0.9 * rate)) < 1e-12 and abs(ours["wrong"] - rate / 10) < 1e-12,
            {"right": ours["right"], "wrong": ours["wrong"]},
        ),
        Claim(
            "Both formulas are right, each by its convention: at its gap softmax gives just the smoothed targets",
            f"log(1 + K(1-s)/s) = {ours['gap']:.4f} gives the true class {ours['softmax']:.4f} (s/K for each class); "
            f"log((1-s)(K-1)/s) = {optimal['closed_form']:.4f} gives {theirs['softmax']:.4f} (s/(K-1) for wrong ones)",
            max(
                abs(ours["softmax"] - ours["right"]),
                abs(theirs["softmax"] - (1 - rate)),
                abs(theirs["gap"] - optimal["closed_form"]),
            )
            < 1e-9,
            {"s/K": ours["gap"], "s/(K-1)": theirs["gap"], "closed_form": optimal["closed_form"]},
        ),
    ]


def _effect_claims(values: dict[str, Any]) -> list[Claim]:
    features, test = values["features"], values["test"]
    claims = []
    for text, (plain, smoothed), sign, unit in (
        ("Smoothing puts classes further apart: a higher silhouette of the features", features["silhouette"], 1, ""),
        ("... and a lower ratio of distances within classes to those between", features["ratio"], -1, ""),
        ("Smoothing calibrates: a lower calibration error (ECE) on the test set", test["ece"], -1, "%"),
    ):
        change = estimate((smoothed - plain).double().tolist())
        better = change.above() if sign > 0 else change.below()
        measured = f"{number(float(plain.mean()))}{unit} without, {number(float(smoothed.mean()))}{unit} with; "
        claims.append(Claim(text, f"{measured}difference {change}", better, {"difference": change._asdict()}))
    return claims


def _tables(values: dict[str, Any]) -> list[Table]:
    features, test, curves = values["features"], values["test"], values["curves"]
    columns = {
        "gap, training images": curves["training_gap"][:, :, -1],
        "gap, test images": curves["test_gap"][:, :, -1],
        "gap to the runner-up, test": curves["test_margin"][:, :, -1],
        "silhouette": features["silhouette"],
        "within / between": features["ratio"],
        "test accuracy (%)": test["accuracy"],
        "NLL (nats)": test["nll"],
        "ECE (%)": test["ece"],
        "mean confidence (%)": test["confidence"],
    }
    rows = []
    for name, each in columns.items():
        cells = [estimate(arm.tolist()) for arm in each.double()]
        rows.append((name, *(e.fixed(3) for e in cells), values["seeds"]))
    return [Table("After training: mean ± sd", ("measure", *values["arms"], "n"), rows)]


def figures(result: Result) -> dict[str, Figure]:
    """The gap through training and at its end, both formulas, the features, calibration."""
    values = result.values
    return {
        "gap": _draw_gap(values),
        "formulas": _draw_formulas(values["optimal"], values["smoothing"]),
        "features": _draw_features(values["features"], values["arms"]),
        "effects": _draw_effects(values),
    }


def _mark_optima(axes: Any, optimal: dict[str, Any], vertical: bool) -> None:
    for name, color, line in (("s/K", plots.GREEN, "--"), ("s/(K-1)", plots.PURPLE, ":")):
        gap = optimal[name]["gap"]
        draw = axes.axvline if vertical else axes.axhline
        draw(gap, color=color, linestyle=line, linewidth=1.6, label=f"{gap:.2f}: optimum, {name}")


def _draw_gap(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        height=4.3,
        caption=f"Left: the gap z[correct] - z[wrong], mean over the wrong classes and {values['gaps']['images']} "
        f"training images (mean over {values['seeds']} seeds, band: one sd; the faint lines are as many test images). "
        "Without smoothing it keeps growing. Right: all these gaps after training; with smoothing they lie around the "
        "optimum, on both sides: it is no bound. What is above 60 stands at 60.",
    )
    left, right = axes[0]
    epochs = range(1, len(values["curves"]["loss"][0][0]) + 1)
    edges = np.array(values["gaps"]["edges"])
    for i, arm in enumerate(values["arms"]):
        plots.band(left, epochs, values["curves"]["training_gap"][i], arm, i)
        test = np.mean(values["curves"]["test_gap"][i], axis=0)
        left.plot(epochs, test, color=plots.PALETTE[i], linewidth=1, alpha=0.5)
        right.stairs(values["gaps"]["share"][i], edges, color=plots.PALETTE[i], linewidth=1.5, linestyle=plots.LINES[i])
    _mark_optima(left, values["optimal"], vertical=False)
    _mark_optima(right, values["optimal"], vertical=True)
    left.set(xlabel="epoch", ylabel="logit gap", title="Through training", ylim=(0, None))
    plots.counting(left.xaxis)
    shares = np.array(values["gaps"]["share"])
    used = np.nonzero(shares.max(axis=0) > 2e-4)[0]
    right.set(xlabel="logit gap", ylabel="share of gaps", title="At the end")
    right.set_xlim(edges[used[0]], edges[used[-1] + 1])
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw_formulas(optimal: dict[str, Any], rate: float) -> Figure:
    figure, axes = plots.canvas(
        caption=f"The loss of one image whose right logit is above all others by a gap (10 classes, rate {rate:g}). "
        "Both smoothed losses have a minimum, each at the gap of its own formula, and go on beyond it; that of hard "
        "targets has none.",
    )
    axis = axes[0, 0]
    named = (
        ("s/K", "s/K for every class: log(1 + K(1-s)/s)", plots.GREEN, "--"),
        ("s/(K-1)", "s/(K-1) for each wrong one: log((1-s)(K-1)/s)", plots.PURPLE, ":"),
    )
    axis.plot(optimal["x"], optimal["none"], color=plots.BLUE, label="hard targets")
    for name, label, color, line in named:
        gap = optimal[name]["gap"]
        low = float(np.interp(gap, optimal["x"], optimal[name]["loss"]))
        axis.plot(optimal["x"], optimal[name]["loss"], color=color, linestyle=line, label=f"{label} = {gap:.2f}")
        axis.plot([gap], [low], "o", color=color, markersize=8)
    axis.set(xlabel="logit gap", ylabel="loss (nats)", ylim=(0, None))
    axis.legend()
    return figure


def _draw_features(features: dict[str, Any], arms: list[str]) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        height=4.2,
        caption=f"t-SNE of the last hidden layer on {len(features['labels'])} test images, first seed of each rate. "
        "Distances between clusters mean little in such a picture: the silhouette (mean over the seeds, "
        f"{features['images']} images, in the layer itself) is the measure.",
    )
    labels = np.array(features["labels"])
    for axis, arm, points, scores in zip(axes[0], arms, features["tsne"], features["silhouette"], strict=True):
        for digit in range(CLASSES):
            x, y = np.array(points)[labels == digit].T
            axis.scatter(x, y, s=30, marker=f"${digit}$", color=plots.PALETTE[digit % 7], linewidths=0.3)
        axis.set_title(f"{arm}: silhouette {np.mean(scores):.2f}", fontsize=11)
        axis.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)")
    axes[0, 0].set_ylabel("t-SNE 2 (no unit)")
    return figure


def _draw_effects(values: dict[str, Any]) -> Figure:
    panels = (
        (values["features"]["silhouette"], "silhouette"),
        (values["features"]["ratio"], "within / between"),
        (values["test"]["ece"], "ECE (%)"),
    )
    return charts.strips(
        *(charts.Panel(dict(zip(values["arms"], each, strict=True)), xlabel=label) for each, label in panels),
        height=2.6,
        finish=lambda axis: axis.margins(x=0.2),
        caption=f"Features and calibration on test images: a dot a seed (n = {values['seeds']}), the diamond is the "
        "mean with its 95% interval. Classes lie further apart to the right in the first, to the left in the second; "
        "confidences are more honest to the left in the third.",
    )
