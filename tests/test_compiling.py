"""Whether this thread runs code for a compiler."""

import pytest
import torch
from torch._subclasses import FakeTensorMode

from funcreg._compiling import is_compiling


@pytest.fixture
def another_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "_is_compiling_flag", True)
    assert torch.compiler.is_compiling()


@pytest.mark.usefixtures("another_compiles")
def test_torchs_flag_is_the_processs() -> None:
    assert not is_compiling()


@pytest.mark.usefixtures("another_compiles")
def test_a_thread_that_traces_has_a_mode() -> None:
    with FakeTensorMode():
        assert is_compiling()


def test_a_traced_function_is_compiled() -> None:
    assert torch.compile(lambda x: x + is_compiling(), backend="eager", fullgraph=True)(torch.zeros(1)) == 1
    assert not is_compiling()
