"""Bad arguments of `transforms`."""

from funcreg import transforms
from tests.refusals import Refusal, bad

REFUSALS: list[Refusal] = [
    ("transforms.clip_by_global_norm", "max_norm", lambda: transforms.clip_by_global_norm(-1.0)),
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
