"""Good calls of `checkpoint`."""

from funcreg import checkpoint
from tests.bad_arguments.call import PARAMS, PATH, Call, call

checkpoint.save(PATH, PARAMS, metadata={"epoch": 3})

CALLS: list[Call] = [
    call("checkpoint.save", checkpoint.save, path=PATH.with_name("other"), tree=PARAMS, metadata={"epoch": 3}),
    call("checkpoint.load", checkpoint.load, path=PATH, like=PARAMS),
    call("checkpoint.read_leaves", checkpoint.read_leaves, path=PATH),
    call("checkpoint.read_metadata", checkpoint.read_metadata, path=PATH),
]
