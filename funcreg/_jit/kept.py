"""Programs that last: kept in a folder, for later processes, which compile nothing and import no compiler."""

import collections
import functools
import os
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, cast

import optree
import torch
from torch import Tensor

from .. import _checks, _functorch
from . import library
from .kinds import as_argument, flattened
from .modes import compiling, recording, watched_by_torch
from .notices import noticing_kinds
from .outside import Outside
from .traced import Compiled, explained, whole
from .transcript import Transcript
from .watched import Watched

P = ParamSpec("P")
R = TypeVar("R")

_PLAIN = (Tensor, torch.nn.Parameter)
_CHANGES = 3  # programs that are kept for one kind of arguments, as what the function closes over changes


def kept(
    function: Callable[P, R], folder: str | Path, options: Mapping[str, Any], compiled: Callable[[], Compiled[P, R]]
) -> Compiled[P, R]:
    """A function whose programs are kept in a folder.

    Args:
        function: as for `jit`.
        folder: where its programs are kept.
        options: of the compiler.
        compiled: the same function, its programs not kept.
    """
    folder, otherwise = _checked(folder), functools.cache(compiled)
    programs: dict[Hashable, _Made[R]] = {}
    own: collections.Counter[Hashable] = collections.Counter()
    compiled_for, said = noticing_kinds(function), set[str]()

    def not_kept(why: str) -> None:
        if not said:
            said.add(why)
            name = getattr(function, "__name__", "a function")
            warnings.warn(f"{name}: no program is kept for {why}: each process compiles it anew.", stacklevel=3)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if compiling():
            return function(*args, **kwargs)
        given: Any = (args, kwargs)
        leaves, structure = flattened(given)
        leaves = [as_argument(leaf) for leaf in leaves]
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        kind = _kind(leaves, structure)
        if kind is None:
            if (why := _not_for(leaves)) is not None:
                not_kept(why)
            return unkept(*args, **kwargs)
        made = programs.get(kind)
        if made is None or not made.holds():
            programs[kind] = made = _made(_Call(function, leaves, structure), folder, options, otherwise, own[kind])
            if made.new:
                own[kind] += 1
                compiled_for(leaves, structure)
                result.compilations += 1
            if made.why is not None:
                not_kept(made.why)
        return made.program(tensors) if made.program is not None else unkept(*args, **kwargs)

    def unkept(*args: P.args, **kwargs: P.kwargs) -> R:
        before = otherwise().compilations
        results = otherwise()(*args, **kwargs)
        result.compilations += otherwise().compilations - before
        return results

    result = cast("Compiled[P, R]", call)
    result.compilations = 0
    return result


def _checked(folder: Any) -> Path:
    allowed, remedy = "a folder that can be written", "It is made where it is not there."
    if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
        _checks.fail("folder", _checks.describe(folder), allowed, remedy)
    path = Path(folder).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _checks.fail("folder", f"{os.fspath(folder)!r} ({error.strerror})", allowed, remedy)
    return path


def _kind(leaves: Sequence[Any], structure: Any) -> Hashable | None:
    """What a kept program depends on but values; None where none can be had."""
    watching, kinds = torch.is_grad_enabled(), list[Hashable]()
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            kinds.append(leaf)
        elif (
            type(leaf) not in _PLAIN
            or not leaf.is_cpu
            or leaf.layout != torch.strided
            or leaf.is_neg()
            or leaf.is_complex()
            or (watching and leaf.requires_grad)
        ):
            return None
        else:
            kinds.append((leaf.shape, leaf.stride(), leaf.dtype))
    cast_to = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu")
    inside: Any = torch._C  # a default device is a mode, and asking for it takes longer than all else here
    fresh = torch.get_default_dtype(), torch.get_default_device() if inside._len_torch_function_stack() else None
    products = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
    kind = (
        structure,
        watching,
        torch.is_inference_mode_enabled(),
        torch.get_num_threads(),
        cast_to,
        *fresh,
        *products,
        *kinds,
    )
    try:
        hash(kind)
    except TypeError:  # of a leaf that is no tensor
        return None
    return None if _functorch.in_transform() or watched_by_torch() else kind


