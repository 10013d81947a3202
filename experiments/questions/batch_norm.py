"""What goes wrong when batch norm evaluates with the statistics of its batch, and with MC dropout?

Part: A
Command: python -m experiments run batch-norm --data-root DATA
Runtime: smoke 1 s, quick 13 s (2 CPU cores)
Answer: on MNIST (n = 5 members) accuracy is 92.1% with running statistics whatever the batch; with the batch's own
    it is 57.8% in batches of 2 and 17.0% in batches of one class. MC dropout with running statistics leaves
    them alone to the bit and keeps 92.1% on a stream sorted by class; in training mode it gets 24.3%, and spoils
    the running statistics (90.1% after it). funcreg's batch norm is nn.BatchNorm1d's to 2e-15 over 20 steps.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import vmap

import funcreg as fr

from ..data import Images, mnist
from ..harness.context import Context
from ..parts.classifiers import train_members
from ..report import plots
from ..report.claims import is_larger
from ..report.estimates import estimate, number
from ..report.result import Claim, Result, Table


@dataclass(frozen=True)
class Settings:
    """An MLP 784-hidden-10 with batch norm and dropout 0.5; evaluated in batches of each size."""

    members: int = 5
    hidden: int = 128
    rate: float = 0.5
    train: int = 5_000
    test: int = 1_024
    steps: int = 400
    batch_size: int = 64
    learning_rate: float = 1e-3
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    companions: int = 40
    samples: int = 100
    parity_steps: int = 20


PRESETS = {
    "smoke": Settings(
        members=2, hidden=32, train=640, test=256, steps=10, sizes=(1, 16, 64), companions=5, samples=5, parity_steps=5
    ),
    "quick": Settings(),
    "full": Settings(members=16, hidden=512, train=60_000, test=10_000, steps=5_000, companions=500),
}
Variables = tuple[dict[str, Tensor], dict[str, Tensor]]


def main(settings: Settings, context: Context) -> Result:
    """Compare with torch; train members; evaluate them rightly and wrongly."""
    parity_key, init_key, train_key, companions_key, mc_key = context.keys(5)
    images = mnist(context.data).take(settings.train, settings.test).to(context.device)
    model = fr.from_module(lambda: _network(settings))
    trained = train_members(
        model, images, settings, context, members=settings.members, init_key=init_key, key=train_key
    ).train_state
    members = trained.params, trained.state
    values = {
        "members": settings.members,
        "parity": _parity(settings, parity_key),
        "sizes": _sizes(model, members, images, settings),
        "composition": _composition(model, members, images, settings),
        "companions": _companions(model, members, images, settings, companions_key, context),
        "mc": _mc(model, members, images, settings, mc_key),
    }
    source = f"{images.source}; {len(images.x):,} of them to train and {len(images.test_x):,} to test"
    return Result(values, _claims(values, settings), _tables(values), [source])


def _network(settings: Settings) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, settings.hidden),
        nn.BatchNorm1d(settings.hidden),
        nn.ReLU(),
        nn.Dropout(settings.rate),
        nn.Linear(settings.hidden, 10),
    )


def _parity(settings: Settings, key: Tensor) -> dict[str, Any]:
    """Outputs and running statistics of ours and torch's, step by step, on batches that drift."""
    channels = 16
    x_key, scale_key, shift_key = fr.random.split(key, 3)
    module = nn.BatchNorm1d(channels, dtype=torch.float64, device=key.device)
    stats = fr.tree.cast(fr.norm.init_batch_stats(channels, device=key.device), torch.float64)
    scale = fr.random.uniform(scale_key, channels, low=0.5, high=2.0, dtype=torch.float64)
    shift = fr.random.normal(shift_key, channels, dtype=torch.float64)
    module.load_state_dict({**module.state_dict(), "weight": scale, "bias": shift})
    outputs, means, variances = [], [], []
    for step, each in enumerate(fr.random.split(x_key, settings.parity_steps)):
        x = fr.random.normal(each, (32, channels), mean=0.2 * step, std=1 + 0.1 * step, dtype=torch.float64)
        y, stats = fr.norm.batch_norm(x, stats, scale=scale, shift=shift, train=True)
        expected = module(x).detach()  # a new module is in training mode
        outputs.append(float((y - expected).abs().max()))
        means.append(float((stats.mean - _buffer(module, "running_mean")).abs().max()))
        variances.append(float((stats.var - _buffer(module, "running_var")).abs().max()))
    return {
        "outputs": outputs,
        "means": means,
        "variances": variances,
        "counts_agree": int(stats.count) == int(_buffer(module, "num_batches_tracked")),
        "moved": float(stats.mean.abs().max()),
    }


