"""The command line: list, run, report, reference, bench."""

import argparse
import importlib
import os
import shlex
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from .errors import LabError
from .harness import registry

PRESETS = ("smoke", "quick", "long", "full")
_RUN = """\
Each experiment that finishes is kept at once, as DIR/NAME.json and DIR/figures/NAME-*.png, and the page
DIR/report.html shows all records of the folder. Ctrl-C keeps what is finished; --resume goes on from there.

presets:
  smoke  seconds each: shows that the code runs; its verdicts mean little
  quick  up to two minutes each on two CPU cores
  long   an hour or more, of the experiments that a CPU can answer at no less; a killed one goes on with --resume
  full   the sizes of the literature; most want a GPU

exit status: 0 done, whatever the verdicts; 1 an experiment broke; 2 the request, the data or the folder is
wrong; 130 interrupted."""
_REPORT = """\
Draws every figure again from the JSON of earlier runs, and writes DIR/report.html: one page that needs no
other file, no script and no network."""


def main(argv: Sequence[str]) -> int:
    """Run a command line; returns the exit status.

    0: done. 1: an experiment broke. 2: the request, the data or the folder is wrong. 130: interrupted.
    """
    if argv and argv[0] == "bench":  # has options of its own
        return int(importlib.import_module(f"{__package__}.benchmarks").main(list(argv[1:])) or 0)
    arguments = _parser().parse_args(argv)
    try:
        return {"list": _list, "run": _run, "report": _report, "reference": _reference}[arguments.command](
            arguments, argv
        )
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments",
        description="funcreg's lab: what each regularizer does, one question an experiment, answered with numbers.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="the experiments by part: their questions and run times")

    raw = argparse.RawDescriptionHelpFormatter
    run = commands.add_parser("run", help="run some experiments, or all", formatter_class=raw, epilog=_RUN)
    run.add_argument("names", nargs="+", metavar="NAME", help="an experiment's name, or: all")
    run.add_argument("--preset", choices=PRESETS, default="quick", help="how much work (default: %(default)s)")
    run.add_argument(
        "--data-root", metavar="DIR", help="folder of real data (default: $FUNCREG_DATA, else embedded data)"
    )
    run.add_argument("--download", action="store_true", help="download what the data root lacks")
    run.add_argument(
        "--members",
        type=_count,
        metavar="N",
        help="take more members, four times as many each time and at most N, until each claim is decided or its "
        "smallest effect of interest excluded; the intervals, wider for it, hold at all looks together",
    )
    run.add_argument(
        "--at-once",
        action="store_true",
        help="with --members: take all N at once, whatever fewer would say, for claims that an earlier run left "
        "undecided, their smallest effect of interest excluded or not; the intervals hold at that look too",
    )
    run.add_argument("--seed", type=_seed, default=0, help="of every key (default: %(default)s)")
    run.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    run.add_argument(
        "--resume",
        action="store_true",
        help="leave out what is in DIR already, from the same settings, seed, device, data and versions of funcreg "
        "and torch (after editing code, run without it)",
    )
    run.add_argument(
        "--tensorboard", action="store_true", help="log each fit's metrics under DIR/tensorboard/NAME, for TensorBoard"
    )
    run.add_argument(
        "--processes",
        type=_count,
        metavar="N",
        help="run so many experiments at once, each with its share of the threads (default: one a thread, at most 4, "
        "for the presets smoke and quick on a CPU; else 1, which shows the bars of each)",
    )
    run.add_argument("--quiet", action="store_true", help="no progress bars")
    _add_out(run)

    report = commands.add_parser(
        "report", help="one HTML page of earlier runs, or their table", formatter_class=raw, description=_REPORT
    )
    report.add_argument(
        "--table",
        action="store_true",
        help="print a Markdown table of the records instead (results/README's), write nothing",
    )
    _add_out(report)
    reference = commands.add_parser("reference", help="the library's API reference, from its docstrings")
    reference.add_argument(
        "--out", type=Path, default=Path("results/reference"), metavar="DIR", help="its folder (default: %(default)s)"
    )
    commands.add_parser("bench", help="measure funcreg's speed against plain PyTorch", add_help=False)
    return parser


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="results (default: results/)")


def _seed(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer in [0, 2**63)")
    return value


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return value


def _list(_: argparse.Namespace, __: Sequence[str]) -> int:
    for part, found in registry.by_part(registry.experiments().values()).items():
        print(f"{part}. {registry.PARTS[part]}\n")
        for experiment in found:
            print(f"  {experiment.name}")
            print(textwrap.indent(textwrap.fill(experiment.question, 92), "      "))
            print(f"      {experiment.runtime}\n")
    print("python -m experiments run NAME... | all")
    return 0


def _run(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    chosen = registry.choose(arguments.names)
    registry.check_preset(chosen, arguments.preset)
    from . import data  # torch only once the request makes sense
    from .harness import context, files, records, runner, schedule, tensorboard

    circumstances = context.Context(
        seed=arguments.seed,
        device=context.device(arguments.device),
        data=data.data_root(arguments.data_root, download=arguments.download),
        bars=not arguments.quiet,
        members_up_to=arguments.members,
        at_once=arguments.at_once,
    )
    if arguments.tensorboard:
        tensorboard.summary_writer()
    runner.check_members(chosen, arguments.preset, circumstances)
    # Tried now rather than after an hour's work.
    files.try_folder(arguments.out)
    files.try_folder(arguments.out / "figures")
    for experiment in chosen:
        records.check_place(arguments.out / f"{experiment.name}.json")
    again = [*argv, *(["--resume"] if not arguments.resume else [])]
    return runner.run_all(
        chosen,
        arguments.preset,
        circumstances,
        arguments.out,
        resume=arguments.resume,
        tensorboard=arguments.tensorboard,
        processes=arguments.processes or schedule.processes(chosen, arguments.preset, circumstances),
        again=shlex.join(["python", "-m", "experiments", *again]),
    )


def _report(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    from .harness import publish

    print(publish.table(arguments.out) if arguments.table else f"report: {publish.rebuild(arguments.out)}")
    return 0


def _reference(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    from .report import reference

    print(f"reference: {reference.build(arguments.out)}")
    return 0
