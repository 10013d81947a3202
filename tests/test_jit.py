"""`fr.jit`: compiles once for every number, again for a new shape, and sees what its caller changes."""

import pytest
import torch
from torch import Tensor

import funcreg as fr

FACTOR = 2.0


def programs() -> int:
    """How many programs torch.compile has made so far."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


class Negated(torch.nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return -super().forward(input)


def test_numbers_are_data_and_shapes_are_not() -> None:
    calls = fr.jit(lambda tree, step: {name: leaf * step for name, leaf in tree.items()})
    x = torch.ones(3)
    before = programs()
    for step in range(12):  # torch.compile alone gives up at the ninth number
        assert torch.equal(calls({"a": x, "b": 0.5}, step)["a"], x * step)
    assert programs() == before + 1
    calls({"a": torch.ones(4), "b": 0.5}, 1)
    assert programs() == before + 2


def test_python_numbers_do_not_promote() -> None:
    scaled = fr.jit(lambda x, factor: x * factor)
    assert scaled(torch.ones(2, dtype=torch.bfloat16), 0.5).dtype == torch.bfloat16
    assert scaled(torch.ones(2), 0.1).dtype == torch.float32


def test_changes_of_the_callers_globals_and_closures_are_seen() -> None:
    global FACTOR
    shift = 1.0

    def function(x: Tensor) -> Tensor:
        return x * FACTOR + shift

    compiled, x = fr.jit(function), torch.ones(2)
    assert torch.equal(compiled(x), torch.full((2,), 3.0))
    FACTOR = 5.0
    assert torch.equal(compiled(x), torch.full((2,), 6.0))
    shift = 0.0
    assert torch.equal(compiled(x), torch.full((2,), 5.0))
    FACTOR = 2.0


def test_another_model_in_the_same_closure_is_another_program() -> None:
    params = {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}
    model = fr.from_module(torch.nn.Linear(2, 2))

    def function(x: Tensor) -> Tensor:
        return model.apply(params, {}, x)[0]

    compiled, x = fr.jit(function), torch.ones(1, 2)
    assert torch.equal(compiled(x), torch.full((1, 2), 2.0))
    model = fr.from_module(Negated(2, 2))
    assert torch.equal(compiled(x), torch.full((1, 2), -2.0))


def test_many_functions_of_one_source_are_many_programs() -> None:
    functions = [fr.jit(lambda x, shift=shift: x + shift) for shift in range(10)]  # torch.compile gives up at nine
    assert [float(function(torch.zeros(()))) for function in functions] == list(range(10))


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(fr.FuncregError, match="function: got 3"):
        fr.jit(3)  # type: ignore[arg-type]


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not fr.can_compile()
    with pytest.raises(fr.FuncregError, match="no-such-compiler"):
        fr.jit(lambda x: x)
