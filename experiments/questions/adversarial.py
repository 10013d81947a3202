"""Which defences hold against adversarial digits, and which only hide their gradient from the attack?

Part: D
Command: python -m experiments run adversarial --data-root DATA
Runtime: smoke 1 s, quick 52 s and long 1,629 s of one core (16 seeds); full is for a GPU
Answer: at epsilon 0.1 on 1,000 digits of MNIST (n = 16 seeds, --preset long --members 16 --at-once, chosen after 20
    seeds of quick, which saw 200 digits, had decided all claims) 72.9% withstand FGSM, PGD and an adaptive attack, all
    white-box, after adversarial training; 18.0% with L2, 11.4% with dropout, 3.9% distilled, 2.6% plain, 2.1% with
    smoothing, which over all epsilons gains 0.8 points all the same (95% 0.3 to 1.2). Distillation shows 39.0% to PGD
    on its own loss: most of its gain hid the gradient. 1-bit squeezing, all of whose gradients are 0, shows 94.0% and
    keeps 84.8% under an attack straight through it, more than adversarial training: no illusion on digits, which are
    nearly black and white, unless a stronger attack exists. That PGD is at least as strong as FGSM, confirmed at quick,
    is refuted: FGSM is surely stronger in 2 of 40 cases, by 0.2 points at most.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import vmap

import funcreg as fr

from ..data import mnist
from ..harness.context import Context
from ..parts.arms import Arms, own
from ..parts.networks import mlp
from ..report import plots
from ..report.claims import is_larger
from ..report.decisions import every
from ..report.estimates import Estimate, estimate, number
from ..report.result import Claim, Result, Table, plain

Squeeze = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Settings:
    """An MLP; attacks within epsilon of each pixel (in units of black to white), white-box, on `test` images."""

    seeds: int = 5
    train: int = 2_000
    test: int = 200
    widths: tuple[int, ...] = (128, 64)
    epochs: int = 8
    batch_size: int = 100
    learning_rate: float = 2e-3
    rate: float = 0.5
    l2: float = 3e-4
    smoothing: float = 0.1
    temperature: float = 20.0
    bits: int = 1
    median: int = 3
    train_epsilon: float = 0.1
    train_steps: int = 3
    epsilons: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.3)
    steps: int = 10
    strip_classes: tuple[int, ...] = (1, 4, 7)
    jit: bool = False


PRESETS = {
    "smoke": Settings(
        seeds=2,
        train=200,
        test=40,
        widths=(32,),
        epochs=2,
        batch_size=50,
        learning_rate=1e-2,
        train_steps=1,
        epsilons=(0.05, 0.1),
        steps=2,
    ),
    "quick": Settings(),
    "long": Settings(train=10_000, test=1_000, epochs=12, steps=20),
    "full": Settings(
        train=60_000, test=2_000, widths=(512, 512), epochs=20, learning_rate=1e-3, train_steps=10, steps=50, jit=True
    ),
}
_PLAIN, _TEACHER, _DISTILLED, _TRAINED = "plain", "teacher", "distillation", "adversarial training"
_ATTACKS = ("FGSM", "PGD", "adaptive PGD")
_WORST = "worst of the three"


class Defended(NamedTuple):
    """A defence of all seeds: its parameters, stacked, and what it does to an image before it looks."""

    params: Any
    squeeze: Squeeze | None = None


def main(settings: Settings, context: Context) -> Result:
    """Train the defences in three fits, all from the same weights; then attack each."""
    start_key, fit_key, attack_key, strip_key = context.keys(4)
    images = mnist(context.data).take(settings.train, settings.test).to(context.device)
    model = fr.from_module(lambda: mlp(images.x[0].numel(), *settings.widths, 10, rates=settings.rate))
    data = fr.train.Batch(images.x, images.y)

    def train(arms: Mapping[str, Mapping[str, float]], data: Any, *, attacked: bool = False) -> dict[str, Any]:
        return _train(model, Arms(arms, settings.seeds), data, settings, context, (start_key, fit_key), attacked)

    ordinary = train(_arms(settings), data)
    teacher = ordinary.pop(_TEACHER)
    soft = vmap(lambda p: torch.softmax(model.apply(p, {}, images.x)[0] / settings.temperature, dim=-1))(teacher)
    warm = {**_NONE, "temperature": settings.temperature}
    distilled = train({_DISTILLED: warm}, data._replace(y=soft.movedim(0, 1)))
    trained = train({_TRAINED: _NONE}, data, attacked=True)
    defences = {name: Defended(params) for name, params in {**ordinary, **distilled, **trained}.items()}
    defences |= {
        f"{settings.bits}-bit squeezing": Defended(ordinary[_PLAIN], lambda x: _quantize(x, settings.bits)),
        "median squeezing": Defended(ordinary[_PLAIN], lambda x: _median(x, settings.median)),
    }
    test = fr.train.Batch(images.test_x, images.test_y)
    outcomes = {
        name: _outcomes(model, defended, test, settings, attack_key)
        for name, defended in context.track(defences.items(), "attacks")
    }
    values = plain(
        {
            "seeds": settings.seeds,
            "images": len(test.x),
            "epsilons": settings.epsilons,
            "train_epsilon": settings.train_epsilon,
            "defences": outcomes,
            "strip": _strip(model, defences, test, settings, strip_key),
        }
    )
    source = f"{images.source}; {len(images.x):,} of them to train and {len(test.x):,} to attack"
    return Result(values, _claims(values), _tables(values), [source])


_NONE = {"rate": 0.0, "l2": 0.0, "smoothing": 0.0, "temperature": 1.0}


def _arms(settings: Settings) -> dict[str, dict[str, float]]:
    return {
        _PLAIN: _NONE,
        "L2": {**_NONE, "l2": settings.l2},
        "dropout": {**_NONE, "rate": settings.rate},
        "label smoothing": {**_NONE, "smoothing": settings.smoothing},
        _TEACHER: {**_NONE, "temperature": settings.temperature},
    }


def _train(
    model: fr.Model,
    arms: Arms,
    data: Any,
    settings: Settings,
    context: Context,
    keys: tuple[Tensor, Tensor],
    attacked: bool,
) -> dict[str, Any]:
    """Arms x seeds in one fit: the parameters of each arm. Targets may be probabilities of each seed's own."""

    def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        noise_key, attack_key = fr.random.split(key)
        x, y = batch.x, batch.y
        if y.is_floating_point():
            y = own(y, hparams["seed"])
        if attacked:
            x = fr.adversarial.pgd(
                lambda x: fr.losses.cross_entropy(model.apply(params, state, x)[0], y, reduction="none"),
                x,
                settings.train_epsilon,
                key=attack_key,
                steps=settings.train_steps,
            )
        logits, state = model.apply(params, state, x, key=noise_key, train=True, rates=hparams["rate"])
        logits = logits / hparams["temperature"].to(logits.dtype)
        return fr.losses.cross_entropy(logits, y, smoothing=hparams["smoothing"]), (state, {})

    penalty = {"l2": lambda params, hparams: fr.penalties.l2(params, hparams["l2"], mask=fr.tree.is_weight)}
    optimizer = fr.optim.adam(settings.learning_rate)
    result = context.fit(
        fr.train.make_step(loss_fn, optimizer, penalties=penalty),
        arms.start(model, optimizer, key=keys[0], device=context.device),
        data,
        key=keys[1],
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        hparams=arms.hparams(context.device),
        members=arms.members,
        jit=settings.jit,
    )
    params = fr.tree.map(arms.by_arm, result.train_state.params)
    return {name: fr.tree.index(params, i) for i, name in enumerate(arms.names)}


