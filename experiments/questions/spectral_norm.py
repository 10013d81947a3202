"""Does spectral normalisation keep every layer's norm at 1, and what does that say of the Lipschitz constant?

Part: A
Command: python -m experiments run spectral-norm
Runtime: smoke 2 s, quick 25 s of one core; full is for a GPU
Answer: no. With one power step a forward a layer is above 1.0001 in 89.5 ± 11.9% of the steps, up to 1.70 (n = 5
    seeds; evaluated after the step 97.4%, up to 1.82), with 20 steps still in 22.9%, up to 1.08; only the exact
    projection stays at 1. The Lipschitz ratio was at most 60% of the product of the norms: 0.31 with one step, 1.2
    without. Gradient ascent finds larger ratios than 10,000 random perturbations, by 2.7% (95% 1.0 to 4.5).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import vmap

import funcreg as fr

from ..data import ring, ring_centres
from ..harness.context import Context
from ..parts.networks import mlp
from ..report import plots
from ..report.claims import is_larger
from ..report.estimates import curve, estimate, number
from ..report.result import Claim, Result, Table


@dataclass(frozen=True)
class Settings:
    """A GAN on a ring of eight Gaussians: MLPs with `width` hidden units, `seeds` at a time; see `_arms`."""

    seeds: int = 5
    width: int = 64
    hidden_layers: int = 3
    latent: int = 4
    points: int = 4_800
    epochs: int = 4
    batch_size: int = 128
    learning_rate: float = 2e-3
    more_steps: int = 20
    perturbations: int = 10_000
    climbs: int = 200
    climb_steps: int = 50
    tolerance: float = 1e-4
    jit: bool = False


PRESETS = {
    "smoke": Settings(
        seeds=2,
        width=16,
        hidden_layers=2,
        points=448,
        epochs=2,
        batch_size=32,
        perturbations=1_000,
        climbs=50,
        climb_steps=20,
        more_steps=10,
    ),
    "quick": Settings(),
    "full": Settings(seeds=16, width=128, points=128_000, climbs=2_000, climb_steps=200, jit=True),
}
PLAIN, ONE, BALL = "without", "1 power step", "projection"
RADIUS = 0.2  # how far gradient ascent may move a pair of points, in all four coordinates


def main(settings: Settings, context: Context) -> Result:
    """Train every arm's seeds as the members of one fit, with each layer's norm at every step; then its slopes."""
    data_key, start_key, fit_key, slope_key, sample_key = context.keys(5)
    points = ring(data_key, settings.points)
    arms = {}
    for name, steps in context.track(_arms(settings).items(), "arm"):
        gan = _Gan(settings, steps, projected=name == BALL)
        trained, metrics = _train(gan, points, settings, start_key, fit_key, context)
        arms[name] = {
            **_norms(gan, metrics, settings),
            **_slopes(gan, trained, settings, slope_key),
            **_samples(gan, trained, settings, sample_key),
        }
    values = {
        "arms": arms,
        "seeds": settings.seeds,
        "layers": [f"{i}: {inputs}→{outputs}" for i, (inputs, outputs) in enumerate(pairwise(_widths(settings)), 1)],
        "more_steps": settings.more_steps,
        "tolerance": settings.tolerance,
        "data": points[:200].mul(100).round().div(100),
    }
    source = f"generated: {settings.points:,} points of a ring of 8 Gaussians (radius 2, sd 0.1)"
    return Result(values, _claims(values, settings), _tables(values), [source])


def _arms(settings: Settings) -> dict[str, int]:
    """Power steps a forward; none, too, where the weights themselves are projected after each step."""
    return {PLAIN: 0, ONE: 1, f"{settings.more_steps} power steps": settings.more_steps, BALL: 0}


def _widths(settings: Settings) -> tuple[int, ...]:
    """Of the discriminator."""
    return (2, *(settings.width,) * settings.hidden_layers, 1)


class _Gan:
    """Both networks as pure functions, and the one loss that is both games."""

    def __init__(self, settings: Settings, steps: int, *, projected: bool) -> None:
        widths = _widths(settings)
        self.steps, self.projected, self.latent = steps, projected, settings.latent
        self.names = [str(1 + 2 * layer) for layer in range(len(widths) - 1)]
        self.generator = fr.from_module(lambda: mlp(settings.latent, settings.width, settings.width, 2))
        self.discriminator = fr.from_module(lambda: self._normalised(mlp(*widths, activation=_leaky)))

    def _normalised(self, network: nn.Sequential) -> nn.Sequential:
        # After all weights are drawn: one seed has the same in every arm.
        if self.steps:
            for layer in network:
                if isinstance(layer, nn.Linear):
                    nn.utils.parametrizations.spectral_norm(layer, n_power_iterations=self.steps)
        return network

    def start(self, key: Tensor) -> tuple[Any, Any]:
        """Parameters and state of one member."""
        g_key, d_key = fr.random.split(key)
        g, g_state = self.generator.init(g_key)
        d, d_state = self.discriminator.init(d_key)
        return self.constrain({"g": g, "d": d}, None), {"g": g_state, "d": d_state}

    def constrain(self, params: Any, hparams: Any) -> Any:
        """The projection of the discriminator's weights, where this arm has it."""
        return {**params, "d": fr.constraints.spectral_ball(params["d"])} if self.projected else params

    def weights(self, params: Any, state: Any, steps: int) -> list[Tensor]:
        """The discriminator's weights as a forward after so many power steps takes them."""
        if not self.steps:
            return [params["d"][f"{name}.weight"] for name in self.names]
        found = []
        for name in self.names:
            at = f"{name}.parametrizations.weight"
            vectors = fr.norm.SpectralState(state["d"][f"{at}.0._u"], state["d"][f"{at}.0._v"])
            found.append(fr.norm.spectral_norm(params["d"][f"{at}.original"], vectors, steps=steps)[0])
        return found

    def norms(self, params: Any, state: Any) -> dict[str, Tensor]:
        """Each layer's largest singular value: in the forward in training to come, and as evaluation has it now."""
        found = {}
        for kind, steps in (("forward", self.steps), ("evaluation", 0)):
            for i, weight in enumerate(self.weights(params, state, steps)):
                found[f"{kind}{i}"] = torch.linalg.svdvals(weight.detach())[0]
        return found

    def loss(self, params: Any, state: Any, batch: Tensor, *, key: Tensor, hparams: Any) -> Any:
        """The sum of both games' losses: each is a constant to the other's parameters."""
        fake = self.generate(params, state, key, len(batch))
        both = torch.cat((batch, fake.detach()))
        real = torch.arange(len(both), device=both.device) < len(batch)
        scores, d_state = self.discriminator.apply(params["d"], state["d"], both, key=key, train=True)
        d_loss = fr.losses.binary_cross_entropy(scores[:, 0], real)
        # The same weights again: evaluation takes no power step of its own.
        fixed = fr.tree.map(lambda leaf: leaf.detach(), params["d"])
        fooled = self.discriminator.apply(fixed, d_state, fake)[0][:, 0]
        g_loss = fr.losses.binary_cross_entropy(fooled, torch.ones_like(fooled))
        metrics = {"d_loss": d_loss, "g_loss": g_loss, **self.norms(params, state)}
        return d_loss + g_loss, ({"g": state["g"], "d": d_state}, metrics)

    def generate(self, params: Any, state: Any, key: Tensor, n: int) -> Tensor:
        """Points of the generator, (n, 2)."""
        return self.generator.apply(params["g"], state["g"], fr.random.normal(key, (n, self.latent)))[0]


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)  # 1-Lipschitz, so that the layers' norms bound the network's


