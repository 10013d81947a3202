"""Programs that last: kept in a folder, for later processes, which compile nothing and import no compiler."""

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
    compiled_for = noticing_kinds(function)
    own = others = 0
    told = False

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal own, others, told
        if compiling():
            return function(*args, **kwargs)
        given: Any = (args, kwargs)
        leaves, structure = flattened(given)
        leaves = [as_argument(leaf) for leaf in leaves]
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        program, kind = None, _kind(leaves, structure)
        if kind is not None:
            made = programs.get(kind)
            if made is None or not made.holds():
                before = made.compiled if made else 0
                programs[kind] = made = _made(function, leaves, structure, folder, options, otherwise, before)
                if made.compiled > before:
                    own += 1
                    compiled_for(leaves, structure)
            program = made.program
        elif not told and (why := _not_for(leaves)) is not None:
            told = True
            name = getattr(function, "__name__", "a function")
            warnings.warn(f"{name}: no program is kept for {why}: each process compiles it anew.", stacklevel=2)
        if program is None:
            results = otherwise()(*args, **kwargs)
            others = otherwise().compilations
        else:
            results = program(tensors)
        result.compilations = own + others
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
    kind = (structure, watching, torch.get_num_threads(), cast_to, *fresh, *products, *kinds)
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

    watched: what it was made of besides them; compiled: how often one was, for this kind.
    """

    program: Callable[[list[Tensor]], R] | None
    watched: Watched
    compiled: int

    def holds(self) -> bool:
        return self.program is None or self.watched.same()


def _made(
    function: Callable[..., R],
    leaves: list[Any],
    structure: Any,
    folder: Path,
    options: Mapping[str, Any],
    otherwise: Callable[[], Any],
    before: int,
) -> _Made[R]:
    """A program for leaves of a kind, of what the function closes over now."""
    watched = Watched([function, *[leaf for leaf in leaves if not isinstance(leaf, Tensor)]])
    if before >= _CHANGES:  # closures' tensors are constants of a file, and arguments of a program without one
        return _Made(None, watched, before)
    program, made = _program(function, leaves, structure, folder, options, otherwise)
    return _Made(program, watched, before + made)


def _program(
    function: Callable[..., R],
    leaves: list[Any],
    structure: Any,
    folder: Path,
    options: Mapping[str, Any],
    otherwise: Callable[[], Any],
) -> tuple[Callable[[list[Tensor]], R] | None, bool]:
    """(A program, or None where it cannot be kept; whether it was compiled now)."""
    taken = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    tensors = [leaves[place].detach() for place in taken]

    def flat(*given: Tensor) -> tuple[list[Any], Any]:
        all_of = leaves.copy()
        for place, tensor in zip(taken, given, strict=True):
            all_of[place] = tensor
        args, kwargs = structure.unflatten(all_of)
        results: Any = function(*args, **kwargs)
        outputs, shape = optree.tree_flatten(results)
        return [whole(leaf) for leaf in outputs], shape

    def results_of(*given: Tensor) -> list[Tensor]:
        return [leaf for leaf in flat(*given)[0] if isinstance(leaf, Tensor)]

    with recording(), Transcript(tensors) as transcript:
        outputs, shape = flat(*tensors)
    given = [place for place, leaf in enumerate(outputs) if isinstance(leaf, Tensor)]
    results = [outputs[place] for place in given]
    if not results or any(result.requires_grad for result in results):  # of what the function closes over
        return None, False
    path = folder / library.name_of(transcript.digest(results), options)
    run, made = library.loaded(path), False
    if run is None:
        otherwise()  # or why there can be none here
        try:
            run = library.written(path, results_of, tensors, options)
        except library.ValuesNeeded as error:
            raise explained(function, structure.unflatten(leaves), error) from error
        made = run is not None
    if run is None:
        return None, False
    constants = [None if isinstance(leaf, Tensor) else leaf for leaf in outputs]

    def program(tensors: list[Tensor]) -> R:
        leaves = constants.copy()
        for place, result in zip(given, run(tensors), strict=True):
            leaves[place] = result
        return cast("R", shape.unflatten(leaves))

    return program, made
