"""At an equal budget, which search finds the better dropout rate, decay and learning rate?

Part: D
Command: python -m experiments run hyperparameter-search --data-root DATA
Runtime: smoke 1 s, quick 93 s of one core; full is for a GPU
Answer: the coordinate-wise and the Bayesian one, by little, with 27 trials on 200 MNIST digits (n = 1,536 searches,
    --members 1536 --at-once, taken after 384 had left two claims undecided): test losses 0.665 (coordinate-wise), 0.668
    (Bayesian), 0.685 (5 gradient steps, of 4 trials each), 0.690 (grid), 0.695 (random). Against random search they
    gain 0.030 (95% 0.026 to 0.033), 0.026 (0.023 to 0.030) and 0.009 (0.006 to 0.013), less than the 0.05 of interest;
    grid gains 0.004 (0.001 to 0.007), so that random search is not the better of the two on three axes, and the chosen
    point's validation loss flatters it by 0.007 (0.003 to 0.011), as little. The gradient through training takes the
    test loss from 2.02 to 0.685 and is that of central differences to 4e-8 of its size, with a step of 1e-8: with 1e-6,
    chosen before 32 searches were seen, 4 of 96 differences cross a jump. Searches side by side under vmap give the
    numbers that each has alone. Times are of a core, while others ran on the second.
"""

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import grad_and_value, vmap

import funcreg as fr

from ..harness import stopwatch
from ..harness.context import Context
from ..parts.trials import AXES, MEASURES, Points, Trials, TrialSettings
from ..report import estimates, plots
from ..report.claims import is_larger
from ..report.estimates import estimate, number
from ..report.result import Claim, Result, Table, plain, short

_SHOWN = 32  # searches, where each is a marker
_CHUNK = 64  # searches: a gradient through training keeps every step of theirs
_CHECKED = 64  # searches, whose gradients are compared with differences
_GRID, _RANDOM, _COORDINATE, _BAYESIAN, _GRADIENT = "grid", "random", "coordinate-wise", "Bayesian (TPE)", "gradient"


@dataclass(frozen=True)
class Settings(TrialSettings):
    """`seeds` searches by each method, with a budget of `levels` ** 3 trials each: those of the grid."""

    levels: int = 3
    gradient_cost: int = 4  # trials that a gradient through training counts for
    gradient_lr: float = 0.5


PRESETS = {
    "smoke": Settings(seeds=2, levels=2, train=60, validation=100, test=200, hidden=16, epochs=1, batch_size=30),
    "quick": Settings(),
    "full": Settings(
        seeds=20, levels=4, train=500, validation=1_000, test=10_000, pool=1, hidden=256, epochs=15, jit=True
    ),
}


class Found:
    """What the trials of some searches came to, (searches, trials), and when each was there."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds, self.clock = list(seeds), time.perf_counter()
        self.measured: list[Points] = []
        self.points: list[Points] = []
        self.seconds: list[float] = []

    def add(self, task: Trials, u: Tensor) -> Tensor:
        """Run the trials at u (searches, trials, 3) in the unit cube; their validation losses."""
        points = task.point(dict(zip(AXES, u.double().to(task.context.device).flatten(0, 1).unbind(1), strict=True)))
        return self.add_points(task, points)

    def add_points(self, task: Trials, points: Points) -> Tensor:
        """The same of points (searches * trials,)."""
        each = len(points["rate"]) // len(self.seeds)
        points = {**points, "seed": torch.tensor(self.seeds, device=task.context.device).repeat_interleave(each)}
        measured = task.trials(points)
        self.measured.append({name: value.reshape(-1, each) for name, value in measured.items()})
        self.points.append({name: points[name].cpu().reshape(-1, each) for name in AXES})
        self.seconds += [time.perf_counter() - self.clock] * each
        return self.measured[-1]["validation_loss"]

    def all(self, name: str) -> Tensor:
        """One measure, or one coordinate, of all trials in order."""
        parts = self.measured if name in MEASURES else self.points
        return torch.cat([part[name] for part in parts], dim=1)


def _grid(task: Trials, settings: Settings, seeds: Sequence[int]) -> Found:
    """All at once; in an order of each search's own, so that its first trials are not one corner."""
    found, levels = Found(seeds), settings.levels
    places = [(i + 0.5) / levels for i in range(levels)]
    grid = torch.stack(list(fr.sweep.grid(rate=places, decay=places, lr=places).values()), dim=1)
    keys = task.split(fr.random.fold_in(task.search_key, 0))
    found.add(task, torch.stack([grid[fr.random.permutation(keys[s].cpu(), len(grid))] for s in seeds]))
    return found


