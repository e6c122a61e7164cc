"""Bytes on disk per event of 180 bytes, tables and all indexes."""

from __future__ import annotations

import psycopg

from benchmarks.events import DATA_BYTES
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench
from benchmarks.harness.table import Row, amount
from benchmarks.peers import Peer, eventsourcing
from benchmarks.peers.indelible import INDELIBLE
from benchmarks.peers.message_db import MESSAGE_DB

_LENGTH = 10
_SIZE = """
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint
FROM pg_class
WHERE relkind = 'r'
    AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')
"""


def run(bench: Bench) -> None:
    """Append to all streams in turn, an event at a time; an empty store counts as nothing."""
    peers = {
        "indelible": INDELIBLE,
        "eventsourcing": eventsourcing.DEFAULT,
        "message_db": MESSAGE_DB,
    }
    found = {key: _bytes(bench, peer) for key, peer in peers.items()}
    ours = found["indelible"]
    for key, peer in peers.items():
        other = found[key]
        if key == "indelible" or other is None or ours is None:
            continue
        bench.rows.append(
            Row(
                work=f"bytes on disk per event of {DATA_BYTES} bytes, streams of {_LENGTH}",
                indelible=amount(ours),
                peer=f"{peer.label}: {amount(other)}",
                ratio=ours / other,
                budget=budgets.BYTES_OVER_EVENTSOURCING if key == "eventsourcing" else None,
                figure=ours / other,
            )
        )


def _bytes(bench: Bench, peer: Peer) -> float | None:
    with bench.field() as field:
        place = field.place_or_none(peer)
        if place is None:
            return None
        driver = field.beside(peer, place)
        driver.ask("open")
        before = _size(place["url"])
        events = driver.ask(
            "write_one_by_one", timeout=600, streams=bench.scale.streams_stored, length=_LENGTH
        )["events"]
        found: float = (_size(place["url"]) - before) / events
    bench.say(f"bytes on disk per event: {peer.label}: {amount(found)}")
    return found


def _size(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(_SIZE).fetchone()
        assert row is not None
        return int(row[0])
