"""What `checkpoint` is compared with: safetensors' own reader, torch.save, and json."""

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from funcreg import checkpoint, tree
from tests.oracles import Pair, oracle

BYTES = "the same bytes"


def example() -> dict[str, Any]:
    """Every kind of leaf, tensors of several dtypes, views of one storage, and a long one."""
    whole = torch.arange(12.0).reshape(3, 4)
    return {
        "whole": whole,
        "views": (whole[1], whole.T, whole.expand(2, 3, 4)),
        "half": torch.linspace(-1, 1, 9).bfloat16(),
        "double": torch.linspace(0, 1, 10_000, dtype=torch.float64),
        "key": torch.tensor([2**62, -7]),
        "mask": torch.tensor([True, False]),
        "epoch": 3,
        "rate": 0.1 + 0.2,
    }


def saved(path: Path) -> Path:
    checkpoint.save(path, example(), metadata={"seeds": [1, 2, 3], "rate": 1 / 3, "big": 2**60})
    return path


@oracle("checkpoint.save", against="what safetensors.torch.load_file reads", tolerance=0, because=BYTES)
def read_by_safetensors() -> Pair:
    with tempfile.TemporaryDirectory() as folder:
        theirs = safetensors.torch.load_file(saved(Path(folder, "run.safetensors")))
    tensors = {n.replace(".", "/"): leaf for n, leaf in zip(tree.names(example()), tree.leaves(example()), strict=True)}
    return {n: leaf for n, leaf in tensors.items() if isinstance(leaf, torch.Tensor)}, theirs


@oracle("checkpoint.load", against="torch.save and torch.load", tolerance=0, because=BYTES)
def loaded_by_torch() -> Pair:
    blank = tree.map(lambda leaf: torch.zeros_like(leaf) if isinstance(leaf, torch.Tensor) else type(leaf)(), example())
    with tempfile.TemporaryDirectory() as folder:
        ours = checkpoint.load(saved(Path(folder, "run.safetensors")), blank)
    file = io.BytesIO()
    torch.save(example(), file)
    file.seek(0)
    return ours, torch.load(file, weights_only=True)


@oracle("checkpoint.read_leaves", against="what safetensors.torch.load_file reads", tolerance=0, because=BYTES)
def leaves_by_safetensors() -> Pair:
    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder, "run.safetensors"))
        ours, theirs = checkpoint.read_leaves(path), safetensors.torch.load_file(path)
    return {name: leaf for name, leaf in ours.items() if isinstance(leaf, torch.Tensor)}, theirs


@oracle("checkpoint.read_metadata", against="the header by safetensors and json", tolerance=0, because=BYTES)
def metadata_by_json() -> Pair:
    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder, "run.safetensors"))
        ours = checkpoint.read_metadata(path)
        with safetensors.safe_open(path, framework="pt") as file:
            return ours, json.loads(file.metadata()["funcreg"])["metadata"]
