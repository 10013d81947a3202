"""The benchmarks: contenders do the same work, comparisons are what they say, the README's numbers are the record's."""

import copy
import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import funcreg as fr
from experiments.benchmarks import command, figures, growth, pure, recompilations, stateful, stock, tables, toy_runs
from experiments.benchmarks.jax_process import JaxProcess, missing
from experiments.benchmarks.measure import Workload, compare
from experiments.benchmarks.measured import Measured, ratio
from experiments.benchmarks.profiled import KINDS, naming_kernels, profiled
from experiments.benchmarks.workloads import WORKLOADS
from experiments.harness import environment

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
HAS_JAX = not missing()
SECONDS = {
    "stateful eager": [4.0, 6.0, 8.0],
    "stateful compiled": [3.0, 3.0, 3.0],
    "JAX jit": [2.0, 4.0, 2.0],
    "JAX vmap": [3.0, 3.0, 3.0],
    "JAX scan": [1.0, 1.0, 1.0],
    "funcreg eager": [4.0, 4.0, 4.0],
    "funcreg jit": [1.0, 1.0, 2.0],
}
MEASURED = Measured(
    "work",
    "what is done",
    SECONDS,
    {("funcreg jit", "stateful eager"): 4.0, ("funcreg jit", "best JAX"): 3.0, ("funcreg jit", "JAX scan"): 0.5},
    {"funcreg jit": 12.34},
)
GROWTH = [
    {"axis": axis, "question": "a step, of so many", "contender": name, "points": points}
    for axis in ("members", "batch")
    for name, points in {
        "stateful eager": [{"value": value, "seconds": 0.01 * value, "mib": None} for value in (1, 4)],
        "funcreg jit": [{"value": value, "seconds": 0.002 * value, "mib": 2.0 * value} for value in (1, 4)],
    }.items()
]


def record_of(*measured: Measured) -> dict[str, Any]:
    return {
        "workloads": [each.record() for each in measured],
        "growth": GROWTH,
        "programs": {"adam": 1, "a smaller last batch": 2},
        "monte_carlo_peak_mib_by_chunk_size": {"None": 600.0, "10": 60.0},
        "profiles": {"work": {"contender": "funcreg jit", "shares": dict.fromkeys(KINDS, 0.0) | {"products": 0.756}}},
        "compiler_start_seconds": 14.0,
        "without_jax": "",
    }


# What is compared


def test_a_ratio_is_the_median_of_those_within_rounds() -> None:
    found = ratio(SECONDS, "funcreg jit", "stateful eager")
    assert found is not None
    assert (found.baseline, found.median, found.low, found.high) == ("stateful eager", 4.0, 4.0, 6.0)
    assert ratio(SECONDS, "funcreg jit", "torch.func") is None
    assert ratio(SECONDS, "funcreg vmap", "stateful eager") is None


def test_of_a_family_the_fastest_counts() -> None:
    found = ratio(SECONDS, "funcreg jit", "best JAX")
    assert found is not None
    assert found.baseline == "JAX jit", "scan is another program, and compared only where a target names it"
    plain = ratio(SECONDS, "funcreg jit", "plain torch")
    assert plain is not None
    assert plain.baseline == "stateful compiled"


def test_a_contender_is_never_compared_with_itself() -> None:
    seconds = {"funcreg eager": [1.0], "funcreg eager, in chunks": [2.0], "stateful": [3.0], "stateful eager": [0.5]}

    def baseline(contender: str, against: str) -> str | None:
        return None if (found := ratio(seconds, contender, against)) is None else found.baseline

    assert baseline("funcreg eager, in chunks", "funcreg eager") == "funcreg eager"
    assert baseline("funcreg eager", "funcreg eager") == "funcreg eager, in chunks"
    assert baseline("funcreg eager, in chunks", "funcreg eager, in chunks") is None
    assert baseline("funcreg eager", "stateful") == "stateful", "not the fastest whose name begins so"
    for name in seconds:
        assert all(baseline(name, against) != name for against in (*seconds, "funcreg", "plain torch", "best JAX"))


def test_targets_are_met_or_missed() -> None:
    found = {each["against"]: each for each in MEASURED.record()["comparisons"] if each["contender"] == "funcreg jit"}
    assert {name: each["met"] for name, each in found.items()} == {
        "best JAX": False,
        "stateful eager": True,
        "stateful compiled": None,
        "JAX scan": True,
    }


