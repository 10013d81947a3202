"""What could not be done, in terms of the layer that asked for it: by a transform, a check, or a copy."""

import traceback

from .. import _checks
from .._functorch import in_transform
from .rehearsal import running_at
from .skeleton import Skeleton

# How torch says that a transform cannot do what a forward asks of it, and what to do about it.
_LOOP = "Call it in a loop, outside of the transform, or see fr.check(model, *inputs)."
_UNROLL = 'from_module(..., rnn="unrolled") runs it as a loop over time, which every transform takes.'
_SPLIT = "Give it setup_context and a vmap rule, or call it in a loop, outside the transform: plain autograd runs it."
_SAVED = "Take gradients by plain autograd, without vmap: fr.train.make_step does so for one model."
_COMPILE = "Give the function as it was before torch.compile; fr.jit compiles whole programs."
_TIE = "Tie its layers when it is made, or call the function on the other's: F.linear(x, self.other.weight)."
_PLAIN = "Write while_loop and its kin as while and for, and flex_attention as F.scaled_dot_product_attention."
# How it says so of tensors that a call lends: whose parameters ask for no gradient, and may be no leaves.
_OF_PLAIN_TENSORS = {
    "does not require grad": "which takes gradients of what asks for none; expected parameters, or inputs, that do. "
    "Give it such: {name: tensor.detach().requires_grad_() for name, tensor in params.items()}.",
    "deepcopy protocol": "whose forward copies its tensors; expected one that does not. "
    "Call the layer itself, or make the copy when the module is built.",
}
_KEEPS_OUT = "_fn"  # the wrapper of torch.compiler.disable
_IN_TRANSFORMS = {
    "setup_context": ("applies an autograd function that has no setup_context", _SPLIT),
    "generate_vmap_rule": ("applies an autograd function without a rule for vmap", _SPLIT),
    "saved tensor hooks": ("sets hooks on the tensors that its gradient needs", _SAVED),
    "randomness": ("draws random numbers that no key reaches", _LOOP),
    "data-dependent control flow": ("decides by a tensor's values what runs", _LOOP),
    ".item()": ("reads a tensor's value as a Python number", _LOOP),
    "dynamic shape": ("has an output whose shape depends on values", _LOOP),
    "inplace arithmetic": ("writes in place into what the transform does not batch", _LOOP),
    "match the broadcast shape": ("writes in place into what the transform does not batch", _LOOP),
    "in-place": ("writes in place into what the transform does not batch", _LOOP),
    "aten::lstm": ("has no rule for the transform", _UNROLL),
    "aten::gru": ("has no rule for the transform", _UNROLL),
    "mkldnn_rnn": ("has no rule for the transform", _UNROLL),
    "aten::rnn_": ("has no rule for the transform", _UNROLL),
    "compiled inside of a transform": ("calls what torch.compile has made", _COMPILE),
    "vmap": ("does what the transform cannot", _LOOP),
    "functorch": ("does what the transform cannot", _LOOP),
    "torch.func": ("does what the transform cannot", _LOOP),
    "forward AD": ("has no rule for the transform", _LOOP),
    "data pointer of Tensor": ("reads the memory of what the transform has wrapped", _LOOP),
    "access storage": ("copies its tensors", "Call the layer itself, or make the copy when the module is built."),
    "atching rule": ("has no rule for the transform", _LOOP),
    "requires_grad_()": ("takes gradients of its own", _LOOP),
}


def explained(error: Exception, skeleton: Skeleton) -> Exception:
    """An error of a transform's or a check's in terms of the layer that it came from; any other as it is."""
    message = str(error)
    if isinstance(error, _checks.FuncregError):
        named = any(label in message for label in skeleton.labels.values())
        return error if named else _checks.FuncregError(f"{message} It is {running_at(error, skeleton)} that asks.")
    if isinstance(error, TypeError) and "as parameter" in message:
        told = f"module: got {running_at(error, skeleton)}, of which a forward replaces a parameter"
        return _checks.FuncregError(f"{told}; expected one that stays. {_TIE} (torch: {message})")
    for part, what in _OF_PLAIN_TENSORS.items():
        if part in message and not isinstance(error, _checks.FuncregError):
            return _checks.FuncregError(
                f"module: got {running_at(error, skeleton)}, {what} (torch: {_first_line(message)})"
            )
    compiled = _comes_from_the_compiler(error)
    if compiled and not in_transform():
        told = f"module: got {running_at(error, skeleton)}, whose forward compiles a part of itself"
        return _checks.FuncregError(f"{told}; expected one that does not. {_PLAIN} (torch: {_first_line(message)})")
    if not in_transform():
        return _noted(error, skeleton)
    if compiled:
        message = f"compiled inside of a transform: {message}"
    for part, (did, remedy) in _IN_TRANSFORMS.items():
        if part in message:
            told = f"module: got {running_at(error, skeleton)}, which {did}; expected one that the transform can run."
            return _checks.FuncregError(f"{told} {remedy} (torch: {_first_line(message)})")
    return _noted(error, skeleton)


def _noted(error: Exception, skeleton: Skeleton) -> Exception:
    """An error that the module itself would raise, with a note of where."""
    error.add_note(f"It is {running_at(error, skeleton)} that was running.")
    return error


def draws_in_transform(error: Exception) -> bool:
    """Whether a transform has met a draw that no key reaches.

    >>> draws_in_transform(RuntimeError("vmap: called random operation while in randomness error mode"))
    True
    """
    return "randomness" in str(error) and not isinstance(error, _checks.FuncregError)


def _comes_from_the_compiler(error: BaseException) -> bool:
    """Whether dynamo was at work, otherwise than to keep out of a function, such as a checkpoint."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(
        frame.f_globals.get("__name__", "").startswith("torch._dynamo") and frame.f_code.co_name != _KEEPS_OUT
        for frame in frames
    )


def _first_line(message: str) -> str:
    return next(iter(message.strip().splitlines()), "")
