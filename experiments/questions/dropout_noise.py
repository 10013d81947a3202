"""Does dropout help a network whose features are noisy, and the more, the noisier they are?

Part: C
Command: python -m experiments run dropout-noise
Runtime: smoke 1 s, quick 13 s, full 130 s (2 CPU cores)
Answer: yes. Dropout 0.5 adds 2.72 points of test accuracy at noise 0.5 (95% 2.55 to 2.89; 69.44% to 72.16%, where
    74.80% is the best possible), 0.84 at 0.25 (0.72 to 0.96), and takes 2.53 from clean features (2.40 to 2.67), n =
    512 seeds, --preset full. It narrows the gap between training and test accuracy by 10.23 and 5.14 points and lowers
    the test loss at both noises; on clean features it widens the gap, by 0.37 points (0.25 to 0.48), and raises the
    loss, by 0.027 nats (0.020 to 0.033).
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import vmap

import funcreg as fr

from ..data import quadrants
from ..harness.context import Context
from ..parts.arms import Arms, own
from ..parts.networks import mlp
from ..parts.toy_tasks import slopes
from ..report import plots
from ..report.claims import is_larger
from ..report.decisions import every
from ..report.estimates import curve, estimate
from ..report.result import Claim, Result, Table


@dataclass(frozen=True)
class Settings:
    """Every noise x every rate, the first of each being none, on the same `seeds`; full batch."""

    seeds: int = 64
    samples: int = 200
    test: int = 1000
    noises: tuple[float, ...] = (0.0, 0.25, 0.5)
    rate: float = 0.5
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 0.05
    epochs: int = 100
    grid: int = 33
    jit: bool = False


PRESETS = {
    "smoke": Settings(seeds=3, test=200, epochs=8, grid=9),
    "quick": Settings(),
    "full": Settings(seeds=512, test=4_000, jit=True),
}
_RANGE = 3.0  # of the boundaries' pictures
_CHUNK = 384  # members that are tested at a time: memory


def main(settings: Settings, context: Context) -> Result:
    """Train noises x rates x seeds as the members of one fit; test each on fresh points as noisy as its own."""
    data_key, test_key, start_key, fit_key = context.keys(4)
    noises, rates = settings.noises, (0.0, settings.rate)
    arms = Arms(
        {f"{noise:g}, {rate:g}": {"noise": noise, "rate": rate} for noise, rate in itertools.product(noises, rates)},
        settings.seeds,
    )
    train = _tables(data_key, settings.samples, settings.seeds)
    test = _tables(test_key, settings.test, settings.seeds)
    few = fr.tree.map(lambda leaf: leaf[: settings.samples], test)
    model = fr.from_module(lambda: mlp(2, *settings.hidden, 1, rates=settings.rate))
    hparams = arms.hparams(context.device)

    def loss_fn(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        x, y = _own(batch, hparams)
        logits, state = model.apply(params, state, x, key=key, train=True, rates=hparams["rate"])
        return fr.losses.binary_cross_entropy(logits.squeeze(1), y), (state, {})

    def measure(params: Any, hparams: Any, batch: fr.train.Batch) -> tuple[Tensor, Tensor]:
        x, y = _own(batch, hparams)
        logits = model.apply(params, {}, x)[0].squeeze(1)
        return fr.losses.binary_cross_entropy(logits, y), ((logits > 0) == (y > 0)).float().mean()

    def scores(params: Any, batch: fr.train.Batch, prefix: str) -> dict[str, Tensor]:
        loss, accuracy = vmap(measure, in_dims=(0, 0, None), chunk_size=_CHUNK)(params, hparams, batch)
        return {f"{prefix}_loss": loss, f"{prefix}_accuracy": accuracy}

    optimizer = fr.optim.adam(settings.learning_rate)
    result = context.fit(
        fr.train.make_step(loss_fn, optimizer),
        arms.start(model, optimizer, key=start_key, device=context.device),
        train,
        key=fit_key,
        epochs=settings.epochs,
        hparams=hparams,
        members=arms.members,
        jit=settings.jit,
        evaluate=lambda params, state: {**scores(params, train, "train"), **scores(params, few, "test")},
    )
    params = result.train_state.params
    shape = (len(noises), len(rates), settings.seeds)
    ends = {**scores(params, train, "train"), **scores(params, test, "test")}
    values = {
        "noises": noises,
        "rates": rates,
        "seeds": settings.seeds,
        "curves": {
            name: [curve(seeds) for seeds in arms.curves(result.history[name])] for name in ("train_loss", "test_loss")
        },
        "ends": {name: each.float().reshape(shape) for name, each in ends.items()},
        "best": _best(test, noises),
        "boundaries": _boundaries(model, arms, params, train, settings),
    }
    source = (
        f"generated: {settings.samples} points of N(0, I_2) with class [x0 x1 > 0] and then noise added to x, "
        f"{settings.test:,} fresh ones to test with noise of the same size; drawn anew for each seed"
    )
    return Result(values, _claims(values), [_table(values)], [source])


def _tables(key: Tensor, samples: int, seeds: int) -> fr.train.Batch:
    """Every seed's points, leaves (samples, seeds, ...): x is (clean, noise)."""
    x, noise, y = vmap(lambda k: quadrants(k, samples))(fr.random.split(key, seeds))
    return fr.train.Batch((x.movedim(0, 1), noise.movedim(0, 1)), y.movedim(0, 1).float())


