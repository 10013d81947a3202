"""Oracles of `testing`."""

from collections.abc import Callable
from typing import Any

import torch

from funcreg import testing
from tests.oracles import Pair, oracle

STEPS = (0.0, 1e-8, 3e-7, 4e-6, 3e-5, 3e-4, 3e-3, 3e-2, 0.3, float("nan"), float("inf"))
VERDICTS = "both say yes or no"
# What such a function finds is planted in tests/faults, a fault a row, with the rule that has to name it.
PLANTED = ("check", "check_augmentation", "check_compiled", "check_loss", "check_module", "check_optimizer",
           "check_penalty", "check_transform", "report", "assert_resumes")  # fmt: skip
WITHOUT_ORACLE = {f"testing.{name}": "what it has to find is planted in tests/faults" for name in PLANTED}
WITHOUT_ORACLE["testing.example"] = "it holds a call"


def verdicts(check: Callable[[Any, Any], object]) -> list[float]:
    """1 where it lets two tensors pass that differ by a step."""
    said = []
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        for step in STEPS:
            one = torch.tensor([0.0, 1.0, -3.0], dtype=dtype)
            try:
                check(one, one + torch.tensor([step, 0.0, step], dtype=dtype))
                said.append(1.0)
            except AssertionError:
                said.append(0.0)
    return said


@oracle("testing.assert_trees_close", against="torch.testing.assert_close", tolerance=0, because=VERDICTS)
def close() -> Pair:
    return verdicts(testing.assert_trees_close), verdicts(torch.testing.assert_close)


@oracle("testing.assert_trees_equal", against="torch.equal", tolerance=0, because=VERDICTS)
def equal() -> Pair:
    def theirs(one: torch.Tensor, other: torch.Tensor) -> None:
        assert torch.equal(one, other)

    return verdicts(testing.assert_trees_equal), verdicts(theirs)


@oracle("testing.assert_compiles_once", against="torch.compile's count of graphs", tolerance=0, because=VERDICTS)
def compiles_once() -> Pair:
    graphs: list[torch.fx.GraphModule] = []

    def count(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    def once(x: torch.Tensor, y: torch.Tensor) -> float:
        graphs.clear()
        torch.compiler.reset()
        program = torch.compile(lambda x: x * 2, backend=count, fullgraph=True, dynamic=False)
        program(x)
        program(y)
        return float(len(graphs) == 1)

    def ours(x: torch.Tensor, y: torch.Tensor) -> float:
        try:
            testing.assert_compiles_once(lambda x: x * 2, (x,), (y,))
        except AssertionError:
            return 0.0
        return 1.0

    x = torch.ones(3)
    pairs = [(x, 2 * x), (x, x[:2]), (x, x.double()), (x, torch.ones(6)[::2]), (x, torch.ones(3, 1))]
    return [ours(*pair) for pair in pairs], [once(*pair) for pair in pairs]
