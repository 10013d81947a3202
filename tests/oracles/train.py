"""`train` against backward() and torch.optim in a loop, scikit-learn's scores, and torch's learning rate plateaus."""

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import swa_utils
from torch.utils.data import DataLoader, TensorDataset

import funcreg as fr
from funcreg import optim, random, train, tree
from tests.oracles import Pair, oracle

# name: why there is nothing to compare it with
WITHOUT_ORACLE = {
    "train.init": "gathers its arguments; the rows of make_step start with it",
    "train.tensorboard_log": "its files are read where the package is installed: test_logs.py",
}
HPARAMS = {"l2": 0.001, "lr": 0.05}
MEMBERS = {name: torch.tensor([0.5, 1.0, 1.5, 2.0, 3.0], dtype=torch.float64) * each for name, each in HPARAMS.items()}


def make() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).double()


MODEL = fr.from_module(make)


def data(samples: int = 64) -> train.Batch:
    x = random.normal(random.key(11), (samples, 2), dtype=torch.float64)
    return train.Batch(x, (x[:, 0] ** 2 + 0.8 * x[:, 1] > 0.5).long())


def loss_fn(params: Any, state: Any, batch: train.Batch, *, key: Tensor, hparams: Any) -> Any:
    logits, state = MODEL.apply(params, state, batch.x)
    return fr.losses.cross_entropy(logits, batch.y), (state, {"accuracy": fr.losses.accuracy(logits, batch.y)})


def optimizer(hparams: Any) -> fr.transforms.Transform:
    return optim.adam(hparams["lr"])


STEP = train.make_step(
    loss_fn, optimizer, penalties={"l2": lambda params, hparams: fr.penalties.l2(params, hparams["l2"])}
)


def torch_run(params: Any, hparams: dict[str, Any], steps: int) -> tuple[dict[str, Tensor], list[list[Tensor]]]:
    """backward() and torch.optim.Adam: how far the parameters went, and each step's loss, penalty and gradient norm."""
    module, metrics = fr.to_module(make, params, {}), []
    adam, batch = torch.optim.Adam(module.parameters(), lr=float(hparams["lr"])), data()
    for _ in range(steps):
        adam.zero_grad()
        penalty = hparams["l2"] * torch.stack([(leaf**2).sum() for leaf in module.parameters()]).sum()
        total = F.cross_entropy(module(batch.x), batch.y) + penalty
        total.backward()
        norm = torch.nn.utils.get_total_norm([leaf.grad for leaf in module.parameters() if leaf.grad is not None])
        metrics.append([total.detach(), penalty.detach(), norm])
        adam.step()
    return {name: leaf.detach() - params[name] for name, leaf in module.named_parameters()}, metrics


@oracle(
    "train.make_step",
    against="backward() and torch.optim.Adam, 100 steps",
    tolerance=1e-10,
    because="roundings of float64, which Adam's division by small roots magnifies",
)
def make_step() -> Pair:
    params, _ = MODEL.init(random.key(0))
    train_state, metrics = train.init(params, {}, optimizer, key=random.key(1), hparams=HPARAMS), []
    for _ in range(100):
        train_state, step = STEP(train_state, data(), HPARAMS)
        metrics.append([step["loss"], step["l2"], step["grad_norm"]])
    return (tree.map(torch.sub, train_state.params, params), metrics), torch_run(params, HPARAMS, 100)


@oracle(
    "train.fit",
    against="a loop for each member, backward() and torch.optim.Adam",
    tolerance=1e-10,
    because="roundings of float64, which Adam's division by small roots magnifies",
)
def fit() -> Pair:
    """Five members with their own hyperparameters, two at a time."""
    params, state = fr.model_members(MODEL, random.key(0), 5)
    begin = train.init(params, state, optimizer, key=random.key(1), hparams=MEMBERS, members=5)
    result = train.fit(
        STEP, begin, data(), key=random.key(2), epochs=40, hparams=MEMBERS, members=5, chunk_size=2, jit=False
    )
    runs = [torch_run(tree.index(params, member), tree.index(MEMBERS, member), 40) for member in range(5)]
    theirs = tree.stack([(moved, torch.stack([step[0] for step in metrics])) for moved, metrics in runs])
    return (tree.map(torch.sub, result.train_state.params, params), result.history["loss"].T), theirs


