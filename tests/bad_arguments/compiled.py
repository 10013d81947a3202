"""What eager code refuses by its value, as a compiled program gets it: as data, which it cannot look at.

`SETTINGS` are mostly those that a function only compares with, or takes a sign or a choice of: what could hide a
NaN. `refused` finds all numbers and tensors of the good calls; `VALUES` are the calls whose tensors the tests compile,
and `python -m tests.bad_arguments` tries everything, without the compiler's last part.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import optree
import torch
from torch import Tensor

import funcreg as fr
from funcreg import adversarial, augment, averaging, constraints, labels, losses, noise, norm, optim, penalties, train
from funcreg import transforms as of
from tests.bad_arguments.call import CLASSES, GRADS, IMAGES, KEY, PARAMS, SOFT, Call, X
from tests.bad_arguments.judged import CALLS
from tests.bad_arguments.unreadable import NO_PART, NUMBERS
from tests.bad_arguments.values import tensors

STEP, STATS = torch.tensor(3), norm.init_batch_stats(3)


def _update(make: Callable[[Any], Any], good: float) -> Callable[[Any], Any]:
    """The updates of what `make` makes of a setting, from the state that a good one has."""
    state = make(good).init(PARAMS)
    return lambda setting: make(setting).update(GRADS, state, PARAMS)[0]


# name: (the function of one setting, one that is out of its range)
SETTINGS: dict[str, tuple[Callable[[Any], Any], float]] = {
    "noise.layer_drop": (lambda rate: noise.layer_drop(X, X + 1, rate, key=KEY), 2.0),
    "noise.rrelu": (lambda lower: noise.rrelu(X, lower, 0.2, key=KEY), 0.5),
    "augment.flip": (lambda rate: augment.flip(IMAGES, rate, key=KEY), 2.0),
    "augment.erase": (lambda rate: augment.erase(IMAGES, rate, key=KEY), 2.0),
    "augment.apply_cutout": (lambda height: augment.apply_cutout(IMAGES, 0, 0, height, 2), -1.0),
    "augment.apply_affine": (lambda shear: augment.apply_affine(IMAGES, shear=(shear, 0.0)), 95.0),
    "augment.apply_color": (lambda contrast: augment.apply_color(IMAGES, contrast=contrast), -1.0),
    "losses.cross_entropy": (lambda smoothing: losses.cross_entropy(X, CLASSES, smoothing=smoothing), 2.0),
    "losses.gaussian_nll": (lambda v: losses.gaussian_nll(X[:, :2], X[:, 2:], min_variance=v), -1.0),
    "labels.smooth_labels": (lambda smoothing: labels.smooth_labels(SOFT, smoothing), -1.0),
    "penalties.l2": (lambda strength: penalties.l2(PARAMS, strength), -1.0),
    "norm.batch_norm": (lambda m: norm.batch_norm(X, STATS, train=True, momentum=m)[1].mean, 2.0),
    "norm.layer_norm": (lambda eps: norm.layer_norm(X, eps=eps), -1.0),
    "norm.fit_min_max": (lambda low: norm.fit_min_max(X, low=low), 2.0),
    "constraints.max_norm": (lambda maximum: constraints.max_norm(PARAMS, maximum)["weight"], -1.0),
    "adversarial.fgsm": (lambda epsilon: adversarial.fgsm(lambda x: (x**2).sum(), SOFT, epsilon), -1.0),
    "averaging.ema": (lambda decay: averaging.ema(decay).update(averaging.ema(0.9).init(PARAMS), GRADS).params, 2.0),
    "train.early_stopping": (
        lambda delta: train.early_stopping(2, delta).update(train.early_stopping(2).init(), torch.tensor(1.0)).best,
        -1.0,
    ),
    "transforms.adaptive_clip": (_update(of.adaptive_clip, 0.1), -1.0),
    "transforms.clip_by_value": (_update(of.clip_by_value, 0.1), -1.0),
    "transforms.clip_by_global_norm": (_update(of.clip_by_global_norm, 0.1), -1.0),
    "optim.sgd": (_update(optim.sgd, 0.1), -1.0),
    "optim.lion": (_update(lambda b1: optim.lion(0.1, b1=b1), 0.9), 1.5),
    "optim.cosine": (lambda value: optim.cosine(value, steps=5)(STEP), -1.0),
    "optim.join_schedules": (
        lambda end: optim.join_schedules([optim.constant(0.1), optim.constant(0.2)], [end])(STEP),
        -5.0,
    ),
}

VALUES = (
    *("losses.cross_entropy", "losses.cross_entropy of shares", "losses.binary_cross_entropy", "losses.accuracy"),
    *("labels.one_hot", "labels.class_weights", "labels.smooth_labels", "adversarial.fgsm", "optim.one_cycle()"),
    *("uncertainty.entropy", "uncertainty.brier", "uncertainty.negative_log_likelihood", "uncertainty.aps_scores"),
    *("uncertainty.expected_calibration_error", "uncertainty.auroc", "optim.cosine()"),
)

# (call, argument): what stands for none in results without a NaN
SAID = {
    ("random.bernoulli", "p"): "never True",
    ("random.categorical", "logits"): "-1",
    ("uncertainty.prediction_sets", "scores"): "every class is kept",
}
UNCOMPILED = {"train.fit": "it compiles the step", "distributed.fit": "it compiles the step"}


def refused(call: Call) -> Iterator[tuple[str, str, Tensor]]:
    """(argument, kind, value): numbers, the first for each argument, and tensors that are refused by their values."""
    for argument, good in call.arguments.items():
        if (call.name, argument) in NO_PART | SAID:
            continue
        if type(good) is float:
            finite = (number for number in NUMBERS if math.isfinite(number))
            bad = next((number for number in finite if _is_refused(call, argument, number)), None)
            if bad is not None:
                yield argument, str(bad), torch.tensor(bad)
        elif isinstance(good, Tensor):
            for kind, value in tensors(good):
                if kind.startswith("value") and _is_refused(call, argument, value):
                    yield argument, kind, value


def turns(calls: list[Call]) -> tuple[Callable[[list[Tensor]], list[Any]], list[list[tuple[str, Tensor]]]]:
    """A program of a bad tensor for each argument of the calls, and turns of (name, value) for it."""
    found: dict[tuple[str, str], list[Tensor]] = {}
    for call in calls:
        for argument, _, value in refused(call):
            if not isinstance(call.arguments[argument], float):
                found.setdefault((call.name, argument), []).append(value)
    own = {call.name: call for call in calls}

    def program(values: list[Tensor]) -> list[Any]:
        each = zip(found, values, strict=True)
        return [own[name].function(**{**own[name].arguments, argument: value}) for (name, argument), value in each]

    most = max(map(len, found.values()))
    names = [f"{name}, {argument}" for name, argument in found]
    return program, [
        [(name, each[turn % len(each)]) for name, each in zip(names, found.values(), strict=True)]
        for turn in range(most)
    ]


def disagreements() -> Iterator[tuple[Call, str, str, Any]]:
    """(call, argument, kind, result): what traced code gives where eager code refuses, and is no NaN or refusal."""
    for call in CALLS:
        results = optree.tree_leaves(call.function(**call.arguments))
        if call.name in UNCOMPILED or not all(isinstance(leaf, Tensor) for leaf in results):
            continue
        for argument, kind, value in refused(call):

            def one(value: Tensor, call: Call = call, argument: str = argument) -> Any:
                return call.function(**{**call.arguments, argument: value})

            torch.compiler.reset()
            try:
                result = torch.compile(one, backend="eager", fullgraph=True, dynamic=False)(value)
            except Exception as error:
                if "FuncregError" not in str(error):
                    yield call, argument, kind, f"{type(error).__name__}: {str(error).splitlines()[0]}"
                continue
            if not is_none(result):
                yield call, argument, kind, result


def is_none(result: Any) -> bool:
    """Whether there is a NaN in a result."""
    return any(bool(leaf.isnan().any()) for leaf in optree.tree_leaves(result) if isinstance(leaf, Tensor))


def _is_refused(call: Call, argument: str, value: Any) -> bool:
    try:
        call.function(**{**call.arguments, argument: value})
    except fr.FuncregError:
        return True
    return False
