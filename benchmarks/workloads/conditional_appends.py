"""Appends with a condition, and the cost of conditions for plain appends."""

from __future__ import annotations

import inspect

from benchmarks.competitors import eventsourcing, pgbench
from benchmarks.competitors.indelible import INDELIBLE
from benchmarks.competitors.umadb import UMADB
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench
from indelible import EventStore

_THREADS = 16
_IS_THERE = "condition" in inspect.signature(EventStore.append).parameters


def run(bench: Bench) -> None:
    """Append with 16 threads, each with its own tags, if no event has the tag yet."""
    with bench.field() as field:
        compared = bench.compare(
            f"{_THREADS} threads, one event per conditional append",
            "appends/s",
            {
                "indelible": field.contender(INDELIBLE, "append_if_none", writers=_THREADS)
                if _IS_THERE
                else None,
                "eventsourcing": field.contender(
                    eventsourcing.DCB,
                    "append_if_none",
                    options={"connections": _THREADS},
                    writers=_THREADS,
                ),
                "umadb": field.contender(UMADB, "append_if_none", writers=_THREADS),
            },
            rounds=3,
        )
    bench.rows_of(
        compared,
        "indelible",
        budgets={"eventsourcing": budgets.CONDITIONS_OVER_EVENTSOURCING},
    )
    with bench.field() as field:
        compared = bench.compare(
            "a plain append, with and without what conditions need",
            "appends/s",
            {
                "with": field.add(pgbench.appends(bench.server, clients=1)),
                "without": field.add(pgbench.appends_without_conditions(bench.server, clients=1)),
            },
        )
    bench.rows_of(
        compared,
        "with",
        budgets={"without": budgets.PLAIN_OVER_WITHOUT_CONDITIONS},
        against=("without",),
    )
