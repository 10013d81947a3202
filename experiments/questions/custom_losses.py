"""What does each loss of signals see: scale, offset, shift, direction, a spike?

Part: C
Command: python -m experiments run custom-losses
Runtime: smoke 1 s, quick 1 s, full 1 s (2 CPU cores)
Answer: on 1,000 pairs of random signals (n = 1,000) correlation changes by 3e-16 under scale and offset, the spectral
    loss by 6e-16 under circular shift, reversal and change of sign; mae changes under all five by a median of 9% or
    more. What a loss ignores it does not train: the gradient of correlation along scale and offset is 0 (cosine
    2e-16). A spike touches 2 of 32 samples and 16 of 17 magnitudes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import grad, vmap

import funcreg as fr

from ..data import variants
from ..harness.context import Context
from ..parts.losses import spectral
from ..report import plots
from ..report.estimates import number
from ..report.result import Claim, Result, Table


@dataclass(frozen=True)
class Settings:
    """Signals of so many samples; each loss also on `pairs` pairs of random signals."""

    samples: int = 32
    pairs: int = 1_000


PRESETS = {"smoke": Settings(pairs=100), "quick": Settings(), "full": Settings(pairs=10_000)}
LOSSES: dict[str, Callable[..., Tensor]] = {
    "mae": fr.losses.mae,
    "correlation": fr.losses.correlation,
    "spectral": spectral,
}
# Two numbers of a float32 loss count as the same up to this much of the loss's own size.
_SAME = 1e-5


def main(settings: Settings, context: Context) -> Result:
    """All pairs of the six signals; then changes of random signals, which need not be alike."""
    (key,) = context.keys(1)
    signals = fr.tree.to(variants(settings.samples), context.device)
    stacked = torch.stack(list(signals.values())).double()
    values = {
        "names": list(signals),
        "signals": stacked.float(),
        "matrices": {name: _matrix(loss, stacked).float() for name, loss in LOSSES.items()},
        "changes": _changes(settings, key),
        "gradients": _gradients(settings, key),
        "spike": _spike(signals),
        "pairs": settings.pairs,
    }
    source = (
        f"generated: sin(2 pi t) + sin(6 pi t) / 2 in {settings.samples} samples and five changes of it; "
        f"{settings.pairs:,} pairs of random signals of the same length, N(0, 1)"
    )
    return Result(values, _claims(values), _tables(values), [source])


def _matrix(loss: Callable[..., Tensor], signals: Tensor) -> Tensor:
    """The loss of every signal (rows: as predictions) against every one (columns: as targets)."""
    return vmap(vmap(loss, (None, 0)), (0, None))(signals, signals)


def _changes(settings: Settings, key: Tensor) -> dict[str, dict[str, float]]:
    """How much a loss changes, relative to itself, when its predictions do: the largest of all pairs, the median."""
    draw_key, scale_key, offset_key, shift_key = fr.random.split(key, 4)
    shape = (settings.pairs, settings.samples)
    x, y = (fr.random.normal(each, shape, dtype=torch.float64) for each in fr.random.split(draw_key))
    factor = fr.random.uniform(scale_key, (settings.pairs, 1), low=1.5, high=3.0, dtype=torch.float64)
    offset = fr.random.uniform(offset_key, (settings.pairs, 1), low=0.5, high=2.0, dtype=torch.float64)
    shift = fr.random.randint(shift_key, (settings.pairs, 1), 1, settings.samples)
    position = torch.arange(settings.samples, device=x.device)
    changed = {
        "scaled": factor * x,
        "offset": x + offset,
        "negated": -x,
        "shifted": x.gather(1, (position - shift) % settings.samples),
        "reversed": x.flip(1),
    }
    result: dict[str, dict[str, float]] = {}
    for name, loss in LOSSES.items():
        before = vmap(loss)(x, y)
        for change, z in changed.items():
            moved = (vmap(loss)(z, y) - before).abs() / before
            result[f"{name}, {change}"] = {"largest": float(moved.max()), "median": float(moved.median())}
    return result


def _gradients(settings: Settings, key: Tensor) -> dict[str, float]:
    """How far a loss's gradient points along its input, and along a constant: the largest cosine of all pairs."""
    shape = (settings.pairs, settings.samples)
    x, y = (fr.random.normal(each, shape, dtype=torch.float64) for each in fr.random.split(key))
    result = {}
    for name, loss in LOSSES.items():
        g = vmap(grad(loss))(x, y)
        for direction, d in (("scale", x - x.mean(dim=1, keepdim=True)), ("offset", torch.ones_like(x))):
            result[f"{name}, {direction}"] = float(torch.cosine_similarity(g, d, dim=1).abs().max())
    return result


