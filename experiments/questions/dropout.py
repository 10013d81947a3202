"""What does dropout do to a number, to a layer's statistics, and on either side of a nonlinearity?

Part: A
Command: python -m experiments run dropout
Runtime: smoke 1 s, quick 5 s, full 37 s (2 CPU cores)
Answer: keeps the mean (chi-square p of at least 0.05 at three rates, n = 1,024 inputs x 1,000 draws) and adds a
    variance of p / (1 - p) x^2, with F.dropout's distribution; commutes with ReLU exactly, not with the sigmoid
    (mean difference 0.50). Through 16 SELU layers alpha dropout keeps the variance at 0.998 ± 0.005, dropout lets it
    grow to 1.59 ± 0.02 (n = 16 seeds).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor
from torch.func import vmap

import funcreg as fr

from ..harness.context import Context
from ..report import plots
from ..report.estimates import estimate, number
from ..report.result import Claim, Result, Table

# A check of statistics fails by chance once in 1,000 times that its claim is true.
LEVEL = 0.001
Draw = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Settings:
    """`elements` inputs, `draws` masks of each; SELU networks of `depth` layers of `width` units."""

    rates: tuple[float, ...] = (0.25, 0.5, 0.75)
    elements: int = 1024
    draws: int = 1000
    seeds: int = 16
    width: int = 512
    depth: int = 16
    selu_rate: float = 0.1


PRESETS = {
    "smoke": Settings(elements=256, draws=300, seeds=3, width=256, depth=8),
    "quick": Settings(),
    "full": Settings(elements=4096, draws=10_000, seeds=64),
}


def main(settings: Settings, context: Context) -> Result:
    """Check dropout's moments, its parity with torch's, what it commutes with, and its relatives."""
    moments_key, torch_key, heat_key, commute_key, variants_key, selu_key = context.keys(6)
    moments = [_moments(rate, settings, fr.random.fold_in(moments_key, i)) for i, rate in enumerate(settings.rates)]
    parity = [_parity(rate, settings, fr.random.fold_in(torch_key, i)) for i, rate in enumerate(settings.rates)]
    commute = _commute(settings, commute_key)
    variants = _variants(settings, variants_key)
    selu = _selu(settings, selu_key)
    values = {
        "moments": moments,
        "parity": parity,
        "heatmaps": _heatmaps(settings, heat_key),
        "commute": commute,
        "variants": variants,
        "selu": selu,
        "draws": settings.draws,
        "selu_rate": settings.selu_rate,
    }
    tables = [
        Table(
            f"Moments of {settings.draws:,} draws of each of {settings.elements:,} inputs",
            ("rate p", "mean: sum of z^2 / n", "its p-value", "variance / x^2", "p / (1 - p)", "z of the difference"),
            [
                (m["rate"], m["chi2"], m["p_value"], m["variance"], m["rate"] / (1 - m["rate"]), m["variance_z"])
                for m in moments
            ],
        ),
        Table(
            f"The family at rate {_RATE}: features (64, 16, 8, 8), {settings.draws // 5:,} draws",
            ("function", "one draw for", "share of zeros", "z of the mean", "variance / x^2"),
            [(v["name"], v["unit"], v["zeros"], v["z"], v["variance"]) for v in variants["rows"]],
        ),
    ]
    return Result(values, _claims(moments, parity, commute, variants, selu, settings), tables, ["generated numbers"])


def _moments(rate: float, settings: Settings, key: Tensor) -> dict[str, Any]:
    x_key, key = fr.random.split(key)
    x = fr.random.normal(x_key, (settings.elements,), dtype=torch.float64)
    drawn = _draw(lambda k: fr.noise.dropout(x, rate, key=k), key, settings.draws)
    z = (drawn.mean(0) - x) / (x.abs() * (rate / (1 - rate) / settings.draws) ** 0.5)
    chi2 = float((z**2).sum())
    tail = float(stats.chi2.sf(chi2, settings.elements))
    ratio = drawn.var(0) / x**2
    spread = float(ratio.std()) / settings.elements**0.5
    counts = torch.histc(z, bins=33, min=-4.125, max=4.125)
    return {
        "rate": rate,
        "chi2": chi2 / settings.elements,
        "p_value": 2 * min(tail, 1 - tail),
        "within": float((z.abs() < 1.96).double().mean()),
        "variance": float(ratio.mean()),
        "variance_z": (float(ratio.mean()) - rate / (1 - rate)) / spread,
        "histogram": counts,
    }


def _parity(rate: float, settings: Settings, key: Tensor) -> dict[str, float]:
    """Sums of whole draws, ours and torch's, as two samples of one distribution."""
    x_key, key, seed_key = fr.random.split(key, 3)
    x = fr.random.normal(x_key, (settings.elements,), dtype=torch.float64)
    ours = _draw(lambda k: fr.noise.dropout(x, rate, key=k), key, settings.draws)
    with torch.random.fork_rng():
        torch.manual_seed(int(fr.random.bits(seed_key, 1)))
        theirs = F.dropout(x.expand(settings.draws, -1), rate)
    test: Any = stats.ks_2samp(ours.sum(1).tolist(), theirs.sum(1).tolist())
    kept = x / (1 - rate)
    error = max(float(torch.where(out == 0, 0.0, out - kept).abs().max()) for out in (ours, theirs))
    return {
        "rate": rate,
        "p_value": float(test.pvalue),
        "kept": float((ours != 0).double().mean()),
        "kept_torch": float((theirs != 0).double().mean()),
        "value_error": error,
    }


