"""How fast funcreg is: `python -m experiments bench`.

Every workload does the same work in plain, stateful, eager PyTorch and in funcreg, and the
table says how many times as fast funcreg is, whether that is what it set out to be, and how
long the compiled form took to compile.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from tqdm import tqdm

import funcreg as fr

from .. import environment, plots
from ..files import write_atomically
from ..results import write_record
from .measure import Timing, Workload, compare, timed_first_call
from .workloads import WORKLOADS, monte_carlo_memory


def main(argv: Sequence[str]) -> int:
    """Run the benchmarks that a command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORKLOADS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=25, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--slot", type=float, default=0.2, help="seconds a contender and round (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="where bench.json goes (default: results/)")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in WORKLOADS]
    if unknown or arguments.rounds < 1 or arguments.threads < 1:
        parser.error(f"unknown {', '.join(unknown)}" if unknown else "--rounds and --threads are at least 1")
    torch.set_num_threads(arguments.threads)
    names = arguments.names or list(WORKLOADS)
    rows: list[dict[str, Any]] = []
    # The first program of a process also starts the compiler; that is not any workload's time.
    start_up = timed_first_call(functools.partial(fr.jit(torch.sin), torch.ones(2)))
    for name in tqdm(names, desc="bench", unit="workload", disable=None):
        workload = WORKLOADS[name]()
        timings = compare(workload, rounds=arguments.rounds, slot_seconds=arguments.slot)
        rows += _rows(workload, timings)
    memory = monte_carlo_memory() if "monte-carlo" in names and sys.platform == "linux" else {}
    record = {
        "rows": rows,
        "monte_carlo_peak_mib_by_chunk_size": memory,
        "compiler_start_seconds": start_up,
        "settings": {"rounds": arguments.rounds, "slot_seconds": arguments.slot},
        "versions": environment.versions(),
        "hardware": environment.hardware(torch.device("cpu")),
    }
    write_record(arguments.out / "bench.json", record)
    with plots.style():
        write_atomically(arguments.out / "bench.png", plots.png(_figure(rows)))
    print(_table(rows))
    print(f"\nthe first program of a process also starts the compiler, {start_up:.1f} s; nothing was cached on disk")
    if memory:
        told = ", ".join(f"{chunk}: {mib:.0f} MiB" for chunk, mib in memory.items())
        print(f"MC dropout, batch 1000, 100 samples: peak memory by chunk_size: {told}")
    print(arguments.out / "bench.json")
    return 0


def _rows(workload: Workload, timings: dict[str, Timing]) -> list[dict[str, Any]]:
    """One record a contender, with the raw time of every round."""
    return [
        {
            "workload": workload.name,
            "question": workload.question,
            "contender": name,
            "baseline": workload.baseline,
            "milliseconds": timing.median * 1e3,
            "speedup": timing.speedup,
            "quartiles": timing.spread,
            "target": workload.targets.get(name),
            "compile_seconds": workload.compile_seconds.get(name),
            "seconds_by_round": timing.seconds,
        }
        for name, timing in timings.items()
    ]


def _table(rows: list[dict[str, Any]]) -> str:
    heads = ("workload", "contender", "ms", "times as fast", "target", "", "compile s")
    lines = ["{:<12} {:<12} {:>9} {:>18} {:>7} {:<7} {:>9}".format(*heads)]
    for row in rows:
        low, high = row["quartiles"]
        speed = f"{row['speedup']:.2f} ({low:.2f}-{high:.2f})"
        target = "" if row["target"] is None else f"{row['target']:.2f}"
        met = "" if row["target"] is None else "met" if row["speedup"] >= row["target"] else "MISSED"
        compiled = "" if row["compile_seconds"] is None else f"{row['compile_seconds']:.1f}"
        lines.append(
            f"{row['workload']:<12} {row['contender']:<12} {row['milliseconds']:>9.3f} {speed:>18} {target:>7} "
            f"{met:<7} {compiled:>9}"
        )
    return "\n".join(lines)


_TICKS = (0.5, 1, 2, 5, 10, 20, 50)


def _figure(rows: list[dict[str, Any]]) -> Figure:
    """Speed-up of every contender over plain PyTorch, with its quartiles and target."""
    shown = [row for row in rows if row["contender"] != row["baseline"]]
    figure, grid = plots.canvas(caption="", width=8.0, height=0.32 * len(shown) + 1.2)
    axes = grid[0, 0]
    for position, row in enumerate(reversed(shown)):
        low, high = row["quartiles"]
        # From 1, as fast as plain PyTorch: on a log scale only a bar from there has a length that means something.
        axes.barh(position, row["speedup"] - 1, left=1.0, color=plots.BLUE, height=0.6)
        axes.plot([low, high], [position, position], color="black", linewidth=2)
        if row["target"] is not None:
            axes.plot([row["target"]] * 2, [position - 0.4, position + 0.4], color=plots.VERMILLION, linewidth=2.5)
    axes.set_yticks(range(len(shown)), [f"{row['workload']}, {row['contender']}" for row in reversed(shown)])
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS], minor=False)
    axes.minorticks_off()
    axes.set_ylim(-0.8, len(shown) - 0.2)
    axes.set_xlabel("times as fast as plain PyTorch, eager (log scale; black: quartiles, colour: target)")
    return figure
