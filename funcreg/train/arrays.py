"""Data as tensors: numpy's arrays, memory-mapped ones too, are taken where they lie."""

import sys
import warnings
from typing import Any

import torch

from .. import _checks, tree
from ..tree.structure import entry


def as_tensors(argument: str, data: tree.Tree) -> tree.Tree:
    """A tree whose numpy arrays are tensors that share their memory, or their file; the rest as it is.

    Args:
        argument: whose name an error tells.
        data: a tree.

    Raises:
        FuncregError: for an array that torch has no tensor for, by its name.

    >>> as_tensors("data", {"x": torch.ones(1)})
    {'x': tensor([1.])}
    """
    for name, leaf in zip(tree.names(data), tree.leaves(data), strict=True):
        if isinstance(leaf, torch.Tensor) and leaf.is_meta:
            _checks.fail(entry(argument, name), _checks.describe(leaf), "a tensor with values")
    numpy = sys.modules.get("numpy")
    if numpy is None or not any(isinstance(leaf, numpy.ndarray) for leaf in tree.leaves(data)):
        return data

    def tensor(name: str, leaf: Any) -> Any:
        if not isinstance(leaf, numpy.ndarray):
            return leaf
        with warnings.catch_warnings():
            # A read-only array is welcome: nothing is written here.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            try:
                return torch.from_numpy(leaf)
            except (TypeError, ValueError) as error:
                where = entry(argument, name)
                got = f"a numpy array of dtype {leaf.dtype} and shape {leaf.shape} ({str(error).splitlines()[0]})"
                remedy = "Convert it: torch.tensor(array.astype(numpy.float32)), or array.copy() for negative strides."
                _checks.fail(where, got, "one that torch.from_numpy takes", remedy)

    return tree.map_named(tensor, data)
