"""One client, one event per append, with an expected version."""

from __future__ import annotations

from typing import Any

from benchmarks.competitors import eventsourcing, pgbench
from benchmarks.competitors.emmett import EMMETT
from benchmarks.competitors.indelible import ASYNC, INDELIBLE
from benchmarks.competitors.insert import INSERT
from benchmarks.competitors.message_db import MESSAGE_DB
from benchmarks.competitors.umadb import UMADB
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench


def run(bench: Bench) -> None:
    """Append to 500 streams in turn; UmaDB also without a condition, which checks less."""
    one: dict[str, Any] = {"how": "threads", "writers": 1}
    with bench.field() as field:
        compared = bench.compare(
            "one client, one event per append",
            "appends/s",
            {
                "indelible": field.contender(INDELIBLE, "append", **one),
                "async": field.contender(ASYNC, "append", how="tasks", writers=1),
                "eventsourcing": field.contender(eventsourcing.DEFAULT, "append", **one),
                "functions": field.contender(eventsourcing.FUNCTIONS, "append", **one),
                "message_db": field.contender(MESSAGE_DB, "append", **one),
                "emmett": field.contender(EMMETT, "append", **one),
                "umadb": field.contender(UMADB, "append", mode="conditional", **one),
                "umadb unchecked": field.contender(
                    UMADB, "append", mode="unconditional", anyway=True, **one
                ),
                "psycopg": field.contender(INSERT, "append", **one),
                "call": field.add(pgbench.appends(bench.server, clients=1)),
                "insert": field.add(pgbench.inserts(bench.server, clients=1)),
            },
            chart="One client, one event per append",
        )
    bench.rows_of(
        compared,
        "indelible",
        budgets={
            "eventsourcing": budgets.SINGLE_OVER_EVENTSOURCING,
            "message_db": budgets.SINGLE_OVER_MESSAGE_DB,
            "call": budgets.SINGLE_OVER_CALL,
            "psycopg": budgets.SINGLE_OVER_INSERT,
        },
    )
    bench.rows_of(
        compared,
        "call",
        work="the appending function through pgbench, 1 client",
        budgets={"insert": budgets.CALL_OVER_INSERT},
        against=("insert",),
    )
