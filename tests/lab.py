"""Experiments of a moment, for the tests of the lab: what they return, and how they end, is a test's choice."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

import funcreg as fr
from experiments.errors import LabError
from experiments.harness import runner
from experiments.harness.context import Context
from experiments.harness.registry import Experiment
from experiments.report import estimates, plots
from experiments.report.result import Claim, Result, Table


@dataclasses.dataclass(frozen=True)
class Point:
    size: int = 1


class Fake(Experiment):
    """An experiment whose main and figures are given, by name."""

    mains: dict[str, Any] = {}  # noqa: RUF012  (a test's registry)

    def load(self) -> Any:
        presets = {"smoke": Point(1), "quick": Point(), "full": Point(3)}
        figures = moving if self.name == "moving" else still
        return SimpleNamespace(PRESETS=presets, main=Fake.mains[self.name], figures=figures)


def fake(name: str, main: Any, part: str = "A", command: str = "") -> Fake:
    Fake.mains[name] = main
    return Fake(name, f"Is it {name}?", part, command, "smoke 0 s, quick 0 s", "")


def still(result: Result) -> dict[str, Any]:
    figure, axes = plots.canvas(caption="one point")
    axes[0, 0].plot(result.values["x"], "o")
    return {"point": figure}


def moving(result: Result) -> dict[str, Any]:
    frames = [still(result)["point"] for _ in range(3)]
    for index, frame in enumerate(frames):
        frame.axes[0].plot([0.5 + index / 10], "x")
    return {"path": plots.Animation(frames, "a point that goes right")}


def good(settings: Point, context: Context) -> Result:
    return Result(
        {"x": torch.ones(settings.size), "seed": context.seed},
        [Claim("It is.", "1 ± 0", True, {"estimate": estimates.estimate([1.0, 2.0])._asdict(), "n": 1})],
        [Table("T", ("a", "b"), [(1.0, "x")])],
        ["none"],
    )


def interrupted(settings: Point, context: Context) -> Result:
    raise KeyboardInterrupt


def broken(settings: Point, context: Context) -> Result:
    raise ZeroDivisionError("a bug")


def damaged(settings: Point, context: Context) -> Result:
    raise LabError("cannot read MNIST in DATA: it is truncated")


def reads(settings: Point, context: Context) -> Result:
    real = context.data.path is not None
    source = "MNIST: 3 images, from the data root" if real else "digits, in place of MNIST (no data root was given)"
    return dataclasses.replace(good(settings, context), data=[source])


def train(context: Context, epochs: int = 3, members: int | None = None, **options: Any) -> fr.train.FitResult:
    """A fit of one weight, or of as many as there are members."""

    def loss_fn(params: Any, state: Any, batch: Any, *, key: Any, hparams: Any) -> Any:
        return ((params["w"] * batch.x - batch.y) ** 2).mean(), (state, {})

    params = {"w": torch.zeros(()) if members is None else torch.arange(float(members))}
    first = fr.train.init(params, {}, fr.optim.sgd(0.1), key=fr.random.key(0), members=members)
    batch = fr.train.Batch(torch.ones(4), torch.ones(4))
    step = fr.train.make_step(loss_fn, fr.optim.sgd(0.1))
    options = {"key": fr.random.key(1), "epochs": epochs, "members": members, "jit": False, **options}
    return context.fit(step, first, batch, **options)


def trains(settings: Point, context: Context) -> Result:
    train(context)
    train(context, members=2)
    train(context, members=9)
    return good(settings, context)


def trains_for_ever(settings: Point, context: Context) -> Result:
    train(context, epochs=10**9, on_epoch=lambda epoch: print("training", flush=True) if epoch.number == 1 else None)
    return good(settings, context)


def use(*experiments: Fake) -> dict[str, Experiment]:
    return {each.name: each for each in experiments}


def fill(out: Path, *chosen: Experiment, preset: str = "quick") -> str:
    """The report's page after these were run."""
    runner.run_all(chosen, preset, Context(), out)
    return (out / "report.html").read_text(encoding="utf-8")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
