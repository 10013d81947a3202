"""Cases of `norm`."""

import torch

from funcreg import norm, tree
from tests.contract.case import IMAGES, Case, X, drawn

EPS = {"eps": (1e-5, 1e-3, 0.1)}
FEATURES = {"scale": drawn(24, 4, 5), "shift": drawn(25, 4, 5)}
CHANNELS = {"x": drawn(26, 3, 4, 5), "scale": drawn(27, 4), "shift": drawn(28, 4)}
KERNEL = {"weight": drawn(29, 4, 3, 2)}
SPECTRAL = {**KERNEL, "state": norm.SpectralState(drawn(30, 4), drawn(31, 6))}

BATCH = [
    Case(
        "norm.batch_norm",
        lambda x, stats, scale, shift, eps, train=train_mode: norm.batch_norm(
            x, stats, scale=scale, shift=shift, train=train, eps=eps
        )[0],
        {**IMAGES, "stats": norm.init_batch_stats(2), "scale": drawn(22, 2), "shift": drawn(23, 2)},
        {"eps": (1e-5, 1e-3, 0.1)},
        variant="train" if train_mode else "evaluate",
    )
    for train_mode in (True, False)
] + [
    Case(
        "norm.batch_norm",
        lambda x, stats, momentum: norm.batch_norm(x, stats, train=True, momentum=momentum)[1],
        {**IMAGES, "stats": tree.cast(norm.init_batch_stats(2), torch.float64)},
        {"momentum": (0.0, 0.1, 1.0)},
        variant="statistics",
    )
]

# Without eps torch's own kernels serve, with a tensor the formula.
LAYER = [
    Case("norm.layer_norm", lambda x, **given: norm.layer_norm(x, dims=2, **given), {**IMAGES, **FEATURES}),
    Case(
        "norm.layer_norm",
        lambda x, **given: norm.layer_norm(x, dims=2, **given),
        {**IMAGES, **FEATURES},
        EPS,
        variant="eps",
    ),
    Case("norm.layer_norm", lambda x: norm.layer_norm(x), X, variant="plain"),
    Case(
        "norm.rms_norm", lambda x, **given: norm.rms_norm(x, dims=2, **given), {**IMAGES, "scale": drawn(24, 4, 5)}, EPS
    ),
    Case("norm.group_norm", lambda x, **given: norm.group_norm(x, 2, **given), CHANNELS),
    Case("norm.group_norm", lambda x, **given: norm.group_norm(x, 2, **given), CHANNELS, EPS, variant="eps"),
    Case("norm.instance_norm", lambda x, **given: norm.instance_norm(x, **given), CHANNELS),
    Case("norm.instance_norm", lambda x, **given: norm.instance_norm(x, **given), CHANNELS, EPS, variant="eps"),
]

WEIGHT = [
    Case(
        "norm.weight_norm",
        lambda weight, magnitude: norm.weight_norm(weight, magnitude),
        {**KERNEL, "magnitude": drawn(32, 4)},
    ),
    Case(
        "norm.weight_norm",
        lambda weight, magnitude: norm.weight_norm(weight, magnitude, dim=None),
        {**KERNEL, "magnitude": drawn(33)},
        variant="whole",
    ),
    Case("norm.spectral_norm", lambda weight, state: norm.spectral_norm(weight, state, steps=2, dim=0), SPECTRAL),
    Case(
        "norm.spectral_norm",
        lambda weight, state, eps: norm.spectral_norm(weight, state, eps=eps),
        SPECTRAL,
        {"eps": (1e-15, 1e-12, 100.0)},
        variant="eps",
    ),
    Case(
        "norm.spectral_norm",
        lambda weight, state: norm.spectral_norm(weight, state, steps=0)[0],
        SPECTRAL,
        variant="evaluate",
    ),
    Case(
        "norm.init_spectral_state",
        lambda weight, key: norm.init_spectral_state(weight, key=key, steps=2),
        KERNEL,
        keyed=True,
        at_least_float32=True,
    ),
]

INPUTS = [
    Case("norm.fit_standard", lambda x: norm.fit_standard(x), X, at_least_float32=True),
    Case(
        "norm.fit_min_max",
        lambda x, low, high: norm.fit_min_max(x, low=low, high=high),
        X,
        {"low": (-1.0, 0.0, 0.5), "high": (0.0, 1.0, 3.0)},
        at_least_float32=True,
    ),
    Case(
        "norm.apply_scaling",
        lambda x, offset, factor: norm.apply_scaling(x, norm.Scaling(offset, factor)),
        {**X, "offset": drawn(34, 5), "factor": drawn(35, 5)},
    ),
    Case("norm.unit_norm", lambda x: norm.unit_norm(x), X),
    Case("norm.unit_norm", lambda x: norm.unit_norm(x, dim=0, order=1), X, variant="columns"),
]

CASES = [*BATCH, *LAYER, *WEIGHT, *INPUTS]

# name: (why the contract does not fit, the file that tests it)
EXEMPT: dict[str, tuple[str, str]] = {
    "norm.init_batch_stats": ("takes no tensor", "test_norm.py"),
}
