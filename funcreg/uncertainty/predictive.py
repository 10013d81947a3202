"""Many predictions as one: their mean, how far they agree, and where the uncertainty comes from."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .. import _checks, random, tree
from ..losses.reductions import precise

# How torch says that something batched is written into something that is not.
_WRITES = ("inplace arithmetic", "in place", "(self, *extra_args)", "match the broadcast shape")


class Predictive(NamedTuple):
    """What T sampled predictions for N inputs of C classes say together.

    mean: (N, C), their average probabilities.
    variance: (N, C), of each class's probability over the samples (divided by T, not T - 1).
    entropy: (N,), of the mean: total uncertainty.
    expected_entropy: (N,), the mean of the samples' entropies: noise in the data.
    mutual_information: (N,), entropy - expected_entropy: what more data about the weights would remove.
    """

    mean: Tensor
    variance: Tensor
    entropy: Tensor
    expected_entropy: Tensor
    mutual_information: Tensor


class HasApply(Protocol):
    """A model: what `fr.from_module` returns, or anything with its `apply`."""

    @property
    def apply(self) -> Callable[..., tuple[Any, Any]]:
        """`apply(params, state, x, *, key, rates) -> (logits, state)`."""
        ...


class _Moments(NamedTuple):
    """Sums over the samples so far, in the form that two of them can be merged."""

    count: int  # pyright: ignore[reportIncompatibleMethodOverride] (a field may hide tuple.count)
    mean: Tensor
    squares: Tensor  # squared deviations from the mean, summed
    entropies: Tensor


def mc_dropout(
    model: HasApply,
    params: Any,
    state: Any,
    x: Tensor,
    *,
    key: Tensor,
    samples: int = 100,
    chunk_size: int | None = None,
    rates: float | Tensor | Mapping[str, float | Tensor] | None = None,
) -> Predictive:
    """Monte Carlo dropout: predict with the noise on, under many keys, and see how far they agree.

    Noise is on and normalisation uses its running statistics: `model.apply(params, state, x, key=k)`
    for each of `split(key, samples)`, softmax, all under one `vmap`.

    Args:
        model: what `fr.from_module` returns; its output is logits (N, C).
        params, state: the model's.
        x: the inputs, (N, ...).
        key: int64 (2,).
        samples: how many predictions, T.
        chunk_size: how many at once; bounds the peak memory, and changes the result by rounding only.
            Default: all.
        rates: noise rates instead of the model's own, as `apply` takes them.

    Returns:
        Predictive, in float32 (float64 for a float64 model).

    Raises:
        FuncregError: for a wrong samples or chunk_size, a model without `apply`, and one that draws
            global random numbers or writes to a buffer.

    >>> from collections import namedtuple
    >>> def apply(params, state, x, *, key, rates):
    ...     return x * random.bernoulli(key, 0.5, tuple(x.shape)), state
    >>> model = namedtuple("Model", "apply")(apply)
    >>> mc_dropout(model, {}, {}, torch.tensor([[4.0, 0.0]]), key=random.key(0)).mean
    tensor([[0.7..., 0.2...]])

    Gal and Ghahramani, "Dropout as a Bayesian approximation", ICML 2016.
    """
    _check_model(model, chunk_size)
    _checks.check_count("samples", samples)

    def draw(key: Tensor) -> Tensor:
        return _logits(model.apply(params, state, x, key=key, rates=rates))

    return _predict(draw, random.split(key, samples), samples, chunk_size)


def ensemble(model: HasApply, params: Any, state: Any, x: Tensor, *, chunk_size: int | None = None) -> Predictive:
    """The predictions of K trained members as one: a deep ensemble.

    Each member predicts with its noise off, `model.apply(params[k], state[k], x)`, softmax, all under
    one `vmap`; their average is the prediction, their disagreement what they do not know.

    Args:
        model: what `fr.from_module` returns; its output is logits (N, C).
        params, state: stacked, every leaf (K, ...), as those of `train.fit(members=K)` and `model_members`.
        x: the inputs, (N, ...), the same for all.
        chunk_size: how many members at once; bounds the peak memory, and changes the result by
            rounding only. Default: all.

    Returns:
        Predictive, in float32 (float64 for a float64 model).

    Raises:
        FuncregError: for a wrong chunk_size, a model without `apply`, leaves that do not share a leading
            axis, and a model that draws global random numbers or writes to a buffer.

    >>> from collections import namedtuple
    >>> model = namedtuple("Model", "apply")(lambda params, state, x: (x * params["scale"], state))
    >>> params = {"scale": torch.tensor([1.0, -1.0])}  # two members of opposite opinions
    >>> ensemble(model, params, {}, torch.tensor([[1000.0, 0.0]]))
    Predictive(mean=tensor([[0.5000, 0.5000]]), variance=tensor([[0.2500, 0.2500]]), entropy=tensor([0.6931]),
        expected_entropy=tensor([0.]), mutual_information=tensor([0.6931]))

    Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty estimation using
    deep ensembles", NeurIPS 2017.
    """
    _check_model(model, chunk_size)
    members = tree.members(params)
    if members == 0:
        _checks.fail("params", "no members", "a leading axis of at least one")
    if tree.leaves(state) and tree.members(state) != members:
        _checks.fail("state", f"that of {tree.members(state)} members", f"that of {members}, as params")

    def member(values: tuple[Any, Any]) -> Tensor:
        return _logits(model.apply(*values, x))

    return _predict(member, (params, state), members, chunk_size)


def from_samples(probabilities: Tensor) -> Predictive:
    """Summarise sampled predictions, e.g. those of the members of an ensemble.

    Args:
        probabilities: floating-point (T, ..., C), each row a distribution.

    Returns:
        Predictive: (..., C) and (...).

    Raises:
        FuncregError: when probabilities is not such a tensor, or T is 0.

    >>> sure, torn = [1.0, 0.0], [0.5, 0.5]
    >>> from_samples(torch.tensor([[sure, torn], [[0.0, 1.0], torn]])).mutual_information
    tensor([0.6931, 0.0000])
    """
    check_probabilities(probabilities)
    if probabilities.ndim < 2 or probabilities.shape[0] == 0:
        _checks.fail("probabilities", _checks.describe(probabilities), "a tensor (T, ..., C) with T at least 1")
    return _predictive(_moments(precise(probabilities)))


def entropy(probabilities: Tensor) -> Tensor:
    """Shannon's entropy in nats: `-sum_c p_c log p_c`; its gradient where p_c = 0 is taken as 0.

    Args:
        probabilities: floating-point (..., C).

    Returns:
        (...), from 0 for certainty to log C.

    Raises:
        FuncregError: when probabilities is not such a tensor.

    >>> entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    tensor([0.0000, 0.6931])
    """
    check_probabilities(probabilities)
    return _entropy(precise(probabilities))


def _predict(function: Callable[[Any], Tensor], stacked: tree.Tree, members: int, chunk_size: int | None) -> Predictive:
    """What the softmaxes of a function of each member of a stacked tree say, a chunk of members at a time."""
    size = chunk_size or members
    moments = None
    for start in range(0, members, size):
        chunk = tree.map(lambda leaf, start=start: leaf[start : start + size], stacked)
        each = _moments(torch.softmax(_over_members(function, chunk), dim=-1))
        moments = each if moments is None else _merge(moments, each)
    assert moments is not None  # there is at least one member
    return _predictive(moments)


def _over_members(function: Callable[[Any], Tensor], stacked: tree.Tree) -> Tensor:
    """vmap, with torch's two complaints about impure models in terms of the model."""
    if torch.compiler.is_compiling():
        return torch.func.vmap(function)(stacked)
    try:
        return torch.func.vmap(function)(stacked)
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


