"""Runs of the lab that take hours: their preset, and how a killed one goes on."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import cli
from experiments.harness import records
from experiments.harness.context import Context
from experiments.report.result import Result

from .lab import Fake, Point, good, names_in


def test_a_killed_run_goes_on_after_its_finished_pieces(lab: Any, tmp_path: Path) -> None:
    made: list[str] = []
    stops = {"b"}

    def pieces(settings: Point, context: Context) -> Result:
        def make(name: str) -> torch.Tensor:
            if name in stops:
                raise KeyboardInterrupt
            made.append(name)
            return torch.tensor([float(len(name)), context.seed])

        found = [context.piece(f"recipe {name}", lambda name=name: make(name)) for name in ("a", "b", "c")]
        return dataclasses.replace(good(settings, context), values={"x": found})

    Fake.mains["first"] = pieces
    command = ["run", "first", "--quiet", "--out", str(tmp_path)]
    assert cli.main(command) == 130
    stops.clear()
    assert cli.main([*command, "--resume"]) == 0
    assert made == ["a", "b", "c"], "what was finished is not made again"
    assert names_in(tmp_path) == ["figures", "first.json", "report.html"], "no piece is left"
    resumed = records.read_record(tmp_path / "first.json")["values"]
    assert cli.main(command) == 0
    assert records.read_record(tmp_path / "first.json")["values"] == resumed == {"x": [[1.0, 0.0]] * 3}

    stops.add("b")
    assert cli.main(command) == 130
    stops.clear()
    made.clear()
    assert cli.main([*command, "--resume", "--seed", "1"]) == 0
    assert made == ["a", "b", "c"], "the pieces of another request are not taken"
    stops.add("b")
    assert cli.main(command) == 130
    stops.clear()
    made.clear()
    assert cli.main(command) == 0
    assert made == ["a", "b", "c"], "without --resume it begins anew"


def test_a_second_run_leaves_the_pieces_of_the_first_alone(
    lab: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "first", "--quiet", "--out", str(tmp_path)]
    statuses: list[int] = []

    def pieces(settings: Point, context: Context) -> Result:
        context.piece("a", lambda: 1)
        if not statuses:  # what somebody else starts meanwhile
            statuses.append(-1)
            statuses.extend(cli.main([*command, *more]) for more in ([], ["--resume"]))
            assert sorted(path.name for path in (tmp_path / ".first").iterdir()) == ["a.json", "lock"]
        return good(settings, context)

    Fake.mains["first"] = pieces
    assert cli.main(command) == 0
    assert statuses == [-1, 2, 2]
    assert capsys.readouterr().err.count("error: first: another run is at work on it") == 2
    assert names_in(tmp_path) == ["figures", "first.json", "report.html"]


def test_the_preset_long_is_asked_only_of_those_that_have_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "dropout", "mixup-cutmix", "--preset", "long", "--out", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert "dropout: there is no preset long. It is there for label-smoothing, mc-dropout, mixup-cutmix" in shown