def _own(batch: fr.train.Batch, hparams: Any) -> tuple[Tensor, Tensor]:
    """A member's own points, with its noise."""
    (x, noise), y = own(batch, hparams["seed"])
    return x + (hparams["noise"] * noise).to(x.dtype), y


def _best(test: fr.train.Batch, noises: tuple[float, ...]) -> list[float]:
    """How often the sign of the noisy product is right, by noise: no classifier does better but by chance."""
    x, noise = test.x
    return [float((((x + s * noise).prod(dim=-1) > 0) == (test.y > 0)).double().mean()) for s in noises]


def _boundaries(model: fr.Model, arms: Arms, params: Any, train: fr.train.Batch, settings: Settings) -> dict[str, Any]:
    """The first seed: the probability on a grid, in %, rows from below, by arm; and its training points."""
    line = torch.linspace(-_RANGE, _RANGE, settings.grid, device=train.y.device)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).flatten(0, 1)
    first = fr.tree.map(lambda leaf: arms.by_arm(leaf)[:, 0], params)
    probabilities = vmap(lambda p: torch.sigmoid(model.apply(p, {}, grid)[0]))(first)
    x, noise = (leaf[:, 0] for leaf in train.x)
    each = [100 * (x + s * noise) for s in settings.noises]
    return {
        "percent": probabilities.mul(100).round().to(torch.int64).reshape(-1, settings.grid, settings.grid),
        "hundredths": [points.round().to(torch.int64) for points in each],
        "classes": train.y[:, 0].to(torch.int64),
    }


def _claims(values: dict[str, Any]) -> list[Claim]:
    noises, rate = values["noises"], values["rates"][1]
    ends = {name: each.double() for name, each in values["ends"].items()}
    accuracy, loss = 100 * ends["test_accuracy"], ends["test_loss"]
    gap = 100 * ends["train_accuracy"] - accuracy
    saved, narrowed = ([estimate((none - some).tolist()) for none, some in each] for each in (loss, gap))
    grows = estimate(slopes(torch.tensor(noises), accuracy[:, 1] - accuracy[:, 0]).tolist())
    return [
        *(
            is_larger(
                f"With {_features(noises[i])} dropout {rate:g} gives a higher test accuracy than none",
                accuracy[i, 1],
                accuracy[i, 0],
                "{smaller:.2f}% to {larger:.2f}%; paired difference {difference.signed}",
            )
            for i in reversed(range(len(noises)))
        ),
        Claim(
            "Dropout helps more, the noisier the features",
            f"slope of its gain in points for noise of 1: {grows.signed}",
            grows.above(),
            {"slope": grows._asdict()},
        ),
        Claim(
            "It narrows the gap between training and test accuracy at every noise",
            "; ".join(f"{noise:g}: by {each.signed}" for noise, each in zip(noises, narrowed, strict=True)),
            every(each.above(smallest=0.5) for each in narrowed),
            {"difference": [each._asdict() for each in narrowed]},
        ),
        Claim(
            "It lowers the test loss at every noise",
            "; ".join(f"{noise:g}: by {each}" for noise, each in zip(noises, saved, strict=True)),
            every(each.above(smallest=0.02) for each in saved),
            {"difference": [each._asdict() for each in saved]},
        ),
        is_larger(
            f"Noise of {noises[-1]:g} costs test accuracy, without dropout",
            accuracy[0, 0],
            accuracy[-1, 0],
            "{larger:.2f}% clean, {smaller:.2f}% noisy; difference {difference.signed}; the "
            f"best that is possible: {100 * values['best'][-1]:.2f}%",
        ),
    ]


def _features(noise: float) -> str:
    return f"noise of {noise:g} on the features" if noise else "clean features"


def _table(values: dict[str, Any]) -> Table:
    ends, rows = values["ends"], []
    for (i, noise), (j, rate) in itertools.product(enumerate(values["noises"]), enumerate(values["rates"])):
        percent = [estimate((100 * ends[f"{name}_accuracy"][i, j]).tolist()) for name in ("train", "test")]
        losses = [estimate(ends[f"{name}_loss"][i, j].tolist()) for name in ("train", "test")]
        cells = [*(e.fixed(2) for e in percent), *(e.fixed(3) for e in losses)]
        rows.append((noise, rate, *cells, f"{100 * values['best'][i]:.2f}", values["seeds"]))
    columns = ("noise (sd)", "dropout", "training accuracy (%)", "test accuracy (%)", "training loss", "test loss")
    title = "After the last epoch, without dropout's noise: mean ± sd over seeds"
    return Table(title, (*columns, "best possible accuracy (%)", "n"), rows)


