"""Every draw in a forward from the call's key: one mode of torch that takes all its random functions.

While a layer with draws of its own runs, the mode sees each function of torch that is called,
wherever the code that calls it lives, and replaces those in its table. Noise with a rate is off
without a key. A draw without one (`torch.randn`) has no off: it is refused.

    mode.py           the mode, and its table
    dispatcher.py     a key of torch's dispatcher, for kernels of ours
    dispatched.py     the mode's draws without a mode, where the dispatcher hands them over
    writes.py         writes into what a call was lent, which it hands over too
    rehearsed.py      the mode that writes down who calls what
    common.py         generators, shapes
    factories.py      torch.rand and its kin
    in_place.py       Tensor.uniform_ and its kin
    distributions.py  multinomial, gamma, gumbel_softmax, fractional pooling
    noise.py          noise with a rate, attention and recurrence called as functions
    statistics.py     F.batch_norm on a layer's own buffers: assigned
    backward.py       hooks on gradients, the backward of autograd functions
"""

from . import distributions, factories, in_place, noise, statistics  # noqa: F401  (importing them fills the table)
from .backward import keyed_functions
from .dispatched import Unforeseen, called_in, handed_over, no_modes, undrawn
from .distributions import differentiable_dirichlet
from .mode import CALL_STRIDE, Drawing, Keyed, LayerGenerator, makes_anew
from .rehearsed import Event, Rehearsed, running
from .writes import guarded

__all__ = [
    "CALL_STRIDE",
    "Drawing",
    "Event",
    "Keyed",
    "LayerGenerator",
    "Rehearsed",
    "Unforeseen",
    "called_in",
    "differentiable_dirichlet",
    "guarded",
    "handed_over",
    "keyed_functions",
    "makes_anew",
    "no_modes",
    "running",
    "undrawn",
]
