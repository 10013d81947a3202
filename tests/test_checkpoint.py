"""Checkpoints: what goes in comes out, and what is damaged, foreign or different is refused with a reason."""

import json
import os
import pickle
import random as standard_random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import funcreg as fr
from funcreg import FuncregError, checkpoint, tree


class Pair(NamedTuple):
    first: Any
    second: Any


def example() -> dict[str, Any]:
    return {
        "0.weight": torch.arange(6.0).reshape(2, 3),
        "0": {"weight": torch.ones(2, dtype=torch.bfloat16)},
        "pair": Pair(torch.tensor(3), (torch.tensor([True, False]), [torch.zeros(0, 2)])),
        "a/b~c": torch.tensor([1.5], dtype=torch.float64),
        "complex": torch.tensor([1 + 2j]),
        "key": fr.random.key(7),
        "epoch": 3,
        "rate": 0.1,
        "name": "run",
        "done": False,
        "nothing": None,
        "empty": (),
    }


def blank() -> dict[str, Any]:
    tensors = fr.tree.map(lambda leaf: torch.zeros_like(leaf) if isinstance(leaf, torch.Tensor) else leaf, example())
    return tensors | {"epoch": 0, "rate": 0.0, "name": "", "done": True}


def assert_equal(actual: Any, expected: Any) -> None:
    ours, theirs = tree.leaves(actual), tree.leaves(expected)
    assert tree.names(actual) == tree.names(expected)
    for ours_leaf, leaf in zip(ours, theirs, strict=True):
        if isinstance(leaf, torch.Tensor):
            assert ours_leaf.dtype == leaf.dtype
            assert torch.equal(ours_leaf, leaf)
        else:
            assert ours_leaf == leaf
            assert type(ours_leaf) is type(leaf)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


def test_leaves_are_read_without_their_tree(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "run", {"a/b": (torch.ones(2), 3), "c": None, "d": "text"})
    leaves = checkpoint.read_leaves(tmp_path / "run")
    assert leaves.pop("a~1b/0").tolist() == [1.0, 1.0]
    assert leaves == {"a~1b/1": 3, "c": None, "d": "text"}


def test_what_is_saved_is_loaded(path: Path) -> None:
    metadata = {"dataset": "digits", "seeds": [1, 2]}
    checkpoint.save(path, example(), metadata=metadata)
    loaded = checkpoint.load(path, blank())
    assert_equal(loaded, example())
    assert isinstance(loaded["pair"], Pair)
    assert loaded["nothing"] is None
    assert checkpoint.read_metadata(path) == metadata


