"""What an experiment returns, and the JSON it is kept in.

A result is plain data: raw values of every member, claims with their verdicts, tables. Tensors
are turned into lists when it is made, so that figures drawn from a fresh result and from one
read back are the same.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import torch

from .errors import LabError
from .files import write_atomically

_FAMILY = "funcreg-experiment/"
FORMAT = f"{_FAMILY}2"
_DIGITS = {torch.float64: 12, torch.float32: 7, torch.float16: 4, torch.bfloat16: 3}


@dataclass(frozen=True)
class Claim:
    """A statement, what was measured, and whether that confirms it."""

    text: str
    measured: str
    confirmed: bool
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """ "confirmed" or "not confirmed"."""
        return "confirmed" if self.confirmed else "not confirmed"


@dataclass(frozen=True)
class Table:
    """Numbers for the report: a title, column heads with their units, rows of text and numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float]]


@dataclass(frozen=True)
class Result:
    """One run of an experiment: raw values, claims, tables, and which data it used."""

    values: dict[str, Any]
    claims: list[Claim]
    tables: list[Table] = field(default_factory=list)
    data: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", plain(self.values))

    def to_json(self) -> dict[str, Any]:
        """As JSON's types; `from_json` gives an equal result."""
        claims = [{**asdict(claim), "verdict": claim.verdict} for claim in self.claims]
        return plain({"values": self.values, "claims": claims, "tables": self.tables, "data": self.data})

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Result":
        """The result that a record holds."""
        claims = [
            Claim(each["text"], each["measured"], each["confirmed"], each["numbers"]) for each in record["claims"]
        ]
        tables = [Table(**each) for each in record["tables"]]
        return cls(record["values"], claims, tables, list(record["data"]))


def plain(value: Any) -> Any:
    """A tree of tensors, dataclasses and numbers as JSON's types.

    Tensors keep the digits that their dtype has; a number that is not finite becomes None.

    >>> plain({"x": torch.tensor([0.1, float("nan")]), 3: (True, 2)})
    {'x': [0.1, None], '3': [True, 2]}
    """
    if isinstance(value, torch.Tensor):
        digits = _DIGITS.get(value.dtype)
        listed = value.detach().cpu().tolist()
        return plain(listed) if digits is None else plain(_rounded(listed, digits))
    if is_dataclass(type(value)):
        return plain(asdict(value))
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if hasattr(value, "tolist"):  # NumPy's arrays and scalars
        return plain(value.tolist())
    raise TypeError(f"a result holds {type(value).__name__}; expected tensors, numbers, text, dicts and lists")


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, list):
        return [_rounded(each, digits) for each in value]
    return float(f"{value:.{digits}g}")


def encode(record: Mapping[str, Any]) -> bytes:
    """A record as JSON: one line a top-level entry, values compact."""
    lines = [f"{json.dumps(name)}: {json.dumps(plain(value), allow_nan=False)}" for name, value in record.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Keep a record in a file."""
    write_atomically(path, encode(record))


def read_record(path: Path) -> dict[str, Any]:
    """The record of one run.

    Raises:
        LabError: when the file is not one, or of another version of the lab.
    """
    record = _read(path)
    if record["format"] != FORMAT:
        raise LabError(f"{path} is of another version of the lab ({record['format']}). Run it again.")
    return record


def check_place(path: Path) -> None:
    """Refuse to put a record where a file is that is not one, of whatever version.

    Raises:
        LabError: for such a file.
    """
    if path.exists():
        try:
            _read(path)
        except LabError as error:
            raise LabError(f"{error}. It is left alone: choose another folder with --out.") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabError(f"cannot read {path}: {error}") from None
    if not isinstance(record, dict) or not str(record.get("format")).startswith(_FAMILY):
        raise LabError(f"{path} is not the record of an experiment")
    return record
