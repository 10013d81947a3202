"""Do the running statistics of batch norm reach those of the data, how soon, and how noisy are they?

Part: C
Command: python -m experiments run running-statistics
Runtime: smoke 1 s, quick 2 s, full about 15 s (2 CPU cores)
Answer: they reach the data's mean to 0.5% of its sd and variance to 1.6%, where (1 - m)^steps is below 1% (12 of 18
    settings; n = 128 orders); with momentum 0.01 and batches of 64 the start still has a share of 0.405, as predicted.
    Larger momentum and smaller batches are noisier, sd 0.172 to 0.003, but not by sqrt(m / (2 - m)) times the sd of a
    batch mean: that is 1.3 to 7 times too much, since the batches of an epoch share out one set and cancel. With their
    covariance the prediction holds to 12%.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import vmap

import funcreg as fr

from ..data import one_mode, two_modes
from ..harness.context import Context
from ..report import plots
from ..report.decisions import every
from ..report.estimates import Estimate, curve, estimate, number
from ..report.result import Claim, Result, Table


@dataclass(frozen=True)
class Settings:
    """Every momentum on every data set in `seeds` orders of the batches, for each batch size."""

    seeds: int = 128
    samples: int = 200
    momenta: tuple[float, ...] = (0.01, 0.04, 0.1)
    sizes: tuple[int, ...] = (4, 16, 64)
    epochs: int = 30


PRESETS = {
    "smoke": Settings(seeds=32, momenta=(0.01, 0.1), sizes=(16, 64), epochs=6),
    "quick": Settings(),
    "full": Settings(seeds=512),
}
DATA = ("unimodal", "bimodal")


def main(settings: Settings, context: Context) -> Result:
    """For each batch size, momenta x data sets x seeds under one vmap."""
    one_key, two_key, *size_keys = context.keys(2 + len(settings.sizes))
    data = torch.stack([one_mode(one_key, settings.samples), two_modes(two_key, settings.samples)]).double()
    truth = {"mean": data.mean(dim=1), "variance": data.var(dim=1), "biased": data.var(dim=1, correction=0)}
    cells = []
    for size, key in zip(settings.sizes, context.track(size_keys, "batch size"), strict=True):
        cells += _cells(data, truth, size, settings, key, context)
    values = {
        "seeds": settings.seeds,
        "epochs": settings.epochs,
        "data": data.float(),
        "truth": truth,
        "cells": cells,
    }
    source = (
        f"generated: {settings.samples} values of one feature, unimodal N(3, 2^2), and bimodal, half N(1, 0.5^2) and "
        f"half N(5, 0.5^2); the same in all {settings.seeds:,} seeds, which differ in the order of the batches"
    )
    return Result(values, _claims(values), _tables(values), [source])


def _cells(
    data: Tensor, truth: dict[str, Tensor], size: int, settings: Settings, key: Tensor, context: Context
) -> list[dict[str, Any]]:
    """The running statistics of every momentum and data set, with batches of one size."""
    per_epoch = settings.samples // size  # a last smaller batch is left out
    keys = fr.random.split(key, settings.seeds * settings.epochs).unflatten(0, (settings.seeds, -1))
    orders = vmap(vmap(lambda k: fr.random.permutation(k, settings.samples)))(keys)
    taken = data[:, orders[:, :, : per_epoch * size]].unflatten(3, (per_epoch, size))
    batches = taken.flatten(2, 3).movedim(2, 0).unsqueeze(-1)  # (steps, data, seeds, size, 1)

    def move(momentum: Tensor, stats: fr.norm.BatchStats, x: Tensor) -> fr.norm.BatchStats:
        return fr.norm.batch_norm(x, stats, train=True, momentum=momentum)[1]

    move_all = vmap(vmap(vmap(move, (None, 0, 0)), (None, 0, 0)), (0, 0, None))
    momenta = torch.tensor(settings.momenta, dtype=torch.float64, device=data.device)
    shape = (len(momenta), len(data), settings.seeds)
    first = fr.tree.cast(fr.norm.init_batch_stats(1, device=data.device), torch.float64)
    stats = fr.tree.map(lambda leaf: leaf.expand(*shape, *leaf.shape), first)
    means, variances = [], []
    for x in context.track(batches, f"batches of {size}"):
        stats = move_all(momenta, stats, x)
        means.append(stats.mean.squeeze(-1))
        variances.append(stats.var.squeeze(-1))
    # After every epoch, (momenta, data, seeds, epochs).
    mean, variance = (torch.stack(each[per_epoch - 1 :: per_epoch], dim=-1) for each in (means, variances))
    biased = batches.var(dim=3, correction=0).mean(dim=(0, 2, 3)) / truth["variance"]
    return [
        {
            "size": size,
            "momentum": momentum,
            "data": name,
            "steps": len(batches),
            "mean": curve(mean[i, j]),
            "variance": curve(variance[i, j]),
            "mean_at_end": mean[i, j, :, -1].float(),
            "variance_at_end": variance[i, j, :, -1].float(),
            "biased": float(biased[j]),
            **_predicted(float(truth["variance"][j]), momentum, size, len(batches), settings),
        }
        for i, momentum in enumerate(settings.momenta)
        for j, name in enumerate(DATA)
    ]


def _predicted(variance: float, momentum: float, size: int, steps: int, settings: Settings) -> dict[str, float]:
    """What the update rule says of the running mean after the last step.

    It is sum_i w_i (mean of batch i), w_i = m (1 - m)^(steps - i), and (1 - m)^steps of its start. Were
    batches independent its variance would tend to m / (2 - m) times that of a batch mean. But an epoch's
    batches share out one set of N samples: the mean of one has variance S^2 (1/b - 1/N), and two of an
    epoch have covariance -S^2 / N, so that they cancel.
    """
    per_epoch, n = settings.samples // size, settings.samples
    weights = momentum * (1 - momentum) ** torch.arange(steps - 1, -1, -1, dtype=torch.float64)
    squares = float((weights**2).sum())
    together = float((weights.unflatten(0, (-1, per_epoch)).sum(dim=1) ** 2).sum())
    batch = variance * (1 / size - 1 / n)
    return {
        "left": (1 - momentum) ** steps,
        "sd_independent": math.sqrt(momentum / (2 - momentum) * batch),
        "sd_shared_out": math.sqrt(squares * batch - (together - squares) * variance / n),
    }


def _claims(values: dict[str, Any]) -> list[Claim]:
    cells, seeds = values["cells"], values["seeds"]
    settled = [cell for cell in cells if cell["left"] < 0.01]
    # Biases in units of the data's own sd, and of its variance.
    off_mean = [_off(cell, values, "mean") for cell in settled]
    off_variance = [_off(cell, values, "variance") for cell in settled]
    left = [(cell, _left(cell, values)) for cell in cells]
    slowest, still = max(left, key=lambda pair: pair[0]["left"])
    forgetting = max(abs(each.mean - cell["left"]) for cell, each in left)
    return [
        Claim(
            "Running mean and variance reach the data's own, once (1 - m)^steps is below 1%",
            f"{len(settled)} of {len(cells)} settings: mean off by at most {_largest(off_mean):.1%} of the sd, "
            f"variance by {_largest(off_variance):.1%} (n = {seeds} orders)",
            every(each.within(-0.05, 0.05) for each in off_mean + off_variance),
            {"mean": [each._asdict() for each in off_mean], "variance": [each._asdict() for each in off_variance]},
        ),
        Claim(
            "A small momentum with few steps has not forgotten its start: (1 - m)^steps of it is left",
            f"momentum {slowest['momentum']:g}, batches of {slowest['size']}, {slowest['steps']} steps: {still} of the "
            f"start is left, predicted {slowest['left']:.3f}; over all settings measured and predicted differ by at "
            f"most {forgetting:.4f}",
            still.above(0.1) & (forgetting < 0.01),
            {"left": still._asdict(), "predicted": slowest["left"], "largest difference": forgetting},
        ),
        _noise_claim(values),
        *_prediction_claims(values),
        Claim(
            "Training normalises by the biased variance, (1 - 1/b) of the data's; the running one is not biased",
            "; ".join(
                f"batches of {cell['size']}: {cell['biased']:.3f}, predicted {1 - 1 / cell['size']:.3f}"
                for cell in _each_size(cells)
            )
            + f" (n = {seeds} orders)",
            all(abs(cell["biased"] - 1 + 1 / cell["size"]) < 0.01 for cell in cells),
            {f"{cell['size']}, {cell['data']}": cell["biased"] for cell in cells},
        ),
        _modes_claim(values),
    ]


def _truth(cell: dict[str, Any], values: dict[str, Any], name: str) -> float:
    return float(values["truth"][name][DATA.index(cell["data"])])


def _off(cell: dict[str, Any], values: dict[str, Any], name: str) -> Estimate:
    truth, variance = _truth(cell, values, name), _truth(cell, values, "variance")
    unit = math.sqrt(variance) if name == "mean" else variance
    return estimate(((cell[f"{name}_at_end"].double() - truth) / unit).tolist())


def _left(cell: dict[str, Any], values: dict[str, Any]) -> Estimate:
    """What is left of the running mean's start, 0, as a share of the way from the truth."""
    truth = _truth(cell, values, "mean")
    return estimate(((truth - cell["mean_at_end"].double()) / truth).tolist())


