"""Run the benchmarks: Indelible, its peers and the limits, side by side on one durable server.

python -m benchmarks [--quick] [--only WORD …] [--rounds N] [--seconds S] [--url postgresql://…]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from benchmarks import appends, bulk, mixed, reactions, reads, report, size
from benchmarks.harness import Comparison, Work, compare
from benchmarks.machine import Bench, durable_server, facts


def works(*, is_quick: bool) -> list[Work]:
    return [
        *appends.WORKS,
        *mixed.WORKS,
        *reads.works(is_quick=is_quick),
        *reactions.works(is_quick=is_quick),
        *bulk.works(is_quick=is_quick),
    ]


FIGURES = {"bytes": size.bytes_per_event, "growth and memory": size.growth}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="everything once and in small")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only works whose name has it")
    parser.add_argument("--rounds", type=int, help="turns of each contender")
    parser.add_argument("--seconds", type=float, help="length of a turn")
    parser.add_argument("--url", help="a database to use, instead of a server of its own")
    given = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 150)
    with ExitStack() as stack:
        if given.url:
            url = given.url
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="indelible-")))
        else:
            url, folder = stack.enter_context(durable_server())
        bench = Bench(
            url=url,
            folder=folder,
            rounds=given.rounds or (1 if given.quick else 5),
            seconds=given.seconds or (0.3 if given.quick else 2.0),
            is_quick=given.quick,
        )
        known = facts(url)
        console.print("; ".join(f"{name} {value}" for name, value in known.items()), "")

        def is_wanted(name: str) -> bool:
            return not given.only or any(word in name for word in given.only)

        comparisons: list[Comparison] = []
        for work in works(is_quick=given.quick):
            if is_wanted(work.name):
                comparisons.append(compare(work, bench))
                report.show_comparison(comparisons[-1], console)
        figures = [
            figure
            for name, measure in FIGURES.items()
            if is_wanted(name)
            for figure in measure(bench)
        ]
        rows = report.verdicts(comparisons, figures)
        report.show_verdicts(rows, console)
        if not given.only:
            for path in report.write(known, comparisons, figures, rows):
                console.print(f"wrote {path.relative_to(Path(__file__).parents[1])}")


if __name__ == "__main__":
    main()
