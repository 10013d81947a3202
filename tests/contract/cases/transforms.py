"""Cases of `transforms`."""

import torch

from funcreg import optim, transforms, tree
from tests.contract.case import LR, ONE_STEPPED, STEPPED, Case, drawn, last_update

EXAMPLES = {"grads": {"weight": drawn(61, 5, 4, 3), "bias": drawn(62, 5, 3)}, "params": STEPPED["params"]}

MATRICES = {name: {"weight": STEPPED[name]["weight"], "wide": drawn(63 + place, 3, 5)} for place, name in
            enumerate(STEPPED)}  # fmt: skip

CASES = [
    Case(
        "transforms.chain",
        lambda grads, params, max_norm, lr: last_update(
            transforms.chain(transforms.clip_by_global_norm(max_norm), transforms.scale_by_learning_rate(lr)),
            grads,
            params,
        )[0],
        STEPPED,
        {"max_norm": (0.0, 0.0, 1.0, 100.0), "lr": (0.5, 0.0, 0.1, 1.0)},  # a rate of 0 shows nothing of the rest
    ),
    Case(
        "transforms.clip_by_global_norm",
        lambda grads, params, max_norm: last_update(transforms.clip_by_global_norm(max_norm), grads, params)[0],
        STEPPED,
        {"max_norm": (0.0, 1.0, 100.0)},
        within="transforms.chain",
    ),
    Case(
        "transforms.clip_by_value",
        lambda grads, params, limit: last_update(transforms.clip_by_value(limit), grads, params)[0],
        STEPPED,
        {"limit": (0.0, 0.5, 10.0)},
    ),
    Case(
        "transforms.adaptive_clip",
        lambda grads, params, ratio, eps: last_update(transforms.adaptive_clip(ratio, eps=eps), grads, params)[0],
        STEPPED,
        {"ratio": (0.0, 0.1, 10.0), "eps": (0.0, 1e-3, 5.0)},
    ),
    Case(
        "transforms.clip_per_example",
        lambda grads, params, max_norm: last_update(transforms.clip_per_example(max_norm), grads, params)[0],
        EXAMPLES,
        {"max_norm": (0.0, 1.0, 100.0)},
        within="train.make_step[per example, constrained]",
    ),
    Case(
        "transforms.add_noise",
        lambda grads, params, std, key: last_update(transforms.add_noise(std, key=key), grads, params)[0],
        STEPPED,
        {"std": (0.0, 0.1, 1.0)},
        keyed=True,
    ),
    Case(
        "transforms.add_decayed_weights",
        lambda grads, params, decay: last_update(
            transforms.add_decayed_weights(decay, mask=tree.is_weight), grads, params
        )[0],
        STEPPED,
        {"decay": (0.0, 0.1, 1.0)},
    ),
    Case(
        "transforms.freeze",
        lambda grads, params: last_update(transforms.freeze(tree.is_weight), grads, params)[0],
        STEPPED,
    ),
    Case(
        "transforms.momentum",
        lambda grads, params, decay, dampening: last_update(
            transforms.momentum(decay, dampening=dampening), grads, params
        )[0],
        STEPPED,
        {"decay": (0.0, 0.9, 1.0), "dampening": (0.0, 0.5, 1.0)},
    ),
    Case(
        "transforms.scale_by_adam",
        lambda grads, params, b1, b2, eps: last_update(transforms.scale_by_adam(b1, b2, eps), grads, params)[0],
        STEPPED,
        {"b1": (0.0, 0.9, 0.99), "b2": (0.5, 0.9, 0.999), "eps": (1e-8, 1e-4, 1.0)},
        compiled=ONE_STEPPED,
        within="optim.adam",
    ),
    Case(
        "transforms.scale_by_learning_rate",
        lambda grads, params, lr: last_update(transforms.scale_by_learning_rate(lr), grads, params)[0],
        STEPPED,
        LR,
        within="transforms.chain",
    ),
    Case(
        "transforms.partition",
        lambda grads, params, lr, decay: last_update(
            transforms.partition(
                {"weight": optim.sgd(lr, momentum=0.9), "bias": optim.adamw(lr, weight_decay=decay)},
                lambda name, leaf: name,
            ),
            grads,
            params,
        )[0],
        STEPPED,
        {**LR, "decay": (0.0, 0.1, 1.0)},
    ),
    Case(
        "transforms.masked",
        lambda grads, params, lr: last_update(
            transforms.masked(optim.sgd(lr, momentum=0.9), tree.is_weight), grads, params
        )[0],
        STEPPED,
        LR,
    ),
    Case(
        "transforms.scale",
        lambda grads, params, factor: last_update(transforms.scale(factor), grads, params)[0],
        STEPPED,
        {"factor": (-1.0, 0.0, 2.5)},
        within="optim.sgd",
    ),
    Case(
        "transforms.scale_by_schedule",
        lambda grads, params, factor: last_update(
            transforms.scale_by_schedule(lambda step: factor**step.double()), grads, params
        )[0],
        STEPPED,
        {"factor": (0.1, 0.5, 2.5)},
    ),
    Case(
        "transforms.scale_by_lion",
        lambda grads, params, b1, b2: last_update(transforms.scale_by_lion(b1, b2), grads, params)[0],
        STEPPED,
        {"b1": (0.0, 0.9, 0.99), "b2": (0.5, 0.9, 0.999)},
        compiled=ONE_STEPPED,
        within="optim.lion",
    ),
    Case(
        "transforms.scale_by_nadam",
        lambda grads, params, b1, b2, eps, momentum_decay: last_update(
            transforms.scale_by_nadam(b1, b2, eps, momentum_decay=momentum_decay), grads, params
        )[0],
        STEPPED,
        {"b1": (0.0, 0.9, 0.99), "b2": (0.5, 0.9, 0.999), "eps": (1e-8, 1e-4, 1.0), "momentum_decay": (0.0, 4e-3, 1.0)},
        compiled=ONE_STEPPED,
        within="optim.nadam",
    ),
    Case(
        "transforms.scale_by_radam",
        lambda grads, params, b1, b2, eps: last_update(transforms.scale_by_radam(b1, b2, eps), grads, params)[0],
        STEPPED,
        {"b1": (0.0, 0.9, 0.99), "b2": (0.5, 0.9, 0.999), "eps": (1e-8, 1e-4, 1.0)},
        compiled=ONE_STEPPED,
        within="optim.radam",
    ),
    Case(
        "transforms.orthogonalize",
        lambda grads, params: last_update(transforms.orthogonalize(steps=2), grads, params)[0],
        MATRICES,
    ),
    *(
        Case(
            "transforms.scale_by_rms",
            lambda grads, params, decay, eps, centered=centered: last_update(
                transforms.scale_by_rms(decay, eps, centered=centered), grads, params
            )[0],
            STEPPED,
            {"decay": (0.0, 0.5, 0.99), "eps": (1e-8, 1e-4, 1.0)},
            compiled=ONE_STEPPED,
            variant="centered" if centered else "",
            within="" if centered else "optim.rmsprop",
        )
        for centered in (False, True)
    ),
    Case(
        "transforms.skip_nonfinite",
        lambda grads, params, lr: last_update(transforms.skip_nonfinite(optim.sgd(lr)), grads, params)[0],
        STEPPED,
        LR,
    ),
    Case(
        "transforms.accumulate",
        lambda grads, params, steps, lr: last_update(transforms.accumulate(optim.sgd(lr), steps), grads, params)[0],
        {**STEPPED, "steps": torch.tensor(2)},
        LR,
    ),
    Case(
        "transforms.master_weights",
        lambda grads, params, lr: last_update(transforms.master_weights(optim.sgd(lr)), grads, params)[0],
        STEPPED,
        LR,
        at_least_float32=True,
    ),
]  # fmt: skip
