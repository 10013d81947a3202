"""What an experiment returns: raw values, claims with their verdicts, tables; and all of it as JSON's types.

A result is plain data: raw values of every member, claims with their verdicts, tables. Tensors
are turned into lists when it is made, so that figures drawn from a fresh result and from one
read back are the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any

import torch

from .decisions import Verdict, every

_VERDICT = ("verdict", "allows", "open")  # how a record calls the fields of a verdict
_DIGITS = {torch.float64: 12, torch.float32: 7, torch.float16: 4, torch.bfloat16: 3}


@dataclass(frozen=True)
class Claim:
    """A statement, what was measured, and what that says: a verdict, or whether an exact comparison held."""

    text: str
    measured: str
    held: Verdict | bool
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """Confirmed, refuted or undecided."""
        return every([self.held])


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
        claims = [
            {"text": each.text, "measured": each.measured, **_named(each.verdict), "numbers": each.numbers}
            for each in self.claims
        ]
        return plain({"values": self.values, "claims": claims, "tables": self.tables, "data": self.data})

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Result":
        """The result that a record holds."""
        claims = [
            Claim(each["text"], each["measured"], Verdict(*(each[name] for name in _VERDICT)), each["numbers"])
            for each in record["claims"]
        ]
        tables = [Table(**each) for each in record["tables"]]
        return cls(record["values"], claims, tables, list(record["data"]))


def _named(verdict: Verdict) -> dict[str, Any]:
    return dict(zip(_VERDICT, verdict, strict=True))


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


def short(value: Any) -> Any:
    """The same with four digits: enough to draw, and to compare members by.

    >>> short({"x": torch.tensor([0.123456, 2.0])})
    {'x': [0.1235, 2.0]}
    """
    if isinstance(value, torch.Tensor):
        return _rounded(value.detach().cpu().tolist(), 4)
    if isinstance(value, Mapping):
        return {name: short(each) for name, each in value.items()}
    return [short(each) for each in value] if isinstance(value, list | tuple) else _rounded(value, 4)


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, list):
        return [_rounded(each, digits) for each in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