def _buffer(module: nn.Module, name: str) -> Tensor:
    return module.state_dict()[name]


def _predict(model: fr.Model, members: Variables, batches: Tensor, batch_statistics: bool) -> Tensor:
    """Probabilities without noise of batches (B, size, ...): (members, B, size, 10)."""
    key = fr.random.key(0, device=batches.device)  # of noise whose rate is 0

    def one(params: Any, state: Any, x: Tensor) -> Tensor:
        if batch_statistics:
            logits, _ = model.apply(params, state, x, key=key, train=True, rates=0.0)
        else:
            logits, _ = model.apply(params, state, x)
        return torch.softmax(logits, dim=-1)

    return vmap(vmap(one, (None, None, 0)), (0, 0, None))(*members, batches)


def _accuracy(probabilities: Tensor, y: Tensor) -> list[float]:
    """Of each member."""
    hits = probabilities.flatten(1, -2).argmax(dim=-1) == y.flatten()
    return hits.double().mean(dim=1).tolist()


def _sizes(model: fr.Model, members: Variables, images: Images, settings: Settings) -> dict[str, Any]:
    """The test set in batches of each size, both ways: accuracy, and the largest change of a probability."""
    whole = _predict(model, members, images.test_x.unsqueeze(0), False).squeeze(1)
    rows = []
    for size in settings.sizes:
        count = len(images.test_x) // size * size
        batches, y = images.test_x[:count].unflatten(0, (-1, size)), images.test_y[:count]
        running = _predict(model, members, batches, False)
        row: dict[str, Any] = {
            "size": size,
            "running": _accuracy(running, y),
            "running_change": float((running.flatten(1, 2) - whole[:, :count]).abs().max()),
        }
        try:
            own = _predict(model, members, batches, True)
        except fr.FuncregError as error:  # one value has no variance
            row |= {"batch": None, "flipped": None, "refused": str(error)}
        else:
            flipped = own.flatten(1, 2).argmax(dim=-1) != whole[:, :count].argmax(dim=-1)
            row |= {"batch": _accuracy(own, y), "flipped": flipped.double().mean(dim=1).tolist(), "refused": None}
        rows.append(row)
    return {"rows": rows}


def _composition(model: fr.Model, members: Variables, images: Images, settings: Settings) -> dict[str, Any]:
    """Batches of one class, and the same images mixed, all of one size."""
    size = min(32, int(torch.bincount(images.test_y, minlength=10).min()))
    of_class = [(images.test_y == label).nonzero().flatten()[:size] for label in range(10)]
    one_class = torch.stack(of_class)
    mixed = one_class.T.flatten().reshape(-1, size)  # walks over the classes
    result: dict[str, Any] = {"size": size}
    for name, order in (("one class", one_class), ("mixed", mixed)):
        x, y = images.test_x[order], images.test_y[order]
        for kind, own in (("batch", True), ("running", False)):
            result[f"{name}, {kind}"] = _accuracy(_predict(model, members, x, own), y)
    return result


