"""What does weight decay do to a polynomial with more coefficients than points, and is it ridge regression?

Part: C
Command: python -m experiments run weight-decay-polynomial
Runtime: smoke 1 s, quick 9 s, full 60 s (2 CPU cores)
Answer: yes, with alpha = n decay / 2: 50 decays trained in one vmap end within 7e-15 of closed-form ridge (coefficients
    up to 5.7, n = 50, float64). After 500 epochs decay 0.01 gives coefficients of norm 1.48 instead of 18.8 ± 1.0
    (n = 16 starts), a smoother curve and a larger training MSE (0.120, not 0.001), and is at its minimum; without decay
    500 epochs do not reach the points (MSE below 1e-4: not confirmed). The norm falls all along the path, but 4 of
    the 11 coefficients grow somewhere on it.

The loss is the mean over n points of (f(x) - y)^2, and Adam(weight_decay=d), coupled, adds d w to its gradient: a
penalty of (d / 2) sum w^2, intercept included. So its minimum is ridge's with alpha = n d / 2 beside the sum of
squares: w = (F'F + (n d / 2) I)^-1 F'y, the columns of F being 1, x, ..., x^10. Texts whose penalty is d sum w^2, or
whose loss is a sum, mean another d.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import funcreg as fr

from ..harness.context import Context
from ..parts.arms import Arms
from ..parts.networks import mlp
from ..report import plots
from ..report.estimates import curve, estimate, number
from ..report.result import Claim, Result, Table

X = (-0.9, -0.6, -0.4, -0.1, 0.0, 0.3, 0.6, 0.8)
Y = (0.0, 0.4, -0.4, -0.1, 0.3, 0.8, -0.2, 0.8)


@dataclass(frozen=True)
class Settings:
    """A polynomial of `degree` on eight points: two fits from `seeds` first coefficients, and a path of `decays`."""

    seeds: int = 16
    degree: int = 10
    learning_rate: float = 0.1
    epochs: int = 500
    decay: float = 0.01
    decays: int = 50
    lowest: float = 1e-3
    highest: float = 10.0
    path_steps: int = 4000
    jit: bool = False


PRESETS = {
    "smoke": Settings(seeds=3, epochs=20, decays=5, lowest=0.1, path_steps=50),
    "quick": Settings(),
    "full": Settings(seeds=256, lowest=1e-4, path_steps=20_000, jit=True),
}


def main(settings: Settings, context: Context) -> Result:
    """Fit with and without decay; train the path; solve it in closed form."""
    fit_key, path_key = context.keys(2)
    x = torch.tensor(X, dtype=torch.float64, device=context.device)
    y = torch.tensor(Y, dtype=torch.float64, device=context.device).unsqueeze(1)
    features = x.unsqueeze(1) ** torch.arange(1, settings.degree + 1, device=context.device)
    data = fr.train.Batch(features, y)
    arms = Arms({"no decay": {"decay": 0.0}, f"decay {settings.decay:g}": {"decay": settings.decay}}, settings.seeds)
    coefficients, losses = _train(arms, data, settings, fit_key, context, epochs=settings.epochs)
    grid = np.geomspace(settings.lowest, settings.highest, settings.decays).tolist()
    members = Arms({f"{decay:.3g}": {"decay": decay} for decay in grid}, 1)
    decays = members.hparams()["decay"]
    trained, _ = _train(members, data, settings, path_key, context, epochs=settings.path_steps, cooled=True)
    columns = torch.cat((torch.ones_like(y), features), dim=1)
    ridge = torch.stack([_ridge(columns, y, len(X) * decay / 2) for decay in decays.tolist()])
    values = {
        "fits": {
            "arms": arms.names,
            "coefficients": coefficients,
            "mse": _mse(columns, y, coefficients),
            "losses": [curve(each) for each in losses],
        },
        "path": {
            "decays": decays,
            "trained": trained[:, 0],
            "ridge": ridge,
            "difference": (trained[:, 0] - ridge).abs().amax(dim=1),
            # What one gets who takes the optimizer's number for ridge's.
            "unconverted": torch.stack([_ridge(columns, y, decay) for decay in decays.tolist()]),
            "mse": _mse(columns, y, trained[:, 0]),
        },
        "minimum": _ridge(columns, y, len(X) * settings.decay / 2),
    }
    source = f"{len(X)} given points, x = {', '.join(map(str, X))}; y = {', '.join(map(str, Y))}"
    return Result(values, _claims(values, settings), [_table(values, settings)], [source])


def _train(
    arms: Arms,
    data: fr.train.Batch,
    settings: Settings,
    key: Tensor,
    context: Context,
    *,
    epochs: int,
    cooled: bool = False,
) -> tuple[Tensor, Tensor]:
    """Coefficients by rising power, (arms, seeds, degree + 1), and the loss by epoch; full batch, float64."""
    model = fr.from_module(lambda: mlp(settings.degree, 1).double())
    rate = fr.optim.cosine(settings.learning_rate, steps=epochs) if cooled else settings.learning_rate

    def loss_fn(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        predictions, state = model.apply(params, state, batch.x)
        return fr.losses.mse(predictions, batch.y), (state, {})

    def optimizer(hparams: Any) -> fr.transforms.Transform:
        return fr.optim.adam(rate, weight_decay=hparams["decay"])

    start_key, shuffle_key = fr.random.split(key)
    result = context.fit(
        fr.train.make_step(loss_fn, optimizer),
        arms.start(model, optimizer, key=start_key, device=context.device),
        data,
        key=shuffle_key,
        epochs=epochs,
        hparams=arms.hparams(context.device),
        members=arms.members,
        jit=settings.jit,
    )
    bias, weight = fr.tree.leaves(result.train_state.params)
    return arms.by_arm(torch.cat((bias, weight.squeeze(1)), dim=1)), arms.curves(result.history["loss"])


def _ridge(columns: Tensor, y: Tensor, alpha: float) -> Tensor:
    """The minimum of |F w - y|^2 + alpha |w|^2, by a least-squares solve that does not square F's condition."""
    root = alpha**0.5 * torch.eye(columns.shape[1], dtype=columns.dtype, device=columns.device)
    below = torch.zeros(columns.shape[1], 1, dtype=y.dtype, device=y.device)
    return torch.linalg.lstsq(torch.cat((columns, root)), torch.cat((y, below))).solution.squeeze(1)


