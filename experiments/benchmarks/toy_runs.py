"""Whole runs, from the start of a process to its end: a small network trained for 80 epochs, and 64 such runs.

`python -m experiments.benchmarks.toy_runs KIND MEMBERS [jit | FOLDER]` is one of them: 140 of 200 points, the full
batch, Adam, dropout and decay; the accuracy on the other 60 at the end. Nothing is imported that it does not need.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import sizes
from .measured import Measured

EPOCHS, POINTS, TRAIN, LEARNING_RATE = 80, 200, 140, 0.08
RATES = tuple(0.6 * i / 7 for i in range(8))
DECAYS = tuple(0.02 * i / 7 for i in range(8))
GRID = tuple(itertools.product(RATES, DECAYS))
ONE = ((0.5, 0.02),)


def settings(members: int) -> tuple[tuple[float, float], ...]:
    """The (rate, decay) of each member."""
    return GRID if members == len(GRID) else ONE


def stateful(members: int, jit: bool | Path) -> None:
    """One run after the other."""
    import torch
    from torch import nn

    from .stateful import mlp

    x = torch.randn(POINTS, 2)
    y = (x[:, 0] ** 2 + 0.8 * x[:, 1] > 0.5).long()
    accuracies = []
    for rate, decay in settings(members):
        module = mlp(sizes.TOY, rate)
        forward = torch.compile(module) if jit else module
        optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE, weight_decay=decay)
        losses = []
        for _ in range(EPOCHS):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(forward(x[:TRAIN]), y[:TRAIN])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        module.eval()
        with torch.no_grad():
            accuracies.append(float((module(x[TRAIN:]).argmax(-1) == y[TRAIN:]).float().mean()))
    print(*accuracies)


def funcreg(members: int, jit: bool | Path) -> None:
    """All runs as the members of one `fit`."""
    import funcreg as fr

    from .stateful import mlp

    x = fr.random.normal(fr.random.key(0), (POINTS, 2))
    data = fr.train.Batch(x, (x[:, 0] ** 2 + 0.8 * x[:, 1] > 0.5).long())
    train, held_out = (
        fr.tree.map(lambda leaf, part=part: leaf[part], data) for part in (slice(TRAIN), slice(TRAIN, None))
    )
    model = fr.from_module(lambda: mlp(sizes.TOY, 0.5))

    def loss_fn(params: Any, state: Any, batch: Any, *, key: Any, hparams: Any) -> Any:
        logits, state = model.apply(params, state, batch.x, key=key, train=True, rates=hparams["rate"])
        return fr.losses.cross_entropy(logits, batch.y), (state, {})

    def optimizer(hparams: Any) -> fr.transforms.Transform:
        return fr.optim.adam(LEARNING_RATE, weight_decay=hparams["decay"])

    def scores(params: Any, state: Any, batch: Any) -> Any:
        return {"accuracy": fr.losses.accuracy(model.apply(params, state, batch.x)[0], batch.y, reduction="none")}

    one = members == 1
    rates, decays = zip(*settings(members), strict=True)
    hparams: Any = {"rate": rates[0], "decay": decays[0]}
    if not one:
        hparams = fr.sweep.grid(rate=RATES, decay=DECAYS)
    key = fr.random.key(1)
    params, state = model.init(key) if one else fr.model_members(model, key, members)
    count = None if one else members
    first = fr.train.init(params, state, optimizer, key=fr.random.key(2), hparams=hparams, members=count)
    step = fr.train.make_step(loss_fn, optimizer)
    # Chosen by measurement it could be another in the next process, with another program.
    chunk_size = members if isinstance(jit, Path) and not one else "auto"
    result = fr.train.fit(
        step,
        first,
        train,
        key=fr.random.key(3),
        epochs=EPOCHS,
        hparams=hparams,
        members=count,
        chunk_size=chunk_size,
        jit=jit,
        progress=False,
    )
    evaluate = fr.train.make_evaluate(scores, members=count)
    print(evaluate(result.train_state.params, result.train_state.state, held_out)["accuracy"])


def jax(members: int, jit: bool | Path) -> None:
    """All runs under `vmap`, the whole training as one program: what a full batch allows."""
    import jax  # pyright: ignore[reportMissingImports]  (may be absent)
    import jax.numpy as jnp  # pyright: ignore[reportMissingImports]  (may be absent)

    from . import with_jax

    x = jax.random.normal(jax.random.key(0), (POINTS, 2))
    y = (x[:, 0] ** 2 + 0.8 * x[:, 1] > 0.5).astype(int)
    step = with_jax.training_step(with_jax.mlp_loss)

    def run(key: Any, rate: Any, decay: Any) -> Any:
        hparams = {"rate": rate, "decay": decay, "lr": LEARNING_RATE}
        carry = with_jax.start(with_jax.linear_params(key, sizes.TOY))
        carry, losses = jax.lax.scan(lambda c, _: step(c, x[:TRAIN], y[:TRAIN], hparams), carry, length=EPOCHS)
        logits = with_jax.mlp(carry[0], x[TRAIN:], key, 0.0)
        return (logits.argmax(-1) == y[TRAIN:]).mean(), losses

    rates, decays = jnp.array(settings(members)).T
    print(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(1), members), rates, decays)[0])


KINDS = {"stateful": stateful, "funcreg": funcreg, "jax": jax}


def one_run(*, rounds: int, threads: int, with_jax: bool) -> Measured:
    """80 epochs of one network, imports included."""
    commands = {"stateful eager": ("stateful", "1"), "funcreg eager": ("funcreg", "1")}
    if with_jax:
        commands["JAX jit"] = ("jax", "1")
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            seconds[name].append(_process(*command, threads=threads))
    question = "80 epochs of the MLP 2-32-32-2 on 140 points, from the start of the process to its end"
    return Measured("toy-run", question, seconds, {("funcreg eager", "stateful eager"): 1 / 1.5})


def sweep_run(*, rounds: int, threads: int, with_jax: bool) -> Measured:
    """64 of them; compilers find what an earlier process left in their cache, or nothing; a program, or its file."""
    seconds: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        seconds.setdefault(name, []).append(value)

    for _ in range(rounds):
        note("stateful, one process", _process("stateful", "64", threads=threads))
        note("stateful, 64 processes (one, times 64)", 64 * _process("stateful", "1", threads=threads))
        note("funcreg vmap", _process("funcreg", "64", threads=threads))
        with tempfile.TemporaryDirectory() as cache:
            note("funcreg jit, empty cache", _process("funcreg", "64", "jit", threads=threads, cache=cache))
            note("funcreg jit, warm cache", _process("funcreg", "64", "jit", threads=threads, cache=cache))
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
            note("funcreg jit, to keep", _process("funcreg", "64", folder, threads=threads, cache=cache))
            note("funcreg jit, kept", _process("funcreg", "64", folder, threads=threads, cache=cache))
        if with_jax:
            note("JAX vmap", _process("jax", "64", threads=threads))
    targets = {
        (contender, against): 10.0
        for contender in ("funcreg vmap", "funcreg jit, empty cache", "funcreg jit, warm cache")
        for against in ("stateful, one process", "stateful, 64 processes")
    }
    targets["funcreg jit, kept", "funcreg vmap"] = 1.0
    question = "64 such runs, each with its own rate and decay, from the start of the process to its end"
    return Measured("sweep-run", question, seconds, targets)


def _process(*arguments: str, threads: int, cache: str | None = None) -> float:
    """Seconds that a process takes from its start to its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu"}
    if cache is not None:
        environment["TORCHINDUCTOR_CACHE_DIR"] = cache
    start = time.perf_counter()
    command = [sys.executable, "-m", __name__, *arguments]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    kind, members, *jit = sys.argv[1:]
    KINDS[kind](int(members), Path(jit[0]) if jit and jit[0] != "jit" else bool(jit))
