"""Laplace's approximation: a Gaussian around trained parameters, by the curvature of the loss there.

posterior = laplace(model, params, state, x, mask=lambda name, _: name.startswith("2."), prior_precision=10.0)
drawn = model._replace(apply=lambda p, state, x, *, key, rates: model.apply(sample_laplace(p, key=key), state, x))
mc_dropout(drawn, posterior, state, new_x, key=key)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import optree
import torch
from torch import Tensor

from .. import _checks, random, tree
from ..transforms import Number
from ..tree.checks import check_floating, entry, selected
from ..tree.values import precise, widest
from .heads import ClassHead, NumberHead, head_of
from .predicting import check_model, output_of
from .sampling import HasApply


class LaplaceState(NamedTuple):
    """A Gaussian of some parameters, and the others.

    mean: a dict of those that vary, P numbers in all.
    rest: a dict of the others.
    factor: (P, P), lower triangular: `factor @ factor.T` is the precision, in the order of `tree.leaves(mean)`.
    """

    mean: dict[str, Any]
    rest: dict[str, Any]
    factor: Tensor


def laplace(
    model: HasApply,
    params: Any,
    state: Any,
    x: Tensor,
    *,
    mask: tree.Mask,
    prior_precision: Number,
    head: ClassHead | NumberHead = "softmax",
    noise_variance: Number | None = None,
    batch_size: int = 128,
) -> LaplaceState:
    """The Gaussian posterior of some parameters: precision `sum_n J_n^T F_n J_n + prior_precision I` around params.

    J are the derivatives of an input's outputs by the parameters, F is the Fisher information of the outputs: the
    generalised Gauss-Newton matrix. Meant for the last layer, in whose parameters the outputs are linear: there it is
    the posterior itself for a regression trained to its optimum, and the Hessian for classes.

    Args:
        model: what `fr.from_module` returns.
        params, state: the model's, trained; params a dict.
        x: the inputs that it was trained on, (N, ...), in evaluation.
        mask: (name, leaf) -> bool: which parameters vary. P of them take a P by P matrix.
        prior_precision: above 0, of each, around 0: `2 N strength` after training with a mean loss of N inputs and
            `penalties.l2(params, strength)`; a number or a tensor of shape ().
        head: what the outputs are, as in `mc_dropout`.
        noise_variance: above 0, of the targets of head="mean", which needs it; the others have their own.
        batch_size: inputs at a time.

    Returns:
        LaplaceState; NaN for inputs that give any, and for a prior too weak to tell parameters apart in float64.

    Raises:
        FuncregError: for a number out of range, an output that is not what head says, no input, a mask that picks no
            parameter, or a noise_variance beside another head.

    >>> from collections import namedtuple
    >>> line = namedtuple("Model", "apply")(lambda params, state, x: (x @ params["w"], state))
    >>> x, w = torch.tensor([[3.0], [4.0]]), {"w": torch.zeros(1, 1)}
    >>> how = dict(mask=lambda name, leaf: True, head="mean", noise_variance=0.25, prior_precision=44.0)
    >>> laplace(line, w, {}, x, **how).factor  # the root of 25 / 0.25 + 44
    tensor([[12.]])

    MacKay, "A practical Bayesian framework for backpropagation networks", Neural Computation 1992; Daxberger et al.,
    "Laplace redux: effortless Bayesian deep learning", NeurIPS 2021 (last layer, Gauss-Newton).
    """
    check_model(model, params, state, x)
    _checks.check_choice("head", head, _ROOTS)
    if not isinstance(params, dict) or not tree.leaves(params):
        _checks.fail("params", _checks.describe(params), "a dict of floating-point tensors")
    flat = [leaf for _, leaf in selected("params", params, mask)]
    prior_precision = _checks.check_setting("prior_precision", prior_precision, exclusive="low")
    if (noise_variance is None) == (head == "mean"):
        _checks.fail("noise_variance", noise_variance, 'a number for head="mean", None for the others')
    if noise_variance is not None:
        noise_variance = _checks.check_setting("noise_variance", noise_variance, exclusive="low")
    _checks.check_count("batch_size", batch_size)
    _checks.check_tensor("x", x)
    if x.ndim == 0 or len(x) == 0 or x.is_complex():
        _checks.fail("x", _checks.describe(x), "real inputs (N, ...), N at least 1")
    for name, leaf in zip(tree.names(params), tree.leaves(params), strict=True):
        _checks.check_beside(entry("params", name), leaf, x, "x")
    mean, rest = tree.partition(params, mask)

    def outputs(mean: Any, x: Tensor) -> Tensor:
        output = output_of(model.apply(tree.merge(mean, rest), state, x[None]))
        head_of(head).read(output)  # which refuses what it does not fit
        return precise(output).reshape(-1, output.shape[-1])

    def rows(x: Tensor) -> Tensor:
        """Of one input: (outputs, P), whose squares sum to `J^T F J`."""
        output, pull, *_ = torch.func.vjp(lambda mean: outputs(mean, x), mean)
        # jacrev would do, but compiling it warns (torch 2.15).
        each = torch.eye(output.numel(), dtype=output.dtype, device=output.device).unflatten(1, output.shape)
        (slopes,) = torch.func.vmap(pull)(each)
        whole = torch.cat([precise(each).reshape(*output.shape, -1) for each in tree.leaves(slopes)], dim=2)
        return (_ROOTS[head](output, noise_variance).mT @ whole).flatten(0, 1).to(torch.float64)

    precision = prior_precision * torch.eye(tree.count(mean), dtype=torch.float64, device=flat[0].device)
    for some in x.split(batch_size):
        each = torch.func.vmap(rows)(some).flatten(0, 1)
        precision = precision + each.mT @ each
    factor, failed = torch.linalg.cholesky_ex(precision)
    return LaplaceState(mean, rest, torch.where(failed == 0, factor, torch.nan).to(widest(flat)))


def sample_laplace(state: LaplaceState, *, key: Tensor) -> dict[str, Any]:
    """A draw of the parameters.

    Args:
        state: of `laplace`, of one member: with several, vmap.
        key: int64 (2,).

    Returns:
        A dict of all parameters, those that do not vary among them, as `model.apply` takes them.

    Raises:
        FuncregError: for what is not such a state.

    >>> state = LaplaceState({"w": torch.tensor([1.0])}, {"b": torch.tensor([2.0])}, torch.tensor([[10.0]]))
    >>> keys = random.split(random.key(0), 10_000)
    >>> draws = torch.func.vmap(lambda key: sample_laplace(state, key=key))(keys)
    >>> draws["w"].std()
    tensor(0.1...)
    """
    if not isinstance(state, LaplaceState):
        _checks.fail("state", _checks.describe(state), "a LaplaceState", "Make one: fr.uncertainty.laplace.")
    check_floating("state.mean", state.mean)
    check_floating("state.rest", state.rest)
    flat = tree.leaves(state.mean)
    size = tree.count(flat)
    _checks.check_floating("state.factor", state.factor)
    if not flat or state.factor.shape != (size, size):
        _checks.fail(
            "state.factor", _checks.describe(state.factor), f"shape ({size}, {size}), as state.mean has numbers"
        )
    _checks.check_beside("state.factor", state.factor, flat[0], "state.mean")
    _checks.check_key(key, state.factor)
    z = random.normal(key, (size, 1), dtype=widest([state.factor]))
    moves = torch.linalg.solve_triangular(precise(state.factor).mT, z, upper=True).flatten()
    each = moves.split([leaf.numel() for leaf in flat])
    mean: tree.Tree = state.mean
    apart = optree.tree_unflatten(optree.tree_structure(mean), each)
    drawn = tree.map(lambda leaf, move: leaf + move.reshape(leaf.shape).to(leaf.dtype), mean, apart)
    return tree.merge(drawn, state.rest)


def _of_classes(logits: Tensor, noise_variance: Any) -> Tensor:
    p = torch.softmax(logits, dim=-1)
    root = p.clamp_min(torch.finfo(p.dtype).tiny).sqrt()
    return torch.diag_embed(root) - p.unsqueeze(-1) * root.unsqueeze(-2)


def _of_labels(logits: Tensor, noise_variance: Any) -> Tensor:
    return torch.diag_embed(1 / (torch.exp(logits / 2) + torch.exp(-logits / 2)))  # whose square is p (1 - p)


def _of_numbers(means: Tensor, noise_variance: Any) -> Tensor:
    variance = torch.as_tensor(noise_variance, dtype=means.dtype, device=means.device)
    return torch.diag_embed(torch.ones_like(means) / variance.sqrt())


def _of_gaussians(outputs: Tensor, noise_variance: Any) -> Tensor:
    means, log_variances = outputs.chunk(2, dim=-1)
    return torch.diag_embed(torch.cat((torch.exp(-log_variances / 2), torch.full_like(means, 0.5**0.5)), dim=-1))


# head: outputs (..., C) -> (..., C, C), a root of their Fisher information
_ROOTS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "softmax": _of_classes,
    "sigmoid": _of_labels,
    "mean": _of_numbers,
    "gaussian": _of_gaussians,
}
