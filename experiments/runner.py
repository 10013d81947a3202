"""Runs experiments one by one; what is finished stays, whatever happens to the next."""

import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import environment, plots, report
from .context import Context
from .errors import LabError
from .registry import Experiment
from .results import FORMAT, Result, write_atomically, write_record


def run(experiment: Experiment, preset: str, context: Context, out: Path) -> dict[str, Any]:
    """Run one experiment and keep its record (JSON) and figures (PNG) in `out`.

    The record is written last, so that where there is one, all of it is there.
    """
    module = experiment.load()
    settings = module.PRESETS[preset]
    start = time.perf_counter()
    result: Result = module.main(settings, context)
    seconds = time.perf_counter() - start
    record: dict[str, Any] = {
        "format": FORMAT,
        "name": experiment.name,
        "question": experiment.question,
        "preset": preset,
        "command": _command(experiment, preset, context, result),
        "settings": asdict(settings),
        "seed": context.seed,
        "seconds": round(seconds, 2),
        "versions": environment.versions(),
        "hardware": environment.hardware(context.device),
        **result.to_json(),
    }
    record["figures"] = draw(experiment, record, out)
    write_record(out / f"{experiment.name}.json", record)
    return record


def draw(experiment: Experiment, record: dict[str, Any], out: Path) -> dict[str, str]:
    """Draw a record's figures into `out`; returns their captions by name."""
    with plots.style():
        figures = experiment.load().figures(Result.from_json(record))
        for name, figure in figures.items():
            write_atomically(out / "figures" / f"{experiment.name}-{name}.png", plots.png(figure))
    return {name: str(figure.get_label()) for name, figure in figures.items()}


def run_all(chosen: Sequence[Experiment], preset: str, context: Context, out: Path) -> int:
    """Run experiments under a progress bar, print the verdicts, write the report.

    Returns:
        The exit status: 0, or 1 when an experiment broke, or 130 when it was interrupted.
    """
    status, records = 0, []
    try:
        for experiment in _bar(chosen, context):
            try:
                records.append(run(experiment, preset, context, out))
            except LabError:
                raise
            except Exception:  # one that breaks must not cost the others
                traceback.print_exc()
                print(f"{experiment.name} broke; the others go on.", file=sys.stderr)
                status = 1
    except KeyboardInterrupt:
        print(f"\ninterrupted: {len(records)} of {len(chosen)} finished and kept.", file=sys.stderr)
        status = 130
    finally:
        if records:
            print(verdicts(records))
            print(f"\nreport: {report.build(out)}")
    return status


def verdicts(records: Iterable[dict[str, Any]]) -> str:
    """The claims of some records and how they came out, as text."""
    lines = []
    for record in records:
        lines.append(f"\n{record['name']}  ({record['preset']}, {record['seconds']:.1f} s)")
        lines += [f"  data: {source}" for source in record["data"]]
        for claim in record["claims"]:
            mark = "[ok]" if claim["confirmed"] else "[--]"
            lines.append(f"  {mark} {claim['verdict']:<13}  {claim['text']}")
            lines.append(f"  {'':<18}  {claim['measured']}")
    return "\n".join(lines)


def _bar(chosen: Sequence[Experiment], context: Context) -> Iterable[Experiment]:
    if not context.bars:
        yield from chosen
        return
    from tqdm import tqdm

    with tqdm(total=len(chosen), unit="experiment", dynamic_ncols=True, position=0) as bar:
        for experiment in chosen:
            bar.set_description(experiment.name)
            yield experiment
            bar.update()


def _command(experiment: Experiment, preset: str, context: Context, result: Result) -> str:
    """What reproduces a run, without this machine's paths."""
    options = [f"--preset {preset}"] if preset != "quick" else []
    options += [f"--seed {context.seed}"] if context.seed else []
    options += ["--data-root DATA"] if any("from the data root" in source for source in result.data) else []
    options += [f"--device {context.device}"] if context.device.type != "cpu" else []
    return " ".join(["python -m experiments run", experiment.name, *options])
