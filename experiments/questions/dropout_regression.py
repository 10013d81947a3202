"""Ten noisy points of a line and thousands of weights: does dropout keep the network from fitting the noise?

Part: D
Command: python -m experiments run dropout-regression
Runtime: smoke 1 s, quick 33 s of one core, full 15 min (2 CPU cores)
Answer: much of it (1-100-200-1, n = 16 seeds, 1,000 epochs). Without dropout the training loss ends at 1.71, the test
    loss, which had been 0.53, at 3.33; with dropout at 2.65 and 1.10 (test difference 2.23, 95% 0.46 to 4.00). So
    dropout overfits as well (0.43 to 1.10), but later. The norm of all weights grows by 1.4 instead of 5.0.
"""

from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import vmap

import funcreg as fr

from ..harness.context import Context
from ..parts.arms import Arms, own
from ..parts.networks import mlp
from ..report import charts, plots
from ..report.claims import compare_means
from ..report.estimates import estimate
from ..report.result import Claim, Result, Table, short


@dataclass(frozen=True)
class Settings:
    """y = 2x + noise at `points` places x ~ U(0, 1); an MLP 1-`widths`-1, Adam, full batch; a frame `every` epochs."""

    seeds: int = 16
    points: int = 10
    noise: float = 2.0
    widths: tuple[int, ...] = (100, 200)
    rates: tuple[float, ...] = (0.4, 0.2)
    learning_rate: float = 3e-4
    epochs: int = 1_000
    every: int = 100
    measured: int = 50
    grid: int = 50
    jit: bool = False


PRESETS = {
    "smoke": Settings(seeds=2, widths=(300, 500), learning_rate=1e-4, epochs=12, every=4, measured=5, grid=20),
    "quick": Settings(),
    "full": Settings(seeds=32, widths=(300, 500), learning_rate=1e-4, epochs=10_000, every=500, measured=200, jit=True),
}


