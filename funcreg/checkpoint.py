"""Save and load any tree: one safetensors file, checked, written atomically, without pickle.

A file holds the leaves by path (`params/0.weight`): tensors as such, Python numbers, strings and
None in the header, with the format's version and a SHA-256 of all names, dtypes, shapes and bytes.
`save` writes a new file beside and renames it, so `path` is at every moment a whole checkpoint; the
one before is kept as `<path>.previous`.
"""

import hashlib
import json
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

import optree
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from . import _checks
from ._functorch import is_wrapped
from .tree import Tree
from .tree.structure import entry

__all__ = ["load", "read_leaves", "read_metadata", "save"]

_VERSION = 1
_FORMAT = "funcreg"
_OURS = "a checkpoint that fr.checkpoint.save wrote"
_SAME = "the structure that was saved"
_RESERVED = "__metadata__"  # safetensors' own name; "~" is never followed by "_" in an escaped one
_LEFTOVER = 3600.0  # seconds after which an unfinished file belongs to a process that was killed


def save(path: str | Path, tree: Tree, *, metadata: dict[str, Any] | None = None) -> None:
    """Write a tree to a file.

    Args:
        path: of the file, whose folder exists; an earlier checkpoint there becomes `<path>.previous`.
        tree: leaves are tensors, numbers, strings or None. Tensors are written contiguous, detached,
            and each on its own even where they share storage.
        metadata: what `read_metadata` gives back: a dict that JSON can hold.

    Raises:
        FuncregError: for a leaf or metadata of another kind, or a path that cannot be written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.safetensors"
    >>> save(path, {"w": torch.ones(2), "epoch": 3}, metadata={"dataset": "digits"})
    >>> load(path, {"w": torch.zeros(2), "epoch": 0}), read_metadata(path)
    ({'w': tensor([1., 1.]), 'epoch': 3}, {'dataset': 'digits'})
    """
    path = _checks.check_path("path", path, writes=True)
    names, leaves, structure = _flatten(tree)
    tensors = {name: _stored(name, leaf) for name, leaf in zip(names, leaves, strict=True) if isinstance(leaf, Tensor)}
    values = {name: leaf for name, leaf in zip(names, leaves, strict=True) if not isinstance(leaf, Tensor)}
    for name, value in values.items():
        if type(value) not in (bool, int, float, str, type(None)):
            _checks.fail(entry("tree", name), _checks.describe(value), "a tensor, a Python number, a string or None")
    if not (isinstance(metadata, dict | None) and _has_string_keys(metadata)):
        _checks.fail("metadata", _checks.describe(metadata), "a dict that JSON can hold, whose keys are strings")
    document = {"version": _VERSION, "structure": structure, "values": values, "metadata": metadata or {}}
    try:
        text = json.dumps(document)
    except (TypeError, ValueError) as error:
        _checks.fail("metadata", str(error), "a dict that JSON can hold")
    header = {_FORMAT: text, "sha256": _checksum(text, tensors)}
    try:
        content = safetensors.torch.save(tensors, header)
    except (KeyError, UnicodeEncodeError, safetensors.SafetensorError) as error:
        _checks.fail("tree", f"a tensor that safetensors cannot hold ({error})", "dense tensors of common dtypes")
    _write(path, content)


def load(path: str | Path, like: Tree) -> Tree:
    """Read a tree that `save` wrote.

    Args:
        path: of the file.
        like: a tree of the same structure, dtypes and shapes, such as a fresh `train.init`; its values
            do not matter.

    Returns:
        The tree saved, each tensor on the device of its counterpart in like.

    Raises:
        FuncregError: when the file is missing, damaged, not a checkpoint, or unlike `like`. The message
            says what differs, and mentions `<path>.previous` when that is a good one.

    >>> load("missing.safetensors", {})
    Traceback (most recent call last):
    ...
    funcreg._checks.FuncregError: path: got missing.safetensors, which does not exist; expected a checkpoint...
    """
    path = _checks.check_path("path", path)
    document, tensors = _read(path)
    names, leaves, structure = _flatten(like)
    found, expected = set(tensors) | set(document["values"]), set(names)
    if found != expected:
        missing, extra = sorted(expected - found)[:5], sorted(found - expected)[:5]
        _checks.fail(
            "like", f"a tree that differs from {path} (not in the file: {missing}, only there: {extra})", _SAME
        )
    if document["structure"] != structure:
        _checks.fail("like", f"{structure}, where {path} has {document['structure']}", _SAME)
    loaded = [_matched(name, leaf, tensors, document["values"]) for name, leaf in zip(names, leaves, strict=True)]
    return optree.tree_structure(like, none_is_leaf=True).unflatten(loaded)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata that a checkpoint was saved with, after checking the whole file.

    Args:
        path: of the file.

    Returns:
        The dict, `{}` when there was none.

    Raises:
        FuncregError: when the file is missing, damaged or not a checkpoint.
    """
    return _read(_checks.check_path("path", path))[0]["metadata"]


def read_leaves(path: str | Path) -> dict[str, Any]:
    """The leaves of a checkpoint by their paths, for who does not know its tree.

    Args:
        path: of the file.

    Returns:
        Path such as `params/0.weight` -> tensor on the CPU, number, string or None.

    Raises:
        FuncregError: when the file is missing, damaged or not a checkpoint.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.safetensors"
    >>> save(path, {"params": {"w": torch.ones(2)}, "epoch": 3})
    >>> read_leaves(path)
    {'params/w': tensor([1., 1.]), 'epoch': 3}
    """
    document, tensors = _read(_checks.check_path("path", path))
    return tensors | document["values"]


def _flatten(tree: Tree) -> tuple[list[str], list[Any], str]:
    """Names such as `params/0.weight`, leaves, and the structure as text."""
    accessors, leaves, structure = optree.tree_flatten_with_accessor(tree, none_is_leaf=True)
    names = ["/".join(_part(step) for step in accessor) for accessor in accessors]
    names = ["~" + name if name == _RESERVED else name for name in names]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()
    if twice:
        _checks.fail("tree", f"two leaves called {sorted(twice)[0]!r}", "leaves with different paths")
    return names, leaves, str(structure)


def _part(entry: optree.PyTreeEntry) -> str:
    """One step of a path: a field's name, a key, an index; escaped as in a JSON pointer."""
    part = entry.field if isinstance(entry, optree.NamedTupleEntry) else entry.entry
    if not isinstance(part, str | int | float):
        _checks.fail("tree", f"the key {_checks.describe(part)}", "keys that are strings or numbers")
    return str(part).replace("~", "~0").replace("/", "~1")


