"""Load a stream into typed objects, as for a decision: one client, streams of one length."""

from __future__ import annotations

from benchmarks.competitors import eventsourcing, select
from benchmarks.competitors.emmett import EMMETT
from benchmarks.competitors.indelible import INDELIBLE
from benchmarks.competitors.message_db import MESSAGE_DB
from benchmarks.competitors.umadb import UMADB
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench


def run(bench: Bench) -> None:
    """Measure each length. Emmett returns plain JavaScript objects."""
    for length in bench.scale.lengths:
        fill = {"events": max(1_000, 2 * length), "length": length}
        with bench.field() as field:
            place = field.place(INDELIBLE)
            ours = field.beside(INDELIBLE, place)
            streams = field.fill(ours, place, fill)
            peers = {
                "eventsourcing": eventsourcing.DEFAULT,
                "message_db": MESSAGE_DB,
                "emmett": EMMETT,
                "umadb": UMADB,
            }
            compared = bench.compare(
                f"loads of streams of {length:,} events",
                "events/s",
                {
                    "indelible": field.contender_of(INDELIBLE, ours, "load", streams=streams),
                    **{
                        key: field.contender(peer, "load", fill=fill) for key, peer in peers.items()
                    },
                    "select": select.rows_of(place["url"], streams, length),
                },
                rounds=3,
                seconds=1,
                chart="Loads of streams of 100 events" if length == 100 else "",
            )
        on_postgresql = ("eventsourcing", "message_db", "emmett")
        bench.rows_of(
            compared, "indelible", budgets=dict.fromkeys(on_postgresql, budgets.LOADS_OVER_PEERS)
        )