def _spike(signals: dict[str, Tensor]) -> dict[str, Any]:
    """In how many samples, and in how many frequencies, the spiky signal differs from the base."""
    base, spiky = signals["base"].double(), signals["spiky"].double()
    spectra = [torch.fft.rfft(each).abs() for each in (base, spiky)]
    return {
        "samples": int(((spiky - base).abs() > 1e-6).sum()),
        "frequencies": int(((spectra[1] - spectra[0]).abs() > 1e-6).sum()),
        "of_frequencies": len(spectra[0]),
    }


def _claims(values: dict[str, Any]) -> list[Claim]:
    changes, pairs = values["changes"], values["pairs"]

    def largest(loss: str, *names: str) -> float:
        return max(changes[f"{loss}, {name}"]["largest"] for name in names)

    def smallest_median(loss: str, *names: str) -> float:
        return min(changes[f"{loss}, {name}"]["median"] for name in names)

    def base(loss: str, name: str) -> float:
        return float(values["matrices"][loss][0][values["names"].index(name)])

    blind = {"correlation": ("scaled", "offset"), "spectral": ("shifted", "reversed", "negated")}
    seeing = {"correlation": ("shifted", "reversed", "negated"), "spectral": ("scaled", "offset")}
    every = ("scaled", "offset", "shifted", "reversed", "negated")
    numbers = {name: changes[name] for name in changes}
    spike, gradients = values["spike"], values["gradients"]
    return [
        Claim(
            "Correlation ignores scale and offset, spectral magnitude ignores shift and reversal, mae nothing",
            f"largest relative change {largest('correlation', *blind['correlation']):.0e} and "
            f"{largest('spectral', *blind['spectral'][:2]):.0e}; mae's median change at least "
            f"{100 * smallest_median('mae', *every):.0f}% (n = {pairs:,} pairs)",
            largest("correlation", *blind["correlation"]) < _SAME
            and largest("spectral", *blind["spectral"][:2]) < _SAME
            and smallest_median("mae", *every) > 0.05,
            {"n": pairs, **numbers},
        ),
        Claim(
            "Of the six signals, correlation gives scaled and offset no loss at all against the base",
            f"scaled {base('correlation', 'scaled'):.1g}, offset {base('correlation', 'offset'):.1g}; shifted "
            f"{number(base('correlation', 'shifted'))}, reversed {number(base('correlation', 'reversed'))}, of at "
            f"most 2 (n = 1 signal); on random pairs shift, reversal and sign change it by a median of "
            f"{100 * smallest_median('correlation', *seeing['correlation']):.0f}% or more",
            max(base("correlation", name) for name in ("scaled", "offset")) < _SAME
            and min(base("correlation", name) for name in ("shifted", "reversed")) > 0.1,
            {name: base("correlation", name) for name in values["names"]} | {"n": 1},
        ),
        Claim(
            "Of the six signals, the spectral loss gives shifted and reversed no loss at all against the base",
            f"shifted {base('spectral', 'shifted'):.1g}, reversed {base('spectral', 'reversed'):.1g}; scaled "
            f"{number(base('spectral', 'scaled'))}, offset {number(base('spectral', 'offset'))} (n = 1 signal); blind "
            f"to sign too: -x changes it by {largest('spectral', 'negated'):.1g}",
            max(base("spectral", name) for name in ("shifted", "reversed")) < _SAME
            and min(base("spectral", name) for name in ("scaled", "offset")) > 0.1,
            {name: base("spectral", name) for name in values["names"]} | {"n": 1},
        ),
        Claim(
            "Every loss is symmetric and zero on the diagonal",
            f"largest asymmetry {_asymmetry(values):.1g}, largest diagonal {_diagonal(values):.1g} over three 6 x 6 "
            "matrices",
            _asymmetry(values) < _SAME and _diagonal(values) < _SAME,
            {"asymmetry": _asymmetry(values), "diagonal": _diagonal(values), "n": 108},
        ),
        Claim(
            "What a loss ignores it does not train: correlation has no gradient along its input's scale or offset",
            f"largest |cosine| {max(gradients['correlation, scale'], gradients['correlation, offset']):.0e}; mae's up "
            f"to {gradients['mae, scale']:.2f} and {gradients['mae, offset']:.2f} (n = {pairs:,} pairs)",
            max(gradients["correlation, scale"], gradients["correlation, offset"]) < 1e-7,
            {**gradients, "n": pairs},
        ),
        Claim(
            "A spike is local in time, so mae pays for few samples, and global in frequency",
            f"{spike['samples']} of {len(values['signals'][0])} samples differ and {spike['frequencies']} of "
            f"{spike['of_frequencies']} magnitudes; mae {number(base('mae', 'spiky'))} (less than the offset's "
            f"{number(base('mae', 'offset'))}), spectral {number(base('spectral', 'spiky'))} (n = 1 signal)",
            spike["samples"] == 2
            and spike["frequencies"] > spike["of_frequencies"] / 2
            and base("mae", "spiky") < base("mae", "offset"),
            {**spike, "n": 1},
        ),
    ]


