"""Bad arguments of `transforms`."""

import torch

from funcreg import optim, transforms
from tests.refusals import KEY, KEYS, PARAMS, Refusal, bad

REFUSALS: list[Refusal] = [
    ("transforms.clip_by_global_norm", "max_norm", lambda: transforms.clip_by_global_norm(-1.0)),
    ("transforms.clip_by_global_norm", "max_norm", lambda: transforms.clip_by_global_norm(torch.ones(3))),
    ("transforms.clip_by_value", "limit", lambda: transforms.clip_by_value(-0.5)),
    ("transforms.clip_by_value", "limit", lambda: transforms.clip_by_value(torch.ones(2))),
    ("transforms.adaptive_clip", "ratio", lambda: transforms.adaptive_clip(-0.01)),
    ("transforms.adaptive_clip", "eps", lambda: transforms.adaptive_clip(eps=bad("small"))),
    ("transforms.adaptive_clip", "mask", lambda: transforms.adaptive_clip(mask=bad("weight"))),
    ("transforms.adaptive_clip", "mask", lambda: transforms.adaptive_clip(mask=lambda n, _: False).init(PARAMS)),
    ("transforms.clip_per_example", "max_norm", lambda: transforms.clip_per_example(-1.0)),
    (
        "transforms.clip_per_example",
        "grads's 0.bias",
        lambda: transforms.clip_per_example(1.0).update(PARAMS, (), PARAMS),
    ),
    ("transforms.add_noise", "std", lambda: transforms.add_noise(-0.1, key=KEY)),
    ("transforms.add_noise", "std", lambda: transforms.add_noise(torch.ones(2), key=KEY)),
    ("transforms.add_noise", "key", lambda: transforms.add_noise(0.1, key=bad(0))),
    ("transforms.add_noise", "key", lambda: transforms.add_noise(0.1, key=KEYS)),
    ("transforms.skip_nonfinite", "transform", lambda: transforms.skip_nonfinite(bad(optim.adam))),
    ("transforms.accumulate", "transform", lambda: transforms.accumulate(bad(0.1), 2)),
    ("transforms.accumulate", "steps", lambda: transforms.accumulate(optim.sgd(0.1), 0)),
    ("transforms.accumulate", "steps", lambda: transforms.accumulate(optim.sgd(0.1), bad(2.0))),
    ("transforms.accumulate", "steps", lambda: transforms.accumulate(optim.sgd(0.1), torch.tensor(2.0))),
    ("transforms.accumulate", "steps", lambda: transforms.accumulate(optim.sgd(0.1), torch.tensor([2, 3]))),
    ("transforms.scale_by_rms", "decay", lambda: transforms.scale_by_rms(1.0)),
    ("transforms.scale_by_rms", "eps", lambda: transforms.scale_by_rms(eps=-1e-8)),
    ("transforms.scale_by_rms", "centered", lambda: transforms.scale_by_rms(centered=bad("yes"))),
    ("transforms.add_decayed_weights", "decay", lambda: transforms.add_decayed_weights(-0.1)),
    ("transforms.add_decayed_weights", "mask", lambda: transforms.add_decayed_weights(0.1, mask=bad("weight"))),
    ("transforms.freeze", "mask", lambda: transforms.freeze(bad(None))),
    ("transforms.momentum", "decay", lambda: transforms.momentum(1.5)),
    ("transforms.momentum", "dampening", lambda: transforms.momentum(0.9, dampening=-0.1)),
    ("transforms.scale_by_adam", "b1", lambda: transforms.scale_by_adam(1.0)),
    ("transforms.scale_by_adam", "b2", lambda: transforms.scale_by_adam(0.9, 1.0)),
    ("transforms.scale_by_adam", "eps", lambda: transforms.scale_by_adam(eps=-1e-8)),
    ("transforms.scale_by_learning_rate", "lr", lambda: transforms.scale_by_learning_rate(-0.1)),
    ("transforms.chain", "transforms[1]", lambda: transforms.chain(transforms.momentum(0.9), bad(0.1))),
]