def _largest(estimates: list[Estimate]) -> float:
    return max(abs(each.mean) for each in estimates)


def _each_size(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({cell["size"]: cell for cell in reversed(cells)}.values())[::-1]


def _squares(cell: dict[str, Any]) -> Tensor:
    """Each seed's squared deviation of the last running mean; their mean is its variance over the seeds."""
    ends = cell["mean_at_end"].double()
    return (ends - ends.mean()) ** 2 * len(ends) / (len(ends) - 1)


def _noise_claim(values: dict[str, Any]) -> Claim:
    cells = values["cells"]
    by_setting = {(cell["data"], cell["momentum"], cell["size"]): cell for cell in cells}
    momenta, sizes = (sorted({cell[name] for cell in cells}) for name in ("momentum", "size"))
    pairs = [((name, momenta[-1], size), (name, momenta[0], size)) for name in DATA for size in sizes]
    pairs += [((name, momentum, sizes[0]), (name, momentum, sizes[-1])) for name in DATA for momentum in momenta]
    differences = [
        estimate((_squares(by_setting[noisy]) - _squares(by_setting[calm])).tolist()) for noisy, calm in pairs
    ]
    held = [each.low > 0 for each in differences]
    noisiest, calmest = (by_setting[DATA[0], momenta[i], sizes[j]] for i, j in ((-1, 0), (0, -1)))
    sds = [estimate(_squares(cell).tolist()).mean ** 0.5 for cell in (noisiest, calmest)]
    return Claim(
        "A larger momentum, and a smaller batch, make a noisier running mean",
        f"sd {number(sds[0])} with momentum {momenta[-1]:g} and batches of {sizes[0]}, {number(sds[1])} with "
        f"{momenta[0]:g} and {sizes[-1]} (unimodal, n = {values['seeds']}); the variance is larger in {sum(held)} of "
        f"{len(held)} comparisons of the largest and the smallest",
        every(each.above() for each in differences),
        {"variance": [each._asdict() for each in differences]},
    )


def _prediction_claims(values: dict[str, Any]) -> list[Claim]:
    claims = []
    for kind, text in (
        ("independent", "The noise is sqrt(m / (2 - m)) times the sd of a batch mean, to 20%"),
        ("shared_out", "... and it is, to 20%, when the batches of an epoch are taken as shares of one set"),
    ):
        ratios = [estimate(_squares(cell).tolist()).mean ** 0.5 / cell[f"sd_{kind}"] for cell in values["cells"]]
        claims.append(
            Claim(
                text,
                f"measured over predicted sd: {min(ratios):.2f} to {max(ratios):.2f} over {len(ratios)} settings (n = "
                f"{values['seeds']} orders)",
                all(abs(ratio - 1) < 0.2 for ratio in ratios),
                {"ratios": ratios, "n": values["seeds"]},
            )
        )
    return claims


def _modes_claim(values: dict[str, Any]) -> Claim:
    """Two modes have a mean and a variance as one has; normalising does not make them one."""
    calmest = {cell["data"]: cell for cell in values["cells"] if cell["left"] < 0.01}
    near = {}
    for name, x in zip(DATA, values["data"], strict=True):
        cell = calmest[name]
        mean, variance = (cell[f"{each}_at_end"].double().mean() for each in ("mean", "variance"))
        near[name] = float((((x - mean) / variance.sqrt()).abs() < 0.5).double().mean())
    return Claim(
        "Normalised, bimodal data stay bimodal: hardly any value is near the mean",
        f"within half an sd of 0 are {near['bimodal']:.1%} of the bimodal values, {near['unimodal']:.1%} of the "
        f"unimodal ones (n = {len(values['data'][0])})",
        near["bimodal"] < near["unimodal"] / 4,
        {**near, "n": len(values["data"][0])},
    )


def _tables(values: dict[str, Any]) -> list[Table]:
    rows = []
    for cell in values["cells"]:
        sd = estimate(_squares(cell).tolist()).mean ** 0.5
        each = [estimate(cell[f"{name}_at_end"].tolist()) for name in ("mean", "variance")]
        rows.append(
            (
                cell["data"],
                cell["momentum"],
                cell["size"],
                cell["steps"],
                *(
                    f"{e.fixed(3)} ({_truth(cell, values, n):.3f})"
                    for e, n in zip(each, ("mean", "variance"), strict=True)
                ),
                f"{_left(cell, values).mean:.3f} ({cell['left']:.3f})",
                f"{sd:.4f} ({cell['sd_independent']:.4f}; {cell['sd_shared_out']:.4f})",
            )
        )
    columns = (
        "data",
        "momentum",
        "batch size",
        "steps",
        "running mean (the data's)",
        "running variance (the data's)",
        "left of the start (predicted)",
        "sd of the mean (were batches independent; as shares)",
    )
    return [Table(f"After {values['epochs']} epochs: mean ± sd over n = {values['seeds']} orders", columns, rows)]


def figures(result: Result) -> dict[str, Figure]:
    """The curves of each data set, and the noise against its predictions."""
    values = result.values
    drawn = {name: _draw_curves(values, name) for name in DATA}
    return {**drawn, "noise": _draw_noise(values)}


def _draw_curves(values: dict[str, Any], name: str) -> Figure:
    cells = [cell for cell in values["cells"] if cell["data"] == name]
    sizes = sorted({cell["size"] for cell in cells})
    figure, axes = plots.canvas(
        2,
        len(sizes),
        height=4.8,
        sharex=True,
        sharey="row",
        caption=f"Running mean (above) and variance (below) of the {name} data, epoch by epoch (mean over "
        f"{values['seeds']} orders of the batches, band: one sd); the dotted line is the data's own. They start at 0 "
        "and 1.",
    )
    for row, kind in zip(axes, ("mean", "variance"), strict=True):
        for axis, size in zip(row, sizes, strict=True):
            for i, cell in enumerate(each for each in cells if each["size"] == size):
                epochs = range(1, values["epochs"] + 1)
                plots.band(axis, epochs, cell[kind], f"momentum {cell['momentum']:g}", i)
            axis.axhline(values["truth"][kind][DATA.index(name)], color=plots.BLACK, linewidth=1, linestyle=":")
        row[0].set_ylabel(f"running {kind}")
        row[0].set_ylim(0, None)
    for axis, size in zip(axes[0], sizes, strict=True):
        axis.set_title(f"batches of {size}", fontsize=11)
    for axis in axes[1]:
        axis.set_xlabel("epoch")
        plots.counting(axis.xaxis)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _draw_noise(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        sharey=True,
        sharex=True,
        height=4.0,
        caption="The sd of the last running mean over the orders of the batches against two predictions: a mark for "
        f"each momentum, batch size and data set (n = {values['seeds']} orders); on the line they agree. Shuffled "
        "epochs are less noisy than independent batches, since the batches of an epoch share out one set.",
    )
    sizes = sorted({cell["size"] for cell in values["cells"]})
    titles = (("sd_independent", "independent batches"), ("sd_shared_out", "shares of one set"))
    for axis, (kind, title) in zip(axes[0], titles, strict=True):
        for i, size in enumerate(sizes):
            cells = [cell for cell in values["cells"] if cell["size"] == size]
            measured = [
                estimate(_squares({"mean_at_end": torch.tensor(c["mean_at_end"])}).tolist()).mean ** 0.5 for c in cells
            ]
            axis.plot(
                [c[kind] for c in cells], measured, "o^sD"[i % 4], color=plots.PALETTE[i], label=f"batches of {size}"
            )
        axis.axline((0.01, 0.01), (0.1, 0.1), color="#999999", linewidth=1)
        axis.set(xscale="log", yscale="log", xlabel="predicted sd")
        axis.set_title(title)
    axes[0, 0].set_ylabel("measured sd")
    axes[0, 0].legend(loc="upper left")
    return figure
