"""What does stopping a gradient change, what does freezing weights leave alone, and what does it cost to record one?

Part: C
Command: python -m experiments run gradient-flow
Runtime: smoke 1 s, quick 3 s, full 3 min (2 CPU cores)
Answer: 72 becomes 36, and the value stays 72. Frozen by tree.partition or transforms.freeze, a layer has not moved by
    a bit after 100 steps of AdamW (n = 8); with its gradient stopped alone, decay shrinks it to 0.905 of its norm.
    no_grad and inference_mode predict the same bits and keep 0 of 1,572,864 bytes; on an MLP 512-512-512-512-1 and
    256 inputs a recorded pass takes 1.02 (95% 1.00 to 1.04) and 1.04 times as long (1.03 to 1.05, n = 30 rounds).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import grad, grad_and_value, vmap

import funcreg as fr

from ..data import regression
from ..harness.context import Context
from ..harness.stopwatch import interleaved, ratio
from ..parts.networks import mlp
from ..report import plots
from ..report.estimates import Estimate, estimate, number
from ..report.result import Claim, Result, Table


@dataclass(frozen=True)
class Settings:
    """An MLP features-hidden-hidden-1 whose first layer is frozen; and one to predict with, under three modes."""

    weight: float = 2.0
    input: float = 3.0
    draws: int = 1_000
    members: int = 8
    samples: int = 64
    features: int = 8
    hidden: int = 16
    steps: int = 100
    learning_rate: float = 1e-2
    decay: float = 0.1
    wide: int = 512
    batch: int = 256
    rounds: int = 30


PRESETS = {
    "smoke": Settings(draws=100, members=3, steps=5, rounds=5),
    "quick": Settings(),
    "full": Settings(draws=100_000, members=64, steps=1000, wide=1024, batch=512, rounds=100),
}


def main(settings: Settings, context: Context) -> Result:
    """The two branches; the frozen layer, three ways; the three modes of recording."""
    branch_key, data_key, init_key, train_key, mode_key = context.keys(5)
    values = {
        "branches": _branches(settings, branch_key),
        "freezing": _freezing(settings, data_key, init_key, train_key, context),
        **_recording(settings, mode_key, context.device),
    }
    sources = [
        f"generated: w = {settings.weight:g}, x = {settings.input:g}, and {settings.draws:,} pairs of N(0, 1)",
        f"a generated regression table of {settings.samples} points of {settings.features} features",
    ]
    return Result(values, _claims(values), _tables(values), sources)


def _both(w: Tensor, x: Tensor) -> Tensor:
    return (w * x) ** 2 + (w * x) ** 2


def _detached(w: Tensor, x: Tensor) -> Tensor:
    return (w * x) ** 2 + ((w * x) ** 2).detach()


def _unrecorded(w: Tensor, x: Tensor) -> Tensor:
    with torch.no_grad():
        second = (w * x) ** 2
    return (w * x) ** 2 + second


def _another_argument(w: Tensor, x: Tensor) -> Tensor:
    """Only the first of (w, v) is differentiated, so that nothing has to be stopped."""
    return grad_and_value(lambda w, v: (w * x) ** 2 + (v * x) ** 2)(w, w)[0]


def _branches(settings: Settings, key: Tensor) -> dict[str, Any]:
    """Values and gradients at one point, and against the closed forms 4 w x^2 and 2 w x^2 at many."""
    w, x = torch.tensor(settings.weight, dtype=torch.float64), torch.tensor(settings.input, dtype=torch.float64)
    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "nothing": grad(_both),
        "detach()": grad(_detached),
        "torch.no_grad() inside": grad(_unrecorded),
        "a second argument": _another_argument,
    }
    many_w, many_x = fr.random.normal(key, (2, settings.draws), dtype=torch.float64)
    result: dict[str, Any] = {"w": settings.weight, "x": settings.input, "draws": settings.draws, "ways": {}}
    for stopped, (name, gradient) in enumerate(ways.items()):
        factor = 4 if stopped == 0 else 2
        closed = factor * many_w * many_x**2
        result["ways"][name] = {
            "value": float((_both if stopped == 0 else _detached)(w, x)),
            "gradient": float(gradient(w, x)),
            "expected": factor * settings.weight * settings.input**2,
            "largest": float((vmap(gradient)(many_w, many_x) - closed).abs().max() / closed.abs().max()),
        }
    return result


def _is_frozen(name: str, leaf: Tensor | None = None) -> bool:
    return name.startswith("1.")  # the first linear layer, after Flatten


def _freezing(
    settings: Settings, data_key: Tensor, init_key: Tensor, train_key: Tensor, context: Context
) -> dict[str, Any]:
    """Train with AdamW and decay: the first layer put aside, frozen last in the chain, and with gradients of zero."""
    data = fr.train.Batch(*regression(data_key, settings.samples, features=settings.features))
    model = fr.from_module(lambda: mlp(settings.features, settings.hidden, settings.hidden, 1))
    start = fr.tree.cast(fr.model_members(model, init_key, settings.members)[0], torch.float64)
    start = fr.tree.to(start, context.device)
    frozen, trained = fr.tree.partition(start, _is_frozen)
    adamw = fr.optim.adamw(settings.learning_rate, weight_decay=settings.decay)

    def loss(params: Any, batch: fr.train.Batch) -> Tensor:
        predictions, _ = model.apply(params, {}, batch.x)
        return fr.losses.mse(predictions, batch.y)

    def whole(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        return loss(params, batch), (state, {})

    def part(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        # What is frozen comes with the member as data: nobody differentiates it, no optimizer knows it.
        return loss(fr.tree.merge(hparams, params), batch), (state, {})

    def without(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        stopped = fr.tree.map_named(lambda name, leaf: leaf.detach() if _is_frozen(name) else leaf, params)
        return loss(stopped, batch), (state, {})

    def train(loss_fn: Any, optimizer: fr.transforms.Transform, params: Any, hparams: Any = None) -> Any:
        result = context.fit(
            fr.train.make_step(loss_fn, optimizer),
            fr.train.init(params, {}, optimizer, key=train_key, hparams=hparams, members=settings.members),
            data,
            key=train_key,
            epochs=settings.steps,
            hparams=hparams,
            members=settings.members,
            jit=False,
        )
        return result.train_state.params

    ends = {
        "tree.partition": fr.tree.merge(frozen, train(part, adamw, trained, frozen)),
        "transforms.freeze": train(whole, fr.transforms.chain(adamw, fr.transforms.freeze(_is_frozen)), start),
        "gradient stopped": train(without, adamw, start),
    }
    first, last = ends["tree.partition"], ends["transforms.freeze"]
    return {
        "members": settings.members,
        "steps": settings.steps,
        "shrinkage": (1 - settings.learning_rate * settings.decay) ** settings.steps,
        "moved": {name: {leaf: _moved(end[leaf], start[leaf]) for leaf in start} for name, end in ends.items()},
        "apart": max(float((first[name] - last[name]).abs().max()) for name in start),
        "norms": {name: _norm(end["1.weight"]) / _norm(start["1.weight"]) for name, end in ends.items()},
        "scatter": {way: {leaf: [_few(start[leaf]), _few(end[leaf])] for leaf in _DRAWN} for way, end in ends.items()},
    }


_DRAWN = ("1.weight", "3.weight", "5.weight")


def _few(leaf: Tensor) -> Tensor:
    """Up to 64 weights of the first member, to draw."""
    return leaf[0].flatten()[:64].float()


def _moved(end: Tensor, start: Tensor) -> Tensor:
    """The largest change of each member."""
    return (end - start).abs().flatten(1).amax(dim=1)


def _norm(leaf: Tensor) -> Tensor:
    return torch.linalg.vector_norm(leaf.flatten(1), dim=1)


def _recording(settings: Settings, key: Tensor, device: torch.device) -> dict[str, Any]:
    """The same predictions with autograd's record and without: values, memory that the record keeps, time."""
    init_key, x_key = fr.random.split(key)
    model = fr.from_module(lambda: mlp(settings.wide, settings.wide, settings.wide, settings.wide, 1))
    params, state = fr.tree.to(model.init(init_key), device)
    params = fr.tree.map(lambda leaf: leaf.detach().requires_grad_(), params)
    x = fr.random.normal(x_key, (settings.batch, settings.wide))
    own = {leaf.untyped_storage().data_ptr() for leaf in (*fr.tree.leaves(params), x)}

    def recorded() -> Tensor:
        return model.apply(params, state, x)[0]

    def no_grad() -> Tensor:
        with torch.no_grad():
            return recorded()

    def inference() -> Tensor:
        with torch.inference_mode():
            return recorded()

    ways = {"recorded": recorded, "no_grad": no_grad, "inference_mode": inference}
    modes = {}
    for name, predict in ways.items():
        kept: dict[int, int] = {}  # storages that the record holds, besides the parameters and the input

        def pack(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y = predict()
        try:
            (y * params["1.weight"].sum()).sum()
            usable = True
        except RuntimeError:  # an inference tensor cannot be saved for a gradient
            usable = False
        modes[name] = {
            "equal": torch.equal(y.detach(), recorded().detach()),
            "requires_grad": y.requires_grad,
            "kept_bytes": sum(kept.values()),
            "usable_in_autograd": usable,
        }
    return {
        "modes": modes,
        "predictions": settings.batch,
        "timing": interleaved(ways, rounds=settings.rounds, calls=5, device=device),
    }


def _claims(values: dict[str, Any]) -> list[Claim]:
    return [*_branch_claims(values["branches"]), *_freezing_claims(values["freezing"]), *_recording_claims(values)]


def _branch_claims(branches: dict[str, Any]) -> list[Claim]:
    ways = branches["ways"]
    both, *stopped = ways.values()
    worst = max(way["largest"] for way in ways.values())
    w, x = branches["w"], branches["x"]
    return [
        Claim(
            f"(wx)² + (wx)² at w = {w:g}, x = {x:g}: gradient {both['expected']:g}, and "
            f"{stopped[0]['expected']:g} with one branch stopped",
            f"{both['gradient']:g} and {', '.join(format(way['gradient'], 'g') for way in stopped)} "
            f"({', '.join(list(ways)[1:])}); the value is {both['value']:g} either way",
            all(way["gradient"] == way["expected"] for way in ways.values()) and both["value"] == stopped[0]["value"],
            {"both": both["gradient"], "stopped": [way["gradient"] for way in stopped], "n": len(ways)},
        ),
        Claim(
            "So it is everywhere: 4wx² and 2wx²",
            f"largest difference {worst:.1g} of the largest gradient (n = {branches['draws']:,} pairs under one vmap)",
            worst < 1e-12,
            {"largest": worst, "n": branches["draws"]},
        ),
    ]


def _freezing_claims(freezing: dict[str, Any]) -> list[Claim]:
    moved, norms = freezing["moved"], freezing["norms"]
    good = ("tree.partition", "transforms.freeze")
    still = max(float(moved[way][leaf].max()) for way in good for leaf in moved[way] if _is_frozen(leaf))
    least = min(float(moved[way][leaf].min()) for way in good for leaf in moved[way] if not _is_frozen(leaf))
    shrunk = estimate(norms["gradient stopped"].tolist())
    n = freezing["members"]
    return [
        Claim(
            "Freezing by tree.partition or transforms.freeze: only the selected leaves move, and decay leaves the rest",
            f"frozen leaves moved by {still:g} in {freezing['steps']} steps of AdamW, each other by at least "
            f"{number(least)} (n = {n} members)",
            still == 0 and least > 0,
            {"frozen": still, "others": least, "n": n},
        ),
        Claim(
            "Both ways train the other leaves alike",
            f"largest difference {freezing['apart']:.1g} (float64, n = {n} members)",
            freezing["apart"] < 1e-10,
            {"largest": freezing["apart"], "n": n},
        ),
        Claim(
            "Stopping the gradient alone does not freeze: decay shrinks the layer by (1 - lr decay) a step",
            f"the layer's norm is {shrunk} of what it was; (1 - lr decay)^{freezing['steps']} = "
            f"{number(freezing['shrinkage'])}",
            abs(shrunk.mean - freezing["shrinkage"]) < 1e-9 and shrunk.mean < 1,
            {**shrunk._asdict(), "expected": freezing["shrinkage"]},
        ),
    ]


def _recording_claims(values: dict[str, Any]) -> list[Claim]:
    modes, times = values["modes"], values["timing"]
    kept = {name: mode["kept_bytes"] for name, mode in modes.items()}
    claims = [
        Claim(
            "no_grad and inference_mode predict the same values and keep no memory for a gradient",
            f"equal to the bit (n = {values['predictions']} predictions); kept for a gradient: {kept['recorded']:,} "
            f"bytes recorded, {kept['no_grad']:,} and {kept['inference_mode']:,}",
            all(mode["equal"] for mode in modes.values())
            and kept["recorded"] > 0
            and kept["no_grad"] == kept["inference_mode"] == 0,
            {**kept, "n": values["predictions"]},
        ),
        Claim(
            "What inference_mode gave cannot be used where a gradient is recorded later; what no_grad gave can",
            f"{sum(mode['usable_in_autograd'] for mode in modes.values())} of {len(modes)} can: "
            f"{', '.join(name for name, mode in modes.items() if mode['usable_in_autograd'])}",
            modes["no_grad"]["usable_in_autograd"] and not modes["inference_mode"]["usable_in_autograd"],
            {"usable": [mode["usable_in_autograd"] for mode in modes.values()], "n": len(modes)},
        ),
    ]
    for name in ("no_grad", "inference_mode"):
        slower = ratio(times["recorded"], times[name])
        claims.append(
            Claim(
                f"A forward pass under {name} is faster than a recorded one",
                f"recorded takes {_times(slower)}",
                slower.above(1),
                {"timing": slower._asdict()},
            )
        )
    return claims


def _times(slower: Estimate) -> str:
    return (
        f"{number(slower.mean)} times as long (geometric mean of n = {slower.n} rounds; 95% {number(slower.low)} to "
        f"{number(slower.high)})"
    )


def _tables(values: dict[str, Any]) -> list[Table]:
    branches, freezing = values["branches"], values["freezing"]
    stops = [
        (name, way["value"], way["gradient"], way["expected"], f"{way['largest']:.1g}")
        for name, way in branches["ways"].items()
    ]
    moves = [
        (leaf, "yes" if _is_frozen(leaf) else "no", *(f"{float(moved[leaf].max()):.3g}" for moved in ways))
        for ways in [list(freezing["moved"].values())]
        for leaf in ways[0]
    ]
    modes = [
        (
            name,
            "yes" if mode["equal"] else "no",
            "yes" if mode["requires_grad"] else "no",
            mode["kept_bytes"],
            "yes" if mode["usable_in_autograd"] else "no",
        )
        for name, mode in values["modes"].items()
    ]
    return [
        Table(
            f"(wx)² + (wx)², w = {branches['w']:g}, x = {branches['x']:g}",
            ("second branch stopped by", "value", "gradient", "closed form", "largest relative difference elsewhere"),
            stops,
        ),
        Table(
            f"How far each leaf moved in {freezing['steps']} steps: the largest over {freezing['members']} members",
            ("leaf", "to be frozen", *freezing["moved"]),
            moves,
        ),
        Table(
            f"Predictions for {values['predictions']} inputs",
            ("mode", "same values", "has a gradient", "bytes kept for it", "usable in autograd later"),
            modes,
        ),
    ]


def figures(result: Result) -> dict[str, Figure]:
    """The two gradients as tangents, weights before and after, and what recording costs."""
    values = result.values
    return {
        "weights": _draw_weights(values["freezing"]),
        "tangents": _draw_tangents(values["branches"]),
        "recording": _draw_recording(values),
    }


def _draw_tangents(branches: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        caption="(wx)² + (wx)² for x = 3, and its two gradients at w = 2: the same value, but with one branch stopped "
        "half of the true slope."
    )
    axis, w0, x = axes[0, 0], branches["w"], branches["x"]
    w = np.linspace(w0 - 1, w0 + 1, 100)
    axis.plot(w, 2 * (w * x) ** 2, color=plots.BLACK, label="(wx)² + (wx)²")
    both, stopped = branches["ways"]["nothing"], branches["ways"]["detach()"]
    for i, (way, label) in enumerate(((both, ""), (stopped, ", second branch stopped"))):
        near = w[(w > w0 - 0.75) & (w < w0 + 0.75)]
        line = way["value"] + way["gradient"] * (near - w0)
        look = {"color": plots.PALETTE[i], "linestyle": plots.LINES[i + 1]}
        axis.plot(near, line, label=f"slope {way['gradient']:g}{label}", **look)
    axis.plot([w0], [both["value"]], "o", color=plots.BLACK)
    axis.set(xlabel="w", ylabel="value", xlim=(w0 - 1, w0 + 1))
    axis.legend()
    return figure


def _draw_weights(freezing: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        1,
        3,
        height=3.7,
        sharex=True,
        sharey=True,
        caption="Weights of one member before and after training with AdamW and decay; the first layer is to be "
        "frozen. On the diagonal nothing moved. A stopped gradient (right) lets decay shrink what should be frozen.",
    )
    for axis, (way, leaves) in zip(axes[0], freezing["scatter"].items(), strict=True):
        for i, (leaf, label) in enumerate(zip(_DRAWN[::-1], ("layer 3", "layer 2", "layer 1, frozen"), strict=True)):
            before, after = leaves[leaf]
            axis.plot(before, after, "^so"[i], color=plots.PALETTE[2 - i], markersize=4, alpha=0.7, label=label)
        ends = axis.get_xlim()
        axis.plot(ends, ends, color=plots.BLACK, linewidth=0.8, zorder=0)
        axis.set_xlabel("weight before")
        axis.set_title(way, fontsize=11)
    axes[0, 0].set_ylabel("weight after")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_recording(values: dict[str, Any]) -> Figure:
    modes, times = values["modes"], values["timing"]
    figure, axes = plots.canvas(
        1,
        2,
        height=2.8,
        sharey=True,
        caption=f"A forward pass of an MLP on {values['predictions']} inputs. Left: bytes kept for a gradient. Right: "
        f"time (n = {len(times['recorded'])} rounds: a dot each; the diamond is the mean with its 95% interval).",
    )
    left, right = axes[0]
    plots.strip(right, list(times), list(times.values()))
    kibibytes = [mode["kept_bytes"] / 1024 for mode in modes.values()]
    left.barh(range(len(modes)), kibibytes, color=plots.PALETTE[: len(modes)], height=0.5)
    for row, value in enumerate(kibibytes):
        left.annotate(f" {value:,.0f}", (value, row), va="center", fontsize=10)
    left.margins(x=0.2)
    left.set_xlabel("kept for a gradient (KiB)")
    right.set_xlabel("time (ms)")
    return figure
