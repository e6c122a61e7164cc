"""Appends under a condition: nothing under this tag stands after that position."""

from __future__ import annotations

import inspect

from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench
from benchmarks.peers import eventsourcing
from benchmarks.peers.indelible import INDELIBLE
from benchmarks.peers.umadb import UMADB
from indelible import EventStore

_THREADS = 16
_IS_THERE = "condition" in inspect.signature(EventStore.append).parameters


def run(bench: Bench) -> None:
    """Append with 16 threads, each under tags of its own."""
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