def main(settings: Settings, context: Context) -> Result:
    """Both arms on every seed's points under one vmap; what each predicts as it goes."""
    x_key, noise_key, start_key, fit_key = context.keys(4)
    shape = (settings.points, settings.seeds, 1)
    x = fr.random.uniform(x_key, shape)
    data = fr.train.Batch(x, 2 * x + fr.random.normal(noise_key, shape, std=settings.noise))
    grid = torch.linspace(0, 1, settings.grid, device=x.device).unsqueeze(1)
    arms = Arms({"none": {"noise": 0.0}, _dropout(settings): {"noise": 1.0}}, settings.seeds)
    model = fr.from_module(lambda: mlp(1, *settings.widths, 1, rates=settings.rates, activation=nn.LeakyReLU))
    hparams = arms.hparams(context.device)

    def loss_fn(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        mine = own(batch, hparams["seed"])
        # Flatten is layer 0; then linear, activation, dropout.
        rates = {str(3 * i + 3): rate * hparams["noise"] for i, rate in enumerate(settings.rates)}
        predictions, state = model.apply(params, state, mine.x, key=key, train=True, rates=rates)
        return fr.losses.mse(predictions, mine.y), (state, {})

    def measure(params: Any, seed: Tensor) -> dict[str, Tensor]:
        mine = own(data, seed)
        predictions, _ = model.apply(params, {}, mine.x)
        curve, _ = model.apply(params, {}, grid)
        weights = [weight for _, weight in fr.tree.select(params, fr.tree.is_weight)]
        return {
            "train_loss": fr.losses.mse(predictions, mine.y),
            "test_loss": fr.losses.mse(curve, 2 * grid),
            "norms": torch.stack([torch.linalg.matrix_norm(weight) for weight in weights]),
            "fit": curve.squeeze(1),
        }

    frames, epochs, rows = [], [], []

    def watch(number_: int, params: Any) -> None:
        if number_ % settings.measured and number_ % settings.every:
            return
        row = vmap(measure)(params, hparams["seed"])
        fit = arms.by_arm(row.pop("fit"))
        if number_ % settings.every == 0:
            frames.append({"epoch": number_, "fit": fit[:, 0]})
        if number_ % settings.measured == 0:
            epochs.append(number_)
            rows.append(row)
        if number_ == settings.epochs:
            ends.append(fit)

    ends: list[Tensor] = []
    optimizer = fr.optim.adam(settings.learning_rate)
    first = arms.start(model, optimizer, key=start_key, device=context.device)
    watch(0, first.params)
    context.fit(
        fr.train.make_step(loss_fn, optimizer),
        first,
        data,
        key=fit_key,
        epochs=settings.epochs,
        hparams=hparams,
        members=arms.members,
        jit=settings.jit,
        on_epoch=lambda epoch: watch(epoch.number, epoch.train_state.params),
    )
    values = {
        "arms": arms.names,
        "seeds": settings.seeds,
        "epochs": epochs,
        "series": {name: arms.by_arm(torch.stack([row[name] for row in rows], dim=1)) for name in rows[0]},
        "grid": grid.squeeze(1),
        "x": data.x[..., 0].T,
        "y": data.y[..., 0].T,
        "frames": frames,
        "ends": ends[0],
    }
    values = {**values, **{name: short(values[name]) for name in ("series", "grid", "x", "y", "frames", "ends")}}
    source = (
        f"generated: {settings.points} points y = 2x + N(0, {settings.noise:g}^2), x ~ U(0, 1), anew for each seed; "
        f"tested against 2x at {settings.grid} places from 0 to 1"
    )
    return Result(values, _claims(values), _tables(values), [source])


def _dropout(settings: Settings) -> str:
    return f"dropout {' and '.join(f'{rate:g}' for rate in settings.rates)}"


def _series(values: dict[str, Any], metric: str) -> Tensor:
    """(arms, seeds, measurements), or with layers as a fourth axis."""
    return torch.tensor(values["series"][metric], dtype=torch.float64)


def _norm(values: dict[str, Any]) -> Tensor:
    """Of all weights together, (arms, seeds, measurements)."""
    return _series(values, "norms").square().sum(dim=-1).sqrt()


def _claims(values: dict[str, Any]) -> list[Claim]:
    test, train, norm = _series(values, "test_loss"), _series(values, "train_loss"), _norm(values)
    growth = norm[..., -1] - norm[..., 0]
    best = test[0].min(dim=1).values
    return [
        compare_means("With dropout the fit ends closer to the true line than without", test[0, :, -1], test[1, :, -1]),
        compare_means(
            "Without dropout the training loss ends lower: it fits the noise", train[1, :, -1], train[0, :, -1]
        ),
        compare_means(
            "Without dropout it overfits: the test loss ends above the lowest it had been", test[0, :, -1], best
        ),
        compare_means("With dropout the norm of all weights grows less", growth[0], growth[1]),
    ]


def _tables(values: dict[str, Any]) -> list[Table]:
    test, train, norms = _series(values, "test_loss"), _series(values, "train_loss"), _series(values, "norms")
    rows = []
    for i, arm in enumerate(values["arms"]):
        layers = norms[i, :, -1].unbind(dim=1)
        each = (train[i, :, -1], test[i, :, -1], test[i].min(dim=1).values, *layers)
        rows.append((arm, *(estimate(column.tolist()).cell for column in each), values["seeds"]))
    layers = tuple(f"norm of layer {i + 1}" for i in range(norms.shape[-1]))
    head = ("arm", "training loss", "test loss", "lowest test loss", *layers, "n")
    return [
        Table(f"After {values['epochs'][-1]:,} epochs: mean ± sd over seeds (losses are squared errors)", head, rows)
    ]


def figures(result: Result) -> dict[str, Figure | plots.Animation]:
    """The fit as it goes, losses, norms, and where every seed ends."""
    values = result.values
    return {
        "fit": _animate(values),
        "losses": _draw_losses(values),
        "norms": _draw_norms(values),
        "ends": _draw_ends(values),
    }


def _draw_losses(values: dict[str, Any]) -> Figure:
    train, test = (
        dict(zip(values["arms"], values["series"][f"{name}_loss"], strict=True)) for name in ("train", "test")
    )
    return charts.curves(
        charts.Panel(train, "Training", ylabel="mean squared error"),
        charts.Panel(test, "Test"),
        x=values["epochs"],
        legend=1,
        finish=lambda axis: axis.set(ylim=(0, None)),
        caption=f"Squared error without noise in the network: left on the points it was trained on, right against the "
        f"true line (mean over {values['seeds']} seeds, band: one sd).",
    )


def _draw_norms(values: dict[str, Any]) -> Figure:
    layers = [dict(zip(values["arms"], each, strict=True)) for each in _series(values, "norms").unbind(dim=-1)]
    return charts.curves(
        *(charts.Panel(each, f"layer {i}", ylabel="Frobenius norm" * (i == 1)) for i, each in enumerate(layers, 1)),
        x=values["epochs"],
        height=3.2,
        caption=f"Frobenius norm of each layer's weights (mean over {values['seeds']} seeds, band: one sd).",
    )


def _draw_ends(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        sharey=True,
        caption=f"What every seed's network predicts after {values['epochs'][-1]:,} epochs, each for its own ten "
        f"points (n = {values['seeds']}), and the true line.",
    )
    for i, (axis, arm) in enumerate(zip(axes[0], values["arms"], strict=True)):
        for fit in values["ends"][i]:
            axis.plot(values["grid"], fit, color=plots.PALETTE[i], linewidth=1.2, alpha=0.7)
        _truth(axis, values)
        axis.set(xlabel="x")
        axis.set_title(arm, fontsize=11)
    axes[0, 0].set_ylabel("y")
    axes[0, 0].legend()
    return figure


def _animate(values: dict[str, Any]) -> plots.Animation:
    return plots.Animation(
        [_draw_frame(values, frame) for frame in values["frames"]],
        "The fit of one seed as it is trained, without dropout (left) and with it (right).",
    )


def _draw_frame(values: dict[str, Any], frame: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(1, 2, sharey=True, height=3.4, caption=f"epoch {frame['epoch']}")
    low, high = min(*values["y"][0], 0.0), max(*values["y"][0], 2.0)
    for i, (axis, arm) in enumerate(zip(axes[0], values["arms"], strict=True)):
        axis.plot(values["grid"], frame["fit"][i], color=plots.PALETTE[i], linestyle=plots.LINES[i], label="fit")
        axis.plot(values["x"][0], values["y"][0], "o", color=plots.BLACK, label="points")
        _truth(axis, values)
        axis.set(xlabel="x", xlim=(0, 1), ylim=(low - 0.5, high + 0.5))
        axis.set_title(arm, fontsize=11)
    axes[0, 0].set_ylabel("y")
    axes[0, 1].legend(loc="upper left", fontsize=9)
    figure.suptitle(f"epoch {frame['epoch']:,}", fontsize=11)
    return figure


def _truth(axis: Axes, values: dict[str, Any]) -> None:
    axis.plot(values["grid"], [2 * x for x in values["grid"]], color="#777777", linewidth=1, label="true line")
