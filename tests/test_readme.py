"""The README's example runs, and its commands are the ones that CI and the command line know."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import funcreg as fr

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = sorted(path for path in ROOT.rglob("README.md") if not any(part.startswith(".") for part in path.parts))
LONGER = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
EXAMPLES = [each for text in (README, LONGER) for each in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)]


def run(number: int) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(EXAMPLES[number], f"README example {number}", "exec"), names)
    return names


def statements(number: int) -> list[str]:
    return [line for line in EXAMPLES[number].splitlines() if line.strip() and not line.strip().startswith("#")]


def test_the_example_runs_and_is_short() -> None:
    uncertainty = run(0)["uncertainty"]
    torch.testing.assert_close(uncertainty.mean.sum(-1), torch.ones(len(uncertainty.mean)))
    assert float(uncertainty.mutual_information.max()) > 0.01, "two passes disagree somewhere"
    assert len(statements(0)) < 25


@pytest.mark.slow
def test_the_study_runs_and_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    """Sweep, best member, uncertainty of turned digits, and an nn.Module that predicts what the member does."""
    names = run(1)
    assert len(statements(1)) < 40
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 + 27 + 4, "a table of 27 members, and four angles"
    accuracy, entropy = zip(*(map(float, re.findall(r"\d\.\d\d", line)) for line in printed[-4:]), strict=True)
    assert accuracy[0] > 0.9
    assert accuracy[0] > accuracy[1] > accuracy[2] > accuracy[3]
    assert entropy[0] < entropy[1] < entropy[2]
    best, held_out = names["best"], names["held_out"]
    lowest = min(float(line.split()[-1]) for line in printed[1:28])
    assert float(best.metrics["val_loss"]) == pytest.approx(lowest, rel=1e-3)
    logits, _ = names["model"].apply(best.params, best.state, held_out.x)
    assert isinstance(names["module"], torch.nn.Sequential)
    torch.testing.assert_close(names["module"](held_out.x), logits)


def test_your_own_data_may_be_tensors_a_data_set_or_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for shade in (0, 100):
            Image.new("RGB", (40, 30), (shade, 0, 0)).save(tmp_path / "pictures" / name / f"{shade}.png")
    monkeypatch.chdir(tmp_path)
    for name in ("x", "y"):
        np.save(f"{name}.npy", np.arange(8.0))
    names = run(2)
    data = names["data"]
    assert data.x.shape == (4, 3, 32, 32)
    assert data.x.dtype == torch.uint8
    assert data.y.tolist() == [0, 0, 1, 1]
    images, labels = next(iter(names["batches"]))
    assert torch.equal(images[labels.argsort(stable=True)].sum(), data.x.sum())
    assert labels.sort().values.tolist() == [0, 0, 1, 1]

    def loss_fn(params: Any, state: Any, batch: Any, *, key: Any, hparams: Any) -> Any:
        return ((params["w"] * batch.x - batch.y) ** 2).mean(), (state, {})

    start = fr.train.init({"w": torch.zeros((), dtype=torch.float64)}, {}, fr.optim.sgd(0.01), key=fr.random.key(0))
    step = fr.train.make_step(loss_fn, fr.optim.sgd(0.01))
    result = fr.train.fit(step, start, names["on_disk"], key=fr.random.key(1), epochs=30, batch_size=4, jit=False)
    assert float(result.train_state.params["w"]) == pytest.approx(1.0, abs=1e-3)


def test_the_program_for_several_processes_runs_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run(3)
    said = re.fullmatch(r"1 ranks: accuracy (0\.\d+)\n", capsys.readouterr().out)
    assert said is not None
    assert float(said[1]) > 0.9
    assert (tmp_path / "digits.run").exists()
    assert len(statements(3)) < 25


def test_ci_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    pattern = re.search(r"grep -m1 -E '(.*?)' README\.md", script)
    assert pattern is not None
    commands = [line for line in README.splitlines() if re.match(pattern[1].replace(r"\.", "."), line)]
    assert len(commands) == 1
    assert commands[0].endswith("python -m pytest")


def test_every_command_of_the_readmes_parses(capsys: pytest.CaptureFixture[str]) -> None:
    from experiments.harness import registry

    everything = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
    commands = re.findall(r"python -m experiments (\w+)((?: [\w.\-/$\"]+)*)", everything)
    assert {command for command, _ in commands} >= {"run", "bench"}
    known = set(registry.experiments()) | {"all"}
    for command, rest in commands:
        assert command in {"list", "run", "report", "reference", "bench"}
        names = [word for word in rest.split() if not word.startswith("-")]
        if command == "run" and names and names[0] != "NAME":
            assert names[0] in known


def test_every_module_of_the_map_exists() -> None:
    modules = re.findall(r"^\| `fr\.(\w+)`", README, flags=re.MULTILINE)
    assert len(modules) > 8
    for module in modules:
        assert hasattr(fr, module), module


def test_the_front_page_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing
