"""Good calls of `optim`."""

import torch

from funcreg import optim, tree
from tests.bad_arguments.call import GRADS, PARAMS, Call, call
from tests.bad_arguments.calls.transforms import of

SCHEDULES = {
    "constant": optim.constant(0.1),
    "cosine": optim.cosine(0.1, steps=5),
    "exponential": optim.exponential(0.1, factor=0.5),
    "step": optim.step(0.1, every=2),
    "warmup_cosine": optim.warmup_cosine(0.1, warmup=2, steps=5),
}

CALLS: list[Call] = [
    *(
        call(f"optim.{each.__name__}", each, lr=0.1, b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.1,
             mask=tree.is_weight)
        for each in (optim.adam, optim.adamw)
    ),
    call("optim.rmsprop", optim.rmsprop, lr=0.1, decay=0.9, eps=1e-8, momentum=0.5, centered=True, weight_decay=0.1,
         mask=tree.is_weight),
    call("optim.sgd", optim.sgd, lr=0.1, momentum=0.5, dampening=0.0, weight_decay=0.1, nesterov=True,
         mask=tree.is_weight),
    call("optim.apply_updates", optim.apply_updates, params=PARAMS, updates=GRADS),
    call("optim.constant", optim.constant, value=0.1),
    call("optim.cosine", optim.cosine, value=0.1, steps=5, final=0.01),
    call("optim.exponential", optim.exponential, value=0.1, factor=0.5),
    call("optim.step", optim.step, value=0.1, every=2, factor=0.1),
    call("optim.warmup_cosine", optim.warmup_cosine, value=0.1, warmup=2, steps=5, initial=0.0, final=0.01),
    *(call(f"optim.{name}()", schedule, step=torch.tensor(3)) for name, schedule in SCHEDULES.items()),
    *of("optim.adam()", optim.adam(0.1, weight_decay=0.1)),
    *of("optim.adamw()", optim.adamw(0.1, mask=tree.is_weight)),
    *of("optim.rmsprop()", optim.rmsprop(0.1, momentum=0.5, centered=True)),
    *of("optim.sgd()", optim.sgd(0.1)),
    *of("optim.sgd(momentum)", optim.sgd(optim.cosine(0.1, steps=5), momentum=0.5, nesterov=True)),
]  # fmt: skip
