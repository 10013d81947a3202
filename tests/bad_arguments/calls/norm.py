"""Good calls of `norm`."""

import torch

from funcreg import norm
from tests.bad_arguments.call import KEY, PARAMS, Call, X, call

STATS, SCALE, SHIFT = norm.init_batch_stats(3), torch.ones(3), torch.zeros(3)
CHANNELS = torch.arange(60.0).reshape(2, 6, 5)
WEIGHT = PARAMS["weight"]
SPECTRAL = norm.init_spectral_state(WEIGHT, key=KEY)

CALLS: list[Call] = [
    call("norm.batch_norm", norm.batch_norm, x=X, stats=STATS, scale=SCALE, shift=SHIFT, train=True, momentum=0.1,
         eps=1e-5),
    call("norm.batch_norm in evaluation", norm.batch_norm, x=X, stats=STATS, scale=SCALE, shift=SHIFT, train=False,
         momentum=0.1, eps=1e-5),
    call("norm.init_batch_stats", norm.init_batch_stats, channels=3, device="cpu"),
    call("norm.apply_scaling", norm.apply_scaling, x=X, scaling=norm.fit_standard(X)),
    call("norm.fit_min_max", norm.fit_min_max, x=X, low=0.0, high=1.0),
    call("norm.fit_standard", norm.fit_standard, x=X),
    call("norm.unit_norm", norm.unit_norm, x=X, dim=-1, order=2.0),
    call("norm.group_norm", norm.group_norm, x=CHANNELS, groups=2, scale=torch.ones(6), shift=torch.ones(6),
         eps=1e-5),
    call("norm.instance_norm", norm.instance_norm, x=CHANNELS, scale=torch.ones(6), shift=torch.ones(6), eps=1e-5),
    call("norm.layer_norm", norm.layer_norm, x=X, scale=SCALE, shift=SHIFT, dims=1, eps=1e-5),
    call("norm.rms_norm", norm.rms_norm, x=X, scale=SCALE, dims=1, eps=1e-5),
    call("norm.init_spectral_state", norm.init_spectral_state, weight=WEIGHT, key=KEY, steps=3, dim=0),
    call("norm.spectral_norm", norm.spectral_norm, weight=WEIGHT, state=SPECTRAL, steps=1, dim=0, eps=1e-12),
    call("norm.weight_norm", norm.weight_norm, direction=WEIGHT, magnitude=torch.ones(2, 1), dim=0),
]  # fmt: skip