def test_contenders_are_timed_in_turn() -> None:
    called: list[str] = []

    def clock(name: str, calls: int) -> float:
        called.append(name)
        return 0.5 * calls

    seconds = compare({name: lambda calls, n=name: clock(n, calls) for name in "ab"}, rounds=3, slot=1.0)
    assert seconds == {"a": [0.5] * 3, "b": [0.5] * 3}
    assert "".join(called[-6:]) == "ababab"


def test_names_on_the_command_line_renew_their_part_of_a_record(tmp_path: Path) -> None:
    def measured(name: str, seconds: float) -> Measured:
        return Measured(name, "what is done", {"funcreg eager": [seconds], "stateful eager": [1.0]}, {})

    made = {"versions": {"torch": "2"}, "hardware": {}, "settings": {}}
    earlier = {**record_of(measured("dropout", 1.0), measured("mlp-step", 1.0)), **made}
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(earlier), encoding="utf-8")
    new = {**record_of(measured("toy-step", 2.0), measured("mlp-step", 2.0)), **made, "growth": [], "programs": {}}
    found = command._beside(new, path)
    assert [each["name"] for each in found["workloads"]] == ["dropout", "toy-step", "mlp-step"]
    assert [each["contenders"]["funcreg eager"]["milliseconds"] for each in found["workloads"]] == [1e3, 2e3, 2e3]
    assert found["growth"] == GROWTH
    assert found["programs"] == {"adam": 1, "a smaller last batch": 2}
    other = {**new, "versions": {"torch": "3"}}
    assert command._beside(other, path) == other
    assert command._beside(new, tmp_path / "none.json") == new


