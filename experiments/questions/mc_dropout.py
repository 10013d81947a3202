"""Does MC dropout know when it does not know: does its entropy rise as a digit turns?

Part: A
Command: python -m experiments run mc-dropout --data-root DATA
Runtime: smoke 2 s, quick 77 s and long 505 s of one core; full is for a GPU
Answer: yes on MNIST, all of it, up to a point. Mean predictive entropy is 0.116 ± 0.006 nats upright, peaks at 60° with
    1.020 ± 0.025 and is 0.620 ± 0.020 upside down (n = 20 networks, 500 images an angle, T = 100; --preset long
    --members 20 --at-once, taken after 5 had left one claim undecided, that on the NLL). At 90° it tells turned digits
    with an AUROC of 0.930 ± 0.006, the deterministic pass's entropy with 0.901 ± 0.009. It does not calibrate: ECE is
    1.38% against 0.58%, and NLL 0.0656 against 0.0637, higher by 0.0009 to 0.0030 (95%); ensembles of 5 have 0.36% and
    0.0522. The error falls as T^-0.49. On scikit-learn's digits the network is wrongly sure at 90°: not confirmed
    there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from scipy import stats
from torch import Tensor, nn
from torch.func import vmap

import funcreg as fr

from ..data import Images, mnist
from ..harness.context import Context
from ..parts.classifiers import train_members
from ..report import plots
from ..report.claims import is_larger
from ..report.decisions import every
from ..report.estimates import Estimate, estimate, number
from ..report.result import Claim, Result, Table, plain

Ensemble = list[tuple[dict[str, Tensor], dict[str, Tensor]]]


@dataclass(frozen=True)
class Settings:
    """An MLP 784-hidden-hidden-10 with dropout after each hidden layer; `samples` MC passes; ensembles of `members`."""

    seeds: int = 5
    members: int = 5
    hidden: int = 512
    rate: float = 0.5
    train: int = 10_000
    test: int = 500
    steps: int = 500
    batch_size: int = 128
    learning_rate: float = 1e-3
    samples: int = 100
    angles: tuple[int, ...] = tuple(range(0, 181, 15))
    turned: int = 100
    strip_classes: tuple[int, ...] = (1, 4, 7)
    convergence_images: int = 100
    convergence_samples: int = 200
    reference_samples: int = 1_000
    chunk: int = 20
    jit: bool = False


PRESETS = {
    "smoke": Settings(
        seeds=2,
        members=2,
        hidden=128,
        train=1_000,
        test=200,
        steps=10,
        learning_rate=3e-3,
        samples=10,
        angles=tuple(range(0, 181, 90)),
        turned=50,
        convergence_images=20,
        reference_samples=400,
    ),
    "quick": Settings(),
    # All of MNIST.
    "long": Settings(train=60_000, test=10_000, steps=4_690, turned=500, reference_samples=2_000),
    "full": Settings(
        train=60_000,
        test=10_000,
        steps=9_000,
        angles=tuple(range(0, 181, 10)),
        turned=2_000,
        reference_samples=5_000,
        jit=True,
    ),
}
_METHODS = ("deterministic", "MC dropout")


def main(settings: Settings, context: Context) -> Result:
    """Train all seeds under one vmap; then compare what they say of clean and of turned digits."""
    init_key, train_key, clean_key, turn_key, strip_key, converge_key = context.keys(6)
    images = mnist(context.data).take(settings.train, settings.test).to(context.device)
    model = fr.from_module(lambda: _network(settings))
    fitted = train_members(
        model, images, settings, context, members=settings.seeds, init_key=init_key, key=train_key, jit=settings.jit
    )
    members: Ensemble = fr.tree.unstack((fitted.train_state.params, fitted.train_state.state))
    quality, ensemble_gain = _quality(model, members, images, settings, clean_key)
    angles = _angles(model, members, images, settings, turn_key, context)
    values = {
        "seeds": settings.seeds,
        "ensembles_of": settings.members,
        "samples": settings.samples,
        "history": {name: fitted.history[name] for name in ("loss", "accuracy")},
        "quality": quality,
        "ensemble_gain": ensemble_gain,
        "angles": angles,
        "strip": _strip(model, members, images, settings, strip_key),
        "convergence": _convergence(model, members, images, settings, converge_key, context),
    }
    source = f"{images.source}; {len(images.x):,} of them to train and {len(images.test_x):,} to test"
    return Result(values, _claims(values, settings), _tables(values, settings), [source])


def _network(settings: Settings) -> nn.Module:
    width = settings.hidden
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(784, width), nn.ReLU(), nn.Dropout(settings.rate)),
        *(nn.Linear(width, width), nn.ReLU(), nn.Dropout(settings.rate)),
        nn.Linear(width, 10),
    )


def _deterministic(model: fr.Model, members: Ensemble, x: Tensor) -> Tensor:
    """Probabilities without noise, (members, N, 10)."""
    return torch.stack([torch.softmax(model.apply(*member, x)[0], dim=-1) for member in members])


def _together(probabilities: Tensor, settings: Settings) -> Tensor:
    """Those of ensembles, one after the other as many members as make one: (seeds, N, 10) to (ensembles, N, 10)."""
    whole = len(probabilities) // settings.members * settings.members
    return probabilities[:whole].unflatten(0, (-1, settings.members)).mean(dim=1)


def _mc(
    model: fr.Model, members: Ensemble, x: Tensor, settings: Settings, key: Tensor
) -> list[fr.uncertainty.Predictive]:
    """Each member's MC dropout: `samples` passes under one vmap over keys."""
    keys = fr.random.split(key, len(members))
    return [
        fr.uncertainty.mc_dropout(model, *member, x, key=k, samples=settings.samples, chunk_size=settings.chunk)
        for member, k in zip(members, keys, strict=True)
    ]


