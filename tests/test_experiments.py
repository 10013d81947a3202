"""Every experiment: its header, its run at smoke size, its figures, its claims; and the records that are committed."""

import dataclasses
import functools
import html
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import cli
from experiments.data import data_root
from experiments.harness import records, registry, request
from experiments.harness.context import Context
from experiments.parts import trials
from experiments.questions import mc_dropout
from experiments.report import plots
from experiments.report.decisions import OUTCOMES, UNDECIDED
from experiments.report.estimates import Estimate, number
from experiments.report.result import Result, plain
from tests.simulated_gpu import simulated_gpu

# The rows of the lab, by part.
LAB = {
    "A": "weight-penalties dropout mc-dropout batch-norm mixup-cutmix label-smoothing spectral-norm gradient-clipping",
    "B": "dropout-vs-l2 dropout-rates regularization-map",
    "C": "broadcasting gradient-flow input-normalization batch-norm-inside running-statistics weight-decay-polynomial "
    "dropout-noise custom-losses learn-kernel",
    "D": "early-stopping augmentation animal-faces dropout-regression random-labels hyperparameter-search adversarial "
    "sharpness",
}
NAMES = sorted(registry.experiments())
each_experiment = pytest.mark.parametrize("name", NAMES)
FOLDER = Path(cli.__file__).parent
REAL = os.environ.get("FUNCREG_DATA")  # read before the tests put it aside
LARGEST = 350_000  # bytes of a record
Finished = Callable[[str], Path]
MACHINE_PATH = re.compile(r"/(work|tmp|root|home|Users)/")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an experiment at smoke size, run once, when first asked for, on embedded data."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all processes: `together.py` sees to it that none runs what another did

    @functools.cache
    def run(name: str) -> Path:
        out = folder / f"experiment-{name}"
        out.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("FUNCREG_DATA", raising=False)
            assert cli.main(["run", name, "--preset", "smoke", "--quiet", "--out", str(out)]) == 0
        return out

    return run


# What their files say


def test_every_row_of_the_lab_has_its_experiment() -> None:
    found = registry.by_part(registry.experiments().values())
    assert {part: sorted(each.name for each in some) for part, some in found.items()} == {
        part: sorted(names.split()) for part, names in LAB.items()
    }


@each_experiment
def test_header_says_question_part_command_runtime_and_measured_answer(name: str) -> None:
    experiment = registry.experiments()[name]
    assert experiment.question.endswith("?")
    assert experiment.part in registry.PARTS
    assert re.fullmatch(rf"python -m experiments run {name}( --data-root DATA)?", experiment.command)
    assert re.match(r"smoke \d+ s, quick \d+ s", experiment.runtime)
    assert re.search(r"n = \d+", experiment.answer), "an answer says of how many"


@each_experiment
def test_presets_are_frozen_settings(name: str) -> None:
    module = registry.experiments()[name].load()
    assert set(module.PRESETS) | {"long"} == set(cli.PRESETS)
    assert ("long" in module.PRESETS) == ("long" in registry.experiments()[name].runtime)
    assert module.PRESETS["quick"] == module.Settings()
    for settings in module.PRESETS.values():
        assert dataclasses.is_dataclass(type(settings))
        with pytest.raises(dataclasses.FrozenInstanceError):
            settings.anything = 1


# What stateful code has and funcreg does not need; and who compares with the built-in.
STATEFUL = (
    r"\.(train|eval)\(\)",
    r"\.backward\(",
    r"torch\.optim",
    r"torch\.manual_seed",
    r"\bnp\.random",
    r"torch\.rand",
)
COMPARES = {"weight-penalties": (r"\.backward\(", r"torch\.optim"), "dropout": (r"torch\.manual_seed",)}


