"""Bad arguments of `sweep`."""

from funcreg import sweep
from tests.refusals import Refusal, bad

REFUSALS: list[Refusal] = [
    ("sweep.grid", "axes", lambda: sweep.grid()),
    ("sweep.grid", "lr", lambda: sweep.grid(lr=bad(0.1))),
    ("sweep.grid", "lr", lambda: sweep.grid(lr=[])),
    ("sweep.grid", "rate", lambda: sweep.grid(rate=bad(["a"]))),
]