def _quality(
    model: fr.Model, members: Ensemble, images: Images, settings: Settings, key: Tensor
) -> tuple[dict[str, Any], Estimate]:
    """Accuracy, NLL and ECE on the clean test set, of every member and of ensembles of them.

    And by how much an ensemble's NLL is below that of a member's MC dropout, over the test images.
    """
    plain = _deterministic(model, members, images.test_x)
    mc = torch.stack([each.mean for each in _mc(model, members, images.test_x, settings, key)])
    predictions = {
        "deterministic": plain,
        "MC dropout": mc,
        "ensemble": _together(plain, settings),
        "ensemble of MC dropout": _together(mc, settings),
    }
    measures = {
        "accuracy": lambda p, y: (p.argmax(dim=-1) == y).double().mean(),
        "nll": fr.uncertainty.negative_log_likelihood,
        "ece": fr.uncertainty.expected_calibration_error,
    }
    quality = {
        method: {name: [float(measure(p, images.test_y)) for p in each] for name, measure in measures.items()}
        for method, each in predictions.items()
    }
    surprise = {name: -_true(predictions[name], images.test_y).log().mean(dim=0) for name in ("MC dropout", "ensemble")}
    return quality, estimate((surprise["MC dropout"] - surprise["ensemble"]).tolist())


def _true(probabilities: Tensor, y: Tensor) -> Tensor:
    """The probability of the true class, (methods, N); never 0."""
    return probabilities[:, torch.arange(len(y)), y].clamp(min=1e-12)


def _turn(x: Tensor, angle: float) -> Tensor:
    """Images turned counter-clockwise by an angle in degrees, black beyond their edges."""
    return fr.augment.apply_affine(x, angle=-angle)


