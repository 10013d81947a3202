"""The command line: list, run, report, bench."""

import argparse
import importlib
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from . import registry
from .errors import LabError

PRESETS = ("smoke", "quick", "full")


def main(argv: Sequence[str]) -> int:
    """Run a command line; returns the exit status.

    0: done. 1: an experiment broke. 2: the request or the data is wrong. 130: interrupted.
    """
    if argv and argv[0] == "bench":  # has options of its own
        return int(importlib.import_module(f"{__package__}.benchmarks").main(list(argv[1:])) or 0)
    arguments = _parser().parse_args(argv)
    try:
        return {"list": _list, "run": _run, "report": _report}[arguments.command](arguments)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments", description="funcreg's lab: questions, measured.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="the experiments, their questions and run times")

    run = commands.add_parser("run", help="run some experiments, or all")
    run.add_argument("names", nargs="+", metavar="NAME", help="an experiment's name, or: all")
    run.add_argument("--preset", choices=PRESETS, default="quick", help="how much work (default: %(default)s)")
    run.add_argument(
        "--data-root", metavar="DIR", help="folder of real data (default: $FUNCREG_DATA, else embedded data)"
    )
    run.add_argument("--download", action="store_true", help="download what the data root lacks")
    run.add_argument("--seed", type=_seed, default=0, help="of every key (default: %(default)s)")
    run.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    run.add_argument("--quiet", action="store_true", help="no progress bars")
    _add_out(run)

    report = commands.add_parser("report", help="draw the figures and the report again, from the JSON of earlier runs")
    _add_out(report)
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


def _list(_: argparse.Namespace) -> int:
    for experiment in registry.experiments().values():
        print(experiment.name)
        print(textwrap.indent(textwrap.fill(experiment.question, 92), "    "))
        print(f"    {experiment.runtime}\n")
    print("python -m experiments run NAME... | all")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    chosen = registry.choose(arguments.names)
    from . import context, data, results, runner  # torch is imported only once the request makes sense

    circumstances = context.Context(
        seed=arguments.seed,
        device=context.device(arguments.device),
        data=data.data_root(arguments.data_root, download=arguments.download),
        bars=not arguments.quiet,
    )
    # Tried now rather than after an hour's work.
    results.write_atomically(arguments.out / ".writable", b"")
    (arguments.out / ".writable").unlink(missing_ok=True)
    return runner.run_all(chosen, arguments.preset, circumstances, arguments.out)


def _report(arguments: argparse.Namespace) -> int:
    from . import report

    print(f"report: {report.rebuild(arguments.out)}")
    return 0
