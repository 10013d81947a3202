"""The notebooks: committed as executed, free of machinery, and running on a machine without data."""

import ast
import importlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.harness import registry

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST_FUNCTION = 8  # lines
LARGEST = 700_000  # bytes
MACHINE_PATH = re.compile(r"/(work|tmp|root|home|Users)/")
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def text_of(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def parsed(cell: dict[str, Any]) -> ast.Module:
    return ast.parse(text_of(cell["source"]))


def texts(notebook: dict[str, Any]) -> Iterator[str]:
    """All that a notebook says: sources and outputs, without pictures."""
    for cell in notebook["cells"]:
        yield text_of(cell["source"])
        for output in cell.get("outputs", []):
            yield text_of(output.get("text", ""))
            for kind, value in output.get("data", {}).items():
                if kind.startswith("text/"):
                    yield re.sub(r"base64,[\w+/=]+", "", text_of(value))


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@each_notebook
def test_it_is_committed_as_executed(path: Path) -> None:
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "run it from top to bottom"
    for cell in cells:
        outputs, last = cell["outputs"], parsed(cell).body[-1]
        if isinstance(last, ast.Expr) and "assert" not in ast.unparse(last):
            assert outputs, f"no output: {text_of(cell['source'])}"
        for output in outputs:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr", text_of(output["text"])
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"]), "no figure"


@each_notebook
def test_it_says_nothing_of_the_machine(path: Path) -> None:
    notebook = read(path)
    for text in texts(notebook):
        assert not MACHINE_PATH.search(text), text[:200]
        assert "Warning" not in text, text[:200]
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert all("execution" not in cell["metadata"] for cell in notebook["cells"]), "times of the run"
    assert path.stat().st_size <= LARGEST


@each_notebook
def test_it_defines_nothing_that_belongs_in_a_module(path: Path) -> None:
    for cell in code_cells(read(path)):
        for node in ast.walk(parsed(cell)):
            assert not isinstance(node, ast.ClassDef), node.name
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or node.lineno) - node.lineno < LONGEST_FUNCTION, node.name


@each_notebook
def test_it_runs_experiments_that_exist(path: Path) -> None:
    source = "\n".join(text_of(cell["source"]) for cell in code_cells(read(path)))
    names = re.findall(r"notebook\.run\(\s*[\"']([\w-]+)[\"']", source)
    assert names
    assert set(names) <= set(registry.experiments())
    assert len(names) == len(set(names)), "each once: the run is kept"


@each_notebook
def test_what_it_imports_of_the_lab_is_there(path: Path) -> None:
    for cell in code_cells(read(path)):
        for node in ast.walk(parsed(cell)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("experiments"):
                module = importlib.import_module(node.module or "")
                for each in node.names:
                    assert hasattr(module, each.name) or importlib.import_module(f"{node.module}.{each.name}")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One for all notebooks, which then import torch once; without data, at smoke size."""
    from jupyter_client.manager import KernelManager

    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(
        env={
            **{name: value for name, value in os.environ.items() if name != "FUNCREG_DATA"},
            "FUNCREG_PRESET": "smoke",
            "IPYTHONDIR": str(tmp_path_factory.mktemp("ipython")),
            "PYTHONPATH": path,
        }
    )
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the packages between this process and the kernel
@each_notebook
def test_it_runs_without_data(path: Path, kernel: Any, tmp_path: Path) -> None:
    import nbclient
    import nbformat

    before = path.read_bytes()
    notebook: Any = nbformat.read(path, as_version=4)
    # As in a kernel of its own: without the names of the one before, in an empty folder.
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {tmp_path}"))
    client: Any = nbclient.NotebookClient(notebook, km=kernel, timeout=600)
    try:
        client.execute()  # raises what a cell raises
    finally:
        client.kc.stop_channels()
    for cell in code_cells(notebook):
        assert not [output for output in cell["outputs"] if output.get("name") == "stderr"], text_of(cell["source"])
    assert path.read_bytes() == before
