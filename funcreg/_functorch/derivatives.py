"""Derivatives as torch keeps them: gradients in and out of transforms, and what a value depends on."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import optree
import torch
from torch import Tensor
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]  (it has no stub)

from .._compiling import is_compiling
from .transforms import in_transform, innermost, is_wrapped, traced_as_constant


def gradients(
    function: Callable[[Any], tuple[Tensor, Any]],
    params: Any,
    *,
    watched: bool,
    unrelated: Callable[[], Any] = lambda: None,
) -> tuple[Any, tuple[Tensor, Any]]:
    """(gradients, (value, aux)) of a function params -> (value, aux).

    `unrelated` is called where the value depends on no leaf of params, and all gradients are 0 for that.
    Where nobody can differentiate them again, in no transform but `vmap` and not watched by plain autograd,
    they keep no graph of their own: the same to rounding, in about half the time for small models. Nor does
    that import the compiler, as `torch.func.grad` does, which takes as long as importing torch.

    >>> gradients(lambda w: ((w**2).sum(), {}), torch.ones(2), watched=False)
    (tensor([2., 2.]), (tensor(2.), {}))
    """

    def related(params: Any) -> tuple[Tensor, Any]:
        value, aux = function(params)
        if not depends(value):
            unrelated()
        return value, aux

    if is_compiling() or watched or torch.is_inference_mode_enabled() or not _only_vmapped():
        return torch.func.grad_and_value(related, has_aux=True)(params)
    flat, structure = optree.tree_flatten(params)
    unsure = torch.is_grad_enabled()  # the function may hold tensors of its own that ask for gradients
    with _watching() as (watch, released), torch.enable_grad():
        flat = [watch(leaf) for leaf in flat]
        value, aux = function(structure.unflatten(flat))
        if not (unsure and _reaches_others((value, aux), flat)):
            found = torch.autograd.grad(value, flat, allow_unused=True) if value.requires_grad else [None] * len(flat)
            if not any(each is not None for each in found):
                unrelated()
            grads = [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, flat, strict=True)]
            return structure.unflatten(map(released, grads)), (released(value), optree.tree_map(released, aux))
    return torch.func.grad_and_value(related, has_aux=True)(params)


def depends(value: Tensor) -> bool:
    """Whether a value depends on what the innermost transform, a gradient, is taken by.

    >>> torch.func.grad(lambda x: x * depends(x) + depends(x.detach()))(torch.ones(()))
    tensor(1.)
    """
    if is_compiling():
        return value.requires_grad
    return value.requires_grad and _functorch.maybe_get_level(value) == _functorch.peek_interpreter_stack().level()


def recordable(values: Any) -> Any:
    """A tree that autograd can record: what was made in `torch.inference_mode` is copied, outside of it.

    >>> with torch.inference_mode():
    ...     x = torch.ones(2)
    >>> x.is_inference(), recordable((x, None))[0].is_inference()
    (True, False)
    """
    if is_compiling() or torch.is_inference_mode_enabled():
        return values
    leaves, structure = optree.tree_flatten(values)
    if not any(isinstance(leaf, Tensor) and leaf.is_inference() for leaf in leaves):
        return values
    return structure.unflatten(
        leaf.clone() if isinstance(leaf, Tensor) and leaf.is_inference() else leaf for leaf in leaves
    )


def derivative_along(function: Callable[[Any], Any], at: Any, direction: Any) -> Any:
    """The derivative of a function at a place along a direction, `jvp`, in one forward pass.

    >>> derivative_along(torch.square, torch.tensor(3.0), torch.tensor(2.0))
    tensor(12.)
    """
    if is_compiling():
        return torch.func.jvp(function, (at,), (direction,))[1]
    with warnings.catch_warnings():
        # The first jvp of a process warns about torch's own use of torch.jit.
        warnings.filterwarnings("ignore", "`torch.jit.script")
        return torch.func.jvp(function, (at,), (direction,))[1]


def asks_for_gradients(arguments: Any) -> bool:
    """Whether plain autograd records what is computed with any of a tree's tensors.

    >>> asks_for_gradients({"x": torch.ones(1)}), asks_for_gradients({"x": torch.ones(1, requires_grad=True)})
    (False, True)
    """
    if is_compiling() or not torch.is_grad_enabled():
        return False
    leaves = optree.tree_leaves(arguments)
    return any(innermost(leaf).requires_grad for leaf in leaves if isinstance(leaf, Tensor))


def differentiated(arguments: Any) -> bool:
    """Whether a derivative may be taken by any of a tree's tensors, by plain autograd or by a transform around.

    >>> differentiated({"x": torch.ones(1)}), torch.func.grad(lambda x: x * differentiated(x))(torch.ones(()))
    (False, tensor(1.))
    """
    levels = [leaf for leaf in optree.tree_leaves(arguments) if isinstance(leaf, Tensor)]
    for tensor in levels:  # which grow as they are gone through
        levels += [_functorch.get_unwrapped(tensor)] if is_wrapped(tensor) else []
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in levels)


def _reaches_others(results: Any, own: list[Any]) -> bool:
    """Whether plain autograd could differentiate results by other tensors than one's own."""
    tensors = [leaf for leaf in optree.tree_leaves(results) if isinstance(leaf, Tensor)]
    if in_transform():
        return any(innermost(leaf).requires_grad for leaf in tensors)
    leaves = set(map(id, own))
    nodes: list[Any] = [leaf.grad_fn for leaf in tensors if leaf.grad_fn is not None]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if hasattr(node, "variable") and id(node.variable) not in leaves:
            return True
        fresh = {after for after, _ in node.next_functions if after is not None} - seen
        seen |= fresh
        nodes.extend(fresh)
    return False


@contextmanager
def _watching() -> Iterator[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]:
    """How to record what is done with a tensor, and how to take a result out of the record.

    Outside every transform plain autograd records, and inside one a level of its own, as in `torch.func.grad`.
    """
    if not in_transform():
        yield lambda leaf: leaf.detach().requires_grad_(), torch.Tensor.detach
        return
    level = _functorch._grad_increment_nesting()

    def watch(leaf: Tensor) -> Tensor:
        allowed = _functorch.get_inplace_requires_grad_allowed()
        _functorch.set_inplace_requires_grad_allowed(True)
        try:
            return _functorch._wrap_for_grad(leaf, level).requires_grad_()
        finally:
            _functorch.set_inplace_requires_grad_allowed(allowed)

    try:
        yield watch, lambda leaf: _functorch._unwrap_for_grad(leaf, level)
    finally:
        _functorch._grad_decrement_nesting()


def _only_vmapped() -> bool:
    """Whether this code runs inside no transform that differentiates."""
    stack = _functorch.get_interpreter_stack() or ()
    return all(each.key() == _functorch.TransformType.Vmap for each in stack)


def constant(tensor: Tensor) -> Tensor:
    """A tensor as a constant of the innermost `torch.func.grad`; `detach` would cut those outside it too.

    >>> from torch.func import grad
    >>> slope = grad(lambda x: constant(x**2) * x)  # x**2
    >>> slope(torch.tensor(3.0)), grad(slope)(torch.tensor(3.0))
    (tensor(9.), tensor(6.))
    """
    level = _grad_level()
    return tensor.detach() if level is None else _functorch._unwrap_for_grad(tensor, level)


@traced_as_constant
def _grad_level() -> int | None:
    """The level of the innermost transform, if it is `grad`: the same whenever one program runs."""
    innermost = _functorch.peek_interpreter_stack()
    if innermost is None or innermost.key() != _functorch.TransformType.Grad:
        return None
    return innermost.level()
