"""Can a network fit labels that were shuffled, does it then generalise, and what keeps it from memorising?

Part: D
Command: python -m experiments run random-labels --data-root DATA
Runtime: smoke 2 s, quick 29 s (2 CPU cores); full is for a GPU
Answer: on 500 MNIST digits (n = 40 seeds, --members 40) an MLP fits all three kinds of labels, to 100%, 99.9% and
    99.6%; the test accuracies are 84.9% with true ones, 77.3% with 10% shuffled, 10.0% with all. Fitting 90% of
    shuffled labels takes 30 epochs, of true ones 8.4. L2 (38), AdamW's decay (33), mixup (48), dropout (59), L1 and
    input noise (over 60) slow it; label smoothing does not (29). With 10% shuffled, input noise gives back 8.1 points
    of test accuracy, dropout 5.0, mixup 1.4, label smoothing 1.3, decay 0.7 (95% 0.3 to 1.0); L2 0.0 (-0.6 to 0.6) and
    L1 -0.2 (-0.7 to 0.4), less than the point that would be of interest: slowing alone is not what helps.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import vmap

import funcreg as fr

from ..data import Images, mnist
from ..harness.context import Context
from ..parts.arms import Arms, own
from ..parts.networks import mlp
from ..report import charts, estimates, plots
from ..report.claims import is_larger
from ..report.decisions import every
from ..report.estimates import estimate, number
from ..report.result import Claim, Result, Table, plain

_NONE = {"rate": 0.0, "l1": 0.0, "l2": 0.0, "decay": 0.0, "smoothing": 0.0, "noise": 0.0, "alpha": 0.0}
_PLAIN = "no regularizer"


@dataclass(frozen=True)
class Settings:
    """An MLP on `train` images of each seed's own; every regularizer alone, at one usual strength, not tuned."""

    seeds: int = 5
    train: int = 500
    test: int = 500
    pool: int = 2
    hidden: int = 128
    epochs: int = 60
    batch_size: int = 100
    learning_rate: float = 3e-3
    shares: tuple[float, ...] = (0.0, 0.1, 1.0)
    regularizers: tuple[tuple[str, str, float], ...] = (
        ("dropout 0.5", "rate", 0.5),
        ("L2 1e-3", "l2", 1e-3),
        ("L1 3e-4", "l1", 3e-4),
        ("AdamW decay 0.5", "decay", 0.5),
        ("label smoothing 0.1", "smoothing", 0.1),
        ("input noise 0.3", "noise", 0.3),
        ("mixup 0.4", "alpha", 0.4),
    )
    fitted: float = 0.9
    jit: bool = False


PRESETS = {
    "smoke": Settings(seeds=2, train=100, test=200, hidden=64, epochs=6, batch_size=50, learning_rate=1e-2),
    "quick": Settings(),
    "full": Settings(seeds=10, train=1_000, test=10_000, pool=1, hidden=512, epochs=300, jit=True),
}


