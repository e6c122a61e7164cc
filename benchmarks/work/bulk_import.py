"""Very many events at once: `import_events`, beside COPY into a bare table."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench, Field
from benchmarks.harness.rounds import Contender, Sample
from benchmarks.peers import Peer, copy, eventsourcing
from benchmarks.peers.indelible import INDELIBLE, fill
from indelible import EventStore

_IS_THERE = hasattr(EventStore, "import_events")


def run(bench: Bench) -> None:
    """Import into a new store each time; `eventsourcing` in appends of 1,000 events."""
    events = bench.scale.imported
    with bench.field() as field:
        place = field.place(INDELIBLE)
        fill(place["url"], events, 10)
        compared = bench.compare(
            f"bulk import of {events:,} events",
            "events/s",
            {
                "indelible": _anew(bench, INDELIBLE, events) if _IS_THERE else None,
                "eventsourcing": field.contender(
                    eventsourcing.DEFAULT,
                    "append",
                    mode="1,000 events per append",
                    how="threads",
                    writers=1,
                    batch=1000,
                ),
                "copy": copy.copy_in(place["url"], events),
            },
            rounds=3,
            chart="Bulk import" if _IS_THERE else "",
        )
    bench.rows_of(compared, "indelible", budgets={"copy": budgets.IMPORT_OVER_COPY})


def _anew(bench: Bench, peer: Peer, events: int) -> Contender:
    def measure(_seconds: float) -> Sample:
        with ExitStack() as stack:
            field = Field(bench, stack)
            driver = field.beside(peer, field.place(peer))
            return driver.sample("import_lines", timeout=600, events=events)

    return Contender(peer.name, "import_events, NDJSON", peer.kind, measure)
