"""The time of a filter for a type without events, and of `types()`, in a long log."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from benchmarks.competitors.indelible import INDELIBLE, fill
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench
from benchmarks.harness.table import Row, amount
from indelible import EventStore, Query

_LENGTH = 10
_CALLS = 5


def run(bench: Bench) -> None:
    """Fill a store, write its windows, and repeat each call."""
    events = bench.scale.filtered
    with bench.field() as field:
        place = field.place(INDELIBLE)
        begun = time.monotonic()
        fill(place["url"], events, _LENGTH)
        bench.say(f"{events:,} events filled in {time.monotonic() - begun:.0f} s")
        bench.server.settle()
        with EventStore.connect(place["url"]) as store:

            def absent() -> None:
                for event in store.read_all(Query(types="Absent")):
                    raise AssertionError(event)

            first = _milliseconds(absent)
            _row(bench, f"a filter for a type without events among {events:,}", absent, first)
            _row(bench, f"types() of {events:,} events", lambda: store.types())


def _row(bench: Bench, work: str, call: Callable[[], object], first: float | None = None) -> None:
    figure = statistics.median(_milliseconds(call) for _ in range(_CALLS))
    bench.rows.append(
        Row(
            work=f"{work} (ms)",
            indelible=amount(figure),
            limit="" if first is None else f"the first, which writes the windows: {amount(first)}",
            budget=budgets.FILTERED,
            figure=figure,
        )
    )


def _milliseconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1000