def test_shared_transposed_and_tracked_tensors_are_saved_by_value(path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    shared = {"whole": whole, "row": whole[1], "turned": whole.T, "wide": torch.ones(1).expand(4)}
    saved = shared | {"tracked": torch.nn.Parameter(whole)}
    checkpoint.save(path, saved)
    loaded = checkpoint.load(path, saved)
    assert_equal(loaded, tree.map(torch.Tensor.detach, saved))
    assert not any(leaf.requires_grad for leaf in loaded.values())
    loaded["whole"].zero_()
    assert loaded["row"].sum() == 12


def test_numbers_keep_every_digit(path: Path) -> None:
    numbers = {"a": 0.1 + 0.2, "b": 1e-300, "c": -0.0, "d": 2**70, "e": float("inf")}
    checkpoint.save(path, numbers)
    assert checkpoint.load(path, dict.fromkeys(numbers, 0.0) | {"d": 0}) == numbers


def test_the_file_is_plain_safetensors(path: Path) -> None:
    checkpoint.save(path, {"params": {"0.weight": torch.ones(2)}})
    assert list(safetensors.torch.load_file(path)) == ["params/0.weight"]


def test_no_other_file_is_left(path: Path) -> None:
    for value in range(3):
        checkpoint.save(path, {"w": torch.tensor(value)})
    assert sorted(each.name for each in path.parent.iterdir()) == ["run.safetensors", "run.safetensors.previous"]
    assert checkpoint.load(path, {"w": torch.tensor(0)})["w"] == 2
    assert checkpoint.load(f"{path}.previous", {"w": torch.tensor(0)})["w"] == 1


def test_an_old_unfinished_file_is_cleared_and_a_new_one_is_not(path: Path) -> None:
    old, new = path.with_name(".run.safetensors.00.tmp"), path.with_name(".run.safetensors.11.tmp")
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    checkpoint.save(path, {"w": torch.tensor(0)})
    assert not old.exists()
    assert new.exists()


def test_a_failed_write_leaves_the_old_checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(path, {"w": torch.tensor(1)})

    def fail(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FuncregError, match=r"path: .*no space left"):
        checkpoint.save(path, {"w": torch.tensor(2)})
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert checkpoint.load(path, {"w": torch.tensor(0)})["w"] == 1


def test_it_works_without_hard_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError("operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    checkpoint.save(path, {"w": torch.tensor(1)})
    checkpoint.save(path, {"w": torch.tensor(2)})
    assert checkpoint.load(f"{path}.previous", {"w": torch.tensor(0)})["w"] == 1


SMALL = {"w": torch.tensor([1.0, 2.0]), "epoch": 3}


def test_a_flipped_bit_in_any_byte_is_noticed(path: Path) -> None:
    checkpoint.save(path, SMALL, metadata={"note": "x"})
    good = path.read_bytes()
    accepted = []
    for bit in [*range(64), *(8 * byte + byte % 8 for byte in range(8, len(good)))]:
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        try:
            checkpoint.load(path, SMALL)
            accepted.append(bit)
        except FuncregError:
            continue
    assert accepted == []


def test_every_truncation_is_noticed(path: Path) -> None:
    checkpoint.save(path, SMALL)
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(FuncregError, match="truncated or damaged"):
            checkpoint.load(path, SMALL)
    path.write_bytes(good + b"\0")
    with pytest.raises(FuncregError, match="truncated or damaged"):
        checkpoint.load(path, SMALL)


def test_a_good_previous_checkpoint_is_mentioned(path: Path) -> None:
    checkpoint.save(path, SMALL)
    checkpoint.save(path, SMALL)
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    previous = f"The one before it, {path}.previous, is good."
    with pytest.raises(FuncregError) as error:
        checkpoint.load(path, SMALL)
    assert previous in str(error.value)
    path.unlink()
    with pytest.raises(FuncregError) as error:
        checkpoint.read_metadata(path)
    assert "does not exist" in str(error.value)
    assert previous in str(error.value)
    Path(f"{path}.previous").write_bytes(good[:-1])
    with pytest.raises(FuncregError) as error:
        checkpoint.load(path, SMALL)
    assert "is good" not in str(error.value)


def test_other_files_are_refused(path: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(FuncregError, match=message):
            checkpoint.load(path, SMALL)

    refused("does not exist")
    safetensors.torch.save_file({"w": torch.ones(2)}, path)
    refused("a safetensors file of another program")
    torch.save(SMALL, path)
    refused(r"a pickle.*torch\.load")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps({"w": 1}, protocol=protocol))
        refused("a pickle")
    path.write_text("hello, this is not a checkpoint")
    refused("truncated or damaged")
    path.unlink()
    path.mkdir()
    refused("cannot be read")


def test_another_format_version_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_VERSION", 2)
    checkpoint.save(path, SMALL)
    monkeypatch.undo()
    with pytest.raises(FuncregError, match="format version 2; expected version 1"):
        checkpoint.load(path, SMALL)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"w": SMALL["w"]}, r"only there: \['epoch'\]"),
        (SMALL | {"b": 1}, r"not in the file: \['b'\]"),
        (SMALL | {"w": torch.zeros(3)}, r"like's w: got a float32 tensor of shape \(3,\); expected .* shape \(2,\)"),
        (SMALL | {"w": torch.zeros(2, dtype=torch.float64)}, "like's w: got a float64 tensor.*expected a float32"),
        (SMALL | {"w": 1.0}, r"like's w: got 1.0 \(float\); expected a float32 tensor"),
        (SMALL | {"epoch": "three"}, "like's epoch: got 'three'"),
        (SMALL | {"epoch": torch.tensor(0)}, r"like's epoch: .*expected 3 \(int\)"),
    ],
)
def test_a_tree_unlike_the_file_is_refused(path: Path, like: dict, message: str) -> None:
    checkpoint.save(path, SMALL)
    with pytest.raises(FuncregError, match=message):
        checkpoint.load(path, like)


def test_another_container_is_refused(path: Path) -> None:
    checkpoint.save(path, (torch.zeros(1), torch.ones(1)))
    with pytest.raises(FuncregError, match="like: got PyTreeSpec"):
        checkpoint.load(path, [torch.zeros(1), torch.ones(1)])


