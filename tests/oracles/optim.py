"""`optim` against torch.optim and its lr_scheduler: the change of the weights over a run of many steps."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import funcreg as fr
from funcreg import optim, transforms, tree
from tests.oracles import Pair, oracle

STEPS = 300
T = torch.optim.lr_scheduler
untyped: Any = optim  # for arguments that pyright cannot follow


def start(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    weight, bias = fr.random.split(fr.random.key(3))
    return {"weight": fr.random.normal(weight, (4, 5), dtype=dtype), "bias": fr.random.normal(bias, (4,), dtype=dtype)}


def loss(weights: dict[str, Tensor], step: int) -> Tensor:
    """Another direction at each step, one weight that never matters, and curvature."""
    direction = torch.cos(torch.arange(5.0, dtype=weights["weight"].dtype) + 0.3 * step)
    direction = direction * torch.tensor([1, 1, 1, 1, 0])
    return (torch.tanh(weights["weight"] @ direction + weights["bias"]) ** 2).sum() + 0.1 * weights["bias"].sum()


def torch_run(
    make: Callable[..., Any], weights: dict[str, Tensor], schedule: Callable[..., Any] | None = None, steps: int = STEPS
) -> dict[str, Tensor]:
    leaves = {name: leaf.clone().requires_grad_() for name, leaf in weights.items()}
    optimizer = make(list(leaves.values()))
    with warnings.catch_warnings():
        # SequentialLR calls its schedulers with the epoch that torch deprecated.
        warnings.filterwarnings("ignore", "The epoch parameter", UserWarning)
        scheduler = schedule(optimizer) if schedule else None
        for step in range(steps):
            optimizer.zero_grad()
            loss(leaves, step).backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
    return {name: leaf.detach() for name, leaf in leaves.items()}


def our_run(optimizer: transforms.Transform, weights: dict[str, Tensor], steps: int = STEPS) -> dict[str, Tensor]:
    state = optimizer.init(weights)
    for step in range(steps):
        grads = torch.func.grad(loss)(weights, step)
        updates, state = optimizer.update(grads, state, weights)
        weights = optim.apply_updates(weights, updates)
    return weights


def changes(ours: tree.Tree, theirs: tree.Tree, begin: tree.Tree) -> Pair:
    """How far each went from the start, and the error in units of the second: its tolerance is relative."""
    change = tree.map(torch.sub, theirs, begin)
    assert tree.norm(change) > 0.1, "the reference did not move"
    size = tree.norm(change)
    return tree.map(lambda leaf, begun: (leaf - begun) / size, ours, begin), tree.map(lambda leaf: leaf / size, change)


def torchs(name: str, lr: float, numbers: dict[str, Any]) -> Callable[..., Any]:
    """A torch optimizer from our names for its numbers."""
    numbers = dict(numbers)
    if name == "RMSprop":
        numbers["alpha"] = numbers.pop("decay", 0.99)
    elif name != "SGD":
        numbers["betas"] = (numbers.pop("b1", 0.9), numbers.pop("b2", 0.999))
    return lambda leaves: getattr(torch.optim, name)(leaves, lr=lr, **numbers)


OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"weight_decay": 0.03}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.03}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.03}),
    ("Adam", {}),
    ("Adam", {"b1": 0.7, "b2": 0.9, "eps": 1e-4, "weight_decay": 0.05}),
    ("AdamW", {}),
    ("AdamW", {"b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.2}),
    ("NAdam", {}),
    ("NAdam", {"b1": 0.7, "b2": 0.9, "eps": 1e-4, "momentum_decay": 0.3, "weight_decay": 0.05}),
    ("RAdam", {}),
    ("RAdam", {"b1": 0.7, "b2": 0.9, "eps": 1e-4, "weight_decay": 0.05}),
    ("RAdam", {"b2": 0.5}),  # whose variance is never to be trusted
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9}),
    ("RMSprop", {"decay": 0.9, "eps": 1e-4, "centered": True, "momentum": 0.5, "weight_decay": 0.05}),
]


def _as_tensors(numbers: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, bool) else torch.tensor(value, dtype=torch.float64)
        for name, value in numbers.items()
    }


def _add_optimizer(name: str, numbers: dict[str, Any], *, tensors: bool) -> None:
    function = name.lower()
    given = ", ".join(f"{key}={value}" for key, value in numbers.items())
    kind = ", numbers as tensors" if tensors else ""
    # torch keeps the product of NAdam's momenta in float32.
    tolerance, also = (1e-8, "; torch's product of momenta is in float32") if name == "NAdam" else (1e-12, "")

    @oracle(
        f"optim.{function}",
        against=f"torch.optim.{name}({given}), {STEPS} steps{kind}",
        tolerance=tolerance,
        because=f"float64; another order of rounding, over all steps; relative{also}",
    )
    def row() -> Pair:
        ours = _as_tensors({"lr": 0.01, **numbers}) if tensors else {"lr": 0.01, **numbers}
        optimizer = getattr(optim, function)(**ours)
        return changes(our_run(optimizer, start()), torch_run(torchs(name, 0.01, numbers), start()), start())


for _name, _numbers in OPTIMIZERS:
    for _tensors in (False, True):
        _add_optimizer(_name, _numbers, tensors=_tensors)


@oracle(
    "optim.adam",
    against="torch.optim.Adam, 1000 steps, numbers as float32 tensors",
    tolerance=1e-11,
    because="1 - b2 and the corrections are taken in float64, from the float32 that was given",
)
def float32_numbers() -> Pair:
    held = {name: torch.tensor(value) for name, value in {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "lr": 0.01}.items()}
    numbers = {name: value.item() for name, value in held.items()}
    theirs = torch_run(torchs("Adam", numbers.pop("lr"), numbers), start(), steps=1000)
    return changes(our_run(untyped.adam(held.pop("lr"), **held), start(), 1000), theirs, start())


@oracle(
    "optim.adam",
    against=f"torch.optim.Adam in float32, {STEPS} steps",
    tolerance=1e-5,
    because="each step rounds by 6e-8 of the weight",
)
def float32_parameters() -> Pair:
    begin = start(torch.float32)
    return changes(our_run(optim.adam(torch.tensor(0.01)), begin), torch_run(torchs("Adam", 0.01, {}), begin), begin)


@oracle(
    "optim.lion",
    against=f"timm.optim.Lion, {STEPS} steps, with decay and numbers as tensors too",
    tolerance=1e-11,
    because="float64; timm decays before it steps",
)
def lion() -> Pair:
    numbers, timms = {"b1": 0.8, "b2": 0.95, "weight_decay": 0.3}, pytest.importorskip("timm.optim")

    def theirs(leaves: list[Tensor]) -> torch.optim.Optimizer:
        return timms.Lion(leaves, lr=0.003, betas=(0.8, 0.95), weight_decay=0.3, foreach=False)

    reference = torch_run(theirs, start())
    pairs = [
        changes(our_run(untyped.lion(**given), start()), reference, start())
        for given in ({"lr": 0.003, **numbers}, _as_tensors({"lr": 0.003, **numbers}))
    ]
    return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]


class InOwnDtype(TorchFunctionMode):
    """torch.optim.Muon's products are in bfloat16; inside, they are in the dtype of the gradients."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.bfloat16:
            return args[0].clone()
        if func is Tensor.to and kwargs.get("dtype") is torch.bfloat16:
            kwargs["dtype"] = args[0].dtype
        return func(*args, **kwargs)


