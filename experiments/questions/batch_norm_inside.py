"""Does batch norm before each ReLU help a small MLP on raw inputs, and how do its two modes differ on small batches?

Part: C
Command: python -m experiments run batch-norm-inside
Runtime: smoke 1 s, quick 7 s, full about 1 min (2 CPU cores)
Answer: it helps: held-out loss 0.405, 0.177 and 0.103 after 10, 40 and 120 epochs against 0.473, 0.417 and 0.388
    without (n = 16 seeds), accuracy 9 to 14 points higher. In training mode a fixed point's logit varies with its
    companions, by an sd of 5.3 in batches of 2, 3.6 of 4, 2.5 of 8, and batches of 2 cost 22 points of accuracy, since
    each normalised unit is then +1 or -1. In evaluation the logit is the same to the bit.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import vmap

import funcreg as fr

from ..data import two_scales
from ..harness.context import Context
from ..parts.arms import own
from ..report import plots
from ..report.claims import is_larger
from ..report.decisions import every
from ..report.estimates import curve, estimate, number, paired
from ..report.result import Claim, Result, Table


@dataclass(frozen=True)
class Settings:
    """An MLP 2-widths-1 on the raw points of `input-normalization`, looked at after each of `epochs`."""

    seeds: int = 16
    samples: int = 512
    test: int = 1_000
    widths: tuple[int, int] = (8, 4)
    learning_rate: float = 0.1
    batch_size: int = 64
    epochs: tuple[int, ...] = (10, 40, 120)
    sizes: tuple[int, ...] = (2, 4, 8)
    watched: int = 16
    companies: int = 200
    grid: int = 27
    jit: bool = False


PRESETS = {
    "smoke": Settings(seeds=4, samples=256, test=300, epochs=(1, 2, 4), watched=8, companies=10, grid=11),
    "quick": Settings(),
    "full": Settings(seeds=64, test=4_000, watched=32, companies=500, grid=41, jit=True),
}
NETWORKS = ("plain", "batch norm")
_RANGE = ((1.5, 9.0), (-35.0, 55.0))  # of the two features, in the pictures
Trained = list[tuple[Any, Any]]  # (params, state) of all members after each of settings.epochs


def main(settings: Settings, context: Context) -> Result:
    """Train both networks from the same weights on the same batches; then batch norm's modes on small batches."""
    data_key, test_key, init_key, start_key, fit_key, company_key = context.keys(6)
    draw = vmap(two_scales, (0, None))
    train = fr.train.Batch(*draw(fr.random.split(data_key, settings.seeds), settings.samples))
    test = fr.train.Batch(*draw(fr.random.split(test_key, settings.seeds), settings.test))
    axes = [torch.linspace(*limits, settings.grid, device=train.x.device) for limits in _RANGE]
    grid = torch.cartesian_prod(*axes)

    networks: dict[str, Any] = {}
    modes: dict[str, Any] = {}
    for name in NETWORKS:
        model = fr.from_module(lambda name=name: _network(settings, norm=name == "batch norm"))
        looks, history = _train(model, train, test, settings, (init_key, start_key, fit_key), context)
        networks[name] = {
            "curves": {metric: curve(each.T) for metric, each in history.items()},
            "end": {metric: [each[epoch - 1].float() for epoch in settings.epochs] for metric, each in history.items()},
            "maps": [_map(model, look, grid) for look in looks],
        }
        if name == "batch norm":
            modes = _modes(model, looks[-1], train, test, settings, company_key, context)
    values = {
        "seeds": settings.seeds,
        "epochs": settings.epochs,
        "networks": networks,
        "modes": modes,
        "points": {"x": (train.x[0, :100] * 100).round().div(100), "y": train.y[0, :100]},
    }
    source = (
        f"generated: {settings.samples} points to train, {settings.test:,} to test, x_0 ~ N(5.2, 1), "
        "x_1 ~ N(10, 13^2), class [x_0 - 6 + 0.1 x_1 > 0], not normalised, drawn anew for each seed"
    )
    return Result(values, _claims(values), _tables(values), [source])


