"""What research scripts do with data that is not in memory: kills, limits of memory, Ctrl-C, 16 bits, several ranks."""

import os
import random as standard_random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import funcreg as fr
from funcreg import optim, random, train, transforms, tree
from tests import rank_jobs as jobs
from tests.ranks import run_ranks
from tests.test_sources import same_bits

IMAGES = random.randint(random.key(0), (64, 3, 8, 8), 0, 256).to(torch.uint8)
LABELS = random.randint(random.key(1), (64,), 0, 4)
AUGMENT = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(8, padding=1), v2.ToDtype(torch.float32, scale=True)])
MODEL = fr.from_module(
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 4))
)
OPTIMIZER = optim.adam(lambda step: 0.01 / (1 + 0.01 * step))


class Augmented(Dataset[tuple[Tensor, Tensor]]):
    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return AUGMENT(IMAGES[index]), LABELS[index]


def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
    logits, state = MODEL.apply(params, state, batch.x, key=key, train=True)
    return fr.losses.cross_entropy(logits, batch.y), (state, {})


STEP = train.make_step(loss_fn, OPTIMIZER)
SOURCES: dict[str, Any] = {
    "loader": lambda: train.loader(Augmented(), 16, key=random.key(3), workers=4),
    "DataLoader": lambda: DataLoader(Augmented(), 16, shuffle=True, num_workers=4),
}


def trained(kind: str, epochs: int, **settings: Any) -> train.FitResult:
    begin = train.init(*MODEL.init(random.key(5)), OPTIMIZER, key=random.key(6))
    given = {"key": random.key(7), "epochs": epochs, "jit": False, "progress": False, **settings}
    return train.fit(given.pop("step", STEP), begin, SOURCES[kind](), **given)


def forked(kind: str, epochs: int, path: Path) -> int:
    """A process of its own that trains; its number."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
            trained(kind, epochs, checkpoint=path, on_epoch=train.csv_log(f"{path}.csv"))
            status = 0
        finally:
            os._exit(status)
    return process


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("kind", SOURCES)
def test_random_transforms_in_four_workers_are_killed_and_go_on_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    path, moments, reached = tmp_path / "run", standard_random.Random(0), []
    whole = trained(kind, 8, checkpoint=tmp_path / "whole", on_epoch=train.csv_log(tmp_path / "whole.csv"))
    for _ in range(4):
        process = forked(kind, 8, path)
        time.sleep(moments.uniform(0.1, 0.5))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        reached.append(train.load(path).train_state.step if path.exists() else 0)
    os.waitpid(forked(kind, 8, path), 0)
    assert reached[0] < 32, "killed too late to show anything"
    assert same_bits(train.load(path), whole)
    assert Path(f"{path}.csv").read_text() == (tmp_path / "whole.csv").read_text()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("kind", SOURCES)
def test_ctrl_c_keeps_what_was_done_and_ends_the_workers(kind: str, tmp_path: Path) -> None:
    calls: list[int] = []

    def step(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:
            # A terminal tells the workers too.
            for child in children():
                os.kill(child, signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return STEP(*arguments)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = trained(kind, 4, step=step, checkpoint=tmp_path / "run")
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.interrupted
    assert int(result.train_state.step) == 6
    assert len(result.history["loss"]) == 1
    assert not children()
    assert same_bits(trained(kind, 3, checkpoint=tmp_path / "run"), trained(kind, 3))


def children() -> list[int]:
    """The processes that this one started, as a DataLoader's workers are known to Python."""
    import multiprocessing

    return [each.pid for each in multiprocessing.active_children() if each.pid is not None]


