"""The README's example runs, and its commands are the ones that CI and the command line know."""

import re
from pathlib import Path

import pytest
import torch

import funcreg as fr

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_run(number: int) -> None:
    names: dict[str, object] = {}
    exec(compile(EXAMPLES[number], f"README example {number}", "exec"), names)
    uncertainty = names["uncertainty"]
    assert isinstance(uncertainty, fr.uncertainty.Predictive)
    torch.testing.assert_close(uncertainty.mean.sum(-1), torch.ones(len(uncertainty.mean)))
    assert float(uncertainty.mutual_information.max()) > 0.01, "two passes disagree somewhere"


def test_the_example_is_short() -> None:
    statements = [line for line in EXAMPLES[0].splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(statements) < 25


def test_ci_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    pattern = re.search(r"grep -m1 -E '(.*?)' README\.md", script)
    assert pattern is not None
    commands = [line for line in README.splitlines() if re.match(pattern[1].replace(r"\.", "."), line)]
    assert len(commands) == 1
    assert commands[0].endswith("python -m pytest")


def test_every_command_of_the_readme_parses(capsys: pytest.CaptureFixture[str]) -> None:
    from experiments import registry

    commands = re.findall(r"python -m experiments (\w+)((?: [\w.\-/$\"]+)*)", README)
    assert {command for command, _ in commands} >= {"run", "bench"}
    known = set(registry.experiments()) | {"all"}
    for command, rest in commands:
        assert command in {"list", "run", "report", "bench"}
        names = [word for word in rest.split() if not word.startswith("-")]
        if command == "run" and names and names[0] != "NAME":
            assert names[0] in known


def test_every_module_of_the_map_exists() -> None:
    modules = re.findall(r"^\| `fr\.(\w+)`", README, flags=re.MULTILINE)
    assert len(modules) > 8
    for module in modules:
        assert hasattr(fr, module), module
