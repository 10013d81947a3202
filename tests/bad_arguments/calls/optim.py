"""Good calls of `optim`."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from funcreg import optim, tree
from tests.bad_arguments.call import GRADS, PARAMS, Call, call
from tests.bad_arguments.calls.transforms import of, used

SCHEDULES = {
    "constant": optim.constant(0.1),
    "cosine": optim.cosine(0.1, steps=5),
    "exponential": optim.exponential(0.1, factor=0.5),
    "step": optim.step(0.1, every=2),
    "linear": optim.linear(0.1, steps=5),
    "one_cycle": optim.one_cycle(0.1, steps=5),
    "join_schedules": optim.join_schedules([optim.constant(0.1), optim.constant(0.2)], [3]),
    "warmup_cosine": optim.warmup_cosine(0.1, warmup=2, steps=5),
}


def rate(make: Callable[..., Callable[..., Any]]) -> Callable[..., Any]:
    """The third rate of the schedule that is made of some settings."""
    return functools.wraps(make)(lambda **settings: make(**settings)(torch.tensor(2)))


CALLS: list[Call] = [
    *(
        call(f"optim.{each.__name__}", used(each), lr=0.1, b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.1,
             mask=tree.is_weight)
        for each in (optim.adam, optim.adamw)
    ),
    call("optim.rmsprop", used(optim.rmsprop), lr=0.1, decay=0.9, eps=1e-8, momentum=0.5, centered=True,
         weight_decay=0.1, mask=tree.is_weight),
    call("optim.sgd", used(optim.sgd), lr=0.1, momentum=0.5, dampening=0.0, weight_decay=0.1, nesterov=True,
         mask=tree.is_weight),
    call("optim.lion", used(optim.lion), lr=0.1, b1=0.9, b2=0.99, weight_decay=0.1, mask=tree.is_weight),
    call("optim.nadam", used(optim.nadam), lr=0.1, b1=0.9, b2=0.99, eps=1e-8, momentum_decay=0.004, weight_decay=0.1,
         mask=tree.is_weight),
    call("optim.radam", used(optim.radam), lr=0.1, b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.1, mask=tree.is_weight),
    call("optim.muon", used(optim.muon), lr=0.1, momentum=0.9, nesterov=True, steps=2, adjust="original",
         weight_decay=0.1, dtype=torch.float32, matrices=tree.is_weight, rest=optim.sgd(0.1)),
    call("optim.linear", rate(optim.linear), value=0.1, steps=5, final=0.01),
    call("optim.one_cycle", rate(optim.one_cycle), value=0.1, steps=5, pct_start=0.3, div_factor=25.0,
         final_div_factor=100.0, anneal="cosine"),
    call("optim.join_schedules", rate(optim.join_schedules), schedules=[SCHEDULES["constant"], SCHEDULES["cosine"]],
         boundaries=[3]),
    call("optim.apply_updates", optim.apply_updates, params=PARAMS, updates=GRADS),
    call("optim.constant", rate(optim.constant), value=0.1),
    call("optim.cosine", rate(optim.cosine), value=0.1, steps=5, final=0.01),
    call("optim.exponential", rate(optim.exponential), value=0.1, factor=0.5),
    call("optim.step", rate(optim.step), value=0.1, every=2, factor=0.1),
    call("optim.warmup_cosine", rate(optim.warmup_cosine), value=0.1, warmup=2, steps=5, initial=0.0, final=0.01),
    *(call(f"optim.{name}()", schedule, step=torch.tensor(3)) for name, schedule in SCHEDULES.items()),
    *of("optim.adam()", optim.adam(0.1, weight_decay=0.1)),
    *of("optim.adamw()", optim.adamw(0.1, mask=tree.is_weight)),
    *of("optim.rmsprop()", optim.rmsprop(0.1, momentum=0.5, centered=True)),
    *of("optim.lion()", optim.lion(0.1)),
    *of("optim.nadam()", optim.nadam(0.1)),
    *of("optim.radam()", optim.radam(0.1)),
    *of("optim.muon()", optim.muon(0.1, steps=2, matrices=tree.is_weight)),
    *of("optim.sgd()", optim.sgd(0.1)),
    *of("optim.sgd(momentum)", optim.sgd(optim.cosine(0.1, steps=5), momentum=0.5, nesterov=True)),
]  # fmt: skip
