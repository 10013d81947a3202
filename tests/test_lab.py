"""The lab without its experiments: command line, running, going on after an interruption, records."""

import doctest
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy import stats

import funcreg as fr
from experiments import cli, data
from experiments.errors import WriteError
from experiments.harness import environment, files, records, registry, request, runner
from experiments.harness.context import Context
from experiments.report import claims, decisions, estimates, looks, plots, result
from experiments.report.result import Result, plain

from .lab import Fake, Point, broken, damaged, fake, good, interrupted, names_in, reads

ROOT = Path(__file__).parents[1]
NAMES = list(registry.experiments())


# The command line


def test_list_shows_each_with_its_question_under_its_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    shown = capsys.readouterr().out
    for name, experiment in registry.experiments().items():
        assert name in shown
        assert experiment.question[:40] in shown
        assert experiment.runtime in shown
    places = [shown.index(f"{part}. {title}") for part, title in registry.PARTS.items()]
    assert places == sorted(places)


@pytest.mark.parametrize("command", [[], ["run"], ["report"], ["list"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        cli.main([*command, "--help"])
    assert exit.value.code == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 120
    if command == ["run"]:
        assert all(option in shown for option in ("--resume", "--tensorboard", "--preset", "exit status"))


def test_run_prints_verdicts_and_where_the_report_is(
    lab: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "first", "--preset", "smoke", "--quiet", "--seed", "3", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "confirmed" in shown
    assert " claims in 1 experiment: " in shown
    assert f"report: {tmp_path / 'report.html'}" in shown
    record = records.read_record(tmp_path / "first.json")
    assert record["seed"] == 3
    assert record["command"].endswith("--preset smoke --seed 3")


def test_progress_bar_is_on_stderr(lab: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "first", "--out", str(tmp_path)]) == 0
    shown = capfd.readouterr()
    assert "1/1" in shown.err
    assert "1/1" not in shown.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "mc-dropuot"], "Did you mean mc-dropout"),
        (["run", "zzz"], "There are: "),
        (["run", "dropout", "--data-root", "/no/such/folder"], "/no/such/folder does not exist"),
        (["run", "dropout", "--data-root", __file__], "is a file"),
        (["run", "dropout", "--data-root", str(Path(__file__).parent / "oracles")], "has none of MNIST/raw"),
        (["run", "dropout", "--device", "warp"], "--device warp"),
        (["run", "dropout", "--out", __file__], "a file is in its place"),
        (["run", "dropout", "--out", f"{__file__}/results"], "cannot write"),
        (["report", "--out", "/no/such/folder"], "has no results"),
        (["report", "--out", __file__], "has no results"),
        (["report", "--table", "--out", "/no/such/folder"], "has no results"),
    ],
)
def test_mistakes_are_told_in_a_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = [] if "--out" in arguments or arguments[0] == "report" else ["--out", str(tmp_path / "out")]
    assert cli.main([*arguments, *out]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert len(shown.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_with_someones_files_in_the_way(
    lab: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first.json").write_text('{"mine": 1}')
    (tmp_path / "figures").write_text("mine")
    command = ["run", "all", "--quiet", "--out", str(tmp_path)]
    assert cli.main(command) == 2
    assert "figures: a file is in its place" in capsys.readouterr().err
    (tmp_path / "figures").unlink()
    assert cli.main(command) == 2
    assert "first.json is not the record of an experiment. It is left alone" in capsys.readouterr().err
    assert (tmp_path / "first.json").read_text() == '{"mine": 1}'
    (tmp_path / "first.json").write_text('{"format": "funcreg-experiment/1"}')
    assert cli.main(command) == 0, "a record of an earlier version may be replaced"
    (tmp_path / "report.html").unlink()
    (tmp_path / "report.html").mkdir()
    assert cli.main(command) == 2
    assert "report.html is a folder" in capsys.readouterr().err

    def refused(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    assert cli.main(command) == 2
    assert "Permission denied. Choose another folder with --out." in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["run", "dropout", "--device", "cuda", "--out", str(tmp_path)]) == 2
    assert "finds no CUDA GPU" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "x", "1.5", str(2**63)])
def test_seed_is_an_integer(seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        cli.main(["run", "dropout", "--seed", seed])
    assert exit.value.code == 2
    assert "is not an integer" in capsys.readouterr().err


def test_names_may_be_spelt_as_files_and_are_run_once() -> None:
    assert [each.name for each in registry.choose(["mc_dropout", "mc-dropout"])] == ["mc-dropout"]
    assert [each.name for each in registry.choose(["all", "dropout"])] == NAMES


def test_an_experiment_that_is_not_python_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "half.py").write_text("x = 1\nclass Settings(:\n")
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    assert cli.main(["list"]) == 2
    assert f"{tmp_path / 'half.py'}, line 2: invalid syntax" in capsys.readouterr().err


# Running and keeping


def test_interruption_keeps_what_is_finished(lab: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Fake.mains["second"] = interrupted
    assert cli.main(["run", "all", "--quiet", "--seed", "4", "--out", str(tmp_path)]) == 130
    shown = capsys.readouterr()
    assert "1 of 3 finished and kept" in shown.err
    assert f"python -m experiments run all --quiet --seed 4 --out {tmp_path} --resume" in shown.err
    assert names_in(tmp_path) == ["figures", "first.json", "report.html"]
    Fake.mains["second"] = good
    assert cli.main(["run", "all", "--quiet", "--seed", "4", "--out", str(tmp_path), "--resume"]) == 0
    shown = capsys.readouterr()
    assert "skipped, done before: first (1 of 3)" in shown.out
    assert "3 claims in 3 experiments: 3 confirmed, 0 refuted, 0 undecided" in shown.out
    assert [record["name"] for record in records.read_records(tmp_path)] == ["first", "second", "third"]


@pytest.mark.skipif(os.name != "posix", reason="SIGINT is POSIX's")
def test_ctrl_c_in_a_process(tmp_path: Path, lab: Any) -> None:
    child = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background has set to ignore
from experiments import cli
from experiments.harness import registry
from tests import lab as t
found = t.use(t.fake("first", t.good), t.fake("second", t.trains_for_ever), t.fake("third", t.good))
registry.experiments = lambda: found
sys.exit(cli.main(sys.argv[1:]))
"""
    command = ["run", "all", "--quiet", "--out", str(tmp_path)]
    arguments = [sys.executable, "-c", child, *command]
    with subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "training\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "1 of 3 finished and kept" in err
    assert "--resume" in err
    assert "Traceback" not in err
    assert "It is." in out
    assert names_in(tmp_path) == ["figures", "first.json", "report.html"]
    assert cli.main([*command, "--resume"]) == 0


def test_one_that_breaks_does_not_cost_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = [fake("first", broken), fake("second", good)]
    assert runner.run_all(chosen, "quick", Context(), tmp_path) == 1
    shown = capsys.readouterr().err
    assert "ZeroDivisionError: a bug" in shown
    assert "first broke" in shown
    assert names_in(tmp_path) == ["figures", "report.html", "second.json"]


def test_data_that_are_wrong_do_not_cost_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = [fake("first", damaged), fake("second", good)]
    assert runner.run_all(chosen, "quick", Context(), tmp_path) == 2
    shown = capsys.readouterr()
    assert "error: first: cannot read MNIST" in shown.err
    assert "1 of 2 finished and kept" in shown.err
    assert "Traceback" not in shown.err
    assert "It is." in shown.out
    assert runner.run_all([fake("first", damaged), fake("second", broken)], "quick", Context(), tmp_path) == 1
    capsys.readouterr()
    assert runner.run_all([fake("first", damaged)], "quick", Context(), tmp_path) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_disk_that_fills_up_ends_the_run_and_keeps_what_was_there(
    lab: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["run", "all", "--quiet", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    room = iter([None] * 3)  # the first experiment's figure and record, the second's figure

    def full(handle: int) -> None:
        if next(room, "full"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert cli.main([*command, "--seed", "1"]) == 2
    shown = capsys.readouterr()
    assert f"error: cannot write to {tmp_path}: No space left on device" in shown.err
    assert "1 of 3 finished and kept" in shown.err
    assert "Traceback" not in shown.err
    assert "not kept:\n\nsecond" in shown.out, "what it measured can still be read"
    assert records.read_record(tmp_path / "first.json")["seed"] == 1
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert set(after) == set(before)
    assert {path for path in after if after[path] != before[path]} == {tmp_path / "first.json"}


@pytest.mark.parametrize("error", [ValueError("a bug in the figure"), KeyboardInterrupt()])
def test_numbers_are_kept_where_their_figures_fail(
    error: BaseException, lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(figure: object) -> bytes:
        raise error

    command = ["run", "first", "--quiet", "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(plots, "png", fail)
        assert cli.main(command) == (1 if isinstance(error, ValueError) else 130)
    assert records.read_record(tmp_path / "first.json")["figures"] == {}
    Fake.mains["first"] = broken  # it need not run again
    assert cli.main([*command, "--resume"]) == 0
    assert names_in(tmp_path / "figures") == ["first-point.png"]


def test_verdicts_come_after_the_report_since_their_pipe_may_close(tmp_path: Path, monkeypatch: Any) -> None:
    def closed(*arguments: object, **options: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", closed)
    with pytest.raises(BrokenPipeError):
        runner.run_all([fake("first", good)], "quick", Context(), tmp_path)
    assert names_in(tmp_path) == ["figures", "first.json", "report.html"]


def test_interrupted_fit_ends_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fr.train, "fit", lambda *a, **k: SimpleNamespace(interrupted=True))
    with pytest.raises(KeyboardInterrupt):
        Context().fit()


def test_track_goes_through_all_steps() -> None:
    for bars in (False, True):
        assert list(Context(bars=bars).track(range(3), "steps")) == [0, 1, 2]


@pytest.mark.parametrize("where", ["fsync", "chmod"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_files_that_fail_leave_all_as_it_was(
    where: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {tmp_path / name: name.encode() for name in ("a", "b")}
    files.write_together(paths)
    calls = iter([None])

    def fail(*arguments: object) -> None:
        if next(calls, "fail"):
            raise error

    monkeypatch.setattr(os, where, fail)
    with pytest.raises((WriteError, KeyboardInterrupt)):
        files.write_together(dict.fromkeys(paths, b"new"))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == paths


@pytest.mark.skipif(os.name != "posix", reason="SIGINT is POSIX's")
def test_ctrl_c_waits_until_all_files_have_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, fsync = signal.signal(signal.SIGINT, signal.default_int_handler), os.fsync
    presses = iter([True])

    def pressed(handle: int) -> None:
        if next(presses, False):
            signal.raise_signal(signal.SIGINT)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", pressed)
    try:
        with pytest.raises(KeyboardInterrupt):
            files.write_together({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    finally:
        signal.signal(signal.SIGINT, before)
    assert names_in(tmp_path) == ["a", "b"]


# Going on


def test_resume_asks_what_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = fake("first", good)
    assert request.answered(experiment, "quick", Context(), tmp_path) is None
    record = plain(runner.run(experiment, "quick", Context(), tmp_path))
    assert request.answered(experiment, "quick", Context(), tmp_path) == record
    other = {
        "preset": ("smoke", Context()),
        "settings": ("full", Context()),
        "seed": ("quick", Context(seed=1)),
        "device": ("quick", Context(device=torch.device("meta"))),
    }
    for name, (preset, context) in other.items():
        assert request.answered(experiment, preset, context, tmp_path) is None, name
    versions = environment.versions()
    for name in ("funcreg", "torch"):
        with monkeypatch.context() as patch:
            patch.setattr(environment, "versions", lambda name=name: {**versions, name: "0"})
            assert request.answered(experiment, "quick", Context(), tmp_path) is None, name
    (tmp_path / "first.json").write_text("{")
    assert request.answered(experiment, "quick", Context(), tmp_path) is None


def test_resume_asks_for_the_same_data(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "MNIST" / "raw").mkdir(parents=True)
    (root / "MNIST" / "raw" / "train").write_bytes(b"123")
    out = tmp_path / "out"
    real, embedded = Context(data=data.data_root(str(root))), Context()
    reader = fake("reader", reads, command="python -m experiments run reader --data-root DATA")
    toy = fake("toy", good, command="python -m experiments run toy")

    runner.run(reader, "quick", embedded, out)
    assert request.answered(reader, "quick", embedded, out)
    assert request.answered(reader, "quick", real, out) is None
    record = runner.run(reader, "quick", real, out)
    assert record["command"] == "python -m experiments run reader --data-root DATA"
    assert str(root) not in json.dumps(record)
    assert request.answered(reader, "quick", real, out)
    assert request.answered(reader, "quick", embedded, out) is None
    (root / "MNIST" / "raw" / "train").write_bytes(b"1234")
    assert request.answered(reader, "quick", real, out) is None
    downloading = Context(data=data.DataRoot(root, download=True))
    runner.run(reader, "quick", downloading, out)
    (root / "fetched").write_bytes(b"")
    assert request.answered(reader, "quick", downloading, out), "what a download adds does not matter"

    runner.run(toy, "quick", embedded, out)
    assert request.answered(toy, "quick", real, out), "which reads no data"


def test_resume_draws_a_lost_figure_again(lab: Any, tmp_path: Path) -> None:
    command = ["run", "first", "--quiet", "--resume", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    picture = tmp_path / "figures" / "first-point.png"
    content = picture.read_bytes()
    picture.unlink()
    Fake.mains["first"] = broken  # it is not run
    assert cli.main(command) == 0
    assert picture.read_bytes() == content
    records.write_record(tmp_path / "first.json", {**records.read_record(tmp_path / "first.json"), "values": {}})
    picture.unlink()
    assert cli.main(command) == 1, "what cannot be drawn is run again, and breaks"


# Records


def test_plain_makes_json_of_everything() -> None:
    value = {
        "tensor": torch.tensor([[0.1, float("inf")]]),
        "double": torch.tensor(1 / 3, dtype=torch.float64),
        "named": estimates.Estimate(1.0, 0.0, 1.0, 1.0, 1),
        "settings": Point(2),
        "tuple": (True, None, "text", torch.tensor(3)),
        4: float("nan"),
    }
    found = plain(value)
    assert found["tensor"] == [[0.1, None]]
    assert found["double"] == 0.333333333333
    assert found["named"]["mean"] == 1.0
    assert found["settings"] == {"size": 2}
    assert found["tuple"] == [True, None, "text", 3]
    assert found["4"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    with pytest.raises(TypeError, match="set"):
        plain({1, 2})


def test_result_survives_its_json(tmp_path: Path) -> None:
    result = good(Point(2), Context())
    records.write_record(tmp_path / "r.json", {"format": records.FORMAT, **result.to_json()})
    again = Result.from_json(records.read_record(tmp_path / "r.json"))
    assert again.to_json() == result.to_json()


def test_intervals_are_students() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    found = estimates.estimate(values)
    low, high = stats.t.interval(0.95, 3, loc=3.75, scale=stats.sem(values))
    assert found == pytest.approx((3.75, 3.0957, low, high, 4), abs=1e-4)
    assert estimates.estimate([2.0])[2:] == (2.0, 2.0, 1)


@pytest.mark.parametrize("module", [claims, decisions, estimates, looks, result])
def test_examples(module: Any) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    outcome = doctest.testmod(module, extraglobs={"torch": torch}, optionflags=flags)
    assert outcome.attempted
    assert not outcome.failed
