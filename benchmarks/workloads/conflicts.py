"""Hot streams: writers read the last version of a stream, append, and retry on a conflict."""

from __future__ import annotations

from benchmarks.competitors import eventsourcing, new_stream
from benchmarks.competitors.indelible import INDELIBLE
from benchmarks.competitors.message_db import MESSAGE_DB
from benchmarks.competitors.umadb import UMADB
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench

_THREADS = 16
_STREAMS = 50
_SKEW = 1.2
"""Zipf's exponent: a quarter of all appends go to the hottest stream."""


def run(bench: Bench) -> None:
    """Measure the latency of accepted appends, including all retries."""
    streams = [str(new_stream().id) for _ in range(_STREAMS)]
    with bench.field() as field:
        peers = {
            "indelible": INDELIBLE,
            "eventsourcing": eventsourcing.DEFAULT,
            "message_db": MESSAGE_DB,
            "umadb": UMADB,
        }
        compared = bench.compare(
            f"{_THREADS} threads on {_STREAMS} hot streams (Zipf {_SKEW}), accepted appends",
            "appends/s",
            {
                key: field.contender(
                    peer,
                    "contend",
                    options=None if key in {"indelible", "umadb"} else {"connections": _THREADS},
                    writers=_THREADS,
                    streams=streams,
                    skew=_SKEW,
                )
                for key, peer in peers.items()
            },
            rounds=3,
        )
    bench.rows_of(
        compared,
        "indelible",
        budgets=dict.fromkeys(("message_db", "umadb"), budgets.CONFLICTS_OVER_PEERS),
    )
