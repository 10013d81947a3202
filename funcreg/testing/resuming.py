"""Runs that are killed: whether what goes on is what would have been."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import _checks, tree
from .trees import assert_trees_equal

Fit = Callable[[Path, Callable[[object], None]], tree.Tree]


def assert_resumes(fit: Fit, *, after: Sequence[int] = (1,)) -> None:
    """Refuse training that, killed and started again, does not end with the same bits, or begins anew.

    Args:
        fit: `fit(checkpoint, on_epoch) -> result`: trains with a checkpoint at that path, from it where there is
            one, and calls `on_epoch` after each epoch that it has saved, as `fr.train.fit` does. The result is a tree.
        after: the epochs after which it is killed, counted in each run from 1. One run for each, and each goes on.

    Raises:
        AssertionError: where the results differ, by the path of the leaf; or no epoch was left out the second time.
        FuncregError: for an epoch below 1, or one that the training does not reach.

    >>> import torch
    >>> import funcreg as fr
    >>> def fit(checkpoint, on_epoch):
    ...     value = torch.zeros(())
    ...     if checkpoint.exists():
    ...         value = fr.checkpoint.load(checkpoint, value)
    ...     while value < 3:
    ...         value = value + 1
    ...         fr.checkpoint.save(checkpoint, value)
    ...         on_epoch(value)
    ...     return value
    >>> assert_resumes(fit, after=(1, 2))
    """
    _checks.check_callable("fit", fit, "a function (checkpoint, on_epoch) -> result")
    for at, epoch in enumerate(after):
        _checks.check_count(f"after[{at}]", epoch)
    with tempfile.TemporaryDirectory() as folder:
        whole = _Counted(None)
        expected = fit(Path(folder, "whole"), whole)
        for at, epoch in enumerate(after):
            if epoch > whole.epochs:
                _checks.fail(f"after[{at}]", epoch, f"one of the {whole.epochs} epochs that were trained")
            path, rest = Path(folder, f"killed{at}"), _Counted(None)
            _kill(fit, path, epoch)
            resumed = fit(path, rest)
            try:
                assert_trees_equal(resumed, expected)
            except AssertionError as error:
                raise AssertionError(f"killed after epoch {epoch} and resumed, {error}") from None
            if rest.epochs != whole.epochs - epoch:
                said = f"trained {rest.epochs} epochs more, not {whole.epochs - epoch}"
                raise AssertionError(f"killed after epoch {epoch} of {whole.epochs} and resumed, it {said}")


class _KilledError(BaseException):
    """What ends a run; no `except Exception` catches it."""


class _Counted:
    """An `on_epoch` that counts, and kills after so many."""

    def __init__(self, last: int | None) -> None:
        self.epochs, self.last = 0, last

    def __call__(self, epoch: object) -> None:
        self.epochs += 1
        if self.epochs == self.last:
            raise _KilledError


def _kill(fit: Fit, path: Path, epoch: int) -> None:
    try:
        fit(path, _Counted(epoch))
    except _KilledError:
        return
    raise AssertionError(f"it went on when `on_epoch` ended the run after epoch {epoch}")