def _angles(
    model: fr.Model, members: Ensemble, images: Images, settings: Settings, key: Tensor, context: Context
) -> dict[str, Any]:
    """Uncertainty by angle, (angles, members), and how well it tells turned digits from the clean ones."""
    x, y = images.test_x[: settings.turned], images.test_y[: settings.turned]
    rows: list[dict[str, list[float]]] = []
    clean: dict[str, list[Tensor]] = {}
    is_turned = torch.arange(2, device=x.device).repeat_interleave(len(x))
    for index, angle in enumerate(context.track(settings.angles, "angles")):
        turned = _turn(x, float(angle))
        plain = _deterministic(model, members, turned)
        mc = _mc(model, members, turned, settings, fr.random.fold_in(key, index))
        scores = {
            "entropy": [each.entropy for each in mc],
            "mutual_information": [each.mutual_information for each in mc],
            "deterministic": [fr.uncertainty.entropy(p) for p in plain],
            "ensemble": [fr.uncertainty.entropy(p) for p in _together(plain, settings)],
        }
        scores = {name: [score.double() for score in each] for name, each in scores.items()}
        clean = clean or scores
        row = {name: [float(score.mean()) for score in each] for name, each in scores.items()}
        for name, each in scores.items():
            pairs = zip(clean[name], each, strict=True)
            row[f"auroc_{name}"] = [float(fr.uncertainty.auroc(torch.cat(pair), is_turned)) for pair in pairs]
        row["variance"] = [float(each.variance.sum(dim=-1).mean()) for each in mc]
        row["confidence"] = [float(each.mean.max(dim=-1).values.mean()) for each in mc]
        row["accuracy"] = [float((each.mean.argmax(dim=-1) == y).double().mean()) for each in mc]
        rows.append(row)
    return {"degrees": settings.angles, "images": len(x), **{name: [row[name] for row in rows] for name in rows[0]}}