def _stored(name: str, leaf: Tensor) -> Tensor:
    """A leaf as it is written: on the CPU, contiguous, sharing nothing with another."""
    kinds = {"meta": leaf.is_meta, "quantized": leaf.is_quantized, "nested": leaf.is_nested}
    kinds |= {"in a transform": is_wrapped(leaf), f"of layout {leaf.layout}": leaf.layout != torch.strided}
    for kind, found in kinds.items():
        if found:
            _checks.fail(entry("tree", name), f"a tensor that is {kind}", "a dense tensor with values of its own")
    return leaf.detach().cpu().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)


def _has_string_keys(value: Any) -> bool:
    """Whether a dict's keys, and those of the dicts in it, are strings: JSON would make others so."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _has_string_keys(each) for key, each in value.items())
    return not isinstance(value, list | tuple) or all(map(_has_string_keys, value))


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, leaf in sorted(tensors.items()):
        digest.update(json.dumps([name, str(leaf.dtype), list(leaf.shape)]).encode())
        digest.update(leaf.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step, after its new content is safely on the disk."""
    prefix = f".{path.name}."
    for leftover in path.parent.glob(f"{prefix}*.tmp"):
        if time.time() - leftover.stat().st_mtime > _LEFTOVER:
            leftover.unlink(missing_ok=True)
    beside = path.with_name(f"{prefix}{secrets.token_hex(8)}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _keep_previous(path)
        os.replace(beside, path)
    except OSError as error:
        _checks.fail("path", f"{path}, which cannot be written ({error})", "a place to write a file")
    finally:
        beside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _keep_previous(path: Path) -> None:
    """Give the present checkpoint a second name, so that there is a moment with both, and none without."""
    if not path.exists():
        return
    link = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        os.link(path, link)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, link)
    os.replace(link, _previous(path))


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a power cut, where folders can be synced."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".previous")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The document and the tensors of a good file; a bad one is refused with a word on the one before."""
    try:
        return _read_one(path)
    except _checks.FuncregError as error:
        previous = _previous(path)
        if not previous.exists():
            raise
        try:
            _read_one(previous)
        except _checks.FuncregError:
            raise error from None
        raise _checks.FuncregError(f"{error} The one before it, {previous}, is good.") from None


def _read_one(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        _checks.fail("path", f"{path}, which does not exist", _OURS)
    except OSError as error:
        _checks.fail("path", f"{path}, which cannot be read ({error})", _OURS)
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except Exception as error:  # the parser's own, KeyError, ValueError, OverflowError, MemoryError: all one
        if content[8:9] != b"{" and (content[:4] == b"PK\x03\x04" or content[:1] == b"\x80"):
            remedy = "Load it with torch.load(path, weights_only=True) and save its tensors anew."
            _checks.fail("path", f"{path}, a pickle", _OURS, remedy)
        _checks.fail("path", f"{path}, which is truncated or damaged ({error})", "a whole checkpoint")
    metadata = header.get("__metadata__", {})
    text, checksum = metadata.get(_FORMAT), metadata.get("sha256")
    if text is None or checksum is None:
        _checks.fail("path", f"{path}, a safetensors file of another program", _OURS)
    if _checksum(text, tensors) != checksum:
        _checks.fail("path", f"{path}, which is damaged (its checksum differs)", "a whole checkpoint")
    document = json.loads(text)
    if document["version"] != _VERSION:
        _checks.fail("path", f"{path}, of format version {document['version']}", f"version {_VERSION}")
    return document, tensors


def _matched(name: str, like: Any, tensors: dict[str, Tensor], values: dict[str, Any]) -> Any:
    """One leaf as it was saved, if it is of the kind of its counterpart."""
    leaf: Any = tensors.get(name, values.get(name))
    alike = type(leaf) is type(like)
    if isinstance(leaf, Tensor) and isinstance(like, Tensor):
        alike = leaf.dtype == like.dtype and leaf.shape == like.shape
    if not alike:
        _checks.fail(f"like's {name}", _checks.describe(like), f"{_checks.describe(leaf)}, as in the file")
    return leaf.to(like.device) if isinstance(leaf, Tensor) else leaf
