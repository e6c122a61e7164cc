"""The budgets, as ratios within one run: absolute figures differ between machines."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """A bound for the ratio to the other side, or for a figure of Indelible.

    Attributes:
        at_least: whether the bound is a lower one; otherwise it is an upper one.
        of: the figure with the bound, if it is not the ratio: "p50 ms".
    """

    bound: float
    at_least: bool = True
    of: str = ""

    def holds(self, figure: float) -> bool:
        """Return whether a figure keeps the bound, without rounding."""
        return figure >= self.bound if self.at_least else figure <= self.bound

    def __str__(self) -> str:
        bound = f"{'≥' if self.at_least else '≤'} {self.bound:g}"
        return f"{self.of} {bound}" if self.of else bound


def at_least(bound: float) -> Budget:
    """Bound the ratio from below."""
    return Budget(bound)


def at_most(bound: float, of: str = "") -> Budget:
    """Bound the ratio, or a figure of Indelible, from above."""
    return Budget(bound, at_least=False, of=of)


SINGLE_OVER_EVENTSOURCING = at_least(3)
SINGLE_OVER_CALL = at_least(0.6)
"""Over the same call of the database function through pgbench."""
SINGLE_OVER_INSERT = at_least(0.75)
"""Over a bare INSERT per commit through psycopg."""
SINGLE_OVER_MESSAGE_DB = at_least(1.2)
CALL_OVER_INSERT = at_least(0.7)
"""The appending function over a bare INSERT, both through pgbench, with 1 and 16 clients."""
CALL_OVER_INSERT_UNSYNCED = at_least(0.6)
"""The same with 16 clients, if the server does not wait for the disk (fsync off)."""
FEW_THREADS_OVER_UMADB = at_least(1)
THREADS_OVER_UMADB = at_least(1.2)
"""4 threads; 16 threads."""
PROCESSES_OVER_INSERT = {4: at_least(0.65), 16: at_least(0.55)}
"""Processes over as many that run a bare INSERT through psycopg."""
PROCESSES_OVER_UMADB = at_least(1)
"""16 processes."""
TASKS_OVER_EVENTSOURCING = at_least(20)
"""100 and more tasks, each to a stream of its own, over `eventsourcing` with 16 threads."""
TASKS_OVER_PGBENCH = at_least(1.3)
"""The same over pgbench's plain INSERT per commit with 16 clients."""
CONCURRENT_OVER_UMADB = at_least(1)
BATCH_OVER_EVENTSOURCING = at_least(2)
"""100 events per append."""
CONDITIONS_OVER_EVENTSOURCING = at_least(3)
"""Conditional appends, 16 threads, over its DCB recorder."""
PLAIN_OVER_WITHOUT_CONDITIONS = at_least(0.95)
"""Over the same function without its statements for tags and conditions."""
CONFLICTS_OVER_PEERS = at_least(1.2)
"""Hot streams, over UmaDB and Message DB."""
BYTES_OVER_EVENTSOURCING = at_most(1)
BYTES_OVER_MESSAGE_DB = at_most(0.8)
"""Message DB stores the same: ids and JSONB."""
IMPORT_OVER_COPY = at_least(0.65)
"""Over COPY into a bare table with the same columns and indexes."""
TYPED_SCAN_OVER_COPY = at_least(0.5)
"""Over raw binary COPY OUT."""
TYPED_SCAN_OVER_MESSAGE_DB = at_least(1)
YOUNG_OVER_ANALYZED = at_least(0.9)
"""The scan of a store without statistics for the planner."""
FILTERED_SCAN_OVER_EVENTSOURCING = at_least(1.5)
LOADS_OVER_PEERS = at_least(1.2)
"""Loads of streams of any length, over every store on PostgreSQL."""
LATENCY_P50 = at_most(1, "p50 ms")
LATENCY_P99 = at_most(5, "p99 ms")
"""From append to handler, at 1,000 events/s and at one."""
GROUP_OF_ONE = Budget(80_000, of="events/s")
GROUP_OF_TWO_OVER_ONE = at_least(1.3)
"""Consumer groups with an empty handler."""
PROJECTED = Budget(20_000, of="events/s")
"""Events of an async document projection."""
APPEND_GROWTH = at_most(1.2)
"""The cost of an append to 10 million events over that to 10 thousand."""
FILTERED = at_most(100, "ms")
"""A filter for a type without events, and `types()`, once windows are written."""
SCAN_MEMORY = at_most(200, "MiB")
HTTP_APPENDS_OVER_LIBRARY = at_least(0.5)
"""64 connections over HTTP, over 64 threads of one process that use the library."""
HTTP_LINES = Budget(300_000, of="events/s")
"""The log as lines of JSON, or the limit of the wire."""
HTTP_LATENCY_P50 = at_most(3, "p50 ms")
"""From append to server-sent event, at 1,000 events/s."""
HTTP_MEMORY = at_most(200, "MiB")
"""Of the server, with 500 subscribers."""
PAGE_P95 = at_most(200, "p95 ms")
"""Of each screen of the page, among ten million events."""
