"""Modules as people write them: every way known to us of drawing, of keeping state, and of looking at oneself.

parts.py        the small network around each layer under trial, and its inputs
functions.py    noise with a rate that a forward calls as a function, and subclasses of torch's layers
raw_draws.py    random numbers that a forward draws itself, and generators of its own
switches.py     what turns noise on
stateful.py     statistics and other state, assigned or written in place
gradients.py    code that runs in the backward pass: hooks on gradients, autograd functions
code.py         code that looks at the original module, attributes set in forward, and unusual structure
"""

from tests.zoo.hand_written import code, functions, gradients, raw_draws, stateful, switches
from tests.zoo.specimen import Specimen


def specimens() -> list[Specimen]:
    """All of them, by file."""
    files = (functions, raw_draws, switches, stateful, gradients, code)
    return [specimen for file in files for specimen in file.specimens()]
