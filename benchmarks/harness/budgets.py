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
SINGLE_OVER_PGBENCH = at_least(0.6)
"""Over the same call of the database function through pgbench."""
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
BYTES_OVER_EVENTSOURCING = at_most(1)
IMPORT_OVER_COPY = at_least(0.6)
"""Over COPY into a bare table with the same columns and indexes."""
TYPED_SCAN_OVER_COPY = at_least(0.3)
"""Over raw binary COPY OUT."""
LATENCY_P50 = at_most(5, "p50 ms")
LATENCY_P99 = at_most(25, "p99 ms")
"""From append to handler, at 1,000 events/s."""
PROJECTED = Budget(20_000, of="events/s")
"""Events of an async document projection."""
APPEND_GROWTH = at_most(1.2)
"""The cost of an append to 10 million events over that to 10 thousand."""
FILTERED = at_most(100, "ms")
"""A filter for a type without events, and `types()`, once windows are written."""
SCAN_MEMORY = at_most(200, "MiB")