def matrix(*shape: int) -> dict[str, Tensor]:
    return {"weight": fr.random.normal(fr.random.key(4), shape, dtype=torch.float64), "bias": start()["bias"][:3]}


def matrix_loss(weights: dict[str, Tensor], step: int) -> Tensor:
    x = torch.cos(torch.arange(float(weights["weight"].shape[1]), dtype=torch.float64) + 0.3 * step)
    return (torch.tanh(weights["weight"] @ x) ** 2).sum() + (weights["bias"] ** 2).sum()


def _add_muon(shape: tuple[int, int], numbers: dict[str, Any], adjust: str) -> None:
    @oracle(
        "optim.muon",
        against=f"torch.optim.Muon({numbers}, {adjust!r}) with its products in float64, and Adam, 100 steps, {shape}",
        tolerance=1e-9,
        because="float64; the iteration, which has slope 3.4 at 0, multiplies roundings; relative",
    )
    def row() -> Pair:
        begin = matrix(*shape)
        leaves = {name: leaf.clone().requires_grad_() for name, leaf in begin.items()}
        muon = torch.optim.Muon([leaves["weight"]], lr=0.02, adjust_lr_fn=adjust, **numbers)
        adam = torch.optim.Adam([leaves["bias"]], lr=0.02)
        ours = optim.muon(0.02, adjust=adjust.removesuffix("_unclamped"), **numbers)
        weights, state = begin, ours.init(begin)
        for step in range(100):
            for optimizer in (muon, adam):
                optimizer.zero_grad()
            matrix_loss(leaves, step).backward()
            with InOwnDtype():
                muon.step()
            adam.step()
            updates, state = ours.update(torch.func.grad(matrix_loss)(weights, step), state, weights)
            weights = optim.apply_updates(weights, updates)
        return changes(weights, {name: leaf.detach() for name, leaf in leaves.items()}, begin)


