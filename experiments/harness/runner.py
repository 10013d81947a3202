"""Runs experiments, one by one or side by side; what is finished stays, whatever happens to the others."""

import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import LabError, WriteError
from ..report import looks
from ..report.decisions import CONFIRMED, REFUTED, UNDECIDED
from ..report.result import Result
from ..report.verdicts import tally
from . import environment, publish, request, schedule
from .context import Context
from .processes import Ended
from .publish import draw, keep
from .records import FORMAT
from .registry import Experiment
from .tensorboard import Logs
from .unfinished import Unfinished

MARKS = {CONFIRMED: "[ok]", REFUTED: "[no]", UNDECIDED: "[??]"}
TENSORBOARD = "tensorboard"  # a folder beside the records


class Outcome(NamedTuple):
    """How an experiment ended: its record, or what to say of it and the exit status; `hopeless`: the others' too."""

    record: dict[str, Any] | None
    status: int = 0
    said: str = ""
    hopeless: bool = False


def run(experiment: Experiment, preset: str, context: Context, out: Path) -> dict[str, Any]:
    """Run one experiment and keep its record (JSON) and figures (PNG, GIF) in `out`: all of them, or none.

    Raises:
        LabError: when the data that it reads is wrong.
        WriteError: when it cannot be kept; its verdicts are printed then, that they are not lost.
    """
    module = experiment.load()
    counts = _members(module.PRESETS[preset], context)
    start = time.perf_counter()
    with looks.looks(len(counts) or 1):
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
        **({"at_once": True} if context.at_once else {}),
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


def check_members(chosen: Sequence[Experiment], preset: str, context: Context) -> None:
    """Refuse, before any of them runs, a number of members that not all can take.

    Raises:
        LabError: for those that cannot take more, and for a limit below what one takes anyway.
    """
    limit = context.members_up_to
    if limit is None:
        if context.at_once:
            raise LabError("--at-once says how --members N are taken. Give both.")
        return
    first = {each.name: getattr(each.load().PRESETS[preset], request.MEMBERS, None) for each in chosen}
    fixed = [name for name, count in first.items() if count is None]
    if fixed:
        raise LabError(f"{', '.join(fixed)}: cannot take more members to decide claims. Run without --members.")
    more = [f"{name} has {count}" for name, count in first.items() if count is not None and count > limit]
    if more:
        raise LabError(f"--members {limit}: {', '.join(more)} from the first. Give at least as many.")


def _members(settings: Any, context: Context) -> list[int]:
    """How many members there are at each look at the claims; none where they are looked at once."""
    first, limit = getattr(settings, request.MEMBERS, None), context.members_up_to
    return [] if first is None or limit is None else looks.schedule(first, limit)


def _answer(module: Any, settings: Any, counts: Sequence[int], context: Context) -> tuple[Any, Result]:
    """The settings and the result of the last look: with which no claim is open, or with as many members as allowed."""
    *earlier, last = [replace(settings, **{request.MEMBERS: count}) for count in counts] or [settings]
    for fewer in [] if context.at_once else earlier:
        result: Result = module.main(fewer, context)
        if not any(claim.verdict.open for claim in result.claims):
            return fewer, result
    return last, module.main(last, context)


def run_all(
    chosen: Sequence[Experiment],
    preset: str,
    context: Context,
    out: Path,
    *,
    resume: bool = False,
    tensorboard: bool = False,
    processes: int = 1,
    again: str = "python -m experiments run all --resume",
) -> int:
    """Run experiments under a progress bar, write the report, print the verdicts.

    Args:
        resume: leave out those whose record answers the same request.
        tensorboard: log every fit under `out`/tensorboard.
        processes: how many run at once, the longest first. The bars of each are shown where it is one.
        again: the command that goes on where this one was interrupted.

    Returns:
        The exit status: 0; 1 when an experiment broke; 2 when one found its data wrong, or nothing
        more can be kept; 130 when interrupted.
    """
    status, done = 0, {}
    own = replace(context, bars=context.bars and processes == 1)
    attempt = partial(_attempt, preset=preset, context=own, out=out, resume=resume, tensorboard=tensorboard)
    try:
        if resume:
            done = _done(chosen, preset, context, out)
        left = [each for each in chosen if each.name not in done]
        with closing(schedule.each(attempt, left, preset, processes=processes, bar=context.bars)) as outcomes:
            for experiment, outcome in outcomes:
                if isinstance(outcome, Ended):
                    outcome = Outcome(
                        None, 1, f"{experiment.name}: its process was killed, perhaps for want of memory."
                    )
                if outcome.record is not None:
                    done[experiment.name] = outcome.record
                    continue
                _say(outcome.said)
                status = 1 if outcome.status == 1 else status or outcome.status
                if outcome.hopeless:
                    break
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


def _attempt(
    experiment: Experiment, *, preset: str, context: Context, out: Path, resume: bool, tensorboard: bool
) -> Outcome:
    """Run one; that it breaks must not cost the others."""
    try:
        logs = Logs(out / TENSORBOARD / experiment.name) if tensorboard else None
        with closing(_unfinished(experiment, preset, context, out, resume=resume)) as pieces:
            return Outcome(run(experiment, preset, replace(context, logs=logs, unfinished=pieces), out))
    except WriteError as error:
        return Outcome(None, 2, f"error: {error}", hopeless=True)
    except LabError as error:  # its data; the others read other data
        return Outcome(None, 2, f"error: {experiment.name}: {error}")
    except Exception:
        return Outcome(None, 1, f"{traceback.format_exc()}{experiment.name} broke; the others go on.")


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
    """Beside the bars, not into one."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)


def _command(experiment: Experiment, preset: str, context: Context, result: Result) -> str:
    """What reproduces a run, without this machine's paths."""
    real = request.data_root(experiment, context) and any("in place of" not in source for source in result.data)
    options = [f"--preset {preset}"] if preset != "quick" else []
    options += [f"--members {context.members_up_to}"] if context.members_up_to else []
    options += ["--at-once"] if context.at_once else []
    options += [f"--seed {context.seed}"] if context.seed else []
    options += ["--data-root DATA"] if real else []
    options += [f"--device {context.device}"] if context.device.type != "cpu" else []
    return " ".join(["python -m experiments run", experiment.name, *options])
