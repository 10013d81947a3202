"""Programs on several ranks: processes with torchrun's variables, forked from one that has imported everything."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import funcreg as fr


def run_ranks(job: Callable[..., Any], count: int, folder: Path, *arguments: Any, ends: int | None = 0) -> list[Any]:
    """What job(*arguments) returns on each of `count` ranks.

    Args:
        job: a function of a module, called inside `process_group`.
        count: ranks.
        folder: takes each rank's `<rank>.pt`, and its errors, `<rank>.err`.
        ends: the status that every rank must end with; None: any.

    Returns:
        A list; of exit statuses where `ends` is None.
    """
    folder.mkdir(exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.ranks", "tests.rank_jobs"])
    # torch documents it, and does not list it.
    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)  # pyright: ignore[reportPrivateImportUsage]
    started = [
        context.Process(target=_rank, args=(job, number, count, store.port, folder, arguments))
        for number in range(count)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    late = [process for process in started if process.is_alive()]
    for process in late:
        process.kill()
        process.join()
    written = "\n".join(path.read_text()[-3000:] for path in sorted(folder.glob("*.err")))
    assert not late, f"a rank did not end:\n{written}"
    statuses = [process.exitcode for process in started]
    if ends is None:
        return statuses
    assert statuses == [ends] * count, f"{statuses}:\n{written}"
    return [torch.load(folder / f"{number}.pt", weights_only=False) for number in range(count)]


def _rank(
    job: Callable[..., Any], number: int, count: int, port: int, folder: Path, arguments: tuple[Any, ...]
) -> None:
    where = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": True}
    own = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, **where}
    os.environ.update({name: str(value) for name, value in own.items()})
    sys.stderr = (folder / f"{number}.err").open("w", buffering=1)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background has set to ignore
    with fr.distributed.process_group("cpu", timeout=60):
        torch.save(job(*arguments), folder / f"{number}.pt")
