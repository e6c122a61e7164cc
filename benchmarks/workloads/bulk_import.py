"""Bulk import: `import_events`, compared with COPY of the same events into a bare table."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from benchmarks.competitors import Peer, copy, eventsourcing
from benchmarks.competitors.indelible import INDELIBLE
from benchmarks.events import log_lines
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench, Field
from benchmarks.harness.rounds import Contender, Sample
from indelible import EventStore

_LOGS: dict[str, dict[str, Any]] = {
    "": {"at_a_time": 1_000, "ids": "ordered"},
    ", random ids": {"at_a_time": 1_000, "ids": "random"},
    ", random ids, nearly every one of another stream": {"at_a_time": 20_000, "ids": "random"},
}
"""The first is a typical log; the others show what slows an import down."""


def run(bench: Bench) -> None:
    """Import into a new store each time; `eventsourcing` appends 1,000 events per call."""
    events = bench.scale.imported
    for told, log in _LOGS.items():
        with bench.field() as field:
            place = field.place(INDELIBLE)
            lines = log_lines(events, **log)
            with EventStore.connect(place["url"]) as store:
                store.import_events(lines)
            compared = bench.compare(
                f"bulk import of {events:,} events{told}",
                "events/s",
                {
                    "indelible": _anew(bench, INDELIBLE, {"events": events, **log}),
                    "eventsourcing": field.contender(
                        eventsourcing.DEFAULT,
                        "append",
                        mode="1,000 events per append",
                        how="threads",
                        writers=1,
                        batch=1000,
                    )
                    if not told
                    else None,
                    "copy": copy.copy_in(place["url"], lines),
                },
                rounds=3,
                chart="" if told else "Bulk import",
            )
        bench.rows_of(
            compared, "indelible", budgets={} if told else {"copy": budgets.IMPORT_OVER_COPY}
        )


def _anew(bench: Bench, peer: Peer, log: dict[str, Any]) -> Contender:
    def measure(_seconds: float) -> Sample:
        with ExitStack() as stack:
            field = Field(bench, stack)
            driver = field.beside(peer, field.place(peer))
            return driver.sample("import_lines", timeout=600, **log)

    return Contender(peer.name, "import_events, NDJSON", peer.kind, measure)
