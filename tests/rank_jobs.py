"""What the tests of `distributed` run, on one process or on many."""

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import funcreg as fr
from funcreg import distributed, optim, random, train, tree
from funcreg.train import Batch

KEY = random.key(5)
X = random.normal(random.key(1), (40, 5), dtype=torch.float64)
DATA = Batch(X, torch.sin(X[:, :3]) + X[:, 2:])
NOISY = fr.from_module(
    lambda: nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3))
)
PLAIN = fr.from_module(lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)))
MEMBERS = 5
HPARAMS = {"lr": torch.linspace(0.01, 0.3, MEMBERS, dtype=torch.float64)}


def optimizer(hparams: Any) -> fr.transforms.Transform:
    return optim.sgd(hparams["lr"], momentum=0.9)


def loss_of(model: fr.Model) -> Any:
    def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        output, state = model.apply(params, state, batch.x, key=key, train=True)
        near = ((output - batch.y).abs() < 0.5).double().mean()
        return fr.losses.mse(output, batch.y), (state, {"near": near, "most": batch.x.argmax()})

    return loss_fn


def penalties() -> dict[str, Any]:
    return {"l2": lambda params, hparams: fr.penalties.l2(params, 1e-3)}


def begin(model: fr.Model, members: int | None = None, dtype: torch.dtype = torch.float64) -> train.TrainState:
    if members is None:
        params, state = model.init(random.key(0))
        hparams = tree.index(HPARAMS, 2)
    else:
        params, state = fr.model_members(model, random.key(0), members)
        hparams = HPARAMS
    params, state = (tree.cast(each, dtype) for each in (params, state))
    return train.init(params, state, optimizer, key=random.key(3), hparams=hparams, members=members)


def fitted(step: Any, model: fr.Model = NOISY, data: Any = DATA, **settings: Any) -> train.FitResult:
    """Some epochs of two steps with one model."""
    given: dict[str, Any] = {"epochs": 3, "hparams": tree.index(HPARAMS, 2), "jit": False} | (
        {"batch_size": 16} if data is DATA else {}
    )
    return distributed.fit(step, begin(model), data, key=KEY, **given | settings)


def loaded(workers: int = 0) -> Any:
    """The same data in batches of a loader."""
    return train.loader(TensorDataset(*DATA), 16, key=KEY, workers=workers, drop_last=True)


def in_shards(shards: int | None, model: fr.Model = NOISY) -> Any:
    return train.make_step(distributed.data_parallel(loss_of(model), shards=shards), optimizer, penalties=penalties())


def plain(model: fr.Model) -> Any:
    return train.make_step(loss_of(model), optimizer, penalties=penalties())


def one_model() -> dict[str, Any]:
    """Everything about data-parallel steps that ranks can be compared in."""
    step, hparams = in_shards(4), tree.index(HPARAMS, 2)
    batch = tree.map(lambda leaf: leaf[:16], DATA)
    watched = step(begin(NOISY), batch, hparams)  # by torch.func
    found = {"fit": fitted(step), "watched": watched, "joined": fitted(in_shards(None, PLAIN), PLAIN)}
    vmapped = torch.func.vmap(step, (0, None, 0))
    found["members"] = vmapped(begin(NOISY, MEMBERS), batch, HPARAMS)
    with torch.no_grad():
        sharp = distributed.data_parallel(fr.sharpness.sam(loss_of(NOISY), 0.1), shards=4)
        found["sam in shards"] = train.make_step(sharp, optimizer)(begin(NOISY), batch, hparams)
        sharp = fr.sharpness.sam(distributed.data_parallel(loss_of(NOISY), shards=4), 0.1)
        found["shards in sam"] = train.make_step(sharp, optimizer)(begin(NOISY), batch, hparams)
        halves = begin(NOISY, dtype=torch.bfloat16)
        found["bfloat16"] = step(halves, tree.cast(batch, torch.bfloat16), tree.cast(hparams, torch.bfloat16))
    return found


def one_compiled_model() -> tuple[Any, Any]:
    def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        output = fr.noise.dropout(batch.x, 0.3, key=key) @ params["w"]
        return fr.losses.mse(output, batch.y), ({"mean": 0.9 * state["mean"] + 0.1 * output.mean()}, {})

    step = train.make_step(distributed.data_parallel(loss_fn), optim.sgd(0.1))
    first = {"w": torch.ones(5, 3, dtype=torch.float64)}, {"mean": torch.zeros((), dtype=torch.float64)}
    with torch.no_grad():
        given = train.init(*first, optim.sgd(0.1), key=random.key(3)), DATA
        return fr.jit(step)(*given), step(*given)


def sweep(**settings: Any) -> train.FitResult:
    stopping = train.early_stopping(torch.tensor([1, 2, 9, 1, 1]), 0.05)
    evaluate = train.make_evaluate(
        lambda params, state, batch: {"val": ((PLAIN.apply(params, state, batch.x)[0] - batch.y) ** 2).mean(1)},
        members=len(distributed.share(MEMBERS)),
    )
    settings = {"epochs": 8, "batch_size": 16, "hparams": HPARAMS, "members": MEMBERS, "jit": False, **settings}
    settings |= {"early_stopping": stopping, "monitor": "val"}
    settings["evaluate"] = lambda params, state: evaluate(params, state, DATA)
    result = distributed.fit(plain(PLAIN), begin(PLAIN, MEMBERS), DATA, key=KEY, **settings)
    return result._replace(chunk_size=0)  # which is a rank's own