def figures(result: Result) -> dict[str, Figure]:
    """Boundaries of the first seed, losses by epoch, test accuracy."""
    values = result.values
    return {
        "boundaries": _draw_boundaries(values),
        "losses": _draw_losses(values),
        "accuracy": _draw_accuracy(values),
    }


def _draw_boundaries(values: dict[str, Any]) -> Figure:
    noises, rates, drawn = values["noises"], values["rates"], values["boundaries"]
    figure, axes = plots.canvas(
        *(len(rates), len(noises)),
        height=5.3,
        sharex=True,
        sharey=True,
        caption="The first seed's networks on its training points (dots and crosses are the classes): the colour is "
        "the probability, the line where it is 1/2. The truth is the axes' cross. Noise carries points over it; "
        "without dropout the line bends around single ones.",
    )
    line = np.linspace(-_RANGE, _RANGE, len(drawn["percent"][0]))
    classes = np.array(drawn["classes"])
    shown: Any = None
    for (i, noise), (j, rate) in itertools.product(enumerate(noises), enumerate(rates)):
        axis, probability = axes[j, i], np.array(drawn["percent"][i * len(rates) + j]) / 100
        shown = axis.contourf(line, line, probability, levels=np.linspace(0, 1, 11), cmap=plots.DIVERGING, alpha=0.7)
        if probability.min() < 0.5 < probability.max():
            axis.contour(line, line, probability, levels=[0.5], colors=plots.BLACK, linewidths=1.5)
        x = np.array(drawn["hundredths"][i]) / 100
        for label, marker, color in ((0, "x", plots.BLUE), (1, "o", plots.VERMILLION)):
            axis.plot(*x[classes == label].T, marker, color=color, markersize=3.5, markeredgewidth=0.9)
        axis.set(xlim=(-_RANGE, _RANGE), ylim=(-_RANGE, _RANGE), aspect="equal")
        axis.grid(False)
        axis.set_title(f"noise {noise:g}, dropout {rate:g}", fontsize=11)
        if j == len(rates) - 1:
            axis.set_xlabel("$x_0$")
        if i == 0:
            axis.set_ylabel("$x_1$")
    figure.colorbar(shown, ax=axes, label="probability", shrink=0.7, aspect=30, ticks=[0, 0.5, 1])
    return figure


def _draw_losses(values: dict[str, Any]) -> Figure:
    noises, rates, curves = values["noises"], values["rates"], values["curves"]
    figure, axes = plots.canvas(
        1,
        len(noises),
        height=3.8,
        sharey=True,
        caption=f"Loss by epoch, measured with dropout off (mean over {values['seeds']} seeds, band: one sd). The "
        "noisier the features, the further the test loss of the networks without dropout turns upwards.",
    )
    for i, (j, rate), (k, name) in itertools.product(
        range(len(noises)), enumerate(rates), enumerate(("train_loss", "test_loss"))
    ):
        each, label = curves[name][i * len(rates) + j], f"{('training', 'test')[k]}, dropout {rate:g}"
        style: Any = {"color": plots.PALETTE[j], "linestyle": plots.LINES[k]}
        plots.band(axes[0, i], range(1, len(each["mean"]) + 1), each, label, **style)
    for axis, noise in zip(axes[0], noises, strict=True):
        axis.set(xlabel="epoch", ylim=(0, 1.5))
        axis.set_title(f"noise {noise:g}", fontsize=11)
    axes[0, 0].set_ylabel("loss (nats)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw_accuracy(values: dict[str, Any]) -> Figure:
    noises, rates = values["noises"], values["rates"]
    figure, axes = plots.canvas(
        len(noises),
        1,
        height=1.35 * len(noises) + 0.9,
        sharex=True,
        caption=f"Accuracy on fresh points with noise of the same size. A dot a seed (n = {values['seeds']}), the "
        "diamond is the mean with its 95% interval; the dashed line is the best possible.",
    )
    ends = values["ends"]["test_accuracy"]
    for axis, noise, each, best in zip(axes[:, 0], noises, ends, values["best"], strict=True):
        plots.strip(axis, [f"dropout {rate:g}" for rate in rates], [[100 * value for value in arm] for arm in each])
        axis.axvline(100 * best, color=plots.BLACK, linewidth=1, linestyle="--")
        axis.set_title(_features(noise).capitalize())
    axes[-1, 0].set_xlabel("test accuracy (%)")
    return figure