def _heatmaps(settings: Settings, key: Tensor) -> dict[str, Any]:
    x_key, mask_key = fr.random.split(key)
    x = fr.random.normal(x_key, (8, 12))
    outputs = [fr.noise.dropout(x, rate, key=mask_key) for rate in settings.rates]
    return {"x": x, "rates": settings.rates, "outputs": outputs}


def _commute(settings: Settings, key: Tensor) -> dict[str, Any]:
    x_key, mask_key = fr.random.split(key)
    x = fr.random.normal(x_key, (settings.elements,))

    def dropped(value: Tensor) -> Tensor:
        return fr.noise.dropout(value, 0.5, key=mask_key)

    result: dict[str, Any] = {}
    for name, function in (("ReLU", F.relu), ("sigmoid", torch.sigmoid)):
        before, after = function(dropped(x)), dropped(function(x))
        difference = (before - after).abs()
        result[name] = {
            "largest": float(difference.max()),
            "mean": float(difference.mean()),
            "before": before[:200],
            "after": after[:200],
        }
    return result


_RATE = 0.3  # of the variants
_FAMILY: tuple[tuple[str, str, Callable[..., Tensor]], ...] = (
    ("dropout", "each element", fr.noise.dropout),
    ("channel_dropout", "each channel of a sample", fr.noise.channel_dropout),
    ("drop_path", "each sample", fr.noise.drop_path),
    ("drop_block", "each block of 3x3", lambda x, rate, *, key: fr.noise.drop_block(x, rate, key=key, block_size=3)),
    ("gaussian_dropout", "each element", fr.noise.gaussian_dropout),
    ("alpha_dropout", "each element", fr.noise.alpha_dropout),
)


def _variants(settings: Settings, key: Tensor) -> dict[str, Any]:
    """Each relative's mean (it should be the input), its zeros and its variance, on one batch of features."""
    x_key, connect_key, key = fr.random.split(key, 3)
    x = fr.random.normal(x_key, (64, 16, 8, 8))
    rows, pictures = [], {"x": x[:3, :3]}
    draws = settings.draws // 5
    for i, (name, unit, function) in enumerate(_FAMILY):
        keys = fr.random.split(fr.random.fold_in(key, i), draws)
        total, squares, zeros = torch.zeros_like(x), torch.zeros_like(x), 0.0
        samples = []
        for each in keys:  # one after the other: a batch of them all would take gigabytes
            out = function(x, _RATE, key=each)
            total, squares, zeros = total + out, squares + (out - x) ** 2, zeros + float((out == 0).float().mean())
            samples.append(float((out * x).sum() / (x * x).sum()))
        pictures[name] = function(x, _RATE, key=keys[0])[:3, :3]
        along = estimate(samples)  # the slope of the output on the input, 1 when the mean is kept
        z = (along.mean - 1) / (along.sd / along.n**0.5)
        rows.append(
            {"name": name, "unit": unit, "zeros": zeros / draws, "slope": along.mean, "z": z}
            | {"variance": float((squares / draws).sum() / (x * x).sum())}
        )
    pictures["gaussian_noise"] = fr.noise.gaussian_noise(x, _RATE, key=fr.random.fold_in(key, len(_FAMILY)))[:3, :3]
    rows.append(_connect(draws, connect_key))
    return {"rows": rows, "pictures": pictures, "rate": _RATE}


