"""Good calls of `transforms`."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from funcreg import transforms, tree
from tests.bad_arguments.call import GRADS, KEY, PARAMS, Call, call


def of(name: str, transform: transforms.Transform, grads: Any = GRADS) -> list[Call]:
    """The calls of a transform's own functions."""
    state = transform.init(PARAMS)
    return [
        call(f"{name}.init", transform.init, params=PARAMS),
        call(f"{name}.update", transform.update, grads=grads, state=state, params=PARAMS),
    ]


def used(make: Callable[..., transforms.Transform], grads: Any = GRADS, params: Any = PARAMS) -> Callable[..., Any]:
    """The second updates of the transform that is made of some settings, which are what a bad one would spoil."""

    @functools.wraps(make)
    def updates(**settings: Any) -> Any:
        transform = make(**settings)
        _, state = transform.update(grads, transform.init(params), params)
        return transform.update(grads, state, params)[0]

    return updates


INNER = transforms.momentum(0.9)
MATRIX = {"weight": PARAMS["weight"]}
EACH = tree.stack([GRADS, GRADS, GRADS])

CALLS: list[Call] = [
    call("transforms.adaptive_clip", used(transforms.adaptive_clip), ratio=0.1, eps=1e-3, mask=tree.is_weight),
    call("transforms.clip_by_global_norm", used(transforms.clip_by_global_norm), max_norm=1.0),
    call("transforms.clip_by_value", used(transforms.clip_by_value), limit=0.1),
    call("transforms.clip_per_example", used(transforms.clip_per_example, EACH), max_norm=1.0),
    call("transforms.chain", used(lambda transforms_: transforms.chain(transforms_, INNER)), transforms_=INNER),
    call("transforms.add_decayed_weights", used(transforms.add_decayed_weights), decay=0.1, mask=tree.is_weight),
    call("transforms.freeze", used(transforms.freeze), mask=tree.is_weight),
    call("transforms.scale_by_learning_rate", used(transforms.scale_by_learning_rate), lr=0.1),
    call("transforms.momentum", used(transforms.momentum), decay=0.9, dampening=0.1, nesterov=False),
    call("transforms.scale_by_adam", used(transforms.scale_by_adam), b1=0.9, b2=0.99, eps=1e-8),
    call("transforms.scale_by_rms", used(transforms.scale_by_rms), decay=0.9, eps=1e-8, centered=True),
    call("transforms.add_noise", used(transforms.add_noise), std=0.1, key=KEY),
    call("transforms.accumulate", used(transforms.accumulate), transform=INNER, steps=2),
    call("transforms.skip_nonfinite", used(transforms.skip_nonfinite), transform=INNER),
    call("transforms.masked", used(transforms.masked), transform=INNER, mask=tree.is_weight),
    call(
        "transforms.partition",
        used(transforms.partition),
        transforms={"a": INNER, "b": transforms.freeze()},
        label=lambda name, leaf: "a" if name == "weight" else "b",
    ),
    call("transforms.scale", used(transforms.scale), factor=0.5),
    call("transforms.scale_by_schedule", used(transforms.scale_by_schedule), schedule=lambda step: 0.5),
    call(
        "transforms.orthogonalize",
        used(transforms.orthogonalize, MATRIX, MATRIX),
        steps=2,
        adjust="original",
        eps=1e-7,
        dtype=torch.float32,
    ),
    call("transforms.scale_by_lion", used(transforms.scale_by_lion), b1=0.9, b2=0.99),
    call("transforms.scale_by_nadam", used(transforms.scale_by_nadam), b1=0.9, b2=0.99, eps=1e-8, momentum_decay=0.004),
    call("transforms.scale_by_radam", used(transforms.scale_by_radam), b1=0.9, b2=0.99, eps=1e-8),
    call("transforms.master_weights", used(transforms.master_weights), transform=INNER),
    *of("transforms.masked()", transforms.masked(INNER, tree.is_weight)),
    *of(
        "transforms.partition()",
        transforms.partition(
            {"a": INNER, "b": transforms.scale(0.5)}, lambda name, leaf: "a" if name == "weight" else "b"
        ),
    ),
    *of("transforms.scale()", transforms.scale(0.5)),
    *of("transforms.scale_by_schedule()", transforms.scale_by_schedule(lambda step: 0.5)),
    *of("transforms.orthogonalize()", transforms.chain(transforms.masked(transforms.orthogonalize(2), tree.is_weight))),
    *of("transforms.scale_by_lion()", transforms.scale_by_lion()),
    *of("transforms.scale_by_nadam()", transforms.scale_by_nadam()),
    *of("transforms.scale_by_radam()", transforms.scale_by_radam()),
    *of("transforms.master_weights()", transforms.master_weights(INNER)),
    *of("transforms.adaptive_clip()", transforms.adaptive_clip(0.1, mask=tree.is_weight)),
    *of("transforms.clip_by_global_norm()", transforms.clip_by_global_norm(0.1)),
    *of("transforms.clip_by_value()", transforms.clip_by_value(0.1)),
    *of("transforms.clip_per_example()", transforms.clip_per_example(0.1), EACH),
    *of("transforms.chain()", transforms.chain(transforms.clip_by_value(0.1), INNER)),
    *of("transforms.add_decayed_weights()", transforms.add_decayed_weights(0.1, mask=tree.is_weight)),
    *of("transforms.freeze()", transforms.freeze(tree.is_weight)),
    *of("transforms.scale_by_learning_rate()", transforms.scale_by_learning_rate(lambda step: 0.1)),
    *of("transforms.momentum()", transforms.momentum(0.9, nesterov=True)),
    *of("transforms.scale_by_adam()", transforms.scale_by_adam()),
    *of("transforms.scale_by_rms()", transforms.scale_by_rms(centered=True)),
    *of("transforms.add_noise()", transforms.add_noise(0.1, key=KEY)),
    *of("transforms.accumulate()", transforms.accumulate(INNER, 2)),
    *of("transforms.skip_nonfinite()", transforms.skip_nonfinite(INNER)),
]
