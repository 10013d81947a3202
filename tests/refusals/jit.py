"""Bad arguments of `jit`."""

import funcreg as fr
from tests.refusals import Refusal, bad

REFUSALS: list[Refusal] = [
    ("jit", "function", lambda: fr.jit(bad(3))),
]
