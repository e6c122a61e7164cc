"""Many writers (threads, processes, tasks) with one event per append, each to its own streams."""

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

_ROUNDS = 3
_CONNECTIONS = 16
"""The largest pool size of a competitor: larger ones were slower on two cores."""


def run(bench: Bench) -> None:
    """Measure threads and processes with each number of writers, then tasks."""
    for writers in bench.scale.writers:
        _threads(bench, writers)
    for writers in bench.scale.writers:
        _processes(bench, writers)
    _calls(bench)
    _tasks(bench)


def _threads(bench: Bench, writers: int) -> None:
    threads: dict[str, Any] = {"how": "threads", "writers": writers}
    pool = {"connections": min(writers, _CONNECTIONS)}
    with bench.field() as field:
        compared = bench.compare(
            f"{writers} threads, one event per append",
            "appends/s",
            {
                "indelible": field.contender(INDELIBLE, "append", **threads),
                "eventsourcing": field.contender(
                    eventsourcing.DEFAULT, "append", options=pool, **threads
                ),
                "functions": field.contender(
                    eventsourcing.FUNCTIONS, "append", options=pool, **threads
                ),
                "message_db": field.contender(MESSAGE_DB, "append", options=pool, **threads),
                "umadb": field.contender(UMADB, "append", mode="conditional", **threads),
                "umadb unchecked": field.contender(
                    UMADB, "append", mode="unconditional", anyway=True, **threads
                ),
                "insert": field.add(pgbench.inserts(bench.server, _clients(writers))),
            },
            rounds=_ROUNDS,
            chart="16 threads, one event per append" if writers == 16 else "",
        )
    bench.rows_of(
        compared,
        "indelible",
        budgets=_of_threads(writers),
    )


def _of_threads(writers: int) -> dict[str, budgets.Budget]:
    if writers < 16:
        return {"umadb": budgets.FEW_THREADS_OVER_UMADB}
    return {
        "umadb": budgets.THREADS_OVER_UMADB if writers == 16 else budgets.CONCURRENT_OVER_UMADB,
        "umadb unchecked": budgets.CONCURRENT_OVER_UMADB,
    }


def _processes(bench: Bench, writers: int) -> None:
    processes: dict[str, Any] = {"how": "processes", "writers": writers}
    one = {"connections": 1}
    with bench.field() as field:
        compared = bench.compare(
            f"{writers} processes, one event per append",
            "appends/s",
            {
                "indelible": field.contender(INDELIBLE, "append", **processes),
                "eventsourcing": field.contender(
                    eventsourcing.DEFAULT, "append", options=one, **processes
                ),
                "umadb": field.contender(UMADB, "append", mode="conditional", **processes),
                "psycopg": field.contender(INSERT, "append", **processes),
                "insert": field.add(pgbench.inserts(bench.server, _clients(writers))),
            },
            rounds=_ROUNDS,
        )
    expected: dict[str, budgets.Budget] = {}
    if writers in budgets.PROCESSES_OVER_INSERT:
        expected["psycopg"] = budgets.PROCESSES_OVER_INSERT[writers]
    if writers == 16:
        expected["umadb"] = budgets.PROCESSES_OVER_UMADB
    bench.rows_of(compared, "indelible", budgets=expected)


def _calls(bench: Bench) -> None:
    """Measure the appending function without a Python client, with and without the disk."""
    for is_synced in (True, False):
        with bench.field() as field:
            compared = bench.compare(
                "the appending function through pgbench, 16 clients"
                + ("" if is_synced else ", fsync off"),
                "appends/s",
                {
                    "call": field.add(
                        pgbench.appends(bench.server, clients=16, is_synced=is_synced)
                    ),
                    "insert": field.add(
                        pgbench.inserts(bench.server, clients=16, is_synced=is_synced)
                    ),
                },
                rounds=_ROUNDS,
            )
        bench.rows_of(
            compared,
            "call",
            budgets={
                "insert": budgets.CALL_OVER_INSERT
                if is_synced
                else budgets.CALL_OVER_INSERT_UNSYNCED
            },
            against=("insert",),
        )


def _tasks(bench: Bench) -> None:
    pool = {"connections": _CONNECTIONS}
    with bench.field() as field:
        ours = {
            f"{tasks} tasks": field.contender(
                ASYNC, "append", mode=f"{tasks} tasks", how="tasks", writers=tasks
            )
            for tasks in bench.scale.tasks
        }
        compared = bench.compare(
            "tasks, one event per append",
            "appends/s",
            {
                **ours,
                "eventsourcing": field.contender(
                    eventsourcing.DEFAULT,
                    "append",
                    mode="16 threads",
                    options=pool,
                    how="threads",
                    writers=16,
                ),
                "umadb 16": field.contender(
                    UMADB, "append", mode="conditional, 16 threads", how="threads", writers=16
                ),
                "umadb 100": field.contender(
                    UMADB, "append", mode="conditional, 100 threads", how="threads", writers=100
                ),
                "emmett": field.contender(
                    EMMETT, "append", mode="100 tasks", how="tasks", writers=100
                ),
                "insert": field.add(pgbench.inserts(bench.server, clients=16)),
            },
            chart="Tasks, one event per append",
        )
    for tasks in bench.scale.tasks:
        many = tasks >= 100
        bench.rows_of(
            compared,
            f"{tasks} tasks",
            work=f"{tasks} tasks, one event per append",
            against=("emmett",),
            budgets={
                "eventsourcing": budgets.TASKS_OVER_EVENTSOURCING,
                "umadb 100": budgets.CONCURRENT_OVER_UMADB,
                "insert": budgets.TASKS_OVER_PGBENCH,
            }
            if many
            else {"umadb 16": budgets.CONCURRENT_OVER_UMADB},
        )


def _clients(writers: int) -> int:
    """Run as many clients of pgbench as there are writers; it is fastest with about 16."""
    return min(writers, 16)
