"""A mix of seven loads of a stream of ten events and three appends, with 16 threads."""

from __future__ import annotations

from benchmarks.competitors import eventsourcing
from benchmarks.competitors.indelible import INDELIBLE
from benchmarks.competitors.message_db import MESSAGE_DB
from benchmarks.competitors.umadb import UMADB
from benchmarks.harness.bench import Bench

_THREADS = 16


def run(bench: Bench) -> None:
    """Measure the mix on a store with 500 streams to load."""
    with bench.field() as field:
        peers = {
            "indelible": INDELIBLE,
            "eventsourcing": eventsourcing.DEFAULT,
            "message_db": MESSAGE_DB,
            "umadb": UMADB,
        }
        compared = bench.compare(
            f"{_THREADS} threads, 70 % loads of 10 events, 30 % appends",
            "operations/s",
            {
                key: field.contender(
                    peer,
                    "mixed",
                    options=None if key in {"indelible", "umadb"} else {"connections": _THREADS},
                    fill={"events": 5_000, "length": 10},
                    writers=_THREADS,
                )
                for key, peer in peers.items()
            },
            rounds=3,
        )
    bench.rows_of(compared, "indelible")
