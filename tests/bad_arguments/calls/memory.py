"""Good calls of `keep_memory`."""

import platform

import funcreg as fr
from tests.bad_arguments.call import Call, call

CALLS: list[Call] = [call("keep_memory", fr.keep_memory, most=2**20)] if platform.libc_ver()[0] == "glibc" else []
