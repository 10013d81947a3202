"""Bad arguments of `transforms`."""

import torch

import funcreg as fr
from funcreg import optim, transforms
from tests.refusals import KEY, KEYS, PARAMS, Refusal, X, bad

SGD = optim.sgd(0.1)

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
    ("transforms.freeze", "mask", lambda: transforms.freeze(bad("weight"))),
    ("transforms.momentum", "decay", lambda: transforms.momentum(1.5)),
    ("transforms.momentum", "dampening", lambda: transforms.momentum(0.9, dampening=-0.1)),
    ("transforms.scale_by_adam", "b1", lambda: transforms.scale_by_adam(1.0)),
    ("transforms.scale_by_adam", "b2", lambda: transforms.scale_by_adam(0.9, 1.0)),
    ("transforms.scale_by_adam", "eps", lambda: transforms.scale_by_adam(eps=-1e-8)),
    ("transforms.scale_by_learning_rate", "lr", lambda: transforms.scale_by_learning_rate(-0.1)),
    ("transforms.scale", "factor", lambda: transforms.scale(float("inf"))),
    ("transforms.scale", "factor", lambda: transforms.scale(bad("half"))),
    ("transforms.scale_by_schedule", "schedule", lambda: transforms.scale_by_schedule(bad(0.1))),
    ("transforms.scale_by_lion", "b2", lambda: transforms.scale_by_lion(0.9, 1.0)),
    ("transforms.scale_by_nadam", "b1", lambda: transforms.scale_by_nadam(1.0)),
    ("transforms.scale_by_nadam", "momentum_decay", lambda: transforms.scale_by_nadam(momentum_decay=-1.0)),
    ("transforms.scale_by_radam", "eps", lambda: transforms.scale_by_radam(eps=-1.0)),
    ("transforms.orthogonalize", "steps", lambda: transforms.orthogonalize(bad(2.5))),
    ("transforms.orthogonalize", "adjust", lambda: transforms.orthogonalize(adjust="none")),
    ("transforms.orthogonalize", "eps", lambda: transforms.orthogonalize(eps=-1.0)),
    ("transforms.orthogonalize", "dtype", lambda: transforms.orthogonalize(dtype=torch.int64)),
    ("transforms.orthogonalize", "0.bias", lambda: transforms.orthogonalize().init(PARAMS)),
    ("transforms.partition", "transforms", lambda: transforms.partition({}, lambda name, leaf: "a")),
    ("transforms.partition", "transforms['a']", lambda: transforms.partition({"a": bad(0.1)}, lambda name, leaf: "a")),
    ("transforms.partition", "label", lambda: transforms.partition({"a": SGD}, bad("a"))),
    ("transforms.partition", "label", lambda: transforms.partition({"a": SGD}, lambda name, leaf: "b").init(PARAMS)),
    (
        "transforms.partition",
        "label",
        lambda: transforms.partition({"a": SGD, "b": SGD}, lambda name, leaf: "a").init(PARAMS),
    ),
    (
        "transforms.partition",
        "params",
        lambda: transforms.partition({"a": SGD}, lambda name, leaf: "a").init({"0": {"bias": X}, "0.bias": X}),
    ),
    (
        "transforms.partition",
        "state",
        lambda: transforms.partition({"a": SGD}, lambda name, leaf: "a").update(PARAMS, (), PARAMS),
    ),
    (
        "transforms.partition",
        "grads",
        lambda: transforms.partition({"a": SGD}, lambda name, leaf: "a").update({"0.bias": X}, {"a": ()}, PARAMS),
    ),
    ("transforms.masked", "transform", lambda: transforms.masked(bad(0.1), fr.tree.is_weight)),
    ("transforms.masked", "mask", lambda: transforms.masked(SGD, bad("weight"))),
    ("transforms.masked", "mask", lambda: transforms.masked(SGD, lambda name, leaf: False).init(PARAMS)),
    ("transforms.chain", "transforms[1]", lambda: transforms.chain(transforms.momentum(0.9), bad(0.1))),
]