def _random(task: Trials, settings: Settings, seeds: Sequence[int]) -> Found:
    """All at once."""
    found = Found(seeds)
    keys = task.split(fr.random.fold_in(task.search_key, 1))
    ranges: Any = {
        "rate": settings.rate,
        "decay": fr.sweep.log_uniform(*settings.decay),
        "lr": fr.sweep.log_uniform(*settings.lr),
    }
    drawn = [fr.sweep.random_search(keys[seed], settings.levels**3, **ranges) for seed in seeds]
    found.add_points(task, {name: torch.cat([each[name] for each in drawn]) for name in AXES})
    return found


def _coordinate(task: Trials, settings: Settings, seeds: Sequence[int]) -> Found:
    """From the centre, one coordinate after the other: a step to each side, halved when all had their turn."""
    found, at = Found(seeds), torch.full((len(seeds), 3), 0.5, dtype=torch.float64)
    best = found.add(task, at.unsqueeze(1)).squeeze(1)
    for turn in range((settings.levels**3 - 1) // 2):
        width, axis = 0.5 ** (turn // 3) / 3, turn % 3
        sides = at.unsqueeze(1).repeat(1, 2, 1)
        sides[:, 0, axis] -= width
        sides[:, 1, axis] += width
        sides = sides.clamp(0, 1)
        loss, side = found.add(task, sides).min(dim=1)
        better = loss < best
        at = torch.where(better.unsqueeze(1), sides[torch.arange(len(seeds)), side], at)
        best = torch.where(better, loss, best)
    return found


def _bayesian(task: Trials, settings: Settings, seeds: Sequence[int]) -> Found:
    """Optuna's tree-structured Parzen estimator: searches side by side, each learning from its own trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    keys = task.split(fr.random.fold_in(task.search_key, 2))
    samplers = [optuna.samplers.TPESampler(seed=int(fr.random.randint(keys[seed], (), 0, 2**31 - 1))) for seed in seeds]
    studies, found = [optuna.create_study(sampler=sampler) for sampler in samplers], Found(seeds)
    for _ in range(settings.levels**3):
        trials = [study.ask() for study in studies]
        u = torch.tensor([[trial.suggest_float(axis, 0.0, 1.0) for axis in AXES] for trial in trials])
        losses = found.add(task, u.double().unsqueeze(1)).squeeze(1)
        for study, trial, loss in zip(studies, trials, losses.tolist(), strict=True):
            study.tell(trial, loss)
    return found


def _gradient(task: Trials, settings: Settings, seeds: Sequence[int]) -> Found:
    """From the centre, by Adam on the gradient of the validation loss through training."""
    found, device = Found(seeds), task.context.device
    z = {axis: torch.zeros(len(seeds), device=device) for axis in AXES}
    number_of = torch.tensor(list(seeds), device=device)
    start = task.start({**task.point(fr.tree.map(torch.sigmoid, z)), "seed": number_of})
    batches, optimizer = task.batches(), fr.optim.adam(settings.gradient_lr)
    slope = vmap(grad_and_value(task.validation_loss), in_dims=(0, 0, None, 0), chunk_size=_CHUNK)
    state = vmap(optimizer.init)(z)
    for turn in range(1 + (settings.levels**3 - 1) // (1 + settings.gradient_cost)):
        if turn:
            updates, state = vmap(optimizer.update)(slope(z, start, batches, number_of)[0], state, z)
            z = fr.optim.apply_updates(z, updates)
        found.add(task, torch.stack([torch.sigmoid(z[axis]) for axis in AXES], dim=1).unsqueeze(1))
    return found


def _methods() -> dict[str, Callable[[Trials, Settings, Sequence[int]], Found]]:
    methods = {_GRID: _grid, _RANDOM: _random, _COORDINATE: _coordinate}
    if importlib.util.find_spec("optuna") is not None:
        methods[_BAYESIAN] = _bayesian
    return {**methods, _GRADIENT: _gradient}


def main(settings: Settings, context: Context) -> Result:
    """Every method for all searches side by side; then one search by each, against the clock."""
    task, methods = Trials(settings, context), _methods()
    searches: dict[str, Any] = {}
    first: dict[str, Tensor] = {}
    for name, method in methods.items():
        found = method(task, settings, range(settings.seeds))
        searches[name] = _summary(found, settings)
        first[name] = found.all("validation_loss")[0]
    clock, same = {}, []
    for name in context.track(methods, "search against the clock"):
        found = methods[name](task, settings, [0])
        losses = found.all("validation_loss")[0]
        same.append(float((losses - first[name]).abs().max()))
        clock[name] = {"seconds": found.seconds, "best": losses.cummin(dim=0).values}
    measured = {
        "searches": settings.seeds,
        "budget": settings.levels**3,
        "gradient_cost": settings.gradient_cost,
        "methods": searches,
        "same": max(same),
        "hypergradient": _checked_gradient(task),
        "timing": {"methods": clock, **_sweep_time(task, settings)},
    }
    values, sources = plain(measured), [task.source]
    if _BAYESIAN not in methods:
        sources.append("Bayesian search was skipped: Optuna is not installed (pip install optuna)")
    return Result(values, _claims(values), _tables(values), sources)


def _summary(found: Found, settings: Settings) -> dict[str, Any]:
    """Best-so-far by trials spent, and what each search chose by its validation loss."""
    losses = found.all("validation_loss")
    cost = torch.ones(losses.shape[1], dtype=torch.int64)
    if losses.shape[1] < (settings.levels**3 - 1) // 2:  # only the gradient's trials are so few
        cost[1:] += settings.gradient_cost
    chosen = losses.argmin(dim=1, keepdim=True)
    picked = {name: found.all(name).gather(1, chosen).squeeze(1) for name in (*MEASURES, *AXES)}
    some = {axis: picked[axis][:_SHOWN] for axis in AXES}
    return {
        "trials": cost.cumsum(0),
        "best": estimates.curve(losses.cummin(dim=1).values),
        **short({**picked, **some, "first_test_loss": found.all("test_loss")[:, 0]}),
        "medians": {axis: float(np.median(picked[axis])) for axis in AXES},
    }


def _checked_gradient(task: Trials) -> dict[str, Any]:
    """The gradient through training against central differences, in float64, at points drawn for some searches."""
    seeds = torch.arange(min(task.settings.seeds, _CHECKED), device=task.context.device)
    u = fr.random.uniform(fr.random.fold_in(task.search_key, 3), (3, len(seeds)), low=-1.0, high=1.0)
    z: Points = dict(zip(AXES, u.double(), strict=True))
    start = fr.tree.cast(task.start({**task.point(fr.tree.map(torch.sigmoid, z)), "seed": seeds}), torch.float64)
    batches = fr.tree.cast(fr.tree.map(lambda leaf: leaf[:, :, : len(seeds)], task.batches()), torch.float64)
    slope = vmap(grad_and_value(task.validation_loss), in_dims=(0, 0, None, 0), chunk_size=_CHUNK)
    exact = slope(z, start, batches, seeds)[0]
    # The loss jumps where a ReLU switches in training: a step of 1e-6 meets that at 4 of 96 points, this one at none.
    loss, step = vmap(task.validation_loss, in_dims=(0, 0, None, 0)), 1e-8
    result: dict[str, Any] = {"exact": {}, "difference": {}}
    with torch.no_grad():
        for axis in AXES:
            ends = [loss({**z, axis: z[axis] + sign * step}, start, batches, seeds) for sign in (1, -1)]
            result["exact"][axis] = exact[axis]
            result["difference"][axis] = (ends[0] - ends[1]) / (2 * step)
    pairs = [torch.stack(list(result[kind].values())) for kind in ("exact", "difference")]
    return {**short(result), "error": float((pairs[0] - pairs[1]).abs().max() / pairs[0].abs().max())}


def _sweep_time(task: Trials, settings: Settings) -> dict[str, Any]:
    """The grid of one search as one fit, and some of its trials one after the other: seconds a trial, medians."""
    levels = [(i + 0.5) / settings.levels for i in range(settings.levels)]
    grid = task.point(fr.sweep.grid(rate=levels, decay=levels, lr=levels))
    points = fr.tree.to({**grid, "seed": torch.zeros(len(grid["lr"]), dtype=torch.int64)}, task.context.device)
    alone = fr.tree.map(lambda leaf: leaf[:1], points)
    work = {"sweep": lambda: task.trials(points), "loop": lambda: task.trials(alone)}
    times = stopwatch.interleaved(work, rounds=5, device=task.context.device)
    seconds = {name: float(np.median(each)) / 1e3 for name, each in times.items()}
    return {"sweep": seconds["sweep"] / len(points["seed"]), "loop": seconds["loop"]}


def _against(values: dict[str, Any], name: str, other: str, text: str) -> Claim:
    """Whether one method's choice has a lower test loss than another's, search by search."""
    chosen, compared = (np.array(values["methods"][each]["test_loss"]) for each in (name, other))
    measured = f"test loss {number(chosen.mean())}, {other} {number(compared.mean())}; paired gain {{difference}}"
    return is_larger(text, compared, chosen, measured, under="gain", smallest=0.05)


def _claims(values: dict[str, Any]) -> list[Claim]:
    budget, methods, gradient = values["budget"], values["methods"], values["methods"][_GRADIENT]
    iterations = len(gradient["trials"]) - 1
    first, last = (np.array(gradient[each]) for each in ("first_test_loss", "test_loss"))
    validation, test = (np.array(methods[_RANDOM][each]) for each in ("validation_loss", "test_loss"))
    check, timing = values["hypergradient"], values["timing"]
    checked = len(check["exact"]["rate"])
    claims = [
        _against(
            values,
            _RANDOM,
            _GRID,
            f"At an equal budget, {budget} trials, random search finds a lower test loss than grid",
        )
    ]
    if _BAYESIAN in methods:
        claims.append(_against(values, _BAYESIAN, _RANDOM, "Bayesian search finds a lower test loss than random"))
    return [
        *claims,
        _against(values, _COORDINATE, _RANDOM, "Coordinate-wise search finds a lower test loss than random search"),
        _against(
            values,
            _GRADIENT,
            _RANDOM,
            f"{iterations} steps along the gradient through training find a lower test loss than random search",
        ),
        is_larger(
            "Steps along the gradient lower the test loss of where they start, the centre of the space",
            first,
            last,
            f"from {number(first.mean())} to {number(last.mean())}; paired gain {{difference}}",
            under="gain",
        ),
        Claim(
            "The gradient of the validation loss through training is its derivative by rate, decay and learning rate",
            f"largest difference from central differences {check['error']:.1g} of the largest gradient "
            f"(float64, n = {checked} searches)",
            check["error"] < 1e-5,
            {"error": check["error"], "n": len(AXES) * checked},
        ),
        Claim(
            "Searches side by side under vmap come to what each comes to alone",
            f"largest difference of a validation loss over all trials of one search {values['same']:.1g}",
            values["same"] < 1e-4,
            {"difference": values["same"]},
        ),
        is_larger(
            "The chosen point's validation loss flatters: its test loss is higher (random search)",
            test,
            validation,
            f"validation {number(validation.mean())}, test {number(test.mean())}; paired difference {{difference}}",
            smallest=0.05,
        ),
        Claim(
            f"The grid of {budget} trials as one vmapped fit takes less time a trial than one by one",
            f"{1000 * timing['sweep']:.0f} ms a trial against {1000 * timing['loop']:.0f} ms: "
            f"{timing['loop'] / timing['sweep']:.1f} times as fast",
            timing["sweep"] < timing["loop"],
            {"timing": {"sweep": timing["sweep"], "loop": timing["loop"]}},
        ),
    ]


def _tables(values: dict[str, Any]) -> list[Table]:
    rows = []
    for name, each in values["methods"].items():
        loss, test, accuracy = (np.array(each[measure]) for measure in MEASURES)
        rows.append(
            (
                name,
                each["trials"][-1],
                *(estimate(e).spread for e in (loss, test)),
                estimate(100 * accuracy).fixed(1),
                *(number(each["medians"][axis], 2) for axis in AXES),
                values["searches"],
            )
        )
    columns = (
        "search",
        "budget spent (trials)",
        "validation loss",
        "test loss",
        "test accuracy (%)",
        *(f"{axis}, median" for axis in AXES),
        "n",
    )
    return [Table("What each search chose by its validation loss: mean ± sd over searches", columns, rows)]


def figures(result: Result) -> dict[str, Figure]:
    """Best so far against trials and against time; what was chosen; the gradient and its check."""
    values = result.values
    return {
        "trials": _draw_trials(values),
        "time": _draw_time(values),
        "chosen": _draw_chosen(values),
        "gradient": _draw_gradient(values),
    }


_MARKS = ("o", "s", "^", "D", "v")


def _draw_trials(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        height=4.2,
        caption=f"The lowest validation loss so far against the trials spent (mean over {values['searches']} searches, "
        "each with images, weights and noise of its own, the same for all methods); right: the end, enlarged. "
        f"A gradient through training counts for {values['gradient_cost']} trials; grid and random search make all of "
        "theirs at once, and are shown in a random order.",
    )
    late, ends = values["budget"] / 3, []
    for i, (name, each) in enumerate(values["methods"].items()):
        look = {"color": plots.PALETTE[i], "linestyle": plots.LINES[i], "marker": _MARKS[i], "markersize": 4}
        for axis in axes[0]:
            axis.plot(each["trials"], each["best"]["mean"], label=name, **look)
        ends += [best for trial, best in zip(each["trials"], each["best"]["mean"], strict=True) if trial >= late]
    margin = 0.05 * (max(ends) - min(ends))
    axes[0, 1].set(xlim=(late, values["budget"] + 0.5), ylim=(min(ends) - margin, max(ends) + margin))
    for axis in axes[0]:
        axis.set_xlabel("trials")
    axes[0, 0].set_ylabel("validation loss, best so far")
    axes[0, 0].legend()
    return figure


def _draw_time(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        height=4.2,
        caption="The same against time, one search of each method alone on this machine. Grid and random search are "
        "one vmapped fit each, so that all their trials are there at once (a marker); the others wait for what "
        "the trials before said.",
    )
    axis = axes[0, 0]
    for i, (name, each) in enumerate(values["timing"]["methods"].items()):
        look = {"color": plots.PALETTE[i], "linestyle": plots.LINES[i]}
        axis.step(each["seconds"], each["best"], where="post", label=name, **look)
        axis.plot(each["seconds"][-1:], each["best"][-1:], _MARKS[i], color=plots.PALETTE[i], markersize=8)
    ends = [each["best"] for each in values["timing"]["methods"].values()]
    low, start = min(each[-1] for each in ends), max(each[min(2, len(each) - 1)] for each in ends)
    start = min(start, 1.5 * low)  # how it begins is in the other figure
    margin = 0.05 * max(start - low, 1e-3)
    axis.set(xlabel="time (s)", ylabel="validation loss, best so far", ylim=(low - margin, start + margin))
    axis.set_xlim(left=0)
    axis.legend()
    return figure


def _draw_chosen(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        height=4.2,
        caption="Left: the test loss of what each search chose, less that of random search on the same images: left of "
        f"the line is better. A dot a search (n = {values['searches']}), the diamond is the mean with its 95% "
        f"interval. Right: the dropout rates and learning rates chosen, by at most {_SHOWN} searches of each method.",
    )
    methods = values["methods"]
    others = [name for name in methods if name != _RANDOM]
    base = np.array(methods[_RANDOM]["test_loss"])
    colors = {name: plots.PALETTE[i] for i, name in enumerate(methods)}
    gains = [(np.array(methods[name]["test_loss"]) - base).tolist() for name in others]
    plots.strip(axes[0, 0], others, gains, colors=[colors[name] for name in others])
    axes[0, 0].axvline(0, color="#999999", linewidth=1)
    axes[0, 0].set_xlabel("test loss less random search's")
    axes[0, 0].locator_params(axis="x", nbins=4)
    for i, (name, each) in enumerate(methods.items()):
        axes[0, 1].plot(each["lr"], each["rate"], _MARKS[i], color=colors[name], alpha=0.7, label=name)
    axes[0, 1].set(xscale="log", xlabel="learning rate", ylabel="dropout rate", ylim=(-0.02, 0.82))
    axes[0, 1].set_xticks([0.03, 0.1, 0.3], ["0.03", "0.1", "0.3"])
    axes[0, 1].set_xticks([], minor=True)
    axes[0, 1].legend(fontsize=8, loc="upper left")
    return figure


def _draw_gradient(values: dict[str, Any]) -> Figure:
    check = values["hypergradient"]
    figure, axes = plots.canvas(
        1,
        3,
        height=3.2,
        caption="The gradient of the validation loss through a whole training run against central differences, in "
        f"float64, at a random point for each of {len(check['exact']['rate'])} searches: all lie on the diagonal.",
    )
    titles = ("dropout rate", "decay", "learning rate")
    for axis, name, title, mark, color in zip(axes[0], AXES, titles, _MARKS, plots.PALETTE, strict=False):
        exact, difference = check["exact"][name], check["difference"][name]
        ends = [min(exact + difference), max(exact + difference)]
        axis.plot(ends, ends, color="#999999", linewidth=1)
        axis.plot(difference, exact, mark, color=color, alpha=0.8)
        axis.set(xlabel="central difference")
        axis.set_title(title)
        axis.locator_params(nbins=4)
        axis.locator_params(axis="x", nbins=3)
    axes[0, 0].set_ylabel("gradient through training")
    return figure
