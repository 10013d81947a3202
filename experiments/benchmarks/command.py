"""How fast funcreg is: the same work in plain PyTorch, eager and compiled, in stock torch.func, in JAX where it is
installed, and in funcreg, eager and compiled; whether funcreg is as fast as it set out to be; how long compiling
takes, and how often it is done; and how time and memory grow with members, samples, batch and width.
"""

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import funcreg as fr

from ..errors import LabError
from ..harness import context, environment
from ..harness.files import try_folder, write_atomically
from ..harness.records import write_record
from ..report import plots
from . import figures, growth, recompilations, tables, toy_runs
from .jax_process import JaxProcess, missing
from .measure import clock_of, compare, timed_first_call, timed_first_calls
from .measured import Measured
from .profiled import naming_kernels, profiled
from .with_chunks import peak_by_chunk_size
from .workloads import WORKLOADS

RUNS = {"toy-run": toy_runs.one_run, "sweep-run": toy_runs.sweep_run}
NAMES = (*WORKLOADS, *RUNS, "growth", "recompilations")
PROCESSES = 3  # rounds of what is timed by the process


def main(argv: Sequence[str]) -> int:
    """Run the benchmarks that a command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(NAMES)}, renewed in a bench.json that is there (default: all); with each name go those "
        "that are it up to a colon",
    )
    parser.add_argument(
        "--rounds", type=int, default=15, help="interleaved rounds, fewer of what takes long (default: %(default)s)"
    )
    parser.add_argument("--slot", type=float, default=0.1, help="seconds a contender and round (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of torch and of JAX (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="of torch; JAX takes part on a CPU only (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="where bench.json goes (default: results/)")
    parser.add_argument(
        "--profile",
        action="store_true",
        help="add to bench.json where the time of funcreg's fastest goes in each workload, and measure nothing else",
    )
    parser.add_argument("--table", action="store_true", help="print bench.json as this folder's README has it")
    arguments = parser.parse_args(argv)
    known = WORKLOADS if arguments.profile else NAMES
    unknown = [name for name in arguments.names if name not in known]
    if unknown or arguments.rounds < 1 or arguments.threads < 1:
        told = f"there is no {', '.join(unknown)}. There are: {', '.join(known)}."
        parser.error(told if unknown else "--rounds and --threads are at least 1")
    if not arguments.profile:
        arguments.names = [name for name in known if {name, name.partition(":")[0]} & set(arguments.names)]
    try:
        if arguments.table:
            print(tables.markdown(tables.read(arguments.out / "bench.json")))
            return 0
        try_folder(arguments.out)
        path = arguments.out / "bench.json"
        record = (
            _with_profiles(arguments, tables.read(path)) if arguments.profile else _beside(_measure(arguments), path)
        )
        write_record(path, record)
        with plots.style():
            for name, figure in figures.draw(record).items():
                write_atomically(arguments.out / f"{name}.png", plots.png(figure))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(tables.text(record))
    print(path)
    return 0


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The record of everything that the command line asks for."""
    device = context.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    names = sorted(arguments.names or NAMES, key=NAMES.index)
    absent = "the device is not the CPU" if device.type != "cpu" else ", ".join(missing())
    # The first program of a process also starts the compiler; that is not any workload's time.
    start_up = timed_first_call(functools.partial(fr.jit(torch.sin), torch.ones(2, device=device)))
    measured: list[Measured] = []
    grown: list[dict[str, Any]] = []
    programs: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        jax = None if absent else stack.enter_context(JaxProcess(arguments.threads))
        for name in tqdm(names, desc="bench", unit="workload", disable=None):
            if name in WORKLOADS:
                measured.append(_workload(name, device, jax, arguments))
            elif name == "recompilations":
                programs = recompilations.counted()
            elif device.type != "cpu":
                continue  # runs of processes and growth are about a CPU's
            elif name in RUNS:
                measured.append(RUNS[name](rounds=PROCESSES, threads=arguments.threads, with_jax=jax is not None))
            else:
                grown = _growth(arguments.threads, with_jax=jax is not None)
    chunked = "monte-carlo-1000" in names and device.type == "cpu" and sys.platform == "linux"
    return {
        "workloads": [each.record() for each in measured],
        "growth": grown,
        "programs": programs,
        "monte_carlo_peak_mib_by_chunk_size": peak_by_chunk_size() if chunked else {},
        "profiles": {},
        "compiler_start_seconds": start_up,
        "without_jax": absent,
        "settings": {
            "rounds": arguments.rounds,
            "slot_seconds": arguments.slot,
            "memory": "as the C library has it, where a name does not say that it is kept",
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
        },
        "versions": environment.versions(),
        "hardware": environment.hardware(device),
    }


