"""Good calls of `jit`."""

import funcreg as fr
from tests.bad_arguments.call import Call, call

CALLS: list[Call] = [
    call("jit", fr.jit, function=lambda x: x),
    call("can_compile", fr.can_compile),
]