if hasattr(torch.optim, "Muon"):
    _add_muon((4, 6), {}, "original")
    _add_muon((6, 4), {"momentum": 0.8, "nesterov": False, "weight_decay": 0.3}, "match_rms_adamw")
    if "spectral_unclamped" in (torch.optim.Muon.__doc__ or ""):
        _add_muon((6, 4), {"momentum": 0.9}, "spectral_unclamped")


@oracle(
    "optim.muon",
    against="torch.optim.Muon as it is, in bfloat16, one step",
    tolerance=0.02,
    because="bfloat16 has 8 bits, and there are five rounds; relative",
)
def muon_in_bfloat16() -> Pair:
    begin = matrix(4, 6)
    del begin["bias"]
    leaf = begin["weight"].clone().requires_grad_()
    optimizer = torch.optim.Muon([leaf], lr=0.5, weight_decay=0.0)
    leaf.grad = torch.sin(begin["weight"])
    optimizer.step()
    ours = optim.muon(0.5, weight_decay=0.0, dtype=torch.bfloat16)
    updates, _ = ours.update({"weight": torch.sin(begin["weight"])}, ours.init(begin), begin)
    return changes(optim.apply_updates(begin, updates), {"weight": leaf.detach()}, begin)


@oracle("optim.apply_updates", against="torch.add", tolerance=0.0, because="the same operation")
def apply_updates() -> Pair:
    updates = tree.map(torch.sin, start())
    return optim.apply_updates(start(), updates), {name: torch.add(w, updates[name]) for name, w in start().items()}


SCHEDULES: dict[str, tuple[Callable[[Tensor], Any], Callable[..., Any], str]] = {
    "constant": (optim.constant(0.05), lambda o: T.ConstantLR(o, factor=1.0), "ConstantLR"),
    "step": (optim.step(0.05, every=7, factor=0.6), lambda o: T.StepLR(o, 7, 0.6), "StepLR"),
    "exponential": (optim.exponential(0.05, factor=0.97), lambda o: T.ExponentialLR(o, 0.97), "ExponentialLR"),
    "cosine": (
        optim.cosine(0.05, steps=STEPS, final=0.001),
        lambda o: T.CosineAnnealingLR(o, STEPS, 0.001),
        "CosineAnnealingLR",
    ),
    "linear": (optim.linear(0.05, steps=200, final=0.02), lambda o: T.LinearLR(o, 1.0, 0.4, 200), "LinearLR"),
    "one_cycle": (
        optim.one_cycle(0.05, steps=STEPS),
        lambda o: T.OneCycleLR(o, 0.05, STEPS, cycle_momentum=False),
        "OneCycleLR",
    ),
    "join_schedules": (
        optim.join_schedules(
            [optim.linear(0.01, steps=20, final=0.05), optim.step(0.05, every=30), optim.exponential(0.05, factor=0.9)],
            [20, 120],
        ),
        lambda o: T.SequentialLR(
            o,
            [T.LinearLR(o, 0.2, total_iters=20), T.StepLR(o, 30, 0.1), T.ExponentialLR(o, 0.9)],
            milestones=[20, 120],
        ),
        "SequentialLR of LinearLR, StepLR and ExponentialLR",
    ),
    "warmup_cosine": (
        optim.warmup_cosine(0.05, warmup=20, steps=STEPS, initial=0.005, final=0.001),
        lambda o: T.SequentialLR(
            o, [T.LinearLR(o, 0.1, total_iters=20), T.CosineAnnealingLR(o, STEPS - 20, 0.001)], milestones=[20]
        ),
        "LinearLR, then CosineAnnealingLR",
    ),
}


def _add_schedule(name: str) -> None:
    schedule, scheduler, against = SCHEDULES[name]

    @oracle(
        f"optim.{name}",
        against=f"torch's {against}, {STEPS} steps of SGD",
        tolerance=1e-11,
        because="torch multiplies the rate step by step, which rounds at each; relative",
    )
    def row() -> Pair:
        theirs = torch_run(lambda leaves: torch.optim.SGD(leaves, lr=0.05), start(), scheduler)
        return changes(our_run(optim.sgd(schedule), start()), theirs, start())


for _name in SCHEDULES:
    _add_schedule(_name)
