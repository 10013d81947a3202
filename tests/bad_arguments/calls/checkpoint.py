"""Good calls of `checkpoint`."""

import tempfile
from pathlib import Path

from funcreg import checkpoint
from tests.bad_arguments.call import PARAMS, Call, call

FOLDER = tempfile.TemporaryDirectory()
PATH = Path(FOLDER.name, "saved")
checkpoint.save(PATH, PARAMS, metadata={"epoch": 3})

CALLS: list[Call] = [
    call("checkpoint.save", checkpoint.save, path=PATH.with_name("other"), tree=PARAMS, metadata={"epoch": 3}),
    call("checkpoint.load", checkpoint.load, path=PATH, like=PARAMS),
    call("checkpoint.read_metadata", checkpoint.read_metadata, path=PATH),
]