def _train(
    gan: _Gan, points: Tensor, settings: Settings, start_key: Tensor, fit_key: Tensor, context: Context
) -> tuple[tuple[Any, Any], dict[str, Tensor]]:
    """All seeds' parameters and state after training; every step's own metrics, (steps, seeds)."""
    init_key, train_key = fr.random.split(start_key)
    members = [gan.start(key) for key in fr.random.split(init_key, settings.seeds)]
    params, state = fr.tree.to(fr.tree.stack(members), context.device)
    optimizer = fr.optim.adam(settings.learning_rate, b1=0.5)
    epochs: list[dict[str, Tensor]] = []
    result = context.fit(
        fr.train.make_step(gan.loss, optimizer, constraint=gan.constrain if gan.projected else None),
        fr.train.init(params, state, optimizer, key=train_key, members=settings.seeds),
        points,
        key=fit_key,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        members=settings.seeds,
        jit=settings.jit,
        on_epoch=lambda epoch: epochs.append(epoch.steps),
    )
    metrics = {name: torch.cat([each[name] for each in epochs]) for name in epochs[0]}
    return (result.train_state.params, result.train_state.state), metrics


def _norms(gan: _Gan, metrics: dict[str, Tensor], settings: Settings) -> dict[str, Any]:
    """Of each layer the norm's course; of each seed the share of steps with a layer above 1, and the largest norm."""
    found: dict[str, Any] = {}
    every = max(1, len(metrics["loss"]) // 100)
    for kind in ("forward", "evaluation"):
        # The first is the start's, before any step.
        series = torch.stack([metrics[f"{kind}{i}"] for i in range(len(gan.names))])[:, 1:]  # (layers, steps, seeds)
        above = series.amax(dim=0) > 1 + settings.tolerance
        found[kind] = {
            "share": above.double().mean(dim=0),
            "largest": series.amax(dim=(0, 1)),
            "largest_by_layer": series.amax(dim=(1, 2)),
        }
        if kind == "forward":
            found["steps"] = list(range(1, series.shape[1] + 1))[::every]
            found["curves"] = [curve(layer[::every].T) for layer in series]
    return found


def _slopes(gan: _Gan, trained: tuple[Any, Any], settings: Settings, key: Tensor) -> dict[str, Any]:
    """The largest |D(a) - D(b)| / |a - b| of each seed, in float64: of random pairs, and by gradient ascent."""
    params, state = fr.tree.cast(trained, torch.float64)
    at_key, change_key, climb_key = fr.random.split(key, 3)
    at = fr.random.uniform(at_key, (settings.perturbations, 2), low=-3.0, high=3.0, dtype=torch.float64)
    change = fr.random.normal(change_key, (settings.perturbations, 2), std=0.1, dtype=torch.float64)
    pairs = torch.cat((at, at + change), dim=1)

    def measure(params: Any, state: Any) -> dict[str, Tensor]:
        def slope(pairs: Tensor) -> Tensor:
            a, b = pairs.split(2, dim=1)
            scores = [gan.discriminator.apply(params["d"], state["d"], x)[0][:, 0] for x in (a, b)]
            return (scores[0] - scores[1]).abs() / (a - b).norm(dim=1)

        random = slope(pairs)
        steepest = pairs[random.topk(settings.climbs).indices]
        climb = {"key": climb_key, "steps": settings.climb_steps, "norm": "l2", "low": None, "high": None}
        top = fr.adversarial.pgd(slope, steepest, RADIUS, **climb)
        norms = [torch.linalg.svdvals(weight)[0] for weight in gan.weights(params, state, 0)]
        return {
            "random": random.max(),
            "ascent": slope(top).max(),
            "product": torch.stack(norms).prod(),
        }

    return {"slopes": vmap(measure)(params, state)}


def _samples(gan: _Gan, trained: tuple[Any, Any], settings: Settings, key: Tensor) -> dict[str, Any]:
    """Points of every seed's generator: how many modes have one in fifty of them, and how many lie near one."""
    x = vmap(lambda params, state: gan.generate(params, state, key, 1_000))(*trained)
    distance = torch.cdist(x, ring_centres().to(x.device).expand(len(x), -1, -1))
    near = distance.min(dim=2).values < 0.4  # four standard deviations
    hits = (torch.nn.functional.one_hot(distance.argmin(dim=2), 8) * near.unsqueeze(-1)).sum(dim=1)
    return {
        "modes": (hits >= 20).sum(dim=1),
        "near": near.double().mean(dim=1),
        "points": x[0, :200].mul(100).round().div(100),
    }


def _claims(values: dict[str, Any], settings: Settings) -> list[Claim]:
    return [*_norm_claims(values, settings), *_slope_claims(values)]


def _norm_claims(values: dict[str, Any], settings: Settings) -> list[Claim]:
    more, limit, seeds = f"{settings.more_steps} power steps", 1 + settings.tolerance, values["seeds"]
    claims = []
    for text, arm, kind in (
        ("Textbooks: with one power step a forward the norm of every layer stays at most 1", ONE, "forward"),
        ("... and so it does when evaluated after a step, with the vectors from before it", ONE, "evaluation"),
        (f"{settings.more_steps} power steps a forward make it true, to {settings.tolerance:g}", more, "forward"),
        (f"... when evaluated after a step too, to {settings.tolerance:g}", more, "evaluation"),
        ("The exact projection after each step makes it true, to 1e-5", BALL, "evaluation"),
    ):
        found = values["arms"][arm][kind]
        share, largest = estimate((100 * found["share"]).tolist()), float(found["largest"].max())
        steps = settings.epochs * (settings.points // settings.batch_size) - 1
        claims.append(
            Claim(
                text,
                f"a layer above {limit:g} in {share.fixed(1)}% of {steps} steps (n = {seeds}), "
                f"largest norm {largest:.7g}",
                largest <= (1 + 1e-5 if arm == BALL else limit),
                {"share": share._asdict(), "largest": found["largest"]},
            )
        )
    return claims


def _slope_claims(values: dict[str, Any]) -> list[Claim]:
    slopes = {name: arm["slopes"] for name, arm in values["arms"].items()}
    ratios = {name: torch.maximum(each["random"], each["ascent"]) / each["product"] for name, each in slopes.items()}
    highest = max(float(ratio.max()) for ratio in ratios.values())
    # Arms of one seed share its start: their mean is one observation.
    gain = estimate(torch.stack([each["ascent"] / each["random"] - 1 for each in slopes.values()]).mean(dim=0).tolist())
    plain, normalised = (slopes[name]["product"] for name in (PLAIN, ONE))
    one = torch.maximum(slopes[ONE]["random"], slopes[ONE]["ascent"])
    of_product = ", ".join(f"{100 * float(ratio.mean()):.0f}% {name}" for name, ratio in ratios.items())
    return [
        Claim(
            "The Lipschitz ratio never exceeds the product of the layers' norms, with or without normalisation",
            f"largest ratio found is at most {100 * highest:.4g}% of the product (means: {of_product}; "
            f"n = {values['seeds']} each)",
            highest <= 1 + 1e-9,
            {"highest": highest, "share": {name: estimate(ratio.tolist())._asdict() for name, ratio in ratios.items()}},
        ),
        Claim(
            "Gradient ascent from the steepest random perturbations finds larger ratios than these",
            f"larger by a share of {gain}, mean over the arms",
            gain.above(),
            gain._asdict(),
        ),
        is_larger(
            "Without normalisation the product of the norms is larger than with one power step a forward",
            *(plain.log(), normalised.log()),
            f"{number(float(plain.mean()))} without, {number(float(normalised.mean()))} with; difference of logarithms "
            "{difference}",
            under="",
        ),
        Claim(
            "With one power step the discriminator as a whole is 1-Lipschitz all the same: no ratio above 1 is found",
            f"largest ratio found {estimate(one.tolist())}, largest {float(one.max()):.4g}; "
            f"product of the norms {estimate(normalised.tolist())}",
            float(one.max()) <= 1,
            {"ratio": estimate(one.tolist())._asdict(), "each": one},
        ),
    ]


def _tables(values: dict[str, Any]) -> list[Table]:
    norms, ends = [], []
    for name, arm in values["arms"].items():
        for kind in ("forward", "evaluation"):
            found = arm[kind]
            share = estimate((100 * found["share"]).tolist())
            tops = (f"{float(top):.5g}" for top in found["largest_by_layer"])
            norms.append((name, kind, share.fixed(1), *tops, values["seeds"]))
        slopes = {part: estimate(each.tolist()) for part, each in arm["slopes"].items()}
        shown = (each.spread for each in slopes.values())
        modes, near = estimate(arm["modes"].tolist()), estimate((100 * arm["near"]).tolist())
        ends.append((name, *shown, modes.fixed(1), near.fixed(0), modes.n))
    above = f"steps with a layer above 1 + {values['tolerance']:g} (%)"
    return [
        Table(
            "Largest singular values: in the forward of training, and evaluated after the step without a power step",
            ("arm", "weights", above, *(f"largest, {shape}" for shape in values["layers"]), "n"),
            norms,
        ),
        Table(
            "After training: mean ± sd",
            (
                "arm",
                "ratio, random",
                "ratio, ascent",
                "product of norms",
                "modes of 8 with 2% of the samples",
                "samples within 4 sd of a mode (%)",
                "n",
            ),
            ends,
        ),
    ]


def figures(result: Result) -> dict[str, Figure]:
    """Norms through training, slopes against the bound, samples."""
    values = result.values
    return {
        "norms": _draw_norms(values),
        "lipschitz": _draw_slopes(values["arms"], values["seeds"]),
        "samples": _draw_samples(values),
    }


def _draw_norms(values: dict[str, Any]) -> Figure:
    arms = values["arms"]
    figure, axes = plots.canvas(
        2,
        2,
        height=6.2,
        sharex=True,
        caption="Each layer's largest singular value after every step, as the next forward uses it (mean over "
        f"{values['seeds']} seeds, band: one sd; SVD). The line at 1 is where textbooks put the bound: one power step "
        "leaves layers above it, more of them fewer, the projection none. Each panel has its own scale.",
    )
    for axis, (name, arm) in zip(axes.flat, arms.items(), strict=True):
        for i, (shape, layer) in enumerate(zip(values["layers"], arm["curves"], strict=True)):
            plots.band(axis, arm["steps"], layer, shape, i, linewidth=1.5)
        axis.axhline(1, color=plots.BLACK, linewidth=1)
        axis.set_title(name, fontsize=11)
        low, high = axis.get_ylim()
        axis.set_ylim(max(0, min(low, 0.9)), max(high, 1.1))
    for axis in axes[-1]:
        axis.set_xlabel("step")
    for axis in axes[:, 0]:
        axis.set_ylabel("largest singular value")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, title="layer")
    return figure


def _draw_slopes(arms: dict[str, Any], seeds: int) -> Figure:
    figure, axes = plots.canvas(
        height=3.8,
        caption="Lipschitz ratios |D(a) - D(b)| / |a - b| of the trained discriminators: the largest of random "
        "perturbations, the largest that gradient ascent finds, and the product of the layers' norms, which bounds "
        f"both. A marker a seed (n = {seeds}).",
    )
    axis = axes[0, 0]
    for i, (part, label, marker) in enumerate(
        (
            ("random", "random perturbations", "o"),
            ("ascent", "gradient ascent", "^"),
            ("product", "product of norms", "s"),
        )
    ):
        rows = np.repeat(np.arange(len(arms)), seeds) + 0.22 * (i - 1)
        each = np.concatenate([arm["slopes"][part] for arm in arms.values()])
        axis.plot(each, rows, marker, color=plots.PALETTE[i], label=label, alpha=0.7, markersize=6)
    axis.axvline(1, color=plots.BLACK, linewidth=1)
    axis.set(xscale="log", xlabel="Lipschitz ratio, and its bound")
    axis.set_yticks(range(len(arms)), list(arms))
    axis.set_ylim(len(arms) - 0.5, -0.5)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_samples(values: dict[str, Any]) -> Figure:
    arms = values["arms"]
    figure, axes = plots.canvas(
        1,
        len(arms),
        height=2.7,
        sharey=True,
        sharex=True,
        caption="200 points of the first seed's generator (crosses) on as many of the data (grey), after training.",
    )
    for axis, (name, arm) in zip(axes[0], arms.items(), strict=True):
        axis.plot(*np.array(values["data"]).T, "o", color="#bbbbbb", markersize=3)
        axis.plot(*np.array(arm["points"]).T, "x", color=plots.VERMILLION, markersize=3)
        axis.set_title(name, fontsize=10)
        axis.set(aspect="equal", xlim=(-3, 3), ylim=(-3, 3), xlabel="x")
    axes[0, 0].set_ylabel("y")
    return figure