def _mse(columns: Tensor, y: Tensor, coefficients: Tensor) -> Tensor:
    return (coefficients @ columns.T - y.squeeze(1)).square().mean(dim=-1)


def _roughness(coefficients: Tensor) -> Tensor:
    """The root mean square of the second derivative between the outermost points."""
    power = torch.arange(2, coefficients.shape[-1], device=coefficients.device)
    grid = torch.linspace(X[0], X[-1], 401, dtype=coefficients.dtype, device=coefficients.device)
    second = power * (power - 1) * grid.unsqueeze(1) ** (power - 2)
    return (coefficients[..., 2:] @ second.T).square().mean(dim=-1).sqrt()


def _claims(values: dict[str, Any], settings: Settings) -> list[Claim]:
    return [*_path_claims(values["path"], settings), *_fit_claims(values, settings)]


def _path_claims(path: dict[str, Any], settings: Settings) -> list[Claim]:
    ridge, difference = path["ridge"], float(path["difference"].max())
    unconverted = float((path["unconverted"] - ridge).abs().max())
    norms = path["trained"].norm(dim=1).tolist()
    falls = sum(after < before for before, after in pairwise(norms))
    sizes = ridge.abs()
    growing = (sizes[1:] > sizes[:-1]).any(dim=0)
    powers = ", ".join(str(power) for power in growing.nonzero().flatten().tolist())
    return [
        Claim(
            f"A path of {settings.decays} decays, trained by Adam in one vmap, is closed-form ridge's to 1e-6",
            f"largest difference of a coefficient {difference:.1g}, of sizes up to {number(float(sizes.max()))}, "
            f"{settings.path_steps:,} steps (n = {settings.decays} decays, float64)",
            difference < 1e-6,
            {"difference": difference, "n": settings.decays},
        ),
        Claim(
            "Ridge's alpha is not the optimizer's decay but n decay / 2",
            f"with alpha = n decay / 2 the largest difference is {difference:.1g}, with alpha = decay "
            f"{number(unconverted)} (n = {settings.decays} decays)",
            difference < 1e-6 < unconverted,
            {"converted": difference, "unconverted": unconverted, "n": settings.decays},
        ),
        Claim(
            "The more decay, the smaller the norm of the coefficients",
            f"from {number(norms[0])} at {settings.lowest:g} to {number(norms[-1])} at {settings.highest:g}; smaller "
            f"at {falls} of {len(norms) - 1} steps along the path",
            falls == len(norms) - 1,
            {"falls": falls, "n": len(norms) - 1},
        ),
        Claim(
            "The more decay, the smaller every coefficient",
            f"{int(growing.sum())} of {len(growing)} coefficients grow somewhere along the path"
            + (f": those of x to the {powers}" if powers else ""),
            not growing.any(),
            {"growing": int(growing.sum()), "n": len(growing)},
        ),
    ]


