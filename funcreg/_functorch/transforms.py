"""What transforms are around, and what is inside of their wrappers."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]  (it has no stub)

from .._compiling import is_compiling

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


def bare(tensor: Tensor) -> Tensor:
    """What is inside of a transform's wrappers: the values of all members.

    >>> from torch.func import vmap
    >>> seen = []
    >>> _ = vmap(lambda x: seen.append(bare(x)) or x)(torch.tensor([1.0, 2.0]))
    >>> seen[0]
    tensor([1., 2.])
    """
    while is_wrapped(tensor):
        tensor = _functorch.get_unwrapped(tensor)
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
