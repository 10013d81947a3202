"""Settings that eager code refuses, as a compiled program gets them: as data, which it cannot look at.

Mostly those that a function only compares with, or takes a sign or a choice of: what could hide a NaN.
"""

from collections.abc import Callable
from typing import Any

import torch

from funcreg import adversarial, augment, averaging, constraints, labels, losses, noise, norm, optim, penalties, train
from funcreg import transforms as of
from tests.bad_arguments.call import CLASSES, GRADS, IMAGES, KEY, PARAMS, SOFT, X

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
