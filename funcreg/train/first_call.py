"""The first call that a fit makes of its step, and what gives it away as no pure function.

A step that draws from a global generator would end elsewhere after a resume; one that writes into what it is given
changes the caller's data.
"""

import contextlib
import threading
from types import FunctionType
from typing import Any

from torch import Tensor

from .. import _checks, _generators, tree
from ..model.rehearsal.differences import difference
from ..model.rehearsal.generators import Generators, is_generator, others_draw
from ..tree.structure import entry
from .step import Metrics, Step, TrainState


def looked_at(program: Step, step: Step) -> Step:
    """A program of a step, of which the first call is looked at.

    Raises:
        FuncregError: from the first call, for a draw without a key, or a write into an argument, by its name.
    """
    seen = False
    own = _own_generators(step, set())

    def run(*given: Any, others: bool = False) -> tuple[Any, list[str]]:
        """What it returns, and what drew."""
        generators = Generators(own, others)
        try:
            returned = program(*given)
        finally:
            drew = generators.put_back()
        return returned, drew

    def first_looked_at(train_state: TrainState, batch: Any, hparams: Any) -> tuple[TrainState, Metrics]:
        nonlocal seen
        if seen:
            return program(train_state, batch, hparams)
        seen = True
        given = {"params": train_state.params, "state": train_state.state, "batch": batch, "hparams": hparams}
        written, (returned, drew) = _writes(given), run(train_state, batch, hparams)
        if drew and threading.active_count() > 1:
            with _generators.turn():
                others = others_draw()
                repeated, again = run(train_state, batch, hparams, others=others)
            if not again and not (others and difference(returned, repeated, repeated=True)):
                drew = []  # it was another thread
        for what in drew:
            remedy = "Draw with fr.random from the key that loss_fn gets."
            _checks.fail("step", f"one that {what}", "one whose draws come from its key", remedy)
        for name, before in written.items():
            if _writes(given)[name] != before:
                remedy = "Compute a new tensor: x * 2 rather than x *= 2."
                _checks.fail("step", f"one that writes into {name} in place", "a pure function", remedy)
        return returned

    return first_looked_at


def _own_generators(function: Any, seen: set[int]) -> dict[str, Any]:
    """The generators that a function closes over or names in its file, and functions among that do."""
    if not isinstance(function, FunctionType) or id(function) in seen:
        return {}
    seen.add(id(function))
    held = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # of an empty cell
            held[name] = cell.cell_contents
    found = {name: each for name, each in held.items() if is_generator(each)}
    for each in held.values():
        found |= _own_generators(each, seen)
    return found


def _writes(given: dict[str, Any]) -> dict[str, int]:
    """How often each tensor has been written into."""
    return {
        entry(argument, name): leaf._version
        for argument, values in given.items()
        for name, leaf in zip(tree.names(values), tree.leaves(values), strict=True)
        if isinstance(leaf, Tensor) and not leaf.is_inference()
    }