def _connect(draws: int, key: Tensor) -> dict[str, Any]:
    """DropConnect drops weights: a linear layer's output keeps its mean, its biases stay."""
    weight_key, x_key, key = fr.random.split(key, 3)
    params = {"weight": fr.random.normal(weight_key, (32, 64)) / 8, "bias": torch.ones(32)}
    x = fr.random.normal(x_key, (128, 64))

    def output(k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        noisy = fr.noise.drop_connect(params, _RATE, key=k, mask=fr.tree.is_weight)
        return x @ noisy["weight"].T, noisy["weight"] == 0, noisy["bias"]

    outputs, zeros, biases = vmap(output)(fr.random.split(key, draws))
    clean = x @ params["weight"].T
    along = estimate(((outputs * clean).sum((1, 2)) / (clean * clean).sum()).tolist())
    return {
        "name": "drop_connect",
        "unit": "each weight",
        "zeros": float(zeros.float().mean()),
        "slope": along.mean,
        "z": (along.mean - 1) / (along.sd / along.n**0.5),
        "variance": float(((outputs - clean) ** 2).mean() / (clean * clean).mean()),
        "biases_kept": bool((biases == 1).all()),
    }


def _selu(settings: Settings, key: Tensor) -> dict[str, Any]:
    """Mean and variance after each layer of SELU networks: no noise, alpha dropout, dropout."""
    kinds = {"none": None, "alpha_dropout": fr.noise.alpha_dropout, "dropout": fr.noise.dropout}

    def network(k: Tensor, noise: Callable[..., Tensor] | None) -> tuple[Tensor, Tensor]:
        x_key, *layer_keys = fr.random.split(k, settings.depth + 1)
        h = fr.random.normal(x_key, (256, settings.width))
        means, variances = [], []
        for each in layer_keys:
            weight_key, noise_key = fr.random.split(each)
            weight = fr.random.normal(weight_key, (settings.width, settings.width)) / settings.width**0.5
            h = F.selu(h @ weight)
            h = h if noise is None else noise(h, settings.selu_rate, key=noise_key)
            means.append(h.mean())
            variances.append(h.var())
        return torch.stack(means), torch.stack(variances)

    keys = fr.random.split(key, settings.seeds)
    result: dict[str, Any] = {}
    for name, noise in kinds.items():
        means, variances = zip(*(network(k, noise) for k in keys), strict=True)
        result[name] = {"mean": torch.stack(means), "variance": torch.stack(variances)}
    return result


def _draw(function: Draw, key: Tensor, draws: int) -> Tensor:
    return vmap(function)(fr.random.split(key, draws))


def _claims(
    moments: list[dict[str, Any]],
    parity: list[dict[str, float]],
    commute: dict[str, Any],
    variants: dict[str, Any],
    selu: dict[str, Any],
    settings: Settings,
) -> list[Claim]:
    rates = ", ".join(f"{rate:g}" for rate in settings.rates)
    smallest = min(m["p_value"] for m in moments)
    largest = max(abs(m["variance_z"]) for m in moments)
    limit = float(stats.norm.isf(LEVEL / 2))
    ks = min(p["p_value"] for p in parity)
    off = max(abs(row["z"]) for row in variants["rows"] if row["name"] != "alpha_dropout")
    alpha = {name: estimate(selu["alpha_dropout"][name][:, -1].tolist()) for name in ("mean", "variance")}
    plain = {name: estimate(selu["dropout"][name][:, -1].tolist()) for name in ("mean", "variance")}
    kept = alpha["mean"].within(-0.1, 0.1) & alpha["variance"].within(0.9, 1.1)
    drifted = max(abs(plain["mean"].mean), abs(plain["variance"].mean - 1)) > max(
        abs(alpha["mean"].mean), abs(alpha["variance"].mean - 1)
    )
    within = ", ".join(f"{100 * m['within']:.1f}%" for m in moments)
    return [
        Claim(
            f"The mean of {settings.draws:,} draws is the input, within its standard error",
            f"{within} of {settings.elements:,} inputs within 1.96 standard errors at p = {rates} (95% expected); "
            f"chi-square p-values of at least {number(smallest)}",
            smallest > LEVEL,
            {"p_values": [m["p_value"] for m in moments], "n": settings.elements},
        ),
        Claim(
            "The variance of a dropped input is p / (1 - p) x^2",
            "variance / x^2 = "
            + ", ".join(f"{m['variance']:.3f} (expected {m['rate'] / (1 - m['rate']):.3f})" for m in moments)
            + f"; largest |z| {number(largest)}",
            largest < limit,
            {"z": [m["variance_z"] for m in moments], "limit": limit},
        ),
        Claim(
            "The outputs have the distribution of F.dropout's",
            f"Kolmogorov-Smirnov p-values of at least {number(ks)} at p = {rates} (n = {settings.draws:,} each); "
            f"every output is 0 or x / (1 - p) to {max(p['value_error'] for p in parity):.1g}",
            ks > LEVEL and max(p["value_error"] for p in parity) < 1e-12,
            {"p_values": [p["p_value"] for p in parity]},
        ),
        Claim(
            "ReLU commutes with dropout",
            f"largest difference {commute['ReLU']['largest']:.1g} over {settings.elements:,} inputs",
            commute["ReLU"]["largest"] == 0.0,
            {"largest": commute["ReLU"]["largest"]},
        ),
        Claim(
            "The sigmoid does not: it makes 1/2 of a dropped unit, and saturates what was scaled up",
            f"largest difference {number(commute['sigmoid']['largest'])}, mean {number(commute['sigmoid']['mean'])}",
            commute["sigmoid"]["mean"] > 0.1,
            {name: commute["sigmoid"][name] for name in ("largest", "mean")},
        ),
        Claim(
            "Channel, path, block, Gaussian dropout and DropConnect keep the mean too",
            f"largest |z| of the mean {number(off)} over {len(variants['rows']) - 1} functions at rate {_RATE}",
            off < limit,
            {row["name"]: row["z"] for row in variants["rows"]},
        ),
        Claim(
            f"Alpha dropout keeps mean 0 and variance 1, to 0.1, through {settings.depth} SELU layers",
            f"after the last layer, mean {alpha['mean']}; variance {alpha['variance']}",
            kept,
            {name: each._asdict() for name, each in alpha.items()},
        ),
        Claim(
            "Plain dropout in its place drifts further from them",
            f"after the last layer, mean {plain['mean']}; variance {plain['variance']}",
            drifted,
            {name: each._asdict() for name, each in plain.items()},
        ),
    ]


def figures(result: Result) -> dict[str, Figure]:
    """Heatmaps, moments, commutation, the family, and SELU's statistics by layer."""
    values = result.values
    return {
        "heatmaps": _draw_heatmaps(values["heatmaps"]),
        "moments": _draw_moments(values["moments"], values["draws"]),
        "commute": _draw_commute(values["commute"]),
        "family": _draw_family(values["variants"]),
        "selu": _draw_selu(values["selu"], values["selu_rate"]),
    }


def _draw_heatmaps(heat: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        len(heat["rates"]),
        3,
        height=1.75 * len(heat["rates"]) + 0.6,
        caption="Inverted dropout of an 8x12 input: what is kept (dark in the mask) is scaled up by 1 / (1 - p). "
        "One key for the three rates: what the lower rate drops, the higher one drops too.",
    )
    x = torch.tensor(heat["x"])
    limit = 6.0
    shown: Any = None
    for row, (rate, output) in enumerate(zip(heat["rates"], heat["outputs"], strict=True)):
        out = torch.tensor(output)
        colours = {"cmap": plots.DIVERGING, "vmin": -limit, "vmax": limit}
        shown = plots.picture(axes[row, 0], x, f"x (p = {rate:g})", **colours)
        plots.picture(axes[row, 1], out != 0, f"mask: {100 * float((out != 0).float().mean()):.0f}% kept", cmap="Greys")
        plots.picture(axes[row, 2], out, f"output = x · mask / {1 - rate:g}", **colours)
    figure.colorbar(shown, ax=axes[:, :], label="value (no unit)", extend="both", shrink=0.7, aspect=30)
    return figure


def _draw_moments(moments: list[dict[str, Any]], draws: int) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        caption=f"Left: the error of the mean of {draws:,} draws in standard errors follows the standard normal "
        "(grey). Right: the variance of the output, on the curve p / (1 - p).",
    )
    centres = torch.linspace(-4, 4, 33)
    left, right = axes[0]
    left.fill_between(centres, stats.norm.pdf(centres), color="#bbbbbb", alpha=0.5, linewidth=0, label="N(0, 1)")
    for i, m in enumerate(moments):
        density = torch.tensor(m["histogram"])
        left.plot(
            centres,
            density / density.sum() / 0.25,
            color=plots.PALETTE[i],
            linestyle=plots.LINES[i],
            label=f"p = {m['rate']:g}",
        )
        right.plot(m["rate"], m["variance"], "o", color=plots.PALETTE[i], markersize=9, zorder=3)
    left.set(xlabel="(mean - x) / standard error", ylabel="density", title="Mean")
    left.set_ylim(0, 0.62)
    left.legend(ncols=2, loc="upper center")
    p = torch.linspace(0, 0.8, 81)
    right.plot(p, p / (1 - p), color=plots.BLACK, linewidth=1.2, label="p / (1 - p)")
    right.set(xlabel="rate p", ylabel="variance / x² (measured: dots)", title="Variance")
    right.legend()
    return figure


