"""Imported first, compiles plain loops: the same programs, in less time.

What tests compile is compared with what is eager, not timed. Without vector instructions, optimization and symbols a
program of thousands of operators takes g++ a fifth of the time; where results of eight operators are kept, not computed
again for each of their uses, torch's Python takes a fifth less. The fixture `compiled_as_users_do` sets torch's own
settings again; processes that tests start have them.
"""

import torch._inductor.config
import torch._inductor.cpp_builder

TORCHS_OWN = {"cpp.simdlen": None, "aot_inductor.debug_compile": False, "realize_opcount_threshold": None}

torch._inductor.config.cpp.simdlen = 1
torch._inductor.config.aot_inductor.debug_compile = True
torch._inductor.config.realize_opcount_threshold = 8
torch._inductor.cpp_builder._get_inductor_debug_symbol_cflags = lambda: ([], [])  # no -g