def _companions(
    model: fr.Model, members: Variables, images: Images, settings: Settings, key: Tensor, context: Context
) -> dict[str, Any]:
    """The probability of the true class of some images, each among many random companions."""
    watched, drawn = 10, settings.companions
    rows: dict[str, list[Any]] = {"size": [], "batch": [], "running": []}
    for index, size in enumerate(context.track([s for s in settings.sizes if s > 1], "companions")):
        chosen = fr.random.randint(fr.random.fold_in(key, index), (watched, drawn, size), watched, len(images.test_x))
        chosen[:, :, 0] = torch.arange(watched, device=chosen.device)[:, None]
        rows["size"].append(size)
        for kind in ("batch", "running"):
            spread = []
            for image, batches in enumerate(chosen):
                p = _predict(model, members, images.test_x[batches], kind == "batch")
                spread.append(p[:, :, 0, int(images.test_y[image])].double().std(dim=1))
            rows[kind].append(torch.stack(spread).mean(dim=0))
    return {**rows, "images": watched, "companions": drawn}


def _mc(model: fr.Model, members: Variables, images: Images, settings: Settings, key: Tensor) -> dict[str, Any]:
    """MC dropout over a stream sorted by class: with running statistics, and in training mode."""
    size = 32
    order = torch.argsort(images.test_y, stable=True)
    order = order[: len(order) // size * size]
    batches, y = images.test_x[order].unflatten(0, (-1, size)), images.test_y[order]
    keys = fr.random.split(key, settings.samples)

    def right(params: Any, state: Any, k: Tensor) -> tuple[Tensor, Any]:
        logits, new_state = model.apply(params, state, batches.flatten(0, 1), key=k)
        return torch.softmax(logits, dim=-1), new_state

    def wrong(params: Any, state: Any, k: Tensor) -> tuple[Tensor, Any]:
        outputs = []
        for x, each in zip(batches, fr.random.split(k, len(batches)), strict=True):
            logits, state = model.apply(params, state, x, key=each, train=True)
            outputs.append(torch.softmax(logits, dim=-1))
        return torch.cat(outputs), state

    result: dict[str, Any] = {"size": size, "samples": settings.samples}
    for name, run in (("right", right), ("wrong", wrong)):
        params, state = members
        mean: Tensor | float = 0.0
        for each in keys:  # in order, since the wrong way carries its statistics from draw to draw
            probabilities, state = vmap(run, (0, 0, None))(params, state, each)
            mean = mean + probabilities / settings.samples
        assert isinstance(mean, Tensor)
        moved = [
            (state[buffer] - members[1][buffer]).abs().amax(dim=1) for buffer in ("2.running_mean", "2.running_var")
        ]
        after = _predict(model, (params, state), images.test_x.unsqueeze(0), False)
        result[name] = {
            "accuracy": _accuracy(mean.unsqueeze(1), y),
            "accuracy_after": _accuracy(after, images.test_y),
            "moved": torch.stack(moved).amax(dim=0),
        }
    before = _predict(model, members, images.test_x.unsqueeze(0), False)
    result["before"] = _accuracy(before, images.test_y)
    return result


def _claims(values: dict[str, Any], settings: Settings) -> list[Claim]:
    parity, mc = values["parity"], values["mc"]
    worst = max(*parity["outputs"], *parity["means"], *parity["variances"])
    change = max(row["running_change"] for row in values["sizes"]["rows"])
    still = max(float(spread.max()) for spread in values["companions"]["running"])
    return [
        Claim(
            f"Outputs and running statistics are nn.BatchNorm1d's over {settings.parity_steps} steps, to 1e-10",
            f"largest difference {worst:.1g} (float64), while the running mean moved by {number(parity['moved'])}",
            worst < 1e-10 and parity["counts_agree"] and parity["moved"] > 0.1,
            {"largest": worst},
        ),
        Claim(
            "With running statistics a prediction depends on neither the size nor the composition of its batch",
            f"largest change of a probability over batch sizes {change:.1g}; sd over companions at most {still:.1g} "
            f"(n = {values['members']} members)",
            change < 1e-4 and still < 1e-4,
            {"size": change, "companions": still},
        ),
        *_size_claims(values["sizes"]["rows"], values["companions"]),
        *_stream_claims(values["composition"], mc),
    ]


def _size_claims(rows: list[dict[str, Any]], companions: dict[str, Any]) -> list[Claim]:
    usable = [row for row in rows if row["batch"] is not None]
    small, large = usable[0], usable[-1]
    refused = [row["size"] for row in rows if row["refused"]]
    spread = [estimate(each.tolist()) for each in companions["batch"]]
    return [
        is_larger(
            "With batch statistics accuracy falls as batches get smaller",
            100 * np.array(large["batch"]),
            100 * np.array(small["batch"]),
            f"{{larger:.1f}}% at {large['size']}, {{smaller:.1f}}% at {small['size']} "
            f"(running: {100 * np.mean(large['running']):.1f}%); loss in points {{difference}}"
            + (f"; a batch of {refused[0]} is refused, as one value has no variance" if refused else ""),
            under="",
        ),
        Claim(
            "With batch statistics an image's probability depends on its companions",
            f"sd of the true class's probability over {companions['companions']} random companies: {spread[0]} at "
            f"batch size {companions['size'][0]}, {spread[-1]} at {companions['size'][-1]}",
            spread[0].above(0.01),
            {"sd": [each._asdict() for each in spread], "size": companions["size"]},
        ),
    ]


def _stream_claims(composition: dict[str, Any], mc: dict[str, Any]) -> list[Claim]:
    kept = max(float(value) for value in mc["right"]["moved"])
    return [
        is_larger(
            f"With batch statistics, {composition['size']} images of one class are predicted worse than mixed ones",
            100 * np.array(composition["mixed, batch"]),
            100 * np.array(composition["one class, batch"]),
            "{larger:.1f}% mixed, {smaller:.1f}% one class (running: "
            f"{100 * np.mean(composition['one class, running']):.1f}%); loss in points {{difference}}",
            under="",
        ),
        Claim(
            "MC dropout with running statistics leaves them alone, to the bit",
            f"largest change after {mc['samples']} samples: {kept:g}; "
            f"accuracy {100 * np.mean(mc['right']['accuracy']):.1f}%",
            kept == 0.0,
            {"largest": kept, "accuracy": mc["right"]["accuracy"]},
        ),
        is_larger(
            "MC dropout with the module in training mode predicts a stream sorted by class worse",
            100 * np.array(mc["right"]["accuracy"]),
            100 * np.array(mc["wrong"]["accuracy"]),
            "accuracy {smaller:.1f}%; loss in points {difference}",
            under="",
        ),
        is_larger(
            "... and spoils the running statistics for every evaluation after it",
            100 * np.array(mc["before"]),
            100 * np.array(mc["wrong"]["accuracy_after"]),
            "accuracy of the deterministic pass from {larger:.1f}% to {smaller:.1f}%; loss in points {difference}",
            under="",
        ),
    ]


def _tables(values: dict[str, Any]) -> list[Table]:
    rows = []
    for row in values["sizes"]["rows"]:
        cells = ["refused" if row[name] is None else _percent(row[name]) for name in ("running", "batch", "flipped")]
        rows.append((row["size"], *cells, values["members"]))
    columns = ("batch size", "accuracy, running (%)", "accuracy, batch (%)", "predictions changed (%)", "n")
    composition, mc = values["composition"], values["mc"]
    streams = [
        (f"{batches}, {kind} statistics", _percent(each), values["members"])
        for batches in ("mixed", "one class")
        for kind in ("running", "batch")
        for each in [composition[f"{batches}, {kind}"]]
    ]
    streams += [
        (f"MC dropout on a sorted stream, {label}", _percent(each), values["members"])
        for label, each in (
            ("running statistics", mc["right"]["accuracy"]),
            ("training mode", mc["wrong"]["accuracy"]),
            ("training mode; the deterministic pass after it", mc["wrong"]["accuracy_after"]),
        )
    ]
    return [
        Table("The same test images in batches of each size: mean ± sd", columns, rows),
        Table(f"Composition, in batches of {composition['size']}: mean ± sd", ("way", "accuracy (%)", "n"), streams),
    ]


def _percent(shares: list[float]) -> str:
    return estimate(100 * share for share in shares).fixed(2)


def figures(result: Result) -> dict[str, Figure]:
    """Parity, the batch's size and company, and MC dropout both ways."""
    values = result.values
    return {
        "sizes": _draw_sizes(values["sizes"]["rows"], values["companions"], values["members"]),
        "streams": _draw_streams(values["composition"], values["mc"], values["members"]),
        "parity": _draw_parity(values["parity"]),
    }


def _draw_sizes(rows: list[dict[str, Any]], companions: dict[str, Any], members: int) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        caption=f"The classic bug: evaluating with the batch's own statistics (mean over {members} members, band: one "
        "sd). Left: accuracy against batch size. Right: how much an image's probability of its true class varies with "
        "the random images beside it.",
    )
    left, right = axes[0]
    for i, (kind, label) in enumerate((("running", "running statistics"), ("batch", "batch statistics"))):
        usable = [row for row in rows if row[kind] is not None]
        accuracy = 100 * np.array([row[kind] for row in usable]).T
        plots.band(left, [row["size"] for row in usable], accuracy, label, i, marker="o", markersize=4)
        plots.band(right, companions["size"], np.array(companions[kind]).T, label, i, marker="o", markersize=4)
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_xticks([row["size"] for row in rows], [str(row["size"]) for row in rows])
        axis.set_xlabel("batch size (images)")
    left.set(ylabel="accuracy (%)", title="Accuracy")
    right.set(ylabel="sd of a probability", title="Dependence on the others")
    left.legend(loc="lower right")
    return figure