def main(settings: Settings, context: Context) -> Result:
    """Train every kind of labels, and every regularizer on shuffled ones, as the members of one fit."""
    data_key, start_key, fit_key = context.keys(3)
    images = _smaller(mnist(context.data), settings.pool)
    data = _labels(images, settings, data_key, context.device)
    test = fr.train.Batch(images.test_x[: settings.test], images.test_y[: settings.test])
    test = fr.tree.to(test, context.device)
    arms = _arms(settings)
    hparams = arms.hparams(context.device)
    model = fr.from_module(lambda: mlp(data.x[0, 0].numel(), settings.hidden, settings.hidden, 10, rates=0.5))

    def loss_fn(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        noise_key, mix_key, drop_key = fr.random.split(key, 3)
        x, y = _given(batch, hparams)
        x = fr.noise.gaussian_noise(x, hparams["noise"], key=noise_key)
        x, targets = fr.augment.mixup(x, fr.labels.one_hot(y, 10), hparams["alpha"], key=mix_key)
        logits, state = model.apply(params, state, x, key=drop_key, train=True, rates=hparams["rate"])
        return fr.losses.cross_entropy(logits, targets, smoothing=hparams["smoothing"]), (state, {})

    def optimizer(hparams: Any) -> fr.transforms.Transform:
        return fr.optim.adamw(settings.learning_rate, weight_decay=hparams["decay"], mask=fr.tree.is_weight)

    penalties = {
        "l1": lambda params, hparams: fr.penalties.l1(params, hparams["l1"], mask=fr.tree.is_weight),
        "l2": lambda params, hparams: fr.penalties.l2(params, hparams["l2"], mask=fr.tree.is_weight),
    }

    def measure(params: Any, state: Any, hparams: Any) -> dict[str, Tensor]:
        x, y = _given(data, hparams)
        seen, unseen = (model.apply(params, state, each)[0] for each in (x, test.x))
        return {"fitted": fr.losses.accuracy(seen, y), "test_accuracy": fr.losses.accuracy(unseen, test.y)}

    result = context.fit(
        fr.train.make_step(loss_fn, optimizer, penalties=penalties),
        arms.start(model, optimizer, key=start_key, device=context.device),
        data,
        key=fit_key,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        hparams=hparams,
        members=arms.members,
        jit=settings.jit,
        evaluate=lambda params, state: vmap(measure)(params, state, hparams),
    )
    values = plain(_values(result, arms, settings))
    source = (
        f"{images.source}, reduced to {images.x.shape[-1]}x{images.x.shape[-1]}; {settings.train:,} of them for each "
        f"seed to train, {len(test.x):,} to test"
    )
    return Result(values, _claims(values, settings), _tables(values, settings), [source])


def _smaller(images: Images, pool: int) -> Images:
    """Images reduced by averaging squares of pool x pool pixels."""
    return images._replace(x=F.avg_pool2d(images.x, pool), test_x=F.avg_pool2d(images.test_x, pool))


def _labels(images: Images, settings: Settings, key: Tensor, device: torch.device) -> fr.train.Batch:
    """Each seed's own images (samples, seeds, 1, H, W), and their labels by share shuffled (samples, seeds, shares)."""
    xs, ys = [], []
    for seed_key in fr.random.split(key.cpu(), settings.seeds):
        image_key, order_key, shuffle_key = fr.random.split(seed_key, 3)
        chosen = fr.random.permutation(image_key, len(images.x))[: settings.train]
        y, labels = images.y[chosen], []
        order = fr.random.permutation(order_key, len(y))
        for index, share in enumerate(settings.shares):
            moved = order[: round(share * len(y))]
            shuffled = y.clone()
            if len(moved):
                shuffled[moved] = y[moved[fr.random.permutation(fr.random.fold_in(shuffle_key, index), len(moved))]]
            labels.append(shuffled)
        xs.append(images.x[chosen])
        ys.append(torch.stack(labels, dim=1))
    return fr.tree.to(fr.train.Batch(torch.stack(xs, dim=1), torch.stack(ys, dim=1)), device)


def _given(everyone: fr.train.Batch, hparams: Any) -> tuple[Tensor, Tensor]:
    """A member's own images, and its kind of labels for them, inside `vmap`."""
    x, y = own(everyone, hparams["seed"])
    return x, y.index_select(1, hparams["labels"].long().reshape(1)).squeeze(1)


def _arms(settings: Settings) -> Arms:
    """Every kind of labels without a regularizer; then each regularizer on those that are shuffled."""
    arms = {}
    for index, share in enumerate(settings.shares):
        arms[_arm(share, _PLAIN)] = {**_NONE, "labels": float(index)}
        if share > 0:
            for name, which, strength in settings.regularizers:
                arms[_arm(share, name)] = {**_NONE, which: strength, "labels": float(index)}
    return Arms(arms, settings.seeds)


def _kind(share: float) -> str:
    return {0.0: "true labels", 1.0: "all shuffled"}.get(share, f"{100 * share:g}% shuffled")


def _arm(share: float, regularizer: str) -> str:
    return f"{_kind(share)}, {regularizer}"


def _values(result: fr.train.FitResult, arms: Arms, settings: Settings) -> dict[str, Any]:
    """Of each arm: the curves, and each seed's ends and epochs until fitted (one more than there were: never)."""
    fitted, test = (arms.curves(result.history[name]) for name in ("fitted", "test_accuracy"))
    reached = (fitted >= settings.fitted).cummax(dim=-1).values
    epochs = settings.epochs + 1 - reached.sum(dim=-1)
    each = {
        name: {
            "fitted": fitted[i, :, -1],
            "best_fitted": fitted[i].amax(dim=-1),
            "test": test[i, :, -1],
            "epochs": epochs[i],
            "half_way": fitted[i, :, settings.epochs // 2 - 1],
            "fitted_curve": estimates.curve(100 * fitted[i]),
            "test_curve": estimates.curve(100 * test[i]),
        }
        for i, name in enumerate(arms.names)
    }
    return {"arms": each, "seeds": settings.seeds, "epochs": settings.epochs, "threshold": settings.fitted}


def _column(values: dict[str, Any], share: float, regularizer: str, name: str) -> np.ndarray:
    return np.array(values["arms"][_arm(share, regularizer)][name], dtype=float)


def _claims(values: dict[str, Any], settings: Settings) -> list[Claim]:
    fits = {share: estimate(100 * _column(values, share, _PLAIN, "best_fitted")) for share in settings.shares}
    tests = {share: estimate(100 * _column(values, share, _PLAIN, "test")) for share in settings.shares}
    shared = {
        "fitted": {_kind(s): e._asdict() for s, e in fits.items()},
        "test": {_kind(s): e._asdict() for s, e in tests.items()},
    }
    chance = estimate(100 * (_column(values, 1.0, _PLAIN, "test") - 0.1))
    means = " / ".join(f"{number(e.mean)}%" for e in fits.values())
    goes = " / ".join(f"{number(e.mean)}%" for e in tests.values())
    return [
        Claim(
            "True labels, 10% shuffled, all shuffled: an MLP fits every one (training accuracy at least 99%)",
            f"training accuracy {means}; test accuracy {goes} (n = {values['seeds']} seeds)",
            every(each.above(99) for each in fits.values()),
            shared,
        ),
        Claim(
            "Labels all shuffled teach nothing: the test accuracy cannot be told from chance, 10%",
            f"test accuracy less 10%, in points: {chance}",
            chance.low <= 0 <= chance.high,
            {"above_chance": chance._asdict()},
        ),
        is_larger(
            "Only true labels generalise: 10% shuffled ones already cost test accuracy",
            100 * _column(values, 0.0, _PLAIN, "test"),
            100 * _column(values, 0.1, _PLAIN, "test"),
            f"{number(tests[0.0].mean)}% to {number(tests[0.1].mean)}%; paired loss in points {{difference}}",
        ),
        is_larger(
            f"Shuffled labels take longer to fit: more epochs until {100 * settings.fitted:g}% training accuracy",
            _column(values, 1.0, _PLAIN, "epochs"),
            _column(values, 0.0, _PLAIN, "epochs"),
            f"{number(_column(values, 0.0, _PLAIN, 'epochs').mean())} epochs for true labels, "
            f"{number(_column(values, 1.0, _PLAIN, 'epochs').mean())} for shuffled ones; "
            "paired difference {difference}",
        ),
        *(_slows(values, name, settings) for name, _, _ in settings.regularizers),
        *(_helps(values, name) for name, _, _ in settings.regularizers),
    ]


def _slows(values: dict[str, Any], name: str, settings: Settings) -> Claim:
    """Whether a regularizer takes more epochs than none until labels that are all shuffled are fitted."""
    epochs = _column(values, 1.0, name, "epochs")
    half = estimate(100 * (_column(values, 1.0, name, "half_way") - _column(values, 1.0, _PLAIN, "half_way")))
    never = int((epochs > settings.epochs).sum())
    least = f" (at least: {never} of {len(epochs)} never did)" if never else ""
    return is_larger(
        f"All shuffled: {name} slows memorisation (epochs until {100 * settings.fitted:g}% training accuracy)",
        epochs,
        _column(values, 1.0, _PLAIN, "epochs"),
        f"{number(epochs.mean())} epochs; paired difference{least} {{difference}}; "
        f"half-way training accuracy differs by {number(half.mean)} points",
        half_way=half._asdict(),
        never=never,
    )


def _helps(values: dict[str, Any], name: str) -> Claim:
    """Whether it gives a higher test accuracy than none where a tenth of the labels is shuffled."""
    test, plain = (100 * _column(values, 0.1, each, "test") for each in (name, _PLAIN))
    measured = f"{number(test.mean())}% on true labels; paired difference in points {{difference}}"
    return is_larger(f"10% shuffled: {name} raises test accuracy", test, plain, measured, smallest=1.0)


def _tables(values: dict[str, Any], settings: Settings) -> list[Table]:
    rows = []
    for name, arm in values["arms"].items():
        each = [estimate(100 * np.array(arm[column], dtype=float)) for column in ("half_way", "fitted", "test")]
        epochs = np.array(arm["epochs"])
        shown = estimate(epochs).spread
        never = (epochs > settings.epochs).all()
        rows.append(
            (
                name,
                f"over {settings.epochs}" if never else shown,
                *(e.spread for e in each),
                values["seeds"],
            )
        )
    columns = (
        "arm",
        f"epochs until {100 * settings.fitted:g}% fitted",
        f"fitted at epoch {settings.epochs // 2} (%)",
        f"fitted at epoch {settings.epochs} (%)",
        "test accuracy (%)",
        "n",
    )
    return [Table("What is fitted, how soon, and what it is worth on true test labels: mean ± sd", columns, rows)]


def figures(result: Result) -> dict[str, Figure]:
    """Three kinds of labels; then the regularizers on labels that are all shuffled, and on a tenth."""
    return {
        "labels": _draw_labels(result.values),
        "memorisation": _draw_memorisation(result.values),
        "epochs": _draw_epochs(result.values),
    }


def _draw_labels(values: dict[str, Any]) -> Figure:
    def finish(axis: Axes) -> None:
        axis.axhline(10, color="#999999", linewidth=1, linestyle=":")
        axis.set(ylim=(0, 102))

    plain = {name.split(",")[0]: arm for name, arm in values["arms"].items() if name.endswith(_PLAIN)}
    fitted, test = ({name: arm[f"{curve}_curve"] for name, arm in plain.items()} for curve in ("fitted", "test"))
    return charts.curves(
        charts.Panel(fitted, "given labels, training", ylabel="accuracy (%)"),
        charts.Panel(test, "true labels, test"),
        legend=0,
        sharey=True,
        finish=finish,
        caption="Without a regularizer. Left: the share of the given labels that the network reproduces: each kind can "
        "be fitted, shuffled ones take longer. Right: accuracy on unseen images with true labels: only true labels "
        f"generalise (mean over {values['seeds']} seeds, band: one sd; dotted: chance).",
    )


def _regularized(values: dict[str, Any], share: float) -> dict[str, dict[str, Any]]:
    """The arms of one kind of labels by regularizer."""
    start = f"{_kind(share)}, "
    return {name.removeprefix(start): arm for name, arm in values["arms"].items() if name.startswith(start)}


def _draw_memorisation(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        height=4.6,
        caption="Left: labels all shuffled, the share reproduced without noise: what slows memorisation lies below "
        "the black line. Right: 10% shuffled, accuracy on unseen images with true labels (mean over "
        f"{values['seeds']} seeds).",
    )
    epochs = range(1, values["epochs"] + 1)
    panels = ((1.0, "fitted_curve", "all shuffled: fitted"), (0.1, "test_curve", "10% shuffled: test"))
    for axis, (share, curve, title) in zip(axes[0], panels, strict=True):
        for i, (name, arm) in enumerate(_regularized(values, share).items()):
            look = {"color": "#222222", "linewidth": 3} if name == _PLAIN else {"color": _colour(i)}
            axis.plot(epochs, arm[curve]["mean"], linestyle=plots.LINES[i % 6], label=name, **look)
        axis.set(xlabel="epoch", ylabel="accuracy (%)")
        axis.set_title(title)
    later = [arm["test_curve"]["mean"][values["epochs"] // 8 :] for arm in _regularized(values, 0.1).values()]
    axes[0, 1].set_ylim(bottom=min(map(min, later)) - 3)  # the first epochs are steep and all alike
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _colour(index: int) -> str:
    return (*plots.PALETTE[:6], "#7f7f7f")[(index - 1) % 7]


def _draw_epochs(values: dict[str, Any]) -> Figure:
    arms = _regularized(values, 1.0)
    figure, axes = plots.canvas(
        height=4.6,
        caption=f"Labels all shuffled: epochs until {100 * values['threshold']:g}% of them are reproduced. A dot a "
        f"seed (n = {values['seeds']}), the diamond is the mean with its 95% interval; dots at the dotted line were "
        f"not there after {values['epochs']} epochs.",
    )
    axis = axes[0, 0]
    colors = ["#222222", *(_colour(i) for i in range(1, len(arms)))]
    plots.strip(axis, list(arms), [arm["epochs"] for arm in arms.values()], colors=colors)
    axis.axvline(values["epochs"] + 1, color="#999999", linewidth=1, linestyle=":")
    axis.set_xlabel(f"epochs until {100 * values['threshold']:g}% fitted")
    return figure
