"""What does clipping the gradient's norm change for a deep recurrent network at a high learning rate?

Part: A
Command: python -m experiments run gradient-clipping --data-root DATA
Runtime: smoke 1 s, quick 29 s of one core; full is for a GPU
Answer: at a rate chosen so that it matters, SGD at 2, much: held-out loss 2.16 with clipping at norm 1, 3.30 without
    (difference 1.14, 95% 0.25 to 2.03, n = 5 seeds, Tiny Shakespeare, 200 steps). 2.8% of the steps are clipped, early
    ones; without, 57.7% of the gradients are longer than 1, up to 24, in one run of five 7,800. No run diverges to what
    is not finite, and spikes of ten times the median are not in every run.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import funcreg as fr

from ..data import Text, characters
from ..harness.context import Context
from ..report import plots
from ..report.claims import is_larger
from ..report.estimates import estimate, number
from ..report.result import Claim, Result, Table, short


@dataclass(frozen=True)
class Settings:
    """A tanh RNN on characters, by SGD; windows of `length`, `steps` an epoch; each arm with the same seeds."""

    seeds: int = 5
    hidden: int = 64
    layers: int = 3
    length: int = 32
    batch_size: int = 32
    steps: int = 40
    epochs: int = 5
    held_out: int = 160
    learning_rate: float = 2.0
    max_norm: float = 1.0
    generated: int = 200


PRESETS = {
    "smoke": Settings(seeds=2, hidden=24, length=8, batch_size=16, steps=4, epochs=2, held_out=16, generated=10),
    "quick": Settings(),
    "full": Settings(seeds=8, hidden=256, length=64, batch_size=64, steps=250, epochs=8, held_out=512, generated=600),
}
CLIPPED, PLAIN = "clipped", "without"


class Characters(nn.Module):
    """The next character's logits (N, T, alphabet) and the hidden state after the last."""

    def __init__(self, alphabet: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(alphabet, hidden)
        self.recurrent = nn.RNN(hidden, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, alphabet)

    def forward(self, codes: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        outputs, last = self.recurrent(self.embedding(codes), hidden)
        return self.head(outputs), last


class Passed(NamedTuple):
    """What `_record` remembers: the norm of each step's gradients, (steps,), and how many it has seen."""

    norms: Tensor
    seen: Tensor


def main(settings: Settings, context: Context) -> Result:
    """Train every seed with and without clipping, from the same weights and on the same batches."""
    window_key, start_key, fit_key, sample_key = context.keys(4)
    text = characters(context.data)
    model = fr.from_module(lambda: Characters(len(text.alphabet), settings.hidden, settings.layers))
    train, held_out = _windows(text, settings, window_key, context)
    runs: dict[str, list[dict[str, Any]]] = {CLIPPED: [], PLAIN: []}
    samples = {}
    # In turn, not under vmap: torch's recurrent kernels have no rule for it, and a loop over time takes twice as long.
    for seed, key in enumerate(context.track(fr.random.split(start_key, settings.seeds), "seed")):
        for arm, found in runs.items():
            params, run = _train(
                model, train, held_out, settings, arm, (key, fr.random.fold_in(fit_key, seed)), context
            )
            found.append(run)
            samples.setdefault(arm, _write(model, params, text, settings, sample_key))
    values = {
        "seeds": settings.seeds,
        "max_norm": settings.max_norm,
        "steps": len(train.x) // settings.batch_size * settings.epochs,
        "epochs": settings.epochs,
        "runs": runs,
        "samples": samples,
    }
    used = f"{len(train.x):,} windows of {settings.length} of them to train and {len(held_out.x)} held out"
    return Result(values, _claims(values, settings), _tables(values), [f"{text.source}; {used}"])


def _windows(text: Text, settings: Settings, key: Tensor, context: Context) -> tuple[fr.train.Batch, fr.train.Batch]:
    """Windows of the text that do not overlap, in a random order: characters, and those that follow them."""
    count = (len(text.codes) - 1) // settings.length
    codes = text.codes.to(context.device)
    x, y = (codes[i : i + count * settings.length].reshape(count, -1) for i in (0, 1))
    order = fr.random.permutation(key, count)
    rest = settings.held_out
    train = min(settings.steps * settings.batch_size, count - rest)  # what stands in for the text is shorter
    chosen = order[:train], order[train : train + rest]
    return fr.train.Batch(x[chosen[0]], y[chosen[0]]), fr.train.Batch(x[chosen[1]], y[chosen[1]])


def _record(steps: int) -> fr.transforms.Transform:
    """A transform that changes nothing and remembers the norms of what comes through it."""

    def init(params: Any) -> Passed:
        device = fr.tree.leaves(params)[0].device
        return Passed(torch.full((steps,), torch.nan, device=device), torch.zeros((), dtype=torch.int64, device=device))

    def update(grads: Any, state: Passed, params: Any) -> tuple[Any, Passed]:
        here = torch.arange(steps, device=state.seen.device) == state.seen
        return grads, Passed(torch.where(here, fr.tree.norm(grads), state.norms), state.seen + 1)

    return fr.transforms.Transform(init, update)


def _train(
    model: fr.Model,
    train: fr.train.Batch,
    held_out: fr.train.Batch,
    settings: Settings,
    arm: str,
    keys: tuple[Tensor, Tensor],
    context: Context,
) -> tuple[Any, dict[str, Any]]:
    """One run: its parameters at the end, and the series of its steps and epochs.

    A run that diverges counts with what it had at the end of the epoch before.
    """
    init_key, train_key = fr.random.split(keys[0])
    recorder = _record(len(train.x) // settings.batch_size * settings.epochs)
    clip = [fr.transforms.clip_by_global_norm(settings.max_norm)] if arm == CLIPPED else []
    optimizer = fr.transforms.chain(*clip, recorder, fr.optim.sgd(settings.learning_rate))

    def loss_fn(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        (logits, _), state = model.apply(params, state, batch.x)
        return fr.losses.cross_entropy(logits.flatten(0, 1), batch.y.flatten()), (state, {})

    def evaluate(params: Any, state: Any) -> dict[str, Tensor]:
        return {"held_out": loss_fn(params, state, held_out, key=train_key, hparams=None)[0]}

    params, state = fr.tree.to(model.init(init_key), context.device)
    epochs: list[fr.train.Epoch] = []
    diverged = 0
    try:
        context.fit(
            fr.train.make_step(loss_fn, optimizer),
            fr.train.init(params, state, optimizer, key=train_key),
            train,
            key=keys[1],
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            jit=False,  # fullgraph refuses torch's recurrent kernels
            evaluate=evaluate,
            on_epoch=epochs.append,
        )
    except fr.FuncregError as error:
        if not epochs or "diverged" not in str(error):
            raise
        diverged = len(epochs) + 1
    steps = {name: torch.cat([epoch.steps[name] for epoch in epochs]) for name in ("loss", "grad_norm")}
    end = epochs[-1].train_state
    passed: Passed = end.opt_state[len(clip)]
    return end.params, {
        "diverged_epoch": diverged,
        "loss": short(steps["loss"]),
        "before": short(steps["grad_norm"]),
        "after": short(passed.norms[: int(passed.seen)]),
        # In full, since it is compared with the norm that clipping should leave.
        "error": float(
            (passed.norms[: int(passed.seen)].cpu() - _expected(steps["grad_norm"], settings, arm)).abs().max()
        ),
        "held_out": [float(epoch.metrics["held_out"]) for epoch in epochs],
    }


def _expected(before: Tensor, settings: Settings, arm: str) -> Tensor:
    """min(norm, max_norm) where it is clipped."""
    return before.clamp(max=settings.max_norm) if arm == CLIPPED else before


def _write(model: fr.Model, params: Any, text: Text, settings: Settings, key: Tensor) -> str:
    """Characters drawn one by one, each from what the model says of those before; the first follows a line's end."""
    code = torch.tensor([[text.alphabet.index("\n")]], device=key.device)
    hidden, codes = None, []
    for each in fr.random.split(key, settings.generated):
        (logits, hidden), _ = model.apply(params, {}, code, hidden)
        code = fr.random.categorical(each, logits[0, -1]).reshape(1, 1)
        codes.append(int(code))
    return "".join(text.alphabet[code] for code in codes)


def _of(values: dict[str, Any], arm: str, what: str) -> list[list[float]]:
    return [run[what] for run in values["runs"][arm]]


def _above(values: dict[str, Any], arm: str) -> list[float]:
    """The share (%) of each run's steps whose gradient is longer than the maximum."""
    return [100 * float(np.mean(np.array(run) > values["max_norm"])) for run in _of(values, arm, "before")]


def _spike(values: dict[str, Any], arm: str) -> list[float]:
    """Each run's largest gradient norm over its median."""
    return [float(np.max(run) / np.median(run)) for run in _of(values, arm, "before")]


def _ends(values: dict[str, Any], arm: str) -> list[float]:
    """Each run's held-out loss at the end."""
    return [run[-1] for run in _of(values, arm, "held_out")]


def _claims(values: dict[str, Any], settings: Settings) -> list[Claim]:
    clipped, plain = _ends(values, CLIPPED), _ends(values, PLAIN)
    share = estimate(_above(values, CLIPPED))
    largest = max(max(run) for run in _of(values, CLIPPED, "after"))
    errors = [run["error"] for run in values["runs"][CLIPPED]]
    counts = {arm: sum(run["diverged_epoch"] > 0 for run in values["runs"][arm]) for arm in values["runs"]}
    spikes = {arm: _spike(values, arm) for arm in (CLIPPED, PLAIN)}
    limit = f"{settings.max_norm:g}"
    return [
        is_larger(
            f"At learning rate {settings.learning_rate:g}, clipping to norm {limit} ends with a lower loss",
            plain,
            clipped,
            "held-out {smaller:.2f} clipped, {larger:.2f} without (nats a character); difference {difference}",
            clipped=clipped,
            without=plain,
        ),
        Claim(
            "Without clipping the gradient norm has spikes of more than ten times its median, in every run",
            f"largest over median {min(spikes[PLAIN]):.3g} to {number(max(spikes[PLAIN]))} (n = {values['seeds']}); "
            f"with clipping, before it, {min(spikes[CLIPPED]):.3g} to {max(spikes[CLIPPED]):.3g}",
            min(spikes[PLAIN]) > 10,
            {**spikes, "n": values["seeds"]},
        ),
        Claim(
            f"After clipping no gradient is longer than {limit}: what is passed on has min(norm, {limit})",
            f"largest norm measured behind the transform {largest:.6g}; largest difference from the minimum "
            f"{max(errors):.1g} (n = {values['seeds']} runs of {values['steps']} steps)",
            largest <= settings.max_norm * (1 + 1e-5) and max(errors) < 1e-5,
            {"largest": largest, "error": errors},
        ),
        Claim(
            "Clipping is for the rare step: fewer than a quarter of the steps are clipped",
            f"clipped steps {share}%",
            share.below(25),
            share._asdict(),
        ),
        is_larger(
            "Clipping keeps the gradients themselves smaller: fewer of them are too long than without it",
            _above(values, PLAIN),
            _above(values, CLIPPED),
            f"longer than {limit} before clipping: {{smaller:.1f}}% of the steps with it, {{larger:.1f}}% without; "
            "difference in points {difference}",
            under="",
        ),
        Claim(
            "Without clipping the run diverges: its loss or gradient is no longer finite",
            f"diverged: {counts[PLAIN]} of {values['seeds']} without, {counts[CLIPPED]} of {values['seeds']} with",
            counts[PLAIN] == values["seeds"],
            {**counts, "n": values["seeds"]},
        ),
    ]


def _tables(values: dict[str, Any]) -> list[Table]:
    rows = []
    for arm in values["runs"]:
        columns = (
            _ends(values, arm),
            [float(np.mean(run[-values["steps"] // values["epochs"] :])) for run in _of(values, arm, "loss")],
            _above(values, arm),
            [float(np.median(run)) for run in _of(values, arm, "before")],
            [float(np.max(run)) for run in _of(values, arm, "before")],
            [float(np.max(run)) for run in _of(values, arm, "after")],
        )
        each = (estimate(column) for column in columns)
        rows.append((arm, *(e.spread for e in each), values["seeds"]))
    heads = (
        "held-out loss (nats)",
        "training loss, last epoch (nats)",
        f"steps with a norm above {values['max_norm']:g} (%)",
        "median norm",
        "largest norm before",
        "largest norm after",
    )
    samples = [(arm, sample.replace("\n", " / ")) for arm, sample in values["samples"].items()]
    return [
        Table("Gradients and loss: mean ± sd", ("arm", *heads, "n"), rows),
        Table("Text that the first seed's models write; / ends a line", ("arm", "sample"), samples),
    ]


def figures(result: Result) -> dict[str, Figure]:
    """Gradient norms step by step, their histograms before and after, the losses."""
    values = result.values
    return {"norms": _draw_norms(values), "histograms": _draw_histograms(values), "losses": _draw_losses(values)}


def _draw_norms(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        height=3.6,
        sharey=True,
        caption=f"The gradient's norm at every step, before any clipping: a line a seed (n = {values['seeds']}), the "
        f"first one dark. Clipping acts above the line at {values['max_norm']:g}; without it a spike throws the "
        "weights where gradients stay long.",
    )
    for i, (axis, arm) in enumerate(zip(axes[0], values["runs"], strict=True)):
        for seed, series in reversed(list(enumerate(_of(values, arm, "before")))):
            alpha, width = (1.0, 1.2) if seed == 0 else (0.35, 0.8)
            axis.plot(range(1, len(series) + 1), series, color=plots.PALETTE[i], alpha=alpha, linewidth=width)
        axis.axhline(values["max_norm"], color=plots.BLACK, linewidth=1, linestyle="--")
        share = np.mean(_above(values, arm))
        axis.set(yscale="log", xlabel="step")
        axis.set_title(f"{arm}: {share:.0f}% of steps above {values['max_norm']:g}", fontsize=11)
    axes[0, 0].set_ylabel("gradient norm before clipping")
    return figure


def _draw_histograms(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        height=3.4,
        sharex=True,
        caption=f"All steps' gradient norms (n = {values['seeds']} runs of {values['steps']} steps) before clipping "
        "and as measured behind the transform, on logarithmic scales. Clipping piles up at "
        f"{values['max_norm']:g} what was above; without it both are the same.",
    )
    both = [np.concatenate(_of(values, arm, "before")) for arm in values["runs"]]
    low, high = min(each.min() for each in both), max(each.max() for each in both)
    # What is clipped, to the maximum but for rounding, is in the last bin below it.
    edge = values["max_norm"] * (1 + 1e-4)
    width = np.log10(max(high, edge) / low) / 40
    reach = [int(np.ceil(abs(np.log10(end / edge)) / width)) for end in (low, high)]
    bins = edge * 10 ** (width * np.arange(-reach[0], reach[1] + 1))
    for axis, arm in zip(axes[0], values["runs"], strict=True):
        for i, (what, label) in enumerate((("before", "before"), ("after", "after"))):
            counts = np.histogram(np.concatenate(_of(values, arm, what)), bins)[0]
            axis.stairs(
                counts,
                bins,
                color=plots.PALETTE[i],
                linestyle=plots.LINES[i],
                fill=what == "before",
                label=label,
                alpha=0.4 if what == "before" else 1.0,
                linewidth=1.8,
            )
        axis.axvline(values["max_norm"], color=plots.BLACK, linewidth=1, linestyle="--")
        axis.set(xscale="log", yscale="log", xlabel="gradient norm", ylim=(0.7, None))
        axis.set_title(arm, fontsize=11)
    axes[0, 0].set_ylabel("steps")
    axes[0, 0].legend()
    return figure


def _draw_losses(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        height=3.6,
        sharey=True,
        caption=f"Left: the training loss of every step (mean over {values['seeds']} seeds, band: one sd). Right: on "
        "windows held out, after each epoch.",
    )
    left, right = axes[0]
    for i, arm in enumerate(values["runs"]):
        losses, held_out = _padded(_of(values, arm, "loss"), values["steps"]), _of(values, arm, "held_out")
        plots.band(left, range(1, values["steps"] + 1), losses, arm, i, linewidth=1.4)
        plots.band(right, range(1, values["epochs"] + 1), _padded(held_out, values["epochs"]), arm, i, marker="o")
    left.set(xlabel="step", ylabel="loss (nats a character)", title="Training", ylim=(0, None))
    right.set(xlabel="epoch", title="Held out")
    plots.counting(right.xaxis)
    left.legend()
    return figure


def _padded(series: list[list[float]], length: int) -> list[list[float]]:
    """Runs that ended early repeat their last value."""
    return [each + each[-1:] * (length - len(each)) for each in series]
