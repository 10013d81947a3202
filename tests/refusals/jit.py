"""Bad arguments of `jit`."""

import funcreg as fr
from tests.refusals import Refusal, bad

REFUSALS: list[Refusal] = [
    ("jit", "function", lambda: fr.jit(bad(3))),
    ("jit", "folder", lambda: fr.jit(lambda x: x, folder=bad(3))),
]

# name: why no argument of it can be bad
WITHOUT_BAD_INPUT = {"can_compile": "it takes none"}