def _fit_claims(values: dict[str, Any], settings: Settings) -> list[Claim]:
    fits, n = values["fits"], settings.epochs
    measures = {
        "smaller coefficients": ("norm", fits["coefficients"].norm(dim=-1), -1),
        "a smoother curve": ("root mean square of f''", _roughness(fits["coefficients"]), -1),
        "a larger error on the points": ("training MSE", fits["mse"], 1),
    }
    claims = []
    for text, (label, (without, decayed), sign) in measures.items():
        change = estimate((decayed - without).tolist())
        claims.append(
            Claim(
                f"After {n} epochs decay {settings.decay:g} gives {text}",
                f"{label} {number(float(without.mean()))} without, {number(float(decayed.mean()))} with; paired "
                f"difference {change}",
                change.above() if sign > 0 else change.below(),
                change._asdict(),
            )
        )
    worst = estimate(fits["mse"][0].tolist())
    claims.append(
        Claim(
            f"Without decay {n} epochs carry the curve through all {len(X)} points: training MSE below 1e-4",
            f"training MSE {worst}",
            worst.below(1e-4),
            worst._asdict(),
        )
    )
    minimum = values["minimum"]
    away = estimate(((fits["coefficients"][1] - minimum).norm(dim=-1) / minimum.norm()).tolist())
    claims.append(
        Claim(
            f"{n} epochs are enough to reach the minimum of decay {settings.decay:g}: coefficients within 1%",
            f"distance from ridge's, as a share of their norm: {away}",
            away.below(0.01),
            away._asdict(),
        )
    )
    return claims


def _table(values: dict[str, Any], settings: Settings) -> Table:
    fits, rows = values["fits"], []
    for i, arm in enumerate(fits["arms"]):
        each = [estimate(column.tolist()) for column in fits["coefficients"][i].T]
        rows.append((arm, *(e.fixed(2) for e in each), f"{float(fits['mse'][i].mean()):.4f}"))
    rows.append((f"ridge, decay {settings.decay:g}", *(f"{w:.2f}" for w in values["minimum"].tolist()), ""))
    columns = ("fit", *(f"x^{power}" for power in range(settings.degree + 1)), "training MSE")
    title = f"Coefficients after {settings.epochs} epochs: mean ± sd over {settings.seeds} first coefficients"
    return Table(title, columns, rows)


def figures(result: Result) -> dict[str, Figure]:
    """The fits, their coefficients, their losses; the path against the closed form."""
    values = result.values
    return {
        "fits": _draw_fits(values["fits"]),
        "coefficients": _draw_coefficients(values["fits"], values["minimum"]),
        "path": _draw_path(values["path"]),
    }


