"""Derivatives as torch keeps them: the one place that asks its private module about transforms."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import optree
import torch
from torch import Tensor
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]  (it has no stub)

from ._compiling import is_compiling

_PROXY = torch._C._TorchDispatchModeKey.PROXY  # pyright: ignore[reportAttributeAccessIssue]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def traced_as_constant(function: F) -> F:
    """Let `torch.compile` call a function once, and take what it gives for a constant of the program.

    It is `torch.compiler.assume_constant_result`, which would first import the compiler, and take longer than torch.

    >>> traced_as_constant(lambda: 1)()
    1
    """
    function._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]
    return function


def in_transform() -> bool:
    """Whether this code runs inside `vmap`, `grad`, `jvp` or another transform.

    >>> in_transform()
    False
    """
    return _functorch.peek_interpreter_stack() is not None


def needs_formulas() -> bool:
    """Whether torch's fused kernels will not do here.

    Those of attention and recurrence have no vmap rule, forward mode or second derivative. Those of layer, batch and
    instance norm that get a scale have wrong second derivatives by it, through a vmap between two derivatives, as in
    `hessian` and `jacrev(grad(f))` (torch 2.11 to 2.15).

    >>> needs_formulas(), torch.func.vmap(lambda x: x + needs_formulas())(torch.zeros(1))
    (False, tensor([1.]))
    """
    return is_compiling() or in_transform()


def is_wrapped(tensor: Tensor) -> bool:
    """Whether a tensor is a transform's own: batched by `vmap`, or tracked by a derivative.

    >>> is_wrapped(torch.zeros(2))
    False
    """
    return _functorch.is_functorch_wrapped_tensor(tensor)


def gradients(
    function: Callable[[Any], tuple[Tensor, Any]], params: Any, *, watched: bool
) -> tuple[Any, tuple[Tensor, Any]]:
    """(gradients, (value, aux)) of a function params -> (value, aux).

    Where nobody can differentiate them again, in no transform but `vmap` and not watched by plain autograd,
    they keep no graph of their own: the same to rounding, in about half the time for small models. Nor does
    that import the compiler, as `torch.func.grad` does, which takes as long as importing torch.

    >>> gradients(lambda w: ((w**2).sum(), {}), torch.ones(2), watched=False)
    (tensor([2., 2.]), (tensor(2.), {}))
    """
    if is_compiling() or watched or torch.is_inference_mode_enabled() or not _only_vmapped():
        return torch.func.grad_and_value(function, has_aux=True)(params)
    flat, structure = optree.tree_flatten(params)
    unsure = torch.is_grad_enabled()  # the function may hold tensors of its own that ask for gradients
    with _watching() as (watch, released), torch.enable_grad():
        flat = [watch(leaf) for leaf in flat]
        value, aux = function(structure.unflatten(flat))
        if not (unsure and _reaches_others((value, aux), flat)):
            if value.requires_grad:
                grads = torch.autograd.grad(value, flat, allow_unused=True, materialize_grads=True)
            else:
                grads = [torch.zeros_like(leaf) for leaf in flat]
            return structure.unflatten(map(released, grads)), (released(value), optree.tree_map(released, aux))
    return torch.func.grad_and_value(function, has_aux=True)(params)


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


def depth() -> int:
    """How many transforms are around this code."""
    return len(_functorch.get_interpreter_stack() or ())


def in_vmap() -> bool:
    """Whether the innermost transform is `vmap`.

    >>> in_vmap(), torch.func.vmap(lambda x: x + in_vmap())(torch.zeros(1))
    (False, tensor([1.]))
    """
    innermost = _functorch.peek_interpreter_stack()
    return innermost is not None and innermost.key() == _functorch.TransformType.Vmap


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


def plain(tensor: Tensor) -> Tensor:
    """A tensor of one example and no derivative: what is inside of a transform's wrappers, its first element.

    >>> from torch.func import vmap
    >>> seen = []
    >>> _ = vmap(lambda x: seen.append(plain(x)) or x)(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    >>> seen[0]
    tensor([1., 2.])
    """
    while True:
        if _functorch.is_batchedtensor(tensor):
            axis = _functorch.maybe_get_bdim(tensor)
            tensor = _functorch.get_unwrapped(tensor).select(axis, 0)
        elif _functorch.is_gradtrackingtensor(tensor):
            tensor = _functorch.get_unwrapped(tensor)
        elif _functorch.is_functionaltensor(tensor):
            tensor = torch._from_functional_tensor(tensor)  # pyright: ignore[reportPrivateImportUsage]  (nothing else does)
        else:
            return tensor


def levels_of_vmap(tensor: Tensor) -> set[int]:
    """The levels of the vmaps by which a tensor is batched.

    >>> levels_of_vmap(torch.zeros(2))
    set()
    """
    own = {_functorch.maybe_get_level(tensor)} if _functorch.is_batchedtensor(tensor) else set[int]()
    return own | levels_of_vmap(_functorch.get_unwrapped(tensor)) if is_wrapped(tensor) else own


def varies_with(result: Tensor, member: Tensor) -> bool:
    """Whether a result has the innermost vmap's axis, as a member of that vmap has.

    >>> from torch.func import vmap
    >>> _ = vmap(lambda x: print(varies_with(2 * x, x), varies_with(torch.ones(1), x)) or x)(torch.zeros(2))
    True False
    """
    level = _functorch.maybe_get_level(member)
    return bool(_functorch.is_batchedtensor(result)) and _functorch.maybe_get_level(result) == level


def readable(tensor: Tensor) -> Tensor | None:
    """A tensor's values, of all members of a vmap, where a look at them waits for nothing and no trace records it.

    >>> from torch.func import vmap
    >>> _ = vmap(lambda x: print(readable(x)) or x)(torch.tensor([1, 2]))
    tensor([1, 2])
    """
    while is_wrapped(tensor):
        if _functorch.is_functionaltensor(tensor):
            return None
        tensor = _functorch.get_unwrapped(tensor)
    if not (tensor.is_cpu and type(tensor) in (Tensor, torch.nn.Parameter)):
        return None
    traced = torch._C._len_torch_dispatch_stack() and torch._C._get_dispatch_mode(_PROXY) is not None
    return None if traced else tensor.detach() if tensor.requires_grad else tensor


def innermost(tensor: Tensor) -> Tensor:
    """What is inside of all of a transform's wrappers: the tensor that operators run on.

    >>> from torch.func import vmap
    >>> vmap(lambda x: x * innermost(x).ndim)(torch.ones(3))
    tensor([1., 1., 1.])
    """
    while is_wrapped(tensor):
        tensor = _functorch.get_unwrapped(tensor)
    return tensor


def outside_transforms(call: Callable[[], T]) -> T:
    """Run a call outside of every transform that is active around it.

    >>> outside_transforms(in_transform)
    False
    """
    # Outside of transforms there is nothing to leave, and the compiler's modules need not be imported.
    if not in_transform():
        return call()
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

    with temporarily_clear_interpreter_stack():
        return call()
