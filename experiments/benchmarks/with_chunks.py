"""What `chunk_size` does to the memory of Monte Carlo dropout."""

from .measure import peak_memory

CODE = """
import torch, funcreg as fr
from experiments.benchmarks import stateful
torch.set_num_threads(2)
module = stateful.mlp((784, 512, 512, 10), 0.5)
model, (params, state) = fr.from_module(module), fr.variables(module)
x, key = torch.ones(1000, 784), fr.random.key(1)
fr.uncertainty.mc_dropout(model, params, state, x[:2], key=key, samples=2, chunk_size=1)
baseline()
fr.uncertainty.mc_dropout(model, params, state, x, key=key, samples=100, chunk_size=CHUNK)
"""


def peak_by_chunk_size(chunk_sizes: tuple[int | str, ...] = (100, 50, 10, 1, "auto")) -> dict[str, float]:
    """Peak memory in MiB that MC dropout of the MLP adds, batch 1000, 100 samples."""
    return {str(chunk): peak_memory(CODE.replace("CHUNK", repr(chunk))) for chunk in chunk_sizes}
