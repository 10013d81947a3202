"""Experiments in several processes: the same records, one Ctrl-C, and a process that dies costs only its own."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import cli
from experiments.harness import processes, registry, runner, schedule
from experiments.harness.context import Context
from experiments.harness.processes import Ended, side_by_side

from .lab import fake, good

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes and signals of POSIX")

# What a process does: evaluate an item, which is an expression of Python.
SLEEP = "__import__('time').sleep(600)"
DIE = "__import__('os')._exit(9)"
DEAF = "[__import__('signal').signal(2, __import__('signal').SIG_IGN), open({0!r}, 'w').close(), {1}][-1]"
INTERRUPT = "exec('raise KeyboardInterrupt')"
THREADS = "__import__('os').environ['OMP_NUM_THREADS']"


def run(items: list[str], show: Any = lambda running: None, count: int = 2) -> dict[str, Any]:
    return dict(side_by_side(eval, items, processes=count, threads=3, show=show))


def press(running: list[str]) -> None:
    if len(running) == 2:
        time.sleep(0.3)  # one of the two may be at its work by then, the other still at its imports
        signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def ctrl_c() -> Any:
    """As in a shell's foreground, whatever the tests were started from; and no process is left."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
    assert multiprocessing.active_children() == []


def test_each_item_has_its_answer_and_several_run_at_once() -> None:
    shown = []
    found = run(["1 + 1", "2 + 2", "3 + 3", THREADS], lambda running: shown.append(list(running)))
    assert found == {"1 + 1": 2, "2 + 2": 4, "3 + 3": 6, THREADS: "3"}
    assert max(map(len, shown)) == 2
    assert shown[0] == ["1 + 1", "2 + 2"]


def test_a_process_that_dies_costs_only_what_it_was_at(capfd: pytest.CaptureFixture[str]) -> None:
    found = run([DIE, "1", "1 / 0", "2", f"{DIE} or 1", "3"])
    assert found == {DIE: Ended(9), "1": 1, "1 / 0": Ended(1), "2": 2, f"{DIE} or 1": Ended(9), "3": 3}
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_ctrl_c_interrupts_all_of_them() -> None:
    with pytest.raises(KeyboardInterrupt):
        run([SLEEP, f"{SLEEP} or 1", "1"], press)


def test_what_is_done_although_ctrl_c_came_is_given(tmp_path: Path) -> None:
    deaf = DEAF.format(str(tmp_path / "deaf"), "__import__('time').sleep(1) or 5")

    def press(running: list[str]) -> None:
        if (tmp_path / "deaf").exists():
            signal.raise_signal(signal.SIGINT)

    work = side_by_side(eval, [deaf, SLEEP], processes=2, threads=1, show=press)
    assert next(work) == (deaf, 5)
    with pytest.raises(KeyboardInterrupt):
        next(work)


def test_an_item_that_interrupts_itself_interrupts_all() -> None:
    with pytest.raises(KeyboardInterrupt):
        run([SLEEP, INTERRUPT])


def test_the_third_ctrl_c_ends_what_does_not_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    presses = []

    def pressed(*arguments: object) -> list[object]:
        time.sleep(0.1)
        if (tmp_path / "deaf").exists():
            presses.append(arguments)
            raise KeyboardInterrupt
        return []

    monkeypatch.setattr(processes.connection, "wait", pressed)
    with pytest.raises(KeyboardInterrupt):
        run([DEAF.format(str(tmp_path / "deaf"), SLEEP), SLEEP])
    assert len(presses) == 3


def test_who_stops_asking_stops_the_work() -> None:
    work = side_by_side(eval, ["1", SLEEP, "2"], processes=2, threads=1, show=lambda running: None)
    assert next(work) == ("1", 1)
    work.close()


def test_none_outlives_who_started_it() -> None:
    child = f"""
from experiments.harness.processes import side_by_side
work = "print('working', flush=True) or " + {SLEEP!r}
list(side_by_side(eval, [work], processes=1, threads=1, show=lambda running: None))
"""
    with subprocess.Popen([sys.executable, "-c", child], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"working\n"
        process.kill()
        process.communicate(timeout=300)  # until nobody is left who could write


# The lab


def test_records_are_those_of_one_after_the_other(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["run", "custom-losses", "running-statistics", "--preset", "smoke", "--out"]
    assert cli.main([*command, str(tmp_path / "one"), "--processes", "1", "--quiet"]) == 0
    assert cli.main([*command, str(tmp_path / "two"), "--processes", "2"]) == 0
    shown = capfd.readouterr()
    assert "custom-losses, running-statistics: " in shown.err
    assert "2/2" in shown.err
    assert shown.out.index("custom-losses  (smoke") < shown.out.rindex("running-statistics  (smoke"), "as asked for"
    for name in ("custom-losses", "running-statistics"):
        one, two = (json.loads((tmp_path / each / f"{name}.json").read_text()) for each in ("one", "two"))
        assert {**one, "seconds": 0} == {**two, "seconds": 0}
        for figure in one["figures"].values():
            pictures = [(tmp_path / each / "figures" / figure["file"]).read_bytes() for each in ("one", "two")]
            assert pictures[0] == pictures[1]


def test_ctrl_c_keeps_what_is_finished_in_any_process(tmp_path: Path) -> None:
    command = ["run", "custom-losses", "mc-dropout", "--processes", "2", "--out", str(tmp_path)]
    child = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background has set to ignore
from experiments import cli
sys.exit(cli.main({command}))
"""
    arguments = [sys.executable, "-c", child]
    with subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            while not (tmp_path / "custom-losses.json").exists() and process.poll() is None:
                time.sleep(0.1)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            _, err = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "1 of 2 finished and kept" in err
    assert not (tmp_path / "mc-dropout.json").exists()
    assert (tmp_path / "report.html").exists()


def test_a_killed_experiment_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def each(work: Any, chosen: Any, *arguments: Any, **options: Any) -> Any:
        yield chosen[0], Ended(-9)
        yield chosen[1], work(chosen[1])

    monkeypatch.setattr(schedule, "each", each)
    assert runner.run_all([fake("first", good), fake("second", good)], "quick", Context(), tmp_path, processes=2) == 1
    shown = capsys.readouterr()
    assert "first: its process was killed" in shown.err
    assert "1 of 2 finished and kept" in shown.err
    assert "second" in shown.out


def test_how_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    three = list(registry.experiments().values())[:3]
    assert schedule.processes(three, "quick", Context()) == 3
    assert schedule.processes(three * 2, "smoke", Context()) == schedule.AT_ONCE
    assert schedule.processes(three, "full", Context()) == 1
    assert schedule.processes(three, "quick", Context(device=torch.device("meta"))) == 1


def test_an_experiments_seconds_are_those_of_its_file() -> None:
    runtime = "smoke 1 s, quick 5 s, full about 37 s (2 CPU cores); long is for hours"
    experiment = fake("first", good)._replace(runtime=runtime)
    assert [experiment.seconds(preset) for preset in cli.PRESETS] == [1, 5, 0, 37]
