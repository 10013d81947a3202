"""Runs experiments one by one; what is finished stays, whatever happens to the next."""

import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..errors import LabError, WriteError
from ..report.decisions import CONFIRMED, REFUTED, UNDECIDED
from ..report.looks import looks, schedule
from ..report.result import Result
from ..report.verdicts import tally
from . import environment, publish, request
from .context import Context
from .publish import draw, keep
from .records import FORMAT
from .registry import Experiment
from .tensorboard import Logs
from .unfinished import Unfinished

MARKS = {CONFIRMED: "[ok]", REFUTED: "[no]", UNDECIDED: "[??]"}
TENSORBOARD = "tensorboard"  # a folder beside the records


def run(experiment: Experiment, preset: str, context: Context, out: Path) -> dict[str, Any]:
    """Run one experiment and keep its record (JSON) and figures (PNG, GIF) in `out`: all of them, or none.

    Raises:
        LabError: when the data that it reads is wrong.
        WriteError: when it cannot be kept; its verdicts are printed then, that they are not lost.
    """
    module = experiment.load()
    counts = _members(module.PRESETS[preset], context)
    start = time.perf_counter()
    with looks(len(counts) or 1):
        settings, result = _answer(module, module.PRESETS[preset], counts, context)
    seconds = time.perf_counter() - start + (context.unfinished.saved if context.unfinished else 0.0)
    record: dict[str, Any] = {
        "format": FORMAT,
        "name": experiment.name,
        "part": experiment.part,
        "question": experiment.question,
        "preset": preset,
        "command": _command(experiment, preset, context, result),
        "settings": asdict(settings),
        **({"members_up_to": context.members_up_to, "looks": len(counts)} if counts else {}),
        "seed": context.seed,
        "data_root": request.data_root(experiment, context),
        "seconds": round(seconds, 2),
        "versions": environment.versions(),
        "hardware": environment.hardware(context.device),
        **result.to_json(),
        "figures": {},
    }
    try:
        try:
            drawn = draw(experiment, record)
        except BaseException:  # a mistake or Ctrl-C: the numbers are kept, `report` draws them later
            keep(record, ({}, {}), out)
            raise
        keep(record, drawn, out)
    except WriteError:
        print(f"not kept:\n{verdicts([record])}\n")
        raise
    if context.unfinished:
        context.unfinished.clear()
    return record


def _members(settings: Any, context: Context) -> list[int]:
    """How many members there are at each look at the claims; none where they are looked at once.

    Raises:
        LabError: for an experiment that cannot take more, or a limit below what it takes anyway.
    """
    first, limit = getattr(settings, request.MEMBERS, None), context.members_up_to
    if limit is None:
        return []
    if first is None:
        raise LabError("it cannot take more members to decide its claims. Run it without --members.")
    if limit < first:
        raise LabError(f"--members {limit}: it has {first} from the first. Give at least as many.")
    return schedule(first, limit)


def _answer(module: Any, settings: Any, counts: Sequence[int], context: Context) -> tuple[Any, Result]:
    """The settings and the result of the last look: with which no claim is open, or with as many members as allowed."""
    result: Result = module.main(settings, context)
    for count in counts[1:]:
        if not any(claim.verdict.open for claim in result.claims):
            break
        settings = replace(settings, **{request.MEMBERS: count})
        result = module.main(settings, context)
    return settings, result