def _draw_fits(fits: dict[str, Any]) -> Figure:
    coefficients = np.array(fits["coefficients"])
    seeds = coefficients.shape[1]
    figure, axes = plots.canvas(
        1,
        2,
        height=3.9,
        caption=f"Left: the polynomials after training (mean over {seeds} first coefficients, band: one sd); the dots "
        "are the eight points. With decay it bends less and misses them by more. Right: the training error.",
    )
    grid = np.linspace(X[0] - 0.03, X[-1] + 0.03, 300)
    powers = grid[:, None] ** np.arange(coefficients.shape[2])
    left, right = axes[0]
    for i, arm in enumerate(fits["arms"]):
        plots.band(left, grid.tolist(), coefficients[i] @ powers.T, arm, i)
        plots.band(right, range(1, len(fits["losses"][i]["mean"]) + 1), fits["losses"][i], arm, i)
    left.plot(X, Y, "o", color=plots.BLACK, markersize=7, zorder=3)
    left.set(xlabel="x", ylabel="y", title="Fits")
    right.set(xlabel="epoch", ylabel="mean squared error", title="Training", xscale="log", yscale="log")
    plots.counting(right.xaxis)
    left.legend()
    return figure


def _draw_coefficients(fits: dict[str, Any], minimum: list[float]) -> Figure:
    coefficients = np.array(fits["coefficients"])
    figure, axes = plots.canvas(
        caption=f"Each coefficient after training: mean over {coefficients.shape[1]} first coefficients, bars: one sd. "
        "The crosses are closed-form ridge of the same decay.",
    )
    axis, power = axes[0, 0], np.arange(coefficients.shape[2])
    for i, arm in enumerate(fits["arms"]):
        mean, sd = coefficients[i].mean(axis=0), coefficients[i].std(axis=0, ddof=1)
        at = power + 0.36 * (i - 0.5)
        axis.bar(at, mean, 0.34, yerr=sd, color=plots.PALETTE[i], hatch=("", "//")[i], capsize=2, label=arm)
    axis.plot(
        power + 0.18, minimum, "x", color=plots.BLACK, markersize=8, markeredgewidth=2, label="ridge of that decay"
    )
    axis.axhline(0, color="#777777", linewidth=1)
    axis.set(xlabel="power of x", ylabel="coefficient", xticks=power, title="Coefficients")
    axis.legend(ncols=3)
    return figure


def _draw_path(path: dict[str, Any]) -> Figure:
    trained, ridge = np.array(path["trained"]), np.array(path["ridge"])
    figure, axes = plots.canvas(
        2,
        1,
        height=6.4,
        sharex=True,
        height_ratios=(3, 1),
        caption=f"Above: coefficients against the decay; lines by closed-form ridge, dots as trained ({len(trained)} "
        "decays under one vmap). Their norm falls; single ones grow for a while, and some change sign. The scale is "
        "linear within ±0.1. Below: the largest difference between dots and lines (0 is drawn at 1e-18).",
    )
    above, below = axes[:, 0]
    for power in range(trained.shape[1]):
        style: Any = {"color": plots.PALETTE[power % 7], "linestyle": plots.LINES[power % 6], "linewidth": 1.6}
        above.plot(path["decays"], ridge[:, power], label=f"$x^{{{power}}}$", **style)
        above.plot(path["decays"], trained[:, power], "o", color=style["color"], markersize=3.5)
    difference = np.maximum(path["difference"], 1e-18)
    below.plot(path["decays"], difference, "o-", color=plots.BLACK, markersize=3.5, linewidth=1)
    above.set_yscale("symlog", linthresh=0.1)
    above.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    above.set(ylabel="coefficient", title="Coefficients along the path")
    above.legend(ncols=4, loc="lower right", handlelength=3)
    below.set(xscale="log", yscale="log", xlabel="weight decay", ylabel="difference")
    plots.counting(below.xaxis)
    return figure
