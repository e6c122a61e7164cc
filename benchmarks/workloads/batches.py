"""One client, many events per append."""

from __future__ import annotations

from benchmarks.competitors import eventsourcing
from benchmarks.competitors.emmett import EMMETT
from benchmarks.competitors.indelible import INDELIBLE
from benchmarks.competitors.message_db import MESSAGE_DB
from benchmarks.competitors.umadb import UMADB
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench


def run(bench: Bench) -> None:
    """Measure each size. Message DB needs one call per event, in a transaction and a pipeline."""
    for size in bench.scale.batches:
        with bench.field() as field:
            peers = {
                "indelible": INDELIBLE,
                "eventsourcing": eventsourcing.DEFAULT,
                "functions": eventsourcing.FUNCTIONS,
                "message_db": MESSAGE_DB,
                "emmett": EMMETT,
                "umadb": UMADB,
            }
            compared = bench.compare(
                f"{size} events per append",
                "events/s",
                {
                    key: field.contender(peer, "append", how="threads", writers=1, batch=size)
                    for key, peer in peers.items()
                },
                rounds=3,
                chart="100 events per append, one client" if size == 100 else "",
            )
        bench.rows_of(
            compared,
            "indelible",
            budgets={"eventsourcing": budgets.BATCH_OVER_EVENTSOURCING} if size == 100 else {},
        )