def run_all(
    chosen: Sequence[Experiment],
    preset: str,
    context: Context,
    out: Path,
    *,
    resume: bool = False,
    tensorboard: bool = False,
    again: str = "python -m experiments run all --resume",
) -> int:
    """Run experiments under a progress bar, write the report, print the verdicts.

    Args:
        resume: leave out those whose record answers the same request.
        tensorboard: log every fit under `out`/tensorboard.
        again: the command that goes on where this one was interrupted.

    Returns:
        The exit status: 0; 1 when an experiment broke; 2 when one found its data wrong, or nothing
        more can be kept; 130 when interrupted.
    """
    status, done = 0, {}
    try:
        if resume:
            done = _done(chosen, preset, context, out)
        for experiment in _bar([each for each in chosen if each.name not in done], context):
            logs = Logs(out / TENSORBOARD / experiment.name) if tensorboard else None
            try:
                pieces = _unfinished(experiment, preset, context, out, resume=resume)
                done[experiment.name] = run(experiment, preset, replace(context, logs=logs, unfinished=pieces), out)
            except WriteError:
                raise
            except LabError as error:  # its data; the others read other data
                _say(f"error: {experiment.name}: {error}")
                status = status or 2
            except Exception:  # one that breaks must not cost the others
                traceback.print_exc()
                _say(f"{experiment.name} broke; the others go on.")
                status = 1
    except WriteError as error:
        _say(f"error: {error}")
        status = 2
    except KeyboardInterrupt:
        _say("\ninterrupted.")
        status = 130
    status = _close([done[each.name] for each in chosen if each.name in done], out, status)
    if len(done) < len(chosen) > 1:  # at the end, where it is seen
        _say(f"{len(done)} of {len(chosen)} finished and kept. To go on: {again}")
    return status


def _close(records: Sequence[dict[str, Any]], out: Path, status: int) -> int:
    """Write the report before the verdicts are printed, since the pipe that they go to may be closed."""
    if not records:
        return status
    page = None
    try:
        page = publish.build(out)
    except WriteError as error:
        _say(f"error: {error}")
        status = status or 2
    print(verdicts(records))
    if page is not None:
        print(f"\nreport: {page}")
    return status


def verdicts(records: Sequence[dict[str, Any]]) -> str:
    """The claims of some records and how they came out, as text."""
    lines = []
    for record in records:
        lines.append(f"\n{record['name']}  ({record['preset']}, {record['seconds']:.1f} s)")
        lines += [f"  data: {source}" for source in record["data"]]
        for claim in record["claims"]:
            lines.append(f"  {MARKS[claim['verdict']]} {claim['verdict']:<9}  {claim['text']}")
            lines.append(f"  {'':<14}  {claim['measured']}")
            lines += [f"  {'':<14}  still allowed: {claim['allows']}"] if claim["allows"] else []
    return "\n".join([*lines, f"\n{tally(records)}"])


def _done(chosen: Sequence[Experiment], preset: str, context: Context, out: Path) -> dict[str, dict[str, Any]]:
    """The records that need no new run; a figure that one has lost is drawn again."""
    found = {}
    for experiment in chosen:
        try:
            record = request.answered(experiment, preset, context, out)
            if record is None:
                continue
            pictures = [out / "figures" / each["file"] for each in record["figures"].values()]
            if not pictures or not all(path.exists() for path in pictures):
                keep(record, draw(experiment, record), out)
            found[experiment.name] = record
        except WriteError:
            raise
        except Exception:  # it is run, and what is wrong with it comes out there
            continue
    if found:
        print(f"skipped, done before: {', '.join(found)} ({len(found)} of {len(chosen)})", flush=True)
    return found


def _unfinished(experiment: Experiment, preset: str, context: Context, out: Path, *, resume: bool) -> Unfinished:
    asked = request.asked(experiment, preset, context)
    return Unfinished(out / f".{experiment.name}", asked, resume=resume)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


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
    real = request.data_root(experiment, context) and any("in place of" not in source for source in result.data)
    options = [f"--preset {preset}"] if preset != "quick" else []
    options += [f"--members {context.members_up_to}"] if context.members_up_to else []
    options += [f"--seed {context.seed}"] if context.seed else []
    options += ["--data-root DATA"] if real else []
    options += [f"--device {context.device}"] if context.device.type != "cpu" else []
    return " ".join(["python -m experiments run", experiment.name, *options])