@oracle("train.loader", against="torch's DataLoader with the key's order as its sampler", tolerance=0, because="order")
def loader() -> Pair:
    dataset, key = TensorDataset(*data(50)), random.key(3)
    order = random.permutation(random.fold_in(key, 1), 50).tolist()
    return list(train.loader(dataset, 8, key=key).epoch(1)), list(DataLoader(dataset, 8, sampler=order))


@oracle("train.csv_log", against="csv's own reader of it, and the history", tolerance=0, because="the same bits")
def csv_log() -> Pair:
    params, state = fr.model_members(MODEL, random.key(0), 5)
    begin = train.init(params, state, optimizer, key=random.key(1), hparams=MEMBERS, members=5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.csv"
        result = train.fit(
            STEP, begin, data(), key=random.key(2), epochs=3, hparams=MEMBERS, members=5, jit=False,
            on_epoch=train.csv_log(path),
        )  # fmt: skip
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    theirs = {name: [[float(rows[5 * e + m][name]) for m in range(5)] for e in range(3)] for name in result.history}
    return result.history, {name: torch.tensor(values, dtype=torch.float64) for name, values in theirs.items()}


@oracle("train.load", against="what safetensors.torch.load_file reads", tolerance=0, because="the same bytes")
def load() -> Pair:
    params, state = MODEL.init(random.key(0))
    begin = train.init(params, state, optimizer, key=random.key(1), hparams=HPARAMS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        train.fit(STEP, begin, data(), key=random.key(2), epochs=2, hparams=HPARAMS, jit=False, checkpoint=path)
        ours, theirs = train.load(path), safetensors.torch.load_file(path)
    return ours.best.params, {name: theirs[f"best/params/{name}"] for name in ours.best.params}


@oracle(
    "train.make_evaluate",
    against="sklearn.metrics.log_loss and accuracy_score of all samples",
    tolerance=1e-13,
    because="float64; the sum goes by batches",
)
def make_evaluate() -> Pair:
    params, state = fr.model_members(MODEL, random.key(0), 5)
    held_out = data(101)

    def metric_fn(params: Any, state: Any, batch: train.Batch) -> dict[str, Tensor]:
        logits, _ = MODEL.apply(params, state, batch.x)
        return {
            "loss": fr.losses.cross_entropy(logits, batch.y, reduction="none"),
            "accuracy": fr.losses.accuracy(logits, batch.y, reduction="none"),
        }

    ours = train.make_evaluate(metric_fn, members=5, chunk_size=3)(params, state, held_out, batch_size=16)
    theirs = {"loss": [], "accuracy": []}
    for each in tree.unstack(params):
        with torch.no_grad():
            p = torch.softmax(fr.to_module(make, each, {})(held_out.x), dim=-1)
        theirs["loss"].append(log_loss(held_out.y, p))
        theirs["accuracy"].append(accuracy_score(held_out.y, p.argmax(-1)))
    return ours, {name: torch.tensor(values, dtype=torch.float64) for name, values in theirs.items()}


@oracle(
    "train.early_stopping",
    against="torch.optim.lr_scheduler.ReduceLROnPlateau",
    tolerance=0,
    because="comparisons only",
)
def early_stopping() -> Pair:
    """The best value so far and the values since, for falling noisy losses."""
    values = random.normal(random.key(3), 60, dtype=torch.float64) - 0.02 * torch.arange(60)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        torch.optim.SGD([torch.zeros(1)]), patience=100, threshold=0.1, threshold_mode="abs"
    )
    stopping = train.early_stopping(100, min_delta=0.1)
    state, ours, theirs = stopping.init(), [], []
    for value in values:
        state = stopping.update(state, value)
        plateau.step(value)
        ours.append(torch.stack((state.best, state.counter)))
        theirs.append(torch.tensor([plateau.best, plateau.num_bad_epochs], dtype=torch.float64))
    return ours, theirs


@oracle(
    "train.make_step",
    against="backward(), torch.optim.SGD and a cap on the norm of each weight's rows, 50 steps",
    tolerance=1e-12,
    because="roundings of float64 over all steps",
)
def constrained_step() -> Pair:
    def constraint(params: Any, hparams: Any) -> Any:
        return fr.constraints.max_norm(params, hparams["most"], mask=tree.is_weight)

    params, _ = MODEL.init(random.key(0))
    step = train.make_step(loss_fn, optim.sgd(0.5), constraint=constraint)
    train_state, norms = train.init(params, {}, optim.sgd(0.5), key=random.key(1)), []
    for _ in range(50):
        train_state, metrics = step(train_state, data(), {"most": 0.8})
        norms.append(metrics["param_norm"])

    module = fr.to_module(make, params, {})
    sgd, batch, theirs, unconstrained = torch.optim.SGD(module.parameters(), lr=0.5), data(), [], 0
    for _ in range(50):
        sgd.zero_grad()
        F.cross_entropy(module(batch.x), batch.y).backward()
        sgd.step()
        for leaf in module.parameters():
            if leaf.ndim > 1:
                unconstrained += int((leaf.norm(dim=1) > 0.8).sum())
                leaf.data = leaf.data * (0.8 / leaf.data.norm(dim=1, keepdim=True)).clamp(max=1.0)
        theirs.append(torch.nn.utils.get_total_norm([leaf.detach() for leaf in module.parameters()]))
    assert unconstrained, "the constraint did nothing"
    return (train_state.params, norms), ({name: leaf.detach() for name, leaf in module.named_parameters()}, theirs)


@oracle(
    "train.make_step",
    against="backward() and clip_grad_norm_ for one example after the other, their mean to torch.optim.Adam, 20 steps",
    tolerance=1e-10,
    because="roundings of float64, which Adam's division by small roots magnifies",
)
def per_example_step() -> Pair:
    def clipped(hparams: Any) -> fr.transforms.Transform:
        return fr.transforms.chain(fr.transforms.clip_per_example(hparams["most"]), optim.adam(hparams["lr"]))

    hparams, batch = HPARAMS | {"most": 0.7}, data(32)  # so many that their mean accuracy is exact in float32
    params, _ = MODEL.init(random.key(0))
    penalties = {"l2": lambda params, hparams: fr.penalties.l2(params, hparams["l2"])}
    step = train.make_step(loss_fn, clipped, penalties=penalties, per_example=True)
    train_state, metrics = train.init(params, {}, clipped, key=random.key(1), hparams=hparams), []
    for _ in range(20):
        train_state, each = step(train_state, batch, hparams)
        metrics.append([each["loss"], each["accuracy"], each["grad_norm"]])

    module = fr.to_module(make, params, {})
    adam, theirs = torch.optim.Adam(module.parameters(), lr=hparams["lr"]), []
    for _ in range(20):
        plain, means, totals, hits = [], [torch.zeros_like(leaf) for leaf in module.parameters()], [], []
        for x, y in zip(batch.x, batch.y, strict=True):
            module.zero_grad()
            logits = module(x[None])
            squares = torch.stack([(leaf**2).sum() for leaf in module.parameters()]).sum()
            total = F.cross_entropy(logits, y[None]) + hparams["l2"] * squares
            total.backward()
            slopes = [leaf.grad for leaf in module.parameters() if leaf.grad is not None]
            plain.append([slope.clone() for slope in slopes])
            torch.nn.utils.clip_grad_norm_(module.parameters(), hparams["most"])
            means = [mean + slope / len(batch.x) for mean, slope in zip(means, slopes, strict=True)]
            totals.append(total.detach())
            hits.append((logits.argmax() == y).double())
        norm = torch.nn.utils.get_total_norm([torch.stack(each).mean(0) for each in zip(*plain, strict=True)])
        for leaf, mean in zip(module.parameters(), means, strict=True):
            leaf.grad = mean
        adam.step()
        theirs.append([torch.stack(totals).mean(), torch.stack(hits).mean(), norm])
    return (train_state.params, metrics), ({name: leaf.detach() for name, leaf in module.named_parameters()}, theirs)


def _written_out(name: str, w: Tensor, x: Tensor, y: Tensor, hparams: dict[str, Tensor]) -> list[Tensor]:
    """The weights after each step of SGD with momentum or of Adam, as a program for torch.autograd."""
    history, first, second = [], torch.zeros_like(w), torch.zeros_like(w)
    for t, (inputs, targets) in enumerate(zip(x, y, strict=True), 1):
        loss = (torch.tanh(inputs @ w) - targets).square().mean() + hparams["l2"] * (w**2).sum()
        (slope,) = torch.autograd.grad(loss, w, create_graph=True)
        slope = slope + hparams["decay"] * w
        if name == "sgd":
            first = 0.9 * first + slope
            w = w - hparams["lr"] * first
        else:
            first, second = 0.9 * first + 0.1 * slope, 0.99 * second + 0.01 * slope**2
            w = w - hparams["lr"] * (first / (1 - 0.9**t)) / ((second / (1 - 0.99**t)).sqrt() + 1e-6)
        history.append(w)
    return history


def _add_unroll(name: str, make: Any) -> None:
    @oracle(
        "train.unroll",
        against=f"{name} written out for torch.autograd.grad(create_graph=True): 20 steps, and their derivatives",
        tolerance=1e-11,
        because="float64; another order, over all steps; derivatives are up to 10",
    )
    def row() -> Pair:
        draw = [random.normal(key, (20, 8, 3), dtype=torch.float64) for key in random.split(random.key(4))]
        x, y, start = draw[0], torch.sin(draw[1][..., 0]), draw[0][0, 0]
        hparams = {name: torch.tensor(value).double() for name, value in {"lr": 0.05, "l2": 0.1, "decay": 0.2}.items()}

        def loss_fn(params: Any, state: Any, batch: train.Batch, *, key: Tensor, hparams: Any) -> Any:
            loss = (torch.tanh(batch.x @ params["w"]) - batch.y).square().mean()
            return loss + fr.penalties.l2(params, hparams["l2"]), (state, {"w": params["w"].sum()})

        step = train.make_step(loss_fn, make)

        def validation(hparams: Any, start: Tensor) -> Any:
            begin = train.init({"w": start}, {}, make, key=random.key(0), hparams=hparams)
            train_state, metrics = train.unroll(step, begin, train.Batch(x, y), hparams)
            return (train_state.params["w"] ** 3).sum(), metrics["w"]

        slopes, (value, sums) = torch.func.grad_and_value(validation, argnums=(0, 1), has_aux=True)(hparams, start)
        leaves = {name: value.clone().requires_grad_() for name, value in hparams.items()}
        begin = start.clone().requires_grad_()
        history = _written_out(name, begin, x, y, leaves)
        theirs = (history[-1] ** 3).sum()
        *each, own = torch.autograd.grad(theirs, [*leaves.values(), begin])
        before = torch.stack([w.sum() for w in (begin, *history[:-1])])
        return (value, sums, slopes), (theirs, before, (dict(zip(leaves, each, strict=True)), own))


_add_unroll("sgd", lambda hparams: optim.sgd(hparams["lr"], momentum=0.9, weight_decay=hparams["decay"]))
_add_unroll("adam", lambda hparams: optim.adam(hparams["lr"], b2=0.99, eps=1e-6, weight_decay=hparams["decay"]))


@oracle(
    "train.variables",
    against="swa_utils.AveragedModel(use_buffers=True) after each step of a network with batch norm",
    tolerance=1e-12,
    because="float64; roundings of 20 steps",
)
def variables() -> Pair:
    """What the two evaluate as, after every step, is compared too."""
    module = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2)).double()
    model, (params, state), batch = fr.from_module(module), fr.variables(module), data()

    def loss(params: Any, state: Any, batch: train.Batch, *, key: Tensor, hparams: Any) -> Any:
        logits, state = model.apply(params, state, batch.x, train=True)
        return fr.losses.cross_entropy(logits, batch.y), (state, {})

    sgd, average = optim.sgd(0.3), fr.averaging.ema(0.9)
    step = train.make_step(loss, sgd, average=average)
    train_state = train.init(params, state, sgd, key=random.key(1), average=average)
    averaged = swa_utils.AveragedModel(module, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True)
    averaged.update_parameters(module)  # the first is a copy
    theirs, ours = torch.optim.SGD(module.parameters(), lr=0.3), []
    expected = []
    for number in range(20):
        some = tree.map(lambda leaf, number=number: leaf[number : number + 16], batch)
        theirs.zero_grad()
        F.cross_entropy(module.train()(some.x), some.y).backward()
        theirs.step()
        averaged.update_parameters(module)
        train_state, _ = step(train_state, some)
        mean_params, mean_state = train.variables(train_state)
        statistics = {name: mean_state[name] for name in ("1.running_mean", "1.running_var")}
        ours.append((mean_params, statistics, model.apply(mean_params, mean_state, batch.x)[0]))
        buffers = {name: leaf.clone() for name, leaf in averaged.module.named_buffers() if name in statistics}
        values = {name: leaf.detach().clone() for name, leaf in averaged.module.named_parameters()}
        expected.append((values, buffers, averaged.module.eval()(batch.x).detach()))
    return ours, expected