def _asymmetry(values: dict[str, Any]) -> float:
    """Relative to the largest entry."""
    matrices = [torch.as_tensor(matrix) for matrix in values["matrices"].values()]
    return max(float((m - m.T).abs().max() / m.max()) for m in matrices)


def _diagonal(values: dict[str, Any]) -> float:
    return max(float(torch.as_tensor(matrix).diagonal().abs().max()) for matrix in values["matrices"].values())


def _tables(values: dict[str, Any]) -> list[Table]:
    names = values["names"]
    tables = [
        Table(
            f"{loss}: each signal against each",
            ("", *names),
            [
                (name, *(float(f"{value:.3g}") for value in row.tolist()))
                for name, row in zip(names, matrix, strict=True)
            ],
        )
        for loss, matrix in values["matrices"].items()
    ]
    changes = [
        (
            change,
            *(f"{100 * values['changes'][f'{loss}, {change}']['median']:.3g}" for loss in LOSSES),
        )
        for change in ("scaled", "offset", "negated", "shifted", "reversed")
    ]
    title = f"Median change of the loss when one signal of a random pair changes (%; n = {values['pairs']:,} pairs)"
    return [*tables, Table(title, ("change", *LOSSES), changes)]


def figures(result: Result) -> dict[str, Figure]:
    """The signals, and the matrices."""
    return {"signals": _draw_signals(result.values), "matrices": _draw_matrices(result.values)}


def _draw_signals(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        2,
        3,
        height=4.6,
        sharex=True,
        sharey=True,
        caption="Six signals of 32 samples: the base, also drawn dashed behind the five changes of it.",
    )
    base = values["signals"][0]
    for i, (axis, name, signal) in enumerate(zip(axes.flat, values["names"], values["signals"], strict=True)):
        if i:
            axis.plot(base, "--", color="#999999", linewidth=1.2)
        axis.plot(signal, color=plots.PALETTE[i % 7], linewidth=1.8)
        axis.set_title(name)
    for axis in axes[-1]:
        axis.set_xlabel("sample")
    for axis in axes[:, 0]:
        axis.set_ylabel("value")
    return figure


def _draw_matrices(values: dict[str, Any]) -> Figure:
    names = values["names"]
    figure, axes = plots.canvas(
        1,
        3,
        height=3.7,
        sharey=True,
        caption="The loss of each signal (row) against each (column). Zeros off the diagonal are what a loss does not "
        "see: correlation scale and offset, the spectral loss shift and reversal.",
    )
    for axis, (loss, matrix) in zip(axes[0], values["matrices"].items(), strict=True):
        top = max(max(row) for row in matrix)
        axis.imshow(matrix, cmap=plots.SEQUENTIAL, vmin=0, vmax=top)
        for row, cells in enumerate(matrix):
            for column, value in enumerate(cells):
                shown = "0" if value < 1e-5 * top else f"{value:.2f}" if top < 10 else f"{value:.0f}"
                color = "white" if value < 0.55 * top else "black"
                axis.text(column, row, shown, ha="center", va="center", fontsize=8, color=color)
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
        axis.set_yticks(range(len(names)), names, fontsize=9)
        axis.grid(False)
        axis.set_title({"spectral": "spectral magnitude"}.get(loss, loss))
    axes[0, 0].set_ylabel("predictions")
    axes[0, 1].set_xlabel("targets")
    return figure
