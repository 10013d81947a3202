"""Metrics over a whole data set, exactly: every sample once, whatever the batch size."""

import contextlib
import functools
from collections.abc import Callable, Generator
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import _checks, _jit, tree
from ..tree.checks import check_tensors, check_values
from ..tree.stacking import members_of
from .arrays import as_tensors
from .chunks import Chunks
from .generators import Draws
from .sources import as_batch, is_source, to_device
from .step import check_members

MetricFn = Callable[[Any, Any, Any], dict[str, Tensor]]


class Evaluate(Protocol):
    """(params, state, data, *, batch_size=None) -> name -> mean over the samples."""

    def __call__(
        self, params: tree.Tree, state: tree.Tree, data: Any, *, batch_size: int | None = None
    ) -> dict[str, Tensor]: ...


def make_evaluate(
    metric_fn: MetricFn, *, members: int | None = None, chunk_size: int | None = None, jit: bool = False
) -> Evaluate:
    """Means of per-sample metrics over a data set, taken batch by batch.

    Args:
        metric_fn: (params, state, batch) -> name -> tensor (samples of the batch,), one value a sample.
        members: with it, params and state have a leading axis, and so have the results.
        chunk_size: members at a time; bounds the memory, and changes the result by rounding only.
            Default: all.
        jit: compile metric_fn, once for each batch size; a last smaller batch is filled up with
            repeated samples, which are not counted.

    Returns:
        evaluate(params, state, data, *, batch_size=None) -> name -> float64 tensor (), or (members,).
        data is a tree of tensors, or numpy's arrays, with a leading axis, of which batch_size None takes
        all at once; or a source that gives batches when it is iterated, as for `fit`, which is iterated
        once and leaves the global generators as they were. Batches are moved to the parameters' device.

    Raises:
        FuncregError: when metric_fn returns something else than one value a sample, params and state
            are not of `members`, or there is no sample.

    >>> evaluate = make_evaluate(lambda params, state, batch: {"val_loss": (batch - params) ** 2})
    >>> evaluate(torch.tensor(1.0), {}, torch.tensor([0.0, 1.0, 3.0]), batch_size=2)
    {'val_loss': tensor(1.6667, dtype=torch.float64)}
    """
    _checks.check_choice("jit", jit, (True, False))
    _checks.check_callable("metric_fn", metric_fn, "a function (params, state, batch) -> dict of tensors")
    if members is not None:
        _checks.check_count("members", members)
    chunks = Chunks(members, chunk_size)
    function = metric_fn if members is None else torch.func.vmap(metric_fn, in_dims=(0, 0, None))
    programs: dict[int, MetricFn] = {}  # by the size of the batch

    def metrics_of(batch: tree.Tree, model: tuple[tree.Tree, tree.Tree]) -> dict[str, Tensor]:
        size = tree.members(batch)
        if size not in programs:
            programs[size] = _jit.jit(function) if jit else function
        metrics = programs[size](*model, batch)
        _check_metrics(metrics, (*chunks.shape, size))
        return metrics

    @torch.no_grad()
    def evaluate(params: tree.Tree, state: tree.Tree, data: Any, *, batch_size: int | None = None) -> dict[str, Tensor]:
        check_tensors("params", params)
        check_tensors("state", state)
        check_values("params", (params, state))
        if members is not None:
            check_members("params", params, members)
            check_members("state", state, members)
        sums: dict[str, Tensor] = {}
        models = chunks.split((params, state))
        device = next((leaf.device for leaf in tree.leaves((params, state))), None)
        samples = size = 0
        with contextlib.closing(_batches(data, batch_size)) as batches:
            for batch in batches:
                batch = batch if device is None else to_device(batch, device)
                count = tree.members(batch)
                samples, size = samples + count, size or count
                if jit and count < size:
                    batch = tree.map(lambda leaf, missing=size - count: _fill(leaf, missing), batch)
                for name, value in chunks.join(chunks.each(functools.partial(metrics_of, batch), models)).items():
                    total = value[..., :count].sum(-1, dtype=torch.float64)
                    sums[name] = sums[name] + total if name in sums else total
        if not samples:
            _checks.fail("data", "no samples", "at least one")
        return {name: total / samples for name, total in sums.items()}

    return evaluate


def _batches(data: Any, size: int | None) -> Generator[tree.Tree, None, None]:
    """All samples, in order: those of a source as it gives them."""
    if is_source(data):
        if size is not None:
            _checks.fail("batch_size", f"{size} with a source", "none: it gives whole batches", "Leave it out.")
        with Draws():
            yield from (batch for raw in data if tree.members(batch := as_batch(raw)))
        return
    data = as_tensors("data", data)
    samples = members_of("data", data)
    if not samples:
        _checks.fail("data", "tensors without a sample", "at least one")
    size = samples if size is None else size
    _checks.check_count("batch_size", size)
    for start in range(0, samples, size):
        yield tree.map(lambda leaf, start=start: leaf[start : start + size], data)


def _fill(leaf: Tensor, missing: int) -> Tensor:
    """A batch made longer by repeating its first sample."""
    return torch.cat((leaf, leaf[:1].expand(missing, *leaf.shape[1:])))


def _check_metrics(metrics: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(metrics, dict):
        _checks.fail("metric_fn", f"a return of {_checks.describe(metrics)}", "a dict of name -> tensor (samples,)")
    for name, value in metrics.items():
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            remedy = 'Do not average over the batch: reduction="none".'
            _checks.fail(f"metric_fn's {name!r}", _checks.describe(value), f"a tensor of shape {shape}", remedy)
