"""Predictions under many keys, or of many members: all at once, or a chunk at a time, and compiled."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import _checks, _jit, random, tree
from .._functorch import in_transform, varies_with
from ..tree.stacking import members_of
from ..tree.values import precise
from . import predictive
from .chunking import Chunking, ChunkSize, evenly
from .predictive import Predictive
from .program import program_of
from .replay import recorded

# How torch says that something batched is written into something that is not.
_WRITES = ("inplace arithmetic", "in place", "(self, *extra_args)", "match the broadcast shape")


class HasApply(Protocol):
    """A model: what `fr.from_module` returns, or anything with its `apply`."""

    @property
    def apply(self) -> Callable[..., tuple[Any, Any]]:
        """`apply(params, state, x, *, key, rates) -> (logits, state)`."""
        ...


def mc_dropout(
    model: HasApply,
    params: Any,
    state: Any,
    x: Tensor,
    *,
    key: Tensor,
    samples: int = 100,
    rates: float | Tensor | Mapping[str, float | Tensor] | None = None,
    batch_size: int | None = None,
    chunk_size: ChunkSize = "auto",
    memory_budget: int | None = None,
    jit: bool = False,
) -> Predictive:
    """Monte Carlo dropout: predict with the noise on, under many keys, and see how far they agree.

    Noise is on and normalisation uses its running statistics: `model.apply(params, state, x, key=k)`
    for each of `split(key, samples)`, softmax, under `vmap`. What comes before the first noise is
    computed once for all samples.

    Args:
        model: what `fr.from_module` returns; its output is logits (N, C).
        params, state: the model's.
        x: the inputs, (N, ...).
        key: int64 (2,).
        samples: how many predictions, T.
        rates: noise rates instead of the model's own, as `apply` takes them.
        batch_size: how many inputs at once, at most, in batches that are about even; each is a call of its
            own, with a key of `split(key, batches)`. Default: all.
        chunk_size: how many samples at once, at most; it changes the result by rounding only. "auto": as many
            as memory_budget allows, by the memory that one more takes (eagerly; a trial, once for a model
            and its shapes). In a program of `fr.jit` nothing can be tried, and "auto" is all.
        memory_budget: bytes for what a chunk makes from its keys. Default: 32 MiB on a CPU, about what its
            caches hold, and quickest; 1 GiB elsewhere.
        jit: compile what depends on the samples, once for a model and its shapes. It pays for large
            inputs, or many calls. What a model by hand holds beside its arguments stays as it was then.

    Returns:
        Predictive, in float32 (float64 for a float64 model).

    Raises:
        FuncregError: for a wrong samples, batch_size, chunk_size or memory_budget, a model without `apply`,
            one without noise (in eager code, where rates do not say so) or with one output alone, one that draws global
            random numbers or writes to a buffer, and with jit, inside of `vmap` or
            another transform, and for a model that does other things for other values.

    >>> from collections import namedtuple
    >>> def apply(params, state, x, *, key, rates):
    ...     return x * random.bernoulli(key, 0.5, tuple(x.shape)), state
    >>> model = namedtuple("Model", "apply")(apply)
    >>> mc_dropout(model, {}, {}, torch.tensor([[4.0, 0.0]]), key=random.key(0)).mean
    tensor([[0.7..., 0.2...]])

    Gal and Ghahramani, "Dropout as a Bayesian approximation", ICML 2016.
    """
    _check_model(model)
    _checks.check_count("samples", samples)
    _checks.check_key(key)

    def draw(key: Tensor, shared: tuple[Any, ...]) -> Tensor:
        *variables, given = shared
        logits = _logits(model.apply(*variables, key=key, rates=given))
        if rates is None and not (torch.compiler.is_compiling() or varies_with(logits, key)):
            remedy = "Give its dropout a rate above 0, or predict without noise: model.apply(params, state, x)."
            _checks.fail("model", "one whose output is the same for every key", "a model with noise", remedy)
        return logits

    how = Chunking(chunk_size, memory_budget, jit)
    batches = _batches(x, batch_size)
    keys = key[None] if len(batches) == 1 else random.split(key, len(batches))
    return _joined(
        [
            _predict(draw, model.apply, random.split(each, samples), (params, state, x[rows], rates), samples, how)
            for rows, each in zip(batches, keys, strict=True)
        ],
        batches,
    )


def ensemble(
    model: HasApply,
    params: Any,
    state: Any,
    x: Tensor,
    *,
    batch_size: int | None = None,
    chunk_size: ChunkSize = "auto",
    memory_budget: int | None = None,
    jit: bool = False,
) -> Predictive:
    """The predictions of K trained members as one: a deep ensemble.

    Each member predicts with its noise off, `model.apply(params[k], state[k], x)`, softmax, all under
    one `vmap`; their average is the prediction, their disagreement what they do not know.

    Args:
        model: what `fr.from_module` returns; its output is logits (N, C).
        params, state: stacked, every leaf (K, ...), as those of `train.fit(members=K)` and `model_members`.
        x: the inputs, (N, ...), the same for all.
        batch_size: how many inputs at once, at most. Default: all.
        chunk_size, memory_budget, jit: of members, as in `mc_dropout`.

    Returns:
        Predictive, in float32 (float64 for a float64 model).

    Raises:
        FuncregError: as `mc_dropout`, and for leaves that do not share a leading axis.

    >>> from collections import namedtuple
    >>> model = namedtuple("Model", "apply")(lambda params, state, x: (x * params["scale"], state))
    >>> params = {"scale": torch.tensor([1.0, -1.0])}  # two members of opposite opinions
    >>> ensemble(model, params, {}, torch.tensor([[1000.0, 0.0]]))
    Predictive(mean=tensor([[0.5000, 0.5000]]), variance=tensor([[0.2500, 0.2500]]), entropy=tensor([0.6931]),
        expected_entropy=tensor([0.]), mutual_information=tensor([0.6931]))

    Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty estimation using
    deep ensembles", NeurIPS 2017.
    """
    _check_model(model)
    members = members_of("params", params)
    if members == 0:
        _checks.fail("params", "no members", "a leading axis of at least one")
    if tree.leaves(state) and members_of("state", state) != members:
        _checks.fail("state", f"that of {tree.members(state)} members", f"that of {members}, as params")

    def member(variables: tuple[Any, Any], x: Tensor) -> Tensor:
        return _logits(model.apply(*variables, x))

    how = Chunking(chunk_size, memory_budget, jit)
    batches = _batches(x, batch_size)
    return _joined([_predict(member, model.apply, (params, state), x[rows], members, how) for rows in batches], batches)


def _predict(
    function: Callable[[Any, Any], Tensor], owner: Any, stacked: tree.Tree, shared: Any, members: int, how: Chunking
) -> Predictive:
    """What the softmaxes of a function of (member, shared) say, a chunk of a stacked tree's members at a time."""
    jit = how.jit and not torch.compiler.is_compiling()
    if jit and in_transform():
        _checks.fail("jit", True, "False inside of vmap, grad and other transforms", "Or compile them whole: fr.jit.")
    if jit:
        shared = tree.map(_jit.as_data, shared)

    def probabilities(member: Any, shared: Any) -> Tensor:
        return torch.softmax(function(member, shared), dim=-1)

    def some(start: int, stop: int) -> Any:
        return tree.map(lambda leaf: leaf[start:stop], stacked)

    def draw(some: Any) -> Tensor:
        return _over_members(probabilities, some, shared)

    size, moments = how.size(members, owner, (stacked, shared), lambda: draw(some(0, 1))), None
    again = program_of(probabilities, owner, some(0, size), shared) if jit else None
    for stop in range(size, members + size, size):
        if again is not None:  # a program is for one size: the last chunk begins with some that were in another
            whole = again(tree.leaves(some(min(stop, members) - size, stop)))
            drawn = whole[max(0, stop - members) :]
        elif stop == size < members and not in_transform() and not _jit.compiling():
            first = some(0, size)
            drawn, again = recorded(lambda first=first: draw(first), tree.leaves(first))
        else:
            drawn = draw(some(stop - size, stop))
        each = predictive.moments(drawn)
        moments = each if moments is None else predictive.merge(moments, each)
    assert moments is not None  # there is at least one member
    return predictive.predictive(moments)