def sweeps() -> dict[str, Any]:
    return {batches: sweep(batches=batches) for batches in ("shared", "own")}


def signalled(number: int, epoch: int) -> Any:
    """on_epoch that sends rank 1 a signal, once."""

    def send(done: train.Epoch) -> None:
        if done.number == epoch and distributed.rank() == 1:
            os.kill(os.getpid(), number)

    return send


def one_model_signalled(path: Path, number: int, epoch: int) -> train.FitResult:
    return fitted(in_shards(4), epochs=10_000, checkpoint=path, on_epoch=signalled(number, epoch))


def one_model_resumed(path: Path, epochs: int) -> train.FitResult:
    return fitted(in_shards(4), epochs=epochs, checkpoint=path)


def sweep_signalled(path: Path, number: int) -> train.FitResult:
    return sweep(checkpoint=path, on_epoch=signalled(number, 2))


def sweep_resumed(path: Path) -> train.FitResult:
    return sweep(checkpoint=path)


def trained(lr: Tensor) -> Tensor:
    batches = tree.stack([tree.map(lambda leaf: leaf[:16], DATA)] * 2)
    return train.unroll(in_shards(4, PLAIN), begin(PLAIN), batches, {"lr": lr})[1]["loss"][-1]


def refused() -> dict[str, str]:
    """What every rank says of bad arguments."""
    rank = distributed.rank()
    calls = {
        "key": lambda: distributed.fit(plain(PLAIN), begin(PLAIN), DATA, key=random.key(rank), epochs=1),
        "epochs": lambda: fitted(plain(PLAIN), PLAIN, epochs=1 + rank),
        "data": lambda: distributed.fit(
            plain(PLAIN), begin(PLAIN, MEMBERS), tree.map(lambda leaf: leaf + rank, DATA), key=KEY, epochs=1,
            hparams=HPARAMS, members=MEMBERS,
        ),
        "members": lambda: distributed.share(1),
        "shards": lambda: fitted(in_shards(3)),
        "batch": lambda: fitted(in_shards(4), batch_size=10),
        "step": lambda: distributed.fit(
            in_shards(2), begin(NOISY, MEMBERS), DATA, key=KEY, epochs=1, hparams=HPARAMS, members=MEMBERS, jit=False
        ),
        "data_parallel": lambda: torch.func.grad(trained)(torch.tensor(0.1, dtype=torch.float64)),
        "process_group": lambda: distributed.process_group().__enter__(),
    }  # fmt: skip
    said = {}
    for name, call in calls.items():
        try:
            call()
            said[name] = "nothing"
        except fr.FuncregError as error:
            said[name] = str(error)
    return said


def by_torch(epochs: int, lr: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters, and the first gradient, of a fit by DistributedDataParallel and torch.optim.SGD."""
    module = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    module.load_state_dict(begin(PLAIN).params)
    parallel = nn.parallel.DistributedDataParallel(module)
    by_sgd, first = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9), {}
    for epoch in range(epochs):
        order = random.permutation(random.fold_in(KEY, epoch), 40)
        for rows in order[:32].reshape(2, 16):
            own = rows.chunk(distributed.ranks())[distributed.rank()]
            by_sgd.zero_grad()
            loss = nn.functional.mse_loss(parallel(DATA.x[own]), DATA.y[own])
            loss = loss + 1e-3 * sum((leaf**2).sum() for leaf in module.parameters())
            loss.backward()
            first = first or {
                name: leaf.grad.clone() for name, leaf in module.named_parameters() if leaf.grad is not None
            }
            by_sgd.step()
    return {name: leaf.detach() for name, leaf in module.named_parameters()}, first


def beside_torch() -> dict[str, tuple[Any, Any]]:
    """What each public function gives, and what torch.distributed does."""
    lr, start = float(HPARAMS["lr"][2]), begin(PLAIN).params
    params, first = by_torch(3, lr)
    fit = fitted(in_shards(None, PLAIN), PLAIN).train_state.params
    rows = random.permutation(random.fold_in(KEY, 0), 40)[:16]
    loss_fn, batch = distributed.data_parallel(loss_of(PLAIN)), tree.index(DATA, rows)

    def loss(params: Any) -> Tensor:
        return loss_fn(params, {}, batch, key=KEY, hparams=None)[0] + fr.penalties.l2(params, 1e-3)

    split = [list(each) for each in torch.arange(MEMBERS).tensor_split(dist.get_world_size())]
    return {
        "fit": tuple(tree.map(torch.sub, each, start) for each in (fit, params)),
        "data_parallel": (torch.func.grad(loss)(start), first),
        "rank": (distributed.rank(), dist.get_rank()),
        "ranks": (distributed.ranks(), dist.get_world_size()),
        "share": (torch.tensor(list(distributed.share(MEMBERS))), torch.tensor(split[dist.get_rank()])),
    }


def places() -> tuple[int, int, range]:
    return distributed.rank(), distributed.ranks(), distributed.share(MEMBERS)


def from_source(path: Path) -> train.FitResult:
    """A fit from a loader, interrupted after an epoch and gone on with."""
    fitted(in_shards(4), data=loaded(), epochs=1, checkpoint=path)
    return fitted(in_shards(4), data=loaded(), checkpoint=path)


def from_a_source_each() -> str:
    """What is said of batches that are not the same on every rank."""
    source: Any = [Batch(*(leaf[:16] + distributed.rank() for leaf in DATA))]
    try:
        fitted(in_shards(4), data=iter(source), epochs=1)
    except fr.FuncregError as error:
        return str(error)
    return "nothing"
