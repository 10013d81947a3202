"""Programs kept for a test, without a compiler: graphs of operators, with copies of all that they were made of."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from funcreg._jit import library, traced
from funcreg._jit.kept import kept


def written(path: Path, function: Callable[..., list[Tensor]], tensors: list[Tensor], options: Any) -> Any:
    graph = copy.deepcopy(library._graph(function, tensors))
    return lambda given: graph(*given)


def in_folder(function: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function whose programs are such, and where there is none, what `fr.jit` traces."""
    monkeypatch.setattr(library, "written", written)
    return kept(function, folder, {}, lambda: as_traced(function))


def as_traced(function: Callable[..., Any]) -> Any:
    """What `fr.jit` traces, run as it is."""
    return traced(function, lambda graph, inputs: graph.forward)
