"""Cases of `optim`."""

import torch

from funcreg import optim
from tests.contract.case import ONE_STEPPED, STEPPED, Case, last_update

# The first of four members learns, where the second, of rate 0, shows nothing of the updates that it scales.
_LR, _DECAY = {"lr": (0.5, 0.0, 0.1, 1.0)}, {"weight_decay": (0.0, 0.0, 0.1, 0.5)}
_BETAS = {"b1": (0.0, 0.0, 0.9, 0.99), "b2": (0.5, 0.5, 0.9, 0.999)}
_EPS = {"eps": (1e-8, 1e-8, 1e-4, 1.0)}

_STEP = {"step": torch.tensor(7)}

CASES = [
    Case("optim.apply_updates", lambda grads, params: optim.apply_updates(params, grads), STEPPED),
    *(
        Case(
            f"optim.{make.__name__}",
            lambda grads, params, lr, momentum, weight_decay, make=make: last_update(
                make(lr, momentum=momentum, weight_decay=weight_decay), grads, params
            )[0],
            STEPPED,
            {**_LR, "momentum": (0.0, 0.0, 0.5, 0.9), **_DECAY},
        )
        for make in (optim.sgd, optim.muon)
    ),
    *(
        Case(
            f"optim.{make.__name__}",
            lambda grads, params, lr, b1, b2, eps, weight_decay, make=make: last_update(
                make(lr, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay), grads, params
            )[0],
            STEPPED,
            {**_LR, **_BETAS, **_EPS, **_DECAY},
            compiled=ONE_STEPPED,
        )
        for make in (optim.adam, optim.adamw, optim.radam)
    ),
    Case(
        "optim.nadam",
        lambda grads, params, lr, weight_decay, **given: last_update(
            optim.nadam(lr, weight_decay=weight_decay, **given), grads, params
        )[0],
        STEPPED,
        {**_LR, **_BETAS, **_EPS, "momentum_decay": (0.0, 0.0, 4e-3, 1.0), **_DECAY},
        compiled=ONE_STEPPED,
    ),
    Case(
        "optim.rmsprop",
        lambda grads, params, lr, decay, eps, momentum, weight_decay: last_update(
            optim.rmsprop(lr, decay=decay, eps=eps, momentum=momentum, weight_decay=weight_decay), grads, params
        )[0],
        STEPPED,
        {**_LR, "decay": (0.0, 0.0, 0.9, 0.99), **_EPS, "momentum": (0.0, 0.0, 0.5, 0.9), **_DECAY},
        compiled=ONE_STEPPED,
    ),
    Case(
        "optim.lion",
        lambda grads, params, lr, b1, b2, weight_decay: last_update(
            optim.lion(lr, b1=b1, b2=b2, weight_decay=weight_decay), grads, params
        )[0],
        STEPPED,
        {**_LR, **_BETAS, **_DECAY},
        compiled=ONE_STEPPED,
    ),
    Case("optim.constant", lambda step, value: optim.constant(value)(step), _STEP, {"value": (0.0, 0.1, 1.0)}),
    Case(
        "optim.step",
        lambda step, value, every, factor: optim.step(value, every=every, factor=factor)(step),
        _STEP,
        {"value": (0.0, 0.1, 1.0), "every": (1.0, 3.0, 10.0), "factor": (0.1, 0.5, 1.0)},
    ),
    Case(
        "optim.exponential",
        lambda step, value, factor: optim.exponential(value, factor=factor)(step),
        _STEP,
        {"value": (0.0, 0.1, 1.0), "factor": (0.1, 0.5, 1.0)},
    ),
    Case(
        "optim.cosine",
        lambda step, value, steps, final: optim.cosine(value, steps=steps, final=final)(step),
        _STEP,
        {"value": (0.0, 0.1, 1.0), "steps": (5.0, 7.0, 10.0), "final": (0.0, 0.01, 0.5)},
    ),
    Case(
        "optim.linear",
        lambda step, value, steps, final: optim.linear(value, steps=steps, final=final)(step),
        _STEP,
        {"value": (0.0, 0.1, 1.0), "steps": (5.0, 7.0, 10.0), "final": (0.0, 0.01, 0.5)},
    ),
    Case(
        "optim.one_cycle",
        lambda step, value, steps, pct_start, div_factor, final_div_factor: optim.one_cycle(
            value, steps=steps, pct_start=pct_start, div_factor=div_factor, final_div_factor=final_div_factor
        )(step),
        _STEP,
        {"value": (0.0, 0.1, 1.0), "steps": (5.0, 12.0, 100.0), "pct_start": (0.0, 0.3, 1.0),
         "div_factor": (1.0, 25.0, 2.0), "final_div_factor": (1.0, 10.0, 1e4)},
    ),
    Case(
        "optim.join_schedules",
        lambda step, value, first, second: optim.join_schedules(
            [optim.linear(0.0, steps=first, final=value), optim.exponential(value, factor=0.9), optim.constant(value)],
            [first, second],
        )(step),
        _STEP,
        {"value": (0.0, 0.1, 1.0), "first": (3.0, 5.0, 8.0), "second": (5.0, 9.0, 10.0)},
    ),
    Case(
        "optim.warmup_cosine",
        lambda step, value, warmup, steps, initial, final: optim.warmup_cosine(
            value, warmup=warmup, steps=steps, initial=initial, final=final
        )(step),
        _STEP,
        {"value": (0.0, 0.1, 1.0), "warmup": (3.0, 7.0, 9.0), "steps": (12.0, 15.0, 10.0),
         "initial": (0.0, 0.01, 0.02), "final": (0.0, 0.01, 0.5)},
    ),
]  # fmt: skip