def test_programs_are_counted_for_each_idiom(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting:
        """Of each kind of call a program, as `fr.jit` has it of sizes."""

        def __init__(self, function: Callable[..., Any]) -> None:
            self.function, self.kinds = function, set[Any]()

        def __call__(self, *args: Any) -> Any:
            self.kinds.add(tuple(leaf.shape for leaf in fr.tree.leaves(args) if isinstance(leaf, torch.Tensor)))
            return self.function(*args)

        @property
        def compilations(self) -> int:
            return len(self.kinds)

    monkeypatch.setattr(fr, "jit", Counting)
    counted = recompilations.counted()
    assert set(counted.values()) == {1, 2}
    assert counted["a smaller last batch"] == 2
    told = "Programs compiled for 4 calls: adam 1, a smaller last batch 2."
    assert told in tables.text(record_of(MEASURED))
    assert told in tables.markdown(record_of(MEASURED))


# The contenders do the same work


def test_a_step_of_stock_torch_func_is_the_stateful_one() -> None:
    batch = pure.classification((16, 2), 2)
    module = stateful.mlp((2, 8, 2), 0.0)
    theirs = stateful.training_step(copy.deepcopy(module), batch.x, batch.y, lr=1e-3, decay=1e-4)
    ours = stock.step(module, batch, jit=False)
    for _ in range(3):
        torch.testing.assert_close(ours(), theirs())


def test_members_of_stock_torch_func_have_their_own_rates() -> None:
    batch = pure.classification((64, 2), 2)
    modules = [stock.with_own_dropout(stateful.mlp((2, 8, 2), 0.5)) for _ in range(2)]
    modules[1].load_state_dict(modules[0].state_dict())
    hparams = {"rate": torch.tensor([0.0, 0.9]), "lr": torch.full((2,), 1e-3), "decay": torch.zeros(2)}
    losses: Any = stock.members_step(modules, batch, hparams, jit=False)()
    expected = stateful.loss_of(modules[0][:2].append(modules[0][3]), batch.x, batch.y)
    torch.testing.assert_close(losses[0], expected)
    assert losses[1] != losses[0]


@pytest.mark.parametrize("make", [pure.looped_step, functools.partial(pure.chunked_step, jit=False)])
def test_a_loop_and_chunks_of_members_are_the_sweep(make: Any) -> None:
    arguments: Any = (lambda: stateful.mlp((2, 8, 2), 0.5), pure.classification((16, 2), 2), pure.swept(3), 3)
    ours, whole = make(*arguments), pure.members_step(*arguments, jit=False)
    for _ in range(2):
        metrics: Any = ours()
        found = fr.tree.stack(metrics) if isinstance(metrics, list) else metrics
        torch.testing.assert_close(found, whole())


JAX_STEPS = """
import json, sys
import jax.numpy as jnp
from experiments.benchmarks import with_jax
weights, x, y = json.loads(sys.stdin.read())
params = [{"weight": jnp.array(w).T, "bias": jnp.array(b)} for w, b in weights]
step, carry = with_jax.training_step(with_jax.mlp_loss), with_jax.start(params)
for _ in range(3):
    carry, loss = step(carry, jnp.array(x), jnp.array(y), {"rate": 0.0, "decay": 1e-4, "lr": 1e-3})
    print(float(loss))
"""


@pytest.mark.skipif(not HAS_JAX, reason="needs jax and optax")
def test_a_step_of_jax_is_the_stateful_one() -> None:
    batch = pure.classification((16, 2), 2)
    module = stateful.mlp((2, 8, 2), 0.0)
    weights = [(layer.weight.tolist(), layer.bias.tolist()) for layer in (module[0], module[3])]  # pyright: ignore
    step = stateful.training_step(module, batch.x, batch.y, lr=1e-3, decay=1e-4)
    given = json.dumps([weights, batch.x.tolist(), batch.y.tolist()])
    done = subprocess.run(
        [sys.executable, "-c", JAX_STEPS], input=given, capture_output=True, text=True, check=True, cwd=ROOT
    )
    losses = torch.tensor([float(line) for line in done.stdout.split()])
    torch.testing.assert_close(losses, torch.stack([step() for _ in range(3)]))


@pytest.mark.skipif(not HAS_JAX, reason="needs jax and optax")
def test_jax_is_asked_through_a_pipe() -> None:
    with JaxProcess(threads=1) as process:
        built = process.build("dropout")
        assert set(built) == {"JAX jit", "JAX jit, rbg"}
        assert process.seconds("JAX jit", 2) > 0


def test_every_workload_of_jax_is_one_of_ours() -> None:
    source = (ROOT / "experiments" / "benchmarks" / "with_jax.py").read_text(encoding="utf-8")
    names = re.findall(r'^    "([\w-]+)": ', source[source.index("\nWORKLOADS") :], flags=re.MULTILINE)
    ours_alone = {"apply", "augmentation", "rand-augment", "fit-source", "fit-step", "head-monte-carlo", "open-step"}
    ours_alone |= {"middle-sweep", "middle-sweep-200"}
    assert {name for name in WORKLOADS if not name.startswith("apply:")} - set(names) == ours_alone
    assert set(names) <= {*WORKLOADS, "toy-step-kept", "mlp-step-kept"}  # which only glibc has


@pytest.mark.parametrize("kind", ["stateful", "funcreg"])
def test_whole_runs_learn(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    toy_runs.KINDS[kind](1, False)
    assert float(re.findall(r"[01]\.\d+", capsys.readouterr().out)[0]) > 0.8


@pytest.mark.parametrize(("axis", "contender"), [
    (axis, contender) for axis, all_of in growth.CONTENDERS.items() for contender in all_of if "JAX" not in contender
])  # fmt: skip
def test_every_point_of_growth_can_be_built(axis: str, contender: str) -> None:
    run = growth.build(axis, contender, 2)
    if not contender.endswith("jit"):
        run()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_grows_with_the_members() -> None:
    points = growth.measure("members", "funcreg vmap", threads=1)
    assert [point["value"] for point in points] == list(growth.AXES["members"])
    first, last = points[0]["mib"] or 0.0, points[-1]["mib"] or 0.0
    assert 0 <= 10 * first < last, points  # 256 members hold 256 times what one holds


# Where the time goes


def test_products_are_told_from_the_rest() -> None:
    a, b = torch.zeros(300, 300), torch.zeros(3, 3)
    products = profiled(lambda: torch.addmm(a, a, a))
    assert set(products) == set(KINDS)
    assert sum(products.values()) == pytest.approx(1)
    assert products["products"] > products["other operators"]
    sums = profiled(lambda: [b + b for _ in range(10)])
    assert sums["products"] == 0 < sums["other operators"]
    draws = profiled(lambda: fr.random.uniform(fr.random.key(0), (1000,)))
    assert draws["draws"] > 0


@pytest.mark.slow
def test_kernels_of_programs_are_seen() -> None:
    x = torch.ones(100_000)
    with naming_kernels():
        shares = profiled(functools.partial(fr.jit(lambda x: x.sin() + 1), x))
    assert shares["compiled kernels"] > shares["products"] == 0
    assert shares["guards"] > 0


@pytest.fixture
def threads() -> Iterator[int]:
    """As many as torch has now, and has afterwards."""
    count = torch.get_num_threads()
    yield count
    torch.set_num_threads(count)


@pytest.mark.usefixtures("threads")
def test_a_profile_needs_what_was_measured_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {**record_of(MEASURED), "versions": {"torch": "1"}, "hardware": {}}
    (tmp_path / "bench.json").write_text(json.dumps(record), encoding="utf-8")
    assert command.main(["--profile", "--out", str(tmp_path)]) == 2
    assert "measured elsewhere" in capsys.readouterr().err
    record |= {"versions": environment.versions(), "hardware": environment.hardware(torch.device("cpu"))}
    (tmp_path / "bench.json").write_text(json.dumps(record), encoding="utf-8")
    assert command.main(["--profile", "apply", "--out", str(tmp_path)]) == 2
    assert "has no apply yet" in capsys.readouterr().err


def test_a_profile_is_added_to_what_was_measured(tmp_path: Path, threads: int) -> None:
    measured = Measured("apply", "a call", {"funcreg eager": [1.0], "stateful eager": [1.0]}, {})
    here = {"versions": environment.versions(), "hardware": environment.hardware(torch.device("cpu"))}
    (tmp_path / "bench.json").write_text(json.dumps({**record_of(measured), **here}), encoding="utf-8")
    assert command.main(["--profile", "--threads", str(threads), "--out", str(tmp_path)]) == 0
    record = tables.read(tmp_path / "bench.json")
    assert record["workloads"] == [measured.record()]
    assert set(record["profiles"]) == {"work", "apply"}
    assert record["profiles"]["apply"]["shares"]["products"] > 0


# What is shown


def test_the_text_has_every_contender_and_target() -> None:
    shown = tables.text(record_of(MEASURED))
    assert re.search(r"funcreg jit +1000\.000 ms +12\.3 s until the first result", shown)
    assert re.search(r"funcreg jit +4\.00 \(4\.00-6\.00\) +times as fast as stateful eager +target 4\.00: met", shown)
    assert re.search(r"2\.00 \(.*\) +times as fast as best JAX \(JAX jit\) +target 3\.00: MISSED", shown)
    assert "4: 8.00 ms, 8.00 MiB" in shown
    assert shown.endswith("2 of 3 targets met")


def test_the_markdown_has_a_row_a_workload_and_the_targets_that_are_missed() -> None:
    lines = tables.markdown(record_of(MEASURED)).splitlines()
    assert len(lines) == 3 + 4 + 4
    assert lines[2].startswith("| what is done | jit: ")
    assert lines[2].endswith("| 2.00 x (1.00-4.00) (JAX jit) | 12.3 s |")
    assert lines[4:6] == ["Targets met: 2 of 3.", "Missed: work, jit against best JAX (2.00 of 3.00)."]
    assert lines[-1] == "| work, jit | 76% |" + "  |" * (len(KINDS) - 1)


def test_figures_are_drawn_from_what_was_measured() -> None:
    assert set(figures.draw(record_of(MEASURED))) == {"bench", "growth"}
    assert set(figures.draw({"workloads": [MEASURED.record()], "growth": []})) == {"bench"}


@pytest.mark.usefixtures("threads")
def test_the_command_keeps_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    x = torch.ones(8)

    def sums(device: torch.device) -> Workload:
        assert device.type == "cpu"
        contenders: Any = {"stateful eager": x.sum, "funcreg eager": lambda: fr.tree.norm([x])}
        return Workload("dropout", "sums", contenders, {("funcreg eager", "stateful eager"): 0.001})

    monkeypatch.setitem(command.WORKLOADS, "dropout", sums)
    monkeypatch.setattr(command, "timed_first_call", lambda run: 1.5)
    monkeypatch.setattr(command, "missing", lambda: ["jax"])
    assert command.main(["dropout", "--rounds", "2", "--slot", "0.001", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "without JAX: jax" in shown
    assert "1 of 1 targets met" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"bench.json", "bench.png"}
    assert command.main(["--table", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("| work | funcreg |")


def test_requests_that_cannot_be_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["nothing"])
    assert "there is no nothing" in capsys.readouterr().err
    assert command.main(["--table", "--out", str(tmp_path)]) == 2
    assert "Make it: python -m experiments bench" in capsys.readouterr().err
    (tmp_path / "bench.json").write_text("{}")
    assert command.main(["--table", "--out", str(tmp_path)]) == 2


def test_the_readme_has_the_tables_of_the_committed_record() -> None:
    readme = (ROOT / "experiments" / "benchmarks" / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"<!-- bench -->\n(.*?)\n<!-- /bench -->", readme, flags=re.DOTALL)
    record = tables.read(RESULTS / "bench.json")
    assert shown.strip() == tables.markdown(record), "python -m experiments bench --table --out experiments/results"