@oracle(
    "train.sample_variables",
    against="the mean and covariance of swag's equation, by numpy, of 4,000 draws: differences in standard errors",
    tolerance=5,
    because="chance; the largest of some",
    constant=True,
)
def sample_variables() -> Pair:
    """Of the iterates of a linear regression, which torch.optim takes as well."""
    x, y = (
        random.normal(random.key(3), (60, 3), dtype=torch.float64),
        random.normal(random.key(4), (60,), dtype=torch.float64),
    )

    def loss(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        return fr.losses.mse(batch.x @ params["w"], batch.y), (state, {})

    sgd, average = optim.sgd(0.3), fr.averaging.swag(start=2, rank=4)
    step = train.make_step(loss, sgd, average=average)
    train_state = train.init({"w": torch.zeros(3, dtype=torch.float64)}, {}, sgd, key=random.key(1), average=average)
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    theirs, iterates = torch.optim.SGD([w], lr=0.3), []
    for number in range(12):
        rows = slice(5 * number, 5 * number + 5)
        theirs.zero_grad()
        F.mse_loss(x[rows] @ w, y[rows]).backward()
        theirs.step()
        iterates.append(w.detach().numpy().copy())
        train_state, _ = step(train_state, train.Batch(x[rows], y[rows]))
    counted = np.stack(iterates[2:])
    columns = np.stack([each - counted[: place + 1].mean(0) for place, each in enumerate(counted)])[-4:]
    mean, exact = counted.mean(0), (np.diag(counted.var(0)) + columns.T @ columns / 3) / 2
    draws, _ = torch.func.vmap(lambda key: train.sample_variables(train_state, key=key))(
        random.split(random.key(5), 4000)
    )
    found = draws["w"].numpy()
    scale = np.sqrt(np.diag(exact))
    error = np.sqrt((np.outer(scale, scale) ** 2 + exact**2) / 4000)
    ours = ((found.mean(0) - mean) / (scale / np.sqrt(4000)), (np.cov(found.T) - exact) / error)
    return ours, (np.zeros(3), np.zeros((3, 3)))
