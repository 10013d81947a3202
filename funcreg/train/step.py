"""One training step as a pure function: (train_state, batch, hparams) -> (train_state, metrics)."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .. import _checks, _jit, optim, random, tree
from .._functorch import asks_for_gradients, gradients, recordable
from ..random.keys import of_members
from ..transforms import Transform, master_weights
from ..tree.checks import check_floating, check_tensors, check_values
from ..tree.structure import entry
from .average import Average, begin, check_average, follow
from .per_example import gradients_of_each
from .rates import learning_rates
from .returns import OWN, check_scalar, check_updated, checked_return, refuse_constant

Metrics = dict[str, Tensor]
Penalties = Mapping[str, Callable[[tree.Tree, Any], Tensor]]


class Batch(NamedTuple):
    """Inputs and targets, whose first axis is the sample."""

    x: Any
    y: Any


class TrainState(NamedTuple):
    """Everything that a step changes: one tree, vmapped, compiled and saved whole.

    average: of the parameters and their batch statistics, `()` without; `train.variables` reads it.
    """

    params: tree.Tree
    state: tree.Tree
    opt_state: tree.Tree
    key: Tensor
    step: Tensor
    average: Any = ()


class LossFn(Protocol):
    """(params, state, batch, *, key, hparams) -> (loss, (state, metrics))."""

    def __call__(
        self, params: Any, state: Any, batch: Any, /, *, key: Tensor, hparams: Any
    ) -> tuple[Tensor, tuple[Any, Metrics]]: ...


Constraint = Callable[[tree.Tree, Any], tree.Tree]
Optimizer = Transform | Callable[[Any], Transform]
Step = Callable[..., tuple[TrainState, Metrics]]


def init(
    params: tree.Tree,
    state: tree.Tree,
    optimizer: Optimizer,
    *,
    key: Tensor,
    hparams: Any = None,
    members: int | None = None,
    average: Average | None = None,
) -> TrainState:
    """The train state before the first step.

    Args:
        params: a tree of floating-point tensors; with members, every leaf is (members, ...).
        state: a tree of tensors that the model updates, `{}` without; with members, stacked likewise.
        optimizer: a Transform, or a function hparams -> Transform whose init does not depend on hparams.
            For 16-bit parameters it moves float32 ones: see `fr.transforms.master_weights`.
        key: one key, int64 (2,), which with members is split into as many; or a key each, (members, 2).
        hparams: what the optimizer takes, if it is a function; with members, stacked likewise.
        members: how many models train side by side. Default: one, and no leading axis.
        average: what `make_step` is given.

    Returns:
        A TrainState; its key and step lie on the parameters' device.

    Raises:
        FuncregError: for parameters that are not floating-point, or an axis that is not `members` long.

    >>> train_state = init({"w": torch.zeros(2)}, {}, optim.sgd(0.1), key=random.key(0))
    >>> train_state.step
    tensor(0)
    """
    check_floating("params", params)
    check_tensors("state", state)
    flat = tree.leaves(params)
    if not flat:
        remedy = "Of a module whose parameters are all frozen, fr.variables has them in state: free one, "
        _checks.fail("params", "no leaves", "a tree of floating-point tensors", remedy + "with requires_grad_(True).")
    device = flat[0].device
    hparams = as_hparams(hparams, device)
    check_average(average)

    def begun(params: tree.Tree, state: tree.Tree, hparams: Any) -> tuple[Any, Any]:
        return transform(optimizer, hparams).init(params), begin(average, params, state, hparams)

    if members is None:
        _checks.check_key(key)
        opt_state, mean = begun(params, state, hparams)
        step = torch.zeros((), dtype=torch.int64, device=device)
        return TrainState(params, state, opt_state, key.to(device), step, mean)
    _checks.check_count("members", members)
    keys = of_members(key, members)
    for argument, stacked in (("params", params), ("state", state), ("hparams", hparams)):
        check_members(argument, stacked, members)
    opt_states, means = torch.func.vmap(begun, (0, 0, None if hparams is None else 0))(params, state, hparams)
    steps = torch.zeros(members, dtype=torch.int64, device=device)
    return TrainState(params, state, opt_states, keys.to(device), steps, means)


def make_step(
    loss_fn: LossFn,
    optimizer: Optimizer,
    *,
    penalties: Penalties | None = None,
    constraint: Constraint | None = None,
    per_example: bool = False,
    average: Average | None = None,
) -> Step:
    """A training step: gradients of the loss, an update, and what there is to know about both.

    Pure: it can be vmapped over members, compiled with `fr.jit`, and differentiated. Where nobody
    can differentiate through it (inside `torch.no_grad()`, as in `fit`, or of tensors that ask for no
    gradients, and in no transform but vmap) it takes gradients by plain autograd: the same to rounding,
    in about half the time for small models.

    Args:
        loss_fn: (params, state, batch, *, key, hparams) -> (loss of shape (), (state, metrics)),
            metrics a dict of tensors of shape (), state of the structure that it got.
        optimizer: a Transform, or a function hparams -> Transform.
        penalties: name -> (params, hparams) -> a tensor of shape (); each is added to the loss.
        constraint: (params, hparams) -> params, applied to what the update gives; see `fr.constraints`.
        per_example: take the gradient of each example: loss_fn gets each as a batch of one, with a
            key of its own (`random.split`), and penalties are part of each one's loss. The optimizer's
            chain starts with `fr.transforms.clip_per_example`. Examples must not change the state.
        average: of the parameters, such as `fr.averaging.ema(0.999)`, or a function hparams -> one; `init` is
            given the same. It follows what each step gives, and the running statistics of batch norm with
            it; `fit` evaluates, and so selects, by it: `train.variables(train_state)`.

    Returns:
        step(train_state, batch, hparams=None) -> (train_state, metrics). Metrics are those of
        loss_fn, each penalty by its name, "loss" (with penalties), "grad_norm" (before any
        clipping), "param_norm" (after the update and the constraint) and "learning_rate", that of a
        group as "learning_rate/head", by its label in `partition`; with per_example, means
        over the examples, and the norm of the mean gradient. The key is split: one half draws this
        step's noise, the other is the next key.

    Raises:
        FuncregError: when loss_fn, a penalty or the constraint returns something else, when the loss (with
            penalties) depends on no parameter, and when an example changes the state; the message says what.

    >>> def loss_fn(params, state, batch, *, key, hparams):
    ...     return ((params["w"] * batch.x - batch.y) ** 2).mean(), (state, {})
    >>> step = make_step(loss_fn, lambda hparams: optim.sgd(hparams["lr"]))
    >>> train_state = init({"w": torch.zeros(())}, {}, optim.sgd(0.1), key=random.key(0))
    >>> batch = Batch(torch.ones(4), torch.ones(4))
    >>> train_state, metrics = step(train_state, batch, {"lr": 0.25})
    >>> train_state.params["w"], metrics["loss"]
    (tensor(0.5000), tensor(1.))
    """
    _checks.check_callable("loss_fn", loss_fn, "a function (params, state, batch, *, key, hparams)")
    check_optimizer(optimizer)
    penalties = _checks.check_mapping(
        "penalties", {} if penalties is None else penalties, "name -> function (params, hparams)"
    )
    for name, penalty in penalties.items():
        _checks.check_callable(f"penalties[{name!r}]", penalty, "a function (params, hparams) -> tensor of shape ()")
        if name in OWN:
            _checks.fail("penalties", repr(name), f"other names than {', '.join(OWN)}")
    if constraint is not None:
        _checks.check_callable("constraint", constraint, "a function (params, hparams) -> params")
    _checks.check_choice("per_example", per_example, (True, False))
    check_average(average)

    def step(train_state: TrainState, batch: Any, hparams: Any = None) -> tuple[TrainState, Metrics]:
        check_train_state(train_state)
        if train_state.step.ndim:
            _checks.fail("train_state", f"one of {len(train_state.step)} members", "one model's", "Use vmap over it.")
        train_state, batch, hparams = recordable((train_state, batch, hparams))
        params, state, opt_state, key, count, mean_so_far = train_state
        key, loss_key = random.split(key)

        def total(params: tree.Tree, batch: Any, key: Tensor) -> Any:  # a subscripted annotation cannot be compiled
            output = loss_fn(params, state, batch, key=key, hparams=hparams)
            loss, (new_state, metrics) = checked_return(output, state)
            metrics = dict(metrics)
            for name, penalty in penalties.items():
                if name in metrics:
                    _checks.fail("penalties", repr(name), "another name than loss_fn's own metrics have")
                metrics[name] = value = penalty(params, hparams)
                check_scalar(f"penalties[{name!r}]", value)
                loss = loss + value
            return loss, (new_state, metrics)

        if per_example:
            grads, (loss, (state, metrics)) = gradients_of_each(total, params, batch, key=loss_key)
            mean = tree.map(lambda g: g.mean(0), grads)
        else:
            watched = asks_for_gradients((train_state, batch, hparams))
            grads, (loss, (state, metrics)) = gradients(
                lambda p: total(p, batch, loss_key), params, watched=watched, unrelated=refuse_constant
            )
            mean = grads
        made = transform(optimizer, hparams)
        rates = learning_rates(made, opt_state, loss.device)
        updates, opt_state = made.update(grads, opt_state, params)
        updated = optim.apply_updates(params, updates)
        if constraint is not None:
            updated = constraint(updated, hparams)
            check_updated("constraint", updated, params, "It takes and returns the whole tree of parameters.")
        metrics = {"loss": loss, **metrics, "grad_norm": tree.norm(mean), "param_norm": tree.norm(updated), **rates}
        followed = follow(average, mean_so_far, updated, state, hparams)
        return TrainState(updated, state, opt_state, key, count + 1, followed), metrics

    return step


def check_train_state(train_state: Any) -> None:
    """Refuse what is not a train state, by the name of the field."""
    if not isinstance(train_state, TrainState):
        _checks.fail("train_state", _checks.describe(train_state), "a TrainState", "Make one: fr.train.init.")
    check_floating("train_state.params", train_state.params)
    check_values("train_state.params", train_state.params)
    check_tensors("train_state.state", train_state.state)
    _checks.check_integers("train_state.step", train_state.step)


def transform(optimizer: Optimizer, hparams: Any) -> Transform:
    """The optimizer for these hyperparameters, of float32 weights where the parameters have 16 bits."""
    check_optimizer(optimizer)
    made = optimizer if isinstance(optimizer, Transform) else optimizer(hparams)
    if not isinstance(made, Transform):
        _checks.fail("optimizer", f"a function that returns {_checks.describe(made)}", "hparams -> Transform")
    return master_weights(made)


def as_hparams(hparams: Any, device: torch.device) -> Any:
    """Hyperparameters as tensors on a device; Python floats become float64."""

    def as_tensor(name: str, leaf: Any) -> Tensor:
        value = _jit.as_data(leaf, device)
        if not isinstance(value, Tensor):
            remedy = "Convert it: torch.as_tensor(value)." if hasattr(leaf, "dtype") else "Close over it instead."
            _checks.fail(entry("hparams", name), _checks.describe(leaf), "a tree of numbers and tensors", remedy)
        return value

    return tree.map_named(as_tensor, hparams)


def check_members(argument: str, stacked: tree.Tree, members: int) -> None:
    """Refuse a tree whose leaves have not a leading axis of `members`."""
    for name, leaf in zip(tree.names(stacked), tree.leaves(stacked), strict=True):
        if not isinstance(leaf, Tensor) or leaf.ndim == 0 or leaf.shape[0] != members:
            remedy = "Stack one for each member: fr.tree.stack([...])."
            _checks.fail(
                entry(argument, name), _checks.describe(leaf), f"a leading axis of members = {members}", remedy
            )


def check_optimizer(optimizer: Any) -> None:
    """Refuse what is neither a Transform nor makes one; an optimizer of torch's above all."""
    if isinstance(optimizer, torch.optim.Optimizer | type | torch.nn.Module):
        remedy = "Those of torch.optim hold parameters; these are functions, such as fr.optim.adam(1e-3)."
        _checks.fail(
            "optimizer", _checks.describe(optimizer), "a Transform, or a function hparams -> Transform", remedy
        )
    if not isinstance(optimizer, Transform):
        _checks.check_callable("optimizer", optimizer, "a Transform, or a function hparams -> Transform")