def _strip(model: fr.Model, members: Ensemble, images: Images, settings: Settings, key: Tensor) -> dict[str, Any]:
    """The first test image of some classes at a few angles, as the first member sees it."""
    degrees = settings.angles[:: max(1, len(settings.angles) // 6)]
    firsts = [int((images.test_y == each).nonzero()[0]) for each in settings.strip_classes]
    x = torch.stack([_turn(images.test_x[firsts], float(angle)) for angle in degrees], dim=1)
    predictive = _mc(model, members[:1], x.flatten(0, 1), settings, key)[0]
    shape = (len(firsts), len(degrees))
    return {
        "degrees": degrees,
        "classes": settings.strip_classes,
        "pixels": x.squeeze(2).mul(255).round().to(torch.int64),
        "entropy": predictive.entropy.reshape(shape),
        "predicted": predictive.mean.argmax(dim=-1).reshape(shape),
    }


def _convergence(
    model: fr.Model, members: Ensemble, images: Images, settings: Settings, key: Tensor, context: Context
) -> dict[str, Any]:
    """The estimate after T passes against one from many others: its RMS error, and its entropy."""
    x = _turn(images.test_x[: settings.convergence_images], 45.0)
    last = settings.convergence_samples
    counts = sorted({round(last ** (i / 15)) for i in range(16)})
    errors, entropies = [], []
    for index, (params, state) in enumerate(context.track(members, "convergence")):
        few_key, many_key = fr.random.split(fr.random.fold_in(key, index))

        def probabilities(k: Tensor, params: Any = params, state: Any = state) -> Tensor:
            return torch.softmax(model.apply(params, state, x, key=k)[0], dim=-1)

        samples = vmap(probabilities, chunk_size=settings.chunk)(fr.random.split(few_key, last))
        reference = fr.uncertainty.mc_dropout(
            model, params, state, x, key=many_key, samples=settings.reference_samples, chunk_size=settings.chunk
        ).mean
        means = samples.cumsum(dim=0) / torch.arange(1, last + 1, device=x.device)[:, None, None]
        chosen = means[torch.tensor(counts, device=x.device) - 1]
        errors.append((chosen - reference).square().mean(dim=(1, 2)).sqrt())
        entropies.append(fr.uncertainty.entropy(chosen).mean(dim=1))
    return plain({"samples": counts, "error": torch.stack(errors), "entropy": torch.stack(entropies)})


def _claims(values: dict[str, Any], settings: Settings) -> list[Claim]:
    return [*_angle_claims(values["angles"], settings), *_quality_claims(values, settings), _convergence_claim(values)]


def _angle_claims(angles: dict[str, Any], settings: Settings) -> list[Claim]:
    degrees = angles["degrees"]
    entropy = np.array(angles["entropy"])
    means = entropy.mean(axis=1)
    peak = degrees[int(means.argmax())]
    quarter = [i for i, d in enumerate(degrees) if d <= 90]
    ranks = {name: _rank(degrees, np.array(angles[name]), quarter) for name in ("entropy", "mutual_information")}
    steps = [estimate(step) for step in np.diff(entropy, axis=0)]
    falls = [f"{a}-{b}°" for (a, b), step in zip(pairwise(degrees), steps, strict=True) if step.low <= 0]
    far = [i for i, d in enumerate(degrees) if d >= 30]
    above = [estimate(entropy[i] - entropy[0]) for i in far]
    auroc = {name: np.array(angles[f"auroc_{name}"]) for name in ("entropy", "deterministic")}
    right = estimate(auroc["entropy"][degrees.index(90)])
    information = np.mean(angles["mutual_information"], axis=1)
    return [
        Claim(
            "Predictive entropy rises as the digits turn: at every angle from 30° it is above the upright digits'",
            f"{means[0]:.3f} nats upright, {means[far].min():.3f} to {means[far].max():.3f} turned; smallest "
            f"difference {min(above)}",
            every(each.above() for each in above),
            {"difference": [each._asdict() for each in above], "peak_degrees": peak},
        ),
        Claim(
            "From 0 to 90° the entropy goes with the angle: a rank correlation above 0.5",
            f"rank correlation with the angle {ranks['entropy']}",
            ranks["entropy"].above(0.5),
            {"spearman": ranks["entropy"]._asdict()},
        ),
        Claim(
            "It rises at every step up to 180°",
            f"steps without a certain rise: {', '.join(falls) or 'none'}; peak at {peak}°",
            every(each.above() for each in steps),
            {"steps": [each._asdict() for each in steps]},
        ),
        Claim(
            "So does mutual information, the part of it that is about the weights",
            f"from {information[0]:.3f} to {information.max():.3f} nats; "
            f"rank correlation {ranks['mutual_information']}",
            ranks["mutual_information"].above(0.5),
            ranks["mutual_information"]._asdict(),
        ),
        Claim(
            "Entropy tells digits turned by 90° from upright ones with an AUROC above 0.9",
            f"AUROC {right} on {angles['images']} images of each",
            right.above(0.9),
            right._asdict(),
        ),
        is_larger(
            "MC dropout's entropy tells them better than the deterministic pass's",
            *(auroc["entropy"][far].mean(axis=0), auroc["deterministic"][far].mean(axis=0)),
            "difference of AUROC, mean over the angles from 30°: {difference}",
            under="",
        ),
    ]


def _rank(degrees: Sequence[int], values: np.ndarray, chosen: list[int]) -> Estimate:
    """Each member's rank correlation of the angle and a score (angles, members), over some angles."""
    angles = [degrees[i] for i in chosen]
    correlations: list[Any] = [stats.spearmanr(angles, each) for each in values[chosen].T]
    return estimate(each.statistic for each in correlations)


def _quality_claims(values: dict[str, Any], settings: Settings) -> list[Claim]:
    quality, gain = values["quality"], values["ensemble_gain"]
    claims = []
    for name, label in (("nll", "negative log-likelihood"), ("ece", "calibration error (ECE)")):
        plain, mc = quality["deterministic"][name], quality["MC dropout"][name]
        claims.append(
            is_larger(
                f"MC dropout has a lower {label} than the deterministic pass",
                plain,
                mc,
                f"deterministic {number(float(np.mean(plain)))}, MC dropout {number(float(np.mean(mc)))}; "
                "the first less the second {difference}",
                smallest=0.01,
                under="",
            )
        )
    together, single = (float(np.mean(quality[name]["nll"])) for name in ("ensemble", "MC dropout"))
    claims.append(
        Claim(
            f"A deep ensemble of {settings.members} has a lower negative log-likelihood than MC dropout of one of its "
            "members",
            f"ensemble {number(together)}, MC dropout {number(single)}; "
            f"the second less the first, image by image: {gain}",
            gain.above(),
            gain._asdict(),
        )
    )
    return claims


def _convergence_claim(values: dict[str, Any]) -> Claim:
    convergence = values["convergence"]
    logs = np.log(convergence["samples"])
    slope = estimate(float(np.polyfit(logs, np.log(each), 1)[0]) for each in np.array(convergence["error"]))
    error = np.array(convergence["error"]).mean(axis=0)
    return Claim(
        "The error of the estimate falls as 1 / sqrt(T)",
        f"slope of log error on log T {slope}; RMS error of a probability {error[0]:.3f} at T = 1, {error[-1]:.4f} at "
        f"T = {convergence['samples'][-1]}",
        slope.within(-0.6, -0.4),
        slope._asdict(),
    )


def _tables(values: dict[str, Any], settings: Settings) -> list[Table]:
    quality, angles = values["quality"], values["angles"]
    rows = []
    for method, measured in quality.items():
        each = [estimate(measured[name]) for name in ("accuracy", "nll", "ece")]
        cells = _spread(each[0], 2, 100), _spread(each[1], 4), _spread(each[2], 2, 100)
        rows.append((method, *cells, each[0].n))
    by_angle = []
    for i, degrees in enumerate(angles["degrees"]):
        names = ("accuracy", "entropy", "mutual_information", "variance", "auroc_entropy", "auroc_deterministic")
        names = (*names, "auroc_ensemble")
        by_angle.append((degrees, *(_spread(estimate(angles[name][i]), 3) for name in names)))
    columns = ("angle (°)", "accuracy", "entropy (nats)", "mutual information (nats)", "variance of the softmax")
    auroc = ("AUROC, MC entropy", "AUROC, deterministic", "AUROC, ensemble")
    return [
        Table(
            f"Clean test set: mean ± sd over members or over ensembles of {settings.members}; T = {settings.samples}",
            ("method", "accuracy (%)", "NLL (nats)", "ECE (%)", "n"),
            rows,
        ),
        Table(
            f"By angle: {angles['images']} images, mean ± sd over {settings.seeds} members",
            (*columns, *auroc),
            by_angle,
        ),
    ]


def _spread(each: Estimate, digits: int, scale: float = 1.0) -> str:
    """Mean ± sd times a scale, so many digits behind the point; the mean alone where it is of one."""
    return f"{scale * each.mean:.{digits}f}" + (f" ± {scale * each.sd:.{digits}f}" if each.n > 1 else "")


def figures(result: Result) -> dict[str, Figure]:
    """The strip, uncertainty and detection by angle, quality on clean digits, and convergence."""
    values = result.values
    return {
        "strip": _draw_strip(values["strip"]),
        "angles": _draw_angles(values["angles"], values["seeds"], values["ensembles_of"]),
        "quality": _draw_quality(values["quality"], values["ensembles_of"]),
        "convergence": _draw_convergence(values["convergence"], values["seeds"]),
    }


def _draw_strip(strip: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        len(strip["classes"]),
        len(strip["degrees"]),
        height=1.4 * len(strip["classes"]) + 0.2,
        caption="One member's MC dropout on turned digits (the first test image of each class). Under each image: the "
        "class it predicts and its predictive entropy H in nats; the frame goes from pale to dark as H grows.",
    )
    top = max(max(row) for row in strip["entropy"])
    for row in range(len(strip["classes"])):
        for column, degrees in enumerate(strip["degrees"]):
            axis, entropy = axes[row, column], strip["entropy"][row][column]
            plots.picture(axis, strip["pixels"][row][column], f"{degrees}°" if row == 0 else "", cmap="gray")
            axis.set_xlabel(f"“{strip['predicted'][row][column]}”  H {entropy:.2f}", fontsize=9)
            shade = 0.9 - 0.75 * entropy / top
            for spine in axis.spines.values():
                spine.set(visible=True, linewidth=4, color=(shade, shade, 0.95))
    return figure


def _draw_angles(angles: dict[str, Any], seeds: int, together: int) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        height=4.4,
        caption=f"Left: uncertainty of digits turned by an angle. Right: how well a score tells them from the same "
        f"digits upright (0.5 is chance). {angles['images']} images; mean over {seeds} members, band: one sd; "
        f"{len(angles['ensemble'][0])} ensembles of {together}.",
    )
    left, right = axes[0]
    for i, (name, label) in enumerate(
        (
            ("entropy", "MC: entropy"),
            ("mutual_information", "MC: mutual information"),
            ("deterministic", "deterministic: entropy"),
            ("ensemble", "ensemble: entropy"),
        )
    ):
        plots.band(left, angles["degrees"], np.array(angles[name]).T, label, i)
        plots.band(right, angles["degrees"], np.array(angles[f"auroc_{name}"]).T, label, i)
    for axis in (left, right):
        axis.xaxis.set_major_locator(MultipleLocator(30))
        axis.set_xlabel("angle (degrees)")
    left.set(ylabel="mean uncertainty (nats)", title="Uncertainty", ylim=(0, None))
    right.axhline(0.5, color="#777777", linewidth=1)
    right.set(ylabel="AUROC", title="Detection", ylim=(min(0.45, right.get_ylim()[0]), 1.02))
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw_quality(quality: dict[str, Any], together: int) -> Figure:
    seeds, ensembles = (len(quality[name]["nll"]) for name in ("deterministic", "ensemble"))
    figure, axes = plots.canvas(
        1,
        3,
        height=3.0,
        sharey=True,
        caption=f"The clean test set. A dot a member (n = {seeds}), or an ensemble of {together} (n = {ensembles}); "
        "the diamond is the mean with its 95% interval. Further left is better for NLL and ECE.",
    )
    labels = {"accuracy": ("accuracy (%)", 100), "nll": ("NLL (nats)", 1), "ece": ("ECE (%)", 100)}
    names = {"ensemble of MC dropout": "ensemble of MC"}
    for axis, (name, (label, scale)) in zip(axes[0], labels.items(), strict=True):
        each = [[scale * value for value in measured[name]] for measured in quality.values()]
        plots.strip(axis, [names.get(method, method) for method in quality], each)
        axis.set_xlabel(label)
        axis.margins(x=0.25)
        axis.locator_params(axis="x", nbins=3)
    return figure


def _draw_convergence(convergence: dict[str, Any], seeds: int) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        caption=f"How many passes are enough, on digits turned by 45° (mean over {seeds} members, band: one sd). "
        "Left: the RMS error of a probability against the mean of many other passes, whose own error shows at the end. "
        "Right: few passes underestimate the entropy.",
    )
    left, right = axes[0]
    counts, error = convergence["samples"], np.array(convergence["error"])
    plots.band(left, counts, error, "measured", 0, marker="o", markersize=4)
    line = error.mean(axis=0)[0] / np.sqrt(counts)
    left.plot(counts, line, color=plots.BLACK, linewidth=1, linestyle="--", label="1 / sqrt(T)")
    plots.band(right, counts, convergence["entropy"], "entropy", 1, marker="o", markersize=4)
    left.set(xscale="log", yscale="log", xlabel="passes T", ylabel="RMS error of a probability", title="Error")
    right.set(xscale="log", xlabel="passes T", ylabel="predictive entropy (nats)", title="Entropy")
    for axis in (left.xaxis, left.yaxis, right.xaxis):
        plots.counting(axis)
    left.legend()
    return figure
