"""Whether a compiler runs this code. torch's own answer is the process's: one thread may compile while others run."""

import torch


def is_compiling() -> bool:
    """Whether this thread runs code for a program of `torch.compile` or `torch.export`.

    >>> is_compiling()
    False
    """
    if not torch.compiler.is_compiling():
        return False
    # What is traced otherwise is seen by a mode of this thread.
    return torch.compiler.is_dynamo_compiling() or torch._C._len_torch_dispatch_stack() > 0
