"""Bad arguments of `checkpoint`."""

import tempfile
from pathlib import Path

import torch

from funcreg import checkpoint
from tests.refusals import PARAMS, Refusal, bad

PATH = "unwritten.safetensors"


def loaded_like(like: object) -> object:
    """What PARAMS, saved, are loaded as."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(Path(folder, PATH), PARAMS)
        return checkpoint.load(Path(folder, PATH), like)


REFUSALS: list[Refusal] = [
    ("checkpoint.save", "path", lambda: checkpoint.save(Path("no", "such", "folder", "x.safetensors"), PARAMS)),
    ("checkpoint.save", "path", lambda: checkpoint.save(bad(PARAMS), bad(PATH))),
    ("checkpoint.save", "tree's run", lambda: checkpoint.save(PATH, {"run": object()})),
    ("checkpoint.save", "tree", lambda: checkpoint.save(PATH, {1: 0.5, "1": 0.5})),
    ("checkpoint.save", "metadata", lambda: checkpoint.save(PATH, PARAMS, metadata=bad("digits"))),
    ("checkpoint.save", "metadata", lambda: checkpoint.save(PATH, PARAMS, metadata={"when": object()})),
    ("checkpoint.load", "path", lambda: checkpoint.load("no-such-file.safetensors", PARAMS)),
    ("checkpoint.load", "path", lambda: checkpoint.load(bad(None), PARAMS)),
    ("checkpoint.load", "like", lambda: loaded_like({"0.weight": torch.ones(2, 3)})),
    ("checkpoint.load", "like's 0.bias", lambda: loaded_like(PARAMS | {"0.bias": torch.ones(3)})),
    ("checkpoint.read_leaves", "path", lambda: checkpoint.read_leaves("no-such-file.safetensors")),
    ("checkpoint.read_leaves", "path", lambda: checkpoint.read_leaves(bad(3))),
    ("checkpoint.read_metadata", "path", lambda: checkpoint.read_metadata("no-such-file.safetensors")),
    ("checkpoint.read_metadata", "path", lambda: checkpoint.read_metadata(bad(3))),
]