def _draw_commute(commute: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        height=3.8,
        caption="The same mask before and after a nonlinearity (200 inputs, p = 0.5). On the diagonal the two "
        "agree: ReLU, of zero and of a scaled input, is the scaled ReLU; the sigmoid of zero is 1/2.",
    )
    for axis, name, color in zip(axes[0], ("ReLU", "sigmoid"), plots.PALETTE, strict=False):
        before, after = commute[name]["before"], commute[name]["after"]
        top = max(*before, *after) * 1.05
        axis.plot([0, top], [0, top], color="#999999", linewidth=1)
        axis.plot(before, after, "o", color=color, alpha=0.5, markersize=5, markeredgewidth=0)
        axis.set(xlabel=f"{name}(dropout(x))", ylabel=f"dropout({name}(x))", title=name)
    return figure


def _draw_family(variants: dict[str, Any]) -> Figure:
    names = ["x", *(name for name, _, _ in _FAMILY), "gaussian_noise"]
    figure, axes = plots.canvas(
        2,
        4,
        height=4.4,
        caption=f"The family at rate {variants['rate']:g}, on three samples (rows) of three channels (columns) of 8x8. "
        "White is zero: elements, channels, samples or blocks. Gaussian noise zeroes nothing; alpha dropout moves "
        "what it drops to a negative value; gaussian_noise adds.",
    )
    shown: Any = None
    for axis, name in zip(axes.flat, names, strict=False):
        maps = torch.tensor(variants["pictures"][name])
        framed = F.pad(maps, (0, 1, 0, 1), value=float("nan"))
        tiled = framed.permute(0, 2, 1, 3).reshape(27, 27)[:-1, :-1]
        shown = plots.picture(axis, tiled, name, cmap=plots.DIVERGING, vmin=-4, vmax=4)
        axis.set_facecolor("#333333")
    figure.colorbar(shown, ax=axes[:, :], label="value (no unit)", shrink=0.7, aspect=25)
    return figure


def _draw_selu(selu: dict[str, Any], rate: float) -> Figure:
    seeds = len(selu["none"]["mean"])
    figure, axes = plots.canvas(
        1,
        2,
        caption=f"Activations of SELU networks by layer, noise of rate {rate:g} after each (mean over {seeds} seeds, "
        "band: one sd). Alpha dropout stays where no noise is; dropout drifts.",
    )
    for axis, name, target in zip(axes[0], ("mean", "variance"), (0, 1), strict=True):
        axis.axhline(target, color="#999999", linewidth=1)
        for i, (kind, label) in enumerate(
            {"none": "no noise", "alpha_dropout": "alpha dropout", "dropout": "dropout"}.items()
        ):
            members = selu[kind][name]
            plots.band(axis, range(1, len(members[0]) + 1), members, label, i)
        plots.counting(axis.xaxis)
        axis.set(xlabel="layer", ylabel=f"{name} of the activations", title=name.capitalize())
    axes[0, 0].legend()
    return figure
