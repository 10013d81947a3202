"""The lab's house: each floor imports only from those below it, and its listing names what is in it."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.harness import registry

LAB = Path(__file__).parents[1] / "experiments"
# The floors in their order: files beside the folders that start everything, then the folders, then what all may use.
FLOORS = (
    "__main__", "cli", "notebook", "questions", "parts", "benchmarks", "harness", "report", "data", "errors",
)  # fmt: skip
FILES = sorted(path for path in LAB.rglob("*.py") if path != LAB / "__init__.py")


def floor_of(path: Path) -> str:
    return path.relative_to(LAB).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    return str(path.relative_to(LAB))


def imported(path: Path) -> Iterator[str]:
    """The floors that a file imports from, inside functions too."""
    package = ("experiments", *path.relative_to(LAB).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            names = [f"{module}.{each.name}" for each in node.names]
        else:
            continue
        for name in names:
            if name.startswith("experiments."):
                yield name.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_each_floor_imports_only_from_those_below_it(path: Path) -> None:
    own = floor_of(path)
    assert own in FLOORS, f"{own} is on no floor of the house"
    for other in imported(path):
        assert other == own or FLOORS.index(own) < FLOORS.index(other), f"{own} imports {other}, above it"


def test_an_import_upwards_would_be_seen() -> None:
    assert set(imported(LAB / "harness" / "runner.py")) == {"harness", "report", "errors"}
    assert {"harness", "benchmarks"} <= set(imported(LAB / "benchmarks" / "command.py"))
    assert "harness" in set(imported(LAB / "cli.py")), "imports inside functions count"


@pytest.mark.parametrize("folder", ["", "parts", "harness", "report"])
def test_the_listing_of_a_folder_names_every_file(folder: str) -> None:
    listing = importlib.import_module(f"experiments.{folder}".rstrip(".")).__doc__ or ""
    files = {path.name for path in (LAB / folder).glob("*.py") if not path.name.startswith("__")}
    assert files == {line.split()[0] for line in listing.splitlines() if ".py  " in line}


def test_the_listing_of_the_house_has_its_folders_in_their_order() -> None:
    listing = importlib.import_module("experiments").__doc__ or ""
    named = [
        line.split()[0].rstrip("/").removesuffix(".py") for line in listing.splitlines() if line.startswith("    ")
    ]
    assert named == [*FLOORS[1:], "results"]


# question: why its file is longer than others, each of which tells its story in 300 lines
LONG = {
    "adversarial": "eight defences and three attacks",
    "animal-faces": "four studies",
    "batch-norm": "parity with torch, the batch's size, its company, and MC dropout both ways",
    "batch-norm-inside": "with and without, then both modes on small batches, and their boundaries drawn",
    "dropout": "seven kinds of dropout, each against its own statistics",
    "early-stopping": "the rule alone, a fit that comes back, members that stop by themselves, patiences",
    "gradient-clipping": "a network, a transform that records, a sampler of text",
    "gradient-flow": "stopped gradients, frozen weights, recording: three questions in one",
    "hyperparameter-search": "five methods of search",
    "input-normalization": "four ways to scale, the Hessian's conditioning, and boundaries in their coordinates",
    "label-smoothing": "logits, two formulas, features and calibration",
    "learn-kernel": "two tasks by four losses, with a closed form beside",
    "mc-dropout": "turned digits, clean ones, an ensemble, and how many passes are enough",
    "mixup-cutmix": "seven recipes trained, where one passes another, and pictures of each",
    "random-labels": "three kinds of labels by eight regularizers",
    "running-statistics": "a grid of settings against two predictions",
    "sharpness": "four methods, curvature, and what SAM's passes draw",
    "spectral-norm": "a GAN, four ways to bound it, two searches for the steepest place",
    "weight-decay-polynomial": "fits, and a path of decays against the closed form",
    "weight-penalties": "five pairs of optimizers, decay's rate by parameter, sparsity",
}


def test_a_question_is_told_in_300_lines_or_says_why_not() -> None:
    lengths = {
        path.stem.replace("_", "-"): len(path.read_text(encoding="utf-8").splitlines())
        for path in (LAB / "questions").glob("*.py")
    }
    assert {name for name, lines in lengths.items() if lines > 300} == set(LONG)


def test_among_the_questions_is_nothing_else() -> None:
    files = {path.stem for path in (LAB / "questions").glob("*.py")} - {"__init__"}
    assert files == {name.replace("-", "_") for name in registry.experiments()}
