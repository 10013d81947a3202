"""Imported first, compiles loops without vector instructions or optimization: the same programs, in less time.

What tests compile is compared with what is eager, not timed: a program of thousands of operators takes g++ a fifth of
the time. The fixture `compiled_as_users_do` sets torch's own settings again, and the processes that tests start have
them, but for those of the notebooks.
"""

import torch._inductor.config

TORCHS_OWN = {"cpp.simdlen": None, "aot_inductor.debug_compile": False}

torch._inductor.config.cpp.simdlen = 1
torch._inductor.config.aot_inductor.debug_compile = True
