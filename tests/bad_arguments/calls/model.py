"""Good calls of what makes models, and of models."""

from torch import nn

import funcreg as fr
from tests.bad_arguments.call import KEY, Call, X, call


def make() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))


class Layer(nn.Module):
    """Nobody else's."""


MODEL = fr.from_module(make)
PARAMS, STATE = MODEL.init(KEY)

CALLS: list[Call] = [
    call("from_module", fr.from_module, module=make, rnn="native"),
    call("from_module().init", MODEL.init, key=KEY),
    call("from_module().apply", lambda args, **settings: MODEL.apply(
            settings.pop("params"), settings.pop("state"), args, **settings),
         params=PARAMS, state=STATE, args=X, key=KEY, train=True, rates=0.3, momentum=0.1, method="forward",
         frozen=("1",), kwargs={}),
    call("variables", fr.variables, module=make()),
    call("to_module", fr.to_module, module=make, params=PARAMS, state=STATE),
    call("model_members", fr.model_members, model=MODEL, key=KEY, members=2),
    call("check", lambda model, args, params, state: fr.check(model, args, params=params, state=state), model=MODEL,
         args=X, params=PARAMS, state=STATE),
    call("decay_mask", fr.decay_mask, model=MODEL, embeddings=False),
    call("decay_mask()", lambda mask: fr.decay_mask(MODEL)(mask, X), mask="0.weight"),
    call("register_layer", fr.register_layer, layer_type=Layer, forward=lambda layer, x: x, rate="p",
         prepare=lambda layer: None, tracks=False),
]  # fmt: skip