def _beside(record: dict[str, Any], path: Path) -> dict[str, Any]:
    """With what a record that was made alike has and this one has not: names on the command line renew theirs."""
    try:
        earlier = tables.read(path)
    except LabError:
        return record
    alike = ("versions", "hardware", "settings", "without_jax")
    if any(earlier.get(key) != record[key] for key in alike):
        return record
    both = {each["name"]: each for each in (*earlier["workloads"], *record["workloads"])}
    order = sorted(both, key=lambda name: NAMES.index(name) if name in NAMES else -1)
    others = ("growth", "programs", "monte_carlo_peak_mib_by_chunk_size", "profiles")
    kept = {key: record[key] or earlier.get(key, {}) for key in others}
    return {**record, "workloads": [both[name] for name in order], **kept}


def _with_profiles(arguments: argparse.Namespace, record: dict[str, Any]) -> dict[str, Any]:
    """The record with where the time of workloads goes, each with the contender that was funcreg's fastest."""
    device = context.device(arguments.device)
    if device.type != "cpu":
        raise LabError(f"--profile looks at a CPU's work, and --device is {arguments.device}. Leave one of them out.")
    if record["hardware"] != environment.hardware(device) or record["versions"] != environment.versions():
        raise LabError("bench.json was measured elsewhere, or with other versions. Measure first, without --profile.")
    measured = {workload["name"]: workload for workload in record["workloads"] if workload["name"] in WORKLOADS}
    names = arguments.names or list(measured)
    if absent := [name for name in names if name not in measured]:
        raise LabError(f"bench.json has no {', '.join(absent)} yet. Measure first, without --profile.")
    torch.set_num_threads(arguments.threads)
    found: dict[str, Any] = {}
    for name in tqdm(names, desc="profile", unit="workload", disable=None):
        contender = tables.fastest(measured[name])
        with naming_kernels():
            found[name] = {"contender": contender, "shares": profiled(WORKLOADS[name](device).contenders[contender])}
        torch.compiler.reset()
    return {**record, "profiles": {**record["profiles"], **found}}


def _workload(name: str, device: torch.device, jax: JaxProcess | None, arguments: argparse.Namespace) -> Measured:
    workload = WORKLOADS[name](device)
    compile_seconds = timed_first_calls(workload.contenders)
    clocks = {contender: clock_of(run, device) for contender, run in workload.contenders.items()}
    if jax is not None:
        built = jax.build(name)
        compile_seconds |= built
        clocks |= {contender: functools.partial(jax.seconds, contender) for contender in built}
    seconds = compare(clocks, rounds=arguments.rounds, slot=arguments.slot)
    torch.compiler.reset()  # the next workload has the memory, and its own programs only
    return Measured(workload.name, workload.question, seconds, workload.targets, compile_seconds)


def _growth(threads: int, *, with_jax: bool) -> list[dict[str, Any]]:
    return [
        {
            "axis": axis,
            "question": growth.QUESTIONS[axis],
            "contender": contender,
            "points": growth.measure(axis, contender, threads),
        }
        for axis, contenders in growth.CONTENDERS.items()
        for contender in contenders
        if with_jax or not contender.startswith("JAX")
    ]
