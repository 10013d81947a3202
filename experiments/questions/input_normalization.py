"""How much sooner does logistic regression learn when its inputs are normalised, and by which way?

Part: C
Command: python -m experiments run input-normalization
Runtime: smoke 1 s, quick 8 s, full about 2 min (2 CPU cores)
Answer: standardised inputs get to 95% held-out accuracy after 50 epochs (median, n = 128 seeds, --members 128); of the
    raw ones 20 in 128 do within 2,000, of the min-max ones 43, of unit norm none (directions alone allow 76.2%).
    Condition numbers of the Hessian at zero weights: 8,457 raw, 74.5 min-max, 1.12 standardised. On raw inputs 0.1 is
    above the stable rate 0.028 and the loss goes up in 35% of the epochs; min-max, stable, is sooner there by 181
    epochs (95% 40 to 322), since 0.1 is a fiftieth of its stable rate. After 20 epochs standardised inputs are ahead by
    5.0 points (2.4 to 7.6).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import grad, jacrev, vmap

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
    """Every way on the same `seeds`: points and first weights each; full-batch SGD, looked at at each of `epochs`."""

    seeds: int = 32
    samples: int = 200
    test: int = 500
    learning_rate: float = 0.1
    epochs: tuple[int, ...] = (20, 200, 2_000)
    ceiling_samples: int = 100_000
    jit: bool = False


PRESETS = {
    "smoke": Settings(seeds=4, epochs=(5, 10, 40), ceiling_samples=20_000),
    "quick": Settings(),
    "full": Settings(seeds=128, test=2_000, ceiling_samples=1_000_000, jit=True),
}
WAYS: tuple[str, ...] = ("raw", "standardised", "min-max", "unit norm")
GOAL = 0.95


def main(settings: Settings, context: Context) -> Result:
    """Train all ways x seeds as the members of one fit; judge every epoch's weights afterwards."""
    data_key, test_key, init_key, start_key, fit_key, ceiling_key = context.keys(6)
    seeds = settings.seeds
    draw = vmap(two_scales, (0, None))
    x, y = draw(fr.random.split(data_key, seeds), settings.samples)
    test_x, test_y = draw(fr.random.split(test_key, seeds), settings.test)
    scalings = {"standardised": vmap(fr.norm.fit_standard)(x), "min-max": vmap(fr.norm.fit_min_max)(x)}
    inputs, test_inputs = _ways(x, scalings), _ways(test_x, scalings)
    labels, test_labels = y.repeat(len(WAYS), 1), test_y.repeat(len(WAYS), 1)

    model = fr.from_module(lambda: nn.Linear(2, 1))
    weights = _train(model, inputs, labels, settings, (init_key, start_key, fit_key), context)
    accuracy = _along(_accuracy, weights, test_inputs, test_labels)
    losses = _along(fr.losses.binary_cross_entropy, weights, inputs, labels)
    eigenvalues = vmap(_eigenvalues)(inputs, labels)
    looks = torch.tensor(settings.epochs) - 1
    points = _log_spaced(settings.epochs[-1])
    values = {
        "seeds": seeds,
        "epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "accuracy": {"epoch": points, "curves": [curve(each) for each in _by_way(accuracy[points - 1])]},
        "accuracy_at": _by_way(accuracy[looks]).transpose(1, 2),
        "epochs_to_goal": _by_way(_first_at(accuracy, GOAL).unsqueeze(0)).squeeze(-1),
        "rising": _by_way(_rising(losses).unsqueeze(0)).squeeze(-1),
        "eigenvalues": {
            "smallest": _by_way(eigenvalues[:, 0].unsqueeze(0)).squeeze(-1),
            "largest": _by_way(eigenvalues[:, -1].unsqueeze(0)).squeeze(-1),
        },
        "ceiling": _ceiling(ceiling_key, settings.ceiling_samples),
        "shown": {
            "x": (x[0, :150] * 100).round().div(100),
            "y": y[0, :150],
            "weights": weights[looks][:, ::seeds],
            "scalings": {name: fr.tree.index(scaling, 0)._asdict() for name, scaling in scalings.items()},
        },
    }
    source = (
        f"generated: {settings.samples} points to train, {settings.test:,} to test, x_0 ~ N(5.2, 1), "
        "x_1 ~ N(10, 13^2), class [x_0 - 6 + 0.1 x_1 > 0], drawn anew for each seed"
    )
    return Result(values, _claims(values), _tables(values), [source])


