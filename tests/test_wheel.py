"""The wheel that a user installs: what is in it, and what a type checker makes of it."""

import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = """
import torch, funcreg as fr
key = fr.random.key(0)
dropped: torch.Tensor = fr.noise.dropout(torch.ones(3), 0.5, key=key)
{wrong}
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment where the wheel is installed, beside what this one has."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("installed")
    build = "import sys, hatchling.build as build; print(build.build_wheel(sys.argv[1]))"
    made = subprocess.run([sys.executable, "-c", build, folder], cwd=ROOT, capture_output=True, text=True, check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    packages = next((folder / "venv").glob("lib*/python*/site-packages"))
    with zipfile.ZipFile(folder / made.stdout.split()[-1]) as wheel:
        wheel.extractall(packages)
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    return folder / "venv" / "bin" / "python"


def test_it_holds_the_library_and_the_mark_that_it_is_typed(python: Path) -> None:
    packages = next(python.parents[1].glob("lib*/python*/site-packages"))
    assert (packages / "funcreg" / "py.typed").exists()
    files = {path.relative_to(ROOT) for path in (ROOT / "funcreg").rglob("*.py")}
    assert files == {path.relative_to(packages) for path in (packages / "funcreg").rglob("*.py")}
    assert {path.name for path in packages.iterdir() if path.is_dir() and "dist-info" not in path.name} == {"funcreg"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("", "0 errors"),
        ("fr.noise.dropout(torch.ones(3), 0.5)", 'Argument missing for parameter "key"'),
        ("dropped.shape + fr.random.key", "reportOperatorIssue"),
    ],
)
def test_a_type_checker_reads_it(python: Path, wrong: str, told: str) -> None:
    script = python.parents[1] / "script.py"
    script.write_text(SCRIPT.format(wrong=wrong), encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--pythonpath", python, script]
    found = subprocess.run(command, capture_output=True, text=True, cwd=script.parent)
    assert told in found.stdout, found.stdout + found.stderr
    assert "funcreg" not in found.stdout.replace(str(script), ""), found.stdout