@each_experiment
def test_experiments_are_functional(name: str) -> None:
    source = (registry.FOLDER / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    assert not re.search(r"^ *for .* in range\(.*epochs", source, re.MULTILINE), "the loop is fr.train.fit's"
    for pattern in set(STATEFUL) - set(COMPARES.get(name, ())):
        # torch.random.fork_rng leaves the global generator as it was.
        assert not re.search(pattern, source.replace("torch.random.fork_rng", "")), pattern


# What they do at smoke size


@each_experiment
def test_record_is_complete(name: str, finished: Finished) -> None:
    experiment = registry.experiments()[name]
    path = finished(name) / f"{name}.json"
    record = records.read_record(path)
    assert record["name"] == name
    assert record["part"] == experiment.part
    assert record["command"] == f"python -m experiments run {name} --preset smoke"
    assert record["settings"] == plain(dataclasses.asdict(experiment.load().PRESETS["smoke"]))
    assert record["hardware"]["threads"] == torch.get_num_threads()
    assert record["seed"] == 0
    check_record(record, path)


@each_experiment
def test_what_reads_real_data_says_so_in_its_command(name: str, finished: Finished) -> None:
    record = records.read_record(finished(name) / f"{name}.json")
    if any("in place of" in source for source in record["data"]):
        assert "--data-root" in registry.experiments()[name].command, "--resume asks there whether data matter"


@each_experiment
def test_the_main_claim_fits_in_a_table(name: str, finished: Finished) -> None:
    first = records.read_record(finished(name) / f"{name}.json")["claims"][0]
    assert len(first["text"]) <= 110
    assert len(first["measured"]) <= 160


@each_experiment
def test_figures_come_from_the_record_alone(name: str, finished: Finished) -> None:
    record = json.loads((finished(name) / f"{name}.json").read_text(encoding="utf-8"))
    figures = registry.experiments()[name].load().figures(Result.from_json(record))
    assert set(figures) == set(record["figures"])
    for figure_name, figure in figures.items():
        assert len(plots.caption_of(figure)) > 30, "a caption"
        content = (finished(name) / "figures" / record["figures"][figure_name]["file"]).read_bytes()
        frames = figure.frames if isinstance(figure, plots.Animation) else [figure]
        assert content.startswith(b"GIF89a" if isinstance(figure, plots.Animation) else b"\x89PNG")
        for axes in (axes for frame in frames for axes in frame.axes):
            if axes.has_data() and not axes.images and axes.get_label() != "<colorbar>":
                assert axes.get_xlabel() or axes.get_shared_x_axes().get_siblings(axes) != [axes]


@each_experiment
def test_same_seed_same_result_on_another_device(name: str, finished: Finished, request: pytest.FixtureRequest) -> None:
    module = registry.experiments()[name].load()
    with simulated_gpu():
        again = module.main(module.PRESETS["smoke"], Context(seed=0, device=torch.device("cuda"))).to_json()
    if name in ("gradient-clipping", "sharpness", "weight-penalties"):  # the last digits of norms
        request.getfixturevalue("norms_unread")
        record = module.main(module.PRESETS["smoke"], Context(seed=0)).to_json()
    else:
        record = records.read_record(finished(name) / f"{name}.json")
    assert without_timing(again) == without_timing(record)


@pytest.mark.parametrize("name", ["dropout-vs-l2"])
def test_another_seed_gives_another_result(name: str, finished: Finished) -> None:
    module = registry.experiments()[name].load()
    other = module.main(module.PRESETS["smoke"], Context(seed=1)).to_json()
    assert other["values"] != records.read_record(finished(name) / f"{name}.json")["values"]


@pytest.mark.parametrize("name", ["dropout", "weight-penalties"])
def test_claims_that_are_mathematics_are_confirmed_even_at_smoke_size(name: str, finished: Finished) -> None:
    claims = records.read_record(finished(name) / f"{name}.json")["claims"]
    assert {claim["verdict"] for claim in claims} == {"confirmed"}


@each_experiment
def test_report_shows_it(name: str, finished: Finished) -> None:
    out = finished(name)
    page = (out / "report.html").read_text(encoding="utf-8")
    record = records.read_record(out / f"{name}.json")
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert f'<article id="{name}">' in page
    assert record["command"] in page
    for claim in record["claims"]:
        assert claim["measured"] in html.unescape(page)
    assert page.count("<img ") == len(record["figures"]) == len(list((out / "figures").iterdir()))
    assert len(page) < 1_000_000


@pytest.mark.skipif(REAL is None, reason="FUNCREG_DATA names no folder with real data")
def test_on_real_digits_entropy_rises_as_they_turn() -> None:
    settings = dataclasses.replace(mc_dropout.PRESETS["smoke"], steps=150, samples=20, angles=(0, 45, 90, 135, 180))
    record = mc_dropout.main(settings, Context(data=data_root(REAL))).to_json()
    assert record["data"][0].startswith("MNIST: 60,000 training and 10,000 test images")
    (claim,) = (each for each in record["claims"] if each["text"].startswith("Predictive entropy rises"))
    # Two members are too few for the claim's interval, so only the direction is asserted.
    assert all(each["mean"] > 0 for each in claim["numbers"]["difference"]), claim["measured"]


def test_mc_dropouts_ensembles_have_their_size_however_many_seeds_there_are() -> None:
    settings = dataclasses.replace(mc_dropout.PRESETS["smoke"], members=2, seeds=4, train=256, steps=2, samples=2)
    of_seeds = torch.arange(5.0)[:, None, None].expand(5, 3, 10)
    assert mc_dropout._together(of_seeds, settings)[:, 0, 0].tolist() == [0.5, 2.5]  # the fifth is in none
    result = mc_dropout.main(settings, Context())
    quality, angles = result.values["quality"], result.values["angles"]
    assert [len(each["nll"]) for each in quality.values()] == [4, 4, 2, 2]
    assert len(angles["entropy"][0]) == 4
    assert len(angles["ensemble"][0]) == len(angles["auroc_ensemble"][0]) == 2
    (claim,) = (each for each in result.claims if each.text.startswith("A deep ensemble of 2 "))
    assert f"ensemble {number(sum(quality['ensemble']['nll']) / 2)}, " in claim.measured


def test_trials_are_the_same_in_several_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = trials.TrialSettings(seeds=2, train=20, validation=10, test=10, hidden=4, epochs=2, batch_size=10)
    task = trials.Trials(settings, Context())
    points = {
        "rate": torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]),
        "decay": torch.full((5,), 1e-3),
        "lr": torch.tensor([0.1, 0.2, 0.1, 0.2, 0.1]),
        "seed": torch.tensor([0, 1, 0, 1, 0]),
    }
    at_once = task.trials(points)
    monkeypatch.setattr(trials, "_AT_ONCE", 2)
    torch.testing.assert_close(task.trials(points), at_once, rtol=1e-5, atol=1e-6)
    assert len(at_once["test_loss"].unique()) == 5


