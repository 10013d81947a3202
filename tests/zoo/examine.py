"""The promise of `from_module`, checked on one module: right, or refused by the name of a layer.

Every check compares with the module itself, in float64, or with plain autograd. A check is "right", "refused" with
the message, or wrong, which is an AssertionError that says how.
"""

import contextlib
import functools
import random as python_random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils import _pytree as pytree

import funcreg as fr
from tests.zoo.specimen import Specimen, numbers

KEYS = fr.random.split(fr.random.key(7), 3)


class Subject:
    """A specimen's module in float64, with values that are not its layers' trivial starts, and its pure twin.

    Whatever it is called for, no call may move a generator of the process, and `given` is to stay as it was.
    """

    def __init__(self, specimen: Specimen, **rates: Any) -> None:
        self.specimen, self.rates = specimen, rates
        self.module = self.twin(train=False)
        self.inputs = specimen.inputs()
        self.params, self.state = fr.variables(self.module)
        self.model = fr.from_module(self.module)
        self.given = [*self.params.values(), *self.state.values(), *self.module.state_dict().values()]
        self.given += [leaf for leaf in pytree.tree_leaves(self.inputs) if isinstance(leaf, Tensor)]
        self.before = [tensor.clone() for tensor in self.given]

    def apply(self, params: dict[str, Tensor] | None = None, /, **how: Any) -> tuple[list[Tensor], dict[str, Tensor]]:
        before = _generators()
        args, kwargs = self.inputs
        try:
            output, state = self.model.apply(params or self.params, self.state, *args, **kwargs, **how)
        finally:
            assert _generators() == before, "a global generator moved"
        return numbers(output), state

    def run(self, twin: nn.Module) -> list[Tensor]:
        """What the module itself gives. It may write into its inputs."""
        args, kwargs = pytree.tree_map_only(Tensor, torch.clone, self.inputs)
        return numbers(twin(*args, **kwargs))

    def twin(self, *, train: bool) -> nn.Module:
        """The same module, made anew: a copy's lambdas and hooks would look at the original."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = self.specimen.build(**self.rates).double()
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.add_(0.02 * torch.randn_like(parameter))
        return module.train(train)


class Subjects:
    """Of a specimen, for all of its checks: first calls of a model take longest."""

    def __init__(self, specimen: Specimen) -> None:
        self.specimen = specimen

    @functools.cached_property
    def quiet(self) -> Subject:
        return Subject(self.specimen)

    @functools.cached_property
    def noisy(self) -> Subject:
        """With noise of all kinds at once."""
        rates: dict[str, Any] = {}
        for each in self.specimen.noise.values():
            rates |= each
        return Subject(self.specimen, **rates) if rates else self.quiet

    def by_noise(self) -> Iterator[tuple[str, Subject]]:
        """Each kind of noise, alone."""
        for kind, rates in self.specimen.noise.items():
            yield kind, self.noisy if rates == self.noisy.rates else Subject(self.specimen, **rates)


def evaluates(subjects: Subjects) -> None:
    """Evaluation equals the module's, with noise that the module itself turns off, if it does."""
    with torch.no_grad():
        subject = subjects.noisy if _off_in_evaluation(subjects.noisy) else subjects.quiet
        twin = subject.twin(train=False)
        expected = subject.run(twin)
        ours, state = subject.apply()
    close(ours, expected, subject.specimen.tolerance)
    own = twin.state_dict()
    assert all(torch.equal(state[name], own[name]) for name in state if name in own), "another state"


def trains(subjects: Subjects) -> None:
    """A training step at zero rates equals the module's: its outputs, its buffers, and its gradients."""
    subject, tolerance = subjects.quiet, subjects.specimen.tolerance
    twin = subject.twin(train=True)
    expected = subject.run(twin)
    _loss(expected).backward()
    theirs = {name: p.grad for name, p in twin.named_parameters() if p.grad is not None}
    # A cache that the module makes anew in another shape is none of its state.
    own = twin.state_dict()
    buffers = {name: own[name] for name in subject.state if name in own}
    params = {name: tensor.clone().requires_grad_() for name, tensor in subject.params.items()}
    ours, state = subject.apply(params, key=KEYS[0], train=True)
    close([each.detach() for each in ours], [each.detach() for each in expected], tolerance)
    close([state[name] for name in buffers], list(buffers.values()), tolerance)
    grads = torch.autograd.grad(_loss(ours), list(params.values()), allow_unused=True)
    found = dict(zip(params, grads, strict=True))
    largest = max((float(each.abs().max()) for each in theirs.values()), default=1.0) or 1.0
    for name, grad in theirs.items():
        mine = found[name]
        assert mine is not None or not grad.any(), f"no gradient of {name}"
        if mine is not None:
            of_all = max(1e-7, 100 * tolerance)  # of the largest of all: some are zero but for rounding
            torch.testing.assert_close(mine / largest, grad / largest, rtol=of_all, atol=of_all)


