"""Bad arguments of `model`."""

import torch
from torch import nn

import funcreg as fr
from tests.refusals import KEY, Refusal, X, bad

MODEL = fr.from_module(lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)))
MODEL_PARAMS, MODEL_STATE = MODEL.init(KEY)
NORMAL = fr.from_module(lambda: nn.BatchNorm1d(3))
NORMAL_VARIABLES = NORMAL.init(KEY)

REFUSALS: list[Refusal] = [
    ("from_module", "module", lambda: fr.from_module(bad(3))),
    ("from_module", "rnn", lambda: fr.from_module(nn.Linear(2, 2), rnn="fast")),
    ("variables", "module", lambda: fr.variables(bad("resnet18"))),
    ("to_module", "params", lambda: fr.to_module(nn.Linear(2, 2), {}, {})),
    ("from_module", "model.init", lambda: fr.from_module(nn.Linear(2, 2)).init(KEY)),
    ("from_module", "params", lambda: MODEL.apply({}, MODEL_STATE, X)),
    ("from_module", "rates", lambda: MODEL.apply(MODEL_PARAMS, MODEL_STATE, X, key=KEY, rates={"9": 0.5})),
    ("from_module", "train", lambda: MODEL.apply(MODEL_PARAMS, MODEL_STATE, X, train=bad("yes"))),
    ("from_module", "method", lambda: MODEL.apply(MODEL_PARAMS, MODEL_STATE, X, method=bad(3))),
    ("from_module", "method", lambda: MODEL.apply(MODEL_PARAMS, MODEL_STATE, X, method="features")),
    (
        "from_module",
        "momentum",
        lambda: MODEL.apply(MODEL_PARAMS, MODEL_STATE, X, key=KEY, train=True, momentum=0.1),
    ),
    ("from_module", "momentum", lambda: NORMAL.apply(*NORMAL_VARIABLES, X, momentum=0.1)),
    ("from_module", "momentum", lambda: NORMAL.apply(*NORMAL_VARIABLES, X, train=True, momentum=1.1)),
    ("from_module", "momentum", lambda: NORMAL.apply(*NORMAL_VARIABLES, X, train=True, momentum=torch.ones(2))),
    ("from_module", "key", lambda: MODEL.apply(MODEL_PARAMS, MODEL_STATE, X, train=True)),
    ("from_module", "frozen", lambda: NORMAL.apply(*NORMAL_VARIABLES, X, train=True, frozen=("9",))),
    ("from_module", "frozen", lambda: NORMAL.apply(*NORMAL_VARIABLES, X, train=True, frozen="0")),
    ("from_module", "frozen", lambda: NORMAL.apply(*NORMAL_VARIABLES, X, train=True, frozen=bad((3,)))),
    ("from_module", "frozen", lambda: NORMAL.apply(*NORMAL_VARIABLES, X, train=True, frozen=bad(3))),
    ("from_module", "kwargs", lambda: NORMAL.apply(*NORMAL_VARIABLES, X, kwargs=bad("x"))),
    ("from_module", "rates", lambda: NORMAL.apply(*NORMAL_VARIABLES, X, key=KEY, rates=0.5)),
    (
        "from_module",
        "params['weight']",
        lambda: NORMAL.apply({**NORMAL_VARIABLES[0], "weight": bad(1.0)}, NORMAL_VARIABLES[1], X),
    ),
    (
        "from_module",
        "state['running_var']",
        lambda: NORMAL.apply(NORMAL_VARIABLES[0], {**NORMAL_VARIABLES[1], "running_var": KEY}, X),
    ),
    ("model_members", "members", lambda: fr.model_members(MODEL, KEY, 0)),
    ("from_module", "key", lambda: torch.func.vmap(MODEL.init)(fr.random.split(KEY, 2))),
    ("register_layer", "layer_type", lambda: fr.register_layer(bad(3), lambda layer, x: x)),
    ("from_module", "module", lambda: fr.from_module(bad(lambda: "resnet18"))),
    ("from_module", "state", lambda: NORMAL.apply(NORMAL_VARIABLES[0], {}, X)),
    ("from_module", "key", lambda: MODEL.apply(MODEL_PARAMS, MODEL_STATE, X, key=bad(0))),
    ("from_module", "rates", lambda: MODEL.apply(MODEL_PARAMS, MODEL_STATE, X, rates=0.5)),
    ("from_module", "rates", lambda: MODEL.apply(MODEL_PARAMS, MODEL_STATE, X, key=KEY, rates=-0.5)),
    ("to_module", "module", lambda: fr.to_module(bad(3), {}, {})),
    ("to_module", "params", lambda: fr.to_module(nn.BatchNorm1d(3), bad(None), NORMAL_VARIABLES[1])),
    ("to_module", "state", lambda: fr.to_module(nn.BatchNorm1d(3), NORMAL_VARIABLES[0], {})),
    ("to_module", "weight", lambda: fr.to_module(nn.BatchNorm1d(2), *NORMAL_VARIABLES)),
    ("to_module", "weight", lambda: fr.to_module(nn.Linear(1, 1), bad({"weight": 0.0, "bias": 0.0}), {})),
    ("model_members", "model", lambda: fr.model_members(bad(nn.Linear(2, 2)), KEY, 2)),
    ("model_members", "model.init", lambda: fr.model_members(fr.from_module(nn.Linear(2, 2)), KEY, 2)),
    ("model_members", "key", lambda: fr.model_members(MODEL, bad(0), 2)),
    ("decay_mask", "model", lambda: fr.decay_mask(bad({"weight": X}))),
    ("decay_mask", "module", lambda: fr.decay_mask(bad(lambda: 3))),
    ("decay_mask", "embeddings", lambda: fr.decay_mask(MODEL, embeddings=bad("yes"))),
    ("decay_mask", "mask", lambda: fr.decay_mask(nn.Linear(2, 2))("head.weight", X)),
    ("check", "model", lambda: fr.check(bad(nn.Linear(2, 2)), X)),
    ("check", "model", lambda: fr.check(fr.Model(MODEL.init, bad(lambda params, state, x: (x, state))), X)),
    ("check", "params", lambda: fr.check(NORMAL, X, params={}, state=NORMAL_VARIABLES[1])),
    ("check", "state", lambda: fr.check(NORMAL, X, params=NORMAL_VARIABLES[0])),
    ("register_layer", "forward", lambda: fr.register_layer(nn.Linear, bad(3))),
    ("register_layer", "layer_type", lambda: fr.register_layer("Linear", None)),
    ("register_layer", "forward", lambda: fr.register_layer(nn.Linear, None, rate="p")),
    ("register_layer", "forward", lambda: fr.register_layer(nn.Linear, None, tracks=True)),
    ("register_layer", "rate", lambda: fr.register_layer(nn.Linear, lambda layer, x: x, rate=bad(0.5))),
    ("register_layer", "prepare", lambda: fr.register_layer(nn.Linear, lambda layer, x: x, prepare=bad(0.5))),
]