LIMITED = """
import resource, sys, warnings
import numpy as np, torch
torch.set_num_threads(1)
import funcreg as fr
from funcreg import optim, random, train
def loss_fn(params, state, batch, *, key, hparams):
    return ((batch.x @ params["w"] - batch.y) ** 2).mean(), (state, {})
def fitted(data, epoch_steps):
    begin = train.init({"w": torch.zeros(64)}, {}, optim.sgd(0.01), key=random.key(0))
    return train.fit(train.make_step(loss_fn, optim.sgd(0.01)), begin, data, key=random.key(1), epochs=2,
                     batch_size=256, epoch_steps=epoch_steps, jit=False, checkpoint=sys.argv[1] + ".run")
fitted(train.Batch(torch.zeros(512, 64), torch.zeros(512)), 1)  # what is imported and allocated once
import os; os.unlink(sys.argv[1] + ".run")
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
limit = used + 96 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.load(sys.argv[1] + ".x.npy")
    print("it fits", flush=True)
except MemoryError:
    pass
x, y = (np.load(f"{sys.argv[1]}.{name}.npy", mmap_mode="r") for name in "xy")
result = fitted(train.Batch(x, y), 40)
print(int(result.train_state.step), float(result.history["loss"][0]) > float(result.history["loss"][1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory, and /proc")
def test_a_data_set_on_disk_of_several_times_the_memory(tmp_path: Path) -> None:
    """384 MiB of float32 where 96 MiB may be allocated; an array read whole does not fit."""
    rows = np.lib.format.open_memmap(tmp_path / "d.x.npy", mode="w+", dtype=np.float32, shape=(1_572_864, 64))
    rows[::1000] = 1.0  # the file has holes elsewhere
    del rows
    np.save(tmp_path / "d.y.npy", np.ones(1_572_864, dtype=np.float32))
    command = [sys.executable, "-W", "error", "-c", LIMITED, str(tmp_path / "d")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[0] == "80"


def test_a_language_model_in_bfloat16_with_accumulation_from_a_stream() -> None:
    """Two micro-batches a step are one batch of both, in float64; and in bfloat16 it learns."""
    text = torch.tensor(list(b"the quick brown fox jumps over the lazy dog. " * 40), dtype=torch.int64) % 64
    model = fr.from_module(lambda: nn.Sequential(nn.Embedding(64, 16), nn.Linear(16, 64)))

    def next_token(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        logits, state = model.apply(params, state, batch.x, train=True, key=key)
        return fr.losses.cross_entropy(logits.flatten(0, 1), batch.y.flatten()), (state, {})

    def tokens(size: int) -> Any:
        for start in range(0, 30 * 4 * 32, size * 32):
            rows = torch.stack([text[(start + 32 * i) % 1700 :][:33] for i in range(size)])
            yield rows[:, :-1], rows[:, 1:]

    def run(dtype: torch.dtype, size: int, optimizer: Any) -> train.FitResult:
        params, state = model.init(random.key(0))
        begin = train.init(tree.cast(params, dtype), state, optimizer, key=random.key(1))
        step = train.make_step(next_token, optimizer)
        return train.fit(step, begin, tokens(size), key=random.key(2), epochs=3, epoch_steps=10 * 4 // size, jit=False)

    whole = run(torch.float64, 4, optim.adam(0.05))
    accumulated = run(torch.float64, 2, transforms.accumulate(optim.adam(0.05), 2))
    torch.testing.assert_close(accumulated.train_state.params, whole.train_state.params, rtol=1e-9, atol=1e-11)
    half = run(torch.bfloat16, 2, transforms.accumulate(optim.adam(0.05), 2))
    assert half.train_state.params["0.weight"].dtype == torch.bfloat16
    assert half.history["loss"][-1] < 0.5 * half.history["loss"][0]
    torch.testing.assert_close(half.history["loss"], accumulated.history["loss"], rtol=0.05, atol=0)


def test_ranks_train_on_a_source_as_one_process_does(tmp_path: Path) -> None:
    whole = jobs.from_source(tmp_path / "one")
    for found in run_ranks(jobs.from_source, 2, tmp_path / "ranks", tmp_path / "two"):
        assert same_bits(found, whole)


def test_ranks_with_batches_of_their_own_are_refused(tmp_path: Path) -> None:
    for said in run_ranks(jobs.from_a_source_each, 2, tmp_path):
        assert said.startswith("data's x: got float64 (16, 5) sha256:")
        assert "expected the same on every rank" in said