def _check_model(model: Any, chunk_size: int | None) -> None:
    # An nn.Module has an apply of its own, which does something else.
    if isinstance(model, torch.nn.Module) or not callable(getattr(model, "apply", None)):
        allowed = "a model with apply(params, state, x, *, key, rates)"
        _checks.fail("model", _checks.describe(model), allowed, "Make one: fr.from_module(module).")
    if chunk_size is not None:
        _checks.check_count("chunk_size", chunk_size)


def _logits(output: tuple[Any, Any]) -> Tensor:
    """The logits that a model returned, with its state."""
    logits, _ = output
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.ndim < 1:
        _checks.fail("model", f"an output of {_checks.describe(logits)}", "logits (N, C)")
    return precise(logits)


def _moments(samples: Tensor) -> _Moments:
    mean = samples.mean(dim=0)
    return _Moments(
        count=samples.shape[0],
        mean=mean,
        squares=((samples - mean) ** 2).sum(dim=0),
        entropies=_entropy(samples).sum(dim=0),
    )


def _merge(one: _Moments, other: _Moments) -> _Moments:
    """Chan, Golub and LeVeque's pairwise update, which does not cancel as E[p**2] - E[p]**2 would."""
    count = one.count + other.count
    step = other.mean - one.mean
    return _Moments(
        count=count,
        mean=one.mean + step * (other.count / count),
        squares=one.squares + other.squares + step**2 * (one.count * other.count / count),
        entropies=one.entropies + other.entropies,
    )


def _predictive(moments: _Moments) -> Predictive:
    total, expected = _entropy(moments.mean), moments.entropies / moments.count
    return Predictive(
        mean=moments.mean,
        variance=moments.squares / moments.count,
        entropy=total,
        expected_entropy=expected,
        mutual_information=(total - expected).clamp_min(0.0),  # below 0 by rounding only (Jensen)
    )


def _entropy(probabilities: Tensor) -> Tensor:
    zero = probabilities <= 0
    return torch.where(zero, 0.0, -probabilities * torch.log(torch.where(zero, 1.0, probabilities))).sum(dim=-1)


def check_probabilities(probabilities: Tensor) -> None:
    """Refuse what is not a floating-point tensor (..., C)."""
    _checks.check_floating("probabilities", probabilities)
    if probabilities.ndim == 0 or probabilities.shape[-1] == 0:
        _checks.fail("probabilities", _checks.describe(probabilities), "a tensor (..., C)")
