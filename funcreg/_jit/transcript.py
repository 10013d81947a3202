"""What a function asks of torch, operator by operator: two calls with one transcript compute the same."""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary


class Transcript(TorchDispatchMode):
    """While a function runs: a digest of its operators, their settings, and which results they take.

    Tensors are told apart by when they came, inputs first. One that came from nowhere, which the
    function closes over, is told by its values.

    >>> digests = []
    >>> for x, factor in ((1.0, 2.0), (3.0, 2.0), (1.0, 5.0)):
    ...     given = torch.tensor(x)
    ...     with Transcript([given]) as transcript:
    ...         result = given * factor + 1
    ...     digests.append(transcript.digest([result]))
    >>> digests[0] == digests[1] != digests[2]
    True
    """

    supports_higher_order_operators = True

    def __init__(self, inputs: Iterable[Tensor]) -> None:
        super().__init__()
        self.places = WeakTensorKeyDictionary()
        self.count = 0
        self.hash = hashlib.sha256()
        for tensor in inputs:
            self._say(self._came(tensor))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports the compiler, which takes longer to import than torch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self._say(str(func), self._told(args), self._told(kwargs))
        results = func(*args, **kwargs)
        for result in results if isinstance(results, tuple | list) else (results,):
            if isinstance(result, Tensor):
                self._say(self._came(result))
        return results

    def digest(self, results: Any) -> str:
        """Of all that was said, and of which tensors are the results."""
        self._say("results", self._told(results))
        return self.hash.hexdigest()[:32]

    def _say(self, *words: str) -> None:
        self.hash.update(" ".join((*words, "\n")).encode())

    def _came(self, tensor: Tensor) -> str:
        self.places[tensor], self.count = self.count, self.count + 1
        return f"{tensor.dtype}{tuple(tensor.shape)}{tensor.stride() if tensor.layout == torch.strided else ''}"

    def _told(self, value: Any) -> str:
        if isinstance(value, Tensor):
            if value not in self.places:
                self._say("closed over", self._came(value))
                self.hash.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            return f"%{self.places[value]}"
        if isinstance(value, tuple | list):
            return f"({', '.join(map(self._told, value))})"
        if isinstance(value, dict):
            return self._told(list(value.items()))
        return repr(value)
