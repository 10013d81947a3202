"""Imported first, compiles loops without vector instructions: the same programs, for a third less of the time.

What tests compile is compared with what is eager, not timed. The fixture `compiled_as_users_do` sets torch's own
setting again, and the processes that tests start have it, but for those of the notebooks.
"""

import torch._inductor.config

torch._inductor.config.cpp.simdlen = 1
