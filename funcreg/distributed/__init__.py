"""One program on several processes, by `torch.distributed`: data-parallel steps, and sweeps in shards.

torchrun --nproc-per-node 2 script.py, where script.py says

    with process_group() as device:
        step = make_step(data_parallel(loss_fn), optimizer)
        result = fit(step, train_state, data, key=key, epochs=30, batch_size=128)   # a batch in two halves
        result = fit(other_step, ..., members=K)                                    # or each rank K / 2 members

    processes.py  process_group, rank, ranks; what ranks tell each other
    parallel.py   data_parallel: loss_fn -> loss_fn
    together.py   one model's fit on all ranks: who writes, and when all stop
    sharded.py    K members' fit, each rank its own
    fit.py        fit, for either
"""

from .fit import fit
from .parallel import data_parallel
from .processes import process_group, rank, ranks
from .sharded import share

__all__ = ["data_parallel", "fit", "process_group", "rank", "ranks", "share"]
