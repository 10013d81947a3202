"""Settings for every test: small tensors need one thread, and examples must be the same on every run."""

import importlib.util
import re
from collections.abc import Generator
from typing import Any

import hypothesis
import pytest
import torch
from torch import Tensor

import funcreg as fr

torch.set_num_threads(1)

# The first example of a test may compile or import; a deadline would blame it for that.
hypothesis.settings.register_profile("funcreg", deadline=None, max_examples=30, derandomize=True)
hypothesis.settings.load_profile("funcreg")


Reports = Generator[None, pytest.CollectReport, pytest.CollectReport]

# What a test may need beside the library, of an extra that an environment may lack.
OPTIONAL = {"PIL", "jinja2", "matplotlib", "nbclient", "sklearn", "scipy", "timm", "torchvision", "transformers"}


@pytest.fixture
def key() -> Tensor:
    return fr.random.key(0)


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run on embedded data, whatever the shell says; those on real data ask for it."""
    monkeypatch.delenv("FUNCREG_DATA", raising=False)
    monkeypatch.delenv("FUNCREG_PRESET", raising=False)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Three experiments in place of the lab's own."""
    from experiments.harness import registry
    from tests.lab import fake, good, use

    found = use(fake("first", good), fake("second", good), fake("third", good, "B"))
    monkeypatch.setattr(registry, "experiments", lambda: found)
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Skip a test that comes to need a compiler where there is none: Python alone is enough for the others."""
    try:
        return (yield)
    except fr.FuncregError as error:
        if fr.can_compile() or not str(error).startswith("jit: "):
            raise
        pytest.skip("no C++ compiler on this machine")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Reports:
    """Skip a file that needs what is not installed, as the library's own tests beside an older torch do without it."""
    report = yield
    missing = re.search(r"No module named '(\w+)", str(report.longrepr)) if report.failed else None
    if missing and missing[1] in OPTIONAL and importlib.util.find_spec(missing[1]) is None:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: needs {missing[1]}")
    return report
