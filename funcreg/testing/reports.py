"""What was found: a line for each rule, held, broken or not asked."""

from collections.abc import Iterable
from typing import NamedTuple


class Finding(NamedTuple):
    """`rule`: its name; `broken`: the evidence, a line each; `unasked`: why it does not apply, or nothing."""

    rule: str
    broken: tuple[str, ...] = ()
    unasked: str = ""


class Report(NamedTuple):
    """What `report` returns; it prints as a table."""

    function: str
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the rules that are broken."""
        return tuple(each.rule for each in self.findings if each.broken)

    def __str__(self) -> str:
        width = max((len(each.rule) for each in self.findings), default=0)
        rows = [line for each in self.findings for line in _rows(each, width)]
        return "\n".join([self.function, *rows])


def refuse_broken(report: Report) -> None:
    """One AssertionError of all rules that are broken.

    >>> refuse_broken(Report("f", (Finding("key", ("ignored",)),)))
    Traceback (most recent call last):
    AssertionError: f breaks 1 rule:
      key: ignored
    """
    if report.broken:
        count = f"{len(report.broken)} rule{'s' if len(report.broken) > 1 else ''}"
        lines = [f"{each.rule}: {line}" for each in report.findings for line in each.broken]
        raise AssertionError("\n  ".join([f"{report.function} breaks {count}:", *lines]))


def _rows(finding: Finding, width: int) -> Iterable[str]:
    state = "broken" if finding.broken else "-" if finding.unasked else "held"
    first, *rest = finding.broken or (finding.unasked,)
    yield f"  {finding.rule:<{width}}  {state:<6}  {first}".rstrip()
    for line in rest:
        yield f"  {'':<{width}}          {line}"
