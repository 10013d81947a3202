"""Good calls of `distributed`, on one process."""

import functools
from typing import Any

from funcreg import distributed
from tests.bad_arguments.call import KEY, PARAMS, Call, X, call
from tests.bad_arguments.calls.train import HPARAMS, STATE, STEP, STOPPING, evaluate, loss_fn


def join(device: Any, timeout: Any) -> Any:
    with distributed.process_group(device, timeout=timeout) as here:
        return here


@functools.wraps(distributed.data_parallel)
def parallel(**settings: Any) -> Any:
    return distributed.data_parallel(**settings)(PARAMS, {}, X, key=KEY, hparams=None)


CALLS: list[Call] = [
    call("distributed.data_parallel", parallel, loss_fn=loss_fn, shards=2, group=None),
    call("distributed.data_parallel()", distributed.data_parallel(loss_fn, shards=2), params=PARAMS, state={},
         batch=X, key=KEY, hparams=None),
    call("distributed.fit", distributed.fit, step=STEP, train_state=STATE, data=X, key=KEY, epochs=1,
         hparams=HPARAMS, members=None, batches="shared", evaluate=evaluate, early_stopping=STOPPING,
         checkpoint=None, progress=False, group=None, monitor="val_loss", jit=False),
    call("distributed.process_group", join, device="cpu", timeout=10.0),
    call("distributed.rank", distributed.rank, group=None),
    call("distributed.ranks", distributed.ranks, group=None),
    call("distributed.share", distributed.share, members=2, group=None),
]  # fmt: skip