def _ways(x: Tensor, scalings: dict[str, fr.norm.Scaling]) -> Tensor:
    """Points (seeds, n, 2) in every way: (ways * seeds, n, 2). Scalings come from the training points alone."""
    scaled = [vmap(fr.norm.apply_scaling)(x, scaling) for scaling in scalings.values()]
    return torch.cat([x, *scaled, fr.norm.unit_norm(x)])


def _train(
    model: fr.Model,
    inputs: Tensor,
    labels: Tensor,
    settings: Settings,
    keys: tuple[Tensor, Tensor, Tensor],
    context: Context,
) -> Tensor:
    """The weights (w_0, w_1, b) of every member after every epoch: (epochs, members, 3)."""
    init_key, start_key, fit_key = keys
    members = len(inputs)

    def loss_fn(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        x, y = own(batch, hparams["member"])
        logits, state = model.apply(params, state, x)
        return fr.losses.binary_cross_entropy(logits.squeeze(-1), y), (state, {})

    path: list[Tensor] = []

    def keep(epoch: fr.train.Epoch) -> None:
        params = epoch.train_state.params
        path.append(torch.cat([params["weight"].squeeze(1), params["bias"]], dim=1))

    optimizer = fr.optim.sgd(settings.learning_rate)
    hparams = {"member": torch.arange(members, device=inputs.device)}
    first, _ = fr.model_members(model, init_key, settings.seeds)  # the same in every way
    params = fr.tree.map(lambda leaf: leaf.repeat(len(WAYS), *(1 for _ in leaf.shape[1:])), first)
    context.fit(
        fr.train.make_step(loss_fn, optimizer),
        fr.train.init(params, {}, optimizer, key=start_key, hparams=hparams, members=members),
        fr.train.Batch(inputs.movedim(1, 0), labels.movedim(1, 0)),
        key=fit_key,
        epochs=settings.epochs[-1],
        hparams=hparams,
        members=members,
        jit=settings.jit,
        on_epoch=keep,
    )
    return torch.stack(path)


def _logits(weights: Tensor, x: Tensor) -> Tensor:
    """Of one member's weights (3,) at points (n, 2): the model's, without a matrix product a member."""
    return (x * weights[:2]).sum(dim=-1) + weights[2]


def _along(function: Callable[..., Tensor], weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """A function (logits, labels) -> number after every epoch, of every member: (epochs, members)."""
    one = vmap(lambda w, each, classes: function(_logits(w, each), classes))
    return vmap(one, (0, None, None), chunk_size=20)(weights, x, y)


def _accuracy(logits: Tensor, y: Tensor) -> Tensor:
    return ((logits > 0) == (y == 1)).float().mean()


def _eigenvalues(x: Tensor, y: Tensor) -> Tensor:
    """Of the loss's Hessian in (w_0, w_1, b) where all three are 0, ascending; there labels do not matter."""

    def loss(weights: Tensor) -> Tensor:
        return fr.losses.binary_cross_entropy(_logits(weights, x.double()), y)

    return torch.linalg.eigvalsh(jacrev(grad(loss))(torch.zeros(3, dtype=torch.float64, device=x.device)))


def _first_at(accuracy: Tensor, goal: float) -> Tensor:
    """The first epoch with this accuracy, (members,); epochs + 1 for those that never have it."""
    reached = accuracy >= goal
    first = reached.int().argmax(dim=0) + 1
    return torch.where(reached.any(dim=0), first, len(accuracy) + 1)


def _rising(losses: Tensor) -> Tensor:
    """In what share of the epochs the loss went up, by more than rounding."""
    return (losses[1:] > losses[:-1] * (1 + 1e-6)).double().mean(dim=0)


def _ceiling(key: Tensor, samples: int) -> float:
    """The accuracy of the best rule that sees the direction of a row alone, on as many new points.

    A rule is a class for each of 720 angles, taken from one half of the points and tried on the other.
    """
    x, y = two_scales(key, samples)
    angle = ((torch.atan2(x[:, 1], x[:, 0]) / torch.pi + 1) * 360).long().clamp(max=719)
    half = samples // 2
    votes = torch.zeros(720, device=x.device).index_add(0, angle[:half], 2.0 * y[:half] - 1)
    return float(((votes[angle[half:]] > 0) == (y[half:] == 1)).double().mean())


def _by_way(values: Tensor) -> Tensor:
    """(points, ways * seeds) -> (ways, seeds, points)."""
    return values.T.reshape(len(WAYS), -1, len(values))


def _log_spaced(last: int) -> Tensor:
    return torch.logspace(0, np.log10(last), 60, dtype=torch.float64).round().long().unique()


def _claims(values: dict[str, Any]) -> list[Claim]:
    to_goal = dict(zip(WAYS, values["epochs_to_goal"], strict=True))
    smallest, largest = (dict(zip(WAYS, values["eigenvalues"][end], strict=True)) for end in ("smallest", "largest"))
    condition = {way: largest[way] / smallest[way] for way in WAYS}
    rising = dict(zip(WAYS, values["rising"], strict=True))
    at = {way: 100 * each.double() for way, each in zip(WAYS, values["accuracy_at"], strict=True)}
    epochs, last = values["epochs"], values["epochs"][-1]
    tenfold = estimate((condition["raw"] / condition["standardised"]).log10().tolist())
    steps = (("raw", "min-max"), ("min-max", "standardised"))
    middle = [paired(condition[a].log10(), condition[b].log10()) for a, b in steps]
    slower = [paired(to_goal[a], to_goal[b]) for a, b in steps]
    limit = {way: 2 / largest[way] for way in WAYS}
    rises = paired(rising["raw"], rising["standardised"])
    best = estimate(at["unit norm"][-1].tolist())
    above = estimate((at["min-max"][-1] - at["unit norm"][-1]).tolist())
    return [
        is_larger(
            "Standardised inputs reach 95% held-out accuracy sooner than raw ones",
            to_goal["raw"],
            to_goal["standardised"],
            f"after {_epochs(to_goal['standardised'], last)} epochs against {_epochs(to_goal['raw'], last)} "
            "(medians); paired difference at least {difference}",
            **{way: each.tolist() for way, each in to_goal.items()},
        ),
        Claim(
            "The Hessian at zero weights is worse conditioned on raw inputs than on standardised ones",
            f"condition number {_geometric(condition['raw'])} against {_geometric(condition['standardised'])}: factor "
            f"10^({tenfold})",
            tenfold.above(),
            {
                "log10 ratio": tenfold._asdict(),
                **{way: estimate(each.tolist())._asdict() for way, each in condition.items()},
            },
        ),
        Claim(
            "Min-max lies between the two, in condition number and in epochs to 95%",
            f"condition number {_geometric(condition['min-max'])}, {_epochs(to_goal['min-max'], last)} epochs; epochs "
            f"fewer than raw {slower[0]}, more than standardised {slower[1]}",
            every([*(e.above() for e in middle), *(e.above(smallest=20.0) for e in slower)]),
            {
                "log10 condition": [each._asdict() for each in middle],
                "epochs": [each._asdict() for each in slower],
            },
        ),
        Claim(
            f"Rate {values['learning_rate']:g} is beyond raw inputs' limit 2 / (largest eigenvalue): the loss goes up",
            f"limit {_geometric(limit['raw'])} raw, {_geometric(limit['standardised'])} standardised; the loss goes up "
            f"in {100 * float(rising['raw'].mean()):.0f}% and {100 * float(rising['standardised'].mean()):.0f}% of "
            f"the epochs, difference {rises}",
            rises.above() & bool((limit["raw"] < values["learning_rate"]).all()),
            {
                "share": rises._asdict(),
                "limit": {way: estimate(each.tolist())._asdict() for way, each in limit.items()},
            },
        ),
        *(
            is_larger(
                f"After {epoch:,} epochs standardised inputs give a higher held-out accuracy than raw ones",
                at["standardised"][i],
                at["raw"][i],
                "{larger:.1f}% against {smaller:.1f}%; paired difference in points {difference}",
                smallest=1.0,
                under="",
            )
            for i, epoch in enumerate(epochs)
        ),
        Claim(
            "Unit norm throws the length of a row away, and with it the way to 95%",
            f"{best} % after {last:,} epochs, {number(above.mean)} points under min-max; the best rule that sees "
            f"directions alone gets {100 * values['ceiling']:.1f}%",
            above.above() & bool((to_goal["unit norm"] > last).all()),
            {"accuracy": best._asdict(), "below min-max": above._asdict(), "ceiling": values["ceiling"]},
        ),
    ]


def _epochs(to_goal: Tensor, last: int) -> str:
    """The median of members; those that never got there count as later than the last."""
    middle = float(to_goal.double().quantile(0.5))
    return f"more than {last:,}" if middle > last else f"{middle:,.0f}"


def _geometric(values: Tensor) -> str:
    """The geometric mean, for what differs by powers of ten."""
    return number(float(values.log().mean().exp()))


def _tables(values: dict[str, Any]) -> list[Table]:
    last = values["epochs"][-1]
    rows = []
    for i, way in enumerate(WAYS):
        to_goal = values["epochs_to_goal"][i]
        condition = values["eigenvalues"]["largest"][i] / values["eigenvalues"]["smallest"][i]
        at = [estimate((100 * each).tolist()) for each in values["accuracy_at"][i]]
        rows.append(
            (
                way,
                _geometric(condition),
                _geometric(2 / values["eigenvalues"]["largest"][i]),
                *(each.fixed(1) for each in at),
                _epochs(to_goal, last),
                f"{int((to_goal <= last).sum())} of {values['seeds']}",
            )
        )
    columns = (
        "inputs",
        "condition number",
        "largest stable rate",
        *(f"accuracy after {epoch:,} epochs (%)" for epoch in values["epochs"]),
        "epochs to 95% (median)",
        "members at 95%",
    )
    title = (
        f"Logistic regression, SGD {values['learning_rate']:g}, n = {values['seeds']} seeds: geometric means of the "
        "Hessian's at zero weights; held-out accuracy, mean ± sd"
    )
    return [Table(title, columns, rows)]


def figures(result: Result) -> dict[str, Figure]:
    """Boundaries of one seed, accuracy against epochs, and epochs against the condition number."""
    return {
        "boundaries": _draw_boundaries(result.values),
        "accuracy": _draw_accuracy(result.values),
        "condition": _draw_condition(result.values),
    }


def _draw_boundaries(values: dict[str, Any]) -> Figure:
    shown, epochs = values["shown"], values["epochs"]
    figure, axes = plots.canvas(
        2,
        2,
        height=6.4,
        sharex=True,
        sharey=True,
        caption=f"Decision boundaries of the first of {values['seeds']} seeds, in the coordinates of the data (150 of "
        "its points: dots are class 1, crosses class 0). Under unit norm a boundary is a ray from the origin: only a "
        "row's direction is left. One that is missing lies outside.",
    )
    x, y = np.array(shown["x"]), np.array(shown["y"])
    grid_x, grid_y = np.meshgrid(np.linspace(1.5, 9, 300), np.linspace(-35, 55, 300))
    grid = np.stack([grid_x, grid_y], axis=-1)
    for i, (axis, way) in enumerate(zip(axes.flat, WAYS, strict=True)):
        axis.plot(*x[y == 1].T, "o", color=plots.SKY, markersize=3, alpha=0.7)
        axis.plot(*x[y == 0].T, "x", color="#999999", markersize=3.5)
        axis.plot([1.5, 9], [45, -30], color=plots.BLACK, linewidth=1, label="truth")
        for j, epoch in enumerate(epochs):
            *slope, offset = shown["weights"][j][i]
            inputs = _inputs(grid, way, shown["scalings"])
            style: dict[str, Any] = {"colors": [plots.PALETTE[1 + j]], "linestyles": [plots.LINES[3 - j]]}
            axis.contour(grid_x, grid_y, inputs @ np.array(slope) + offset, levels=[0], linewidths=2.2, **style)
            label = f"{epoch:,} epochs"
            axis.plot([], [], color=style["colors"][0], linestyle=style["linestyles"][0], label=label)
        axis.set(xlim=(1.5, 9), ylim=(-35, 55))
        axis.set_title(way)
    for axis in axes[-1]:
        axis.set_xlabel("$x_0$")
    for axis in axes[:, 0]:
        axis.set_ylabel("$x_1$")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _inputs(grid: np.ndarray, way: str, scalings: dict[str, Any]) -> np.ndarray:
    """Points (..., 2) as a network of this way sees them."""
    points = torch.tensor(grid)
    if way == "unit norm":
        return fr.norm.unit_norm(points).numpy()
    if way == "raw":
        return grid
    scaling = fr.norm.Scaling(**{name: torch.tensor(each) for name, each in scalings[way].items()})
    return fr.norm.apply_scaling(points, scaling).numpy()


def _draw_accuracy(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        caption=f"Held-out accuracy as training goes on (mean over {values['seeds']} seeds, band: one sd). The dotted "
        "line is 95%. Standardised inputs get there within a hundred epochs."
    )
    axis, points = axes[0, 0], values["accuracy"]["epoch"]
    for i, (way, each) in enumerate(zip(WAYS, values["accuracy"]["curves"], strict=True)):
        scaled = {**each, "mean": [100 * v for v in each["mean"]], "sd": [100 * v for v in each["sd"]]}
        plots.band(axis, points, scaled, way, i)
    axis.axhline(100 * GOAL, color=plots.BLACK, linewidth=1, linestyle=":")
    axis.set(xscale="log", xlabel="epoch", ylabel="held-out accuracy (%)", ylim=(35, 102))
    plots.counting(axis.xaxis)
    axis.legend(loc="lower right", ncols=2)
    return figure


def _draw_condition(values: dict[str, Any]) -> Figure:
    last = values["epochs"][-1]
    figure, axes = plots.canvas(
        caption=f"Epochs to 95% against the condition number of the Hessian at zero weights: a mark a seed (n = "
        f"{values['seeds']} each way). Marks on the dashed line did not get there in {last:,} epochs."
    )
    axis = axes[0, 0]
    for i, (way, marker) in enumerate(zip(WAYS, "o^sD", strict=True)):
        condition = np.array(values["eigenvalues"]["largest"][i]) / np.array(values["eigenvalues"]["smallest"][i])
        axis.plot(condition, values["epochs_to_goal"][i], marker, color=plots.PALETTE[i], label=way, alpha=0.6)
    axis.axhline(last + 1, color=plots.BLACK, linewidth=1, linestyle="--")
    axis.set(xscale="log", yscale="log", xlabel="condition number", ylabel="epochs to 95%", ylim=(None, 1.6 * last))
    for each in (axis.xaxis, axis.yaxis):
        plots.counting(each)
    axis.legend(loc="lower right")
    return figure
