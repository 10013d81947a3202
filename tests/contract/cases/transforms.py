"""Cases of `transforms`."""

from funcreg import transforms, tree
from tests.contract.case import LR, STEPPED, Case, update_twice

CASES = [
    Case(
        "transforms.chain",
        lambda grads, params, max_norm, lr: update_twice(
            transforms.chain(transforms.clip_by_global_norm(max_norm), transforms.scale_by_learning_rate(lr)),
            grads,
            params,
        )[0],
        STEPPED,
        {"max_norm": (0.0, 1.0, 100.0), **LR},
    ),
    Case(
        "transforms.clip_by_global_norm",
        lambda grads, params, max_norm: update_twice(transforms.clip_by_global_norm(max_norm), grads, params)[0],
        STEPPED,
        {"max_norm": (0.0, 1.0, 100.0)},
    ),
    Case(
        "transforms.add_decayed_weights",
        lambda grads, params, decay: update_twice(
            transforms.add_decayed_weights(decay, mask=tree.is_weight), grads, params
        )[0],
        STEPPED,
        {"decay": (0.0, 0.1, 1.0)},
    ),
    Case(
        "transforms.freeze",
        lambda grads, params: update_twice(transforms.freeze(tree.is_weight), grads, params)[0],
        STEPPED,
    ),
    Case(
        "transforms.momentum",
        lambda grads, params, decay, dampening: update_twice(
            transforms.momentum(decay, dampening=dampening), grads, params
        )[0],
        STEPPED,
        {"decay": (0.0, 0.9, 1.0), "dampening": (0.0, 0.5, 1.0)},
    ),
    Case(
        "transforms.scale_by_adam",
        lambda grads, params, b1, b2, eps: update_twice(transforms.scale_by_adam(b1, b2, eps), grads, params)[0],
        STEPPED,
        {"b1": (0.0, 0.9, 0.99), "b2": (0.5, 0.9, 0.999), "eps": (1e-8, 1e-4, 1.0)},
    ),
    Case(
        "transforms.scale_by_learning_rate",
        lambda grads, params, lr: update_twice(transforms.scale_by_learning_rate(lr), grads, params)[0],
        STEPPED,
        LR,
    ),
]  # fmt: skip
