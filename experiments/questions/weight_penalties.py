"""Is an L2 penalty the same as weight decay, and what does AdamW decouple?

Part: A
Command: python -m experiments run weight-penalties
Runtime: smoke 1 s, quick 17 s of one core
Answer: coupled decay is the penalty: Adam's parameters differ by 1e-12 after 200 steps, SGD's by 1e-16, and
    torch.optim's by no more (n = 8, float64). AdamW decays all parameters at one rate (sd / mean 3e-12), Adam + L2
    does not (0.90 ± 0.19), and ends 1.12 ± 0.05 times as far from AdamW as that went from its start. L1 of strength
    0.01 leaves 87.7 ± 1.3% of the weights under 1e-3, L2 3.8 ± 2.4%.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import vmap

import funcreg as fr

from ..data import regression
from ..harness.context import Context
from ..report import plots
from ..report.decisions import every
from ..report.estimates import Estimate, estimate, number
from ..report.result import Claim, Result, Table

Params = dict[str, Tensor]


@dataclass(frozen=True)
class Settings:
    """An MLP of one hidden layer on `samples` points, full batch; decay is 2 x strength."""

    members: int = 8
    samples: int = 64
    features: int = 8
    hidden: int = 32
    steps: int = 400
    parity_steps: int = 200
    every: int = 20
    learning_rate: float = 1e-2
    strength: float = 5e-3
    sparse_steps: int = 800
    strengths: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


PRESETS = {
    "smoke": Settings(members=3, steps=20, parity_steps=20, sparse_steps=60, strengths=(1e-3, 1e-2)),
    "quick": Settings(),
    "full": Settings(members=64, steps=2000, sparse_steps=5000),
}


def main(settings: Settings, context: Context) -> Result:
    """Train the same members by each recipe and compare where they go."""
    data_key, init_key, key = context.keys(3)
    data = fr.train.Batch(*regression(data_key, settings.samples, features=settings.features))
    model = fr.from_module(
        lambda: nn.Sequential(nn.Linear(settings.features, settings.hidden), nn.Tanh(), nn.Linear(settings.hidden, 1))
    )
    start = fr.tree.cast(fr.model_members(model, init_key, settings.members)[0], torch.float64)
    start = fr.tree.to(start, context.device)
    runs = {name: _trajectory(name, model, start, data, settings, key, context) for name in _RECIPES}
    by_torch = {name: _by_torch(name, model, start, data, settings) for name in _TORCH}
    nudged = fr.tree.map(lambda leaf: leaf * (1 + 1e-15), start)
    control = _trajectory("AdamW", model, nudged, data, settings, key, context)["path"]
    paths = {name: run["path"] for name, run in runs.items()}
    pairs = {
        "L2 in the loss and Adam(weight_decay)": (paths["Adam + L2"], paths["Adam(weight_decay)"]),
        "L2 in the loss and SGD(weight_decay)": (paths["SGD + L2"], paths["SGD(weight_decay)"]),
        **{f"{name}, funcreg's and torch.optim's": (paths[name], by_torch[name]) for name in _TORCH},
        _CONTROL: (paths["AdamW"], control),
    }
    distance = torch.stack(
        [_norms(a, b) for a, b in zip(runs["Adam + L2"]["path"], runs["AdamW"]["path"], strict=True)]
    )
    travelled = torch.stack([_norms(a, start) for a in runs["AdamW"]["path"]])
    values = {
        "steps": runs["AdamW"]["steps"],
        "differences": {name: [_largest(a, b) for a, b in zip(*pair, strict=True)] for name, pair in pairs.items()},
        "changes": {name: [_largest(each, start) for each in pair[0]] for name, pair in pairs.items()},
        "rates": {name: runs[name]["rates"] for name in ("Adam + L2", "AdamW")},
        "distance": distance,
        "travelled": travelled,
        "sparsity": _sparsity(model, start, data, settings, key, context),
        "learning_rate": settings.learning_rate,
        "decay": 2 * settings.strength,
        "members": settings.members,
    }
    return Result(values, *_conclusions(values, settings), ["a generated regression table"])


_CONTROL = "AdamW against itself, from a start 1e-15 away"
# Each recipe: the optimizer, and the strength of the l2 penalty in the loss.
_RECIPES: dict[str, Callable[[Settings], tuple[fr.transforms.Transform, float]]] = {
    "Adam + L2": lambda s: (fr.optim.adam(s.learning_rate), s.strength),
    "Adam(weight_decay)": lambda s: (fr.optim.adam(s.learning_rate, weight_decay=2 * s.strength), 0.0),
    "AdamW": lambda s: (fr.optim.adamw(s.learning_rate, weight_decay=2 * s.strength), 0.0),
    "SGD + L2": lambda s: (fr.optim.sgd(s.learning_rate), s.strength),
    "SGD(weight_decay)": lambda s: (fr.optim.sgd(s.learning_rate, weight_decay=2 * s.strength), 0.0),
}
_TORCH: dict[str, Callable[[list[Tensor], Settings], torch.optim.Optimizer]] = {
    "Adam(weight_decay)": lambda p, s: torch.optim.Adam(p, s.learning_rate, weight_decay=2 * s.strength),
    "AdamW": lambda p, s: torch.optim.AdamW(p, s.learning_rate, weight_decay=2 * s.strength),
    "SGD(weight_decay)": lambda p, s: torch.optim.SGD(p, s.learning_rate, weight_decay=2 * s.strength),
}


def _loss(model: fr.Model, params: Params, batch: fr.train.Batch) -> Tensor:
    predictions, _ = model.apply(params, {}, batch.x)
    return fr.losses.mse(predictions, batch.y)


def _trajectory(
    name: str,
    model: fr.Model,
    start: Params,
    data: fr.train.Batch,
    settings: Settings,
    key: Tensor,
    context: Context,
) -> dict[str, Any]:
    """Train by one recipe, stopping every few steps to look at the weights and at Adam's state."""
    optimizer, strength = _RECIPES[name](settings)
    penalties = {"l2": lambda params, hparams: fr.penalties.l2(params, strength)} if strength else None

    def loss_fn(params: Params, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        return _loss(model, params, batch), (state, {})

    step = fr.train.make_step(loss_fn, optimizer, penalties=penalties)
    train_state = fr.train.init(start, {}, optimizer, key=key, members=settings.members)
    path, rates, steps = [], [], []
    for chunk in context.track(range(settings.steps // settings.every), name):
        result = context.fit(
            step,
            train_state,
            data,
            key=fr.random.fold_in(key, chunk),
            epochs=settings.every,
            batch_size=settings.samples,
            members=settings.members,
            jit=False,
            progress=False,
        )
        train_state = result.train_state
        path.append(train_state.params)
        steps.append((chunk + 1) * settings.every)
        if name in ("Adam + L2", "AdamW"):
            rate = _coupled_rates if name == "Adam + L2" else _decoupled_rates
            flat = rate(train_state, settings)
            quantiles = torch.quantile(flat, flat.new_tensor([0.1, 0.5, 0.9]), dim=1)
            rates.append({"quantiles": quantiles.T, "spread": flat.std(dim=1) / flat.mean(dim=1)})
    return {"end": train_state.params, "path": path, "rates": rates, "steps": steps}


def _coupled_rates(train_state: fr.train.TrainState, settings: Settings) -> Tensor:
    """What Adam multiplies the penalty's gradient by: lr 2 strength / (sqrt(v) + eps), (members, parameters)."""
    adam = next(each for each in train_state.opt_state if isinstance(each, fr.transforms.AdamState))
    scale = settings.learning_rate * 2 * settings.strength

    def rate(square: Params, step: Tensor) -> Tensor:
        leaves = fr.tree.leaves(square)
        correction = 1 - 0.999 ** step.to(torch.float64)
        return torch.cat([(scale / ((leaf / correction).sqrt() + 1e-8)).flatten() for leaf in leaves])

    return vmap(rate)(adam.square, adam.step)


def _decoupled_rates(train_state: fr.train.TrainState, settings: Settings) -> Tensor:
    """AdamW's update with decay less the one without, over -w: (members, parameters)."""
    with_decay = fr.optim.adamw(settings.learning_rate, weight_decay=2 * settings.strength)
    without = fr.optim.adamw(settings.learning_rate, weight_decay=0.0)

    def rate(params: Params, opt_state: Any) -> Tensor:
        grads = fr.tree.zeros_like(params)
        both = [optimizer.update(grads, opt_state, params)[0] for optimizer in (with_decay, without)]
        each = fr.tree.map(lambda a, b, w: ((b - a) / w).flatten(), *both, params)
        return torch.cat(fr.tree.leaves(each))

    return vmap(rate)(train_state.params, train_state.opt_state)


def _by_torch(name: str, model: fr.Model, start: Params, data: fr.train.Batch, settings: Settings) -> list[Params]:
    """The same members by torch.optim, which works elementwise and so may have them stacked."""
    params = fr.tree.map(lambda leaf: leaf.clone().requires_grad_(), start)
    optimizer = _TORCH[name](list(params.values()), settings)
    path = []
    for step in range(1, settings.steps // settings.every * settings.every + 1):
        optimizer.zero_grad()
        vmap(lambda p: _loss(model, p, data))(params).sum().backward()
        optimizer.step()
        if step % settings.every == 0:
            path.append(fr.tree.clone(params))
    return path


def _sparsity(
    model: fr.Model, start: Params, data: fr.train.Batch, settings: Settings, key: Tensor, context: Context
) -> dict[str, Any]:
    """L1 and L2 at several strengths, every one of them on every member: one program, one sweep."""
    cases = [(kind, strength) for kind in ("l1", "l2") for strength in settings.strengths]
    members = settings.members
    columns = {
        kind: torch.tensor([s if k == kind else 0.0 for k, s in cases], dtype=torch.float64).repeat_interleave(members)
        for kind in ("l1", "l2")
    }
    hparams = fr.tree.to(columns, context.device)
    params = fr.tree.map(lambda leaf: leaf.repeat(len(cases), *(1 for _ in leaf.shape[1:])), start)
    # The learning rate goes to zero, since at a fixed one Adam keeps L1's weights hopping about zero.
    optimizer = fr.optim.adam(fr.optim.cosine(settings.learning_rate, steps=settings.sparse_steps))

    def loss_fn(params: Params, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        return _loss(model, params, batch), (state, {})

    penalty = {
        "penalty": lambda params, hparams: fr.penalties.elastic_net(
            params, hparams["l1"], hparams["l2"], mask=fr.tree.is_weight
        )
    }
    step = fr.train.make_step(loss_fn, optimizer, penalties=penalty)
    total = len(cases) * members
    train_state = fr.train.init(params, {}, optimizer, key=key, hparams=hparams, members=total)
    for chunk in context.track(range(10), "L1 and L2"):
        train_state = context.fit(
            step,
            train_state,
            data,
            key=fr.random.fold_in(key, chunk),
            epochs=settings.sparse_steps // 10,
            batch_size=settings.samples,
            hparams=hparams,
            members=total,
            jit=False,
            progress=False,
        ).train_state
    weights, _ = fr.tree.partition(train_state.params, fr.tree.is_weight)
    flat = torch.cat([leaf.flatten(1) for leaf in weights.values()], dim=1).abs()
    share = (flat < 1e-3).double().mean(dim=1).reshape(2, len(settings.strengths), members)
    losses = vmap(lambda p: _loss(model, p, data))(train_state.params).reshape(2, len(settings.strengths), members)
    edges = torch.linspace(-8, 1, 46)
    by_case = flat.clamp(min=1e-8).log10().reshape(2, len(settings.strengths), -1)
    histograms = [[torch.histc(c.float(), bins=45, min=-8, max=1) / c.numel() for c in kind] for kind in by_case]
    return {
        "strengths": settings.strengths,
        "share": {"l1": share[0], "l2": share[1]},
        "loss": {"l1": losses[0], "l2": losses[1]},
        "edges": edges,
        "histograms": {"l1": histograms[0], "l2": histograms[1]},
    }


def _norms(a: Params, b: Params) -> Tensor:
    """The distance of each member's two parameter vectors, (members,)."""
    return vmap(lambda p, q: fr.tree.norm(fr.tree.map(torch.sub, p, q)))(a, b)


def _largest(a: Params, b: Params) -> float:
    """The largest difference of a parameter, over all members."""
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def _conclusions(values: dict[str, Any], settings: Settings) -> tuple[list[Claim], list[Table]]:
    members = settings.members
    last = {name: estimate(rates[-1]["spread"].tolist()) for name, rates in values["rates"].items()}
    widest = max(float(r["spread"].abs().max()) for r in values["rates"]["AdamW"])
    narrowest = min(float(r["spread"].min()) for r in values["rates"]["Adam + L2"])
    apart = estimate((values["distance"][-1] / values["travelled"][-1]).tolist())
    sparsity = values["sparsity"]
    gaps: list[Estimate] = [
        estimate((one - two).tolist())
        for one, two in zip(sparsity["share"]["l1"], sparsity["share"]["l2"], strict=True)
    ]
    shares = {kind: [estimate(s.tolist()) for s in sparsity["share"][kind]] for kind in ("l1", "l2")}
    claims = [_equality(name, values, settings) for name in values["differences"] if name != _CONTROL]
    claims += [
        Claim(
            "AdamW decays every parameter at one rate, lr x decay: the relative spread is 0",
            f"largest sd / mean over {len(values['steps'])} looks and {members} members: {widest:.1g}",
            widest < 1e-6,
            {"largest": widest, "members": members},
        ),
        Claim(
            "Adam with an L2 penalty does not: what has small gradients decays faster",
            f"sd / mean over parameters at the end: {last['Adam + L2']}; smallest at any look: {number(narrowest)}",
            narrowest > 0.1,
            {"end": last["Adam + L2"]._asdict(), "smallest": narrowest},
        ),
        Claim(
            "So the two reach different weights",
            f"distance at the end, as a share of the way that AdamW went: {apart}",
            apart.above(0.01),
            apart._asdict(),
        ),
        Claim(
            "L1 leaves more weights under 1e-3 than L2 of the same strength",
            f"at strength {settings.strengths[-1]:g}: L1 {shares['l1'][-1]}, L2 {shares['l2'][-1]}; difference "
            f"above 0 at {sum(g.low > 0 for g in gaps)} of {len(gaps)} strengths",
            every(gap.above() for gap in gaps),
            {"difference": [gap._asdict() for gap in gaps], "strengths": settings.strengths},
        ),
    ]
    rows = [
        (
            kind.upper(),
            strength,
            shares[kind][i].mean,
            shares[kind][i].sd,
            float(sparsity["loss"][kind][i].mean()),
            members,
        )
        for kind in ("l1", "l2")
        for i, strength in enumerate(settings.strengths)
    ]
    columns = ("penalty", "strength", "share of weights under 1e-3", "sd", "training MSE", "n")
    return claims, [Table(f"L1 next to L2 after {settings.sparse_steps:,} steps", columns, rows)]


def _equality(name: str, values: dict[str, Any], settings: Settings) -> Claim:
    at = values["steps"].index(settings.parity_steps)
    difference, change = values["differences"][name], values["changes"][name][at]
    control = values["differences"][_CONTROL]
    return Claim(
        f"{name}: equal to 1e-6 in the change of the parameters",
        f"largest difference {difference[at]:.1g} after {settings.parity_steps} steps that moved parameters by up to "
        f"{number(change)} (n = {settings.members}, float64); {difference[-1]:.1g} after {settings.steps}"
        + (f", by when AdamW carries a start 1e-15 away to {control[-1]:.1g}" if difference[-1] > 1e-6 else ""),
        difference[at] < 1e-6 and change > 0.01,
        {"difference": difference[at], "change": change, "at_the_end": difference[-1], "control": control[-1]},
    )


def figures(result: Result) -> dict[str, Figure]:
    """Effective decay rates, how far the recipes part, and sparsity."""
    values = result.values
    return {
        "equality": _draw_equality(values),
        "decay-rates": _draw_rates(values),
        "trajectories": _draw_distance(values),
        "sparsity": _draw_sparsity(values["sparsity"], values["members"]),
    }


def _draw_equality(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        height=4.6,
        caption="The largest difference between two runs that should be one (float64; differences of 0 are drawn at "
        "1e-17). Adam divides by its gradients, so that where they vanish rounding errors grow: as much as in the "
        "control, the same run from a start 1e-15 away.",
    )
    axis = axes[0, 0]
    for i, (name, differences) in enumerate(values["differences"].items()):
        heights = [max(value, 1e-17) for value in differences]
        color = plots.BLACK if name == _CONTROL else plots.PALETTE[i]
        axis.plot(values["steps"], heights, color=color, linestyle=plots.LINES[i % 6], label=name)
    axis.axhline(1e-6, color="#777777", linewidth=1)
    axis.set(yscale="log", xlabel="step", ylabel="difference of a parameter", title="Equality", ylim=(1e-18, 1e4))
    axis.legend(ncols=1, loc="upper left", fontsize=9)
    return figure


def _draw_rates(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        caption="How much of a weight the decay takes each step: the median over parameters, with the band from the "
        "10% to the 90% quantile (means over members). AdamW takes the same share of all; Adam divides the "
        "penalty's gradient by each parameter's own gradient scale.",
    )
    axis = axes[0, 0]
    for i, (name, looks) in enumerate(values["rates"].items()):
        quantiles = torch.tensor([look["quantiles"] for look in looks]).mean(dim=1)
        axis.plot(values["steps"], quantiles[:, 1], color=plots.PALETTE[i], linestyle=plots.LINES[i], label=name)
        axis.fill_between(
            values["steps"], quantiles[:, 0], quantiles[:, 2], color=plots.PALETTE[i], alpha=0.2, linewidth=0
        )
    axis.set(yscale="log", xlabel="step", ylabel="share of a weight per step", title="Effective decay rate")
    axis.legend()
    return figure


def _draw_distance(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        caption=f"Distance between the weights of Adam + L2 and of AdamW at the same step, next to how far AdamW is "
        f"from its start (mean over {values['members']} members, band: one sd).",
    )
    axis = axes[0, 0]
    for i, (name, label) in enumerate((("travelled", "AdamW from its start"), ("distance", "Adam + L2 from AdamW"))):
        plots.band(axis, values["steps"], list(zip(*values[name], strict=True)), label, i)
    axis.set(xlabel="step", ylabel="distance of parameters (L2 norm)", title="Trajectories", ylim=(0, None))
    axis.legend()
    return figure


def _draw_sparsity(sparsity: dict[str, Any], members: int) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        caption=f"Left: the share of weights under 1e-3 against the strength (mean over {members} members, band: one "
        "sd). Right: all weights at the largest strength; L1 sets most to zero, L2 makes all of them smaller.",
    )
    left, right = axes[0]
    centres = torch.tensor(sparsity["edges"])[:-1] + 0.1
    for i, kind in enumerate(("l1", "l2")):
        share = 100 * torch.tensor(sparsity["share"][kind])
        plots.band(left, sparsity["strengths"], share.T, kind.upper(), i)
        density = 100 * torch.tensor(sparsity["histograms"][kind][-1])
        right.plot(centres, density, color=plots.PALETTE[i], linestyle=plots.LINES[i], label=kind.upper())
        right.fill_between(centres, density, color=plots.PALETTE[i], alpha=0.15, linewidth=0)
    right.axvline(-3, color="#777777", linewidth=1)
    left.set(xscale="log", xlabel="strength", ylabel="weights under 1e-3 (%)", title="Sparsity")
    right.set(xlabel="log10 |weight|", ylabel="weights (%)", title=f"Strength {sparsity['strengths'][-1]:g}")
    left.legend()
    return figure