def _not_for(leaves: Sequence[Any]) -> str | None:
    """Which arguments no program is kept for; None where it is not their fault."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if _functorch.in_transform() or watched_by_torch():
        return None
    if torch.is_grad_enabled() and any(leaf.requires_grad for leaf in tensors):
        return "tensors that ask for gradients (call it inside of torch.no_grad())"
    if not all(leaf.is_cpu for leaf in tensors):
        return "tensors that are not on a CPU"
    return "arguments that are complex, sparse, or no tensors and not to be hashed"


@dataclass
class _Made(Generic[R]):
    """A program for a kind of arguments, or None where it cannot be kept.

    watched: what it was made of besides them; new: whether it was compiled now; why: what it is not kept for.
    """

    program: Callable[[list[Tensor]], R] | None
    watched: Watched
    new: bool = False
    why: str | None = None

    def holds(self) -> bool:
        return self.program is None or self.watched.same()


@dataclass
class _Call(Generic[R]):
    """A function and the leaves of its arguments, as a function of the tensors among them."""

    function: Callable[..., R]
    leaves: list[Any]
    structure: Any

    @property
    def tensors(self) -> list[Tensor]:
        return [leaf.detach() for leaf in self.leaves if isinstance(leaf, Tensor)]

    def outputs(self, *tensors: Tensor) -> tuple[list[Any], Any]:
        """The leaves and the structure of the results."""
        given = iter(tensors)
        args, kwargs = self.structure.unflatten(
            [next(given) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        )
        results: Any = self.function(*args, **kwargs)
        outputs, structure = optree.tree_flatten(results)
        return [whole(leaf) for leaf in outputs], structure

    def results(self, *tensors: Tensor) -> list[Tensor]:
        return [leaf for leaf in self.outputs(*tensors)[0] if isinstance(leaf, Tensor)]

    def watched(self) -> Watched:
        return Watched([self.function, *[leaf for leaf in self.leaves if not isinstance(leaf, Tensor)]])


def _made(
    call: _Call[R], folder: Path, options: Mapping[str, Any], otherwise: Callable[[], Any], before: int
) -> _Made[R]:
    """A program for a call, of what its function closes over now.

    Raises:
        FuncregError: when the function changes what it closes over.
    """
    watched, tensors = call.watched(), call.tensors
    if before >= _CHANGES:  # closures' tensors are constants of a file, and arguments of a program without one
        return _Made(None, watched)
    changed = None
    for _ in range(2):  # at the second, what it keeps for later calls is there
        if watched.unseen is not None:
            return _Made(None, watched, why=watched.unseen)
        with recording(), Outside() as outside, Transcript(tensors) as transcript:
            outputs, structure = call.outputs(*tensors)
        if outside.found is not None:
            return _Made(None, watched, why=f"what asks {outside.found}")
        if (changed := watched.changed()) is None:
            break
        watched = call.watched()
    else:
        remedy = "Take it as an argument, and return the new one; or leave out the folder."
        _checks.fail("function", f"one that changes {changed}, which it closes over", "a pure function", remedy)
    places = [place for place, leaf in enumerate(outputs) if isinstance(leaf, Tensor)]
    results = [outputs[place] for place in places]
    if not results or any(result.requires_grad for result in results):  # of what the function closes over
        return _Made(None, watched)
    path = folder / library.name_of(transcript.digest(results), options)
    run, new = library.loaded(path), False
    if run is None:
        otherwise()  # or why there can be none here
        try:
            run = library.written(path, call.results, tensors, options)
        except library.ValuesNeeded as error:
            raise explained(call.function, call.structure.unflatten(call.leaves), error) from error
        new = run is not None
    if run is None:
        return _Made(None, watched)
    constants = [None if isinstance(leaf, Tensor) else leaf for leaf in outputs]

    def program(tensors: list[Tensor]) -> R:
        leaves = constants.copy()
        for place, result in zip(places, run(tensors), strict=True):
            leaves[place] = result
        return cast("R", structure.unflatten(leaves))

    return _Made(program, watched, new)