@pytest.mark.parametrize(
    ("saved", "metadata", "message"),
    [
        ({"a": object()}, None, "tree's a: got <object"),
        ({"a": {1, 2}}, None, r"tree's a: got \{1, 2\}"),
        ({"a": torch.eye(2).to_sparse()}, None, "tree's a: got a tensor that is of layout torch.sparse_coo"),
        ({"a": torch.zeros(1, dtype=torch.complex128)}, None, "safetensors cannot hold"),
        ({"a": torch.zeros(1, device="meta")}, None, "tree's a: got a tensor that is meta"),
        ({"a": np.float64(1.0)}, None, "tree's a: got .*float64"),
        ({"a": np.ones(1)}, None, "tree's a: got array"),
        ({object(): torch.ones(1)}, None, r"tree: got the key <object.*keys that are strings or numbers"),
        ({"\ud800": torch.ones(1)}, None, "tree: got .*safetensors cannot hold"),
        ({"a": 1}, {"when": object()}, "metadata: got .*JSON"),
        ({"a": 1}, {1: "one"}, "metadata: got .*keys are strings"),
        ({"a": 1}, {"inner": [{1: "one"}]}, "metadata: got .*keys are strings"),
        ({1: torch.zeros(1), "1": torch.zeros(1)}, None, "two leaves called '1'"),
    ],
)
def test_what_cannot_be_saved_is_refused(path: Path, saved: Any, metadata: Any, message: str) -> None:
    with pytest.raises(FuncregError, match=message):
        checkpoint.save(path, saved, metadata=metadata)
    assert not path.exists()


@pytest.mark.parametrize(
    "name",
    [
        "__metadata__",
        "~__metadata__",
        "",
        " ",
        "a/b",
        "a.b",
        "/",
        "~",
        "~1",
        "sha256",
        "funcreg",
        "\n",
        "é",
        '"',
        1,
        -1.5,
        "x" * 999,
    ],
)
def test_every_name_is_a_name(path: Path, name: Any) -> None:
    for saved in ({name: torch.ones(2)}, {"inner": {name: torch.ones(2), "other": 3}}, {name: {name: torch.ones(2)}}):
        checkpoint.save(path, saved)
        loaded = checkpoint.load(path, tree.map(lambda leaf: 0 * leaf, saved))
        same = tree.map(lambda one, other: bool(torch.as_tensor(one == other).all()), saved, loaded)
        assert all(tree.leaves(same))


def test_views_are_saved_as_what_they_show(path: Path) -> None:
    """Conjugates and negations that torch only marks; parts of one storage; a tensor of a gradient."""
    numbers = torch.tensor([1 + 2j, 3 - 4j])
    whole = torch.arange(6.0).reshape(2, 3)
    saved = {
        "conjugate": numbers.conj(),
        "negated": numbers.conj().imag,
        "row": whole[1],
        "transposed": whole.T,
        "expanded": torch.ones(1).expand(3),
        "parameter": nn.Parameter(torch.ones(2)),
        "empty": torch.ones(0, 3),
        "scalar": torch.tensor(2.0),
        "whole": whole,
    }
    checkpoint.save(path, saved)
    loaded = checkpoint.load(path, {name: torch.zeros_like(leaf) for name, leaf in saved.items()})
    assert all(torch.equal(loaded[name], leaf) for name, leaf in saved.items())
    assert len({leaf.data_ptr() for leaf in loaded.values() if leaf.numel()}) == len(saved) - 1


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FuncregError, match=r"path: .*folder exists"):
        checkpoint.save(tmp_path / "none" / "run", SMALL)


def test_an_unserialised_pickle_never_runs(path: Path, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "harmed",))

    path.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(FuncregError, match="a pickle"):
        checkpoint.load(path, SMALL)
    assert not (tmp_path / "harmed").exists()


SAVER = """
import sys, torch
from funcreg import checkpoint
path = sys.argv[1]
value = 0
while True:
    value += 1
    checkpoint.save(path, {"w": torch.full((300_000,), float(value)), "value": value})
    print(value, flush=True)
"""


def test_a_process_killed_while_saving_leaves_a_good_checkpoint(path: Path) -> None:
    """SIGKILL at random moments of a loop that does nothing but save."""
    moments, values = standard_random.Random(0), []
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SAVER), str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        like = {"w": torch.zeros(300_000), "value": 0}
        for each in (path, Path(f"{path}.previous")):
            if each.exists():
                loaded = checkpoint.load(each, like)
                assert (loaded["w"] == float(loaded["value"])).all()
                values.append(loaded["value"])
    assert values


def test_the_header_is_json_and_names_the_format(path: Path) -> None:
    checkpoint.save(path, SMALL)
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    document = json.loads(header["__metadata__"]["funcreg"])
    assert document["version"] == 1
    assert document["values"] == {"epoch": 3}
    assert len(header["__metadata__"]["sha256"]) == 64