# What is committed of them


@each_experiment
def test_committed_record(name: str) -> None:
    path = FOLDER / "results" / f"{name}.json"
    assert path.exists(), f"python -m experiments run {name} --data-root DATA --out experiments/results"
    record = records.read_record(path)
    experiment = registry.experiments()[name]
    assert record["name"] == name
    assert record["preset"] in ("quick", "long", "full")
    settings = plain(dataclasses.asdict(experiment.load().PRESETS[record["preset"]]))
    raised = {} if "members_up_to" not in record else {request.MEMBERS: record["settings"][request.MEMBERS]}
    assert record["settings"] == {**settings, **raised}, "run it again"
    if record["preset"] == "quick" and not raised:
        said = re.search(r"quick (\d+) s", experiment.runtime)
        assert said is not None
        assert int(said[1]) == math.ceil(record["seconds"]), "the header says what the record took, in whole seconds"
    check_record(record, path)


def test_nothing_is_committed_of_what_is_no_experiment() -> None:
    kept = {path.stem for path in (FOLDER / "results").glob("*.json")}
    assert kept <= {*NAMES, "bench"}


def check_record(record: dict[str, Any], path: Path) -> None:
    """What holds for every record: small, of a known machine, without its paths, each claim with its numbers."""
    assert path.stat().st_size <= LARGEST
    assert {"python", "torch", "funcreg"} <= set(record["versions"])
    assert record["hardware"]["cpu"]
    assert record["hardware"]["threads"] > 0
    assert record["seconds"] > 0
    assert not MACHINE_PATH.search(path.read_text(encoding="utf-8"))
    assert record["values"]
    assert record["data"]
    assert record["figures"]
    assert len(record["claims"]) >= 3
    for claim in record["claims"]:
        assert claim["verdict"] in OUTCOMES
        assert bool(claim["allows"]) == (claim["verdict"] == UNDECIDED), "an undecided one says what is still possible"
        assert re.search(r"\d", claim["measured"]), "a verdict has its numbers"
        check_numbers(claim)


def check_numbers(claim: dict[str, Any]) -> None:
    """A claim about what is random has an estimate, whole; an exact one the numbers that were compared."""
    found = [leaf for leaf in leaves(claim["numbers"]) if isinstance(leaf, int | float) and math.isfinite(leaf)]
    assert found, f"no numbers: {claim['text']}"
    estimates = [each for each in branches(claim["numbers"]) if {"mean", "sd"} <= set(each)]
    for each in estimates:
        assert set(Estimate._fields) <= set(each), f"an estimate without its {set(Estimate._fields) - set(each)}"
        assert each["n"] >= 1
        if each["mean"] is not None:
            assert each["low"] <= each["mean"] <= each["high"]
    if "±" in claim["measured"]:
        assert estimates, f"a mean ± sd that is not among the numbers: {claim['measured']}"


def branches(tree: Any) -> Iterator[dict[str, Any]]:
    """Every dict in a tree."""
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    if isinstance(tree, dict):
        yield tree
    for child in children:
        yield from branches(child)


def leaves(tree: Any) -> Iterator[Any]:
    """Everything in a tree that is neither dict nor list."""
    if isinstance(tree, dict | list):
        for child in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(child)
    else:
        yield tree


def without_timing(result: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What must be the same when an experiment is run again: all but measured times."""
    values = {name: value for name, value in result["values"].items() if name != "timing"}
    return values, [claim for claim in result["claims"] if "timing" not in claim["numbers"]]
