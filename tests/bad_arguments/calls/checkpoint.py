"""Good calls of `checkpoint`."""

import functools
from typing import Any

from funcreg import checkpoint
from tests.bad_arguments.call import PARAMS, PATH, Call, call


@functools.wraps(checkpoint.save)
def read_again(path: Any, tree: Any, metadata: Any) -> Any:
    """What a file gives back."""
    checkpoint.save(path, tree, metadata=metadata)
    return checkpoint.read_leaves(path)


checkpoint.save(PATH, PARAMS, metadata={"epoch": 3})

CALLS: list[Call] = [
    call("checkpoint.save", read_again, path=PATH.with_name("other"), tree=PARAMS, metadata={"epoch": 3}),
    call("checkpoint.load", checkpoint.load, path=PATH, like=PARAMS),
    call("checkpoint.read_leaves", checkpoint.read_leaves, path=PATH),
    call("checkpoint.read_metadata", checkpoint.read_metadata, path=PATH),
]
