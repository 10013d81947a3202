"""`distributed` on two processes against torch.distributed's own: DistributedDataParallel, ranks, even splits."""

import functools
import tempfile
from pathlib import Path
from typing import Any

from tests import rank_jobs
from tests.oracles import Pair, oracle
from tests.ranks import run_ranks


@functools.cache
def found() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        return run_ranks(rank_jobs.beside_torch, 2, Path(folder))


def _add(name: str, against: str, tolerance: float, because: str) -> None:
    @oracle(f"distributed.{name}", against=against, tolerance=tolerance, because=because, constant=name == "ranks")
    def row() -> Pair:
        ours, theirs = zip(*(each[name] for each in found()), strict=True)
        return ours, theirs


_add(
    "data_parallel",
    "the first gradient of torch's DistributedDataParallel on 2 ranks",
    1e-14,
    "float64; another order of rounding",
)
_add(
    "fit",
    "DistributedDataParallel and torch.optim.SGD in a loop on 2 ranks, 3 epochs",
    1e-13,
    "float64; another order of rounding at each of 6 steps",
)
_add("rank", "torch.distributed.get_rank", 0, "integers")
_add("ranks", "torch.distributed.get_world_size", 0, "integers")
_add("share", "torch.tensor_split", 0, "integers")

# name: why there is nothing to compare it with
WITHOUT_ORACLE = {
    "distributed.process_group": "torch's own init_process_group, which the others' rows run in",
}
