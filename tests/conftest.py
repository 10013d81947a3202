"""Settings for every test: small tensors need one thread, and examples must be the same on every run."""

import gc
import importlib
import os
from collections.abc import Generator
from typing import Any

# Of the processes that tests start too: with a test on each core, a second thread spins while it waits. A notebook
# took 34 seconds of CPU, and takes 12.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch
import torch._inductor.config
from torch import Tensor

import funcreg as fr
from funcreg.tree import norms
from tests.optional import missing
from tests.plain_loops import TORCHS_OWN

torch.set_num_threads(1)
gc.set_threshold(50_000, 10, 10)  # compiling makes millions of objects, hardly any in a cycle

# The first example of a test may compile or import; a deadline would blame it for that.
hypothesis.settings.register_profile("funcreg", deadline=None, max_examples=30, derandomize=True)
hypothesis.settings.load_profile("funcreg")

Reports = Generator[None, pytest.CollectReport, pytest.CollectReport]


@pytest.fixture
def key() -> Tensor:
    return fr.random.key(0)


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run on embedded data, whatever the shell says; those on real data ask for it."""
    monkeypatch.delenv("FUNCREG_DATA", raising=False)
    monkeypatch.delenv("FUNCREG_PRESET", raising=False)


@pytest.fixture
def compiled_as_users_do() -> Generator[None, None, None]:
    """Compile by torch's own settings."""
    with torch._inductor.config.patch(TORCHS_OWN):  # which pytest's monkeypatch would delete at the end
        yield


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs run operator by operator, as torch has captured and differentiated them: no code is generated."""

    def operators(graph: torch.fx.GraphModule, inputs: Any, *, options: Any = None) -> Any:
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    monkeypatch.setattr(importlib.import_module("funcreg._jit.jit"), "inductor", operators)


@pytest.fixture
def norms_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sum norms on the CPU as where nobody waits for their values: in float64."""
    monkeypatch.setattr(norms, "readable", lambda values: None)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Three experiments in place of the lab's own."""
    from experiments.harness import registry
    from tests.lab import fake, good, use

    found = use(fake("first", good), fake("second", good), fake("third", good, "B"))
    monkeypatch.setattr(registry, "experiments", lambda: found)
    return found


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.together import Together

    return Together(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_finish() -> None:
    """What is imported is there to stay: Python's collector, once a tenth of the time, need not look at it again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # what is not released at the end is a leak in the eyes of others


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Skip a test whose fixtures need what is not there."""
    return (yield from _or_skip())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Skip a test that comes to need what is not there: Python and torch alone are enough for the others."""
    return (yield from _or_skip())


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Reports:
    """Skip a file that needs what is not installed, as the library's own tests beside an older torch do without it."""
    report = yield
    if report.failed and (needed := missing(str(report.longrepr))):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: needs {needed}")
    return report


def _or_skip() -> Generator[None, object, object]:
    try:
        return (yield)
    except Exception as error:
        said = f"{error} {error.__cause__}"
        if "jit: got a machine without them" in said and not fr.can_compile():
            pytest.skip("no C++ compiler on this machine")
        if needed := missing(said):
            pytest.skip(f"needs {needed}")
        raise
