"""`fr.jit(f, folder=...)`: a later process starts from what an earlier one compiled, and never from anything else."""

import errno
import functools
import os
import subprocess
import sys
import types
from collections.abc import Callable, Generator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._inductor.config
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

import funcreg as fr
from funcreg._jit import library
from funcreg._jit.kept import kept
from funcreg._jit.transcript import Transcript
from tests import snapshots

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("compiled_as_users_do")  # as the process that is started does
# A sweep of two small models, trained for two epochs, from a folder; and what it made of their weights.
PROGRAM = """
import sys
from pathlib import Path
import torch
import funcreg as fr

SCALE = 2.0

def loss_fn(params, state, batch, *, key, hparams):
    kept = fr.noise.dropout(batch, hparams["rate"], key=key)
    return SCALE * (torch.tanh(kept @ params["w"]) - 1).square().mean(), (state, {})

def optimizer(hparams):
    return fr.optim.sgd(hparams["lr"], momentum=0.9)

def trained(jit):
    hparams = {"lr": torch.tensor([0.1, 0.2]), "rate": torch.tensor([0.1, 0.5])}
    start = {"w": torch.tensor([[0.1, 0.2], [0.3, 0.4]])}
    first = fr.train.init(start, {}, optimizer, key=fr.random.key(0), hparams=hparams, members=2)
    step = fr.train.make_step(loss_fn, optimizer)
    data = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 1.0], [1.0, 1.0]])
    result = fr.train.fit(
        step, first, data, key=fr.random.key(1), epochs=2, batch_size=2, hparams=hparams, members=2, jit=jit
    )
    return result.train_state.params["w"].flatten().tolist()

if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    print(trained(Path(sys.argv[1])))
    print("torch._dynamo" in sys.modules)
"""


