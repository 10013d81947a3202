"""A step as the program that `fit` runs: vmapped over members, compiled, and with errors in our words."""

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import _checks, _jit, tree
from ..tree.structure import entry
from .step import Metrics, Step, TrainState


def program_of(step: Step, *, batched: bool, own: bool, bare: bool, jit: bool | Path) -> Step:
    """The step for one batch.

    Args:
        step: from `make_step`.
        batched: for members, with a leading axis; else for one model.
        own: each member has its own batch.
        bare: there are no hyperparameters.
        jit: compiled; or the folder where programs are kept.
    """
    plain = _vmapped(step, batched, own, bare)
    folder = jit if isinstance(jit, Path) else None
    compiled = _compiled(step, batched, own, bare, folder) if jit else plain

    def program(train_state: TrainState, batch: Any, hparams: Any) -> tuple[TrainState, Metrics]:
        try:
            return compiled(train_state, batch, hparams)
        except _checks.FuncregError:
            raise
        except Exception as error:
            _explain(error, train_state, batch)
            if jit:
                # The compiler wraps an error of the step in many lines of its own.
                _explain_by_running(plain, train_state, batch, hparams)
            raise

    return program


def dense(leaf: Tensor) -> Tensor:
    """The same numbers, laid out as a new tensor's; with other strides a compiled program compiles again."""
    fresh = torch.empty(leaf.shape, device="meta").stride()
    return leaf if leaf.stride() == fresh else leaf.clone(memory_format=torch.contiguous_format)


def _explain_by_running(plain: Step, train_state: TrainState, batch: Any, hparams: Any) -> None:
    """Raise the FuncregError that the step raises when it is not compiled, if it does."""
    try:
        plain(train_state, batch, hparams)
    except _checks.FuncregError:
        raise
    except Exception as error:
        _explain(error, train_state, batch)


def _explain(error: Exception, train_state: TrainState, batch: Any) -> None:
    """vmap's refusal of a global draw, or a kernel's of two dtypes, as a FuncregError with the remedy."""
    if isinstance(error, RuntimeError) and "vmap" in str(error) and "randomness" in str(error):
        remedy = (
            "Draw with fr.random from the key it gets. Outside fit, pass a key per member: fr.random.split(key, n)."
        )
        _checks.fail("loss_fn", "a draw from torch's global generator under vmap", "draws from a key", remedy)
    if isinstance(error, RuntimeError) and ("same dtype" in str(error) or "scalar type" in str(error)):
        own = tree.leaves(train_state.params)[0].dtype
        for name, leaf in zip(tree.names(batch), tree.leaves(batch), strict=True):
            if leaf.is_floating_point() and leaf.dtype != own:
                told = str(error).strip().splitlines()[0]
                remedy = f"Convert one of them; data: {name}.to({own}). (torch: {told})"
                _checks.fail(entry("data", name), _checks.describe(leaf), f"{own}, as the parameters have", remedy)


@functools.lru_cache(maxsize=16)
def _compiled(step: Step, batched: bool, own: bool, bare: bool, folder: Path | None) -> Step:
    """Kept, so that a second fit with the same step does not compile again."""
    plain = _vmapped(step, batched, own, bare)

    def program(train_state: TrainState, batch: Any, hparams: Any) -> tuple[TrainState, Metrics]:
        train_state, metrics = plain(train_state, batch, hparams)
        # A member's key is a part of a split, with the strides of the whole.
        return tree.map(dense, train_state), metrics

    return _jit.jit(program, folder=folder)


def _vmapped(step: Step, batched: bool, own: bool, bare: bool) -> Step:
    if not batched:
        return step
    return torch.func.vmap(step, in_dims=(0, 0 if own else None, None if bare else 0))
