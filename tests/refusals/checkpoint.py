"""Bad arguments of `checkpoint`."""

from pathlib import Path

from funcreg import checkpoint
from tests.refusals import PARAMS, Refusal

REFUSALS: list[Refusal] = [
    ("checkpoint.save", "path", lambda: checkpoint.save(Path("no", "such", "folder", "x.safetensors"), PARAMS)),
    ("checkpoint.load", "path", lambda: checkpoint.load("no-such-file.safetensors", PARAMS)),
    ("checkpoint.read_metadata", "path", lambda: checkpoint.read_metadata("no-such-file.safetensors")),
]
