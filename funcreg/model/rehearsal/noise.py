"""Which layers draw in training mode, and are put into it for a Monte Carlo call.

Nothing is known by a list of types: in training mode a layer draws or it does not. The call runs in
training mode, and again in evaluation. Where a draw is missing, or is made to no effect, the layer
whose code it was is put into training mode, and if that does not bring it back, the layers around it,
one after the other, and at last those inside: one of them holds the switch. Each such layer is then
asked, with its noise passing its input on, whether training changes something else. If that is a
branch of its own, such as an auxiliary classifier, noise that is nowhere but there stays off.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, NoReturn

from torch import Tensor, nn

from ... import _checks
from ..modes import within
from .differences import RETURNS_ELSE, difference
from .purity import Impurity
from .repeats import unrepeatable
from .runs import Rehearsal, copies, innermost

_TRIES = 8  # of a draw that decides which layers run
Draws = Counter[tuple[str, str]]


class Ran(NamedTuple):
    """A run: how often each layer drew, and by what, a registered layer by itself; and its output."""

    draws: Draws
    output: Any


_ALONE = "a noisy layer that differs from its evaluation by its noise alone"
_APART = "Put the noise into a layer of its own, or register a pure forward: fr.register_layer."


def wake_noise(rehearsal: Rehearsal) -> tuple[Impurity, ...]:
    """Put the noisy layers, and no others, into training mode; give what draws without its telling anybody.

    What draws from a generator that no key reaches, `rehearsal.unseen` says.

    Raises:
        FuncregError: for a noisy layer that does something else in training mode too.
    """
    trained, free, impure = _noisy_in_training(rehearsal)
    if rehearsal.unseen or impure:
        return impure
    noisy, woken_for = rehearsal.skeleton.woken, dict[str, set[str]]()
    unused: set[str] | None = None  # layers that draw to no effect, but to some in training
    while True:
        _train(rehearsal, noisy)
        missing, ran = set[str](), {seed: _ran(rehearsal, seed) for seed in trained}
        for seed, (draws, _) in trained.items():
            found = ran[seed].draws
            missing |= {layer for (layer, what), times in draws.items() if found[layer, what] < times}
        if unused is None:
            unused = _drawing(trained) - missing - rehearsal.skeleton.pure
            unused -= _used(rehearsal, ran, unused)
            if unused:
                _train(rehearsal, free)
                unused &= _used(rehearsal, trained, unused, evaluates=True)
                _train(rehearsal, noisy)
        elif unused:
            unused -= _used(rehearsal, ran, unused)
        missing |= unused
        wider = {layer: _switches(rehearsal, layer, noisy) for layer in missing}
        for layer, names in wider.items():
            for name in names:
                woken_for.setdefault(name, set()).add(layer)
        if not any(wider.values()):
            break
        noisy |= set[str]().union(*wider.values())
    asleep = set[str]()
    for name, how in _what_else_training_does(rehearsal, noisy).items():
        if how == RETURNS_ELSE and _in_branches(rehearsal, name, woken_for.get(name, set())):
            asleep.add(name)
        elif how:
            _refuse_other_than_noise(rehearsal, name, f"it does something else too ({how})")
    noisy -= asleep
    _train(rehearsal, noisy)
    if missing and not asleep and not rehearsal.decided:
        _refuse_other_than_noise(rehearsal, min(missing), "no layer's own switch turns that on")
    return ()


def noise_sleeps(rehearsal: Rehearsal) -> bool:
    """Whether some noise is on with every layer in training mode, and off with those that were woken."""
    try:
        _train(rehearsal, rehearsal.skeleton.trains - rehearsal.skeleton.pure)
        trained = _ran(rehearsal, 0, evaluates=True).draws
    except Exception:
        return True  # or may be: it needs in training what this call does not give it
    finally:
        _train(rehearsal, rehearsal.skeleton.woken)
    found = _ran(rehearsal, 0).draws
    return any(found[each] < times for each, times in trained.items())


def _switches(rehearsal: Rehearsal, layer: str, noisy: set[str]) -> set[str]:
    """Which layers to put into training mode next, for a draw that a layer makes there."""
    for name in (layer, *ancestors(layer)):
        if name not in noisy and name not in rehearsal.skeleton.pure:
            return {name}
    inside = {name for name in rehearsal.skeleton.trains if within(name, (layer,))}
    return inside - rehearsal.skeleton.pure - noisy


def _in_branches(rehearsal: Rehearsal, name: str, layers: set[str]) -> bool:
    """Whether each of some layers is in a part of one around them that has weights of its own."""
    depth = name.count(".") + 2 if name else 1

    def in_branch(layer: str) -> bool:
        part = rehearsal.layers[".".join(layer.split(".")[:depth])]
        return layer != name and within(layer, (name,)) and any(True for _ in part.parameters())

    return bool(layers) and all(map(in_branch, layers))


def check_state_is_kept(
    rehearsal: Rehearsal, lent: dict[str, Tensor], tensors: dict[str, Tensor], written: Iterable[str]
) -> None:
    """Refuse a noisy layer that moves its state in training mode: a Monte Carlo call leaves the state alone."""
    assigned = (buffer for buffer in rehearsal.buffers if buffer in lent and tensors[buffer] is not lent[buffer])
    for buffer in (*assigned, *written):
        name = buffer.rpartition(".")[0]
        if name in rehearsal.skeleton.woken:
            _refuse_other_than_noise(rehearsal, name, f"it moves its buffer {buffer} too")


def _refuse_other_than_noise(rehearsal: Rehearsal, name: str, what: str) -> NoReturn:
    did = f"{rehearsal.labels[name]}, which draws only in training mode, where {what}"
    _checks.fail("module", did, _ALONE, _APART)


def _drawing(runs: dict[int, Ran]) -> set[str]:
    """The layers that draw in some of these runs, by functions of torch."""
    return {layer for draws, _ in runs.values() for layer, function in draws if function}


def _used(rehearsal: Rehearsal, runs: dict[int, Ran], layers: set[str], **settings: Any) -> set[str]:
    """The layers among some whose draws the output of a run, one for each seed, depends on."""
    used = set[str]()
    for seed, (_, output) in runs.items() if layers else ():

        def matter(*shaken: str, seed: int = seed, output: Any = output) -> bool:
            rehearsal.run(seed, shaken=frozenset(shaken), **settings)
            return bool(difference(output, rehearsal.output, repeated=True))

        others = layers - used
        if len(others) == 1 or matter(*others):
            used |= {layer for layer in others if matter(layer)}
    return used


def _noisy_in_training(rehearsal: Rehearsal) -> tuple[dict[int, Ran], set[str], tuple[Impurity, ...]]:
    """What draws with every layer in training mode that can be, by seed: several, where draws decide what runs.

    And which layers can be, and what gives two answers there.
    """
    free = {name for name in rehearsal.skeleton.trains if name not in rehearsal.skeleton.pure}
    seen: dict[int, Ran] = {}
    while len(seen) < (_TRIES if rehearsal.decided else 1):
        _train(rehearsal, free)
        try:
            seen[len(seen)] = _ran(rehearsal, len(seen), evaluates=True)
        except _checks.FuncregError:
            raise
        except Exception as error:
            failed = innermost(error, rehearsal.names, free)
            if failed is None:
                break  # what is wrong with the call itself, the plan's run raises
            # It needs in training what this call does not give it, such as targets.
            free -= {failed}
    impure = unrepeatable(rehearsal, rehearsal.output, len(seen) - 1, evaluates=True) if seen else ()
    return seen, free, impure


def _train(rehearsal: Rehearsal, names: set[str]) -> None:
    """Put these layers into training mode, beside the registered ones that draw, and no others."""
    for name, layer in rehearsal.layers.items():
        _switch(layer, name in names)
    for name, layer in rehearsal.layers.items():
        layer.training = name in names or name in rehearsal.skeleton.awake


def _switch(layer: nn.Module, training: bool) -> None:
    """Put one layer, and none inside, into training mode or out of it, by its own train() if it has one."""
    if type(layer).train is not nn.Module.train:
        modes = [(sublayer, sublayer.training) for sublayer in layer.modules()]
        layer.train(training)
        for sublayer, was in modes:
            sublayer.training = was
    layer.training = training


def _what_else_training_does(rehearsal: Rehearsal, noisy: set[str]) -> dict[str, str]:
    """What training changes in each layer that draws, its noise passing its input on; "" for nothing."""
    differs: dict[str, list[str]] = {name: [] for name in sorted(noisy)}
    # One run for all layers that are side by side; another for those around them.
    around = {name: sum(within(name, (other,)) for other in noisy) for name in noisy}
    for depth in sorted(set(around.values())):
        with contextlib.ExitStack() as probed:
            for name in differs:
                if around[name] == depth:
                    probed.enter_context(_probed(rehearsal, name, differs[name]))
            rehearsal.run(neutral=True)
    return {name: next(filter(None, found), "") for name, found in differs.items()}


@contextlib.contextmanager
def _probed(rehearsal: Rehearsal, name: str, differs: list[str]) -> Iterator[None]:
    """In the block, each call of a layer evaluates it, and writes down what training would change."""
    layer = rehearsal.layers[name]
    called = "forward" if name or rehearsal.call.method is None else rehearsal.call.method
    own, replaced = getattr(layer, called), vars(layer).get(called)

    def probe(*args: Any, **kwargs: Any) -> Any:
        results = []
        for training in (False, True):
            _switch(layer, training)
            copied, named = copies((args, kwargs))
            with rehearsal.mode(neutral=True, evaluates=True) as seen:
                results.append(own(*copied, **named))
        # A draw without a rate has no off.
        differs.append(difference(*results, values=all(event.kind != "draw" for event in seen.events)))
        return results[0]

    vars(layer)[called] = probe
    try:
        yield
    finally:
        del vars(layer)[called]
        if replaced is not None:
            vars(layer)[called] = replaced
        _switch(layer, True)


def _ran(rehearsal: Rehearsal, seed: int, **settings: Any) -> Ran:
    events = rehearsal.run(seed, **settings)
    drawn = Counter((e.layer, e.function) for e in events if e.active and e.kind in ("rate", "draw"))
    drawn.update({(name, ""): times for name, times in rehearsal.skeleton.calls.items()})
    return Ran(drawn, rehearsal.output)


def ancestors(name: str) -> Iterator[str]:
    """The names of the layers around a layer, innermost first."""
    while name:
        name = name.rpartition(".")[0]
        yield name
