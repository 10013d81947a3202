"""Bad arguments of `keep_memory`."""

import funcreg as fr
from tests.refusals import Refusal, bad

REFUSALS: list[Refusal] = [
    ("keep_memory", "most", lambda: fr.keep_memory(bad("all"))),
    ("keep_memory", "most", lambda: fr.keep_memory(-1)),
    ("keep_memory", "most", lambda: fr.keep_memory(2**31)),
]