@pytest.fixture
def compiled_for(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is written instead of libraries, which are graphs of operators."""
    names: list[str] = []

    def written(path: Path, function: Callable[..., list[Tensor]], tensors: list[Tensor], options: Any) -> Any:
        names.append(path.name)
        return snapshots.written(path, function, tensors, options)

    monkeypatch.setattr(library, "written", written)
    return names


def in_folder(function: Callable[..., Any], folder: Path, **options: Any) -> Any:
    """A function that is kept, and otherwise runs as it is."""

    def otherwise(*args: Any, **kwargs: Any) -> Any:
        otherwise.compilations += 1  # type: ignore[attr-defined]
        return function(*args, **kwargs)

    otherwise.compilations = 0  # type: ignore[attr-defined]
    return kept(function, folder, options, lambda: otherwise)  # type: ignore[arg-type]


@pytest.fixture
def headers_as_they_are() -> Generator[None, None, None]:
    """Compile none: for one program alone that takes longer than the program."""
    with torch._inductor.config.patch("aot_inductor.precompile_headers", False):
        yield


@pytest.mark.usefixtures("headers_as_they_are")
def test_a_later_process_starts_from_the_file(tmp_path: Path) -> None:
    script, folder = tmp_path / "sweep.py", tmp_path / "programs"
    script.write_text(PROGRAM)
    scope: dict[str, Any] = {"__name__": "sweep"}
    exec(compile(PROGRAM, str(script), "exec"), scope)
    eager, here = scope["trained"](False), scope["trained"](folder)
    torch.testing.assert_close(torch.tensor(here), torch.tensor(eager))
    (file,) = folder.iterdir()
    written = file.stat().st_mtime_ns
    command = [sys.executable, "-W", "error", str(script), str(folder), str(torch.get_num_threads())]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    there = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    values, imported = there.stdout.splitlines()
    assert values == str(here)
    assert imported == "False", "it imports the compiler, which takes longer than to import torch"
    assert [(each, each.stat().st_mtime_ns) for each in folder.iterdir()] == [(file, written)]

    # On a copy: to write into a library that is in use ends the process.
    content, copy = file.read_bytes(), tmp_path / file.name
    assert library.loaded(copy) is None
    for spoilt in (b"", b"no library", content[:-1], content[:1000] + b"!" + content[1001:], content + b"!"):
        copy.write_bytes(spoilt)
        assert library.loaded(copy) is None
    other = tmp_path / ("0" * 32 + ".so")
    other.write_bytes(content)
    assert library.loaded(other) is None, "what computes something else, under this name"


def test_one_kind_of_arguments_is_one_program(tmp_path: Path, compiled_for: list[str]) -> None:
    def function(tree: dict[str, Tensor], factor: float, how: str | None = None) -> dict[str, Any]:
        product = tree["x"] * factor
        return {"x": product.sum() if how == "sum" else product, "half": product[::2], "how": how}

    x = torch.arange(4.0)
    program = in_folder(function, tmp_path)
    for factor in (2.0, 3.0, torch.tensor(0.5, dtype=torch.float64)):
        result = program({"x": x}, factor)
        torch.testing.assert_close(result, {"x": x * factor, "half": (x * factor)[::2], "how": None})
        assert result["half"].is_contiguous()
    assert (program.compilations, len(compiled_for)) == (1, 1)
    assert float(program({"x": x}, 2.0, "sum")["x"]) == 12.0
    assert program({"x": x}, 2.0, "all")["how"] == "all"
    assert program({"x": torch.stack((x, x), 1)[:, 0]}, 2.0)["x"].tolist() == [0, 2, 4, 6]
    assert program({"x": x.double()}, 2.0)["x"].dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        program({"x": x}, 2.0)
    with torch.device("meta"):
        assert in_folder(lambda x: x * torch.ones(4, device="cpu"), tmp_path)(x).device.type == "cpu"
    # As in another process: the same programs.
    before = set(compiled_for)
    in_folder(function, tmp_path)({"x": x}, 7.0)
    assert set(compiled_for) == before
    again = in_folder(function, tmp_path)
    again({"x": x}, 2.0)
    with pytest.warns(UserWarning, match="for 2 rows after 4: a smaller last batch"):
        again({"x": x[:2]}, 2.0)


def test_what_a_function_can_tell_apart_is_another_kind(tmp_path: Path, compiled_for: list[str]) -> None:
    """The order of a dict's keys, and what new tensors are when nothing is said."""
    difference = in_folder(lambda tree: (lambda a, b: a - b)(*tree.values()), tmp_path)
    for order in (("a", "b"), ("b", "a"), ("a", "b")):
        tree = {name: torch.tensor([float(ord(name))]) for name in order}
        assert difference(tree).item() == ord(order[0]) - ord(order[1])
    thirds, x = in_folder(lambda x: x + torch.arange(3) / 3, tmp_path), torch.ones(3)
    made = in_folder(lambda x: torch.zeros(len(x)), tmp_path)
    assert (thirds(x).dtype, made(x).device.type) == (torch.float32, "cpu")
    torch.set_default_dtype(torch.float64)
    try:
        assert thirds(x).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert made(x).device.type == "meta"
    double = in_folder(lambda x: x * 2, tmp_path)
    double(x)
    assert "mul" in make_fx(double)(x).code, "under a tracer it is what it is made of"


def test_another_function_is_another_program(tmp_path: Path, compiled_for: list[str]) -> None:
    weights, x = torch.tensor([1.0, 2.0]), torch.ones(2)
    functions: list[Callable[[Tensor], Any]] = [
        lambda x: x * weights,
        lambda x: x * (weights + 1),
        lambda x: x + weights,
        lambda x: x * 2.0,
        lambda x: x * 2.5,
        lambda x: x.clamp(max=2.5),
        lambda x: (x * 2.0, x),
        lambda x: (x, x * 2.0),
        lambda x: torch.zeros(2, dtype=torch.float64) + x,
        lambda x: torch.zeros(2) + x,
        lambda x: weights.double(),
    ]
    for function in functions:
        torch.testing.assert_close(in_folder(function, tmp_path)(x), function(x))
    weights = weights + 1
    assert torch.equal(in_folder(functions[0], tmp_path)(x), x * weights), "of another value that it closes over"
    assert len(set(compiled_for)) == len(functions) + 1
    in_folder(lambda y: y * 2.0, tmp_path)(x)
    assert len(set(compiled_for)) == len(functions) + 1, "the same, by other names"


class Scaled:
    by = 2.0

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.by


FACTOR = 2.0


def helper(x: Tensor) -> Tensor:
    return x * FACTOR


def doubled(x: Tensor, by: float = 2.0, *, shift: float = 1.0) -> Tensor:
    return helper(x) * by + shift


CHANGES: dict[str, Callable[[Any], None]] = {
    "a global": lambda here: setattr(sys.modules[__name__], "FACTOR", 3.0),
    "a function that it calls": lambda here: setattr(sys.modules[__name__], "helper", lambda x: x - 5),
    "code in its place": lambda here: setattr(helper, "__code__", (lambda x: x - 7).__code__),
    "a default": lambda here: setattr(doubled, "__defaults__", (4.0,)),
    "a default by keyword": lambda here: setattr(doubled, "__kwdefaults__", {"shift": 9.0}),
    "an attribute": lambda here: setattr(here.scaled, "by", 5.0),
    "an attribute of its class": lambda here: setattr(Scaled, "by", 6.0),
    "a method": lambda here: setattr(Scaled, "__call__", lambda self, x: x - 1),
    "a module's weight": lambda here: here.module[0].weight.mul_(2.0),
    "a module's weight, as data": lambda here: setattr(here.module[0].weight, "data", torch.ones(2, 2)),
    "a module's mode": lambda here: here.module.eval(),
    "a module's module": lambda here: here.module.__setitem__(1, torch.nn.Tanh()),
    "a tensor": lambda here: here.held["tensors"][0].add_(1.0),
    "a tensor of a list": lambda here: here.held["tensors"].__setitem__(0, torch.zeros(2)),
    "an array": lambda here: here.held["array"].fill(3.0),
    "a setting of a partial": lambda here: here.moved.keywords.update(other=9.0),
    "a model": lambda here: setattr(here, "model", fr.from_module(torch.nn.Sequential(torch.nn.Linear(2, 2)))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_beside_the_arguments_is_seen(
    change: str, tmp_path: Path, compiled_for: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner, name in ((sys.modules[__name__], "FACTOR"), (sys.modules[__name__], "helper"), (Scaled, "by")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    for owner, name in ((Scaled, "__call__"), (helper, "__code__")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    for name in ("__defaults__", "__kwdefaults__"):
        monkeypatch.setattr(doubled, name, getattr(doubled, name))
    here = types.SimpleNamespace(scaled=Scaled(), moved=functools.partial(torch.add, other=1.0))
    here.module = torch.nn.Sequential(torch.nn.Linear(2, 2), Noisy()).requires_grad_(False)
    here.held = {"tensors": [torch.ones(2)], "array": np.ones(2, dtype=np.float32)}
    here.model = fr.from_module(torch.nn.Linear(2, 2))
    weights, _ = fr.variables(torch.nn.Linear(2, 2))

    def function(x: Tensor) -> Any:
        applied = here.model.apply({name: weights[name.removeprefix("0.")] for name in here.names}, {}, x)[0]
        own = here.module(here.scaled(doubled(here.moved(x)))) * here.held["tensors"][0]
        return {"y": own + float(here.held["array"][0]), "model": applied}

    here.names = ["weight", "bias"]
    program, x = in_folder(function, tmp_path), torch.ones(2)
    with torch.no_grad():
        before = program(x)
        torch.testing.assert_close(before, function(x))
        program(x + 1)
        assert len(compiled_for) == 1, "nothing had changed"
        CHANGES[change](here)
        here.names = ["0.weight", "0.bias"] if change == "a model" else here.names
        after = program(x)
        torch.testing.assert_close(after, function(x))
    assert change == "a model" or not torch.equal(after["y"], before["y"])


class Noisy(torch.nn.Module):
    """What evaluates otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if self.training else x


def test_what_changes_from_call_to_call_is_not_kept(tmp_path: Path, compiled_for: list[str]) -> None:
    weight, x = torch.ones(2), torch.ones(2)
    program = in_folder(lambda x: x * weight, tmp_path)
    for call in range(5):
        with pytest.warns(UserWarning, match="3 times for one kind of arguments") if call == 2 else nullcontext():
            assert torch.equal(program(x), x * weight)
        weight += 1
    assert len(compiled_for) == 3
    assert program.compilations == 5, "the others by a compiler that takes it for an argument"


def test_another_machine_is_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [library.name_of("a", {}), library.name_of("b", {}), library.name_of("a", {"size_asserts": False})]
    with monkeypatch.context() as changed:
        changed.setattr(torch, "__version__", "2.99.0")
        names.append(library.name_of("a", {}))
    with monkeypatch.context() as changed:
        changed.setattr(library, "_processor", lambda: "another")
        names.append(library.name_of("a", {}))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        names.append(library.name_of("a", {}))
    finally:
        torch.set_num_threads(threads)
    assert len(set(names)) == 6
    assert library.name_of("a", {}) == names[0]


def test_what_has_no_file_is_compiled_as_without(tmp_path: Path, compiled_for: list[str]) -> None:
    weight = torch.ones(2, requires_grad=True)
    program = in_folder(lambda x, factor: x * factor, tmp_path)
    with pytest.warns(UserWarning, match="no program is kept for tensors that ask for gradients"):
        (slope,) = torch.autograd.grad(program(weight, 3.0).sum(), weight)
    assert slope.tolist() == [3.0, 3.0]
    imaginary = torch.tensor([1j, 2j]).conj().imag  # a view that is negative
    assert program(imaginary, 1.0).tolist() == [-1.0, -2.0]
    assert program(torch.tensor([1j]), 2.0).tolist() == [2j]
    assert torch.func.vmap(lambda x: program(x, 2.0))(torch.ones(2, 2)).tolist() == [[2.0, 2.0]] * 2
    closed_over = in_folder(lambda x: x * weight, tmp_path)
    (slope,) = torch.autograd.grad(closed_over(torch.ones(2)).sum(), weight)
    assert slope.tolist() == [1.0, 1.0]
    assert not compiled_for
    assert program.compilations == 4
    with torch.no_grad():
        assert program(weight, 2.0).tolist() == [2.0, 2.0]
    assert len(compiled_for) == 1
    for argument, what in ((torch.ones(1, device="meta"), "that are not on a CPU"), (torch.tensor(1j), "are complex")):
        with pytest.warns(UserWarning, match=what):
            in_folder(lambda x: x * 2, tmp_path)(argument)


def test_a_function_of_values_is_refused(tmp_path: Path) -> None:
    program = fr.jit(lambda x: x * 2 if x.sum() > 0 else x, folder=tmp_path)
    with pytest.raises(fr.FuncregError, match="cannot be compiled whole"):
        program(torch.ones(2))
    for outside in (lambda x: float(x.numpy().sum()), lambda x: x.tolist()[0], lambda x: float(np.asarray(x)[0])):
        with pytest.warns(UserWarning, match="of Tensor"):
            assert library.written(tmp_path / "it.so", lambda x, o=outside: [x * o(x)], [torch.ones(2)], {}) is None
    with pytest.raises(ZeroDivisionError):
        fr.jit(lambda x: x / (1 // 0), folder=tmp_path)(torch.ones(2))
    assert not list(tmp_path.iterdir())


def test_a_program_that_torch_cannot_write_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any) -> bytes:
        raise NotImplementedError("an operator")

    monkeypatch.setattr(library, "_built", refused)
    program = in_folder(lambda x: x + 1, tmp_path)
    with pytest.warns(UserWarning, match=r"cannot keep a program in a file \(NotImplementedError: an operator\)"):
        assert program(torch.ones(1)).tolist() == [2.0]
    assert program(torch.zeros(1)).tolist() == [1.0]


def test_a_folder_that_cannot_keep_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_built", lambda *arguments: b"no library")
    x = torch.ones(1)

    def once(why: str) -> None:
        program = in_folder(lambda x: x + 1, tmp_path / "programs")
        with pytest.warns(UserWarning, match=why):
            assert program(x).tolist() == [2.0]
        assert program(x).tolist() == [2.0]

    def full(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    once("the system does not load what lies in")
    with monkeypatch.context() as changed:
        changed.setattr(Path, "write_bytes", full)
        once("No space left on device")
    with monkeypatch.context() as changed:
        changed.setattr(os, "access", lambda *arguments: False)  # of a folder that is only read
        once("cannot be written")
    assert not list(tmp_path.glob("programs/*.unfinished"))
    gone = in_folder(lambda x: x + 1, tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.warns(UserWarning, match="is not there any more"):
        assert gone(x).tolist() == [2.0]


@pytest.mark.parametrize("folder", [3, "", "a file"])
def test_what_is_no_folder_is_refused(folder: Any, tmp_path: Path) -> None:
    if folder == "a file":
        folder = tmp_path / "file"
        folder.write_text("")
    with pytest.raises(fr.FuncregError, match=r"folder: got .*a folder that can be written"):
        fr.jit(torch.sin, folder=folder)


def test_a_transcript_knows_its_own_tensors() -> None:
    """An input, a result, and what comes from outside, though they are equal in value."""

    def digest(function: Callable[[Tensor, Tensor], Tensor]) -> str:
        x, y = torch.ones(2), torch.ones(2)
        with Transcript([x, y]) as transcript:
            result = function(x, y)
        return transcript.digest([result])

    outside = torch.ones(2)
    several = [
        lambda x, y: x * y,
        lambda x, y: y * x,
        lambda x, y: x * x,
        lambda x, y: x * outside,
        lambda x, y: outside,
    ]
    assert len({digest(each) for each in several}) == 5
    assert digest(several[0]) == digest(several[0])