def _draw_streams(composition: dict[str, Any], mc: dict[str, Any], members: int) -> Figure:
    figure, axes = plots.canvas(
        height=4.2,
        caption=f"Batches of one class, and MC dropout on a stream sorted by class (n = {members} members; the diamond "
        "is the mean with its 95% interval). Blue uses running statistics, red the batch's. Training mode takes "
        "the statistics of such batches, and keeps them.",
    )
    each = {
        "mixed batches, running": composition["mixed, running"],
        "mixed batches, batch": composition["mixed, batch"],
        "one class, running": composition["one class, running"],
        "one class, batch": composition["one class, batch"],
        "MC dropout, running": mc["right"]["accuracy"],
        "MC dropout, training mode": mc["wrong"]["accuracy"],
        "deterministic, after that": mc["wrong"]["accuracy_after"],
    }
    percent = [[100 * value for value in values] for values in each.values()]
    colors = [plots.BLUE if name.endswith("running") else plots.VERMILLION for name in each]
    plots.strip(axes[0, 0], list(each), percent, unit="%", colors=colors)
    axes[0, 0].set_xlabel("accuracy (%)")
    return figure


def _draw_parity(parity: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        height=3.2,
        caption="The largest difference between funcreg's batch norm and nn.BatchNorm1d at each step, in float64, on "
        "batches that drift. Differences of exactly 0 are drawn at 1e-17.",
    )
    axis = axes[0, 0]
    steps = range(1, len(parity["outputs"]) + 1)
    for i, (name, label) in enumerate(
        (("outputs", "outputs"), ("means", "running mean"), ("variances", "running variance"))
    ):
        heights = [max(value, 1e-17) for value in parity[name]]
        axis.plot(steps, heights, "o", linestyle=plots.LINES[i], color=plots.PALETTE[i], markersize=4, label=label)
    axis.axhline(1e-10, color="#777777", linewidth=1)
    axis.annotate("allowed", (1, 1e-10), va="bottom", fontsize=10, color="#555555")
    plots.counting(axis.xaxis)
    axis.set(yscale="log", xlabel="training step", ylabel="largest difference (no unit)", ylim=(1e-18, 1e-8))
    axis.legend(ncols=3, loc="upper center")
    return figure
