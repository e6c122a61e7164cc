"""The command `python -m benchmarks`. See docs/explanation/performance-budgets.md."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks import correctness
from benchmarks.harness import report, server
from benchmarks.harness.bench import Bench
from benchmarks.harness.scale import FULL, QUICK
from benchmarks.workloads import WORK

RESULTS = Path(__file__).resolve().parent / "results"
PARTIAL = RESULTS / "partial"
"""The folder for results of quick and partial runs, apart from those of the last full run."""


def main() -> int:
    """Run the selected benchmarks; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="run everything once, with little data"
    )
    parser.add_argument(
        "--correctness", action="store_true", help="count lost events instead of measuring speed"
    )
    parser.add_argument("--only", default="", help=f"some of {','.join(WORK)}, comma-separated")
    parser.add_argument("--out", type=Path, help="folder for results (default: benchmarks/results)")
    parser.add_argument("--alone", action="store_true", help="without the other stores")
    parser.add_argument("--rounds", type=int, help="turns of each contender")
    arguments = parser.parse_args()
    chosen = [name for name in arguments.only.split(",") if name] or list(WORK)
    if unknown := [name for name in chosen if name not in WORK]:
        parser.error(f"there is no work {', '.join(unknown)}: choose of {', '.join(WORK)}")

    console = Console(width=None if sys.stdout.isatty() else 150)
    scale = QUICK if arguments.quick else FULL
    if arguments.rounds:
        scale = replace(scale, rounds=arguments.rounds)
    begun = time.monotonic()
    with server.start() as started:
        report.introduce(console, started, scale)
        bench = Bench(started, scale, console, is_alone=arguments.alone)
        if arguments.correctness:
            return correctness.run(bench, arguments.out or (RESULTS if scale == FULL else PARTIAL))
        failed = [name for name in chosen if not _is_done(name, bench, console)]
        if arguments.quick and chosen == list(WORK):
            console.rule("correctness")
            failed += ["correctness"] * correctness.run(bench, arguments.out or PARTIAL)
    is_whole = chosen == list(WORK) and scale == FULL and not arguments.alone and not failed
    folder = arguments.out or (RESULTS if is_whole else PARTIAL)
    seconds = time.monotonic() - begun
    report.conclude(console, bench, folder, seconds, for_docs=folder.resolve() == RESULTS)
    return 1 if failed else 0


def _is_done(name: str, bench: Bench, console: Console) -> bool:
    """Run one workload; if it fails, the others still run."""
    console.rule(name)
    begun = time.monotonic()
    try:
        WORK[name](bench)
    except Exception as error:
        console.print_exception()
        bench.note_absent(name, f"{type(error).__name__}: {error}")
        return False
    bench.say(f"{name}: {time.monotonic() - begun:.0f} s")
    return True


if __name__ == "__main__":
    sys.exit(main())
