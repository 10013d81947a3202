"""Every public function with example arguments, for `tests/test_contract.py`.

A `Case` calls one function with tensors: `inputs` that it computes with, `settings` that tune it
(three values each, so that they can be batched), and a key. What is no function of tensors is in
`EXEMPT`, with the reason and the file that tests it.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import funcreg as fr
from funcreg import losses, noise, norm, optim, penalties, train, transforms, tree, uncertainty

Settings = tuple[float, float, float]


@dataclass(frozen=True)
class Case:
    """`call(**inputs, **settings, key=key)` of one public function, `name`, under a variant of that name."""

    name: str
    call: Callable[..., Any]
    inputs: Mapping[str, Any] = field(default_factory=dict)  # trees of tensors, floating-point ones in float64
    settings: Mapping[str, Settings] = field(default_factory=dict)
    keyed: bool = False
    variant: str = ""
    dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32, torch.bfloat16)
    at_least_float32: bool = False  # 16-bit inputs give float32
    fixed_dtype: bool = False  # the result's dtype does not come from the inputs
    has_slope: bool = True
    constant: tuple[str, ...] = ()  # inputs that nobody differentiates

    def __str__(self) -> str:
        return f"{self.name}[{self.variant}]" if self.variant else self.name


def drawn(seed: int, *shape: int) -> Tensor:
    return fr.random.normal(fr.random.key(1000 + seed), shape, dtype=torch.float64)


def _update_twice(transform: transforms.Transform, grads: Any, params: Any) -> Any:
    """The second update, and the state after it: the first may be special."""
    state = transform.init(params)
    updates, state = transform.update(grads, state, params)
    updates, state = transform.update(grads, state, fr.optim.apply_updates(params, updates))
    return updates, state


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class _Mask:
    """A model by hand, for what takes one."""

    def apply(self, params: Any, state: Any, x: Tensor, *, key: Tensor, rates: Any = None) -> tuple[Tensor, Any]:
        return noise.dropout(x, 0.5 if rates is None else rates, key=key) @ params["w"], state


def _loss_fn(params: Any, state: Any, batch: train.Batch, *, key: Tensor, hparams: Any) -> Any:
    logits = noise.dropout(batch.x, hparams["rate"], key=key) @ params["w"]
    return losses.cross_entropy(logits, batch.y), (state, {"accuracy": losses.accuracy(logits, batch.y)})


def _optimizer(hparams: Any) -> transforms.Transform:
    return optim.adamw(hparams["lr"], weight_decay=hparams["decay"])


_STEP_ONCE = train.make_step(
    _loss_fn, _optimizer, penalties={"l2": lambda params, hparams: penalties.l2(params, hparams["decay"])}
)


def _train_once(params: Any, x: Tensor, y: Tensor, lr: Any, decay: Any, rate: Any, key: Tensor) -> Any:
    hparams = {"lr": lr, "decay": decay, "rate": rate}
    state = train.init(params, {}, _optimizer, key=key, hparams=hparams)
    return _STEP_ONCE(state, train.Batch(x, y), hparams)


def _stop(values: Tensor, min_delta: Any) -> Any:
    stopping = train.early_stopping(2, min_delta)
    state = stopping.init()
    for value in values:
        state = stopping.update(state, value)
    return state


X, IMAGES = {"x": drawn(0, 6, 5)}, {"x": drawn(1, 3, 2, 4, 5)}
PARAMS = {"0.weight": drawn(2, 4, 3), "0.bias": drawn(3, 4), "head": {"weight": drawn(4, 2, 4)}}
TREES = {"tree": PARAMS}
STEPPED = {
    "grads": {"weight": drawn(5, 4, 3), "bias": drawn(6, 3)},
    "params": {"weight": drawn(7, 4, 3), "bias": drawn(8, 3)},
}
CLASSES = torch.tensor([0, 1, 3, 2, 1, 0])
LOGITS = {"logits": drawn(9, 6, 4), "targets": CLASSES}
SOFT = {"logits": drawn(9, 6, 4), "targets": torch.softmax(drawn(10, 6, 4), dim=-1)}
SIGNALS = {"predictions": drawn(11, 3, 8), "targets": drawn(12, 3, 8)}
PROBABILITIES = {"probabilities": torch.softmax(drawn(13, 6, 4), dim=-1), "targets": CLASSES}
RATE, STRENGTH, LR = {"rate": (0.0, 0.3, 1.0)}, {"strength": (0.0, 0.1, 2.0)}, {"lr": (0.0, 0.1, 1.0)}

_MODEL = fr.from_module(_Net())
_PARAMS, _STATE = (tree.cast(each, torch.float64) for each in fr.variables(_Net()))

RANDOM = [
    Case("random.bits", lambda key: fr.random.bits(key, (3, 5)), keyed=True),
    Case("random.split", lambda key: fr.random.split(key, 3), keyed=True),
    Case("random.fold_in", lambda data, key: fr.random.fold_in(key, data), {"data": torch.tensor(5)}, keyed=True),
    Case("random.skip", lambda key: fr.random.skip(key, 10), keyed=True),
    Case("random.key", lambda seed: fr.random.key(seed), {"seed": torch.tensor(5)}),
    Case(
        "random.uniform",
        lambda low, high, key: fr.random.uniform(key, (3, 5), low=low, high=high),
        settings={"low": (-1.0, 0.0, 0.5), "high": (0.5, 1.0, 3.0)},
        keyed=True,
    ),
    Case(
        "random.normal",
        lambda mean, std, key: fr.random.normal(key, (3, 5), mean=mean, std=std, dtype=torch.float64),
        settings={"mean": (-1.0, 0.0, 0.5), "std": (0.0, 1.0, 3.0)},
        keyed=True,
    ),
    Case(
        "random.truncated_normal",
        lambda low, high, mean, std, key: fr.random.truncated_normal(
            key, (3, 5), low=low, high=high, mean=mean, std=std, dtype=torch.float64
        ),
        settings={"low": (-1.0, -3.0, 0.5), "high": (0.5, 1.0, 3.0), "mean": (0.0, 1.0, 2.0), "std": (0.0, 1.0, 3.0)},
        keyed=True,
    ),
    Case(
        "random.bernoulli",
        lambda p, key: fr.random.bernoulli(key, p, (40,)),
        settings={"p": (0.2, 0.5, 0.9)},
        keyed=True,
    ),
    Case("random.randint", lambda key: fr.random.randint(key, (9,), -3, 50), keyed=True),
    Case("random.permutation", lambda key: fr.random.permutation(key, 20), keyed=True),
    Case(
        "random.categorical",
        lambda logits, key: fr.random.categorical(key, logits),
        {"logits": drawn(14, 30, 4)},
        keyed=True,
        fixed_dtype=True,
        has_slope=False,
    ),
    Case(
        "random.gamma",
        lambda alpha, key: fr.random.gamma(key, alpha, (5,)),
        settings={"alpha": (0.1, 1.0, 20.0)},
        keyed=True,
    ),
    Case(
        "random.beta",
        lambda a, b, key: fr.random.beta(key, a, b, (5,)),
        settings={"a": (0.1, 1.0, 20.0), "b": (3.0, 0.5, 2.0)},
        keyed=True,
    ),
]  # fmt: skip

TREE = [
    Case("tree.map", lambda tree: fr.tree.map(lambda a, b: a * b, tree, tree), TREES),
    Case("tree.map_named", lambda tree: fr.tree.map_named(lambda name, leaf: leaf * len(name), tree), TREES),
    Case("tree.leaves", lambda tree: fr.tree.leaves(tree), TREES),
    Case("tree.norm", lambda tree: fr.tree.norm(tree), TREES),
    Case(
        "tree.where",
        lambda condition, true, false: fr.tree.where(condition, true, false),
        {"condition": torch.tensor(True), "true": PARAMS, "false": tree.zeros_like(PARAMS)},
    ),
    Case("tree.stack", lambda tree: fr.tree.stack([tree, tree]), TREES),
    Case("tree.unstack", lambda tree: fr.tree.unstack(tree), {"tree": {"a": drawn(15, 3, 2), "b": drawn(16, 3)}}),
    Case("tree.index", lambda tree, at: fr.tree.index(tree, at), {"tree": X, "at": torch.tensor([1])}),
    Case("tree.partition", lambda tree: fr.tree.partition(tree, fr.tree.is_weight), TREES),
    Case("tree.merge", lambda one, other: fr.tree.merge(one, other), {"one": X, "other": {"b": drawn(18, 2)}}),
    Case("tree.select", lambda tree: dict(fr.tree.select(tree, fr.tree.is_weight)), TREES),
    Case("tree.zeros_like", lambda tree: fr.tree.zeros_like(tree), TREES),
    Case("tree.cast", lambda tree: fr.tree.cast(tree, torch.float64), TREES, fixed_dtype=True),
    Case("tree.to", lambda tree: fr.tree.to(tree, "cpu"), TREES),
    Case("tree.clone", lambda tree: fr.tree.clone(tree), TREES, has_slope=False),
]  # fmt: skip

LOSSES = [
    *(
        Case(
            "losses.cross_entropy",
            lambda logits, targets, weight, smoothing: losses.cross_entropy(
                logits, targets, smoothing=smoothing, weight=weight.exp()
            ),
            {**inputs, "weight": drawn(19, 4)},
            {"smoothing": (0.0, 0.1, 1.0)},
            variant=variant,
            at_least_float32=True,
        )
        for variant, inputs in (("integers", LOGITS), ("soft", SOFT))
    ),
    Case(
        "losses.binary_cross_entropy",
        lambda logits, targets, smoothing: losses.binary_cross_entropy(logits, targets, smoothing=smoothing),
        SOFT,
        {"smoothing": (0.0, 0.1, 1.0)},
        at_least_float32=True,
    ),
    *(
        Case(f"losses.{function.__name__}", lambda predictions, targets, f=function: f(predictions, targets),
             SIGNALS, at_least_float32=True)
        for function in (losses.mse, losses.mae, losses.correlation, losses.spectral_l2)
    ),
    Case("losses.accuracy", losses.accuracy, LOGITS, fixed_dtype=True, has_slope=False),
]  # fmt: skip

PENALTIES = [
    Case("penalties.l1", penalties.l1, {"params": PARAMS}, STRENGTH, at_least_float32=True),
    Case(
        "penalties.l2",
        lambda params, strength: penalties.l2(params, strength, mask=tree.is_weight),
        {"params": PARAMS},
        STRENGTH,
        at_least_float32=True,
    ),
    Case(
        "penalties.elastic_net",
        penalties.elastic_net,
        {"params": PARAMS},
        {"l1_strength": (0.0, 0.1, 2.0), "l2_strength": (1.0, 0.0, 0.3)},
        at_least_float32=True,
    ),
]

NOISE = [
    Case("noise.dropout", noise.dropout, X, RATE, keyed=True),
    Case("noise.channel_dropout", noise.channel_dropout, {"x": drawn(20, 4, 5, 3)}, RATE, keyed=True),
    Case("noise.alpha_dropout", noise.alpha_dropout, X, RATE, keyed=True),
    Case("noise.gaussian_dropout", noise.gaussian_dropout, X, RATE, keyed=True),
    Case("noise.gaussian_noise", noise.gaussian_noise, X, {"std": (0.0, 0.3, 2.0)}, keyed=True),
    Case("noise.drop_path", noise.drop_path, {"x": drawn(21, 20, 2)}, RATE, keyed=True, variant="row"),
    Case(
        "noise.drop_block",
        lambda x, rate, key: noise.drop_block(x, rate, key=key, block_size=2),
        IMAGES,
        RATE,
        keyed=True,
    ),
    Case("noise.drop_connect", noise.drop_connect, {"params": PARAMS}, RATE, keyed=True),
]

NORM = [
    Case(
        "norm.batch_norm",
        lambda x, stats, scale, shift, momentum, eps, train=train_mode: norm.batch_norm(
            x, stats, scale=scale, shift=shift, train=train, momentum=momentum, eps=eps
        )[0],
        {**IMAGES, "stats": norm.init_batch_stats(2), "scale": drawn(22, 2), "shift": drawn(23, 2)},
        {"momentum": (0.0, 0.1, 1.0), "eps": (1e-5, 1e-3, 0.1)},
        variant="train" if train_mode else "evaluate",
    )
    for train_mode in (True, False)
] + [
    Case(
        "norm.batch_norm",
        lambda x, stats, momentum: norm.batch_norm(x, stats, train=True, momentum=momentum)[1],
        {**IMAGES, "stats": tree.cast(norm.init_batch_stats(2), torch.float64)},
        {"momentum": (0.0, 0.1, 1.0)},
        variant="statistics",
    )
]

MODEL = [
    Case(
        "from_module",
        lambda params, state, x, rates, key, train=train_mode: _MODEL.apply(
            params, state, x, key=key, train=train, rates=rates
        ),
        {"params": _PARAMS, "state": _STATE, "x": drawn(24, 6, 3)},
        {"rates": (0.1, 0.5, 0.8)},
        keyed=True,
        variant="train" if train_mode else "monte carlo",
        dtypes=(torch.float64, torch.float32),
        constant=("state",),
    )
    for train_mode in (True, False)
]

TRANSFORMS = [
    Case(
        "transforms.chain",
        lambda grads, params, max_norm, lr: _update_twice(
            transforms.chain(transforms.clip_by_global_norm(max_norm), transforms.scale_by_learning_rate(lr)),
            grads,
            params,
        )[0],
        STEPPED,
        {"max_norm": (0.0, 1.0, 100.0), **LR},
    ),
    Case(
        "transforms.clip_by_global_norm",
        lambda grads, params, max_norm: _update_twice(transforms.clip_by_global_norm(max_norm), grads, params)[0],
        STEPPED,
        {"max_norm": (0.0, 1.0, 100.0)},
    ),
    Case(
        "transforms.add_decayed_weights",
        lambda grads, params, decay: _update_twice(
            transforms.add_decayed_weights(decay, mask=tree.is_weight), grads, params
        )[0],
        STEPPED,
        {"decay": (0.0, 0.1, 1.0)},
    ),
    Case(
        "transforms.freeze",
        lambda grads, params: _update_twice(transforms.freeze(tree.is_weight), grads, params)[0],
        STEPPED,
    ),
    Case(
        "transforms.momentum",
        lambda grads, params, decay, dampening: _update_twice(
            transforms.momentum(decay, dampening=dampening), grads, params
        )[0],
        STEPPED,
        {"decay": (0.0, 0.9, 1.0), "dampening": (0.0, 0.5, 1.0)},
    ),
    Case(
        "transforms.scale_by_adam",
        lambda grads, params, b1, b2, eps: _update_twice(transforms.scale_by_adam(b1, b2, eps), grads, params)[0],
        STEPPED,
        {"b1": (0.0, 0.9, 0.99), "b2": (0.5, 0.9, 0.999), "eps": (1e-8, 1e-4, 1.0)},
    ),
    Case(
        "transforms.scale_by_learning_rate",
        lambda grads, params, lr: _update_twice(transforms.scale_by_learning_rate(lr), grads, params)[0],
        STEPPED,
        LR,
    ),
]  # fmt: skip

_DECAY = {"weight_decay": (0.0, 0.1, 0.5)}
_STEP = {"step": torch.tensor(7)}
OPTIM = [
    Case("optim.apply_updates", lambda grads, params: optim.apply_updates(params, grads), STEPPED),
    Case(
        "optim.sgd",
        lambda grads, params, lr, momentum, weight_decay: _update_twice(
            optim.sgd(lr, momentum=momentum, weight_decay=weight_decay), grads, params
        )[0],
        STEPPED,
        {**LR, "momentum": (0.0, 0.5, 0.9), **_DECAY},
    ),
    *(
        Case(
            f"optim.{make.__name__}",
            lambda grads, params, lr, b1, b2, eps, weight_decay, make=make: _update_twice(
                make(lr, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay), grads, params
            )[0],
            STEPPED,
            {**LR, "b1": (0.0, 0.9, 0.99), "b2": (0.5, 0.9, 0.999), "eps": (1e-8, 1e-4, 1.0), **_DECAY},
        )
        for make in (optim.adam, optim.adamw)
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
        "optim.warmup_cosine",
        lambda step, value, warmup, steps, initial, final: optim.warmup_cosine(
            value, warmup=warmup, steps=steps, initial=initial, final=final
        )(step),
        _STEP,
        {"value": (0.0, 0.1, 1.0), "warmup": (3.0, 7.0, 9.0), "steps": (12.0, 15.0, 10.0),
         "initial": (0.0, 0.01, 0.02), "final": (0.0, 0.01, 0.5)},
    ),
]  # fmt: skip

TRAIN = [
    Case(
        "train.make_step",
        _train_once,
        {"params": {"w": drawn(25, 3, 4)}, "x": drawn(26, 6, 3), "y": CLASSES},
        {**LR, "decay": (0.0, 0.1, 0.5), "rate": (0.0, 0.3, 0.9)},
        keyed=True,
        fixed_dtype=True,  # metrics and counters have their own
    ),
    Case(
        "train.early_stopping",
        _stop,
        {"values": drawn(27, 6)},
        {"min_delta": (0.0, 0.1, 1.0)},
        fixed_dtype=True,
        has_slope=False,
    ),
]  # fmt: skip

UNCERTAINTY = [
    Case(
        "uncertainty.mc_dropout",
        lambda params, x, rates, key: uncertainty.mc_dropout(
            _Mask(), params, {}, x, key=key, samples=5, chunk_size=3, rates=rates
        ),
        {"params": {"w": drawn(28, 5, 4)}, **X},
        {"rates": (0.1, 0.3, 0.9)},
        keyed=True,
        at_least_float32=True,
    ),
    Case(
        "uncertainty.from_samples",
        lambda probabilities: uncertainty.from_samples(probabilities),
        {"probabilities": torch.softmax(drawn(29, 5, 6, 4), dim=-1)},
        at_least_float32=True,
    ),
    Case(
        "uncertainty.entropy",
        lambda probabilities: uncertainty.entropy(probabilities),
        {"probabilities": torch.tensor([[1.0, 0.0], [0.3, 0.7]], dtype=torch.float64)},
        at_least_float32=True,
    ),
    *(
        Case(f"uncertainty.{score.__name__}", lambda probabilities, targets, f=score: f(probabilities, targets),
             PROBABILITIES, at_least_float32=True)
        for score in (uncertainty.negative_log_likelihood, uncertainty.brier, uncertainty.expected_calibration_error)
    ),
]  # fmt: skip

GROUPS: dict[str, list[Case]] = {
    "random": RANDOM,
    "tree": TREE,
    "losses": LOSSES,
    "penalties": PENALTIES,
    "noise": NOISE,
    "norm": NORM,
    "model": MODEL,
    "transforms": TRANSFORMS,
    "optim": OPTIM,
    "train": TRAIN,
    "uncertainty": UNCERTAINTY,
}
CASES = [case for cases in GROUPS.values() for case in cases]

# name: (why the contract does not fit, the file that tests it)
EXEMPT: dict[str, tuple[str, str]] = {
    "random.backend": ("says a name", "test_random.py"),
    "random.use_backend": ("a context", "test_random.py"),
    "random.compiled_draws_are": ("a context", "test_random.py"),
    "tree.names": ("gives strings", "test_tree.py"),
    "tree.members": ("gives an integer", "test_tree.py"),
    "tree.count": ("gives an integer", "test_tree.py"),
    "tree.is_weight": ("gives a Python bool", "test_tree.py"),
    "norm.init_batch_stats": ("takes no tensor", "test_norm.py"),
    "sweep.grid": ("takes Python numbers", "test_sweep.py"),
    "train.init": ("called by the case of make_step", "test_train.py"),
    "train.fit": ("the Python loop", "test_train.py"),
    "train.make_evaluate": ("a Python loop over a data set", "test_train.py"),
    "checkpoint.save": ("writes a file", "test_checkpoint.py"),
    "checkpoint.load": ("reads a file", "test_checkpoint.py"),
    "checkpoint.read_metadata": ("reads a file", "test_checkpoint.py"),
    "jit": ("used by the contract itself", "test_jit.py"),
    "can_compile": ("asks about the machine", "test_jit.py"),
    "check": ("a report on a module", "test_model.py"),
    "variables": ("takes a module", "test_model.py"),
    "to_module": ("gives a module", "test_model.py"),
    "model_members": ("runs a module's own initialisation", "test_model.py"),
    "register_layer": ("a registration", "test_model.py"),
}


def public_functions() -> Iterator[str]:
    """`module.function` for every public callable of every public module, and those of the top level."""
    for name in fr.__all__:
        value = getattr(fr, name)
        if isinstance(value, ModuleType):
            for inner, function in vars(value).items():
                own = getattr(function, "__module__", "").startswith(value.__name__)
                if own and not inner.startswith("_") and _is_function(function):
                    yield f"{name}.{inner}"
        elif _is_function(value):
            yield name


def _is_function(value: Any) -> bool:
    """Whether a contract fits: not a state (a tuple), an exception, a warning, a protocol or a type alias."""
    if inspect.isclass(value):
        return not issubclass(value, tuple | BaseException) and not getattr(value, "_is_protocol", False)
    return inspect.isfunction(value)