def _batches(x: Tensor, batch_size: int | None) -> list[slice]:
    """The inputs in batches of one size, of which the last may begin with some that were in another."""
    if batch_size is None:
        return [slice(None)]
    _checks.check_count("batch_size", batch_size)
    if x.ndim == 0 or len(x) == 0:
        _checks.fail("x", _checks.describe(x), "inputs (N, ...), N at least 1, since there is a batch_size")
    size = evenly(len(x), batch_size)
    return [slice(min(stop, len(x)) - size, stop) for stop in range(size, len(x) + size, size)]


def _joined(parts: list[Predictive], batches: list[slice]) -> Predictive:
    """The predictions of batches as one, each input's once."""
    if len(parts) == 1:
        return parts[0]
    size = batches[0].stop
    for part in parts:
        if part.mean.ndim < 2 or len(part.mean) != size:
            allowed = f"logits ({size}, C) for {size} inputs, since there is a batch_size"
            _checks.fail("model", f"an output of shape {tuple(part.mean.shape)}", allowed)
    again = batches[-1].stop - batches[-1].start - size
    last = tree.map(lambda leaf: leaf[again:], parts[-1])
    return tree.map(lambda *leaves: torch.cat(leaves), *parts[:-1], last)


def _over_members(function: Callable[[Any, Any], Tensor], stacked: tree.Tree, shared: Any) -> Tensor:
    """vmap, with torch's two complaints about impure models in terms of the model."""
    if torch.compiler.is_compiling():
        return torch.func.vmap(function, (0, None))(stacked, shared)
    try:
        return torch.func.vmap(function, (0, None))(stacked, shared)
    except RuntimeError as error:
        message = str(error)
        remedy = "Build it with fr.from_module, and see fr.check(model, params, state, x)."
        if "randomness" in message:
            impure = "a model that draws from the global generator"
        elif any(words in message for words in _WRITES):
            impure = "a model that writes to its buffers"
        else:
            raise
        raise _checks.FuncregError(f"model: got {impure}; expected one whose noise is keyed. {remedy}") from error


def _check_model(model: Any) -> None:
    # An nn.Module has an apply of its own, which does something else.
    if isinstance(model, torch.nn.Module) or not callable(getattr(model, "apply", None)):
        allowed = "a model with apply(params, state, x, *, key, rates)"
        _checks.fail("model", _checks.describe(model), allowed, "Make one: fr.from_module(module).")


def _logits(output: tuple[Any, Any]) -> Tensor:
    """The logits that a model returned, with its state."""
    logits, _ = output
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.ndim < 1:
        _checks.fail("model", f"an output of {_checks.describe(logits)}", "logits (N, C)")
    if logits.shape[-1] < 2:
        remedy = "Of two classes with one logit z: torch.cat((torch.zeros_like(z), z), dim=-1)."
        _checks.fail("model", f"an output of {_checks.describe(logits)}", "logits (N, C) of at least 2 classes", remedy)
    return precise(logits)