def _quantize(x: Tensor, bits: int) -> Tensor:
    """Each pixel to the nearest of 2**bits values: no gradient comes through."""
    return torch.round(x * (2**bits - 1)) / (2**bits - 1)


def _median(x: Tensor, size: int) -> Tensor:
    """Each pixel to the median of the size x size around it."""
    padded = F.pad(x, (size // 2,) * 4, mode="reflect")
    height, width = x.shape[-2:]
    moved = [padded[..., i : i + height, j : j + width] for i in range(size) for j in range(size)]
    return torch.stack(moved).median(dim=0).values


def _logits(model: fr.Model, params: Any, squeeze: Squeeze | None, x: Tensor, *, straight: bool = False) -> Tensor:
    """What a defence says of images; `straight` lets the gradient pass the squeezing as if it were not there."""
    if squeeze is not None:
        x = x + (squeeze(x) - x).detach() if straight else squeeze(x)
    return model.apply(params, {}, x)[0]


def _margin(logits: Tensor, y: Tensor) -> Tensor:
    """By how much another class leads the true one, (N,): unlike cross-entropy it never saturates."""
    true = F.one_hot(y, logits.shape[-1]).bool()
    others = torch.where(true, -torch.inf, logits).amax(dim=-1)
    return others - torch.where(true, logits, 0.0).sum(dim=-1)


def _attack(
    model: fr.Model, params: Any, squeeze: Squeeze | None, test: Any, epsilon: Tensor, key: Tensor, settings: Settings
) -> list[Tensor]:
    """The images that each attack makes for one seed's network at one epsilon.

    FGSM and PGD go up the cross-entropy of the defence as it is used (at temperature 1, through the
    squeezing). The adaptive one knows the defence: it goes up the margin between logits, which is what it is at
    any temperature, and straight through a squeezing, whose own gradient is 0 or of single pixels.
    """

    def loss(x: Tensor) -> Tensor:
        return fr.losses.cross_entropy(_logits(model, params, squeeze, x), test.y, reduction="none")

    def adaptive(x: Tensor) -> Tensor:
        return _margin(_logits(model, params, squeeze, x, straight=True), test.y)

    return [
        fr.adversarial.fgsm(loss, test.x, epsilon),
        fr.adversarial.pgd(loss, test.x, epsilon, key=key, steps=settings.steps),
        fr.adversarial.pgd(adaptive, test.x, epsilon, key=key, steps=settings.steps),
    ]


def _outcomes(model: fr.Model, defended: Defended, test: Any, settings: Settings, key: Tensor) -> dict[str, Any]:
    """Accuracy of every seed: clean (seeds,), and by attack (epsilons, seeds); the share of gradients that vanish."""
    epsilons = torch.tensor(settings.epsilons, device=test.x.device)

    def of_seed(params: Any, key: Tensor, epsilon: Tensor) -> Tensor:
        found = _attack(model, params, defended.squeeze, test, epsilon, key, settings)
        hits = [_logits(model, params, defended.squeeze, x).argmax(dim=-1) == test.y for x in (test.x, *found)]
        return torch.stack(hits)

    def vanished(params: Any) -> Tensor:
        def loss(x: Tensor) -> Tensor:
            return fr.losses.cross_entropy(_logits(model, params, defended.squeeze, x), test.y, reduction="sum")

        return (torch.func.grad(loss)(test.x).flatten(1) == 0).all(dim=1).double().mean()

    keys = fr.random.split(key, settings.seeds)
    # One epsilon after the other: a batch for each seed is work enough at once.
    hits = torch.stack([vmap(of_seed, (0, 0, None))(defended.params, keys, epsilon) for epsilon in epsilons])
    share = {name: hits[:, :, i + 1].double().mean(dim=-1) for i, name in enumerate(_ATTACKS)}
    share[_WORST] = hits[:, :, 1:].all(dim=2).double().mean(dim=-1)
    return {"clean": hits[0, :, 0].double().mean(dim=-1), "vanished": vmap(vanished)(defended.params), **share}


def _strip(model: fr.Model, defences: dict[str, Defended], test: Any, settings: Settings, key: Tensor) -> Any:
    """The first image of some classes, and what the attacks make of it for the first seed."""
    firsts = [int((test.y == label).nonzero()[0]) for label in settings.strip_classes]
    some = fr.train.Batch(test.x[firsts], test.y[firsts])
    epsilon, rows = torch.tensor(settings.train_epsilon, device=test.x.device), []
    for name, attacks in ((_PLAIN, _ATTACKS[:2]), (_TRAINED, _ATTACKS[1:2])):
        params = fr.tree.index(defences[name].params, 0)
        found = dict(zip(_ATTACKS, _attack(model, params, None, some, epsilon, key, settings), strict=True))
        for attack in (None, *attacks) if name == _PLAIN else attacks:
            x = some.x if attack is None else found[attack]
            title = "clean" if attack is None else f"{attack} on {name}"
            predicted = model.apply(params, {}, x)[0].argmax(dim=-1)
            rows.append({"title": title, "pixels": x.squeeze(1).mul(255).round().long(), "predicted": predicted})
    return {"classes": settings.strip_classes, "epsilon": settings.train_epsilon, "columns": rows}


def _points(values: dict[str, Any], name: str, attack: str, at: int | None = None) -> np.ndarray:
    """Robust accuracy in points, of each seed: at one epsilon, by default that of adversarial training."""
    at = values["epsilons"].index(values["train_epsilon"]) if at is None else at
    return 100 * np.array(values["defences"][name][attack])[at]


def _claims(values: dict[str, Any]) -> list[Claim]:
    epsilon, names = values["train_epsilon"], list(values["defences"])
    trained = _points(values, _TRAINED, _WORST)
    gains = {name: estimate(trained - _points(values, name, _WORST)) for name in names if name != _TRAINED}
    squeezed = [name for name in names if name.endswith("squeezing")]
    return [
        _most_robust(
            values, gains, f"Adversarial training is the most robust at its epsilon = {epsilon:g}, by the worst attack"
        ),
        _most_robust(
            values,
            {name: gain for name, gain in gains.items() if name not in squeezed},
            "It is the most robust of the defences that leave the image as it is",
        ),
        _pgd_claim(values),
        _apparent(values, _DISTILLED),
        _illusion(values, _DISTILLED, "on the margin of its logits"),
        *(
            claim
            for name in squeezed
            for claim in (_apparent(values, name), _illusion(values, name, "straight through"))
        ),
        *(_helps(values, name) for name in ("L2", "dropout", "label smoothing")),
        is_larger(
            "Adversarial training costs accuracy on clean images",
            100 * np.array(values["defences"][_PLAIN]["clean"]),
            100 * np.array(values["defences"][_TRAINED]["clean"]),
            "loss in points {difference}",
        ),
    ]


def _most_robust(values: dict[str, Any], gains: dict[str, Estimate], text: str) -> Claim:
    next_best = min(gains, key=lambda name: gains[name].mean)
    return Claim(
        text,
        f"{number(_points(values, _TRAINED, _WORST).mean())}% hold; next {next_best}, "
        f"{number(_points(values, next_best, _WORST).mean())}%: paired gain in points {gains[next_best]}",
        every(gain.above() for gain in gains.values()),
        {"gain": {name: gain._asdict() for name, gain in gains.items()}},
    )


def _pgd_claim(values: dict[str, Any]) -> Claim:
    """Nowhere, of all defences and epsilons, is FGSM surely the stronger one."""
    differences = {
        (name, epsilon): estimate(_points(values, name, "FGSM", i) - _points(values, name, "PGD", i))
        for name in values["defences"]
        for i, epsilon in enumerate(values["epsilons"])
    }
    weaker = [key for key, each in differences.items() if each.high < 0]
    least = min(differences, key=lambda key: differences[key].mean)
    mean = estimate(np.mean([_all(values, n, "FGSM") - _all(values, n, "PGD") for n in values["defences"]], axis=0))
    found = f"FGSM surely stronger in {len(weaker)} of {len(differences)} cases"
    return Claim(
        "PGD is at least as strong as FGSM, whatever the defence and epsilon",
        f"{found}; accuracy under FGSM less under PGD, in points: least {differences[least].mean:.1f} ({least[0]}, "
        f"epsilon {least[1]:g}), mean {mean}",
        mean.above() & (not weaker),
        {"mean": mean._asdict(), "weaker": [f"{name}, {epsilon:g}" for name, epsilon in weaker]},
    )


def _all(values: dict[str, Any], name: str, attack: str) -> np.ndarray:
    """Robust accuracy in points, of each seed: the mean over all epsilons."""
    return 100 * np.array(values["defences"][name][attack]).mean(axis=0)


def _apparent(values: dict[str, Any], name: str) -> Claim:
    defended, plain = (_points(values, each, "PGD") for each in (name, _PLAIN))
    vanished = 100 * float(np.mean(values["defences"][name]["vanished"]))
    return is_larger(
        f"Against PGD on its own loss, {name} looks more robust than plain at epsilon = {values['train_epsilon']:g}",
        defended,
        plain,
        f"{number(defended.mean())}% against {number(plain.mean())}%; paired gain in points {{difference}}; of "
        f"{vanished:.0f}% of the images the gradient is exactly 0",
        under="gain",
        vanished=vanished,
    )


def _illusion(values: dict[str, Any], name: str, how: str) -> Claim:
    """An adaptive attack on both takes more than half of the apparent gain."""
    apparent = _points(values, name, "PGD") - _points(values, _PLAIN, "PGD")
    real = _points(values, name, _WORST) - _points(values, _PLAIN, _WORST)
    left, lost = estimate(real), estimate(apparent / 2 - real)
    return Claim(
        f"That of {name} is an illusion: an attack {how} takes more than half of the gain",
        f"gain over plain in points {number(apparent.mean())}, under the worst attack {left}",
        lost.above() & (apparent.mean() > 0),
        {"apparent": estimate(apparent)._asdict(), "left": left._asdict()},
    )


def _helps(values: dict[str, Any], name: str) -> Claim:
    one_step = estimate(_all(values, name, "FGSM") - _all(values, _PLAIN, "FGSM"))
    return is_larger(
        f"{name[0].upper()}{name[1:]} raises robust accuracy (worst of the attacks, mean over epsilon)",
        *(_all(values, name, _WORST), _all(values, _PLAIN, _WORST)),
        f"paired gain over plain in points {{difference}}; under FGSM alone {number(one_step.mean)}",
        under="gain",
        smallest=1.0,
        fgsm=one_step._asdict(),
    )


def _tables(values: dict[str, Any]) -> list[Table]:
    rows = []
    for name, each in values["defences"].items():
        columns = [100 * np.array(each["clean"]), *(_points(values, name, attack) for attack in (*_ATTACKS, _WORST))]
        columns += [_all(values, name, _WORST)]
        cells = [estimate(column) for column in columns]
        rows.append((name, *(e.fixed(1) for e in cells), values["seeds"]))
    columns = ("defence", "clean (%)", *(f"{attack} (%)" for attack in (*_ATTACKS, _WORST)), "worst, all epsilons", "n")
    return [
        Table(f"Accuracy at epsilon = {values['train_epsilon']:g}, {values['images']} images: mean ± sd", columns, rows)
    ]


def figures(result: Result) -> dict[str, Figure]:
    """Robust accuracy against epsilon, what each attack leaves of it, and what the attacks look like."""
    return {
        "epsilon": _draw_epsilon(result.values),
        "attacks": _draw_attacks(result.values),
        "strip": _draw_strip(result.values),
    }


_COLORS = (*plots.PALETTE, "#7f7f7f")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


def _draw_epsilon(values: dict[str, Any]) -> Figure:
    figure, axes = plots.canvas(
        1,
        2,
        height=4.8,
        sharey=True,
        caption="Robust accuracy against epsilon, the change allowed to each pixel (black to white is 1). Left: PGD up "
        "the loss that the defence shows. Right: an image counts only if it withstands FGSM, PGD and the adaptive "
        f"attack; what falls from left to right was hidden, not robust (mean over {values['seeds']} seeds).",
    )
    x = [0.0, *values["epsilons"]]
    panels = (("PGD", "apparent: PGD on its own loss"), (_WORST, "real: worst of three attacks"))
    for axis, (attack, title) in zip(axes[0], panels, strict=True):
        for i, (name, each) in enumerate(values["defences"].items()):
            means = 100 * np.array([np.mean(each["clean"]), *np.mean(each[attack], axis=1)])
            look = {"color": _COLORS[i % 8], "marker": _MARKS[i % 8], "linestyle": plots.LINES[i % 6], "markersize": 5}
            axis.plot(x, means, label=name, **look)
        axis.set(xlabel="epsilon", ylim=(-2, 102))
        axis.set_title(title)
    axes[0, 0].set_ylabel("accuracy (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def _draw_attacks(values: dict[str, Any]) -> Figure:
    names = list(values["defences"])
    figure, axes = plots.canvas(
        height=0.55 * len(names) + 1.2,
        caption=f"Accuracy at epsilon = {values['train_epsilon']:g} by attack, with 95% intervals (n = "
        f"{values['seeds']} seeds). Where the adaptive attack is far left of PGD, the defence hid its gradient.",
    )
    axis = axes[0, 0]
    for i, attack in enumerate(_ATTACKS):
        each = [estimate(_points(values, name, attack)) for name in names]
        reach = [[e.mean - e.low for e in each], [e.high - e.mean for e in each]]
        rows = np.arange(len(names)) + 0.22 * (i - 1)
        look = {"color": plots.PALETTE[i], "capsize": 3, "markersize": 6}
        axis.errorbar([e.mean for e in each], rows, xerr=reach, fmt=_MARKS[i], label=attack, **look)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="accuracy (%)", ylim=(len(names) - 0.5, -0.5), xlim=(-3, 103))
    axis.grid(False, axis="y")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_strip(values: dict[str, Any]) -> Figure:
    strip = values["strip"]
    columns, classes = strip["columns"], strip["classes"]
    figure, axes = plots.canvas(
        len(classes),
        len(columns),
        height=2.1 * len(classes),
        caption=f"Digits as the attacks leave them, epsilon = {strip['epsilon']:g}, with what the network attacked "
        "sees in them (first of the seeds). The last column attacks the network that was trained on attacks.",
    )
    for j, column in enumerate(columns):
        for i, label in enumerate(classes):
            seen = column["predicted"][i]
            title = f"{column['title']}\n" if i == 0 else ""
            plots.picture(axes[i, j], column["pixels"][i], f"{title}sees {seen}", cmap="gray", vmin=0, vmax=255)
            axes[i, j].title.set_color("#222222" if seen == label else plots.VERMILLION)
    return figure
