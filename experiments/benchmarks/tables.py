"""The record of the benchmarks as text for a terminal, and as Markdown for this folder's README."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import LabError
from .profiled import KINDS
from .recompilations import CALLS

Record = dict[str, Any]
COLUMNS = ("stateful eager", "stateful compiled", "torch.func", "best JAX")


def read(path: Path) -> Record:
    """The record in a file.

    Raises:
        LabError: when it is not one.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabError(f"cannot read {path}: {error}. Make it: python -m experiments bench.") from None
    if not isinstance(record, dict) or not {"workloads", "growth", "profiles"} <= set(record):
        raise LabError(f"{path} is not the record of this version's benchmarks. Make it: python -m experiments bench.")
    return record


def text(record: Record) -> str:
    """Everything, for a terminal."""
    lines: list[str] = []
    for workload in record["workloads"]:
        lines += [f"{workload['name']}: {workload['question']}", *_contenders(workload), *_comparisons(workload), ""]
    if record["growth"]:
        lines += ["growth: milliseconds, and MiB that a call adds", *_growth(record), ""]
    if memory := record["monte_carlo_peak_mib_by_chunk_size"]:
        told = ", ".join(f"{chunk}: {mib:.0f} MiB" for chunk, mib in memory.items())
        lines += [f"MC dropout, batch 1000, 100 samples: peak memory by chunk_size: {told}"]
    lines += _programs(record)
    for name, profile in record["profiles"].items():
        told = ", ".join(f"{shown} {kind}" for kind, share in profile["shares"].items() if (shown := _percent(share)))
        lines += [f"the time of {name}, {profile['contender']}: {told}"]
    start = record["compiler_start_seconds"]
    lines += [f"the first program of a process also starts the compiler, {start:.1f} s; nothing was cached on disk"]
    if record["without_jax"]:
        lines += [f"without JAX: {record['without_jax']}"]
    targets = [comparison["met"] for _, comparison in _targets(record)]
    return "\n".join([*lines, f"{sum(targets)} of {len(targets)} targets met"])


def shown(workload: Record) -> list[Record]:
    """The comparisons of funcreg's fastest contender, and those that have a target."""
    best = fastest(workload)
    return [each for each in workload["comparisons"] if each["contender"] == best or each["target"] is not None]


def fastest(workload: Record) -> str:
    """The name of funcreg's fastest contender."""
    contenders = workload["contenders"]
    ours = [name for name in contenders if name.startswith("funcreg")]
    return min(ours, key=lambda name: contenders[name]["milliseconds"])


def _contenders(workload: Record) -> Iterator[str]:
    width = max(map(len, workload["contenders"]))
    for name, row in workload["contenders"].items():
        compiled = (
            "" if row["compile_seconds"] is None else f"   {row['compile_seconds']:6.1f} s until the first result"
        )
        yield f"  {name:<{width}} {row['milliseconds']:12.3f} ms{compiled}"


def _comparisons(workload: Record) -> Iterator[str]:
    for each in shown(workload):
        against = each["against"] + ("" if each["baseline"] == each["against"] else f" ({each['baseline']})")
        told = f"{_short(each['median']):>6} ({_short(each['low'])}-{_short(each['high'])})"
        target = (
            "" if each["target"] is None else f"target {_short(each['target'])}: {'met' if each['met'] else 'MISSED'}"
        )
        yield f"    {each['contender']:<26} {told:<20} times as fast as {against:<40} {target}".rstrip()


def _growth(record: Record) -> Iterator[str]:
    question = None
    for row in record["growth"]:
        if row["question"] != question:
            question = row["question"]
            yield f"  {row['axis']}: {question}"
        points = "; ".join(
            f"{point['value']}: {_short(1e3 * point['seconds'])} ms"
            + ("" if point["mib"] is None else f", {_short(point['mib'])} MiB")
            for point in row["points"]
        )
        yield f"    {row['contender']:<16} {points}"


def _targets(record: Record) -> Iterator[tuple[Record, Record]]:
    """(workload, comparison) of each target."""
    for workload in record["workloads"]:
        for comparison in workload["comparisons"]:
            if comparison["target"] is not None:
                yield workload, comparison


def markdown(record: Record) -> str:
    """How many times as fast the fastest form of funcreg is as each other; and which targets are missed."""
    lines = [
        f"| work | funcreg | {' | '.join(COLUMNS)} | compile |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    for workload in record["workloads"]:
        contenders = workload["contenders"]
        best = fastest(workload)
        compared = [each for each in workload["comparisons"] if each["contender"] == best]
        cells = [_cell(compared, column) for column in COLUMNS]
        compiled = contenders[best]["compile_seconds"]
        lines.append(
            f"| {workload['question']} | {best.removeprefix('funcreg ')}: {_time(contenders[best]['milliseconds'])} | "
            f"{' | '.join(cells)} | {'' if compiled is None else f'{compiled:.1f} s'} |"
        )
    targets = list(_targets(record))
    missed = [
        f"{workload['name']}, {each['contender'].removeprefix('funcreg ')} against {each['against']} "
        f"({_short(each['median'])} of {_short(each['target'])})"
        for workload, each in targets
        if not each["met"]
    ]
    lines += ["", f"Targets met: {len(targets) - len(missed)} of {len(targets)}."]
    lines += [f"Missed: {'; '.join(missed)}."] if missed else []
    return "\n".join([*lines, *_programs(record), *_profiles(record)])


def _programs(record: Record) -> list[str]:
    """How many programs were compiled for a few calls of each idiom."""
    programs = ", ".join(f"{idiom} {count}" for idiom, count in record.get("programs", {}).items())
    return [f"Programs compiled for {CALLS} calls: {programs}."] if programs else []


def _profiles(record: Record) -> list[str]:
    """Where the time goes, of the workloads that miss a target."""
    missed = dict.fromkeys(workload["name"] for workload, each in _targets(record) if not each["met"])
    rows = {name: record["profiles"][name] for name in missed if name in record["profiles"]}
    if not rows:
        return []
    lines = ["", f"| where its time goes | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 1) + "|"]
    for name, profile in rows.items():
        cells = (_percent(profile["shares"][kind]) for kind in KINDS)
        lines.append(f"| {name}, {profile['contender'].removeprefix('funcreg ')} | {' | '.join(cells)} |")
    return lines


def _cell(compared: list[Record], column: str) -> str:
    """The comparison with a column's contender, or with the first that is of its kind."""
    exact = [each for each in compared if each["against"] == column]
    alike = [each for each in compared if column == COLUMNS[0] and each["against"] not in COLUMNS]
    for each in (*exact, *alike):
        return _range(each) + ("" if each["baseline"] == column else f" ({each['baseline']})")
    return ""


def _range(comparison: Record) -> str:
    return f"{_short(comparison['median'])} x ({_short(comparison['low'])}-{_short(comparison['high'])})"


def _time(milliseconds: float) -> str:
    return f"{_short(milliseconds)} ms" if milliseconds < 1000 else f"{_short(milliseconds / 1e3)} s"


def _percent(share: float) -> str:
    """Whole percents; nothing for less than half of one."""
    return f"{100 * share:.0f}%" if share >= 0.005 else ""


def _short(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"
