"""`jit`: a whole step, sweep or Monte Carlo loop as one compiled program."""

from .jit import can_compile, jit
from .kinds import as_data, kind_of, remembered
from .modes import as_one_operator, compiling, known, known_number, recording
from .traced import Compiled, traced

__all__ = [
    "Compiled",
    "as_data",
    "as_one_operator",
    "can_compile",
    "compiling",
    "jit",
    "kind_of",
    "known",
    "known_number",
    "recording",
    "remembered",
    "traced",
]
