"""Data-parallel steps and sharded sweeps on real processes that talk by gloo: the numbers of one process."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import funcreg as fr
from funcreg import distributed, random, train, tree
from tests import rank_jobs as jobs
from tests.ranks import run_ranks

needs_compiler = pytest.mark.skipif(not fr.can_compile(), reason="needs a C++ compiler")


def assert_close(actual: tree.Tree, expected: tree.Tree, tolerance: float = 0.0) -> None:
    def compare(a: Any, b: Any) -> None:
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)

    tree.map(compare, actual, expected)


@pytest.mark.parametrize("count", [2, 4])
def test_ranks_give_the_bits_of_one_process(count: int, tmp_path: Path) -> None:
    """Noise and batch norm, plain autograd and torch.func, members by vmap, SAM on either side, bfloat16."""
    alone = jobs.one_model()
    joined = alone.pop("joined")  # in as many shards as there are ranks: one, the ordinary step
    assert_close(joined, jobs.fitted(jobs.plain(jobs.PLAIN), jobs.PLAIN))
    del joined.history["most"]  # which is no mean
    for found in run_ranks(jobs.one_model, count, tmp_path):
        near = found.pop("joined")
        del near.history["most"]
        assert_close(near, joined, 1e-12)  # sums of the same numbers in another order
        assert_close(found, alone)


def test_shards_are_batches_of_their_own_with_folded_keys() -> None:
    params, state, _, key, *_ = jobs.begin(jobs.NOISY)
    loss_fn, hparams = jobs.loss_of(jobs.NOISY), None
    whole = distributed.data_parallel(loss_fn, shards=2)(params, state, jobs.DATA, key=key, hparams=hparams)
    halves = [
        loss_fn(
            params,
            state,
            tree.map(lambda leaf, i=i: leaf[20 * i : 20 * (i + 1)], jobs.DATA),
            key=random.fold_in(key, i),
            hparams=hparams,
        )
        for i in range(2)
    ]
    loss, (after, metrics) = tree.map(
        lambda a, b: a if a.dtype == torch.int64 and a == b else (a.double() + b.double()) / 2, *halves
    )
    assert_close(whole, (loss, (after, {**metrics, "most": metrics["most"].float()})), 1e-15)
    assert after["1.num_batches_tracked"] == 1
    assert not torch.equal(after["1.running_mean"], state["1.running_mean"])


def test_what_no_shard_changes_keeps_its_bits() -> None:
    """(a + a + a) / 3 is not always a: a frozen weight would wander."""
    state = {"frozen": random.normal(random.key(0), (100,)), "half": random.normal(random.key(1), (100,)).half()}

    def loss_fn(params: Any, state: Any, batch: Any, **_: Any) -> Any:
        return (params["w"] * batch).mean(), (state, {})

    step = distributed.data_parallel(loss_fn, shards=7)
    batch = random.normal(random.key(2), (14,))
    _, (after, _) = step({"w": torch.ones(())}, state, batch, key=random.key(3), hparams=None)
    assert_close(after, state)


def test_one_process_can_differentiate_through_shards() -> None:
    lr, batches = torch.tensor(0.1, dtype=torch.float64), tree.stack([tree.map(lambda leaf: leaf[:16], jobs.DATA)] * 2)

    def whole(lr: torch.Tensor) -> torch.Tensor:
        first = jobs.begin(jobs.PLAIN)
        return train.unroll(jobs.plain(jobs.PLAIN), first, batches, {"lr": lr})[1]["loss"][-1]

    slope = torch.func.grad(jobs.trained)(lr)
    assert_close(slope, torch.func.grad(whole)(lr), 1e-12)
    assert slope < -0.01


@needs_compiler
def test_a_compiled_step_is_that_of_eager_ranks(tmp_path: Path) -> None:
    for compiled, eager in run_ranks(jobs.one_compiled_model, 2, tmp_path):
        assert_close(compiled, eager, 1e-12)


def test_a_sweep_in_shards_is_that_of_one_process(tmp_path: Path) -> None:
    """5 members on 2 ranks, with a patience each, shuffled alike or each by its own."""
    alone = jobs.sweeps()
    stopped = alone["own"].stopped_epoch
    assert (stopped > 0).any()
    assert not (stopped > 0).all()
    for found in run_ranks(jobs.sweeps, 2, tmp_path):
        assert_close(found, alone, 1e-13)


def test_a_killed_rank_ends_the_others_and_the_fit_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    path, kill = tmp_path / "run", signal.SIGKILL
    statuses = run_ranks(jobs.one_model_signalled, 2, tmp_path / "killed", path, kill, 3, ends=None)
    assert statuses == [1, -kill]
    said = (tmp_path / "killed" / "0.err").read_text()
    assert "FuncregError: rank 0 of 2: got no answer from another rank" in said
    assert "Start the same command again" in said
    assert 3 <= fr.checkpoint.read_metadata(path)["epoch"] <= 4
    whole = jobs.fitted(jobs.in_shards(4), epochs=6)
    for found in run_ranks(jobs.one_model_resumed, 2, tmp_path / "again", path, 6):
        assert_close(found, whole)
    # Another number of ranks can go on from there too.
    assert_close(jobs.one_model_resumed(path, 8), jobs.fitted(jobs.in_shards(4), epochs=8))


def test_a_killed_rank_ends_a_sweep_which_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    path, kill = tmp_path / "run", signal.SIGKILL
    statuses = run_ranks(jobs.sweep_signalled, 2, tmp_path / "killed", path, kill, ends=None)
    assert statuses == [1, -kill]
    assert "no answer from another rank" in (tmp_path / "killed" / "0.err").read_text()
    epochs = [fr.checkpoint.read_metadata(f"{path}.{rank}-of-2")["epoch"] for rank in range(2)]
    assert epochs[1] == 2 < epochs[0]
    whole = run_ranks(jobs.sweep, 2, tmp_path / "whole")
    assert_close(run_ranks(jobs.sweep_resumed, 2, tmp_path / "again", path), whole)
    with pytest.raises(fr.FuncregError, match="of a fit by 2 rank"):
        jobs.sweep_resumed(path)


def test_ctrl_c_of_one_rank_stops_all_at_the_same_step(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first, second = run_ranks(jobs.one_model_signalled, 2, tmp_path / "stopped", path, signal.SIGINT, 3)
    assert first.interrupted
    assert_close(first, second)
    epochs = len(first.history["loss"])
    assert 3 <= epochs < 10_000
    assert fr.checkpoint.read_metadata(path)["epoch"] == epochs
    whole = jobs.fitted(jobs.in_shards(4), epochs=epochs + 1)
    assert_close(first.history, tree.map(lambda column: column[:-1], whole.history))
    for found in run_ranks(jobs.one_model_resumed, 2, tmp_path / "again", path, epochs + 1):
        assert_close(found, whole)


def test_ctrl_c_in_a_sweep_keeps_what_each_rank_did(tmp_path: Path) -> None:
    path, whole = tmp_path / "run", jobs.sweep()
    own = list(run_ranks(jobs.places, 2, tmp_path / "places")[1][2])
    for found in run_ranks(jobs.sweep_signalled, 2, tmp_path / "stopped", path, signal.SIGINT):
        assert found.interrupted
        assert_close(found.history["val"][:2], whole.history["val"][:2], 1e-13)
        missing = torch.isnan(found.history["val"][-1])
        assert missing[own].any()
        assert set(missing.nonzero().flatten().tolist()) <= set(own)
    for found in run_ranks(jobs.sweep_resumed, 2, tmp_path / "again", path):
        assert_close(found, whole, 1e-13)


def test_bad_arguments_are_refused_on_every_rank(tmp_path: Path) -> None:
    expected = {
        "key": "key: got [1, 0] on rank 1, where rank 0 has [0, 0]",
        "epochs": "epochs: got 2 on rank 1, where rank 0 has 1; expected the same on every rank",
        "data": "data's x: got float",
        "members": "members: got 1; expected at least 2, one for each rank",
        "shards": "shards: got 3; expected a multiple of 2, the number of ranks",
        "batch": "batch: got 10 samples; expected a multiple of 4, the number of shards",
        "step": "step: got one of data_parallel, with members that are sharded over ranks",
        "data_parallel": "data_parallel: got a second derivative over several ranks",
        "process_group": "process_group: got a second one; expected one at a time",
    }
    for said in run_ranks(jobs.refused, 2, tmp_path):
        assert {name: text[: len(expected[name])] for name, text in said.items()} == expected


def test_ranks_know_their_places(tmp_path: Path) -> None:
    found = run_ranks(jobs.places, 2, tmp_path)
    assert found == [(0, 2, range(3)), (1, 2, range(3, 5))]
    assert jobs.places() == (0, 1, range(5))
    assert distributed.share(5) == range(5)


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    with distributed.process_group() as device:
        assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
        assert (distributed.rank(), distributed.ranks()) == (0, 1)
    monkeypatch.setattr(dist, "is_available", lambda: False)
    assert (distributed.rank(), distributed.ranks()) == (0, 1)
    assert math.isfinite(float(jobs.fitted(jobs.in_shards(4)).history["loss"][-1]))
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(fr.FuncregError, match=r"without torch\.distributed"), distributed.process_group("cpu"):
        pass


@pytest.mark.slow
def test_torchrun_starts_ranks_on_a_source_anew_after_one_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import os, signal, sys\n"
        "from funcreg import distributed\n"
        "from tests import rank_jobs as jobs\n"
        "first = os.environ['TORCHELASTIC_RESTART_COUNT'] == '0'\n"
        "kill = jobs.signalled(signal.SIGKILL, 2) if first else None\n"
        "data = jobs.loaded(workers=1)\n"
        "with distributed.process_group('cpu'):\n"
        "    result = jobs.fitted(jobs.in_shards(2), data=data, checkpoint=sys.argv[1], on_epoch=kill)\n"
        "    if distributed.rank() == 0:\n"
        "        print(distributed.ranks(), first, result.history['loss'].tolist())\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "--max-restarts", "1", str(script), str(tmp_path / "run")]
    settings = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=settings, timeout=300)
    assert done.returncode == 0, done.stderr
    whole = jobs.fitted(jobs.in_shards(2), data=jobs.loaded()).history["loss"].tolist()
    assert done.stdout.splitlines() == [f"{tmp_path / 'run'}: going on after epoch 2 of 3", f"2 False {whole}"]