def _network(settings: Settings, *, norm: bool) -> nn.Module:
    """Linear layers draw their first weights in the same order, so that both networks start from the same."""
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = 2
    for width in settings.widths:
        layers += [nn.Linear(inputs, width), *([nn.BatchNorm1d(width)] if norm else []), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 1))


def _train(
    model: fr.Model,
    train: fr.train.Batch,
    test: fr.train.Batch,
    settings: Settings,
    keys: tuple[Tensor, Tensor, Tensor],
    context: Context,
) -> tuple[Trained, dict[str, Tensor]]:
    """The members after each of settings.epochs, and their history."""
    init_key, start_key, fit_key = keys

    def loss_fn(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        x, y = own(batch, hparams["seed"])
        logits, state = model.apply(params, state, x, train=True)
        return fr.losses.binary_cross_entropy(logits.squeeze(-1), y), (state, {})

    def measure(params: Any, state: Any, own_test: fr.train.Batch) -> dict[str, Tensor]:
        logits = model.apply(params, state, own_test.x)[0].squeeze(-1)
        hits = (logits > 0) == (own_test.y == 1)
        return {"test_loss": fr.losses.binary_cross_entropy(logits, own_test.y), "test_accuracy": hits.float().mean()}

    looks: Trained = []

    def keep(epoch: fr.train.Epoch) -> None:
        if epoch.number in settings.epochs:
            looks.append((epoch.train_state.params, epoch.train_state.state))

    optimizer = fr.optim.sgd(settings.learning_rate)
    hparams = {"seed": torch.arange(settings.seeds, device=train.x.device)}
    params, state = fr.model_members(model, init_key, settings.seeds)
    result = context.fit(
        fr.train.make_step(loss_fn, optimizer),
        fr.train.init(params, state, optimizer, key=start_key, hparams=hparams, members=settings.seeds),
        fr.tree.map(lambda leaf: leaf.movedim(1, 0), train),
        key=fit_key,
        epochs=settings.epochs[-1],
        batch_size=settings.batch_size,
        hparams=hparams,
        members=settings.seeds,
        jit=settings.jit,
        evaluate=lambda params, state: vmap(measure)(params, state, test),
        on_epoch=keep,
    )
    return looks, {name: result.history[name] for name in ("loss", "test_loss", "test_accuracy")}


def _map(model: fr.Model, members: tuple[Any, Any], grid: Tensor) -> dict[str, Tensor]:
    """Where the networks say class 1: the share of the members, and the logit of the first, by grid point."""
    logits = vmap(lambda params, state: model.apply(params, state, grid)[0].squeeze(-1))(*members)
    return {"share": (logits > 0).half().mean(dim=0), "first": (logits[0] * 10).round().div(10)}


def _modes(
    model: fr.Model,
    members: tuple[Any, Any],
    train: fr.train.Batch,
    test: fr.train.Batch,
    settings: Settings,
    key: Tensor,
    context: Context,
) -> dict[str, Any]:
    """Logits of fixed test points, each in small batches with random training points, in both modes."""
    fixed, y = test.x[:, : settings.watched], test.y[:, : settings.watched]
    alone = vmap(lambda params, state, x: model.apply(params, state, x)[0].squeeze(-1))(*members, fixed)
    rows: list[dict[str, Any]] = []
    for index, size in enumerate(context.track(settings.sizes, "batch sizes")):
        shape = (settings.seeds, settings.watched, settings.companies, size - 1)
        chosen = fr.random.randint(fr.random.fold_in(key, index), shape, 0, settings.samples)
        others = vmap(lambda x, rows: x[rows])(train.x, chosen)
        batches = torch.cat([fixed[:, :, None, None].expand(-1, -1, settings.companies, 1, -1), others], dim=3)

        def first(params: Any, state: Any, x: Tensor, *, training: bool) -> Tensor:
            return model.apply(params, state, x, train=training)[0][0, 0]

        def every(training: bool, batches: Tensor = batches) -> Tensor:
            def one(params: Any, state: Any, x: Tensor) -> Tensor:
                return first(params, state, x, training=training)

            return vmap(vmap(vmap(one, (None, None, 0)), (None, None, 0)))(*members, batches)

        batch, running = every(True), every(False)  # (seeds, watched, companies)
        rows.append(
            {
                "size": size,
                "batch_sd": batch.double().std(dim=2).mean(dim=1),
                "running_spread": float((running.amax(dim=2) - running.amin(dim=2)).max()),
                "running_change": float((running - alone.unsqueeze(2)).abs().max()),
                "batch_accuracy": ((batch > 0) == (y == 1).unsqueeze(2)).double().mean(dim=(1, 2)),
                "running_accuracy": ((running > 0) == (y == 1).unsqueeze(2)).double().mean(dim=(1, 2)),
                "first_member": {"batch": (batch[0, :8, :40] * 100).round().div(100), "running": running[0, :8, 0]},
            }
        )
    return {
        "rows": rows,
        "watched": settings.watched,
        "companies": settings.companies,
        "pair": _pair(model, members, fixed),
    }


def _pair(model: fr.Model, members: tuple[Any, Any], fixed: Tensor) -> dict[str, float]:
    """What batch norm before its scale and shift makes of the first layer in batches of two points.

    Units that give the two points almost the same value, a variance that eps is not small beside, are left out.
    """
    params, _ = members
    stats = fr.norm.init_batch_stats(params["1.weight"].shape[1], device=fixed.device)

    def one(weight: Tensor, bias: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
        units = pair @ weight.T + bias
        y, _ = fr.norm.batch_norm(units, stats, train=True)
        kept = (units[0] - units[1]).abs() > 0.5
        return torch.where(kept, (y.abs() - 1).abs().amax(dim=0), 0.0).max(), kept.float().mean()

    pairs = fixed[:, : fixed.shape[1] // 2 * 2].unflatten(1, (-1, 2))
    off, kept = vmap(vmap(one, (None, None, 0)))(params["1.weight"], params["1.bias"], pairs)
    return {"off": float(off.max()), "kept": float(kept.mean()), "pairs": pairs.shape[0] * pairs.shape[1]}


def _claims(values: dict[str, Any]) -> list[Claim]:
    modes, epochs = values["modes"], values["epochs"]
    rows = modes["rows"]
    small, n = rows[0], values["seeds"]
    spread = max(row["running_spread"] for row in rows)
    moved = max(row["running_change"] for row in rows)
    sds = [estimate(row["batch_sd"].tolist()) for row in rows]
    falls = [paired(a["batch_sd"], b["batch_sd"]) for a, b in pairwise(rows)]
    sizes = [row["size"] for row in rows]
    pair = modes["pair"]
    order = sorted(range(len(epochs)), reverse=True)  # the main claim is that after all epochs
    return [
        *(_better(values, look) for look in order),
        Claim(
            "In training mode the output of a fixed point varies with its companions",
            f"sd of its logit over {modes['companies']} random companies in batches of {small['size']}: {sds[0]}",
            sds[0].above(),
            {"sd": [each._asdict() for each in sds], "size": sizes},
        ),
        Claim(
            "In evaluation it does not, exactly",
            f"largest difference between companies {spread:g}, in batches of {_listed(sizes)} "
            f"(n = {n} networks, {modes['watched']} points); in one batch of all {modes['watched']} off by {moved:.1g}",
            spread == 0,
            {"largest": spread, "other size": moved, "n": n},
        ),
        Claim(
            "The smaller the batch the more it varies",
            f"sd {_listed(number(each.mean) for each in sds)} in batches of {_listed(sizes)}; paired "
            f"differences {' and '.join(str(each) for each in falls)}",
            every(each.above() for each in falls),
            {"differences": [each._asdict() for each in falls]},
        ),
        is_larger(
            f"In training mode batches of {small['size']} are classified worse than in evaluation",
            100 * small["running_accuracy"],
            100 * small["batch_accuracy"],
            "accuracy {smaller:.1f}% against {larger:.1f}%; loss in points {difference}",
            under="",
        ),
        Claim(
            "In a batch of two every normalised unit is +1 for one point and -1 for the other: only the order is left",
            f"largest distance from 1 of its size {pair['off']:.1g} ({pair['pairs']} pairs, the "
            f"{100 * pair['kept']:.0f}% of units whose two values differ by more than 0.5)",
            pair["off"] < 1e-3,
            pair,
        ),
    ]


def _better(values: dict[str, Any], look: int) -> Claim:
    """Batch norm inside against without, after some epochs, in evaluation mode on held-out points."""
    plain, norm = (values["networks"][name]["end"] for name in NETWORKS)
    accuracy = paired(100 * norm["test_accuracy"][look], 100 * plain["test_accuracy"][look])
    return is_larger(
        f"After {values['epochs'][look]} epochs the network with batch norm has the lower held-out loss",
        plain["test_loss"][look],
        norm["test_loss"][look],
        "{smaller:.3f} against {larger:.3f}, paired difference {difference}; "
        f"accuracy {accuracy.mean:+.1f} points",
        under="loss",
        accuracy=accuracy._asdict(),
    )


def _listed(values: Iterable[Any]) -> str:
    *most, last = (str(each) for each in values)
    return f"{', '.join(most)} and {last}"


def _tables(values: dict[str, Any]) -> list[Table]:
    rows = []
    for name in NETWORKS:
        end = values["networks"][name]["end"]
        for look, epoch in enumerate(values["epochs"]):
            each = [estimate(end[metric][look].tolist()) for metric in ("loss", "test_loss")]
            hits = estimate((100 * end["test_accuracy"][look]).tolist())
            cells = (e.fixed(3) for e in each)
            rows.append((name, epoch, *cells, hits.fixed(1), values["seeds"]))
    columns = ("network", "epochs", "training loss", "held-out loss", "held-out accuracy (%)", "n")
    modes = []
    for row in values["modes"]["rows"]:
        sd = estimate(row["batch_sd"].tolist())
        accuracies = (100 * float(row[f"{mode}_accuracy"].mean()) for mode in ("batch", "running"))
        cells = (sd.fixed(2), row["running_spread"], *(f"{each:.1f}" for each in accuracies))
        modes.append((row["size"], *cells, values["seeds"]))
    mode_columns = (
        "batch size",
        "sd of a logit, training mode",
        "largest spread, evaluation",
        "accuracy, training mode (%)",
        "accuracy, evaluation (%)",
        "n",
    )
    return [
        Table("With and without batch norm: mean ± sd", columns, rows),
        Table("A fixed point among random companions, with batch norm", mode_columns, modes),
    ]


def figures(result: Result) -> dict[str, Figure]:
    """Boundaries, loss curves, and outputs in both modes."""
    return {
        "boundaries": _draw_boundaries(result.values),
        "losses": _draw_losses(result.values),
        "modes": _draw_modes(result.values),
    }


def _draw_boundaries(values: dict[str, Any]) -> Figure:
    epochs = values["epochs"]
    figure, axes = plots.canvas(
        2,
        len(epochs),
        height=5.6,
        sharex=True,
        sharey=True,
        caption=f"What the networks say: colour is the share of the {values['seeds']} seeds that say class 1, the "
        "solid line the boundary of the first seed, the dashed one the truth; points are its own (dots: class 1).",
    )
    x, y = (torch.tensor(values["points"][name]) for name in ("x", "y"))
    shown: Any = None
    for row, name in zip(axes, NETWORKS, strict=True):
        for axis, epoch, each in zip(row, epochs, values["networks"][name]["maps"], strict=True):
            size = round(len(each["share"]) ** 0.5)
            share, logits = (torch.tensor(each[kind]).reshape(size, size).T.numpy() for kind in ("share", "first"))
            ticks = [torch.linspace(*limits, size).numpy() for limits in _RANGE]
            colours: dict[str, Any] = {"cmap": plots.DIVERGING, "vmin": 0, "vmax": 1, "alpha": 0.45}
            extent = (*_RANGE[0], *_RANGE[1])
            shown = axis.imshow(
                share, origin="lower", extent=extent, aspect="auto", interpolation="bilinear", **colours
            )
            if logits.min() < 0 < logits.max():
                axis.contour(*ticks, logits, levels=[0], colors=[plots.BLACK], linewidths=2)
            axis.plot([1.5, 9], [45, -30], "--", color=plots.BLACK, linewidth=1)
            axis.plot(*x[y == 1].T.numpy(), "o", color=plots.VERMILLION, markersize=2.5)
            axis.plot(*x[y == 0].T.numpy(), "x", color=plots.BLUE, markersize=3)
            axis.set(xlim=_RANGE[0], ylim=_RANGE[1])
            axis.grid(False)
            axis.set_title(f"{name}, {epoch} epochs", fontsize=10)
        row[0].set_ylabel("$x_1$")
    for axis in axes[-1]:
        axis.set_xlabel("$x_0$")
    figure.colorbar(shown, ax=axes, label="share of seeds that say class 1", shrink=0.8)
    return figure


def _draw_losses(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        sharey=True,
        caption=f"Loss by epoch (mean over {values['seeds']} seeds, band: one sd). Left: of the batches, in training "
        "mode. Right: on held-out points, in evaluation mode. Dotted lines mark the epochs looked at.",
    )
    for axis, metric, title in zip(axes[0], ("loss", "test_loss"), ("training", "held-out"), strict=True):
        for i, name in enumerate(NETWORKS):
            each = values["networks"][name]["curves"][metric]
            plots.band(axis, range(1, len(each["mean"]) + 1), each, name, i)
        for epoch in values["epochs"]:
            axis.axvline(epoch, color="#999999", linewidth=1, linestyle=":")
        axis.set(xlabel="epoch", xscale="log", ylim=(0, 0.8))
        plots.counting(axis.xaxis)
        axis.set_title(title)
    axes[0, 0].set_ylabel("cross-entropy (nats)")
    axes[0, 1].legend()
    return figure


def _draw_modes(values: dict[str, Any]) -> Figure:
    rows = values["modes"]["rows"]
    figure, axes = plots.canvas(
        1,
        len(rows),
        sharey=True,
        caption="The logits of eight fixed test points by the first network with batch norm. Dots: in training mode, "
        "each with 40 random companies. Bars: in evaluation, where all companies give the same number to the bit.",
    )
    for axis, row in zip(axes[0], rows, strict=True):
        for point, (batch, running) in enumerate(zip(*row["first_member"].values(), strict=True)):
            jitter = torch.linspace(-0.25, 0.25, len(batch)).tolist()
            axis.plot([point + 1 + j for j in jitter], batch, ".", color=plots.VERMILLION, markersize=3, alpha=0.7)
            axis.plot([point + 0.6, point + 1.4], [running, running], color=plots.BLUE, linewidth=2.5)
        axis.axhline(0, color="#999999", linewidth=1)
        axis.set(xlabel="test point")
        plots.counting(axis.xaxis)
        axis.set_title(f"batches of {row['size']}")
    axes[0, 0].set_ylabel("logit")
    axes[0, 0].plot([], [], ".", color=plots.VERMILLION, label="training mode")
    axes[0, 0].plot([], [], color=plots.BLUE, linewidth=2.5, label="evaluation")
    axes[0, 0].legend(loc="upper left", fontsize=9)
    return figure
