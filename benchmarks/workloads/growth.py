"""The cost of an append and a load in a growing log, and the memory of a full scan."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from benchmarks.competitors.indelible import INDELIBLE, fill, some_streams
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench, Comparison, Field
from benchmarks.harness.driver import DriverFailed
from benchmarks.harness.table import Row, amount

_LENGTH = 10
_STREAMS = 20_000
"""The number of random streams to append to and load."""


def run(bench: Bench) -> None:
    """Fill a store of each size, and measure them in turns."""
    with bench.field() as field:
        places = {events: field.place(INDELIBLE) for events in bench.scale.growth}
        for events, place in places.items():
            begun = time.monotonic()
            fill(place["url"], events, _LENGTH)
            bench.say(f"{events:,} events filled in {time.monotonic() - begun:.0f} s")
        bench.server.settle()
        appends = bench.compare(
            "one event per append to streams that are there",
            "appends/s",
            {
                str(events): field.contender_of(
                    INDELIBLE,
                    field.beside(INDELIBLE, place),
                    "append_to",
                    mode=f"{events:,} events",
                    streams=some_streams(place["url"], min(_STREAMS, events // _LENGTH)),
                    version=_LENGTH - 1,
                )
                for events, place in places.items()
            },
        )
        loads = bench.compare(
            f"loads of streams of {_LENGTH} events that are there",
            "events/s",
            {
                str(events): field.contender_of(
                    INDELIBLE,
                    field.beside(INDELIBLE, place),
                    "load",
                    mode=f"{events:,} events",
                    streams=some_streams(place["url"], min(_STREAMS, events // _LENGTH)),
                )
                for events, place in places.items()
            },
        )
        _rows(bench, appends, "an append")
        _rows(bench, loads, "a load")
        _memory(bench, field, places)


def _rows(bench: Bench, compared: Comparison, work: str) -> None:
    smallest = min(bench.scale.growth)
    base = compared.results[str(smallest)]
    for events in bench.scale.growth:
        if events == smallest:
            continue
        found = compared.results[str(events)]
        cost = base.ratio_to(found)
        is_bounded = work == "an append" and events == max(bench.scale.growth)
        bench.rows.append(
            Row(
                work=f"{work} among {events:,} events ({compared.unit})",
                indelible=amount(found.rate),
                limit=f"among {smallest:,}: {amount(base.rate)}",
                ratio=cost,
                budget=budgets.APPEND_GROWTH if is_bounded else None,
                figure=cost,
            )
        )


def _memory(bench: Bench, field: Field, places: Mapping[int, Mapping[str, Any]]) -> None:
    events = max(places)
    driver = field.beside(INDELIBLE, places[events])
    found = driver.sample("scan", timeout=1200, how="typed")
    bench.say(f"a typed scan of {found.operations:,} events: {amount(found.rate)} events/s")
    try:
        peak = driver.ask("peak_memory")["mebibytes"]
    except DriverFailed as error:  # not on Linux
        bench.note_absent("peak memory", error)
        return
    bench.rows.append(
        Row(
            work=f"peak memory of a process that scans {found.operations:,} events (MiB)",
            indelible=amount(peak),
            budget=budgets.SCAN_MEMORY,
            figure=peak,
        )
    )
