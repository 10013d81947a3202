"""Which layers draw in training mode, and are put into it for a Monte Carlo call.

Nothing is known by a list of types: in training mode a layer draws or it does not. The call runs in
training mode, and again in evaluation. Where a draw is missing, the layer whose code it was is put
into training mode, and if that does not bring it back, the layers around it, one after the other:
one of them holds the switch. Each such layer is then asked, with its noise passing its input on,
whether training changes something else.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ... import _checks
from ..keyed import Event
from .differences import difference
from .purity import Impurity
from .repeats import unrepeatable
from .runs import Rehearsal, copies, innermost

_TRIES = 8  # of a draw that decides which layers run
_ALONE = "a noisy layer that differs from its evaluation by its noise alone"
_APART = "Put the noise into a layer of its own, or register a pure forward: fr.register_layer."


def wake_noise(rehearsal: Rehearsal) -> tuple[Impurity, ...]:
    """Put the noisy layers, and no others, into training mode; give what draws without its telling anybody.

    What draws from a generator that no key reaches, `rehearsal.unseen` says.

    Raises:
        FuncregError: for a noisy layer that does something else in training mode too.
    """
    woken, impure = _noisy_in_training(rehearsal)
    if rehearsal.unseen or impure:
        return impure
    noisy = rehearsal.skeleton.woken
    while True:
        _train(rehearsal, noisy)
        missing = set[str]()
        for seed, events in woken.items():
            found = _draws(rehearsal.run(seed))
            missing |= {layer for (layer, what), times in _draws(events).items() if found[layer, what] < times}
        around = [[name for name in (layer, *_ancestors(layer)) if name not in noisy] for layer in missing]
        wider = {outside[0] for outside in around if outside}
        if not wider:
            break
        noisy |= wider
    for name in sorted(noisy - {""}):
        _check_that_training_only_draws(rehearsal, name)
    return ()


def check_state_is_kept(rehearsal: Rehearsal, lent: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Refuse a noisy layer that moves its state in training mode: a Monte Carlo call leaves the state alone."""
    for buffer in rehearsal.buffers:
        name = buffer.rpartition(".")[0]
        if buffer in lent and tensors[buffer] is not lent[buffer] and name in rehearsal.skeleton.woken:
            did = f"draws only in training mode, where it moves its buffer {buffer} too"
            _checks.fail("module", f"{rehearsal.labels[name]}, which {did}", _ALONE, _APART)


def _noisy_in_training(rehearsal: Rehearsal) -> tuple[dict[int, list[Event]], tuple[Impurity, ...]]:
    """What draws with every layer in training mode that can be, by seed: several, where draws decide what runs.

    And what gives two answers there.
    """
    free = {name for name in rehearsal.skeleton.trains if name not in rehearsal.skeleton.pure}
    seen: dict[int, list[Event]] = {}
    while len(seen) < (_TRIES if rehearsal.decided else 1):
        _train(rehearsal, free)
        try:
            seen[len(seen)] = rehearsal.run(len(seen), evaluates=True)
        except _checks.FuncregError:
            raise
        except Exception as error:
            failed = innermost(error, rehearsal.names, free)
            if failed is None:
                break  # what is wrong with the call itself, the plan's run raises
            # It needs in training what this call does not give it, such as targets.
            free -= {failed}
    impure = unrepeatable(rehearsal, rehearsal.output, len(seen) - 1, evaluates=True) if seen else ()
    return seen, impure


def _train(rehearsal: Rehearsal, names: set[str]) -> None:
    for name, layer in rehearsal.layers.items():
        layer.training = name in names or name in rehearsal.skeleton.awake


def _check_that_training_only_draws(rehearsal: Rehearsal, name: str) -> None:
    layer, own = rehearsal.layers[name], rehearsal.layers[name].forward
    replaced, differs = vars(layer).get("forward"), list[str]()

    def probe(*args: Any, **kwargs: Any) -> Any:
        results = []
        calls, before = rehearsal.skeleton.calls, dict(rehearsal.skeleton.calls)
        for training in (False, True):
            layer.training = training
            calls.clear()
            calls.update(before)  # registered noise within is the same in both
            copied, named = copies((args, kwargs))
            with rehearsal.mode(neutral=True, evaluates=True) as seen:
                results.append(own(*copied, **named))
        # A draw without a rate has no off.
        differs.append(difference(*results, values=all(event.kind != "draw" for event in seen.events)))
        return results[0]

    layer.forward = probe
    try:
        rehearsal.run(neutral=True)
    finally:
        del layer.forward
        if replaced is not None:
            layer.forward = replaced
        layer.training = True
    for how in filter(None, differs):
        did = f"draws only in training mode, where it does something else too ({how})"
        _checks.fail("module", f"{rehearsal.labels[name]}, which {did}", _ALONE, _APART)


def _draws(events: list[Event]) -> Counter[tuple[str, str]]:
    return Counter((e.layer, e.function) for e in events if e.active and e.kind in ("rate", "draw"))


def _ancestors(name: str) -> Iterator[str]:
    """The names of the layers around a layer, innermost first."""
    while name:
        name = name.rpartition(".")[0]
        yield name
