"""Predictions under many keys, or of many members, and what they say together."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, overload

import optree
from torch import Tensor

from .. import _checks, random, tree
from .._compiling import is_compiling
from .._functorch import varies_with
from ..tree.stacking import members_of
from .chunking import Chunking, ChunkSize
from .heads import ClassHead, NumberHead, head_of
from .predicting import batches_of, check_model, joined, output_of, predict
from .predictive import Predictive
from .regression import RegressionPredictive

Rates = float | Tensor | Mapping[str, float | Tensor] | None


class HasApply(Protocol):
    """A model: what `fr.from_module` returns, or anything with its `apply`."""

    @property
    def apply(self) -> Callable[..., tuple[Any, Any]]:
        """`apply(params, state, x, *, key, rates) -> (output, state)`."""
        ...


@overload
def mc_dropout(
    model: HasApply, params: Any, state: Any, x: Tensor, *, key: Tensor, head: ClassHead = ..., samples: int = ...,
    rates: Rates = ..., batch_size: int | None = ..., chunk_size: ChunkSize = ..., memory_budget: int | None = ...,
    jit: bool = ...,
) -> Predictive: ...  # fmt: skip
@overload
def mc_dropout(
    model: HasApply, params: Any, state: Any, x: Tensor, *, key: Tensor, head: NumberHead, samples: int = ...,
    rates: Rates = ..., batch_size: int | None = ..., chunk_size: ChunkSize = ..., memory_budget: int | None = ...,
    jit: bool = ...,
) -> RegressionPredictive: ...  # fmt: skip
@overload
def mc_dropout(
    model: HasApply, params: Any, state: Any, x: Tensor, *, key: Tensor, head: Literal["raw"], samples: int = ...,
    rates: Rates = ..., batch_size: int | None = ..., chunk_size: ChunkSize = ..., memory_budget: int | None = ...,
    jit: bool = ...,
) -> Tensor: ...  # fmt: skip
def mc_dropout(
    model: HasApply,
    params: Any,
    state: Any,
    x: Tensor,
    *,
    key: Tensor,
    head: ClassHead | NumberHead | Literal["raw"] = "softmax",
    samples: int = 100,
    rates: Rates = None,
    batch_size: int | None = None,
    chunk_size: ChunkSize = "auto",
    memory_budget: int | None = None,
    jit: bool = False,
) -> Any:
    """Monte Carlo dropout: predict with the noise on, under many keys, and see how far they agree.

    Noise is on and normalisation uses its running statistics: `model.apply(params, state, x, key=k)`
    for each of `split(key, samples)`, under `vmap`, each output read by the head. What comes before
    the first noise is computed once for all samples.

    Args:
        model: what `fr.from_module` returns.
        params, state: the model's.
        x: the inputs, (N, ...).
        key: int64 (2,).
        head: what the model's output is. "softmax": logits (N, C) of at least two classes. "sigmoid": the logit of
            class 1 against 0, (N,) or (N, 1), or of labels that do not exclude each other, (N, L). "mean": numbers
            (N, ...), such as a regression's. "gaussian": means and log variances of D numbers, (N, 2 D), means
            first, as `losses.gaussian_nll` has them. "raw": anything, which is not read.
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
        In float32 (float64 for a float64 model), for "softmax" a Predictive of (N, C), for "sigmoid" one of two
        classes, (N, 2) or (N, L, 2), for "mean" and "gaussian" a RegressionPredictive of (N, ...) and (N, D). For
        "raw" the samples themselves, (samples, N, ...): `from_samples(torch.softmax(logits, dim=-1))`,
        `regression_from_samples(means)` say what the others do.

    Raises:
        FuncregError: for a wrong head, samples, batch_size, chunk_size or memory_budget, a model without `apply`,
            one without noise (in eager code, where rates do not say so) or whose output is not what head says, one
            that draws global random numbers or writes to a buffer, and with jit, inside of `vmap` or another
            transform, and for a model that does other things for other values.

    >>> import torch
    >>> from collections import namedtuple
    >>> def apply(params, state, x, *, key, rates):
    ...     return x * random.bernoulli(key, 0.5, tuple(x.shape)), state
    >>> model = namedtuple("Model", "apply")(apply)
    >>> mc_dropout(model, {}, {}, torch.tensor([[4.0, 0.0]]), key=random.key(0)).mean
    tensor([[0.7..., 0.2...]])

    >>> mc_dropout(model, {}, {}, torch.tensor([[4.0, 0.0]]), key=random.key(0), samples=3, head="raw")[:, 0]
    tensor([[0., 0.],
            [0., 0.],
            [4., 0.]])

    Gal and Ghahramani, "Dropout as a Bayesian approximation", ICML 2016.
    """
    check_model(model, params, state, x)
    reading = head_of(head)
    _checks.check_count("samples", samples)
    _checks.check_key(key)

    def draw(key: Tensor, shared: tuple[Any, ...]) -> Tensor:
        *variables, given = shared
        output = output_of(model.apply(*variables, key=key, rates=given))
        if rates is None and not (is_compiling() or varies_with(output, key)):
            remedy = "Give its dropout a rate above 0, or predict without noise: model.apply(params, state, x)."
            _checks.fail("model", "one whose output is the same for every key", "a model with noise", remedy)
        return reading.read(output)

    how = Chunking(chunk_size, memory_budget, jit)
    batches = batches_of(x, batch_size)
    keys = key[None] if len(batches) == 1 else random.split(key, len(batches))
    owner = (model.apply, head)
    parts = [
        predict(draw, owner, reading, random.split(each, samples), (params, state, x[rows], rates), samples, how)
        for rows, each in zip(batches, keys, strict=True)
    ]
    return joined(parts, batches, reading.inputs)


@overload
def ensemble(
    model: HasApply, params: Any, state: Any, x: Tensor, *, head: ClassHead = ..., batch_size: int | None = ...,
    chunk_size: ChunkSize = ..., memory_budget: int | None = ..., jit: bool = ...,
) -> Predictive: ...  # fmt: skip
@overload
def ensemble(
    model: HasApply, params: Any, state: Any, x: Tensor, *, head: NumberHead, batch_size: int | None = ...,
    chunk_size: ChunkSize = ..., memory_budget: int | None = ..., jit: bool = ...,
) -> RegressionPredictive: ...  # fmt: skip
@overload
def ensemble(
    model: HasApply, params: Any, state: Any, x: Tensor, *, head: Literal["raw"], batch_size: int | None = ...,
    chunk_size: ChunkSize = ..., memory_budget: int | None = ..., jit: bool = ...,
) -> Tensor: ...  # fmt: skip
def ensemble(
    model: HasApply,
    params: Any,
    state: Any,
    x: Tensor,
    *,
    head: ClassHead | NumberHead | Literal["raw"] = "softmax",
    batch_size: int | None = None,
    chunk_size: ChunkSize = "auto",
    memory_budget: int | None = None,
    jit: bool = False,
) -> Any:
    """The predictions of K trained members as one: a deep ensemble.

    Each member predicts with its noise off, `model.apply(params[k], state[k], x)`, all under one `vmap`, each
    output read by the head; their average is the prediction, their disagreement what they do not know.

    Args:
        model: what `fr.from_module` returns.
        params, state: stacked, every leaf (K, ...), as those of `train.fit(members=K)` and `model_members`.
        x: the inputs, (N, ...), the same for all.
        head: what the model's output is, as in `mc_dropout`.
        batch_size: how many inputs at once, at most. Default: all.
        chunk_size, memory_budget, jit: of members, as in `mc_dropout`.

    Returns:
        As `mc_dropout`; for "raw" (K, N, ...).

    Raises:
        FuncregError: as `mc_dropout`, and for leaves that do not share a leading axis.

    >>> import torch
    >>> from collections import namedtuple
    >>> model = namedtuple("Model", "apply")(lambda params, state, x: (x * params["scale"], state))
    >>> params = {"scale": torch.tensor([1.0, -1.0])}  # two members of opposite opinions
    >>> ensemble(model, params, {}, torch.tensor([[1000.0, 0.0]]))
    Predictive(mean=tensor([[0.5000, 0.5000]]), variance=tensor([[0.2500, 0.2500]]), entropy=tensor([0.6931]),
        expected_entropy=tensor([0.]), mutual_information=tensor([0.6931]))

    Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty estimation using
    deep ensembles", NeurIPS 2017.
    """
    check_model(model, params, state, x)
    reading = head_of(head)
    for name, stacked in (("params", params), ("state", state)):
        if any(leaf is None for leaf in optree.tree_leaves(stacked, none_is_leaf=True)):
            _checks.fail(name, "None in it", "a tree of tensors (K, ...)")
    members = members_of("params", params)
    if members == 0:
        _checks.fail("params", "no members", "a leading axis of at least one")
    if tree.leaves(state) and members_of("state", state) != members:
        _checks.fail("state", f"that of {tree.members(state)} members", f"that of {members}, as params")

    def member(variables: tuple[Any, Any], x: Tensor) -> Tensor:
        return reading.read(output_of(model.apply(*variables, x)))

    how = Chunking(chunk_size, memory_budget, jit)
    batches = batches_of(x, batch_size)
    owner = (model.apply, head)
    parts = [predict(member, owner, reading, (params, state), x[rows], members, how) for rows in batches]
    return joined(parts, batches, reading.inputs)