def draws(subjects: Subjects) -> None:
    """Each kind of noise, alone, is on in a Monte Carlo call and in a training call; same key, same bits."""
    for kind, subject in subjects.by_noise():
        if not _noisy_in_torch(subject):
            raise AssertionError(f"{kind}: the module itself has no such noise")
        for train in (False, True):
            with torch.no_grad():
                one, other, again = (subject.apply(key=key, train=train)[0] for key in (*KEYS[:2], KEYS[0]))
            assert _differ(one, other), f"{kind}: two keys give one answer (train={train})"
            assert not _differ(one, again), f"{kind}: one key gives two answers (train={train})"


def samples(subjects: Subjects) -> None:
    """`vmap` over keys equals a loop, with all noise on."""
    subject = subjects.noisy
    with torch.no_grad():
        loop = [subject.apply(key=key)[0] for key in KEYS]
        batched = vmap(lambda key: tuple(subject.apply(key=key)[0]))(KEYS)
    for place, each in enumerate(batched):
        close(list(each), [outputs[place] for outputs in loop], max(1e-7, subject.specimen.tolerance))


def leaves_alone(subjects: Subjects) -> None:
    """torch's, numpy's and Python's generators, and the caller's tensors, are as they were, after all of the checks."""
    for how in ({}, {"key": KEYS[0]}, {"key": KEYS[0], "train": True}, {"key": KEYS[1], "train": True}):
        allowed = contextlib.suppress(fr.FuncregError) if subjects.specimen.refuses else contextlib.nullcontext()
        with torch.no_grad(), allowed:
            subjects.noisy.apply(**how)
    for subject in (subjects.quiet, subjects.noisy):
        close(subject.given, subject.before, 0.0)


CHECKS: dict[str, Callable[[Subjects], None]] = {
    "evaluates": evaluates,
    "trains": trains,
    "draws": draws,
    "samples": samples,
    "leaves alone": leaves_alone,
}


def examine(subjects: Subjects, check: str) -> str:
    """ "right", or "refused: why"; an AssertionError where it is wrong or refused without being listed."""
    specimen = subjects.specimen
    words = specimen.refuses.get(check)
    try:
        CHECKS[check](subjects)
    except fr.FuncregError as error:
        if words is None or words not in str(error):
            raise AssertionError(f"{specimen.name}, {check}: refused: {error}") from error
        return f"refused: {error}"
    assert words is None, f"{specimen.name}, {check}: listed as refused ({words}), but it runs"
    return "right"


def close(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    """Refuse what differs by more than a tolerance, relative to the largest value."""
    assert len(ours) == len(theirs), f"{len(ours)} tensors for {len(theirs)}"
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape, f"shape {tuple(one.shape)} for {tuple(other.shape)}"
        scale = float(other.abs().max()) if other.numel() and other.is_floating_point() else 1.0
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * max(scale, 1e-12), equal_nan=True)


def _loss(outputs: list[Tensor]) -> Tensor:
    """A number that every output has a part in, with weights that no symmetry cancels."""
    total = torch.zeros((), dtype=torch.float64)
    for each in outputs:
        if each.requires_grad:
            weights = torch.linspace(0.5, 1.5, max(each.numel(), 1), dtype=torch.float64)[: each.numel()]
            total = total + (each.double().flatten() * weights).mean()
    return total


def _noisy_in_torch(subject: Subject) -> bool:
    """Whether the module itself gives two answers in training mode, its normalisation evaluating."""
    twin = subject.twin(train=True)
    for layer in twin.modules():
        if hasattr(layer, "running_mean"):
            layer.eval()
    return _gives_two_answers(subject, twin)


def _off_in_evaluation(subject: Subject) -> bool:
    return not subject.rates or not _gives_two_answers(subject, subject.twin(train=False))


def _gives_two_answers(subject: Subject, twin: nn.Module) -> bool:
    numpys, pythons = np.random.get_state(), python_random.getstate()  # noqa: NPY002  (a module may draw from it)

    def answer(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        python_random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        return subject.run(twin)

    with torch.random.fork_rng(), torch.no_grad():
        first = answer(0)
        noisy = any(_differ(first, answer(seed)) for seed in range(1, 5))
    np.random.set_state(numpys)  # noqa: NPY002
    python_random.setstate(pythons)
    return noisy


def _differ(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) != len(other) or any(
        a.shape != b.shape or not torch.equal(a, b) for a, b in zip(one, other, strict=True)
    )


def _generators() -> tuple[Any, ...]:
    state: Any = np.random.get_state()  # noqa: NPY002  (the global one is what is watched)
    return torch.get_rng_state().numpy().tobytes(), python_random.getstate(), state[1].tobytes(), state[2:]
