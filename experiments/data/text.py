"""Text as characters: Tiny Shakespeare, or Python's own manual."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import LabError
from .root import TEXT, DataRoot


class Text(NamedTuple):
    """codes: int64 (N,), indices into `alphabet`."""

    codes: Tensor
    alphabet: str
    source: str


def characters(root: DataRoot) -> Text:
    """Tiny Shakespeare, where the data root has it; else `pydoc_data.topics` of the standard library.

    Raises:
        LabError: when the file is empty or not text.
    """
    path = root.find(TEXT)
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LabError(f"cannot read {path}: {error}") from None
        if not text:
            raise LabError(f"{path} is empty.")
        source = f"Tiny Shakespeare: {len(text):,} characters, from the data root"
    else:
        from pydoc_data.topics import topics

        text = "".join(character for topic in topics.values() for character in topic if character.isascii())
        source = f"Python's manual (pydoc_data.topics), in place of Tiny Shakespeare: {len(text):,} characters"
    alphabet = "".join(sorted(set(text)))
    index = {character: code for code, character in enumerate(alphabet)}
    return Text(torch.tensor([index[character] for character in text]), alphabet, source)
